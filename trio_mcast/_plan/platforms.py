"""What each operating system calls things, how it lays them out, and what it can do.

A `Platform` is a table. The plan asks it what a system can do and by which number it is asked,
never what the system is called, so that every system's plans are made and tested on any machine. To
add a system, write its row: an ability or an option that it lacks is False or None, and whatever
needs it is left out of the plan or refused.

Every option carries the name that its header gives it, so that the rows can be held against the
headers, against Python's `socket` module and against what people read in manuals. The numbers are
written out because the `socket` module lacks most of them (all of ``MCAST_*``, for instance), and
because `socket.SOL_IP` is wrong on Windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
      queue_figures: tells bytes queued and datagrams dropped
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
    queue_figures: OptionName | None = None
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


def membership_options(
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
IP: Final = 0
IPV6: Final = 41
UDP: Final = 17
