"""The memberships of a receiver: which there are, how they change, and the tasks that hear them."""

from __future__ import annotations

import errno
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, takewhile
from typing import Final

import trio

from .._addresses.parsing import Group
from .._base.datagram import Datagram
from .._base.errors import InterfaceNotFoundError, MulticastError, SocketSetupError
from .._base.interface import Interface, IPVersion
from .._base.source_filter import SourceFilter
from .._base.status import MembershipStatus, ReceiverStatistics
from .._interfaces.following import Action, Change, decide, find_new
from .._interfaces.selection import Selection
from .._machine.feed import FeedShare, follow_interfaces
from .._machine.machine import Machine, UdpErrors
from .._machine.nursery import ServiceNursery
from .._machine.receiving import ReceivingSocket
from .._machine.sockets import kernel_error
from .backlog import Backlog
from .delivery import Delivery
from .events import Broadcast
from .join_request import JoinRequest, narrow, require_zones
from .membership import Figures, Key, Membership, OwnAddresses, ReceiverSettings, open_all

# Of memberships that were left while there was no room to read what they had, so many at most stay
# open until there is: a program may join and leave for ever without receiving.
_MOST_DRAINING: Final = 4


class Memberships:
    """Which groups are heard on which interfaces, and by which tasks.

    Nothing here awaits but the tasks: every change is done when its call returns, and a change
    that fails has not happened.
    """

    @trio.lowlevel.enable_ki_protection
    def __init__(self, settings: ReceiverSettings, machine: Machine) -> None:
        self.events: Broadcast[MembershipStatus] = Broadcast()
        self.is_closed: bool = False
        self._by_key: dict[Key, Membership] = {}
        self._requests: list[JoinRequest] = []
        self._draining: list[Membership] = []  # left, but still with something to read
        self._figures_of_the_past = Figures()
        self._own_addresses = OwnAddresses()
        self._settings = settings
        self._machine = machine
        self._errors_before = machine.read_udp_errors()
        self._errors_after: UdpErrors | None = None  # when it was closed
        self._nursery: ServiceNursery | None = None
        self._feed: FeedShare | None = None
        self._drained = trio.lowlevel.ParkingLot()  # tasks whose sockets are not the first in turn
        self._sockets = machine.open_receiving_sockets()
        self.delivery: Delivery = Delivery(
            Backlog(settings.max_buffered, settings.max_buffered_bytes),
            settings.waits_when_full,
            self._sockets.open_set(),
            self.count_lost,
            self._lose,
            self._see_news,
        )

    # Opening and closing

    @trio.lowlevel.enable_ki_protection
    def open(self, requests: Sequence[JoinRequest]) -> None:
        """The first joins. From now on, nothing that happens to interfaces is missed."""
        self._feed = follow_interfaces(self._machine, self._held_groups)
        self._join(requests, self._feed.listing)

    def attach(self, nursery: ServiceNursery) -> None:
        """Run the tasks of all memberships, present and future, in the nursery."""
        self._nursery = nursery
        nursery.start_soon(self.delivery.run, name="trio_mcast: read")
        for membership in self._by_key.values():
            for sock in membership.sockets:
                self._start_task(membership, sock)
        assert self._feed is not None
        nursery.start_soon(
            self._feed.follow,
            self._adapt,
            self._is_any_due,
            name="trio_mcast: follow interfaces",
        )

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._errors_after = self._machine.read_udp_errors()
        for membership in [*self._by_key.values(), *self._draining]:
            membership.close()
        if self._feed is not None:
            self._feed.close()
        self.delivery.close()
        self._drained.unpark_all()
        self.events.end()

    def statuses(self) -> tuple[MembershipStatus, ...]:
        assert self._feed is not None
        trouble = self._feed.trouble
        return tuple(membership.status(trouble) for membership in self._by_key.values())

    def statistics(self) -> ReceiverStatistics:
        figures = replace(self._figures_of_the_past)
        for membership in [*self._by_key.values(), *self._draining]:
            figures.add(membership.figures())
        errors = self._errors_since_opening()
        may_be_damaged = errors is None or errors.checksum > 0
        figures.losses_are_exact &= not may_be_damaged
        memberships = self._by_key.values()
        return ReceiverStatistics(
            datagrams_buffered=len(self.delivery),
            memberships=tuple(m.statistics(may_be_damaged=may_be_damaged) for m in memberships),
            host_buffer_errors=errors and errors.buffer,
            host_checksum_errors=errors and errors.checksum,
            **vars(figures),
        )

    def _errors_since_opening(self) -> UdpErrors | None:
        after = self._errors_after if self.is_closed else self._machine.read_udp_errors()
        return after and self._errors_before and after.since(self._errors_before)

    # What the program asks for

    @trio.lowlevel.enable_ki_protection
    def join(self, requests: Sequence[JoinRequest]) -> None:
        """Join what is asked for; all refused, or something run out, is an error without effect."""
        assert self._feed is not None
        # What has happened before is adapted to first, for it is about the memberships of before.
        if (change := self._feed.catch_up()) is not None:
            self._adapt(change)
        self._join(requests, self._feed.listing)

    def _join(self, requests: Sequence[JoinRequest], listing: tuple[Interface, ...]) -> None:
        self._see_own_addresses(listing)
        # Nothing of this is seen until all has succeeded, so a failure has nothing to undo here.
        joining: dict[Key, Membership] = {}
        found: dict[tuple[int, IPVersion], tuple[Interface, ...]] = {}
        for request in requests:
            require_zones(request.filter, listing)
            interfaces = self._find_interfaces(request, listing, found)
            if not interfaces and not self._settings.follow:
                raise InterfaceNotFoundError(
                    f"no interface is up and fit for {request.group}; name one to try it"
                )
            there = [i for i in interfaces if narrow(request.filter, i) is not None]
            if (
                interfaces
                and not there
                and (request.selection.is_named or not self._settings.follow)
            ):
                senders = ", ".join(map(str, request.filter.sources))
                raise InterfaceNotFoundError(
                    f"none of the interfaces selected for {request.group} is in a zone of {senders}"
                )
            for interface in there:
                key = (request.group.address, interface.index)
                if key in self._by_key:
                    raise MulticastError(f"{request.group} is joined on {interface.name} already")
                if key not in joining and (new := self._make_membership(request, interface)):
                    joining[key] = new
        open_all(joining.values())
        self._requests += requests
        self._by_key.update(joining)
        self.delivery.revive()
        self._publish(joining.values())

    def _find_interfaces(
        self,
        request: JoinRequest,
        listing: tuple[Interface, ...],
        found: dict[tuple[int, IPVersion], tuple[Interface, ...]],
    ) -> tuple[Interface, ...]:
        """The interfaces that a request covers. A thousand groups may have one selection."""
        key = (id(request.selection), request.version)
        if key not in found:
            found[key] = request.selection.require(listing, request.version)
        return found[key]

    @trio.lowlevel.enable_ki_protection
    def leave(self, group: Group, meant: Selection) -> None:
        """Leave a group on the interfaces selected, now and for the future."""
        leaving = self._select(group, meant)
        # What was asked for is narrowed too, or following would join again what is left here.
        for request in self._requests_for(group):
            request.selection = request.selection.leaving(meant)
        self._drop(leaving)
        # A request goes when it can bring nothing back: when nothing is left of it, unless it was
        # for interfaces in general and only some of them, by name, are left now.
        used = {id(membership.request) for membership in self._by_key.values()}
        self._requests = [
            request
            for request in self._requests
            if request.group.address != group.address
            or id(request) in used
            or (meant.is_named and not request.selection.is_named)
        ]

    @trio.lowlevel.enable_ki_protection
    def cancel(self, request: JoinRequest) -> None:
        """Leave what this very request has joined, if it is still there."""
        if request in self._requests:
            self._requests.remove(request)
        self._drop([m for m in self._by_key.values() if m.request is request])

    @trio.lowlevel.enable_ki_protection
    def change_filter(
        self, group: Group, meant: Selection, change: Callable[[SourceFilter], SourceFilter]
    ) -> None:
        """Change whom a group's memberships hear: all of them, or, if one refuses, none."""
        # Worked out for all before anything is done: most refusals are of a change that does not
        # fit a filter's mode, and are found here.
        assert self._feed is not None
        wanted = []
        for membership in self._select(group, meant):
            changed = change(membership.filter)
            require_zones(changed, self._feed.listing)
            new = narrow(changed, membership.interface)
            if new is None:
                raise MulticastError(f"nobody would be heard on {membership.interface}")
            wanted.append((membership, membership.filter, new))
        done: list[tuple[Membership, SourceFilter]] = []
        try:
            for membership, old, new in wanted:
                membership.change_filter(new)
                done.append((membership, old))
        except BaseException:
            # The way back was open a moment ago, so it is not expected to fail.
            for membership, old in done:
                membership.change_filter(old)
            # Unless it was not: then it has failed, and is tried again.
            self._publish(membership for membership, _old, _new in wanted)
            self._retry_soon()
            raise
        if not meant.is_named:
            for request in self._requests_for(group):
                # Interfaces that turn up later get it, unless they were to have another one.
                with suppress(MulticastError):
                    request.filter = change(request.filter)
        self._publish(membership for membership, _old, _new in wanted)

    def _select(self, group: Group, meant: Selection) -> list[Membership]:
        found = [m for m in self._by_key.values() if m.group == group.address]
        if meant.is_named:
            found = [m for m in found if meant.covers(m.interface)]
        elif any(self._requests_for(group)):
            return found
        if not found:
            assert self._feed is not None
            Selection(zones=meant.zones).require(self._feed.listing)
            raise MulticastError(f"{group} is not joined there")
        return found

    def _publish(self, memberships: Iterable[Membership]) -> None:
        if self.events.has_streams:  # or nobody would see them
            for membership in memberships:
                self.events.publish(membership.status())

    def _requests_for(self, group: Group) -> Iterable[JoinRequest]:
        return (request for request in self._requests if request.group.address == group.address)

    def _drop(self, memberships: Iterable[Membership]) -> None:
        for membership in memberships:
            del self._by_key[membership.key]
            membership.retire()
            self._drain(membership)

    def _drain(self, membership: Membership) -> None:
        """It is listed no more, but what has arrived for it is still to be read."""
        if not membership.sockets:
            self._figures_of_the_past.add(membership.figures())
            return
        self._draining.append(membership)
        if len(self._draining) > _MOST_DRAINING:
            self._draining[0].give_up()
            self._see_drained()

    def _see_drained(self) -> None:
        for membership in [m for m in self._draining if not m.sockets]:
            self._draining.remove(membership)
            self._figures_of_the_past.add(membership.figures())
        self._drained.unpark_all()

    def _read_out(self, sock: ReceivingSocket) -> bool:
        """Read what a retired socket has, if there is room, but first what was left before it."""
        for membership in takewhile(lambda left: sock not in left.sockets, self._draining[:]):
            for older in membership.sockets:
                if not self.delivery.read_out(older):
                    return False
                membership.discard(older)
        self._see_drained()
        return self.delivery.read_out(sock)

    def _make_membership(self, request: JoinRequest, interface: Interface) -> Membership | None:
        """A membership that a request asks for; None: none of the senders named is there."""
        filter_ = narrow(request.filter, interface)
        if filter_ is None:
            return None
        return Membership(
            request,
            interface,
            filter_,
            self._settings,
            self._sockets.open,
            self._start_task,
            self._read_out,
            self._own_addresses,
        )

    def count_lost(self, lost: list[Datagram]) -> None:
        """Datagrams that were read were given up before the program took them."""
        for (group, index), count in Counter((d.group, d.interface.index) for d in lost).items():
            there = (m for m in self._by_key.values() if m.is_at(group, index))
            membership = self._by_key.get((group, index)) or next(there, None)
            if membership is None:  # it was left meanwhile
                self._figures_of_the_past.dropped_by_overflow += count
            else:
                membership.count_lost(count)

    # The tasks of sockets

    def _start_task(self, membership: Membership, sock: ReceivingSocket) -> None:
        if self._nursery is not None:
            name = f"trio_mcast: hear {membership.group} on {membership.interface.name}"
            self._nursery.start_soon(self._hear, membership, sock, name=name)

    @trio.lowlevel.enable_ki_protection
    async def _hear(self, membership: Membership, sock: ReceivingSocket) -> None:
        """The task of a socket, for its life: have it read until it retires, then empty it.

        It never raises. KeyboardInterrupt belongs to the program's own code, hence the protection.
        """
        # Datagrams of one group on one interface come in the order of their arrival, also when the
        # socket was exchanged in between: the new one waits until the old one is empty.
        while self._has_leftovers_before(membership, sock) and not sock.is_closed:
            await self._drained.park()
        await self.delivery.deliver_from(sock)
        if not sock.is_closed:
            membership.discard(sock)
        self._see_drained()

    def _has_leftovers_before(self, membership: Membership, sock: ReceivingSocket) -> bool:
        """Whether there are older datagrams of the same group and interface: they come first."""
        if membership.has_leftovers_before(sock):
            return True
        if not self._draining:
            return False
        left_before = takewhile(lambda other: other is not membership, self._draining)
        place = (sock.plan.group, sock.origin.interface.index)
        return any(
            (older.plan.group, older.origin.interface.index) == place
            for other in left_before
            for older in other.sockets
        )

    def _lose(self, sock: ReceivingSocket, error: OSError) -> None:
        """A socket could not be read. That changes the membership, unless it had retired."""
        if sock.is_closed:
            return
        everyone = chain(self._by_key.values(), self._draining)
        membership = next(m for m in everyone if sock in m.sockets)
        membership.lose(sock, error)
        if sock.is_retired:
            return
        self.events.publish(membership.status())
        self._retry_soon()
        self._fail_if_over(error)

    def _fail_if_over(self, error: OSError) -> None:
        """Nothing can come any more if nothing is joined, and nothing will be by itself."""
        if not self._settings.follow and not any(m.is_joined for m in self._by_key.values()):
            self.delivery.fail(error)

    # Following

    def _retry_soon(self) -> None:
        if self._feed is not None:
            self._feed.retry_soon()

    def _held_groups(self) -> set[tuple[int, bytes]]:
        """The groups that are joined, as far as is known, each with the index of its interface."""
        return {
            (index, group.packed)
            for (group, index), membership in self._by_key.items()
            if membership.is_joined
        }

    def _is_any_due(self) -> bool:
        return self._settings.follow and any(m.is_due for m in self._by_key.values())

    def _see_news(self, is_polled: bool) -> None:
        """Adapt before a socket is read. Its index may be another interface's by now.

        Args:
          is_polled: the event loop knows of all that was announced before what is to be read
        """
        feed = self._feed
        if feed is not None and feed.has_news(is_polled):
            with suppress(SocketSetupError):  # the feed tries again
                if (change := feed.catch_up()) is not None:
                    self._adapt(change)

    def _adapt(self, change: Change) -> None:
        """Do what the rules say, and tell what has changed by it."""
        self._see_own_addresses(change.listing)
        # An interface that was re-created may have the index that another had. So a group's place
        # on it counts as taken only by memberships other than the one that looks for a place, and
        # whose own interface is certain: two may have exchanged their indexes.
        taken: defaultdict[IPv4Address | IPv6Address, set[int]] = defaultdict(set)
        for group, index in self._by_key:
            if change.is_certain_of(index):
                taken[group].add(index)
        could_hear = any(m.is_joined for m in self._by_key.values())
        kept, forgotten = [], []
        for membership in self._by_key.values():
            index = membership.interface.index
            # Most memberships are not concerned by most changes, and a receiver may have thousands:
            # those are passed over before anything is worked out about them.
            is_concerned = change.concerns_membership(index, membership.group)
            if membership.is_absent or membership.is_due or is_concerned:
                indexes = taken[membership.group]
                if change.is_certain_of(index) and not membership.is_absent:
                    indexes.discard(index)
                if not self._adapt_one(membership, change, indexes):
                    forgotten.append(membership)
                    continue
                if not membership.is_absent:
                    indexes.add(membership.interface.index)
            kept.append(membership)
        # Anew, in the order of joining: one may have the key now that another had.
        self._by_key = {membership.key: membership for membership in kept}
        for membership in forgotten:  # now, for until here it may lose what was held for it
            self._drain(membership)
        if not self._settings.follow:
            if could_hear:
                self._fail_if_over(kernel_error(errno.ENODEV))
            return
        for request in self._requests:
            indexes = taken[request.group.address]
            for interface in find_new(request.selection, request.version, change, indexes):
                new = self._make_membership(request, interface)
                if new is None:
                    continue
                new.try_at(interface)
                if new.is_due:
                    self._retry_soon()
                self._by_key[new.key] = new
                indexes.add(interface.index)
                self.events.publish(new.status())

    def _adapt_one(self, membership: Membership, change: Change, taken: set[int]) -> bool:
        """Do what the rules say about one membership.

        Args:
          taken: the indexes of the interfaces where its group has other memberships

        Returns:
          Whether it is kept
        """
        before = membership.status()
        action, interface = decide(membership.held(), change, taken)
        if not membership.is_absent and change.has_given_away(membership.interface):
            membership.distrust()
        match action:
            case Action.KEEP:
                assert interface is not None
                membership.see_interface(interface)
            case Action.RENEW:
                assert interface is not None
                membership.try_at(interface)
            case Action.SUSPEND:
                membership.suspend()
            case Action.FORGET:
                membership.suspend()
        if membership.is_due:
            self._retry_soon()
        status = membership.status()
        if action in (Action.RENEW, Action.FORGET) or status != before:
            self.events.publish(status)
        return action is not Action.FORGET

    def _see_own_addresses(self, listing: Iterable[Interface]) -> None:
        if self._settings.planner.loopback:
            return
        addresses = OwnAddresses.of(listing)
        if addresses != self._own_addresses:
            self._own_addresses = addresses
            for membership in [*self._by_key.values(), *self._draining]:
                membership.see_own_addresses(addresses)
