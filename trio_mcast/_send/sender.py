"""Senders: what a program holds to send to groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import groupby, islice
from typing import Final, cast

import trio
from trio.lowlevel import checkpoint_if_cancelled  # looked up once: it is called for each send

from .._addresses.parsing import (
    GroupLike,
    SourceLike,
    parse_group,
    parse_source,
)
from .._base.datagram import SocketAddress
from .._base.errors import SendError
from .._base.final import NoPublicConstructor
from .._base.interface import Interface
from .._base.status import SenderStatistics
from .._interfaces.selection import InterfaceSelector, InterfacesLike, Selection, zone_of
from .._machine.current import current_machine
from .._machine.nursery import open_service_nursery
from .._machine.sending import Payload
from .._plan.sender_plan import SenderPlanner
from .answers import Answer
from .destinations import Destination, Destinations, Way
from .outgoing_interfaces import OutgoingInterfaces

# Other tasks run at least once in so many sends.
_SENDS_PER_TURN: Final = 64

# And once in so many datagrams of a batch, which may take as few as four system calls.
_BATCH_PER_TURN: Final = 256


class MulticastSender(trio.abc.SendChannel[Payload], metaclass=NoPublicConstructor, final=True):
    """A channel into a group, out of one interface or several.

    `open_sender` makes one. Several tasks may send at once. Datagrams are not queued here: when a
    call returns, the kernel has them.

    When an interface goes away and comes back, it is sent by again. In between `send` raises a
    `SendError` that says so.

    Hazard: `send` is a checkpoint for cancellation every time, but lets other tasks run only once
    in 64 datagrams unless the kernel makes it wait. This bends trio's rule on purpose: a full
    checkpoint costs more than sending does.
    """

    def __init__(self, outgoing: OutgoingInterfaces) -> None:
        self._outgoing = outgoing
        self._until_others_run = _SENDS_PER_TURN
        self._datagrams_sent = 0  # directly; the rest is counted where it leaves
        self._bytes_sent = 0
        self._destinations = Destinations(outgoing)

    async def send(self, value: Payload) -> None:
        """Send a datagram to the group, out of every interface of this sender.

        When the kernel's buffer is full, this waits. Nothing tells whether anyone hears it: that is
        in the nature of multicast.

        Args:
          value: the payload, up to 65,507 bytes over IPv4 and 65,527 over IPv6. What is larger than
            the interface's MTU travels in fragments, which is best avoided

        Raises:
          SendError: the kernel refused, or the interface is not there now. With several interfaces:
            none was left; if only some refused, `statistics` counts them
          trio.ClosedResourceError: the sender was closed
        """
        self._until_others_run -= 1
        if self._until_others_run:
            await checkpoint_if_cancelled()
        else:
            self._until_others_run = _SENDS_PER_TURN
            await trio.lowlevel.checkpoint()
        direct = self._outgoing.direct
        if direct is not None:
            sendto, address = direct
            try:
                self._bytes_sent += sendto(value, address)
                self._datagrams_sent += 1
                return
            except (OSError, BufferError):  # whatever it is, the way for all cases knows
                pass
        await self._send_copies(value, self._group_destination())

    async def send_batch(self, datagrams: Iterable[Payload]) -> None:
        """Send datagrams one after the other, with far less effort for each than `send` makes.

        Runs of equally long ones go to the kernel together where it can cut them apart (Linux'
        UDP_SEGMENT), which is worth a factor of ten and more. Each is whole on the wire.

        Raises:
          SendError: the kernel refused one; those after it were not sent, nor perhaps up to 63 of
            equal length before it
          trio.ClosedResourceError: the sender was closed
        """
        rest = iter(datagrams)
        await trio.lowlevel.checkpoint()
        while chunk := list(islice(rest, _BATCH_PER_TURN)):
            for run in _find_runs(chunk):
                await self._send_run_copies(run)
            if len(chunk) == _BATCH_PER_TURN:
                await trio.lowlevel.checkpoint()
        self._outgoing.require_open()

    async def send_to(self, data: Payload, address: SocketAddress) -> None:
        """Send a datagram elsewhere: to another group or port, or back to whom one came from.

        Args:
          data: the payload
          address: ``(host, port)``, as text and number, or the `Datagram.source` of a datagram. A
            group is sent to out of every interface of this sender. A host is sent to once: as
            the routes say, or by an interface of this sender in the same network. A zone decides:
            ``"fe80::1%eth1"``, ``"ff02::1%eth1"`` and the fourth part of an IPv6 address name the
            only interface. Names are not looked up

        Raises:
          AddressError: the address is none, not of this sender's IP version, or in a zone by which
            this sender does not send
          InterfaceNotFoundError: there is no interface as its zone says
          SendError, trio.ClosedResourceError: as `send`. A SendError also if nobody can have the
            address (port 0, ``"0.0.0.0"``, ``"::"``), though a datagram may come from there
        """
        self._outgoing.require_open()
        destination = self._destinations.find(address)
        await trio.lowlevel.checkpoint()
        await self._send_copies(data, destination)

    async def _send_copies(self, data: Payload, destination: Destination) -> None:
        data = _in_one_piece(data)

        async def send(way: Way) -> None:
            outgoing, address, keeps_to_interface = way
            await outgoing.send(data, address, keeps_to_interface=keeps_to_interface)

        await self._try_all(destination, send)

    async def _send_run_copies(self, run: list[bytes]) -> None:
        destination = self._group_destination()
        several = len(destination) > 1

        async def send(way: Way) -> None:
            await way.outgoing.send_run(run, way.address, to_the_end=several)

        await self._try_all(destination, send)

    def _group_destination(self) -> Destination:
        return [Way(outgoing, outgoing.address) for outgoing in self._outgoing.all]

    async def _try_all(
        self, destination: Destination, send: Callable[[Way], Awaitable[None]]
    ) -> None:
        """Send by each interface. It is an error if none is left that can."""
        self._outgoing.require_open()
        refusals: list[SendError] = []
        for way in destination:
            try:
                await send(way)
            except SendError as error:
                refusals.append(error)
        if len(refusals) == len(destination):
            raise refusals[0] if refusals else self._outgoing.refuse_sending()

    @property
    def local_address(self) -> SocketAddress:
        """The address and port that datagrams come from: the `Datagram.source` that receivers see.

        With several interfaces, that of the first that is there.

        Raises:
          SendError: there is no interface now
          trio.ClosedResourceError: the sender was closed
        """
        self._outgoing.require_open()
        every = sorted(self._outgoing.all, key=lambda one: one.socket is None)
        if not every:
            raise self._outgoing.refuse_sending()
        return every[0].find_local_address()

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that datagrams leave by."""
        self._outgoing.require_open()
        return tuple(one.interface for one in self._outgoing.all)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def open_answers(
        self, *, max_buffered: int = 256
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """Receive what is sent back to this sender's own address and port, while the block lasts::

            async with sender.open_answers() as answers:
                await sender.send(b"who is there?")
                with trio.move_on_after(2):
                    async for answer in answers:
                        ...

        Many protocols of discovery work like this (SSDP, WS-Discovery, mDNS' one-shot queries):
        the question goes to a group, the answers come by unicast.

        Several may be open at once: each gets every answer from its opening on. What came before,
        while none was open, is discarded. When the sender is closed, the channel ends.

        Args:
          max_buffered: how many answers to hold ready. Then nothing is read until there is room,
            for others neither, and the kernel's buffers fill

        Raises:
          trio.ClosedResourceError: the sender was closed
        """
        self._outgoing.require_open()
        send_channel, receive_channel = trio.open_memory_channel[Answer](max_buffered)
        async with receive_channel:
            with self._outgoing.answers.give_to(send_channel, self._outgoing.all):
                yield receive_channel

    def statistics(self) -> SenderStatistics:
        """What was sent since the sender was opened; after closing, the last figures."""
        figures = self._outgoing.figures()
        return SenderStatistics(
            datagrams_sent=self._datagrams_sent + figures.datagrams_sent,
            bytes_sent=self._bytes_sent + figures.bytes_sent,
            send_errors=figures.send_errors,
        )

    async def aclose(self) -> None:
        """Close. Leaving the ``async with`` block of `open_sender` does the same."""
        self._outgoing.close()
        await trio.lowlevel.checkpoint()


def _find_runs(datagrams: list[Payload]) -> list[list[bytes]]:
    """Datagrams of one length after the other, in lists."""
    if set(map(type, datagrams)) == {bytes}:
        whole = cast("list[bytes]", datagrams)
    else:
        whole = [_as_bytes(datagram) for datagram in datagrams]
    if len(set(map(len, whole))) == 1:  # as a stream has it: then there is no need to look at each
        return [whole]
    return [list(run) for _length, run in groupby(whole, len)]


def _in_one_piece(data: Payload) -> Payload:
    """A view may pick bytes here and there; the kernel takes them side by side."""
    is_scattered = isinstance(data, memoryview) and not data.c_contiguous
    return bytes(data) if is_scattered else data


def _as_bytes(datagram: Payload) -> bytes:
    return datagram if isinstance(datagram, bytes) else bytes(memoryview(datagram))


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_sender(
    group: GroupLike,
    *,
    port: int,
    interface: InterfaceSelector | None = None,
    interfaces: InterfacesLike = None,
    hop_limit: int = 1,
    loopback: bool = True,
    traffic_class: int | None = None,
    source: SourceLike | None = None,
    source_port: int = 0,
    send_buffer: int | None = None,
) -> AsyncIterator[MulticastSender]:
    """Send to a group for as long as the block lasts::

        async with trio_mcast.open_sender("239.1.2.3", port=5000) as sender:
            await sender.send(b"hello")

    Hazard: as with a nursery, an async generator must not yield inside the block.

    The interface is chosen for the socket, not for the group: `MulticastSender.send_to` reaches any
    other group by the same interface, without its being named in advance.

    Args:
      group: the group to send to, as text or an `ipaddress` object. A zone in the text
        (``"ff02::fb%eth0"``) names the interface
      port: the UDP port to send to, 1 to 65535
      interface: the interface to send by: its name, index, one of its addresses, a network it has
        an address in, or an `Interface`. None: the one a default route uses, as `default_interface`
        tells
      interfaces: several instead: a copy of each datagram leaves by each. ``"all"``: every one that
        is up, can multicast, is not loopback and has what the IP version needs
      hop_limit: how many routers may pass it on, plus one (IPv4: TTL); 0 to 255. 1 stays on the
        link, 0 on this host. Hazard: Linux keeps 0 on this host only if somebody here has joined
        the group on that interface, and otherwise lets it out on the link (seen on Linux 6.18).
        Groups of interface-local scope (``ff11::``...) never leave the host
      loopback: whether receivers on this host get a copy (on Windows the receiver decides)
      traffic_class: the byte with DSCP and ECN (RFC 2474), 0 to 255
      source: the address to send from, one of this host's. None: the interface's. A zone
        (``"fe80::1%eth0"``) names the interface
      source_port: the port to send from; 0 lets the system choose
      send_buffer: bytes of buffer to ask the kernel for

    Yields:
      The `MulticastSender`. An exception raised in the block leaves it as it is.

    Raises:
      AddressError: `group` is no group that may be sent to, or `source` is not of its IP version
      ValueError, TypeError: another argument is wrong
      InterfaceNotFoundError: an interface named does not exist, or there is no default route
      SocketSetupError: the kernel refused, or the interface has no IPv4 address to send from, or no
        IPv6
    """
    machine = current_machine().here()
    parsed = parse_group(group)
    planner = SenderPlanner.parse(
        machine.platform,
        parsed.address,
        port,
        hop_limit=hop_limit,
        loopback=loopback,
        traffic_class=traffic_class,
        source=source,
        source_port=source_port,
        send_buffer=send_buffer,
    )
    zones = [parsed.zone, None if source is None else zone_of(parse_source(source))]
    selection, is_single = _parse_interfaces(zones, interface, interfaces)
    outgoing = OutgoingInterfaces(machine, planner, selection, is_single=is_single)
    try:
        outgoing.open()
        async with open_service_nursery() as nursery:
            outgoing.attach(nursery)
            try:
                yield MulticastSender._create(outgoing)
            finally:
                outgoing.close()
    finally:
        outgoing.close()


def _parse_interfaces(
    zones: list[str | None],
    interface: InterfaceSelector | None,
    interfaces: InterfacesLike,
) -> tuple[Selection | None, bool]:
    """What was given for the two arguments: a selection, or the default route, and whether one.

    Args:
      zones: those of the group and of the source, which choose as well
    """
    if interface is not None and interfaces is not None:
        raise ValueError(f"give interface={interface!r} or interfaces={interfaces!r}, not both")
    is_single = interfaces is None
    if interface is not None:
        selection = Selection.parse_one(interface)
    else:
        selection = Selection.parse(interfaces)
    for zone in zones:
        selection = selection.in_zone(zone)
    return (None if is_single and not selection.is_named else selection), is_single
