"""What comes back to a sender's own address and port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from .._base.datagram import SocketAddress
from .._base.interface import Interface
from .._machine.nursery import ServiceNursery
from .._machine.sending import SendingSocket
from .._machine.sockets import LOOK_SECONDS
from .outgoing_interface import OutgoingInterface


class Answer(NamedTuple):
    """A unicast datagram that somebody sent back to a sender's own address and port.

    Attributes:
      data: the payload
      source: who answered, as the `socket` module writes addresses
      interface: the interface that it came in by
    """

    data: bytes
    source: SocketAddress
    interface: Interface


class AnswerReaders:
    """Reads the answers, one task for each interface, and gives each to all who listen.

    The tasks begin with the first who listens, and sleep while nobody does. They never raise.
    """

    def __init__(self, find_interface: Callable[[int | None], Interface | None]) -> None:
        """Nobody listens yet.

        Args:
          find_interface: the interface that has an index
        """
        self._find_interface = find_interface
        self._listeners: list[trio.MemorySendChannel[Answer]] = []
        self._somebody_listens = trio.Event()
        self._nursery: ServiceNursery | None = None
        self._is_closed = False

    def attach(self, nursery: ServiceNursery) -> None:
        """Run the tasks in the nursery."""
        self._nursery = nursery

    @contextmanager
    def give_to(
        self, channel: trio.MemorySendChannel[Answer], interfaces: list[OutgoingInterface]
    ) -> Iterator[None]:
        """Give what comes from now on to a channel, while the block lasts.

        Args:
          interfaces: those that the sender has now
        """
        if not self._listeners:
            # What came while nobody listened belongs to questions that were asked before.
            for outgoing in interfaces:
                outgoing.discard_answers()
        self._listeners.append(channel)
        self._somebody_listens.set()
        for outgoing in interfaces:
            self.see_interface(outgoing)
        try:
            yield
        finally:
            self._stop_giving_to(channel)

    def see_interface(self, outgoing: OutgoingInterface) -> None:
        """The sender sends by this one, too."""
        if self._listeners and not outgoing.has_reader and self._nursery is not None:
            outgoing.has_reader = True
            self._nursery.start_soon(self._read, outgoing, name="trio_mcast: hear answers")

    def close(self) -> None:
        """The sender was closed: who listens comes to the end of the channel."""
        self._is_closed = True
        for channel in self._listeners[:]:
            self._stop_giving_to(channel)

    def _stop_giving_to(self, channel: trio.MemorySendChannel[Answer]) -> None:
        channel.close()
        if channel not in self._listeners:  # the program closed its end before
            return
        self._listeners.remove(channel)
        if not self._listeners:
            self._somebody_listens = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def _read(self, outgoing: OutgoingInterface) -> None:
        """The task of one interface, through all sockets that it has in time."""
        while not outgoing.is_closed and not self._is_closed:
            await self._somebody_listens.wait()
            changed, sock = outgoing.changed, outgoing.socket
            if sock is None:
                await changed.wait()
                continue
            try:
                await _wait_readable(sock)
                if not self._listeners:  # it stays in the kernel, and is discarded from there
                    continue
                data, source, index = sock.receive()
            except trio.ClosedResourceError:
                continue
            except OSError:  # an ICMP error about something sent, or nothing there
                sock.take_errors()
                continue
            # Where several sockets share a port, the answers to all of them come to one.
            interface = self._find_interface(index) or outgoing.interface
            await self._give(Answer(data, source, interface))

    async def _give(self, answer: Answer) -> None:
        for channel in self._listeners[:]:
            try:
                await channel.send(answer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._stop_giving_to(channel)


async def _wait_readable(sock: SendingSocket) -> None:
    try:
        await sock.wait_readable()
    except OSError:
        await trio.sleep(LOOK_SECONDS)
