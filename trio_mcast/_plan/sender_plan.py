"""What to ask of the operating system for a socket that sends: the policy, as values."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from .._addresses.parsing import (
    IPAddress,
    check_sendable,
    check_source,
    parse_group,
    parse_port,
    parse_source,
)
from .._base.datagram import SocketAddress
from .._base.errors import SocketSetupError
from .._base.interface import Interface, ipv4_addresses
from .._base.values import check_byte, check_flag, parse_buffer_size
from .._interfaces.selection import without_zone
from .options import (
    SocketOption,
    int_option,
    named_option,
    pack_index,
    pack_index_as_address,
    pack_ip_mreqn,
)
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
    v6_only,
)


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
      source: the address to send from, one of this host's. Its zone is not looked at, either
      source_port: the port to send from; 0: any
      send_buffer: bytes of kernel buffer to ask for; None: the system's

    Raises:
      AddressError: a group that cannot be sent to, a source that cannot be meant
      ValueError: another value out of its range
      TypeError: a value of a wrong type
      SocketSetupError: the interface has no IPv4 address to send from, or no IPv6
    """
    planner = SenderPlanner.parse(
        check_platform(platform),
        parse_group(group).address,
        port,
        hop_limit=hop_limit,
        loopback=loopback,
        traffic_class=traffic_class,
        source=source,
        source_port=source_port,
        send_buffer=send_buffer,
    )
    return planner.plan(check_interface(interface))


@dataclass(frozen=True)
class SenderPlanner:
    """Plans the sockets of one sender, one for each interface. Fields are as in `plan_sender`."""

    platform: Platform
    group: IPAddress
    port: int
    hop_limit: int
    loopback: bool
    traffic_class: int | None
    source: IPAddress | None
    source_port: int
    send_buffer: int | None

    @classmethod
    def parse(
        cls,
        platform: Platform,
        group: IPAddress,
        port: object,
        *,
        hop_limit: int,
        loopback: object,
        traffic_class: int | None,
        source: object,
        source_port: object,
        send_buffer: object,
    ) -> SenderPlanner:
        """From what a caller wrote.

        Raises:
          AddressError, ValueError, TypeError: a value is wrong
        """
        check_sendable(group)
        check_byte("hop_limit", hop_limit)
        if hop_limit == 0 and not check_flag("loopback", loopback):
            raise ValueError("hop_limit=0 with loopback=False reaches nobody")
        if traffic_class is not None:
            check_byte("traffic_class", traffic_class)
        sender = None if source is None else without_zone(parse_source(source))
        if sender is not None:
            check_source(group, sender)
        return cls(
            platform,
            group,
            parse_port(port),
            hop_limit,
            check_flag("loopback", loopback),
            traffic_class,
            sender,
            parse_port(source_port, zero_allowed=True),
            parse_buffer_size("send_buffer", send_buffer),
        )

    def plan(self, interface: Interface) -> SocketPlan:
        """The socket that sends by an interface.

        Raises:
          SocketSetupError: it has no IPv4 address to send from, or no IPv6
        """
        target = Target.of(self.platform, self.group, interface)
        _check_source_address(target, self.source)
        family, traffic_class = target.family, self.traffic_class
        if_in_use, after_second_bind = (
            share_port_if_in_use(self.platform) if self.source_port else ((), ())
        )
        return SocketPlan(
            family=family.number,
            before_bind=(
                *(_port_of_others(self.platform, family) if self.source_port else ()),
                *v6_only(family),
                _send_by(target, self.source),
                int_option(family.hop_limit, self.hop_limit),
                int_option(family.loopback, self.loopback),
                *(
                    ()
                    if traffic_class is None
                    else (int_option(family.traffic_class, traffic_class),)
                ),
                *_report_errors(family),
                *_tell_interface_of_answers(family),
                *_send_buffer(self.platform, self.send_buffer),
            ),
            bind=_source_address(target, self.source, self.source_port),
            after_bind=(),
            if_address_in_use=if_in_use,
            after_second_bind=after_second_bind,
            group=self.group,
            interface=interface,
            loopback=self.loopback,
            hop_limit=self.hop_limit,
            traffic_class=traffic_class,
            destination=plan_destination(self.group, self.port, interface),
        )


def plan_destination(group: IPAddress, port: int, interface: Interface) -> SocketAddress:
    """The address to send to, as the `socket` module writes it."""
    if group.version == 4:
        return (str(group), port)
    return (str(group), port, 0, scope_id(group, interface))


def _check_source_address(target: Target, source: IPAddress | None) -> None:
    """Refuse what can never be sent, or not as it should be.

    Without an IPv4 address Linux would send from another interface's, or from 0.0.0.0. Receivers
    drop both without a word (the first if they filter by reverse path). Without IPv6 it would
    refuse every datagram.
    """
    version, interface = target.group.version, target.interface
    if interface.has_ipv6 if version == 6 else source or ipv4_addresses(interface):
        return
    lacking = "IPv6: it is off there" if version == 6 else "IPv4 address"
    refusal = SocketSetupError(
        f"choose a source address on {interface}",
        OSError(errno.EADDRNOTAVAIL, f"the interface has no {lacking}"),
        interface=interface,
        group=target.group,
    )
    refusal.add_note(_NOTES[version])
    raise refusal


_NOTES: Final = {
    4: "Give the interface an IPv4 address, send by another interface, or name an address of this "
    "host with source=. Receivers drop datagrams that come from 0.0.0.0, and may drop those that "
    "come from an address of another network.",
    6: "Send by another interface, or switch IPv6 on there. On Linux it is off where the setting "
    "net.ipv6.conf.INTERFACE.disable_ipv6 is 1, or the MTU is below 1280.",
}


def _port_of_others(platform: Platform, family: Family) -> tuple[SocketOption, ...]:
    """A port that was asked for may be in use by receivers.

    A sender bound there would also be handed the groups that others have joined, and keep them in
    its buffer for ever (seen on Linux 6.18, both IP versions).
    """
    return (*ones(platform.share_port), *keep_to_memberships(family, is_bound=False))


def _send_by(target: Target, sender: IPAddress | None) -> SocketOption:
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
                for address in ipv4_addresses(target.interface)[:1]
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
    addresses = ipv4_addresses(interface)
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


def _tell_interface_of_answers(family: Family) -> tuple[SocketOption, ...]:
    """Of several sockets that share a port, one gets the answers to all of them."""
    return tuple(int_option(name, 1, optional=True) for name in family.receive_destination)


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
    target: Target, source: IPAddress | None, source_port: int
) -> SocketAddress | None:
    if source is None and source_port == 0:
        return None
    version = target.group.version
    host = WILDCARD[version] if source is None else str(source)
    if version == 4:
        return (host, source_port)
    link_local = source is not None and source.is_link_local
    return (host, source_port, 0, target.interface.index if link_local else 0)
