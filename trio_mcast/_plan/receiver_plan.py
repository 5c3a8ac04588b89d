"""What to ask of the operating system for a socket that receives: the policy, as values.

A receiver has one socket for each group on each interface. That way the socket alone says which
group and interface a datagram came by, a group never arrives by an interface nobody chose, and the
limits on memberships per socket are far away. Nothing here touches a socket; what can be refused
without one is refused here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .._addresses.parsing import (
    Group,
    IPAddress,
    check_sources,
    parse_group,
    parse_port,
    parse_sources,
    sources_for,
)
from .._base.datagram import SocketAddress
from .._base.errors import AddressError
from .._base.interface import Interface
from .._base.source_filter import SourceFilter
from .._base.values import batched, check_flag, parse_buffer_size
from .._interfaces.selection import ByName, addresses_on
from .joining import plan_block, plan_join
from .options import (
    SocketOption,
    int_option,
    named_option,
    pack_index,
    pack_name,
)
from .packet_info import PacketInfoName, packet_info_options, parse_packet_info
from .platforms import Family, Platform
from .socket_plan import (
    WILDCARD,
    SocketPlan,
    Target,
    check_interface,
    check_platform,
    keep_to_memberships,
    ones,
    scope_id,
    share_port_if_in_use,
    show,
    v6_only,
)

DEFAULT_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of kernel buffer to ask for. The usual default, some 200 KiB, holds 256 small datagrams or
92 of full size: a burst of a thousand loses most of them while the program is busy elsewhere."""

_MOST_KNOWN: Final = 16


def plan_receiver(
    platform: Platform,
    group: object,
    port: int,
    interface: Interface,
    *,
    sources: object = (),
    loopback: bool = True,
    packet_info: object = (),
    receive_buffer: int | None = None,
    exact_losses: bool = False,
) -> SocketPlan:
    """The socket that hears one group on one interface.

    Args:
      platform: the system to plan for; it need not be this one
      group: text or an address
      port: 1 to 65535
      interface: as `list_interfaces` gives it
      sources: the senders to hear; none means everyone
      loopback: whether to hear what this host sends
      packet_info: any of "hop_limit", "timestamp", "traffic_class"
      receive_buffer: bytes of kernel buffer to ask for; None: 4 MiB
      exact_losses: have the kernel merge nothing, so that it counts what it drops one by one

    Raises:
      AddressError: a group or source that cannot be meant
      ValueError: another value out of its range
      TypeError: a value of a wrong type
      NotSupportedError: the system cannot do it
    """
    platform, interface = check_platform(platform), check_interface(interface)
    parsed = parse_group(group)
    if parsed.zone is not None and not ByName(parsed.zone).matches(interface):
        raise AddressError(f"{parsed} is not on {show(interface)}")
    named = sources_for(Group(parsed.address), parse_sources(sources))
    senders = addresses_on(named, interface)
    if named and not senders:
        raise AddressError(f"{named[0]} is not on {show(interface)}")
    planner = ReceiverPlanner.parse(
        platform,
        port,
        loopback=loopback,
        packet_info=packet_info,
        receive_buffer=receive_buffer,
        exact_losses=exact_losses,
    )
    return planner.plan_socket(parsed.address, interface, senders)


