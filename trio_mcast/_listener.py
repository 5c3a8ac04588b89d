"""The memberships of a receiver: which there are, and the tasks that hear them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, TypeAlias

import trio

from ._errors import InterfaceNotFoundError, MulticastError, SocketSetupError
from ._final import NoPublicConstructor
from ._membership import Figures, Membership, ReceiverSettings
from ._os.reading import reader_for_this_thread
from ._os.scan import list_interfaces
from ._os.sockets import EXHAUSTED
from ._plan.addresses import Group, parse_group, parse_sources, sources_for
from ._plan.datagram import Datagram
from ._plan.filters import SourceFilter
from ._plan.interfaces import (
    ByName,
    Interface,
    InterfaceSelector,
    Selector,
    parse_selectors,
    require,
    select,
)
from ._status import MembershipStatus, ReceiverStatistics

GroupLike: TypeAlias = str | IPv4Address | IPv6Address
SourceLike: TypeAlias = str | IPv4Address | IPv6Address
InterfacesLike: TypeAlias = "InterfaceSelector | Iterable[InterfaceSelector] | None"

_Key: TypeAlias = tuple[IPv4Address | IPv6Address, int]  # group, interface index


class Outlet(Protocol):
    """Where batches go."""

    async def wait_for_room(self) -> None:
        """Return when it is time to read the next batch."""

    async def put(self, batch: list[Datagram]) -> list[Datagram]:
        """Take a batch, and return the datagrams, of this or earlier ones, that are lost by it."""

    def count_buffered(self) -> int: ...

    def fail(self, error: BaseException) -> None:
        """No batch will follow."""


@dataclass(frozen=True)
class Subscription:
    """A join as the program asked for it: it may mean several interfaces, now or later."""

    group: Group
    filter: SourceFilter
    selectors: tuple[Selector, ...] | None

    @classmethod
    def parse(
        cls, group: object, sources: tuple[IPv4Address | IPv6Address, ...], interfaces: object
    ) -> Subscription:
        parsed = parse_group(group)
        return cls(
            parsed,
            SourceFilter.admitting(sources_for(parsed, sources)),
            parse_selectors(interfaces),
        )

    def require_interfaces(self, listing: tuple[Interface, ...]) -> None:
        """Raise `InterfaceNotFoundError` unless every interface that is named exists."""
        for selector in self.selectors or ():
            require(selector, listing)
        if self.group.zone is not None:
            require(ByName(self.group.zone), listing)
            if not self.find_interfaces(listing):
                raise InterfaceNotFoundError(
                    f"the zone of {self.group} is none of the interfaces selected"
                )

    def find_interfaces(self, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
        if self.group.zone is None:
            return select(self.selectors, self.group.version, listing)
        zone = select((ByName(self.group.zone),), self.group.version, listing)
        if self.selectors is None:
            return zone
        return select(self.selectors, self.group.version, zone)


class Listener(metaclass=NoPublicConstructor):
    """The memberships of a running receiver.

    `run_receiver` hands one out when it has started; every `MulticastReceiver` is one.
    """

    def __init__(self, settings: ReceiverSettings, outlet: Outlet, *, follow: bool) -> None:
        self._settings = settings
        self._outlet = outlet
        self._follow = follow
        self._reader = reader_for_this_thread()
        self._nursery: trio.Nursery | None = None
        self._memberships: dict[_Key, Membership] = {}
        self._figures_of_the_past = Figures()
        self._own_addresses: frozenset[str] = frozenset()
        self._is_closed = False

    # What the program calls

    async def join(
        self,
        group: GroupLike,
        *,
        sources: SourceLike | Iterable[SourceLike] = (),
        interfaces: InterfacesLike = None,
    ) -> None:
        """Hear one more group, or a group on more interfaces.

        The arguments mean what they mean for `open_receiver`. The port is the receiver's.

        Raises:
          AddressError, ValueError, TypeError: an argument is wrong; nothing was changed
          InterfaceNotFoundError: an interface named does not exist
          MulticastError: the group is joined on one of the interfaces already; to change its
            sources see `set_sources`
          SocketSetupError: every interface refused, or the system ran out of something; nothing
            was changed
        """
        await self._join(Subscription.parse(group, parse_sources(sources), interfaces))

    async def leave(self, group: GroupLike, *, interfaces: InterfacesLike = None) -> None:
        """Hear a group no more: everywhere, or on the interfaces given.

        Datagrams that were read before can still be received.

        Raises:
          MulticastError: the group is not joined there
        """
        parsed = parse_group(group)
        subscription = Subscription(parsed, SourceFilter("exclude"), parse_selectors(interfaces))
        await trio.lowlevel.checkpoint()
        self._check_open()
        keys = [key for key, m in self._memberships.items() if _is_meant(m, subscription)]
        if not keys:
            raise MulticastError(f"{parsed} is not joined there")
        self._leave(keys)

    @asynccontextmanager
    async def joined(
        self,
        group: GroupLike,
        *,
        sources: SourceLike | Iterable[SourceLike] = (),
        interfaces: InterfacesLike = None,
    ) -> AsyncIterator[None]:
        """`join` for as long as the block lasts."""
        keys = await self._join(Subscription.parse(group, parse_sources(sources), interfaces))
        try:
            yield
        finally:
            self._leave(keys)

    def memberships(self) -> tuple[MembershipStatus, ...]:
        """Every membership as it is now, in the order of joining."""
        self._check_open()
        return tuple(membership.status() for membership in self._memberships.values())

    def statistics(self) -> ReceiverStatistics:
        """What was received and what was lost since the receiver was opened."""
        self._check_open()
        figures = replace(self._figures_of_the_past)
        for membership in self._memberships.values():
            figures.add(membership.figures())
        return ReceiverStatistics(
            datagrams_buffered=self._outlet.count_buffered(),
            memberships=tuple(m.statistics() for m in self._memberships.values()),
            **vars(figures),
        )

    # Opening and closing

    def _open(self, subscriptions: Iterable[Subscription]) -> list[_Key]:
        """Join what is asked for; all refused, or something run out, is an error without effect."""
        listing = list_interfaces()
        joining: dict[_Key, Membership] = {}
        for subscription in subscriptions:
            subscription.require_interfaces(listing)
            interfaces = subscription.find_interfaces(listing)
            if not interfaces and not self._follow:
                raise InterfaceNotFoundError(
                    f"no interface is up and fit for {subscription.group}; name one to try it"
                )
            for interface in interfaces:
                key = (subscription.group.address, interface.index)
                if key in self._memberships:
                    raise MulticastError(
                        f"{subscription.group} is joined on {interface.name} already"
                    )
                if key not in joining:
                    joining[key] = Membership(
                        subscription.group.address, interface, subscription.filter, self._settings
                    )
        _open_all(joining.values())
        self._memberships.update(joining)
        self._own_addresses = frozenset(str(a.ip) for i in listing for a in i.addresses)
        if self._nursery is not None:
            self._start_tasks(self._nursery, joining.values())
        return list(joining)

    def _attach(self, nursery: trio.Nursery) -> None:
        """Run the tasks of all memberships, present and future, in the nursery."""
        self._nursery = nursery
        self._start_tasks(nursery, self._memberships.values())

    async def _join(self, subscription: Subscription) -> list[_Key]:
        await trio.lowlevel.checkpoint()
        self._check_open()
        return self._open([subscription])

    def _leave(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            if (membership := self._memberships.pop(key, None)) is not None:
                membership.close()
                self._figures_of_the_past.add(membership.figures())

    def _close(self) -> None:
        self._is_closed = True
        for membership in self._memberships.values():
            membership.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this receiver was closed")

    # The tasks

    def _start_tasks(self, nursery: trio.Nursery, memberships: Iterable[Membership]) -> None:
        for membership in memberships:
            if membership.socket is not None:
                name = f"hear {membership.group} on {membership.interface.name}"
                nursery.start_soon(self._hear, membership, name=f"trio_mcast: {name}")

    @trio.lowlevel.enable_ki_protection
    async def _hear(self, membership: Membership) -> None:
        """The task of a membership: wait, read all that is there, pass it on, until it is closed.

        It never raises. KeyboardInterrupt belongs to the program's own code, hence the protection.
        """
        sock = membership.socket
        while sock is not None and membership.socket is sock:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            await self._outlet.wait_for_room()
            if membership.socket is not sock:
                return
            try:
                batch = membership.read(self._reader, self._own_addresses)
            except OSError as error:
                self._give_up_if_deaf(error)
                return
            if batch:
                self._count_lost(await self._outlet.put(batch), membership)

    def _count_lost(self, lost: list[Datagram], reader: Membership) -> None:
        for datagram in lost:
            key = (datagram.group, datagram.interface.index)
            self._memberships.get(key, reader).count_lost()

    def _give_up_if_deaf(self, error: OSError) -> None:
        if not self._follow and all(m.socket is None for m in self._memberships.values()):
            self._outlet.fail(error)


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
        if first_refusal is not None and all(m.socket is None for m in memberships):
            raise first_refusal
    except BaseException:
        for membership in memberships:
            membership.close()
        raise


def _is_meant(membership: Membership, subscription: Subscription) -> bool:
    if membership.group != subscription.group.address:
        return False
    if subscription.selectors is None and subscription.group.zone is None:
        return True
    return bool(subscription.find_interfaces((membership.interface,)))
