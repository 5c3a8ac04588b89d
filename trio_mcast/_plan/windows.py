"""The tables of Windows."""

from __future__ import annotations

from dataclasses import replace
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

_SOCKET: Final = 0xFFFF  # SOL_SOCKET, ws2def.h


def _options(level: int) -> MembershipOptions:
    # ws2ipdef.h. The whole filter is set by an ioctl there (SIOCSMSFILTER), not by an option.
    return membership_options(
        level, join=41, leave=42, join_source=45, leave_source=46, block=43, unblock=44
    )


_V4: Final = Family(
    version=4,
    number=2,  # AF_INET, ws2def.h
    membership=_options(IP),
    # ws2ipdef.h
    multicast_interface=OptionName(IP, 9, "IP_MULTICAST_IF"),
    interface_form="index as address",
    hop_limit=OptionName(IP, 10, "IP_MULTICAST_TTL"),
    loopback=OptionName(IP, 11, "IP_MULTICAST_LOOP"),
    # Accepted and then ignored unless the administrator has set DisableUserTOSSetting to 0.
    traffic_class=OptionName(IP, 3, "IP_TOS"),
    receive_destination=(OptionName(IP, 19, "IP_PKTINFO"),),
    receive_hop_limit=OptionName(IP, 21, "IP_RECVTTL"),
    receive_traffic_class=OptionName(IP, 40, "IP_RECVTOS"),
    older_join=OptionName(IP, 12, "IP_ADD_MEMBERSHIP"),
    older_leave=OptionName(IP, 13, "IP_DROP_MEMBERSHIP"),
)

_V6: Final = Family(
    version=6,
    number=23,  # AF_INET6, ws2def.h
    membership=_options(IPV6),
    # ws2ipdef.h. There the option that asks for something has the name of what then comes.
    multicast_interface=OptionName(IPV6, 9, "IPV6_MULTICAST_IF"),
    interface_form="index",
    hop_limit=OptionName(IPV6, 10, "IPV6_MULTICAST_HOPS"),
    loopback=OptionName(IPV6, 11, "IPV6_MULTICAST_LOOP"),
    traffic_class=OptionName(IPV6, 39, "IPV6_TCLASS"),
    receive_destination=(OptionName(IPV6, 19, "IPV6_PKTINFO"),),
    receive_hop_limit=OptionName(IPV6, 21, "IPV6_HOPLIMIT"),
    receive_traffic_class=OptionName(IPV6, 40, "IPV6_RECVTCLASS"),
    v6_only=OptionName(IPV6, 27, "IPV6_V6ONLY"),
    older_join=OptionName(IPV6, 12, "IPV6_JOIN_GROUP"),
    older_leave=OptionName(IPV6, 13, "IPV6_LEAVE_GROUP"),
)

WINDOWS: Final = Platform(
    name="Windows",
    ipv4=_V4,
    ipv6=_V6,
    binds_to_group=False,  # WSAEADDRNOTAVAIL
    # Microsoft: "the option must be set on the receiving socket". Of IPV6_MULTICAST_LOOP the manual
    # speaks as of the sender's, others have found the receiver's: it is set on both.
    loopback_on_receiver=True,
    delivers_strays_v4=True,
    delivers_strays_v6=True,
    share_port=(OptionName(_SOCKET, 4, "SO_REUSEADDR"),),  # ws2def.h
    receive_buffer=OptionName(_SOCKET, 0x1002, "SO_RCVBUF"),
    send_buffer=OptionName(_SOCKET, 0x1001, "SO_SNDBUF"),
    # Microsoft's manual of the IPPROTO_UDP options; Windows 10 version 2004 and later. Of merged
    # datagrams (UDP_RECV_MAX_COALESCED_SIZE, 3) Python could not read the size: no recvmsg there.
    send_segmented=OptionName(UDP, 2, "UDP_SEND_MSG_SIZE"),
    sockaddr_has_length=False,
    group_req_padding=4,  # SOCKADDR_STORAGE is aligned to 8, on x86 too
    filter_modes={"include": 0, "exclude": 1},  # ws2ipdef.h
    control=ControlLayout("=Qii", payload_offset=16, alignment=8),  # WSACMSGHDR
    ancillary=(
        AncillaryFormat(IP, 19, "=4sI", ("destination", "interface_index")),  # IP_PKTINFO
        AncillaryFormat(IP, 4, "=i", ("hop_limit",)),  # IP_TTL
        AncillaryFormat(IP, 3, "=i", ("traffic_class",)),  # IP_TOS
        AncillaryFormat(IPV6, 19, "=16sI", ("destination", "interface_index")),  # IPV6_PKTINFO
        AncillaryFormat(IPV6, 21, "=i", ("hop_limit",)),  # IPV6_HOPLIMIT
        AncillaryFormat(IPV6, 39, "=i", ("traffic_class",)),  # IPV6_TCLASS
        AncillaryFormat(UDP, 3, "=I", ("segment_size",)),  # UDP_COALESCED_INFO
    ),
)
"""Windows 10 and later, 64 bit."""

WINDOWS_32BIT: Final = replace(
    WINDOWS,
    name="Windows (32 bit)",
    control=ControlLayout("=Iii", payload_offset=12, alignment=4),
)
"""The same for programs of 32 bit: only control messages lie differently."""
