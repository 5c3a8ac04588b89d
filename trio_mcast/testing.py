"""Receivers and senders without a network, for the tests of programs that use this library.

The receivers are real ones, with their buffers, overflow, filters, statistics and memberships; only
the sockets, the interfaces and the kernel beneath are made up. Nothing is sent, no privilege is
needed, no port is taken, and nothing waits::

    import trio_mcast
    from trio_mcast.testing import open_fake_receiver

    async def test_my_program():
        async with open_fake_receiver("239.1.2.3", port=5000) as (receiver, network):
            await network.send(b"hello", source="192.0.2.77")
            assert await my_program.read_one(receiver) == "hello"

A program that opens its receivers and senders itself is tested by putting those of a
`MemoryNetwork` in the place of `trio_mcast.open_receiver` and `trio_mcast.open_sender`.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Final, NamedTuple

import trio

from ._delivery import Overflow
from ._errors import AddressError, InterfaceNotFoundError, SendError, SocketSetupError
from ._listener import GroupLike, InterfacesLike, SourceLike
from ._membership import Ear, Membership
from ._os.reading import DATAGRAMS_PER_READ, Origin, Reader
from ._os.sockets import current_platform
from ._plan.addresses import Group, check_sendable, parse_group, parse_port, parse_source
from ._plan.datagram import Datagram, SocketAddress
from ._plan.follow import Event, LinkSeen, compare_listings
from ._plan.interfaces import Interface
from ._plan.options import SocketOption
from ._plan.packet_info import PacketInfoName
from ._plan.plan import DEFAULT_RECEIVE_BUFFER, SocketPlan, plan_sender
from ._plan.selection import InterfaceSelector, Selection
from ._receiver import (
    DEFAULT_MAX_BUFFERED,
    MulticastReceiver,
    parse_settings,
    parse_subscriptions,
    serve,
)
from ._sender import Answer, Payload, parse_interfaces
from ._status import SenderStatistics

_SENDER_PORT: Final = 40000


# --- Values ------------------------------------------------------------------------------------


def make_interface(
    name: str = "eth0",
    *,
    index: int = 2,
    addresses: Iterable[str] | None = None,
    friendly_name: str | None = None,
    is_up: bool = True,
    is_loopback: bool = False,
    supports_multicast: bool = True,
    mtu: int = 1500,
    has_ipv6: bool | None = None,
) -> Interface:
    """An `Interface` as one is found on most hosts; say only what matters for your test.

    Args:
      index: must differ from those of other interfaces on the same host
      addresses: with their networks, ``"192.0.2.2/24"``; None: one for each IP version, of the
        networks for documentation, with the index as their last part
      has_ipv6: None: if there is an IPv6 address
    """
    if addresses is None:
        addresses = (f"192.0.2.{index % 256}/24", f"2001:db8::{index:x}/64", f"fe80::{index:x}/64")
    return Interface(
        name=name,
        index=index,
        friendly_name=name if friendly_name is None else friendly_name,
        addresses=tuple(ip_interface(address) for address in addresses),
        is_up=is_up,
        is_loopback=is_loopback,
        supports_multicast=supports_multicast,
        mtu=mtu,
        has_ipv6=has_ipv6,
    )


def make_datagram(
    data: bytes = b"",
    *,
    group: GroupLike = "233.252.0.1",
    port: int = 5000,
    source: SourceLike | SocketAddress | None = None,
    interface: Interface | None = None,
    hop_limit: int | None = None,
    timestamp: int | None = None,
    traffic_class: int | None = None,
    truncated: bool = False,
) -> Datagram:
    """A `Datagram` as a receiver gives it; say only what matters for your test.

    Args:
      source: an address as the `socket` module writes it, or the host alone; None: some host
      interface: None: what `make_interface` makes
    """
    parsed = parse_group(group).address
    interface = make_interface() if interface is None else interface
    return Datagram(
        data,
        _complete_source(source, parsed, interface),
        parsed,
        parse_port(port),
        interface,
        hop_limit,
        timestamp,
        traffic_class,
        truncated,
    )


def _complete_source(
    source: SourceLike | SocketAddress | None,
    group: IPv4Address | IPv6Address,
    interface: Interface,
) -> SocketAddress:
    if isinstance(source, tuple):
        return source
    if source is None:
        source = "198.51.100.1" if group.version == 4 else "2001:db8:1::1"
    return _socket_address(ip_address(source), _SENDER_PORT, interface)


def _socket_address(
    host: IPv4Address | IPv6Address, port: int, interface: Interface
) -> SocketAddress:
    if host.version == 4:
        return (str(host), port)
    return (str(host), port, 0, interface.index if host.is_link_local else 0)


# --- The network -------------------------------------------------------------------------------


class MemoryNetwork:
    """A host with made-up interfaces, and a network on which nothing is lost::

        network = MemoryNetwork()
        async with network.open_receiver("239.1.2.3", port=5000) as receiver:
            async with network.open_sender("239.1.2.3", port=5000) as sender:
                await sender.send(b"hello")
                print(await receiver.receive(), sender.sent)

    `open_receiver` and `open_sender` take what their namesakes in `trio_mcast` take, so that a
    test can put them in their place::

        monkeypatch.setattr(trio_mcast, "open_receiver", network.open_receiver)

    What a test does to the network (`send`, `deliver`, `fail`, `recover`, `set_interfaces`) has
    reached every receiver when the call returns: `MulticastReceiver.receive_nowait`, `memberships`
    and `statistics` then show it.
    """

    def __init__(self, *interfaces: Interface) -> None:
        """Without interfaces it has one, as `make_interface` makes it."""
        self._interfaces = interfaces or (make_interface(),)
        self._receivers: list[MulticastReceiver] = []
        self._senders: list[FakeSender] = []
        self._feeds: list[_MemoryFeed] = []
        self._faults: list[_Fault] = []
        self._next_port = _SENDER_PORT

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces there are now."""
        return self._interfaces

    @asynccontextmanager
    async def open_receiver(
        self,
        *groups: GroupLike,
        port: int,
        sources: SourceLike | Iterable[SourceLike] = (),
        interfaces: InterfacesLike = None,
        loopback: bool = True,
        packet_info: PacketInfoName | Collection[PacketInfoName] = (),
        overflow: Overflow = "wait",
        max_buffered: int = DEFAULT_MAX_BUFFERED,
        receive_buffer: int | None = None,
        follow: bool = True,
    ) -> AsyncIterator[MulticastReceiver]:
        """As `trio_mcast.open_receiver`, on this network."""
        settings = parse_settings(
            port, loopback, packet_info, overflow, max_buffered, receive_buffer, follow
        )
        subscriptions = parse_subscriptions(groups, sources, interfaces)
        async with serve(_MemoryHost(self), settings, subscriptions) as receiver:
            self._receivers.append(receiver)
            try:
                yield receiver
            finally:
                self._receivers.remove(receiver)

    @asynccontextmanager
    async def open_sender(
        self,
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
    ) -> AsyncIterator[FakeSender]:
        """As `trio_mcast.open_sender`, on this network, whose default route is its first interface.

        Yields:
          A `FakeSender`, which can do what a `MulticastSender` can and remembers what it sent.
        """
        parsed = parse_group(group)
        chosen = self._choose(parsed, interface, interfaces)
        for each in chosen:
            plan_sender(  # for what it refuses
                current_platform(),
                parsed.address,
                port,
                each,
                hop_limit=hop_limit,
                loopback=loopback,
                traffic_class=traffic_class,
                source=source,
                source_port=source_port,
                send_buffer=send_buffer,
            )
        if not source_port:
            self._next_port += 1
        sender = FakeSender(
            self,
            parsed.address,
            port,
            chosen,
            None if source is None else parse_source(source),
            source_port or self._next_port,
            _PacketInfo(hop_limit, None, traffic_class or 0),
            loopback,
        )
        self._senders.append(sender)
        try:
            yield sender
        finally:
            self._senders.remove(sender)
            sender._close()

    def _choose(
        self,
        group: Group,
        interface: InterfaceSelector | None,
        interfaces: InterfacesLike,
    ) -> tuple[Interface, ...]:
        selection, is_single = parse_interfaces(group, interface, interfaces)
        found = (selection or Selection()).require(self._interfaces, group.version)
        if not found:
            raise InterfaceNotFoundError("no interface is up and fit for it")
        return found[:1] if is_single else found

    # What arrives

    async def send(
        self,
        *payloads: bytes,
        group: GroupLike | None = None,
        port: int | None = None,
        source: SourceLike | SocketAddress | None = None,
        interface: InterfaceSelector | None = None,
        hop_limit: int = 1,
        timestamp: int = 0,
        traffic_class: int = 0,
    ) -> int:
        """Let datagrams arrive, at every receiver that has joined and wants to hear the source.

        Args:
          payloads: one for each datagram
          group: None: the group that was joined first
          port: None: whatever port a receiver listens on
          source: who sends: an address as the `socket` module writes it, or the host alone; None:
            some host elsewhere
          interface: where they come in; None: for each receiver, where it joined the group first
          hop_limit, timestamp, traffic_class: for receivers that ask for `packet_info`

        Returns:
          How many datagrams reached receivers, all receivers together. 0: nobody hears the group.
        """
        info = _PacketInfo(hop_limit, timestamp, traffic_class)
        reached = sum(
            self._put(payload, receiver, group, port, source, interface, info)
            for receiver in self._receivers
            for payload in payloads
        )
        await _let_receivers_run()
        return reached

    async def deliver(self, datagrams: Iterable[Datagram]) -> int:
        """Let datagrams arrive as they are, at every receiver of their group, interface and port.

        Returns: as `send`
        """
        reached = 0
        for datagram in datagrams:
            for receiver in self._receivers:
                for membership in receiver._roster.memberships.values():
                    is_meant = (membership.group, membership.interface.index, _port(receiver)) == (
                        datagram.group,
                        datagram.interface.index,
                        datagram.port,
                    )
                    if is_meant and _hears(membership, datagram.source):
                        _put_into(membership, datagram)
                        reached += 1
        await _let_receivers_run()
        return reached

    def _put(
        self,
        payload: bytes,
        receiver: MulticastReceiver,
        group: GroupLike | None,
        port: int | None,
        source: SourceLike | SocketAddress | None,
        interface: InterfaceSelector | None,
        info: _PacketInfo,
        *,
        loopback: bool = True,
    ) -> bool:
        settings = receiver._roster._settings
        if port not in (None, settings.port):
            return False
        by = None if interface is None else Selection.parse(interface).find(self._interfaces)
        memberships = [
            membership
            for membership in receiver._roster.memberships.values()
            if (group is None or membership.group == parse_group(group).address)
            and (by is None or membership.interface in by)
            and membership.state == "joined"
        ]
        if not memberships:
            return False
        membership = memberships[0]
        datagram = Datagram(
            bytes(payload),
            _complete_source(source, membership.group, membership.interface),
            membership.group,
            settings.port,
            membership.interface,
            info.hop_limit if "hop_limit" in settings.packet_info else None,
            info.timestamp if "timestamp" in settings.packet_info else None,
            info.traffic_class if "traffic_class" in settings.packet_info else None,
        )
        is_own = self._is_own(datagram.source)
        if is_own and not (loopback and settings.loopback):
            return False
        if not _hears(membership, datagram.source):
            return False
        _put_into(membership, datagram)
        return True

    def _is_own(self, source: SocketAddress) -> bool:
        return any(str(a.ip) == source[0] for i in self._interfaces for a in i.addresses)

    # What goes wrong

    async def fail(
        self,
        error: OSError | None = None,
        *,
        group: GroupLike | None = None,
        interface: InterfaceSelector | None = None,
    ) -> None:
        """Break the memberships of a group, on an interface, and refuse to join there again.

        Their state is then "failed". Without ``follow``, a receiver of which every membership has
        failed raises `trio.BrokenResourceError`.

        Args:
          error: what the kernel says; None: ENODEV
          group: None: every group
          interface: None: every interface
        """
        fault = _Fault(
            OSError(errno.ENODEV, os.strerror(errno.ENODEV)) if error is None else error,
            None if group is None else parse_group(group).address,
            None if interface is None else Selection.parse(interface).require(self._interfaces),
        )
        self._faults.append(fault)
        for receiver in self._receivers:
            for membership in receiver._roster.memberships.values():
                if fault.strikes(membership.group, membership.interface):
                    for ear in membership.ears:
                        assert isinstance(ear, _MemoryEar)
                        ear.break_down(fault.error)
        await _let_receivers_run()

    async def recover(self) -> None:
        """Undo every `fail`. Receivers that follow join again."""
        self._faults.clear()
        self._announce([LinkSeen(i.index, has_carrier=i.is_up) for i in self._interfaces])
        await _let_receivers_run()

    async def set_interfaces(self, *interfaces: Interface) -> None:
        """Have these interfaces from now on, and others no longer. Receivers that follow do so.

        `dataclasses.replace` makes an interface that differs in something.
        """
        before, self._interfaces = self._interfaces, interfaces
        self._announce(compare_listings(before, interfaces))
        await _let_receivers_run()

    def _announce(self, events: Iterable[Event]) -> None:
        for feed in self._feeds:
            feed.announce(events)


