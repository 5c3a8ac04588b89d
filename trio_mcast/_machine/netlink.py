"""Rtnetlink, the way in which Linux tells about interfaces and routes (rtnetlink(7)).

Unlike ``/sys/class/net`` it belongs to the network namespace of the thread that made the socket,
and any user may ask. Numbers are from ``linux/rtnetlink.h``, ``linux/if_link.h`` and
``linux/netlink.h``; all fields are in host byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import trio

assert not TYPE_CHECKING or sys.platform == "linux"

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26

NLM_F_REQUEST: Final = 0x1
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_QDISC: Final = 6
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_AF_SPEC: Final = 26
IFLA_EXT_MASK: Final = 29
IFLA_CARRIER_CHANGES: Final = 35
IFLA_PROP_LIST: Final = 52
IFLA_ALT_IFNAME: Final = 53
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INET6_CONF: Final = 2
RTEXT_FILTER_SKIP_STATS: Final = 8
DEVCONF_DISABLE_IPV6: Final = 26  # linux/ipv6.h

# RFC 8200 s5. With less, Linux takes IPv6 off an interface, with all its memberships.
LEAST_IPV6_MTU: Final = 1280

IFF_LOWER_UP: Final = 0x10000  # linux/if.h

RTM_NEWMULTICAST: Final = 56
RTM_DELMULTICAST: Final = 57
IFA_ADDRESS: Final = 1  # linux/if_addr.h
IFA_LOCAL: Final = 2
IFA_MULTICAST: Final = 7

RTA_DST: Final = 1
RTA_SRC: Final = 2
RTA_IIF: Final = 3
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_VIA: Final = 18
RTN_LOCAL: Final = 2

# On a host where interfaces come and go all the time the last listing has to do: the changes since
# are announced.
_DUMPS_TO_TRY: Final = 8

NLA_TYPE_MASK: Final = 0x3FFF  # the two top bits are flags (nested, network order)

# nlmsghdr: length, type, flags, sequence number, port
_HEADER: Final = struct.Struct("=IHHII")
# ifinfomsg: family, padding, device type, index, flags, change mask
LINK_HEADER: Final = struct.Struct("=BxHiII")
# ifaddrmsg: family, prefix length, flags, scope, index
_ADDRESS: Final = struct.Struct("=BB2xI")
# rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")


class Message(NamedTuple):
    type: int
    body: bytes
    flags: int = 0


@dataclass(frozen=True)
class Link:
    """What RTM_NEWLINK and RTM_DELLINK tell of an interface.

    Attributes:
      queueing: the kind of its queueing discipline
      master: the index of the interface that it belongs to; 0: none
      port_of: the kind of that: ``bridge``, ``bond``, ``team``, ``vrf``...
      altnames: its alternative names (ip-link(8), ``property add``)
    """

    index: int
    name: str
    flags: int
    mtu: int
    has_carrier: bool
    carrier_changes: int | None
    ipv6: Literal["on", "disabled", "absent"]
    queueing: str
    hardware_address: bytes
    master: int = 0
    port_of: str = ""
    altnames: tuple[str, ...] = ()


class RouteAnswer(NamedTuple):
    """A route: its type (``RTN_LOCAL``...), and where it leads."""

    type: int
    outgoing: int | None
    gateway: IPv4Address | IPv6Address | None


class AddressMessage(NamedTuple):
    """What RTM_NEWADDR and RTM_DELADDR tell, as far as it is read here."""

    version: Literal[4, 6]
    interface_index: int


def is_one(data: bytes, kind: int) -> bool:
    """Whether a netlink datagram is a single message of this kind."""
    return len(data) >= _HEADER.size and _HEADER.unpack_from(data)[:2] == (len(data), kind)


def read_messages(data: bytes) -> Iterator[Message]:
    """Take a netlink datagram apart."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _sequence, _port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, data[offset + _HEADER.size : offset + length], flags)
        offset += _aligned(length)


