"""Senders: what a program holds to send to groups."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import trio

from ._errors import AddressError, InterfaceNotFoundError, SendError
from ._final import NoPublicConstructor
from ._listener import GroupLike, InterfacesLike, SourceLike
from ._nursery import open_service_nursery
from ._os.scan import default_interface, list_interfaces
from ._os.sockets import current_platform, drain_error_queue, open_planned_socket
from ._plan.addresses import Group, check_sendable, parse_group, parse_port
from ._plan.datagram import SocketAddress
from ._plan.interfaces import (
    ByName,
    Interface,
    InterfaceSelector,
    parse_selector,
    parse_selectors,
    require,
    select,
)
from ._plan.plan import SocketPlan, plan_destination, plan_sender
from ._plan.remedies import add_remedy
from ._status import SenderStatistics

Payload: TypeAlias = bytes | bytearray | memoryview

# Other tasks run at least once in so many sends.
_SENDS_PER_TURN: Final = 64
_KNOWN_ADDRESSES_LIMIT: Final = 256

# With IP_RECVERR, an ICMP message about an earlier datagram (one that was sent to a host with
# `send_to`) is reported by whatever is sent next, and has nothing to do with that.
_ERRORS_OF_EARLIER_DATAGRAMS: Final = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EPROTO}


class Answer(NamedTuple):
    """A unicast datagram that somebody sent back to a sender's own address and port.

    Attributes:
      data: the payload
      source: who answered, as the `socket` module writes addresses
      interface: the interface that the question went out by
    """

    data: bytes
    source: SocketAddress
    interface: Interface


class _Egress:
    """One interface to send by: its socket, and the group's address there."""

    def __init__(self, plan: SocketPlan, group: Group, port: int, interface: Interface) -> None:
        self.plan = plan
        self.group = group
        self.interface = interface
        assert plan.destination is not None
        self.address = plan.destination
        self.socket = open_planned_socket(plan)

    async def send(self, data: Payload, address: SocketAddress, busy: trio.Lock) -> None:
        try:
            self.socket.sendto(data, address)
        except BlockingIOError:
            await self._send_when_writable(data, address, busy)
        except OSError as error:
            self._send_again(data, address, error)

    async def _send_when_writable(
        self, data: Payload, address: SocketAddress, busy: trio.Lock
    ) -> None:
        async with busy:  # trio lets only one task wait for a socket
            while True:
                drain_error_queue(self.socket)
                await trio.lowlevel.wait_writable(self.socket)
                try:
                    self.socket.sendto(data, address)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._send_again(data, address, error)
                return

    def _send_again(self, data: Payload, address: SocketAddress, error: OSError) -> None:
        """Try once more if the error was another datagram's.

        Raises:
          SendError: it was this one's
        """
        if error.errno in _ERRORS_OF_EARLIER_DATAGRAMS:
            drain_error_queue(self.socket)
            try:
                self.socket.sendto(data, address)
            except OSError as second:
                error = second
            else:
                return
        step = f"send {memoryview(data).nbytes} bytes to {address[0]} by {self.interface.name}"
        refusal = SendError(step, error, interface=self.interface, group=self.group.address)
        raise add_remedy(refusal) from error

    def find_local_address(self) -> SocketAddress:
        """Where datagrams come from, as receivers see it.

        An unbound socket knows its port only. Which address the kernel will choose is seen by
        connecting another one like it, which sends nothing.
        """
        own = self.socket.getsockname()
        if own[1] == 0:
            self.socket.bind(own)  # to a port of the system's choice, as the first send would
            own = self.socket.getsockname()
        if not ip_address(own[0]).is_unspecified:
            return own  # type: ignore[no-any-return]
        with open_planned_socket(replace(self.plan, bind=None)) as probe:
            try:
                probe.connect(self.address)
            except OSError:
                return own  # type: ignore[no-any-return]
            chosen = probe.getsockname()
        return (chosen[0], own[1], *chosen[2:])