class _PacketInfo(NamedTuple):
    hop_limit: int
    timestamp: int | None
    traffic_class: int


def _port(receiver: MulticastReceiver) -> int:
    return receiver._roster._settings.port


def _hears(membership: Membership, source: SocketAddress) -> bool:
    is_named = ip_address(source[0].partition("%")[0]) in membership.filter.sources
    return membership.state == "joined" and is_named == (membership.filter.mode == "include")


def _put_into(membership: Membership, datagram: Datagram) -> None:
    ear = next(ear for ear in membership.ears if not ear.is_retired)
    assert isinstance(ear, _MemoryEar)
    ear.put(datagram)


async def _let_receivers_run() -> None:
    """The tasks that were woken are run before the second of these returns."""
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True)
class _Fault:
    error: OSError
    group: IPv4Address | IPv6Address | None
    interfaces: tuple[Interface, ...] | None

    def strikes(self, group: IPv4Address | IPv6Address, interface: Interface) -> bool:
        return self.group in (None, group) and (
            self.interfaces is None or interface.index in [i.index for i in self.interfaces]
        )


class _MemoryHost:
    """What a roster takes for the machine that it is on."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    def list_interfaces(self) -> tuple[Interface, ...]:
        return self._network.interfaces

    def list_groups(self) -> None:
        """It is not known, as on macOS."""

    def open_feed(self) -> _MemoryFeed:
        return _MemoryFeed(self._network)

    def open_ear(self, plan: SocketPlan, port: int) -> Ear:
        assert plan.group is not None
        assert plan.interface is not None
        for fault in self._network._faults:
            if fault.strikes(plan.group, plan.interface):
                raise SocketSetupError(
                    f"join {plan.group} on {plan.interface}",
                    fault.error,
                    interface=plan.interface,
                    group=plan.group,
                )
        return _MemoryEar(plan, port)

    def open_socket_set(self) -> None:
        """There is nothing that the system could wait for."""


class _MemoryFeed:
    """Tells a roster what happens to interfaces."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._network._feeds.append(self)
        self._events: list[Event] = []
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = False
        self.listing = network.interfaces
        self.first_events: list[Event] = list(compare_listings((), self.listing))

    def announce(self, events: Iterable[Event]) -> None:
        self._events += events
        self._waiting.unpark_all()

    async def wait(self) -> list[Event]:
        while not self._events:
            if self._is_closed:
                raise trio.ClosedResourceError
            await self._waiting.park()
        events, self._events = self._events, []
        self.listing = self._network.interfaces
        return events

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._network._feeds.remove(self)
            self._waiting.unpark_all()


