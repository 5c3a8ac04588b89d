"""The tables of Linux.

The numbers are those of the generic ABI: x86, ARM, RISC-V, POWER, s390, LoongArch. Alpha, MIPS,
PA-RISC and SPARC number the options of SOL_SOCKET otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Final

from .platforms import (
    IP,
    IPV6,
    UDP,
    AncillaryFormat,
    ControlLayout,
    Family,
    MembershipOptions,
    OptionName,
    Platform,
    membership_options,
)

_SOCKET: Final = 1  # SOL_SOCKET, asm-generic/socket.h


def _options(level: int) -> MembershipOptions:
    return membership_options(  # linux/in.h
        level,
        join=42,
        leave=45,
        join_source=46,
        leave_source=47,
        block=43,
        unblock=44,
        set_filter=48,
    )


_V4: Final = Family(
    version=4,
    number=2,  # AF_INET, bits/socket.h
    membership=_options(IP),
    # linux/in.h
    multicast_interface=OptionName(IP, 32, "IP_MULTICAST_IF"),
    interface_form="ip_mreqn",
    hop_limit=OptionName(IP, 33, "IP_MULTICAST_TTL"),
    loopback=OptionName(IP, 34, "IP_MULTICAST_LOOP"),
    traffic_class=OptionName(IP, 1, "IP_TOS"),
    receive_destination=(OptionName(IP, 8, "IP_PKTINFO"),),
    receive_hop_limit=OptionName(IP, 12, "IP_RECVTTL"),
    receive_traffic_class=OptionName(IP, 13, "IP_RECVTOS"),
    multicast_all=OptionName(IP, 49, "IP_MULTICAST_ALL"),
    most_sources=10,  # sysctl net.ipv4.igmp_max_msf
    report_errors=OptionName(IP, 11, "IP_RECVERR"),
    older_join=OptionName(IP, 35, "IP_ADD_MEMBERSHIP"),
    older_leave=OptionName(IP, 36, "IP_DROP_MEMBERSHIP"),
)

_V6: Final = Family(
    version=6,
    number=10,  # AF_INET6, bits/socket.h
    membership=_options(IPV6),
    # linux/in6.h
    multicast_interface=OptionName(IPV6, 17, "IPV6_MULTICAST_IF"),
    interface_form="index",
    hop_limit=OptionName(IPV6, 18, "IPV6_MULTICAST_HOPS"),
    loopback=OptionName(IPV6, 19, "IPV6_MULTICAST_LOOP"),
    traffic_class=OptionName(IPV6, 67, "IPV6_TCLASS"),
    receive_destination=(OptionName(IPV6, 49, "IPV6_RECVPKTINFO"),),
    receive_hop_limit=OptionName(IPV6, 51, "IPV6_RECVHOPLIMIT"),
    receive_traffic_class=OptionName(IPV6, 66, "IPV6_RECVTCLASS"),
    multicast_all=OptionName(IPV6, 29, "IPV6_MULTICAST_ALL"),
    v6_only=OptionName(IPV6, 26, "IPV6_V6ONLY"),
    most_sources=64,  # sysctl net.ipv6.mld_max_msf
    report_errors=OptionName(IPV6, 25, "IPV6_RECVERR"),
    older_join=OptionName(IPV6, 20, "IPV6_ADD_MEMBERSHIP"),
    older_leave=OptionName(IPV6, 21, "IPV6_DROP_MEMBERSHIP"),
)

_ANCILLARY: Final = (
    AncillaryFormat(IP, 8, "=i4x4s", ("interface_index", "destination")),  # IP_PKTINFO
    AncillaryFormat(IP, 2, "=i", ("hop_limit",)),  # IP_TTL
    AncillaryFormat(IP, 1, "=B", ("traffic_class",)),  # IP_TOS
    AncillaryFormat(IPV6, 50, "=16sI", ("destination", "interface_index")),  # IPV6_PKTINFO
    AncillaryFormat(IPV6, 52, "=i", ("hop_limit",)),  # IPV6_HOPLIMIT
    AncillaryFormat(IPV6, 67, "=i", ("traffic_class",)),  # IPV6_TCLASS
    AncillaryFormat(UDP, 104, "=i", ("segment_size",)),  # UDP_GRO
)

LINUX: Final = Platform(
    name="Linux",
    ipv4=_V4,
    ipv6=_V6,
    binds_to_group=True,
    loopback_on_receiver=False,
    delivers_strays_v4=False,
    delivers_strays_v6=False,
    # asm-generic/socket.h.
    # Not SO_REUSEPORT as well: with it, sockets of one user on the same address, port and interface
    # form a group from which the kernel picks one by a hash. Seen on Linux 6.18: when early
    # demultiplexing finds just one socket whose source filter fits an IPv4 datagram, the hash may
    # hand it to another of the group, past that one's filter. Two sockets with a source each were
    # given each other's datagrams in 35 of 50 rounds, bound to the interface or not; with
    # SO_REUSEADDR alone never, and IPv6 never.
    share_port=(OptionName(_SOCKET, 2, "SO_REUSEADDR"),),
    share_port_if_in_use=(OptionName(_SOCKET, 15, "SO_REUSEPORT"),),
    bind_to_interface=OptionName(_SOCKET, 62, "SO_BINDTOIFINDEX"),
    bind_to_interface_by_name=OptionName(_SOCKET, 25, "SO_BINDTODEVICE"),
    receive_buffer=OptionName(_SOCKET, 8, "SO_RCVBUF"),
    send_buffer=OptionName(_SOCKET, 7, "SO_SNDBUF"),
    receive_buffer_beyond_limit=OptionName(_SOCKET, 33, "SO_RCVBUFFORCE"),
    send_buffer_beyond_limit=OptionName(_SOCKET, 32, "SO_SNDBUFFORCE"),
    receive_timestamp=OptionName(_SOCKET, 35, "SO_TIMESTAMPNS"),
    queue_figures=OptionName(_SOCKET, 55, "SO_MEMINFO"),
    doubles_receive_buffer=True,  # socket(7)
    error_queue=0x2000,  # MSG_ERRQUEUE, linux/socket.h
    receive_merged=OptionName(UDP, 104, "UDP_GRO"),  # linux/udp.h
    send_segmented=OptionName(UDP, 103, "UDP_SEGMENT"),
    sockaddr_has_length=False,
    group_req_padding=4,
    filter_modes={"include": 1, "exclude": 0},  # linux/in.h
    control=ControlLayout("=Qii", payload_offset=16, alignment=8),
    ancillary=(
        *_ANCILLARY,
        AncillaryFormat(_SOCKET, 35, "=qq", ("seconds", "nanoseconds")),  # SCM_TIMESTAMPNS
    ),
)
"""Linux, 64 bit."""

LINUX_32BIT: Final = replace(
    LINUX,
    name="Linux (32 bit)",
    group_req_padding=0,
    control=ControlLayout("=Iii", payload_offset=12, alignment=4),
    ancillary=(
        *_ANCILLARY,
        # The old timespec. Its seconds are cut to 32 bits; read as unsigned they last until 2106.
        AncillaryFormat(_SOCKET, 35, "=II", ("seconds", "nanoseconds")),  # SCM_TIMESTAMPNS
    ),
)
"""Linux for programs of 32 bit, whatever the kernel."""


@cache
def without_binding(platform: Platform) -> Platform:
    """Linux for a program that may not bind its sockets to interfaces.

    IPv4 tells interfaces apart all the same, by IP_MULTICAST_ALL; of IPv6 it shows where each
    datagram has come in.
    """
    return replace(
        platform,
        bind_to_interface=None,
        bind_to_interface_by_name=None,
        delivers_strays_v6=True,
    )
