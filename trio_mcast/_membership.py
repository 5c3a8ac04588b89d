"""One group on one interface, and the sockets that hear it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, TypeAlias

import trio

from ._delivery import Overflow
from ._errors import SocketSetupError
from ._os.readers import reader_for_this_thread
from ._os.reading import Origin, Reader
from ._os.sockets import (
    current_platform,
    may_have_unread,
    open_planned_socket,
    read_drop_count,
    read_receive_buffer,
    set_option,
)
from ._plan.filters import SourceFilter
from ._plan.follow import Held
from ._plan.interfaces import Interface
from ._plan.options import SocketOption
from ._plan.packet_info import PacketInfoName
from ._plan.plan import SocketPlan, plan_filter_change, plan_leave, plan_membership
from ._plan.remedies import add_remedy
from ._status import MembershipState, MembershipStatistics, MembershipStatus
from ._subscription import Subscription

Key: TypeAlias = tuple[IPv4Address | IPv6Address, int]
"""A group, and the index of an interface."""


@dataclass(frozen=True)
class ReceiverSettings:
    """What holds for every membership of a receiver."""

    port: int
    loopback: bool
    packet_info: frozenset[PacketInfoName]
    receive_buffer: int | None
    follow: bool
    max_buffered: int
    overflow: Overflow


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


class Ear(Protocol):
    """What a membership hears by. One that has retired hears nothing new, but has yet to be read.

    It is a socket, but in `trio_mcast.testing`.
    """

    plan: SocketPlan
    reader: Reader
    is_retired: bool
    is_closed: bool
    over: trio.Event
    before_close: Callable[[], None] | None

    def fileno(self) -> int: ...

    def wait_readable(self) -> Awaitable[None]:
        """Return when there is something to read. Raises ClosedResourceError if it gets closed."""

    def set_option(self, option: SocketOption) -> None: ...

    def drop_count(self) -> int | None:
        """How many datagrams the kernel had to drop here; None where it does not tell."""

    def receive_buffer(self) -> int:
        """The bytes of buffer that the kernel granted."""

    def may_have_unread(self) -> bool:
        """Whether something has arrived that was not read, as far as that can be told."""

    def retire(self) -> None:
        """Leave, but keep what has arrived. Who waits for the socket is woken to see to it."""

    def close(self) -> None: ...


class SocketEar(Ear):
    """A socket.

    Attributes:
      over: set when it has retired or was closed
      before_close: called before it is closed
    """

    def __init__(self, plan: SocketPlan, port: int) -> None:
        self.plan: SocketPlan = plan
        self.is_retired: bool = False
        self.is_closed: bool = False
        self.over: trio.Event = trio.Event()
        self.before_close: Callable[[], None] | None = None
        open_reader = reader_for_this_thread()
        self._socket = open_planned_socket(plan)
        self.reader: Reader = open_reader(self._socket, Origin.of(plan, port))

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait_readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._socket)  # noqa: ASYNC105 # a frame saved

    def set_option(self, option: SocketOption) -> None:
        set_option(self._socket, option)

    def drop_count(self) -> int | None:
        return read_drop_count(self._socket)

    def receive_buffer(self) -> int:
        return read_receive_buffer(self._socket)

    def may_have_unread(self) -> bool:
        return may_have_unread(self._socket)

    def retire(self) -> None:
        assert self.plan.group is not None
        assert self.plan.interface is not None
        for option in plan_leave(current_platform(), self.plan.group, self.plan.interface):
            try:
                set_option(self._socket, option)
            except OSError:  # the kernel has dropped the membership before: no harm
                pass
        self.is_retired = True
        self.over.set()
        trio.lowlevel.notify_closing(self._socket)

    def close(self) -> None:
        if self.before_close is not None:
            self.before_close()
        self.is_closed = True
        self.over.set()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class Membership:
    """One group on one interface, in one receiver.

    It owns its sockets: opens them from plans, closes them, and keeps their figures when they are
    gone. There is one, but for source filters that are too long for one. The kernel's refusal
    becomes the membership's state, never an exception that ends something else.
    """

    def __init__(
        self,
        subscription: Subscription,
        interface: Interface,
        settings: ReceiverSettings,
        open_ear: Callable[[SocketPlan, int], Ear],
        attend: Callable[[Membership, Ear], None],
        own_addresses: frozenset[str],
    ) -> None:
        """Plan it; nothing is opened yet.

        Args:
          open_ear: opens a planned socket, for a port
          attend: is told of every socket that is opened, to see that it is read
          own_addresses: those of the host
        """
        self.subscription: Subscription = subscription
        self.group: IPv4Address | IPv6Address = subscription.group.address
        self.interface: Interface = interface
        self.filter: SourceFilter = subscription.filter
        self.is_absent: bool = False
        self.error: OSError | None = None
        self._settings = settings
        self._open_ear = open_ear
        self._attend = attend
        self._own_addresses = own_addresses
        self._ears: list[Ear] = []
        self._figures = Figures()  # of past sockets, and what the program itself gave up
        self._plans = self._make_plans(self.filter)

    def _make_plans(self, filter_: SourceFilter) -> tuple[SocketPlan, ...]:
        settings = self._settings
        return plan_membership(
            current_platform(),
            self.group,
            settings.port,
            self.interface,
            filter_,
            loopback=settings.loopback,
            packet_info=settings.packet_info,
            receive_buffer=settings.receive_buffer,
        )

    @property
    def key(self) -> Key:
        """What no two memberships of a receiver have in common: an absent one has no index."""
        return (self.group, -id(self) if self.is_absent else self.interface.index)

    @property
    def is_joined(self) -> bool:
        return any(not ear.is_retired for ear in self._ears)

    @property
    def ears(self) -> tuple[Ear, ...]:
        return tuple(self._ears)

    def open(self) -> None:
        """Join, with new sockets. Those from before retire first.

        Raises:
          SocketSetupError: the kernel refused; that is then the membership's state too
        """
        self.retire()
        opened: list[Ear] = []
        try:
            for plan in self._plans:
                opened.append(self._open_ear(plan, self._settings.port))
        except SocketSetupError as error:
            for ear in opened:
                ear.close()
            self.error = error
            raise
        self._ears += opened
        self.see_own_addresses(self._own_addresses)
        self.error = None
        for ear in opened:
            self._attend(self, ear)

    def reopen_at(self, interface: Interface) -> None:
        """Join anew, on an interface that may have another index now. As `open`."""
        self.interface = interface
        self.is_absent = False
        self._plans = self._make_plans(self.filter)
        self.open()

    def suspend(self) -> None:
        """The interface is gone. What has arrived can still be read."""
        self.retire()
        self.is_absent = True
        self.error = None

    def see_interface(self, interface: Interface) -> None:
        """The same interface, but perhaps with another name, state or other addresses."""
        self.interface = interface
        for ear in self._ears:
            ear.reader.origin = replace(ear.reader.origin, interface=interface)

    def see_own_addresses(self, addresses: frozenset[str]) -> None:
        """The host may have others than before."""
        self._own_addresses = addresses
        for ear in self._ears:
            own = addresses if ear.plan.drops_own else frozenset()
            ear.reader.unwanted_sources = own.union(map(str, ear.plan.drops_sources))

    def change_filter(self, new: SourceFilter) -> None:
        """Hear others than before.

        Raises:
          SocketSetupError: the kernel refused; then the old filter stands
        """
        old = self.filter
        plans = self._make_plans(new)
        if self.is_joined:
            change = plan_filter_change(current_platform(), self.group, self.interface, old, new)
            if change is None:
                self._exchange_sockets(plans)
            else:
                self._set_option(change)
        self.filter, self._plans = new, plans

    def _exchange_sockets(self, plans: tuple[SocketPlan, ...]) -> None:
        old_plans, self._plans = self._plans, plans
        try:
            self.open()
        except SocketSetupError:
            self._plans = old_plans
            self.open()
            raise

    def _set_option(self, option: SocketOption) -> None:
        (ear,) = (ear for ear in self._ears if not ear.is_retired)
        try:
            ear.set_option(option)
        except OSError as error:
            refusal = SocketSetupError(
                option.label, error, interface=self.interface, group=self.group
            )
            raise add_remedy(refusal) from error

    def has_leftovers_before(self, ear: Ear) -> bool:
        """Whether sockets that were opened earlier have something that should come first."""
        return any(older.is_retired for older in self._ears[: self._ears.index(ear)])

    def retire(self) -> None:
        """Hear nothing new. What has arrived can still be read; then `discard` the socket."""
        for ear in self.ears:
            if not ear.is_retired:
                ear.retire()
                if not ear.may_have_unread():
                    self.discard(ear)

    def discard(self, ear: Ear) -> None:
        """Close a socket and keep its figures. Who waits for it gets a ClosedResourceError."""
        self._ears.remove(ear)
        self._figures.add(_figures_of(ear))
        ear.close()

    def lose(self, ear: Ear, error: OSError) -> None:
        """A socket is broken: close it. If it had not retired, that is the membership's state."""
        if not ear.is_retired:
            self.error = error
        self.discard(ear)

    def close(self) -> None:
        for ear in self.ears:
            self.discard(ear)

    def count_lost(self) -> None:
        """A datagram that was read here was given up before the program took it."""
        self._figures.dropped_by_overflow += 1

    def figures(self) -> Figures:
        figures = replace(self._figures)
        for ear in self._ears:
            figures.add(_figures_of(ear))
        return figures

    @property
    def state(self) -> MembershipState:
        is_usable = not self.is_absent and self.interface.is_up
        if self.is_joined and is_usable:
            return "joined"
        can_work = is_usable and self.interface.carries(self.subscription.group.version)
        if self.error is not None and (can_work or not self._settings.follow):
            return "failed"
        return "waiting"

    def held(self) -> Held:
        """The membership as the rules of following see it."""
        return Held(
            self.group, self.interface.index, self.is_joined, self.subscription.selection.is_named
        )

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
        granted = [ear.receive_buffer() for ear in self._ears if not ear.is_retired]
        return MembershipStatistics(
            group=self.group,
            interface=self.interface,
            receive_buffer=sum(granted) if granted else None,
            **vars(self.figures()),
        )


def _figures_of(ear: Ear) -> Figures:
    return Figures(ear.reader.datagrams_read, ear.reader.bytes_read, ear.drop_count())