class _MemoryEar(Ear):
    """What a membership hears by instead of a socket."""

    def __init__(self, plan: SocketPlan, port: int) -> None:
        self.plan = plan
        self.reader = self._queue = _MemoryReader(Origin.of(plan, port))
        self.is_retired = False
        self.is_closed = False
        self.over = trio.Event()
        self.before_close = None
        self._waiting = trio.lowlevel.ParkingLot()

    def fileno(self) -> int:
        return -1

    def put(self, datagram: Datagram) -> None:
        self._queue.arrived.append(datagram)
        self._waiting.unpark_all()

    def break_down(self, error: OSError) -> None:
        self._queue.fault = error
        self._waiting.unpark_all()

    async def wait_readable(self) -> None:
        while not self._queue.arrived and self._queue.fault is None:
            if self.is_closed or self.is_retired:
                raise trio.ClosedResourceError
            await self._waiting.park()

    def set_option(self, option: SocketOption) -> None:
        """The network looks at the membership's filter instead."""

    def drop_count(self) -> int:
        return 0

    def receive_buffer(self) -> int:
        return DEFAULT_RECEIVE_BUFFER

    def may_have_unread(self) -> bool:
        return bool(self._queue.arrived)

    def retire(self) -> None:
        self.is_retired = True
        self._waiting.unpark_all()

    def close(self) -> None:
        self.is_closed = True
        self._waiting.unpark_all()


