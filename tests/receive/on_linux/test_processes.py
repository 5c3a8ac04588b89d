"""Receivers of a process that has children, which have copies of its memory and its sockets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from namespaces.network import Card
from namespaces.opening import Hear
from namespaces.receiving import BOTH, SOURCE_SPECIFIC

from trio_mcast import MulticastReceiver


@contextmanager
def forked_child() -> Iterator[None]:
    """A copy of this process that only waits until the block ends."""
    child = os.fork()
    if child == 0:
        try:
            signal.pause()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def shared_memory() -> set[str]:
    """The parts of this process's memory that its children would write into, too."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[0] for line in maps if line.split()[1] == "rw-s"}


@pytest.mark.parametrize("group", BOTH)
def test_what_is_read_into_is_not_shared_with_children(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    before = shared_memory()
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        for _ in range(3):  # a batch is read otherwise than a single one
            for number in range(3):
                talker.send(bytes(number))
            await receiver.receive_batch()
        assert shared_memory() <= before

    hear(main, group)


CASES = [*((group, None) for group in BOTH), *((group, "a source") for group in SOURCE_SPECIFIC)]


@pytest.mark.parametrize(("group", "source"), CASES)
def test_a_child_that_lives_on_does_not_keep_a_group_joined(
    here: Card, there: Card, hear: Hear, group: str, source: str | None
) -> None:
    sender = there.ipv4 if "." in group else there.ipv6

    with ExitStack() as children:

        async def main(_receiver: MulticastReceiver) -> None:
            children.enter_context(forked_child())

        hear(main, group, sources=() if source is None else sender)
        assert not here.host.has_joined(group)
