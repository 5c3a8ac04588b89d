"""What to ask of the operating system for one socket: the policy of this library, as values.

A receiver has one socket for each group on each interface. That way the socket alone says which
group and interface a datagram came by, a group never arrives by an interface nobody chose, and the
limits on memberships per socket are far away. Nothing here touches a socket; what can be refused
without one is refused here.

The order is part of a plan: all options, then bind, then join. An option that is set after bind
lets stray datagrams in before it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, NamedTuple, get_args

from .._errors import AddressError, SocketSetupError
from .addresses import (
    Group,
    IPAddress,
    check_sendable,
    ipv6_scope,
    parse_group,
    parse_port,
    parse_source,
    parse_sources,
    sources_for,
)
from .datagram import SocketAddress
from .filters import SourceFilter
from .interfaces import Interface
from .options import (
    SocketOption,
    int_option,
    named_option,
    pack_group_filter,
    pack_group_req,
    pack_group_source_req,
    pack_index,
    pack_index_as_address,
    pack_ip_mreq,
    pack_ip_mreqn,
    pack_ipv6_mreq,
    pack_name,
)
from .packet_info import PacketInfoName, packet_info_options, parse_packet_info
from .platforms import Family, FilterMode, OptionName, Platform
from .selection import ByName
from .values import batched, check_byte, check_flag, parse_buffer_size

DEFAULT_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of kernel buffer to ask for. The usual default, some 200 KiB, holds 256 small datagrams or
92 of full size: a burst of a thousand loses most of them while the program is busy elsewhere."""

_WILDCARD: Final = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True, slots=True)
class SocketPlan:
    """How to set up one UDP socket.

    Attributes:
      family: AF_INET or AF_INET6, as the platform numbers it
      before_bind: options to set first, in this order
      bind: the address to bind to, as the `socket` module writes it; None: leave it to the system
      after_bind: options to set then, in this order
      if_address_in_use: if bind finds the address in use: set these, and try once more
      after_second_bind: and when that has succeeded, set these before `after_bind`
      group: the group that it is for
      interface: the interface that it is for
      packet_info: what to tell of each datagram
      sorts_strays: the system delivers more than was asked for. Drop what has another destination
        than `group` or came by another interface; the control messages tell
      merges_datagrams: several datagrams of one sender may come as one, and a control message then
        says so. Take them apart
      drops_own: the system has no option to keep away what this host sends. Drop what has one of
        its addresses as source
      drops_sources: the same for senders that the program does not want, beyond those that the
        kernel was told to keep away
      filter: the senders that a receiver's socket is to hear, as the options tell the kernel
      loopback: whether this host is to hear what it sends itself, as far as this socket goes
      hop_limit, traffic_class: what a sender's datagrams carry
      destination: where a sender sends to, as the `socket` module writes it
    """

    family: int
    before_bind: tuple[SocketOption, ...]
    bind: SocketAddress | None
    after_bind: tuple[SocketOption, ...]
    if_address_in_use: tuple[SocketOption, ...] = ()
    after_second_bind: tuple[SocketOption, ...] = ()
    group: IPAddress | None = None
    interface: Interface | None = None
    packet_info: frozenset[PacketInfoName] = frozenset()
    sorts_strays: bool = False
    merges_datagrams: bool = False
    drops_own: bool = False
    drops_sources: frozenset[IPAddress] = frozenset()
    filter: SourceFilter | None = None
    loopback: bool = True
    hop_limit: int | None = None
    traffic_class: int | None = None
    destination: SocketAddress | None = None

    @property
    def options(self) -> tuple[SocketOption, ...]:
        """Every option that is set when nothing goes wrong, in order."""
        return self.before_bind + self.after_bind


