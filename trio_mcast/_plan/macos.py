"""The tables of macOS."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from .platforms import (
    IP,
    IPV6,
    AncillaryFormat,
    ControlLayout,
    Family,
    MembershipOptions,
    OptionName,
    Platform,
    membership_options,
)

_SOCKET: Final = 0xFFFF  # SOL_SOCKET, sys/socket.h


def _options(level: int) -> MembershipOptions:
    # netinet/in.h. MCAST_MSFILTER (74) is private there: setsourcefilter(3) is the way in.
    return membership_options(
        level, join=80, leave=81, join_source=82, leave_source=83, block=84, unblock=85
    )


_V4: Final = Family(
    version=4,
    number=2,  # AF_INET, sys/socket.h
    membership=_options(IP),
    # netinet/in.h
    multicast_interface=OptionName(IP, 9, "IP_MULTICAST_IF"),
    interface_form="ip_mreqn",
    hop_limit=OptionName(IP, 10, "IP_MULTICAST_TTL"),
    loopback=OptionName(IP, 11, "IP_MULTICAST_LOOP"),
    traffic_class=OptionName(IP, 3, "IP_TOS"),
    receive_destination=(OptionName(IP, 26, "IP_PKTINFO"),),
    receive_hop_limit=OptionName(IP, 24, "IP_RECVTTL"),
    receive_traffic_class=OptionName(IP, 27, "IP_RECVTOS"),
    most_sources=128,  # IP_MAX_SOCK_SRC_FILTER, netinet/in.h
)

_V6: Final = Family(
    version=6,
    number=30,  # AF_INET6, sys/socket.h
    membership=_options(IPV6),
    # netinet6/in6.h, with __APPLE_USE_RFC_3542
    multicast_interface=OptionName(IPV6, 9, "IPV6_MULTICAST_IF"),
    interface_form="index",
    hop_limit=OptionName(IPV6, 10, "IPV6_MULTICAST_HOPS"),
    loopback=OptionName(IPV6, 11, "IPV6_MULTICAST_LOOP"),
    traffic_class=OptionName(IPV6, 36, "IPV6_TCLASS"),
    receive_destination=(OptionName(IPV6, 61, "IPV6_RECVPKTINFO"),),
    receive_hop_limit=OptionName(IPV6, 37, "IPV6_RECVHOPLIMIT"),
    receive_traffic_class=OptionName(IPV6, 35, "IPV6_RECVTCLASS"),
    v6_only=OptionName(IPV6, 27, "IPV6_V6ONLY"),
    most_sources=128,  # IPV6_MAX_SOCK_SRC_FILTER, netinet6/in6.h
)

MACOS: Final = Platform(
    name="macOS",
    ipv4=_V4,
    ipv6=_V6,
    binds_to_group=True,
    loopback_on_receiver=False,
    # udp_input (bsd/netinet/udp_usrreq.c) compares membership, source filter and bound address;
    # udp6_input (bsd/netinet6/udp6_usrreq.c) the first two only.
    delivers_strays_v4=False,
    delivers_strays_v6=True,
    delivered_to_everyone=frozenset({IPv4Address("224.0.0.1")}),
    # sys/socket.h. Bound to a group either would do, bound to the wildcard only the second.
    share_port=(
        OptionName(_SOCKET, 0x0004, "SO_REUSEADDR"),
        OptionName(_SOCKET, 0x0200, "SO_REUSEPORT"),
    ),
    receive_buffer=OptionName(_SOCKET, 0x1002, "SO_RCVBUF"),
    send_buffer=OptionName(_SOCKET, 0x1001, "SO_SNDBUF"),
    refuses_large_buffers=True,  # ENOBUFS at kern.ipc.maxsockbuf
    smallest_send_buffer=65535,  # the default, 9216, is "really max datagram size" (udp_usrreq.c)
    receive_timestamp=OptionName(_SOCKET, 0x0400, "SO_TIMESTAMP"),
    # Seen by others: OpenJDK and swift-nio met the first (a queue of IGMP is full for a moment),
    # libuv the second (macOS 13 and later). The next attempt has succeeded.
    spurious_join_errors=("ENOMEM", "ENOEXEC"),
    sockaddr_has_length=True,
    group_req_padding=0,  # netinet/in.h: #pragma pack(4) around it
    filter_modes={"include": 1, "exclude": 2},
    control=ControlLayout("=Iii", payload_offset=12, alignment=4),
    ancillary=(
        AncillaryFormat(IP, 26, "=I4x4s", ("interface_index", "destination")),  # IP_PKTINFO
        AncillaryFormat(IP, 24, "=B", ("hop_limit",)),  # IP_RECVTTL
        AncillaryFormat(IP, 27, "=B", ("traffic_class",)),  # IP_RECVTOS
        AncillaryFormat(IPV6, 46, "=16sI", ("destination", "interface_index")),  # IPV6_PKTINFO
        AncillaryFormat(IPV6, 47, "=i", ("hop_limit",)),  # IPV6_HOPLIMIT
        AncillaryFormat(IPV6, 36, "=i", ("traffic_class",)),  # IPV6_TCLASS
        # SCM_TIMESTAMP: struct timeval
        AncillaryFormat(_SOCKET, 2, "=qi4x", ("seconds", "microseconds")),
    ),
)
"""macOS 10.12 and later, on either processor."""
