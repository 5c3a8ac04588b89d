"""The memberships of a receiver: which there are, how they change, and the tasks that hear them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Final, ParamSpec, Protocol

import trio

from ._delivery import Delivery
from ._errors import InterfaceNotFoundError, MulticastError, SocketSetupError
from ._events import Broadcast
from ._follow import InterfaceFeed
from ._membership import Ear, Figures, Key, Membership, ReceiverSettings, SocketEar
from ._os.readiness import SocketSet, open_socket_set
from ._os.scan import list_interfaces
from ._os.sockets import EXHAUSTED
from ._os.watch import list_groups
from ._plan.addresses import Group
from ._plan.datagram import Datagram
from ._plan.filters import SourceFilter
from ._plan.follow import Action, CarrierWatch, Changes, Event, decide
from ._plan.interfaces import Interface
from ._plan.plan import SocketPlan
from ._plan.selection import Selection
from ._status import MembershipStatus, ReceiverStatistics
from ._subscription import Subscription

_P = ParamSpec("_P")

# What failed because something had run out, nothing announces when there is enough again.
_RETRY_SECONDS: Final = 1.0


class Feed(Protocol):
    """What happens to the interfaces of a host, as `InterfaceFeed` tells it of this one."""

    first_events: list[Event]
    listing: tuple[Interface, ...]

    async def wait(self) -> list[Event]: ...

    def close(self) -> None: ...


class Host(Protocol):
    """The machine that a roster is on. `trio_mcast.testing` puts another in the place of this."""

    def list_interfaces(self) -> tuple[Interface, ...]: ...

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        """Every group joined on the host, by interface index; None if that is not known."""

    def open_feed(self) -> Feed: ...

    def open_ear(self, plan: SocketPlan, port: int) -> Ear: ...

    def open_socket_set(self) -> SocketSet | None:
        """For all sockets of a receiver; None if each has to be waited for by itself."""


class ThisHost:
    """The machine that the program runs on."""

    def list_interfaces(self) -> tuple[Interface, ...]:
        return list_interfaces()

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        return list_groups()

    def open_feed(self) -> Feed:
        return InterfaceFeed()

    def open_ear(self, plan: SocketPlan, port: int) -> Ear:
        return SocketEar(plan, port)

    def open_socket_set(self) -> SocketSet | None:
        return open_socket_set()


class Roster:
    """Which groups are heard on which interfaces, and by which tasks.

    Nothing here awaits but the tasks: every change is done when its call returns, and a change
    that fails has not happened.
    """

    def __init__(self, settings: ReceiverSettings, host: Host) -> None:
        self.memberships: dict[Key, Membership] = {}
        self.events: Broadcast[MembershipStatus] = Broadcast()
        self._settings = settings
        self._host = host
        self._nursery: trio.Nursery | None = None
        self._feed: Feed | None = None
        self._subscriptions: list[Subscription] = []
        self._departed: list[Membership] = []  # no longer listed, but still with something to read
        self._figures_of_the_past = Figures()
        self._own_addresses: frozenset[str] = frozenset()
        self._emptied = trio.lowlevel.ParkingLot()  # tasks whose sockets are not the first in turn
        self.is_closed: bool = False
        self.delivery: Delivery = Delivery(
            settings.max_buffered, settings.overflow, host.open_socket_set(), self.count_lost
        )

    # Opening and closing

    @trio.lowlevel.enable_ki_protection
    def open(self, subscriptions: Sequence[Subscription]) -> None:
        """The first joins. From now on, nothing that happens to interfaces is missed."""
        if self._settings.follow:
            self._feed = self._host.open_feed()
        self.join(subscriptions)

    def attach(self, nursery: trio.Nursery) -> None:
        """Run the tasks of all memberships, present and future, in the nursery."""
        self._nursery = nursery
        nursery.start_soon(self.delivery.run, name="trio_mcast: read")
        for membership in self.memberships.values():
            for ear in membership.ears:
                self._attend(membership, ear)
        if self._feed is not None:
            nursery.start_soon(self._follow, self._feed, name="trio_mcast: follow interfaces")

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        for membership in [*self.memberships.values(), *self._departed]:
            membership.close()
        if self._feed is not None:
            self._feed.close()
        self.delivery.close()
        self._emptied.unpark_all()
        self.events.end()

    def statuses(self) -> tuple[MembershipStatus, ...]:
        statuses = [membership.status() for membership in self.memberships.values()]
        if not self._settings.follow:
            # Nobody has told what has happened since, so the kernel is asked.
            listed = self._host.list_groups()
            for i, status in enumerate(statuses):
                key = (status.interface.index, status.group.packed)
                if status.state == "joined" and listed is not None and key not in listed:
                    statuses[i] = replace(status, state="waiting")
        return tuple(statuses)

    def statistics(self) -> ReceiverStatistics:
        figures = replace(self._figures_of_the_past)
        for membership in [*self.memberships.values(), *self._departed]:
            figures.add(membership.figures())
        return ReceiverStatistics(
            datagrams_buffered=len(self.delivery),
            memberships=tuple(m.statistics() for m in self.memberships.values()),
            **vars(figures),
        )

    # What the program asks for

    @trio.lowlevel.enable_ki_protection
    def join(self, subscriptions: Sequence[Subscription]) -> None:
        """Join what is asked for; all refused, or something run out, is an error without effect."""
        listing = self._host.list_interfaces()
        self._see_own_addresses(listing)
        joining: dict[Key, Membership] = {}
        for subscription in subscriptions:
            interfaces = subscription.selection.require(listing, subscription.group.version)
            if not interfaces and not self._settings.follow:
                raise InterfaceNotFoundError(
                    f"no interface is up and fit for {subscription.group}; name one to try it"
                )
            for interface in interfaces:
                key = (subscription.group.address, interface.index)
                if key in self.memberships:
                    raise MulticastError(
                        f"{subscription.group} is joined on {interface.name} already"
                    )
                if key not in joining:
                    joining[key] = self._make_membership(subscription, interface)
        _open_all(joining.values())
        self._subscriptions += subscriptions
        self.memberships.update(joining)
        for membership in joining.values():
            self.events.publish(membership.status())

    def leave(self, group: Group, meant: Selection) -> None:
        """Leave a group on the interfaces selected, now and for the future."""
        leaving = self._select(group, meant)
        for subscription in self._subscriptions:
            if subscription.group.address == group.address:
                subscription.selection = subscription.selection.leaving(meant)
        self._drop(leaving)
        used = {id(membership.subscription) for membership in self.memberships.values()}
        self._subscriptions = [
            s
            for s in self._subscriptions
            if s.group.address != group.address
            or id(s) in used
            or (meant.is_named and not s.selection.is_named)
        ]

    def cancel(self, subscription: Subscription) -> None:
        """Leave what this very join has joined, if it is still there."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self._drop([m for m in self.memberships.values() if m.subscription is subscription])

    def change_filter(
        self,
        group: Group,
        meant: Selection,
        change: Callable[[SourceFilter], SourceFilter],
    ) -> None:
        """Change whom a group's memberships hear: all of them, or, if one refuses, none."""
        wanted = [(m, m.filter, change(m.filter)) for m in self._select(group, meant)]
        done: list[tuple[Membership, SourceFilter]] = []
        try:
            for membership, old, new in wanted:
                membership.change_filter(new)
                done.append((membership, old))
        except BaseException:
            for membership, old in done:
                membership.change_filter(old)
            raise
        if not meant.is_named:
            for subscription in self._subscriptions:
                if subscription.group.address == group.address:
                    # Interfaces that turn up later get it, unless they were to have another one.
                    with suppress(MulticastError):
                        subscription.filter = change(subscription.filter)
        for membership, _old, _new in wanted:
            self.events.publish(membership.status())

    def _select(self, group: Group, meant: Selection) -> list[Membership]:
        found = [m for m in self.memberships.values() if m.group == group.address]
        if meant.is_named:
            found = [m for m in found if meant.covers(m.interface)]
        elif any(s.group.address == group.address for s in self._subscriptions):
            return found
        if not found:
            raise MulticastError(f"{group} is not joined there")
        return found

    def _drop(self, memberships: Iterable[Membership]) -> None:
        for membership in memberships:
            del self.memberships[membership.key]
            membership.retire()
            self._let_go(membership)

    def _let_go(self, membership: Membership) -> None:
        """It is listed no more, but what has arrived for it is still to be read."""
        if membership.ears:
            self._departed.append(membership)
        else:
            self._figures_of_the_past.add(membership.figures())

    def _make_membership(self, subscription: Subscription, interface: Interface) -> Membership:
        return Membership(
            subscription,
            interface,
            self._settings,
            self._host.open_ear,
            self._attend,
            self._own_addresses,
        )

    # The tasks

    def _attend(self, membership: Membership, ear: Ear) -> None:
        if self._nursery is not None:
            name = f"trio_mcast: hear {membership.group} on {membership.interface.name}"
            self._nursery.start_soon(self._hear, membership, ear, name=name)

    @trio.lowlevel.enable_ki_protection
    async def _hear(self, membership: Membership, ear: Ear) -> None:
        """The task of a socket, for its life: have it read until it retires, then empty it.

        It never raises. KeyboardInterrupt belongs to the program's own code, hence the protection.
        """
        while not ear.is_closed and self._has_leftovers_before(membership, ear):
            await self._emptied.park()
        await self.delivery.deliver_from(ear, partial(self._lose, membership, ear))
        if not ear.is_closed:
            membership.discard(ear)
        if membership in self._departed and not membership.ears:
            self._departed.remove(membership)
            self._figures_of_the_past.add(membership.figures())
        self._emptied.unpark_all()

    def _has_leftovers_before(self, membership: Membership, ear: Ear) -> bool:
        """Whether there are older datagrams of the same group and interface: they come first."""
        departed = takewhile(lambda other: other is not membership, self._departed)
        return membership.has_leftovers_before(ear) or any(
            other.key == membership.key for other in departed
        )

    def _lose(self, membership: Membership, ear: Ear, error: OSError) -> None:
        """A socket could not be read. That changes the membership, unless it had retired."""
        if ear.is_closed:
            return
        membership.lose(ear, error)
        if ear.is_retired:
            return
        self.events.publish(membership.status())
        if not self._settings.follow and not any(m.is_joined for m in self.memberships.values()):
            self.delivery.fail(error)

    def count_lost(self, lost: list[Datagram]) -> None:
        for datagram in lost:
            membership = self.memberships.get((datagram.group, datagram.interface.index))
            if membership is None:  # it was left meanwhile
                self._figures_of_the_past.dropped_by_overflow += 1
            else:
                membership.count_lost()

    @trio.lowlevel.enable_ki_protection
    async def _follow(self, feed: Feed) -> None:
        """The task that keeps the memberships alive. It never raises."""
        carriers = CarrierWatch()
        carriers.read(feed.first_events)
        while True:
            events: list[Event] = []
            exhausted = self._find_exhausted()
            with trio.move_on_after(_RETRY_SECONDS if exhausted else math.inf):
                try:
                    events = await feed.wait()
                except trio.ClosedResourceError:
                    return
            changes = carriers.read(events)
            changes.touched |= exhausted
            groups = self._host.list_groups() if changes.calls_for_a_look() else None
            self._adapt(changes, feed.listing, groups)

    def _see_own_addresses(self, listing: Iterable[Interface]) -> None:
        addresses = frozenset(str(address.ip) for i in listing for address in i.addresses)
        if addresses != self._own_addresses:
            self._own_addresses = addresses
            for membership in [*self.memberships.values(), *self._departed]:
                membership.see_own_addresses(addresses)

    def _find_exhausted(self) -> set[int]:
        """The interfaces on which a membership waits for something that nothing announces."""
        return {
            m.interface.index
            for m in self.memberships.values()
            if m.error is not None and m.error.errno in EXHAUSTED
        }

    # Following

    def _adapt(
        self,
        changes: Changes,
        listing: tuple[Interface, ...],
        groups: frozenset[tuple[int, bytes]] | None,
    ) -> None:
        """Do what the rules say, and tell what has changed by it."""
        self._see_own_addresses(listing)
        before = {id(m): m.status() for m in self.memberships.values()}
        present = {interface.index: interface for interface in listing}
        rejoined = set()
        for membership in list(self.memberships.values()):
            index = membership.interface.index
            visible = frozenset(present)
            if not _is_still_meant(membership, changes, present.get(index)):
                visible -= {index}  # it is another interface that has the number now
            key = membership.key
            match decide(membership.held(), changes, visible, groups):
                case Action.KEEP:
                    membership.see_interface(present[index])
                case Action.REJOIN:
                    rejoined.add(id(membership))
                    _try(membership.reopen_at, present[index])
                case Action.SUSPEND:
                    membership.suspend()
                case Action.FORGET:
                    self._forget(membership)
            if key != membership.key and key in self.memberships:
                self._rename_key(key, membership.key)
        for subscription in self._subscriptions:
            for interface in subscription.find(listing):
                if (subscription.group.address, interface.index) not in self.memberships:
                    self._join_one(subscription, interface)
        for membership in self.memberships.values():
            status = membership.status()
            if id(membership) in rejoined or before.get(id(membership)) != status:
                self.events.publish(status)

    def _join_one(self, subscription: Subscription, interface: Interface) -> None:
        """Join where something has turned up: what was missed, by another index, or news."""
        for key, membership in self.memberships.items():
            is_its_own = membership.is_absent and membership.subscription is subscription
            if is_its_own and subscription.selection.still_means(membership.interface, interface):
                _try(membership.reopen_at, interface)
                self._rename_key(key, membership.key)
                return
        membership = self._make_membership(subscription, interface)
        _try(membership.open)
        self.memberships[membership.key] = membership

    def _rename_key(self, old: Key, new: Key) -> None:
        """As `dict` cannot: in its place, since the order is that of joining."""
        items = self.memberships.items()
        self.memberships = {(new if key == old else key): value for key, value in items}

    def _forget(self, membership: Membership) -> None:
        """The interface is gone, and was nothing special."""
        del self.memberships[membership.key]
        membership.suspend()
        self.events.publish(membership.status())
        self._let_go(membership)


def _is_still_meant(membership: Membership, changes: Changes, interface: Interface | None) -> bool:
    """Whether the interface that has the index now is what the membership is about.

    As long as nothing else is known, the index is what counts: names can change. But indexes of
    interfaces that are gone are given to others.
    """
    if interface is None:
        return False
    before = membership.interface
    if not (membership.is_absent or changes.everything or before.index in changes.dropped):
        return True
    return membership.subscription.selection.still_means(before, interface)


def _try(action: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """A refusal is the membership's state, and there is nobody to tell otherwise."""
    try:
        action(*args, **kwargs)
    except SocketSetupError:
        pass


def _open_all(memberships: Iterable[Membership]) -> None:
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