# --- Receiving ---------------------------------------------------------------------------------


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

    Raises:
      AddressError: a group or source that cannot be meant
      ValueError: another value out of its range
      TypeError: a value of a wrong type
      NotSupportedError: the system cannot do it
    """
    target = _receiving_target(platform, group, interface)
    senders = _parse_senders(target, sources)
    port = parse_port(port)
    wanted = parse_packet_info(packet_info)
    check_flag("loopback", loopback)
    size = parse_buffer_size("receive_buffer", receive_buffer) or DEFAULT_RECEIVE_BUFFER
    sorts_strays = (
        platform.delivers_strays(target.version) or target.group in platform.delivered_to_everyone
    )
    # What is merged has one time stamp, so who wants time stamps gets datagrams singly.
    merges = platform.receive_merged is not None and "timestamp" not in wanted
    return SocketPlan(
        family=target.family.number,
        before_bind=(
            *_ones(platform.share_port),
            *_keep_to_interface(platform, interface),
            *_keep_to_memberships(target.family),
            *_v6_only(target.family),
            *_receive_buffer(platform, size),
            *packet_info_options(platform, target.version, wanted, destination=sorts_strays),
            *_merged(platform, merges),
            *_loopback_on_receiver(platform, target.family, loopback),
        ),
        bind=_bind_address(target, port),
        after_bind=_join(target, senders),
        # Once bound, SO_REUSEPORT has done its work and is taken back, for what it does to
        # delivery (see `LINUX.share_port`). Seen on Linux 6.18: two sockets with a source each,
        # bound in this way beside a third that has only SO_REUSEPORT, got each other's datagrams
        # in 21 of 50 rounds with the option left on, in none with it taken back.
        if_address_in_use=_ones(platform.share_port_if_in_use),
        after_second_bind=tuple(int_option(name, 0) for name in platform.share_port_if_in_use),
        group=target.group,
        interface=interface,
        packet_info=wanted,
        sorts_strays=sorts_strays,
        merges_datagrams=merges,
        drops_own=not loopback and not platform.loopback_on_receiver,
        filter=SourceFilter.admitting(senders),
        loopback=loopback,
    )


def plan_membership(
    platform: Platform,
    group: object,
    port: int,
    interface: Interface,
    filter_: SourceFilter,
    *,
    loopback: bool = True,
    packet_info: object = (),
    receive_buffer: int | None = None,
) -> tuple[SocketPlan, ...]:
    """The sockets that hear one group on one interface through a source filter: usually one.

    Sources to include beyond what a socket takes go to further sockets; each source has one, so
    nothing arrives twice. Sources to exclude beyond that are left to the reader to drop.

    Raises: as `plan_receiver`
    """
    most = platform.family(parse_group(group).version).most_sources or len(filter_.sources)
    including = filter_.mode == "include"
    parts = batched(filter_.sources, most) if including else [()]
    plans = [
        plan_receiver(
            platform,
            group,
            port,
            interface,
            sources=part,
            loopback=loopback,
            packet_info=packet_info,
            receive_buffer=receive_buffer,
        )
        for part in parts
    ]
    if not including and filter_.sources:
        blocks = tuple(
            plan_block_source(platform, group, interface, source)
            for source in filter_.sources[:most]
        )
        plans[0] = replace(
            plans[0],
            after_bind=plans[0].after_bind + blocks,
            drops_sources=frozenset(filter_.sources[most:]),
            filter=filter_,
        )
    return tuple(plans)


def plan_filter_change(
    platform: Platform,
    group: object,
    interface: Interface,
    old: SourceFilter,
    new: SourceFilter,
) -> SocketOption | None:
    """Change the filter of a joined socket in one step that either happens whole or not at all.

    Returns:
      None where that cannot be: then plan new sockets, and leave with the old ones
    """
    most = platform.family(parse_group(group).version).most_sources
    if most is not None and max(len(old.sources), len(new.sources)) > most:
        return None
    if (change := plan_filter(platform, group, interface, new.mode, new.sources)) is not None:
        return change
    if old.mode != new.mode:
        return None
    gone, came = set(old.sources) - set(new.sources), set(new.sources) - set(old.sources)
    if len(gone) + len(came) != 1:
        return None
    (source,) = gone or came
    including = new.mode == "include"
    if came:
        plan = plan_add_source if including else plan_block_source
    else:
        plan = plan_remove_source if including else plan_unblock_source
    return plan(platform, group, interface, source)


def plan_leave(
    platform: Platform, group: object, interface: Interface, sources: object = ()
) -> tuple[SocketOption, ...]:
    """Leave a group that was joined with these sources: all of them go with it.

    Not source by source: on macOS an empty membership would remain. It works also with the index of
    an interface that is gone.
    """
    target = _receiving_target(platform, group, interface)
    name = target.family.membership.leave_group
    # What was joined with sources was not joined in the older way, so is not left in it either.
    older = None if parse_sources(sources) else target.family.older_leave
    return (_group_option(target, name, older),)


def plan_add_source(
    platform: Platform, group: object, interface: Interface, source: object
) -> SocketOption:
    """Hear one more sender, on a membership that hears named senders only."""
    return _plan_source(platform, group, interface, source, "join_source_group")


def plan_remove_source(
    platform: Platform, group: object, interface: Interface, source: object
) -> SocketOption:
    """No longer hear a sender that was added."""
    return _plan_source(platform, group, interface, source, "leave_source_group")


def plan_block_source(
    platform: Platform, group: object, interface: Interface, source: object
) -> SocketOption:
    """No longer hear a sender, on a membership that hears everyone."""
    return _plan_source(platform, group, interface, source, "block_source")


def plan_unblock_source(
    platform: Platform, group: object, interface: Interface, source: object
) -> SocketOption:
    """Hear a sender again that was blocked."""
    return _plan_source(platform, group, interface, source, "unblock_source")


def plan_filter(
    platform: Platform,
    group: object,
    interface: Interface,
    mode: FilterMode,
    sources: object = (),
) -> SocketOption | None:
    """Replace the source filter of a membership in one step.

    Returns:
      None where the system has no option for it: then compose it of single sources. On Linux,
      including nobody leaves the group, and the group must have been joined before.

    Raises:
      ValueError: an unknown mode
      AddressError: a source of the other IP version
    """
    target = _receiving_target(platform, group, interface)
    if mode not in get_args(FilterMode):
        raise ValueError(f"mode {mode!r} is unknown; there are: {', '.join(get_args(FilterMode))}")
    senders = tuple(_same_version(target, source) for source in parse_sources(sources))
    name = target.family.membership.set_filter
    if name is None:
        return None
    listed = ", ".join(map(str, senders)) or "nobody"
    value = pack_group_filter(platform, interface.index, target.group, mode, senders)
    return named_option(name, value, f" {mode} {listed}: {target}")


class _Target(NamedTuple):
    """A group on an interface, and the system it is planned for."""

    platform: Platform
    family: Family
    group: IPAddress
    interface: Interface

    def __str__(self) -> str:
        return f"{self.group} on {_shown(self.interface)}"

    @property
    def version(self) -> Literal[4, 6]:
        return self.family.version


def _shown(interface: Interface) -> str:
    return f"{interface.friendly_name} ({interface.index})"


def _receiving_target(platform: Platform, group: object, interface: Interface) -> _Target:
    target, parsed = _target(platform, group, interface)
    if parsed.zone is not None and not ByName(parsed.zone).matches(interface):
        raise AddressError(f"{parsed} is not on {_shown(interface)}")
    return target


def _target(platform: Platform, group: object, interface: Interface) -> tuple[_Target, Group]:
    if not isinstance(interface, Interface):
        raise TypeError(f"{interface!r} is not an Interface, as list_interfaces() gives them")
    parsed = parse_group(group)
    return _Target(platform, platform.family(parsed.version), parsed.address, interface), parsed


def _parse_senders(target: _Target, sources: object) -> tuple[IPAddress, ...]:
    return sources_for(Group(target.group), parse_sources(sources))


def _same_version(target: _Target, source: IPAddress) -> IPAddress:
    if source.version != target.version:
        raise AddressError(f"{source} cannot send to {target.group}: it is of the other IP version")
    return source


def _ones(names: tuple[OptionName, ...]) -> tuple[SocketOption, ...]:
    return tuple(int_option(name, 1) for name in names)


def _merged(platform: Platform, merges: bool) -> tuple[SocketOption, ...]:
    """Linux has it from 5.0 on; without it datagrams just come singly."""
    if platform.receive_merged is None or not merges:
        return ()
    return (int_option(platform.receive_merged, 1, optional=True),)


def _keep_to_interface(platform: Platform, interface: Interface) -> tuple[SocketOption, ...]:
    """Free for every user since Linux 5.7, as long as the socket was not bound to one before."""
    if platform.bind_to_interface is None:
        return ()
    subject = f"={interface.index} ({interface.name})"
    by_name = platform.bind_to_interface_by_name
    return (
        named_option(
            platform.bind_to_interface,
            pack_index(interface.index),
            subject,
            fallback=by_name
            and named_option(by_name, pack_name(interface.name), f"={interface.name}"),
        ),
    )


def _keep_to_memberships(family: Family) -> tuple[SocketOption, ...]:
    """Keep away what only others have joined.

    For IPv6 on Linux it does not tell interfaces apart, so it cannot stand alone.
    """
    return () if family.multicast_all is None else (int_option(family.multicast_all, 0),)


def _v6_only(family: Family) -> tuple[SocketOption, ...]:
    return () if family.v6_only is None else (int_option(family.v6_only, 1),)


def _receive_buffer(platform: Platform, size: int) -> tuple[SocketOption, ...]:
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


def _bind_address(target: _Target, port: int) -> SocketAddress:
    host = str(target.group) if target.platform.binds_to_group else _WILDCARD[target.version]
    if target.version == 4:
        return (host, port)
    scope_id = _scope_id(target.group, target.interface) if target.platform.binds_to_group else 0
    return (host, port, 0, scope_id)


def _scope_id(group: IPAddress, interface: Interface) -> int:
    """The interface's index for groups that each interface has for itself (scopes 1 and 2).

    Linux needs it to bind to those, and pays no attention to it for other scopes (seen on 6.18 with
    scopes 4, 5, 8 and E): there it is 0, so as not to look like a choice.
    """
    return interface.index if ipv6_scope(group) in (1, 2) else 0


def _join(target: _Target, senders: tuple[IPAddress, ...]) -> tuple[SocketOption, ...]:
    names = target.family.membership
    if not senders:
        return (_group_option(target, names.join_group, target.family.older_join),)
    return tuple(_source_option(target, names.join_source_group, sender) for sender in senders)


def _group_option(target: _Target, name: OptionName, older: OptionName | None) -> SocketOption:
    return named_option(
        name,
        pack_group_req(target.platform, target.interface.index, target.group),
        f" {target}",
        fallback=older and _older_group_option(target, older),
    )


def _older_group_option(target: _Target, name: OptionName) -> SocketOption:
    """For systems without ``MCAST_*``: Wine 8 is one, and takes no index for an address either."""
    subject = f" {target}"
    index = target.interface.index
    if isinstance(target.group, IPv6Address):
        return named_option(name, pack_ipv6_mreq(target.group, index), subject)
    group = target.group
    by_address = [
        named_option(name, pack_ip_mreq(group, address.packed), f" {group} on {address}")
        for address in _ipv4_addresses(target.interface)[:1]
    ]
    return named_option(
        name,
        pack_ip_mreq(group, pack_index_as_address(index)),
        subject,
        fallback=by_address[0] if by_address else None,
    )


def _plan_source(
    platform: Platform,
    group: object,
    interface: Interface,
    source: object,
    option: Literal["join_source_group", "leave_source_group", "block_source", "unblock_source"],
) -> SocketOption:
    target = _receiving_target(platform, group, interface)
    name: OptionName = getattr(target.family.membership, option)
    return _source_option(target, name, _same_version(target, parse_source(source)))


def _source_option(target: _Target, name: OptionName, source: IPAddress) -> SocketOption:
    value = pack_group_source_req(target.platform, target.interface.index, target.group, source)
    return named_option(name, value, f" {target.group} from {source} on {_shown(target.interface)}")


# --- Sending -----------------------------------------------------------------------------------


def plan_sender(
    platform: Platform,
    group: object,
    port: int,
    interface: Interface,
    *,
    hop_limit: int = 1,
    loopback: bool = True,
    traffic_class: int | None = None,
    source: object = None,
    source_port: int = 0,
    send_buffer: int | None = None,
) -> SocketPlan:
    """The socket that sends to a group, or to any other of its IP version, by one interface.

    The hop limit is that of multicast only: what is sent to a host keeps the system's.

    Without `source` and `source_port` the socket is left unbound: the system binds it at the first
    send. Of several IPv4 addresses on the interface the system takes its first that is valid beyond
    the link; `source` is for who wants another.

    Args:
      platform: the system to plan for; it need not be this one
      group: text or an address. A zone is not looked at: the interface is chosen already
      port: 1 to 65535
      interface: as `list_interfaces` gives it
      hop_limit: 0 to 255. 0 is for this host only, but see `open_sender` about Linux
      loopback: whether this host may hear what it sends (on Windows the receiver decides)
      traffic_class: the byte with DSCP and ECN, 0 to 255; None: the system's
      source: the address to send from, one of this host's
      source_port: the port to send from; 0: any
      send_buffer: bytes of kernel buffer to ask for; None: the system's

    Raises:
      AddressError: a group that cannot be sent to, a source that cannot be meant
      ValueError: another value out of its range
      TypeError: a value of a wrong type
      SocketSetupError: the interface has no IPv4 address to send from
    """
    target, parsed = _target(platform, group, interface)
    check_sendable(parsed)
    port = parse_port(port)
    source_port = parse_port(source_port, zero_allowed=True)
    sender = None if source is None else _same_version(target, parse_source(source))
    check_byte("hop_limit", hop_limit)
    check_flag("loopback", loopback)
    if hop_limit == 0 and not loopback:
        raise ValueError("hop_limit=0 with loopback=False reaches nobody")
    if traffic_class is not None:
        check_byte("traffic_class", traffic_class)
    size = parse_buffer_size("send_buffer", send_buffer)
    if sender is None:
        _check_source_address(target)
    family = target.family
    return SocketPlan(
        family=family.number,
        before_bind=(
            *(_port_of_others(platform, family) if source_port else ()),
            *_v6_only(family),
            _send_by(target, sender),
            int_option(family.hop_limit, hop_limit),
            int_option(family.loopback, loopback),
            *(() if traffic_class is None else (int_option(family.traffic_class, traffic_class),)),
            *_report_errors(family),
            *_send_buffer(platform, size),
        ),
        bind=_source_address(target, sender, source_port),
        after_bind=(),
        group=target.group,
        interface=interface,
        loopback=loopback,
        hop_limit=hop_limit,
        traffic_class=traffic_class,
        destination=plan_destination(target.group, port, interface),
    )


def plan_destination(group: IPAddress, port: int, interface: Interface) -> SocketAddress:
    """The address to send to, as the `socket` module writes it."""
    if group.version == 4:
        return (str(group), port)
    return (str(group), port, 0, _scope_id(group, interface))


def _check_source_address(target: _Target) -> None:
    """Refuse what Linux would do instead: send from another interface's address, or from 0.0.0.0.

    Receivers drop both without a word (the first if they filter by reverse path). An IPv6 socket
    gets EADDRNOTAVAIL from the kernel itself.
    """
    if target.version == 6 or _ipv4_addresses(target.interface):
        return
    refusal = SocketSetupError(
        f"choose a source address on {target.interface}",
        OSError(errno.EADDRNOTAVAIL, "the interface has no IPv4 address"),
        interface=target.interface,
        group=target.group,
    )
    refusal.add_note(
        "Give the interface an IPv4 address, send by another interface, or name an address of this "
        "host with source=. Receivers drop datagrams that come from 0.0.0.0, and may drop those "
        "that come from an address of another network."
    )
    raise refusal


def _ipv4_addresses(interface: Interface) -> list[IPv4Address]:
    return [IPv4Address(int(a.ip)) for a in interface.addresses if a.version == 4]


def _port_of_others(platform: Platform, family: Family) -> tuple[SocketOption, ...]:
    """A port that was asked for may be in use by receivers.

    A sender bound there would also be handed the groups that others have joined, and keep them in
    its buffer for ever (seen on Linux 6.18, both IP versions).
    """
    return (*_ones(platform.share_port), *_keep_to_memberships(family))


def _send_by(target: _Target, sender: IPAddress | None) -> SocketOption:
    """The interface is chosen by its index, which needs no route."""
    index = target.interface.index
    name = target.family.multicast_interface
    subject = f"={index} ({target.interface.friendly_name})"
    match target.family.interface_form:
        case "ip_mreqn":
            address = None if sender else _narrow_address(target.interface)
            if address is not None:
                subject += f", source {address}"
            return named_option(name, pack_ip_mreqn(index, address=address), subject)
        case "index":
            return named_option(name, pack_index(index), subject)
        case "index as address":
            by_address = [
                named_option(name, address.packed, f"={address}")
                for address in _ipv4_addresses(target.interface)[:1]
            ]
            return named_option(
                name,
                pack_index_as_address(index),
                subject,
                fallback=by_address[0] if by_address else None,
            )


def _narrow_address(interface: Interface) -> IPv4Address | None:
    """The interface's address if it has but such as are valid on the host or the link only.

    Linux prefers another interface's address to those, and 0.0.0.0 to none (seen on 6.18 with
    127.0.0.1 on lo, and with 169.254.0.0/16 as DHCP clients set it), so it must be named. One that
    is valid everywhere is better not named: the kernel takes it by itself, and follows when DHCP
    replaces it.
    """
    addresses = _ipv4_addresses(interface)
    if all(address.is_loopback or address.is_link_local for address in addresses):
        return next(iter(addresses), None)
    return None


def _report_errors(family: Family) -> tuple[SocketOption, ...]:
    """Have a full queue of the interface reported: Linux drops the datagram in silence otherwise.

    Hazard: what was sent to a host (not to a group) and met a closed port is then reported too, by
    whatever is sent next (ECONNREFUSED, once), and until the error queue is read (MSG_ERRQUEUE)
    polling says that the socket has an error.
    """
    return () if family.report_errors is None else (int_option(family.report_errors, 1),)


def _send_buffer(platform: Platform, size: int | None) -> tuple[SocketOption, ...]:
    least = platform.smallest_send_buffer
    if size is None and least is None:
        return ()
    size = max(size or 0, least or 0)
    beyond = platform.send_buffer_beyond_limit
    return (
        int_option(platform.send_buffer, size, optional=platform.refuses_large_buffers),
        *(() if beyond is None else (int_option(beyond, size, optional=True),)),
    )


def _source_address(
    target: _Target, source: IPAddress | None, source_port: int
) -> SocketAddress | None:
    if source is None and source_port == 0:
        return None
    host = _WILDCARD[target.version] if source is None else str(source)
    if target.version == 4:
        return (host, source_port)
    link_local = source is not None and source.is_link_local
    return (host, source_port, 0, target.interface.index if link_local else 0)