class MulticastSender(trio.abc.SendChannel[Payload], metaclass=NoPublicConstructor, final=True):
    """A channel into a group, out of one interface or several.

    `open_sender` makes one. Several tasks may send at once. Datagrams are not queued here: when a
    call returns, the kernel has them.

    Hazard: `send` is a checkpoint for cancellation every time, but lets other tasks run only once
    in 64 datagrams unless the kernel makes it wait.
    """

    def __init__(self, egresses: list[_Egress], group: Group, port: int) -> None:
        self._egresses = egresses
        self._group = group
        self._port = port
        self._busy = trio.Lock()
        self._until_others_run = _SENDS_PER_TURN
        self._datagrams_sent = 0
        self._bytes_sent = 0
        self._send_errors = 0
        self._addresses: dict[tuple[Any, ...], _Destination] = {}

    async def send(self, value: Payload) -> None:
        """Send a datagram to the group, out of every interface of this sender.

        When the kernel's buffer is full, this waits. Nothing tells whether anyone hears it: that is
        in the nature of multicast.

        Args:
          value: the payload, up to 65,507 bytes over IPv4 and 65,527 over IPv6. What is larger than
            the interface's MTU travels in fragments, which is best avoided

        Raises:
          SendError: the kernel refused. With several interfaces: every one of them did; if only
            some refused, `statistics` counts them
          trio.ClosedResourceError: the sender was closed
        """
        await self._checkpoint()
        await self._send_copies(value, [(egress, egress.address) for egress in self._egresses])

    async def send_batch(self, datagrams: Iterable[Payload]) -> None:
        """Send datagrams one after the other, with less effort for each than `send` makes.

        Raises:
          SendError: the kernel refused one; those after it were not sent
          trio.ClosedResourceError: the sender was closed
        """
        await self._checkpoint()
        for count, datagram in enumerate(datagrams, 1):
            await self._send_copies(
                datagram, [(egress, egress.address) for egress in self._egresses]
            )
            if count % _SENDS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()

    async def send_to(self, data: Payload, address: SocketAddress) -> None:
        """Send a datagram elsewhere: to another group or port, or back to whom one came from.

        Args:
          data: the payload
          address: ``(host, port)``, as text and number, or the `Datagram.source` of a datagram. A
            group is sent to out of every interface; a host is sent to once, as the routes say.
            Names are not looked up

        Raises:
          AddressError: the address is none, or not of this sender's IP version
          SendError, trio.ClosedResourceError: as `send`
        """
        destination = self._find_destination(address)
        await self._checkpoint()
        await self._send_copies(data, destination)

    async def _checkpoint(self) -> None:
        if not self._egresses:
            raise trio.ClosedResourceError("this sender was closed")
        self._until_others_run -= 1
        if self._until_others_run:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._until_others_run = _SENDS_PER_TURN
            await trio.lowlevel.checkpoint()

    async def _send_copies(self, data: Payload, destination: _Destination) -> None:
        refusal = None
        sent = 0
        for egress, address in destination:
            try:
                await egress.send(data, address, self._busy)
            except SendError as error:
                self._send_errors += 1
                refusal = refusal or error
            else:
                sent += 1
        if not sent and refusal is not None:
            raise refusal
        self._datagrams_sent += sent
        self._bytes_sent += sent * memoryview(data).nbytes

    def _find_destination(self, address: SocketAddress) -> _Destination:
        key = tuple(address)
        destination = self._addresses.get(key)
        if destination is None:
            if len(self._addresses) >= _KNOWN_ADDRESSES_LIMIT:
                self._addresses.clear()
            destination = self._addresses[key] = self._parse_destination(key)
        return destination

    def _parse_destination(self, address: tuple[Any, ...]) -> _Destination:
        if not 2 <= len(address) <= 4:
            raise AddressError(f"{address!r} is not an address: give (host, port)")
        try:
            host = ip_address(address[0])
        except ValueError:
            raise AddressError(
                f"{address[0]!r} is not an IP address; names are not looked up"
            ) from None
        port = parse_port(address[1])
        if host.version != self._group.version:
            raise AddressError(f"{host} is not of IP version {self._group.version}, as this sender")
        if host.is_multicast:
            group = parse_group(host)
            check_sendable(group)
            return [(e, plan_destination(group.address, port, e.interface)) for e in self._egresses]
        scope = address[3] if len(address) == 4 else 0
        egress = next((e for e in self._egresses if e.interface.index == scope), self._egresses[0])
        if host.version == 4:
            return [(egress, (str(host), port))]
        scope = scope or (egress.interface.index if host.is_link_local else 0)
        return [(egress, (str(host).partition("%")[0], port, 0, scope))]

    @property
    def local_address(self) -> SocketAddress:
        """The address and port that datagrams come from: the `Datagram.source` that receivers see.

        With several interfaces, that of the first.
        """
        self._check_open()
        return self._egresses[0].find_local_address()

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that datagrams leave by."""
        return tuple(egress.interface for egress in self._egresses)

    @asynccontextmanager
    async def open_answers(
        self, *, max_buffered: int = 256
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """Receive what is sent back to this sender's own address and port, for a block::

            async with sender.open_answers() as answers:
                await sender.send(b"who is there?")
                with trio.move_on_after(2):
                    async for answer in answers:
                        ...

        Many protocols of discovery work like this (SSDP, WS-Discovery, mDNS' one-shot queries):
        the question goes to a group, the answers come by unicast.

        Args:
          max_buffered: how many answers to hold ready; then the kernel's buffers fill
        """
        self._check_open()
        send_channel, receive_channel = trio.open_memory_channel[Answer](max_buffered)
        async with open_service_nursery() as nursery, receive_channel:
            for egress in self._egresses:
                nursery.start_soon(_hear_answers, egress, send_channel.clone())
            send_channel.close()
            yield receive_channel

    def statistics(self) -> SenderStatistics:
        """What was sent since the sender was opened."""
        self._check_open()
        return SenderStatistics(self._datagrams_sent, self._bytes_sent, self._send_errors)

    async def aclose(self) -> None:
        """Close. Leaving the ``async with`` block of `open_sender` does the same."""
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._addresses.clear()
        while self._egresses:
            egress = self._egresses.pop()
            trio.lowlevel.notify_closing(egress.socket)
            egress.socket.close()

    def _check_open(self) -> None:
        if not self._egresses:
            raise trio.ClosedResourceError("this sender was closed")


_Destination: TypeAlias = list[tuple[_Egress, SocketAddress]]


@trio.lowlevel.enable_ki_protection
async def _hear_answers(egress: _Egress, send_channel: trio.MemorySendChannel[Answer]) -> None:
    with send_channel:
        while True:
            try:
                await trio.lowlevel.wait_readable(egress.socket)
                data, source = egress.socket.recvfrom(1 << 16)
                await send_channel.send(Answer(data, source, egress.interface))
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return
            except OSError:  # an ICMP error about something sent, or nothing there
                drain_error_queue(egress.socket)


@asynccontextmanager
async def open_sender(
    group: GroupLike,
    *,
    port: int,
    interface: InterfaceSelector | None = None,
    interfaces: InterfacesLike | Literal["all"] = None,
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
        link, 0 on this host
      loopback: whether receivers on this host get a copy (on Windows the receiver decides)
      traffic_class: the byte with DSCP and ECN (RFC 2474), 0 to 255
      source: the address to send from, one of this host's. None: the interface's
      source_port: the port to send from; 0 lets the system choose
      send_buffer: bytes of buffer to ask the kernel for

    Yields:
      The `MulticastSender`. An exception raised in the block leaves it as it is.

    Raises:
      AddressError: `group` is no group that may be sent to, or `source` is not of its IP version
      ValueError, TypeError: another argument is wrong
      InterfaceNotFoundError: an interface named does not exist, or there is no default route
      SocketSetupError: the kernel refused, or the interface has no IPv4 address to send from
    """
    parsed = parse_group(group)
    port = parse_port(port)
    egresses: list[_Egress] = []
    sender = MulticastSender._create(egresses, parsed, port)
    plans = [
        (
            plan_sender(
                current_platform(),
                parsed.address,
                port,
                chosen,
                hop_limit=hop_limit,
                loopback=loopback,
                traffic_class=traffic_class,
                source=source,
                source_port=source_port,
                send_buffer=send_buffer,
            ),
            chosen,
        )
        for chosen in _choose_interfaces(parsed, interface, interfaces)
    ]
    try:
        for plan, chosen in plans:
            egresses.append(_Egress(plan, parsed, port, chosen))
        yield sender
    finally:
        sender._close()


def _choose_interfaces(
    group: Group,
    interface: InterfaceSelector | None,
    interfaces: InterfacesLike | Literal["all"],
) -> tuple[Interface, ...]:
    if interface is not None and interfaces is not None:
        raise ValueError(f"give interface={interface!r} or interfaces={interfaces!r}, not both")
    listing = list_interfaces()
    if group.zone is not None:
        listing = require(ByName(group.zone), listing)
        if interface is None and interfaces is None:
            return listing
    if interface is not None:
        found = require(parse_selector(interface), listing)
        if len(found) > 1:
            names = ", ".join(i.name for i in found)
            raise ValueError(f"interface={interface!r} means several ({names}): use interfaces=")
        return found
    if interfaces is not None:
        selectors = None if interfaces == "all" else parse_selectors(interfaces)
        for selector in selectors or ():
            require(selector, listing)
        if found := select(selectors, group.version, listing):
            return found
        raise InterfaceNotFoundError(f"no interface is up and fit for {group}")
    default = default_interface(group.version)
    if default is None:
        raise InterfaceNotFoundError(
            f"no default route for IPv{group.version} tells which interface to send by: "
            "give interface="
        )
    return (default,)
