"""What a program can see and change of the memberships of a running receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import get_args

import trio

from .._addresses.parsing import GroupLike, SourceLike, parse_group, parse_source, parse_sources
from .._base.final import NoPublicConstructor
from .._base.source_filter import FilterMode, SourceFilter
from .._base.status import MembershipStatus, ReceiverStatistics
from .._interfaces.selection import InterfacesLike, Selection, without_zone, zone_of
from .events import EventStream
from .join_request import JoinRequest
from .memberships import Memberships


class RunningReceiver(metaclass=NoPublicConstructor):
    """The memberships of a running receiver.

    `run_receiver` hands one out when it has started; every `MulticastReceiver` is one.
    """

    def __init__(self, memberships: Memberships) -> None:
        self._memberships = memberships

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
          trio.ClosedResourceError: the receiver was closed
        """
        request = JoinRequest.parse(group, sources, interfaces)
        await self._checkpoint()
        self._memberships.join([request])

    async def leave(self, group: GroupLike, *, interfaces: InterfacesLike = None) -> None:
        """Hear a group no more: everywhere, or on the interfaces given.

        What had arrived before can still be received.

        Raises:
          MulticastError: the group is not joined there
          trio.ClosedResourceError: the receiver was closed
        """
        parsed = parse_group(group)
        selection = Selection.parse(interfaces).in_zone(parsed.zone)
        await self._checkpoint()
        self._memberships.leave(parsed, selection)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def joined(
        self,
        group: GroupLike,
        *,
        sources: SourceLike | Iterable[SourceLike] = (),
        interfaces: InterfacesLike = None,
    ) -> AsyncIterator[None]:
        """`join` for as long as the block lasts."""
        request = JoinRequest.parse(group, sources, interfaces)
        await self._checkpoint()
        self._memberships.join([request])
        try:
            yield
        finally:
            if not self._memberships.is_closed:
                self._memberships.cancel(request)

    def set_sources(
        self,
        group: GroupLike,
        sources: SourceLike | Iterable[SourceLike],
        *,
        mode: FilterMode = "include",
        interfaces: InterfacesLike = None,
    ) -> None:
        """Say anew whom of a group's senders to hear (RFC 3678's full-state call).

        It works whole or not at all, on each interface of the group, or on those given. There is no
        limit to the number of sources. Linux takes 10 for an IPv4 group by default (``sysctl
        net.ipv4.igmp_max_msf``) and 64 for IPv6 (``net.ipv6.mld_max_msf``): further ones to include
        go to further sockets, further ones to exclude are dropped after reading.

        Args:
          group: a group that was joined
          sources: the senders. One with a zone (``"fe80::1%eth0"``) is a sender on that interface
          mode: ``"include"``: hear only them, at least one. ``"exclude"``: hear everyone but them;
            with none, that is any-source multicast
          interfaces: where; None: everywhere, also on interfaces that appear later

        Raises:
          AddressError, ValueError, TypeError: an argument is wrong, or the group is one of the
            source-specific ranges and the mode "exclude"
          MulticastError: the group is not joined there, or nobody would be heard
          SocketSetupError: the kernel refused; then the filter is as it was
          trio.ClosedResourceError: the receiver was closed
        """
        parsed_sources = parse_sources(sources)
        if mode not in get_args(FilterMode):
            raise ValueError(f'mode={mode!r} is neither "include" nor "exclude"')
        selection = Selection.parse(interfaces)
        self._change_filter(group, selection, lambda _old: SourceFilter(mode, parsed_sources))

    def add_source(
        self, group: GroupLike, source: SourceLike, *, interfaces: InterfacesLike = None
    ) -> None:
        """Hear one more sender, where only named ones are heard.

        Raises: as `set_sources`, and
          MulticastError: it is heard already, since all are or since it was named before
        """
        self._change_one(group, source, interfaces, SourceFilter.adding)

    def remove_source(
        self, group: GroupLike, source: SourceLike, *, interfaces: InterfacesLike = None
    ) -> None:
        """Hear one sender less, where only named ones are heard.

        Raises: as `set_sources`, and
          MulticastError: it is not one of those named, or is the last
        """
        self._change_one(group, source, interfaces, SourceFilter.removing)

    def block_source(
        self, group: GroupLike, source: SourceLike, *, interfaces: InterfacesLike = None
    ) -> None:
        """Hear everyone as before but this sender.

        Raises: as `set_sources`, and
          MulticastError: it is blocked already, or only named sources are heard
        """
        self._change_one(group, source, interfaces, SourceFilter.blocking)

    def unblock_source(
        self, group: GroupLike, source: SourceLike, *, interfaces: InterfacesLike = None
    ) -> None:
        """Hear a sender again that was blocked.

        Raises: as `set_sources`, and
          MulticastError: it is not blocked
        """
        self._change_one(group, source, interfaces, SourceFilter.unblocking)

    def memberships(self) -> tuple[MembershipStatus, ...]:
        """Every membership as it is now, in the order of joining."""
        self._check_open()
        return self._memberships.statuses()

    def events(self) -> EventStream[MembershipStatus]:
        """A stream of what happens to the memberships from now on: the new status of each::

            async for status in receiver.events():
                print(status.group, status.interface.name, status.state)

        A status that is like the one before means that the group was joined anew, since the
        kernel or a switch had forgotten it. The stream ends with the receiver.
        """
        self._check_open()
        return self._memberships.events.subscribe()

    def statistics(self) -> ReceiverStatistics:
        """What was received and what was lost since the receiver was opened.

        It works after closing as well, and then returns the last figures.
        """
        return self._memberships.statistics()

    def _change_one(
        self,
        group: GroupLike,
        source: SourceLike,
        interfaces: InterfacesLike,
        change: Callable[[SourceFilter, IPv4Address | IPv6Address], SourceFilter],
    ) -> None:
        parsed = parse_source(source)
        selection = Selection.parse(interfaces).in_zone(zone_of(parsed))
        own = without_zone(parsed)
        self._change_filter(group, selection, lambda old: change(old, own))

    def _change_filter(
        self,
        group: GroupLike,
        selection: Selection,
        change: Callable[[SourceFilter], SourceFilter],
    ) -> None:
        parsed = parse_group(group)
        self._check_open()
        self._memberships.change_filter(parsed, selection.in_zone(parsed.zone), change)

    async def _checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()

    def _check_open(self) -> None:
        if self._memberships.is_closed:
            raise trio.ClosedResourceError("this receiver was closed")


Listener = RunningReceiver
"""An older name, which goes on working."""
