"""Groups to test with, and shorthands for what tests do with a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

if TYPE_CHECKING:
    from trio_mcast import Datagram, MulticastReceiver

GROUP4 = "233.252.0.1"
GROUP6 = "ff15::4d43:1"
BOTH = [GROUP4, GROUP6]

EVERY_SCOPE = [GROUP4, "ff12::4d43:1", GROUP6, "ff18::4d43:1", "ff1e::4d43:1"]
"""One for each way in which Linux treats the interface of a group."""

SOURCE_SPECIFIC4 = "232.1.2.3"
SOURCE_SPECIFIC6 = "ff3e::4d43:1"
SOURCE_SPECIFIC = [SOURCE_SPECIFIC4, SOURCE_SPECIFIC6]


async def collect(receiver: MulticastReceiver, count: int) -> list[Datagram]:
    """The next so many datagrams."""
    return [await receiver.receive() for _ in range(count)]


async def everything(receiver: MulticastReceiver) -> list[Datagram]:
    """All datagrams that the kernel holds for a receiver, and those that it has already read.

    This is how tests find that nothing came that should not: they make sure first, by another
    socket or by a datagram sent afterwards, that the unwanted one is past the wire.
    """
    found: list[Datagram] = []
    while True:
        await trio.testing.wait_all_tasks_blocked(0.005)
        before = len(found)
        try:
            while True:
                found.append(receiver.receive_nowait())
        except trio.WouldBlock:
            if len(found) == before:
                return found