def read_text(payload: bytes | None) -> str:
    """A name, which may be in any encoding, or none."""
    return (payload or b"").rstrip(b"\0").decode(errors="surrogateescape")


def read_attributes(data: bytes) -> dict[int, bytes]:
    """Take a run of attributes apart: number to payload, the last of a number winning."""
    return dict(walk_attributes(data))


def walk_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a run one by one, for those that there may be several of."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & NLA_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def read_link(body: bytes) -> Link | None:
    """Read the body of a RTM_NEWLINK or RTM_DELLINK message.

    None if it is about another matter than the interface itself: a port of a bridge, say.
    """
    family, _type, index, flags, _change = LINK_HEADER.unpack_from(body)
    if family != socket.AF_UNSPEC:
        return None
    attributes = read_attributes(body[LINK_HEADER.size :])
    changes = attributes.get(IFLA_CARRIER_CHANGES)
    return Link(
        index,
        read_text(attributes.get(IFLA_IFNAME)),
        flags,
        int.from_bytes(attributes.get(IFLA_MTU, b""), sys.byteorder),
        bool(flags & IFF_LOWER_UP),
        int.from_bytes(changes, sys.byteorder) if changes else None,
        _read_ipv6_state(attributes.get(IFLA_AF_SPEC, b"")),
        read_text(attributes.get(IFLA_QDISC)),
        attributes.get(IFLA_ADDRESS, b""),
        read_number(attributes.get(IFLA_MASTER)) or 0,
        read_text(read_attributes(attributes.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_SLAVE_KIND)),
        tuple(
            read_text(value)
            for kind, value in walk_attributes(attributes.get(IFLA_PROP_LIST, b""))
            if kind == IFLA_ALT_IFNAME
        ),
    )


def _read_ipv6_state(af_spec: bytes) -> Literal["on", "disabled", "absent"]:
    """Absent, with all memberships, is IPv6's state for an interface with an MTU below 1280."""
    inet6 = read_attributes(af_spec).get(socket.AF_INET6)
    if inet6 is None:
        return "absent"
    settings = read_attributes(inet6).get(IFLA_INET6_CONF, b"")
    disabled = settings[4 * DEVCONF_DISABLE_IPV6 :][:4]
    return "disabled" if any(disabled) else "on"


def read_address(body: bytes) -> AddressMessage | None:
    """Read the body of a RTM_NEWADDR or RTM_DELADDR message; None for other families than IP."""
    family, _prefix, index = _ADDRESS.unpack_from(body)
    if family == socket.AF_INET:
        return AddressMessage(4, index)
    return AddressMessage(6, index) if family == socket.AF_INET6 else None


def read_multicast(body: bytes) -> tuple[int, bytes] | None:
    """Read the body of a RTM_DELMULTICAST message: interface index and packed group."""
    _family, _prefix, index = _ADDRESS.unpack_from(body)
    group = read_attributes(body[_ADDRESS.size :]).get(IFA_MULTICAST)
    return None if group is None else (index, group)


def list_links() -> list[Link]:
    """Every interface of this thread's network namespace."""
    filter_ = struct.pack("=HHI", 8, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    request = LINK_HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + filter_
    links = (
        read_link(message.body)
        for message in dump(RTM_GETLINK, request)
        if message.type == RTM_NEWLINK
    )
    return [link for link in links if link is not None]


def list_addresses() -> dict[int, list[IPv4Interface | IPv6Interface]]:
    """The addresses of every interface of this thread's network namespace, by its index."""
    found: dict[int, list[IPv4Interface | IPv6Interface]] = {}
    for message in dump(RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0)):
        family, prefix, index = _ADDRESS.unpack_from(message.body)
        attributes = read_attributes(message.body[_ADDRESS.size :])
        address = attributes.get(IFA_ADDRESS)
        packed = attributes.get(IFA_LOCAL) or address
        if packed and packed != address:
            # Then that is the other end's, and so is the network: nobody else is in this one.
            prefix = 8 * len(packed)
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            kind = IPv4Interface if family == socket.AF_INET else IPv6Interface
            found.setdefault(index, []).append(kind((packed, prefix)))
    return found