class ReceiverPlanner:
    """Plans the sockets of one receiver. What they have in common is worked out once.

    Attributes:
      platform: the system to plan for
      port: the port of every socket
      loopback: whether to hear what this host sends
    """

    def __init__(
        self,
        platform: Platform,
        port: int,
        *,
        loopback: bool,
        packet_info: frozenset[PacketInfoName],
        receive_buffer: int,
        exact_losses: bool,
    ) -> None:
        self.platform: Platform = platform
        self.port: int = port
        self.loopback: bool = loopback
        self._packet_info = packet_info
        self._receive_buffer = receive_buffer
        # What is merged has one time stamp, and is counted as one if it is dropped.
        needs_singles = exact_losses or "timestamp" in packet_info
        self._merges = platform.receive_merged is not None and not needs_singles
        self._if_address_in_use, self._after_second_bind = share_port_if_in_use(platform)
        self._known_options: dict[tuple[int, str, int, bool], tuple[SocketOption, ...]] = {}

    @classmethod
    def parse(
        cls,
        platform: Platform,
        port: object,
        *,
        loopback: object,
        packet_info: object,
        receive_buffer: object,
        exact_losses: object = False,
    ) -> ReceiverPlanner:
        """From what a caller wrote.

        Raises:
          ValueError, TypeError: a value is wrong
          NotSupportedError: the system cannot do it
        """
        wanted = parse_packet_info(packet_info)
        packet_info_options(platform, 4, wanted)  # which says what this system cannot tell
        return cls(
            platform,
            parse_port(port),
            loopback=check_flag("loopback", loopback),
            packet_info=wanted,
            receive_buffer=(
                parse_buffer_size("receive_buffer", receive_buffer) or DEFAULT_RECEIVE_BUFFER
            ),
            exact_losses=check_flag("exact_losses", exact_losses),
        )

    def plan(
        self, group: IPAddress, interface: Interface, filter_: SourceFilter
    ) -> tuple[SocketPlan, ...]:
        """The sockets that hear one group on one interface through a source filter: usually one.

        Sources to include beyond what a socket takes go to further sockets; each source has one, so
        nothing arrives twice. Sources to exclude beyond that are left to be dropped after reading.

        Raises:
          AddressError: a source of another IP version, or none where the group needs one
        """
        sources = filter_.sources
        check_sources(group, filter_.mode, sources)
        most = self.platform.family(group.version).most_sources or len(sources)
        if filter_.mode == "include":
            parts = batched(sources, most)
            return tuple(self.plan_socket(group, interface, tuple(part)) for part in parts)
        plan = self.plan_socket(group, interface, ())
        if not sources:
            return (plan,)
        target = Target.of(self.platform, group, interface)
        blocks = tuple(plan_block(target, source) for source in sources[:most])
        plan = replace(
            plan,
            after_bind=plan.after_bind + blocks,
            drops_sources=frozenset(sources[most:]),
            filter=filter_,
        )
        return (plan,)

    def plan_socket(
        self, group: IPAddress, interface: Interface, senders: tuple[IPAddress, ...]
    ) -> SocketPlan:
        """One socket that hears some senders, or with none named, everyone."""
        platform = self.platform
        target = Target.of(platform, group, interface)
        sorts_strays = (
            platform.delivers_strays(group.version) or group in platform.delivered_to_everyone
        )
        return SocketPlan(
            family=target.family.number,
            before_bind=self._before_bind(target, sorts_strays),
            bind=_bind_address(target, self.port),
            after_bind=plan_join(target, senders),
            if_address_in_use=self._if_address_in_use,
            after_second_bind=self._after_second_bind,
            group=group,
            interface=interface,
            packet_info=self._packet_info,
            sorts_strays=sorts_strays,
            merges_datagrams=self._merges,
            drops_own=not self.loopback and not platform.loopback_on_receiver,
            filter=SourceFilter.admitting(senders),
            loopback=self.loopback,
        )

    def _before_bind(self, target: Target, sorts_strays: bool) -> tuple[SocketOption, ...]:
        """What does not depend on the group. A receiver may be opened with a thousand groups."""
        interface, version = target.interface, target.family.version
        key = (interface.index, interface.name, version, sorts_strays)
        options = self._known_options.get(key)
        if options is None:
            platform, family, wanted = self.platform, target.family, self._packet_info
            options = (
                *ones(platform.share_port),
                *_keep_to_interface(platform, interface),
                *keep_to_memberships(family, is_bound=platform.bind_to_interface is not None),
                *v6_only(family),
                *_ask_for_buffer(platform, self._receive_buffer),
                *packet_info_options(platform, version, wanted, destination=sorts_strays),
                *_merged(platform, self._merges),
                *_loopback_on_receiver(platform, family, self.loopback),
            )
            if len(self._known_options) >= _MOST_KNOWN:  # interfaces come and go
                self._known_options.clear()
            self._known_options[key] = options
        return options


def _merged(platform: Platform, merges: bool) -> tuple[SocketOption, ...]:
    """Linux has it from 5.0 on; without it datagrams just come singly."""
    if platform.receive_merged is None or not merges:
        return ()
    return (int_option(platform.receive_merged, 1, optional=True),)


def _keep_to_interface(platform: Platform, interface: Interface) -> tuple[SocketOption, ...]:
    """Free for every user since Linux 5.7, as long as the socket was not bound to one before."""
    if platform.bind_to_interface is None:
        return ()
    index, name = interface.index, interface.name
    by_name = platform.bind_to_interface_by_name
    return (
        named_option(
            platform.bind_to_interface,
            pack_index(index),
            f"={index} ({name})",
            fallback=by_name and named_option(by_name, pack_name(name), f"={name}"),
        ),
    )


def _ask_for_buffer(platform: Platform, size: int) -> tuple[SocketOption, ...]:
    """As much as the system gives, then past the limit for those who may."""
    beyond = platform.receive_buffer_beyond_limit
    return (
        int_option(platform.receive_buffer, size, optional=platform.refuses_large_buffers),
        *(() if beyond is None else (int_option(beyond, size, optional=True),)),
    )


def _loopback_on_receiver(
    platform: Platform, family: Family, loopback: bool
) -> tuple[SocketOption, ...]:
    return (int_option(family.loopback, loopback),) if platform.loopback_on_receiver else ()


def _bind_address(target: Target, port: int) -> SocketAddress:
    binds_to_group, version = target.platform.binds_to_group, target.group.version
    host = target.text if binds_to_group else WILDCARD[version]
    if version == 4:
        return (host, port)
    return (host, port, 0, scope_id(target.group, target.interface) if binds_to_group else 0)