class _MemoryReader(Reader):
    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self.arrived: deque[Datagram] = deque()
        self.fault: OSError | None = None

    def read(self, found: list[Datagram], _again: bool) -> int:
        count = min(len(self.arrived), DATAGRAMS_PER_READ)
        if not count and self.fault is not None:
            raise self.fault
        batch = [self.arrived.popleft() for _ in range(count)]
        self._take_in(found, batch, sum(len(datagram.data) for datagram in batch))
        return count


@asynccontextmanager
async def open_fake_receiver(
    *groups: GroupLike,
    port: int = 5000,
    sources: SourceLike | Iterable[SourceLike] = (),
    interfaces: InterfacesLike = None,
    loopback: bool = True,
    packet_info: PacketInfoName | Collection[PacketInfoName] = (),
    overflow: Overflow = "wait",
    max_buffered: int = DEFAULT_MAX_BUFFERED,
    receive_buffer: int | None = None,
    follow: bool = True,
    network: MemoryNetwork | None = None,
) -> AsyncIterator[tuple[MulticastReceiver, MemoryNetwork]]:
    """A receiver that needs no network, and the network that it believes to be on::

        async with open_fake_receiver("239.1.2.3") as (receiver, network):
            await network.send(b"first", b"second", source="192.0.2.77")
            assert [d.data for d in await receiver.receive_batch()] == [b"first", b"second"]

            await network.fail()
            assert receiver.memberships()[0].state == "failed"

    Args: as `trio_mcast.open_receiver`, and
      network: what it is on; None: one of its own, with one interface
    """
    network = MemoryNetwork() if network is None else network
    async with network.open_receiver(
        *groups,
        port=port,
        sources=sources,
        interfaces=interfaces,
        loopback=loopback,
        packet_info=packet_info,
        overflow=overflow,
        max_buffered=max_buffered,
        receive_buffer=receive_buffer,
        follow=follow,
    ) as receiver:
        yield receiver, network


