"""A machine that is made up: it has interfaces, sockets and announcements, but no descriptor."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

import trio

from .._base.datagram import SocketAddress
from .._base.errors import SocketSetupError
from .._base.interface import Interface, IPVersion
from .._interfaces.following import Event, LinkSeen, compare_listings
from .._interfaces.selection import Selection
from .._machine.machine import Changes, Machine, UdpErrors
from .._machine.receiving import Origin, ReceivingSocket, ReceivingSockets
from .._machine.sending import Payload, SendingSocket
from .._machine.sockets import kernel_error
from .._plan.linux import LINUX
from .._plan.socket_plan import SocketPlan
from .receiving import MemoryReceiver, MemoryReceivingSocket, PacketInfo
from .values import FIRST_PORT, write_address

# RFC 768 and RFC 8200: what the length fields of UDP and IPv4 leave for the payload.
LARGEST_PAYLOAD: Final = {4: 65_507, 6: 65_527}


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


@dataclass
class Journal:
    """What was sent by some sockets, and what they answer instead if a test says so."""

    sent: list[SentDatagram] = field(default_factory=list)
    error: OSError | None = None


@dataclass(frozen=True)
class Fault:
    """Something that breaks memberships and refuses new ones."""

    error: OSError
    group: IPv4Address | IPv6Address | None
    interfaces: tuple[Interface, ...] | None

    def strikes(self, plan: SocketPlan) -> bool:
        assert plan.interface is not None
        return self.group in (None, plan.group) and (
            self.interfaces is None or plan.interface.index in [i.index for i in self.interfaces]
        )


class MemoryMachine(Machine):
    """One host, and a network on which nothing is lost.

    Attributes:
      interfaces: those there are now, the one of the default route first
      receivers: what each receiver has open
      faults: what is broken
    """

    def __init__(self, interfaces: tuple[Interface, ...]) -> None:
        self.platform = LINUX  # so that tests mean the same on every system
        require_distinct(interfaces)
        self.interfaces: tuple[Interface, ...] = interfaces
        self.receivers: list[MemoryReceiver] = []
        self.faults: list[Fault] = []
        self.journal: Journal = Journal()
        self._sending: list[MemorySendingSocket] = []
        self._changes: list[MemoryChanges] = []
        self._next_port = FIRST_PORT

    # What the library asks for

    def list_interfaces(self) -> tuple[Interface, ...]:
        return self.interfaces

    def default_interface(self, version: IPVersion) -> Interface | None:
        return next(iter(Selection().find(self.interfaces, version)), None)

    def list_groups(self) -> frozenset[tuple[int, bytes]]:
        return frozenset(
            (sock.origin.interface.index, sock.origin.packed_group)
            for receiver in self.receivers
            for sock in receiver.sockets
            if not (sock.is_retired or sock.is_deaf)
        )

    def read_udp_errors(self) -> UdpErrors:
        return UdpErrors(0, 0)  # nothing is lost here

    def open_changes(self) -> MemoryChanges:
        changes = MemoryChanges(self)
        self._changes.append(changes)
        return changes

    def open_receiving_sockets(self) -> ReceivingSockets:
        receiver = MemoryReceiver()
        self.receivers.append(receiver)
        return ReceivingSockets(partial(self._open_receiving_socket, receiver))

    def _open_receiving_socket(
        self, receiver: MemoryReceiver, plan: SocketPlan, port: int
    ) -> ReceivingSocket:
        for fault in self.faults:
            if fault.strikes(plan):
                step = f"join {plan.group} on {plan.interface}"
                raise SocketSetupError(
                    step, fault.error, interface=plan.interface, group=plan.group
                )
        return MemoryReceivingSocket(receiver, plan, Origin.of(plan, port))

    def open_sending_socket(self, plan: SocketPlan) -> MemorySendingSocket:
        return self.open_recorded_socket(plan, self.journal)

    def open_recorded_socket(self, plan: SocketPlan, journal: Journal) -> MemorySendingSocket:
        sock = MemorySendingSocket(self, plan, journal)
        self._sending.append(sock)
        return sock

    # What happens to it

    def set_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        require_distinct(interfaces)
        before, self.interfaces = self.interfaces, interfaces
        gone = {i.index for i in before} - {i.index for i in interfaces}
        for receiver in self.receivers:
            receiver.lose(gone)
        self.announce(compare_listings(before, interfaces))

    def announce_everything(self) -> None:
        self.announce([LinkSeen(i.index, has_carrier=i.is_up) for i in self.interfaces])

    def announce(self, events: Iterable[Event]) -> None:
        for changes in self._changes:
            changes.announce(events)

    def break_down(self, fault: Fault) -> None:
        self.faults.append(fault)
        for receiver in self.receivers:
            for sock in receiver.sockets:
                if fault.strikes(sock.plan):
                    sock.break_down(fault.error)

    def find_interface(self, index: int) -> Interface | None:
        return next((i for i in self.interfaces if i.index == index), None)

    def is_own(self, host: str) -> bool:
        return any(str(address.ip) == host for i in self.interfaces for address in i.addresses)

    def choose_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def forget(self, gone: MemorySendingSocket | MemoryChanges) -> None:
        """It was closed."""
        if isinstance(gone, MemoryChanges):
            self._changes.remove(gone)
        else:
            self._sending.remove(gone)

    # What is sent here

    def send_multicast(
        self,
        data: bytes,
        group: IPv4Address | IPv6Address,
        port: int,
        source: SocketAddress,
        interface: Interface,
        info: PacketInfo,
        *,
        loopback: bool,
    ) -> None:
        """Hand it to the receivers on the interface that it leaves by."""
        for receiver in self.receivers:
            for sock in receiver.find(group, port, (interface.index,)):
                sock.arrive(data, source, info, is_from_here=True, loopback=loopback)

    def send_unicast(self, data: bytes, source: SocketAddress, address: SocketAddress) -> None:
        """Hand it to the sender that has this address, which may listen for answers."""
        for sock in self._sending:
            if sock.has_address(address):
                sock.answer(data, source)


def require_distinct(interfaces: tuple[Interface, ...]) -> None:
    """Refuse what no system has.

    Raises:
      ValueError: two have the same index or the same name
    """
    for what in ("index", "name"):
        values = [getattr(interface, what) for interface in interfaces]
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"two interfaces have the {what} {twice[0]!r}: give each its own")


class MemorySendingSocket(SendingSocket):
    """What a sender sends by, on a made-up machine."""

    __slots__ = ("_answers", "_is_closed", "_machine", "_plan", "_port", "_waiting", "journal")

    def __init__(self, machine: MemoryMachine, plan: SocketPlan, journal: Journal) -> None:
        super().__init__(self._send)
        self.journal: Journal = journal
        self._machine = machine
        self._plan = plan
        self._port: int = 0 if plan.bind is None else plan.bind[1]
        self._answers: deque[tuple[bytes, SocketAddress]] = deque()
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = False
        if plan.bind is not None:
            own = ip_address(plan.bind[0])
            if not own.is_unspecified and not machine.is_own(str(own)):
                step = f"bind to {own} port {plan.bind[1]}"
                refusal = kernel_error(errno.EADDRNOTAVAIL)
                raise SocketSetupError(step, refusal, interface=plan.interface, group=plan.group)

    def _send(self, data: Payload, address: SocketAddress) -> int:
        """Refuses what Linux would refuse, and what a test says."""
        payload = bytes(memoryview(data))
        host = ip_address(address[0])
        interface = self._find_interface()
        if self.journal.error is not None:
            raise self.journal.error
        if interface is None:
            raise kernel_error(errno.ENODEV)
        if not interface.is_up:
            raise kernel_error(errno.ENETUNREACH)
        if len(payload) > LARGEST_PAYLOAD[host.version]:
            raise kernel_error(errno.EMSGSIZE)
        source = self.find_address(address)
        self.journal.sent.append(SentDatagram(payload, tuple(address), interface))
        if host.is_multicast:
            plan = self._plan
            assert plan.hop_limit is not None
            info = PacketInfo(plan.hop_limit, 0, plan.traffic_class or 0)
            self._machine.send_multicast(
                payload, host, address[1], source, interface, info, loopback=plan.loopback
            )
        else:
            self._machine.send_unicast(payload, source, address)
        return len(payload)

    def _find_interface(self) -> Interface | None:
        assert self._plan.interface is not None
        return self._machine.find_interface(self._plan.interface.index)

    def wait_writable(self) -> Awaitable[None]:
        return trio.lowlevel.checkpoint()  # noqa: ASYNC105 # it always is

    # Answers

    def answer(self, data: bytes, source: SocketAddress) -> None:
        self._answers.append((data, source))
        self._waiting.unpark_all()

    async def wait_readable(self) -> None:
        while not self._answers:
            if self._is_closed:
                raise trio.ClosedResourceError
            await self._waiting.park()

    def receive(self) -> tuple[bytes, SocketAddress, int | None]:
        if not self._answers:
            raise kernel_error(errno.EAGAIN)
        return (*self._answers.popleft(), None)

    # Its address

    @property
    def port(self) -> int:
        return self._port

    def take_port(self, port: int) -> None:
        self._port = port

    def has_address(self, address: SocketAddress) -> bool:
        interface = self._find_interface()
        return self._port == address[1] and (
            interface is not None and address[0] in [str(a.ip) for a in interface.addresses]
        )

    def find_address(self, destination: SocketAddress) -> SocketAddress:
        self._port = self._port or self._machine.choose_port()
        plan = self._plan
        interface = self._find_interface() or plan.interface
        assert interface is not None
        if plan.bind is not None and not ip_address(plan.bind[0]).is_unspecified:
            return write_address(ip_address(plan.bind[0]), self._port, interface)
        version = ip_address(destination[0]).version
        own = [ip_address(a.ip.packed) for a in interface.addresses if a.version == version]
        if not own:
            raise kernel_error(errno.EADDRNOTAVAIL)
        return write_address(own[0], self._port, interface)

    def close(self) -> None:
        self._is_closed = True
        self._machine.forget(self)
        self._waiting.unpark_all()


class MemoryChanges(Changes):
    """Announcements of a made-up machine."""

    is_complete = True
    announces_groups = True  # none ends but with its interface or its receiver

    def __init__(self, machine: MemoryMachine) -> None:
        self._machine = machine
        self._events: list[Event] = []
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = False

    def announce(self, events: Iterable[Event]) -> None:
        self._events += events
        self._waiting.unpark_all()

    async def wait(self) -> None:
        while not self._events:
            if self._is_closed:
                raise trio.ClosedResourceError
            await self._waiting.park()

    def look(self) -> list[Event]:
        return list(compare_listings((), self._machine.interfaces))

    def read(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._is_closed = True
        self._waiting.unpark_all()
        self._machine.forget(self)
