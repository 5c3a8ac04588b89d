"""Announcements of changes on Linux: rtnetlink multicast groups, for any user, in any namespace."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .._plan.follow import AddressSeen, Event, EventsLost, LinkGone, LinkSeen
from . import netlink

assert not TYPE_CHECKING or sys.platform == "linux"

# Bits of sockaddr_nl.nl_groups: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_GROUPS: Final = 0x1 | 0x10 | 0x100

# RFC 8200 s5. Below it Linux takes IPv6 off an interface with all its memberships, but what it
# announces of the MTU is from just before that.
_LEAST_IPV6_MTU: Final = 1280

# Enough for the announcements of some hundred interfaces that change at once.
_RECEIVE_BUFFER: Final = 1 << 20


class NetlinkWatch:
    """A socket that is readable when something was announced."""

    is_complete = True

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self.socket.bind((0, _GROUPS))
        except BaseException:
            self.socket.close()
            raise

    def look(self) -> list[Event]:
        """How every interface is now, as if it were announced."""
        return [_link_seen(link) for link in netlink.list_links()]

    def read(self) -> list[Event]:
        """What was announced since the last call, in order."""
        events: list[Event] = []
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return events
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                events.append(EventsLost())
            else:
                events += _read_events(data)

    def list_ipv6_groups(self) -> frozenset[tuple[int, bytes]]:
        """The IPv6 groups that anyone on this host has joined: (interface index, packed group)."""
        # /proc/net would be that of the process' first thread, which may be in another namespace.
        with open("/proc/thread-self/net/igmp6") as table:
            rows = (line.split() for line in table)
            return frozenset((int(row[0]), bytes.fromhex(row[2])) for row in rows)

    def close(self) -> None:
        self.socket.close()


def _read_events(data: bytes) -> Iterator[Event]:
    for kind, body in netlink.read_messages(data):
        if kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
            link = netlink.read_link(body)
            if link is not None:
                yield LinkGone(link.index) if kind == netlink.RTM_DELLINK else _link_seen(link)
        elif kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
            address = netlink.read_address(body)
            if address is not None:
                yield AddressSeen(address.interface_index, address.version)


def _link_seen(link: netlink.Link) -> LinkSeen:
    lost_ipv6 = link.ipv6 == "absent" or link.mtu < _LEAST_IPV6_MTU
    return LinkSeen(link.index, link.has_carrier, link.carrier_changes, lost_ipv6)
