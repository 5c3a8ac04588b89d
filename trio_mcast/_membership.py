"""One group on one interface, and the sockets that hear it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from socket import socket

import trio

from ._errors import SocketSetupError
from ._os.reading import Origin, Reader
from ._os.sockets import (
    current_platform,
    open_planned_socket,
    read_drop_count,
    read_receive_buffer,
)
from ._plan.datagram import Datagram
from ._plan.filters import SourceFilter
from ._plan.interfaces import Interface
from ._plan.packet_info import PacketInfoName
from ._plan.plan import SocketPlan, plan_receiver
from ._status import MembershipState, MembershipStatistics, MembershipStatus


@dataclass(frozen=True)
class ReceiverSettings:
    """What holds for every membership of a receiver."""

    port: int
    loopback: bool
    packet_info: frozenset[PacketInfoName]
    receive_buffer: int | None


@dataclass
class Figures:
    """What was received and lost so far. What the system does not tell is None."""

    datagrams_received: int = 0
    bytes_received: int = 0
    dropped_by_kernel: int | None = 0
    dropped_by_overflow: int = 0

    def add(self, other: Figures) -> None:
        self.datagrams_received += other.datagrams_received
        self.bytes_received += other.bytes_received
        self.dropped_by_overflow += other.dropped_by_overflow
        if self.dropped_by_kernel is None or other.dropped_by_kernel is None:
            self.dropped_by_kernel = None
        else:
            self.dropped_by_kernel += other.dropped_by_kernel


class Membership:
    """One group on one interface, in one receiver.

    It owns its socket: opens it from a plan, closes it, and keeps its figures when it is gone. The
    kernel's refusal becomes its state, never an exception that ends something else.
    """

    def __init__(
        self,
        group: IPv4Address | IPv6Address,
        interface: Interface,
        filter_: SourceFilter,
        settings: ReceiverSettings,
    ) -> None:
        self.group = group
        self.interface = interface
        self.filter = filter_
        self.state: MembershipState = "waiting"
        self.error: OSError | None = None
        self.socket: socket | None = None
        self._settings = settings
        self._figures = Figures()  # the kernel's drops: those at past sockets
        self._plan = self._make_plan()

    def _make_plan(self) -> SocketPlan:
        settings = self._settings
        return plan_receiver(
            current_platform(),
            self.group,
            settings.port,
            self.interface,
            sources=self.filter.sources,
            loopback=settings.loopback,
            packet_info=settings.packet_info,
            receive_buffer=settings.receive_buffer,
        )

    def open(self) -> None:
        """Open the socket and join.

        Raises:
          SocketSetupError: the kernel refused; that is then the membership's state too
        """
        try:
            self.socket = open_planned_socket(self._plan)
        except SocketSetupError as error:
            self.state, self.error = "failed", error
            raise
        self._origin = Origin.of(self._plan, self._settings.port)
        self.state, self.error = "joined", None

    def read(self, reader: Reader, own_addresses: frozenset[str]) -> list[Datagram]:
        """Read what has arrived; what this host sent is dropped if it is not wanted.

        Raises:
          OSError: the socket is broken; it is then closed, and the error is the membership's state
        """
        assert self.socket is not None
        try:
            datagrams, size = reader.read(self.socket, self._origin)
        except OSError as error:
            self.close()
            self.state, self.error = "failed", error
            raise
        if self._plan.drops_own:
            datagrams = [d for d in datagrams if d.source[0] not in own_addresses]
            size = sum(len(d.data) for d in datagrams)
        self._figures.datagrams_received += len(datagrams)
        self._figures.bytes_received += size
        return datagrams

    def close(self) -> None:
        """Leave, by closing the socket. Who waits for it is woken by a ClosedResourceError."""
        if self.socket is None:
            return
        self._figures = self.figures()
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()
        self.socket = None
        self.state = "waiting"

    def count_lost(self) -> None:
        """A datagram that was read here was given up before the program took it."""
        self._figures.dropped_by_overflow += 1

    def figures(self) -> Figures:
        figures = replace(self._figures)
        if self.socket is not None:
            figures.add(Figures(dropped_by_kernel=read_drop_count(self.socket)))
        return figures

    def status(self) -> MembershipStatus:
        return MembershipStatus(
            self.group,
            self._settings.port,
            self.interface,
            self.filter.sources,
            self.filter.mode,
            self.state,
            self.error,
        )

    def statistics(self) -> MembershipStatistics:
        return MembershipStatistics(
            group=self.group,
            interface=self.interface,
            receive_buffer=None if self.socket is None else read_receive_buffer(self.socket),
            **vars(self.figures()),
        )
