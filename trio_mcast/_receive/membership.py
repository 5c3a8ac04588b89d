"""One group on one interface, and the sockets that hear it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from .._base.datagram import Datagram
from .._base.errors import SocketSetupError
from .._base.interface import Interface
from .._base.remedies import add_remedy
from .._base.source_filter import SourceFilter
from .._base.status import MembershipState, MembershipStatistics, MembershipStatus
from .._interfaces.following import Held
from .._machine.receiving import ReceivingSocket
from .._machine.sockets import EXHAUSTED
from .._plan.joining import plan_filter_change
from .._plan.options import SocketOption
from .._plan.receiver_plan import ReceiverPlanner
from .._plan.socket_plan import SocketPlan
from .join_request import JoinRequest

Key: TypeAlias = tuple[IPv4Address | IPv6Address, int]
"""A group, and the index of an interface."""


@dataclass(frozen=True)
class ReceiverSettings:
    """What holds for every membership of a receiver."""

    planner: ReceiverPlanner
    follow: bool
    max_buffered: int
    max_buffered_bytes: int
    waits_when_full: bool


class OwnAddresses(NamedTuple):
    """The addresses of this host, by which what it sends itself is known.

    Attributes:
      anywhere: those that nobody else has
      on_link: link-local ones, by the index of the interface: on another link they are somebody
        else's
    """

    anywhere: frozenset[str] = frozenset()
    on_link: frozenset[tuple[int, str]] = frozenset()

    @classmethod
    def of(cls, listing: Iterable[Interface]) -> OwnAddresses:
        found = [(i.index, address.ip) for i in listing for address in i.addresses]
        return cls(
            frozenset(str(ip) for _index, ip in found if not ip.is_link_local),
            frozenset((index, str(ip)) for index, ip in found if ip.is_link_local),
        )

    def seen_on(self, index: int) -> frozenset[str]:
        return self.anywhere.union(text for where, text in self.on_link if where == index)


@dataclass
class Figures:
    """What was received and lost so far. What the system does not tell is None."""

    datagrams_received: int = 0
    bytes_received: int = 0
    dropped_by_kernel: int | None = 0
    dropped_by_overflow: int = 0
    losses_are_exact: bool = True

    def add(self, other: Figures) -> None:
        self.datagrams_received += other.datagrams_received
        self.bytes_received += other.bytes_received
        self.dropped_by_overflow += other.dropped_by_overflow
        self.losses_are_exact &= other.losses_are_exact
        if self.dropped_by_kernel is None or other.dropped_by_kernel is None:
            self.dropped_by_kernel = None
        else:
            self.dropped_by_kernel += other.dropped_by_kernel


class Membership:
    """One group on one interface, in one receiver.

    It owns its sockets: opens them from plans, closes them, and keeps their figures when they are
    gone. There is one, but for source filters that are too long for one. The kernel's refusal
    becomes the membership's state, never an exception that ends something else.

    What a socket holds when it is replaced or left is not lost: it *retires*, which means that it
    has left the group but is read until it is empty. Usually that is done at once. Only when the
    program does not keep up, so that there is no room, it stays open until there is.
    """

    def __init__(
        self,
        request: JoinRequest,
        interface: Interface,
        filter_: SourceFilter,
        settings: ReceiverSettings,
        open_socket: Callable[[SocketPlan, int], ReceivingSocket],
        start_task: Callable[[Membership, ReceivingSocket], None],
        read_out: Callable[[ReceivingSocket], bool],
        own_addresses: OwnAddresses,
    ) -> None:
        """Plan it; nothing is opened yet.

        Args:
          filter_: that of the request, as it is on the interface
          open_socket: opens a planned socket, for a port
          start_task: starts the task of a socket that was opened
          read_out: reads what a retired socket has, as long as there is room; whether that was all
          own_addresses: those of the host
        """
        self.request: JoinRequest = request
        self.group: IPv4Address | IPv6Address = request.group.address
        self.interface: Interface = interface
        self.filter: SourceFilter = filter_
        self._reason = request.selection.reason_for(interface)
        self.is_absent: bool = False
        self.error: OSError | None = None
        self._settings = settings
        self._open_socket = open_socket
        self._start_task = start_task
        self._read_out = read_out
        self._own_addresses = own_addresses
        self._sockets: list[ReceivingSocket] = []
        self._figures = Figures()  # of past sockets, and what the program itself gave up
        self._plans = self._make_plans(self.filter)

    def _make_plans(self, filter_: SourceFilter) -> tuple[SocketPlan, ...]:
        return self._settings.planner.plan(self.group, self.interface, filter_)

    @property
    def key(self) -> Key:
        """What no two memberships of a receiver have in common: an absent one has no index."""
        return (self.group, -id(self) if self.is_absent else self.interface.index)

    @property
    def is_joined(self) -> bool:
        return any(not sock.is_retired for sock in self._sockets)

    @property
    def sockets(self) -> tuple[ReceivingSocket, ...]:
        return tuple(self._sockets)

    # Joining and leaving

    def open(self) -> None:
        """Join, with new sockets. Those from before retire first.

        Raises:
          SocketSetupError: the kernel refused; that is then the membership's state too
        """
        # First, so that the kernel does not deliver to both. What the old ones hold is still read.
        self.retire()
        opened: list[ReceivingSocket] = []
        try:
            for plan in self._plans:
                opened.append(self._open_socket(plan, self._settings.planner.port))
        except SocketSetupError as error:
            for sock in opened:
                sock.close()
            self.error = error
            raise
        self._sockets += opened
        self.see_own_addresses(self._own_addresses)
        self.error = None
        for sock in opened:
            self._start_task(self, sock)

    def try_at(self, interface: Interface) -> None:
        """Join, on an interface that may have another index now.

        A refusal is the membership's state, and there is nobody to tell otherwise.
        """
        self.interface = interface
        self.is_absent = False
        self._plans = self._make_plans(self.filter)
        with suppress(SocketSetupError):
            self.open()

    def suspend(self) -> None:
        """The interface is gone. What has arrived can still be read."""
        self.retire()
        self.is_absent = True
        self.error = None

    def retire(self) -> None:
        """Hear nothing new. What has arrived can still be read; then `discard` the socket.

        What is there of an earlier time, and for which there is still no room, is given up: while a
        program does not receive, each loss of a cable would leave a socket behind.
        """
        retiring = [sock for sock in self._sockets if not sock.is_retired]
        if retiring:
            self.give_up()
        for sock in retiring:
            sock.retire()
            if self._read_out(sock) or not sock.may_have_unread():
                self.discard(sock)

    def give_up(self) -> None:
        """Keep nothing open that has retired. What there is no room for is counted as lost."""
        for sock in self.sockets:
            if sock.is_retired:
                if not self._read_out(sock):
                    self._figures.dropped_by_overflow += _count_unread(sock)
                self.discard(sock)

    def distrust(self) -> None:
        """What its sockets still have may have come by another interface: give it up, counted."""
        for sock in self.sockets:
            if not sock.is_retired:
                sock.retire()
                self._figures.dropped_by_overflow += _count_unread(sock)
                self.discard(sock)

    def discard(self, sock: ReceivingSocket) -> None:
        """Close a socket and keep its figures. Whoever waits for it gets a ClosedResourceError."""
        self._sockets.remove(sock)
        self._figures.add(_figures_of(sock))
        sock.close()

    def lose(self, sock: ReceivingSocket, error: OSError) -> None:
        """A socket is broken: close it. If it had not retired, that is the membership's state.

        Then it hears by no other socket either: it would hear some of its sources only.
        """
        was_retired = sock.is_retired
        self.discard(sock)
        if not was_retired:
            self.error = error
            self.retire()

    def close(self) -> None:
        for sock in self.sockets:
            self.discard(sock)

    def has_leftovers_before(self, sock: ReceivingSocket) -> bool:
        """Whether sockets that were opened earlier have something that should come first."""
        for older in self._sockets:
            if older is sock:
                return False
            if older.is_retired:
                return True
        return False  # it was closed

    # What changes

    def see_interface(self, interface: Interface) -> None:
        """The same interface, but perhaps with another name, state or other addresses."""
        if interface is self.interface:
            return
        self.interface = interface
        for sock in self._sockets:
            sock.origin = sock.origin.on(interface)

    def see_own_addresses(self, addresses: OwnAddresses) -> None:
        """The host may have others than before."""
        self._own_addresses = addresses
        for sock in self._sockets:
            if sock.plan.drops_own or sock.plan.drops_sources:
                index = self.interface.index
                own = addresses.seen_on(index) if sock.plan.drops_own else frozenset()
                sock.unwanted_sources = own.union(map(str, sock.plan.drops_sources))

    def change_filter(self, new: SourceFilter) -> None:
        """Hear others than before.

        Raises:
          SocketSetupError: the kernel refused; then the old filter stands
        """
        old = self.filter
        plans = self._make_plans(new)
        # A membership that waits for its interface only needs other plans, for when it comes back.
        if self.is_joined:
            change = plan_filter_change(
                self._settings.planner.platform, self.group, self.interface, old, new
            )
            if change is None:
                self._exchange_sockets(plans)
            else:
                self._change_filter_of_socket(change, new)
        self.filter, self._plans = new, plans

    def _exchange_sockets(self, plans: tuple[SocketPlan, ...]) -> None:
        """Where no single option makes the change.

        Doing it by several would let through, in between, what neither the old nor the new filter
        does; and if one of them failed, the way back might be closed.
        """
        old_plans, self._plans = self._plans, plans
        try:
            self.open()
        except SocketSetupError:
            self._plans = old_plans
            self.open()
            raise

    def _change_filter_of_socket(self, change: SocketOption, new: SourceFilter) -> None:
        (sock,) = (sock for sock in self._sockets if not sock.is_retired)
        try:
            sock.change_filter(change, new)
        except OSError as error:
            refusal = SocketSetupError(
                change.label, error, interface=self.interface, group=self.group
            )
            raise add_remedy(refusal) from error

    def is_at(self, group: IPv4Address | IPv6Address, index: int) -> bool:
        """Whether it hears a group there, or did until its interface went."""
        return self.group == group and self.interface.index == index

    def count_lost(self, count: int) -> None:
        """So many datagrams that were read here were given up before the program took them."""
        self._figures.dropped_by_overflow += count

    # How it stands

    @property
    def state(self) -> MembershipState:
        is_usable = not self.is_absent and self.interface.is_up
        if self.is_joined and is_usable:
            return "joined"
        can_work = is_usable and self.interface.carries(self.request.version)
        if self.error is not None and (can_work or not self._settings.follow):
            return "failed"
        return "waiting"

    @property
    def is_due(self) -> bool:
        """It failed for want of something of which nothing announces that there is enough again."""
        return self.error is not None and self.error.errno in EXHAUSTED

    def held(self) -> Held:
        """The membership as the rules of following see it."""
        return Held(
            self.interface,
            self.request.selection,
            self.request.version,
            self.group,
            is_absent=self.is_absent,
            works=self.is_joined,
            is_due=self.is_due,
            reason=self._reason,
            follows=self._settings.follow,
        )

    def status(self, trouble: OSError | None = None) -> MembershipStatus:
        """As users see it.

        Args:
          trouble: why nothing is known of its interface at the moment
        """
        return MembershipStatus(
            self.group,
            self._settings.planner.port,
            self.interface,
            self.filter.sources,
            self.filter.mode,
            self.state,
            self.error or trouble,
        )

    def figures(self) -> Figures:
        figures = replace(self._figures)
        for sock in self._sockets:
            figures.add(_figures_of(sock))
        return figures

    def statistics(self, *, may_be_damaged: bool) -> MembershipStatistics:
        """The figures as users see them.

        Args:
          may_be_damaged: datagrams came to this host damaged, of which the kernel counts some as
            dropped here, and some not at all
        """
        figures = self.figures()
        figures.losses_are_exact &= not may_be_damaged
        sizes = [sock.receive_buffer() for sock in self._sockets if not sock.is_retired]
        granted = [size for size in sizes if size is not None]
        return MembershipStatistics(
            group=self.group,
            interface=self.interface,
            receive_buffer=sum(granted) if granted else None,
            **vars(figures),
        )


def _figures_of(sock: ReceivingSocket) -> Figures:
    dropped = sock.drop_count()
    # The kernel counts datagrams that it has merged as one.
    is_exact = dropped == 0 or (dropped is not None and not sock.plan.merges_datagrams)
    return Figures(
        sock.datagrams_read, sock.bytes_read, dropped_by_kernel=dropped, losses_are_exact=is_exact
    )


def _count_unread(sock: ReceivingSocket) -> int:
    """How many datagrams a retired socket still has. They are gone then."""
    unread: list[Datagram] = []
    with suppress(OSError):
        while sock.read(unread, True):
            pass
    return len(unread)


def open_all(memberships: Iterable[Membership]) -> None:
    """Open them all, or none: if every one is refused, or something has run out.

    Raises:
      SocketSetupError: the first refusal
    """
    memberships = list(memberships)
    first_refusal: SocketSetupError | None = None
    try:
        for membership in memberships:
            try:
                membership.open()
            except SocketSetupError as error:
                if error.errno in EXHAUSTED:
                    raise
                first_refusal = first_refusal or error
        if first_refusal is not None and not any(m.is_joined for m in memberships):
            raise first_refusal
    except BaseException:
        for membership in memberships:
            membership.close()
        raise