def read_number(value: bytes | None) -> int | None:
    return int.from_bytes(value, sys.byteorder) if value else None


def find_outgoing_interface(destination: IPv4Address | IPv6Address) -> int | None:
    """The index of the interface that a datagram to the destination would leave by, if any.

    Raises:
      OSError: the kernel does not say
    """
    try:
        return find_route(destination).outgoing
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL):
            return None
        raise


def find_route(
    destination: IPv4Address | IPv6Address,
    *,
    source: IPv4Address | IPv6Address | None = None,
    incoming: int | None = None,
    outgoing: int | None = None,
) -> RouteAnswer:
    """What the kernel would do with a datagram; nothing is sent.

    Args:
      destination: where to
      source: where from
      incoming: the index of the interface that it would come in by, instead of being sent here
      outgoing: the index of the interface that the sender names

    Raises:
      OSError: it would be dropped. For a group that came in by an interface that is EINVAL,
        whether reverse path filtering, a source of this host or a group not joined is the reason.
        For IPv6 and `incoming` it says nothing: EMSGSIZE, whatever would become of it
    """
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    bits = destination.max_prefixlen
    request = _ROUTE.pack(family, bits, bits if source is not None else 0, 0, 0, 0, 0, 0, 0)
    request += _attribute(RTA_DST, destination.packed)
    if source is not None:
        request += _attribute(RTA_SRC, source.packed)
    if incoming is not None:
        request += _attribute(RTA_IIF, incoming.to_bytes(4, sys.byteorder))
    if outgoing is not None:
        request += _attribute(RTA_OIF, outgoing.to_bytes(4, sys.byteorder))
    answer = next(_ask(RTM_GETROUTE, 0, request, socket.NETLINK_ROUTE))
    route_type = _ROUTE.unpack_from(answer.body)[7]
    attributes = read_attributes(answer.body[_ROUTE.size :])
    return RouteAnswer(route_type, read_number(attributes.get(RTA_OIF)), _read_gateway(attributes))


def _read_gateway(attributes: dict[int, bytes]) -> IPv4Address | IPv6Address | None:
    packed = attributes.get(RTA_GATEWAY) or attributes.get(RTA_VIA, b"")[2:]
    if not packed:
        return None
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def dump(kind: int, request: bytes, protocol: int = socket.NETLINK_ROUTE) -> list[Message]:
    """Everything that the kernel lists.

    It lists in parts, and says so (NLM_F_DUMP_INTR) when something has changed between two of them:
    then some may be missing, or there twice. So it is asked again.
    """
    for _ in range(_DUMPS_TO_TRY):
        messages = list(_ask(kind, NLM_F_DUMP, request, protocol))
        if not any(message.flags & NLM_F_DUMP_INTR for message in messages):
            break
    return [message for message in messages if message.type != NLMSG_DONE]


@trio.lowlevel.enable_ki_protection
def _ask(kind: int, flags: int, request: bytes, protocol: int) -> Iterator[Message]:
    """Send a request to the kernel and yield its answers. It answers at once: nothing blocks."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        length = _HEADER.size + len(request)
        sock.send(_HEADER.pack(length, kind, NLM_F_REQUEST | flags, 0, 0) + request)
        while True:
            for message in read_messages(sock.recv(1 << 16)):
                if message.type == NLMSG_ERROR:
                    error = -int.from_bytes(message.body[:4], sys.byteorder, signed=True)
                    raise OSError(error, os.strerror(error))
                yield message
                if message.type == NLMSG_DONE:
                    return


def _aligned(length: int) -> int:
    return (length + 3) & ~3
