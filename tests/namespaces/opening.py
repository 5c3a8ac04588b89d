"""How most tests on namespaces begin: two hosts on one cable, a receiver on the first of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio_mcast
from trio_mcast import MulticastReceiver

from .network import Card

T = TypeVar("T")


class Hear:
    """Runs a function with a receiver on a host, and returns or raises what it does::

    def test_hello(there: Card, udp_port: int, hear: Hear) -> None:
        talker = there.talker(GROUP4, udp_port)

        async def main(receiver: MulticastReceiver) -> None:
            talker.send(b"hello")
            assert (await receiver.receive()).data == b"hello"

        hear(main, GROUP4)
    """

    def __init__(self, card: Card, port: int) -> None:
        self._card = card
        self._port = port

    def __call__(
        self, main: Callable[[MulticastReceiver], Awaitable[T]], *groups: Any, **options: Any
    ) -> T:
        """Groups and options are those of `open_receiver`; the port is that of `udp_port`."""

        async def open_and_run() -> T:
            opening = trio_mcast.open_receiver(*groups, port=self._port, **options)
            async with opening as receiver:
                return await main(receiver)

        return self._card.host.run(open_and_run)
