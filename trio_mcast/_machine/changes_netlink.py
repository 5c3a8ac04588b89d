"""Announcements of changes on Linux: rtnetlink multicast groups, for any user, in any namespace."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from .._interfaces.following import AddressSeen, Event, GroupEnded, LinkGone, LinkSeen
from . import netlink
from .announcement_socket import AnnouncementSocket

assert not TYPE_CHECKING or sys.platform == "linux"

# Bits of sockaddr_nl.nl_groups: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_ANNOUNCED: Final = 0x1 | 0x10 | 0x100

_SOL_NETLINK: Final = 270  # linux/socket.h
_NETLINK_ADD_MEMBERSHIP: Final = 1  # linux/netlink.h
_RTNLGRP_IPV4_MCADDR: Final = 37  # linux/rtnetlink.h
_RTNLGRP_IPV6_MCADDR: Final = 38

# Enough for the announcements of some hundred interfaces that change at once.
_RECEIVE_BUFFER: Final = 1 << 20


class NetlinkChanges(AnnouncementSocket):
    """What rtnetlink announces in the network namespace of the thread that opens it.

    Attributes:
      while_looking: makes what `look` needs: the thread may be elsewhere by then
    """

    is_complete = True
    while_looking: Callable[[], AbstractContextManager[None]] = nullcontext

    def __init__(self) -> None:
        super().__init__(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self.socket.bind((0, _ANNOUNCED))
            self.announces_groups = self._listen_to_groups()
        except BaseException:
            self.socket.close()
            raise

    def _listen_to_groups(self) -> bool:
        """Linux announces them since 6.15."""
        try:
            for number in (_RTNLGRP_IPV4_MCADDR, _RTNLGRP_IPV6_MCADDR):
                self.socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, number)
        except OSError:
            return False
        return True

    def look(self) -> list[Event]:
        with self.while_looking():
            return [_link_seen(link) for link in netlink.list_links()]

    def _parse(self, data: bytes) -> Iterable[Event]:
        # Joins are the most by far, and this program's own are among them. They change nothing.
        return () if netlink.is_one(data, netlink.RTM_NEWMULTICAST) else _read_events(data)


def _read_events(data: bytes) -> Iterator[Event]:
    for kind, body, _flags in netlink.read_messages(data):
        if kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
            link = netlink.read_link(body)
            if link is not None:
                yield LinkGone(link.index) if kind == netlink.RTM_DELLINK else _link_seen(link)
        elif kind == netlink.RTM_DELMULTICAST:
            ended = netlink.read_multicast(body)
            if ended is not None:
                yield GroupEnded(*ended)
        elif kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
            address = netlink.read_address(body)
            if address is not None:
                yield AddressSeen(address.interface_index, address.version)


def _link_seen(link: netlink.Link) -> LinkSeen:
    # Linux takes IPv6 off such an interface, but what it announces of the MTU is from just before.
    lost_ipv6 = link.ipv6 == "absent" or link.mtu < netlink.LEAST_IPV6_MTU
    return LinkSeen(
        link.index,
        link.has_carrier,
        link.carrier_changes,
        lost_ipv6,
        link.hardware_address or link.name,
    )
