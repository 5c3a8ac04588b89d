"""What each operating system calls things, how it lays them out, and what it can do.

A `Platform` is a table. The plan asks it what a system can do and by which number it is asked,
never what the system is called, so that every system's plans are made and tested on any machine. To
add a system, write its row: an ability or an option that it lacks is False or None, and whatever
needs it is left out of the plan or refused.

Every option carries the name that its header gives it, so that the rows can be held against the
headers, against Python's `socket` module and against what people read in manuals. The numbers are
written out because the `socket` module lacks most of them (all of ``MCAST_*``, for instance), and
because `socket.SOL_IP` is wrong on Windows.

Linux' numbers are those of the generic ABI: x86, ARM, RISC-V, POWER, s390, LoongArch. Alpha, MIPS,
PA-RISC and SPARC number the options of SOL_SOCKET otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final, Literal, NamedTuple, TypeAlias

from .._base.interface import IPVersion
from .._base.source_filter import FilterMode

InterfaceForm: TypeAlias = Literal["ip_mreqn", "index as address", "index"]
"""How an interface is written into ``*_MULTICAST_IF``.

- ``"ip_mreqn"``: in the last word of that structure
- ``"index as address"``: as the address 0.0.0.N, that is in network byte order
- ``"index"``: as an int of the host
"""


class OptionName(NamedTuple):
    """The number of a socket option, and the name its header gives it."""

    level: int
    number: int
    name: str


class AncillaryFormat(NamedTuple):
    """One kind of control message that comes with a datagram.

    Attributes:
      level: cmsg_level
      type: cmsg_type, which is often not the number of the option that asks for it
      layout: the payload, as the `struct` module writes it
      fields: what the values of the layout are, in order: names of `AncillaryData`, or ``seconds``
        followed by ``microseconds`` or ``nanoseconds``
    """

    level: int
    type: int
    layout: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class ControlLayout:
    """How control messages lie in their buffer.

    Attributes:
      header: struct cmsghdr: length (header and payload together), level, type
      payload_offset: where the payload begins, ``CMSG_LEN(0)``
      alignment: a message begins at a multiple of this
    """

    header: str
    payload_offset: int
    alignment: int


@dataclass(frozen=True)
class MembershipOptions:
    """The options of RFC 3678's protocol-independent interface, at the level of one IP version.

    They name the interface by its index and are the same for IPv4 and IPv6.
    """

    join_group: OptionName
    leave_group: OptionName
    join_source_group: OptionName
    leave_source_group: OptionName
    block_source: OptionName
    unblock_source: OptionName
    set_filter: OptionName | None = None


@dataclass(frozen=True)
class Family:
    """One IP version on one system.

    Attributes:
      version: 4 or 6
      number: AF_INET or AF_INET6
      membership: joining, leaving, filtering
      multicast_interface: by which interface to send
      interface_form: how that option wants it
      hop_limit: of multicast datagrams only
      loopback: whether multicast sent here is heard here
      traffic_class: the byte with DSCP and ECN
      receive_destination: asks for the destination and the interface of each datagram
      receive_hop_limit: asks for the hop limit of each datagram
      receive_traffic_class: asks for the traffic class of each datagram
      multicast_all: 0 keeps groups away that only others on this host have joined
      v6_only: 1 keeps IPv4 out of an IPv6 socket
      report_errors: 1 makes a send tell when the queue of the interface was full
      older_join: the older way to join, without sources
      older_leave: and to leave
      most_sources: how many sources a membership takes by default
    """

    version: IPVersion
    number: int
    membership: MembershipOptions
    multicast_interface: OptionName
    interface_form: InterfaceForm
    hop_limit: OptionName
    loopback: OptionName
    traffic_class: OptionName
    receive_destination: tuple[OptionName, ...]
    receive_hop_limit: OptionName
    receive_traffic_class: OptionName
    multicast_all: OptionName | None = None
    v6_only: OptionName | None = None
    report_errors: OptionName | None = None
    older_join: OptionName | None = None
    older_leave: OptionName | None = None
    most_sources: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Platform:
    """What one operating system calls things, how it lays them out, and what it can do.

    A platform equals itself only; that keeps it cheap as the key of a cache.

    Attributes:
      name: for messages
      ipv4, ipv6: the numbers of each IP version

      binds_to_group: a socket can be bound to a group's address, and then hears no other
      loopback_on_receiver: the loopback option acts on the socket that receives, too
      delivers_strays_v4, delivers_strays_v6: a socket also gets datagrams for other groups, by
        other interfaces or to this host alone; destination and interface must sort them out
      delivered_to_everyone: groups that reach every socket on the port, by any interface

      share_port: set to 1 by all who use a port together
      share_port_if_in_use: what to set besides if the port is found taken
      bind_to_interface: takes an index; keeps everything away that comes by other interfaces
      bind_to_interface_by_name: the same for older systems, takes a name
      receive_buffer, send_buffer: bytes of kernel memory to ask for
      receive_buffer_beyond_limit, send_buffer_beyond_limit: the same past the administrator's
        limit, for the privileged
      refuses_large_buffers: asking for too much is an error, where others give what they have
      smallest_send_buffer: what a sender needs to be able to send the largest datagram
      receive_timestamp: asks for the time of arrival of each datagram
      receive_merged: has datagrams of one flow and size handed over together
      send_segmented: has one large buffer sent as many datagrams
      memory_figures: tells bytes queued and datagrams dropped
      doubles_receive_buffer: asked for its size, it answers twice what it granted
      error_queue: the flag by which errors of earlier datagrams are read, where they are queued
      spurious_join_errors: with these a join may be refused for no reason; the next may succeed

      sockaddr_has_length: struct sockaddr begins with its own length, as on the BSDs
      group_req_padding: bytes between the index and the address in struct group_req
      filter_modes: the numbers of include and exclude
      control: how control messages lie in their buffer
      ancillary: the control messages we can read
    """

    name: str
    ipv4: Family
    ipv6: Family

    binds_to_group: bool
    loopback_on_receiver: bool
    delivers_strays_v4: bool
    delivers_strays_v6: bool

    share_port: tuple[OptionName, ...]
    receive_buffer: OptionName
    send_buffer: OptionName

    sockaddr_has_length: bool
    group_req_padding: int
    filter_modes: Mapping[FilterMode, int]
    control: ControlLayout
    ancillary: tuple[AncillaryFormat, ...]

    delivered_to_everyone: frozenset[IPv4Address] = frozenset()
    share_port_if_in_use: tuple[OptionName, ...] = ()
    bind_to_interface: OptionName | None = None
    bind_to_interface_by_name: OptionName | None = None
    receive_buffer_beyond_limit: OptionName | None = None
    send_buffer_beyond_limit: OptionName | None = None
    refuses_large_buffers: bool = False
    smallest_send_buffer: int | None = None
    receive_timestamp: OptionName | None = None
    receive_merged: OptionName | None = None
    send_segmented: OptionName | None = None
    memory_figures: OptionName | None = None
    doubles_receive_buffer: bool = False
    error_queue: int | None = None
    spurious_join_errors: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Platform {self.name}>"

    def family(self, version: IPVersion) -> Family:
        """The row of an IP version."""
        return self.ipv4 if version == 4 else self.ipv6

    def delivers_strays(self, version: IPVersion) -> bool:
        """Whether packet information must sort out what a socket was not meant to get."""
        return self.delivers_strays_v4 if version == 4 else self.delivers_strays_v6


def _membership_options(
    level: int,
    *,
    join: int,
    leave: int,
    join_source: int,
    leave_source: int,
    block: int,
    unblock: int,
    set_filter: int | None = None,
) -> MembershipOptions:
    return MembershipOptions(
        join_group=OptionName(level, join, "MCAST_JOIN_GROUP"),
        leave_group=OptionName(level, leave, "MCAST_LEAVE_GROUP"),
        join_source_group=OptionName(level, join_source, "MCAST_JOIN_SOURCE_GROUP"),
        leave_source_group=OptionName(level, leave_source, "MCAST_LEAVE_SOURCE_GROUP"),
        block_source=OptionName(level, block, "MCAST_BLOCK_SOURCE"),
        unblock_source=OptionName(level, unblock, "MCAST_UNBLOCK_SOURCE"),
        set_filter=None if set_filter is None else OptionName(level, set_filter, "MCAST_MSFILTER"),
    )


# IPPROTO_IP, IPPROTO_IPV6 and IPPROTO_UDP are IANA's protocol numbers, the same everywhere.
_IP: Final = 0
_IPV6: Final = 41
_UDP: Final = 17

# --- Linux -------------------------------------------------------------------------------------

_LINUX_SOCKET: Final = 1  # SOL_SOCKET, asm-generic/socket.h


def _linux_membership_options(level: int) -> MembershipOptions:
    return _membership_options(  # linux/in.h
        level,
        join=42,
        leave=45,
        join_source=46,
        leave_source=47,
        block=43,
        unblock=44,
        set_filter=48,
    )


_LINUX_IPV4: Final = Family(
    version=4,
    number=2,  # AF_INET, bits/socket.h
    membership=_linux_membership_options(_IP),
    # linux/in.h
    multicast_interface=OptionName(_IP, 32, "IP_MULTICAST_IF"),
    interface_form="ip_mreqn",
    hop_limit=OptionName(_IP, 33, "IP_MULTICAST_TTL"),
    loopback=OptionName(_IP, 34, "IP_MULTICAST_LOOP"),
    traffic_class=OptionName(_IP, 1, "IP_TOS"),
    receive_destination=(OptionName(_IP, 8, "IP_PKTINFO"),),
    receive_hop_limit=OptionName(_IP, 12, "IP_RECVTTL"),
    receive_traffic_class=OptionName(_IP, 13, "IP_RECVTOS"),
    multicast_all=OptionName(_IP, 49, "IP_MULTICAST_ALL"),
    most_sources=10,  # sysctl net.ipv4.igmp_max_msf
    report_errors=OptionName(_IP, 11, "IP_RECVERR"),
)

_LINUX_IPV6: Final = Family(
    version=6,
    number=10,  # AF_INET6, bits/socket.h
    membership=_linux_membership_options(_IPV6),
    # linux/in6.h
    multicast_interface=OptionName(_IPV6, 17, "IPV6_MULTICAST_IF"),
    interface_form="index",
    hop_limit=OptionName(_IPV6, 18, "IPV6_MULTICAST_HOPS"),
    loopback=OptionName(_IPV6, 19, "IPV6_MULTICAST_LOOP"),
    traffic_class=OptionName(_IPV6, 67, "IPV6_TCLASS"),
    receive_destination=(OptionName(_IPV6, 49, "IPV6_RECVPKTINFO"),),
    receive_hop_limit=OptionName(_IPV6, 51, "IPV6_RECVHOPLIMIT"),
    receive_traffic_class=OptionName(_IPV6, 66, "IPV6_RECVTCLASS"),
    multicast_all=OptionName(_IPV6, 29, "IPV6_MULTICAST_ALL"),
    v6_only=OptionName(_IPV6, 26, "IPV6_V6ONLY"),
    most_sources=64,  # sysctl net.ipv6.mld_max_msf
    report_errors=OptionName(_IPV6, 25, "IPV6_RECVERR"),
)

_LINUX_ANCILLARY: Final = (
    AncillaryFormat(_IP, 8, "=i4x4s", ("interface_index", "destination")),  # IP_PKTINFO
    AncillaryFormat(_IP, 2, "=i", ("hop_limit",)),  # IP_TTL
    AncillaryFormat(_IP, 1, "=B", ("traffic_class",)),  # IP_TOS
    AncillaryFormat(_IPV6, 50, "=16sI", ("destination", "interface_index")),  # IPV6_PKTINFO
    AncillaryFormat(_IPV6, 52, "=i", ("hop_limit",)),  # IPV6_HOPLIMIT
    AncillaryFormat(_IPV6, 67, "=i", ("traffic_class",)),  # IPV6_TCLASS
    AncillaryFormat(_UDP, 104, "=i", ("segment_size",)),  # UDP_GRO
)

LINUX: Final = Platform(
    name="Linux",
    ipv4=_LINUX_IPV4,
    ipv6=_LINUX_IPV6,
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
    share_port=(OptionName(_LINUX_SOCKET, 2, "SO_REUSEADDR"),),
    share_port_if_in_use=(OptionName(_LINUX_SOCKET, 15, "SO_REUSEPORT"),),
    bind_to_interface=OptionName(_LINUX_SOCKET, 62, "SO_BINDTOIFINDEX"),
    bind_to_interface_by_name=OptionName(_LINUX_SOCKET, 25, "SO_BINDTODEVICE"),
    receive_buffer=OptionName(_LINUX_SOCKET, 8, "SO_RCVBUF"),
    send_buffer=OptionName(_LINUX_SOCKET, 7, "SO_SNDBUF"),
    receive_buffer_beyond_limit=OptionName(_LINUX_SOCKET, 33, "SO_RCVBUFFORCE"),
    send_buffer_beyond_limit=OptionName(_LINUX_SOCKET, 32, "SO_SNDBUFFORCE"),
    receive_timestamp=OptionName(_LINUX_SOCKET, 35, "SO_TIMESTAMPNS"),
    memory_figures=OptionName(_LINUX_SOCKET, 55, "SO_MEMINFO"),
    doubles_receive_buffer=True,  # socket(7)
    error_queue=0x2000,  # MSG_ERRQUEUE, linux/socket.h
    receive_merged=OptionName(_UDP, 104, "UDP_GRO"),  # linux/udp.h
    send_segmented=OptionName(_UDP, 103, "UDP_SEGMENT"),
    sockaddr_has_length=False,
    group_req_padding=4,
    filter_modes={"include": 1, "exclude": 0},  # linux/in.h
    control=ControlLayout("=Qii", payload_offset=16, alignment=8),
    ancillary=(
        *_LINUX_ANCILLARY,
        AncillaryFormat(_LINUX_SOCKET, 35, "=qq", ("seconds", "nanoseconds")),  # SCM_TIMESTAMPNS
    ),
)
"""Linux, 64 bit."""

LINUX_32BIT: Final = replace(
    LINUX,
    name="Linux (32 bit)",
    group_req_padding=0,
    control=ControlLayout("=Iii", payload_offset=12, alignment=4),
    ancillary=(
        *_LINUX_ANCILLARY,
        # The old timespec. Its seconds are cut to 32 bits; read as unsigned they last until 2106.
        AncillaryFormat(_LINUX_SOCKET, 35, "=II", ("seconds", "nanoseconds")),  # SCM_TIMESTAMPNS
    ),
)
"""Linux for programs of 32 bit, whatever the kernel."""

# --- macOS -------------------------------------------------------------------------------------

_MACOS_SOCKET: Final = 0xFFFF  # SOL_SOCKET, sys/socket.h


def _macos_membership_options(level: int) -> MembershipOptions:
    # netinet/in.h. MCAST_MSFILTER (74) is private there: setsourcefilter(3) is the way in.
    return _membership_options(
        level, join=80, leave=81, join_source=82, leave_source=83, block=84, unblock=85
    )


_MACOS_IPV4: Final = Family(
    version=4,
    number=2,  # AF_INET, sys/socket.h
    membership=_macos_membership_options(_IP),
    # netinet/in.h
    multicast_interface=OptionName(_IP, 9, "IP_MULTICAST_IF"),
    interface_form="ip_mreqn",
    hop_limit=OptionName(_IP, 10, "IP_MULTICAST_TTL"),
    loopback=OptionName(_IP, 11, "IP_MULTICAST_LOOP"),
    traffic_class=OptionName(_IP, 3, "IP_TOS"),
    receive_destination=(OptionName(_IP, 26, "IP_PKTINFO"),),
    receive_hop_limit=OptionName(_IP, 24, "IP_RECVTTL"),
    receive_traffic_class=OptionName(_IP, 27, "IP_RECVTOS"),
    most_sources=128,  # IP_MAX_SOCK_SRC_FILTER, netinet/in.h
)

_MACOS_IPV6: Final = Family(
    version=6,
    number=30,  # AF_INET6, sys/socket.h
    membership=_macos_membership_options(_IPV6),
    # netinet6/in6.h, with __APPLE_USE_RFC_3542
    multicast_interface=OptionName(_IPV6, 9, "IPV6_MULTICAST_IF"),
    interface_form="index",
    hop_limit=OptionName(_IPV6, 10, "IPV6_MULTICAST_HOPS"),
    loopback=OptionName(_IPV6, 11, "IPV6_MULTICAST_LOOP"),
    traffic_class=OptionName(_IPV6, 36, "IPV6_TCLASS"),
    receive_destination=(OptionName(_IPV6, 61, "IPV6_RECVPKTINFO"),),
    receive_hop_limit=OptionName(_IPV6, 37, "IPV6_RECVHOPLIMIT"),
    receive_traffic_class=OptionName(_IPV6, 35, "IPV6_RECVTCLASS"),
    v6_only=OptionName(_IPV6, 27, "IPV6_V6ONLY"),
    most_sources=128,  # IPV6_MAX_SOCK_SRC_FILTER, netinet6/in6.h
)

MACOS: Final = Platform(
    name="macOS",
    ipv4=_MACOS_IPV4,
    ipv6=_MACOS_IPV6,
    binds_to_group=True,
    loopback_on_receiver=False,
    # udp_input (bsd/netinet/udp_usrreq.c) compares membership, source filter and bound address;
    # udp6_input (bsd/netinet6/udp6_usrreq.c) the first two only.
    delivers_strays_v4=False,
    delivers_strays_v6=True,
    delivered_to_everyone=frozenset({IPv4Address("224.0.0.1")}),
    # sys/socket.h. Bound to a group either would do, bound to the wildcard only the second.
    share_port=(
        OptionName(_MACOS_SOCKET, 0x0004, "SO_REUSEADDR"),
        OptionName(_MACOS_SOCKET, 0x0200, "SO_REUSEPORT"),
    ),
    receive_buffer=OptionName(_MACOS_SOCKET, 0x1002, "SO_RCVBUF"),
    send_buffer=OptionName(_MACOS_SOCKET, 0x1001, "SO_SNDBUF"),
    refuses_large_buffers=True,  # ENOBUFS at kern.ipc.maxsockbuf
    smallest_send_buffer=65535,  # the default, 9216, is "really max datagram size" (udp_usrreq.c)
    receive_timestamp=OptionName(_MACOS_SOCKET, 0x0400, "SO_TIMESTAMP"),
    # Seen by others: OpenJDK and swift-nio met the first (a queue of IGMP is full for a moment),
    # libuv the second (macOS 13 and later). The next attempt has succeeded.
    spurious_join_errors=("ENOMEM", "ENOEXEC"),
    sockaddr_has_length=True,
    group_req_padding=0,  # netinet/in.h: #pragma pack(4) around it
    filter_modes={"include": 1, "exclude": 2},
    control=ControlLayout("=Iii", payload_offset=12, alignment=4),
    ancillary=(
        AncillaryFormat(_IP, 26, "=I4x4s", ("interface_index", "destination")),  # IP_PKTINFO
        AncillaryFormat(_IP, 24, "=B", ("hop_limit",)),  # IP_RECVTTL
        AncillaryFormat(_IP, 27, "=B", ("traffic_class",)),  # IP_RECVTOS
        AncillaryFormat(_IPV6, 46, "=16sI", ("destination", "interface_index")),  # IPV6_PKTINFO
        AncillaryFormat(_IPV6, 47, "=i", ("hop_limit",)),  # IPV6_HOPLIMIT
        AncillaryFormat(_IPV6, 36, "=i", ("traffic_class",)),  # IPV6_TCLASS
        # SCM_TIMESTAMP: struct timeval
        AncillaryFormat(_MACOS_SOCKET, 2, "=qi4x", ("seconds", "microseconds")),
    ),
)
"""macOS 10.12 and later, on either processor."""

# --- Windows -----------------------------------------------------------------------------------

_WINDOWS_SOCKET: Final = 0xFFFF  # SOL_SOCKET, ws2def.h


def _windows_membership_options(level: int) -> MembershipOptions:
    # ws2ipdef.h. The whole filter is set by an ioctl there (SIOCSMSFILTER), not by an option.
    return _membership_options(
        level, join=41, leave=42, join_source=45, leave_source=46, block=43, unblock=44
    )


_WINDOWS_IPV4: Final = Family(
    version=4,
    number=2,  # AF_INET, ws2def.h
    membership=_windows_membership_options(_IP),
    # ws2ipdef.h
    multicast_interface=OptionName(_IP, 9, "IP_MULTICAST_IF"),
    interface_form="index as address",
    hop_limit=OptionName(_IP, 10, "IP_MULTICAST_TTL"),
    loopback=OptionName(_IP, 11, "IP_MULTICAST_LOOP"),
    # Accepted and then ignored unless the administrator has set DisableUserTOSSetting to 0.
    traffic_class=OptionName(_IP, 3, "IP_TOS"),
    receive_destination=(OptionName(_IP, 19, "IP_PKTINFO"),),
    receive_hop_limit=OptionName(_IP, 21, "IP_RECVTTL"),
    receive_traffic_class=OptionName(_IP, 40, "IP_RECVTOS"),
    older_join=OptionName(_IP, 12, "IP_ADD_MEMBERSHIP"),
    older_leave=OptionName(_IP, 13, "IP_DROP_MEMBERSHIP"),
)

_WINDOWS_IPV6: Final = Family(
    version=6,
    number=23,  # AF_INET6, ws2def.h
    membership=_windows_membership_options(_IPV6),
    # ws2ipdef.h. There the option that asks for something has the name of what then comes.
    multicast_interface=OptionName(_IPV6, 9, "IPV6_MULTICAST_IF"),
    interface_form="index",
    hop_limit=OptionName(_IPV6, 10, "IPV6_MULTICAST_HOPS"),
    loopback=OptionName(_IPV6, 11, "IPV6_MULTICAST_LOOP"),
    traffic_class=OptionName(_IPV6, 39, "IPV6_TCLASS"),
    receive_destination=(OptionName(_IPV6, 19, "IPV6_PKTINFO"),),
    receive_hop_limit=OptionName(_IPV6, 21, "IPV6_HOPLIMIT"),
    receive_traffic_class=OptionName(_IPV6, 40, "IPV6_RECVTCLASS"),
    v6_only=OptionName(_IPV6, 27, "IPV6_V6ONLY"),
    older_join=OptionName(_IPV6, 12, "IPV6_JOIN_GROUP"),
    older_leave=OptionName(_IPV6, 13, "IPV6_LEAVE_GROUP"),
)

WINDOWS: Final = Platform(
    name="Windows",
    ipv4=_WINDOWS_IPV4,
    ipv6=_WINDOWS_IPV6,
    binds_to_group=False,  # WSAEADDRNOTAVAIL
    # Microsoft: "the option must be set on the receiving socket". Of IPV6_MULTICAST_LOOP the manual
    # speaks as of the sender's, others have found the receiver's: it is set on both.
    loopback_on_receiver=True,
    delivers_strays_v4=True,
    delivers_strays_v6=True,
    share_port=(OptionName(_WINDOWS_SOCKET, 4, "SO_REUSEADDR"),),  # ws2def.h
    receive_buffer=OptionName(_WINDOWS_SOCKET, 0x1002, "SO_RCVBUF"),
    send_buffer=OptionName(_WINDOWS_SOCKET, 0x1001, "SO_SNDBUF"),
    # Microsoft's manual of the IPPROTO_UDP options; Windows 10 version 2004 and later. Of merged
    # datagrams (UDP_RECV_MAX_COALESCED_SIZE, 3) Python could not read the size: no recvmsg there.
    send_segmented=OptionName(_UDP, 2, "UDP_SEND_MSG_SIZE"),
    sockaddr_has_length=False,
    group_req_padding=4,  # SOCKADDR_STORAGE is aligned to 8, on x86 too
    filter_modes={"include": 0, "exclude": 1},  # ws2ipdef.h
    control=ControlLayout("=Qii", payload_offset=16, alignment=8),  # WSACMSGHDR
    ancillary=(
        AncillaryFormat(_IP, 19, "=4sI", ("destination", "interface_index")),  # IP_PKTINFO
        AncillaryFormat(_IP, 4, "=i", ("hop_limit",)),  # IP_TTL
        AncillaryFormat(_IP, 3, "=i", ("traffic_class",)),  # IP_TOS
        AncillaryFormat(_IPV6, 19, "=16sI", ("destination", "interface_index")),  # IPV6_PKTINFO
        AncillaryFormat(_IPV6, 21, "=i", ("hop_limit",)),  # IPV6_HOPLIMIT
        AncillaryFormat(_IPV6, 39, "=i", ("traffic_class",)),  # IPV6_TCLASS
        AncillaryFormat(_UDP, 3, "=I", ("segment_size",)),  # UDP_COALESCED_INFO
    ),
)
"""Windows 10 and later, 64 bit."""

WINDOWS_32BIT: Final = replace(
    WINDOWS,
    name="Windows (32 bit)",
    control=ControlLayout("=Iii", payload_offset=12, alignment=4),
)
"""The same for programs of 32 bit: only control messages lie differently."""