# --- Sending -----------------------------------------------------------------------------------


class SentDatagram(NamedTuple):
    """A datagram that a program sent.

    Attributes:
      data: the payload
      address: where to, as the `socket` module writes it: of the group, unless `send_to` was used
      interface: the interface it left by
    """

    data: bytes
    address: SocketAddress
    interface: Interface


class FakeSender(trio.abc.SendChannel[Payload]):
    """Does what a `MulticastSender` does, and remembers it. `open_fake_sender` makes one.

    Attributes:
      sent: what was sent, in order
      error: if a test sets it, every attempt to send fails with a `SendError` made from it
    """

    def __init__(
        self,
        network: MemoryNetwork,
        group: IPv4Address | IPv6Address,
        port: int,
        interfaces: tuple[Interface, ...],
        source: IPv4Address | IPv6Address | None,
        source_port: int,
        info: _PacketInfo,
        loopback: bool,
    ) -> None:
        self.sent: list[SentDatagram] = []
        self.error: OSError | None = None
        self._network = network
        self._group = group
        self._port = port
        self._interfaces = interfaces
        self._source = source
        self._source_port = source_port
        self._info = info
        self._loopback = loopback
        self._is_closed = False
        self._bytes_sent = 0
        self._send_errors = 0
        self._answers: list[trio.MemorySendChannel[Answer]] = []

    async def send(self, value: Payload) -> None:
        """As `MulticastSender.send`."""
        await self._checkpoint()
        self._send(value, self._group, self._port)
        await _let_receivers_run()

    async def send_batch(self, datagrams: Iterable[Payload]) -> None:
        """As `MulticastSender.send_batch`."""
        await self._checkpoint()
        for datagram in datagrams:
            self._send(datagram, self._group, self._port)
        await _let_receivers_run()

    async def send_to(self, data: Payload, address: SocketAddress) -> None:
        """As `MulticastSender.send_to`. A host is reached if it is another `FakeSender`."""
        try:
            host = ip_address(address[0])
        except ValueError:
            raise AddressError(f"{address[0]!r} is not an IP address") from None
        port = parse_port(address[1])
        if host.version != self._group.version:
            raise AddressError(f"{host} is not of IP version {self._group.version}, as this sender")
        await self._checkpoint()
        if host.is_multicast:
            group = parse_group(host)
            check_sendable(group)
            self._send(data, group.address, port)
        else:
            self._answer(bytes(data), tuple(address))
        await _let_receivers_run()

    @property
    def local_address(self) -> SocketAddress:
        """As `MulticastSender.local_address`."""
        self._check_open()
        return self._address_on(self._interfaces[0])

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """As `MulticastSender.interfaces`."""
        self._check_open()
        return self._interfaces

    @asynccontextmanager
    async def open_answers(
        self, *, max_buffered: int = 256
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """As `MulticastSender.open_answers`. `put_answer` lets one come."""
        self._check_open()
        send_channel, receive_channel = trio.open_memory_channel[Answer](max_buffered)
        self._answers.append(send_channel)
        try:
            async with send_channel, receive_channel:
                yield receive_channel
        finally:
            self._answers.remove(send_channel)

    def put_answer(self, data: bytes, source: SourceLike | SocketAddress | None = None) -> None:
        """Let an answer come, for who has opened `open_answers`.

        Raises:
          trio.WouldBlock: there is no room for it
        """
        self._check_open()
        interface = self._interfaces[0]
        answer = Answer(data, _complete_source(source, self._group, interface), interface)
        for channel in self._answers:
            channel.send_nowait(answer)

    def statistics(self) -> SenderStatistics:
        """As `MulticastSender.statistics`."""
        self._check_open()
        return SenderStatistics(len(self.sent), self._bytes_sent, self._send_errors)

    async def aclose(self) -> None:
        """As `MulticastSender.aclose`. What was sent can still be looked at."""
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._is_closed = True

    async def _checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this sender was closed")

    def _send(self, data: Payload, group: IPv4Address | IPv6Address, port: int) -> None:
        for interface in self._interfaces:
            self._record(bytes(data), _socket_address(group, port, interface), interface)
            for receiver in self._network._receivers:
                self._network._put(
                    bytes(data),
                    receiver,
                    group,
                    port,
                    self._address_on(interface),
                    interface.index,
                    self._info,
                    loopback=self._loopback,
                )

    def _answer(self, data: bytes, address: SocketAddress) -> None:
        self._record(data, address, self._interfaces[0])
        for sender in self._network._senders:
            if (sender._address_on(sender._interfaces[0]))[:2] == address[:2]:
                sender.put_answer(data, self._address_on(self._interfaces[0]))

    def _record(self, data: bytes, address: SocketAddress, interface: Interface) -> None:
        if self.error is not None:
            self._send_errors += 1
            step = f"send to {address[0]} port {address[1]} by {interface.name}"
            raise SendError(step, self.error, interface=interface, group=self._group)
        self.sent.append(SentDatagram(data, address, interface))
        self._bytes_sent += len(data)

    def _address_on(self, interface: Interface) -> SocketAddress:
        host = self._source or next(
            ip_address(int(a.ip)) if a.version == 4 else IPv6Address(int(a.ip))
            for a in interface.addresses
            if a.version == self._group.version
        )
        return _socket_address(host, self._source_port, interface)


@asynccontextmanager
async def open_fake_sender(
    group: GroupLike,
    *,
    port: int = 5000,
    interface: InterfaceSelector | None = None,
    interfaces: InterfacesLike = None,
    hop_limit: int = 1,
    loopback: bool = True,
    traffic_class: int | None = None,
    source: SourceLike | None = None,
    source_port: int = 0,
    send_buffer: int | None = None,
    network: MemoryNetwork | None = None,
) -> AsyncIterator[FakeSender]:
    """A sender that remembers what a program sends by it::

        async with open_fake_sender("239.1.2.3") as sender:
            await my_program.announce(sender)
            assert [sent.data for sent in sender.sent] == [b"I am here"]

    Args: as `trio_mcast.open_sender`, and
      network: what it is on, where fake receivers may hear it; None: one of its own
    """
    network = MemoryNetwork() if network is None else network
    async with network.open_sender(
        group,
        port=port,
        interface=interface,
        interfaces=interfaces,
        hop_limit=hop_limit,
        loopback=loopback,
        traffic_class=traffic_class,
        source=source,
        source_port=source_port,
        send_buffer=send_buffer,
    ) as sender:
        yield sender
