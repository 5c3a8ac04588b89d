"""Announcements of changes on macOS: the routing socket (route(4), ``net/route.h``)."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from .._interfaces.following import Event, LinkSeen
from .announcement_socket import AnnouncementSocket

assert not TYPE_CHECKING or sys.platform == "darwin"

RTM_VERSION: Final = 5
RTM_NEWADDR: Final = 0xC
RTM_DELADDR: Final = 0xD
RTM_IFINFO: Final = 0xE
_AF_ROUTE: Final = 17
_IFF_RUNNING: Final = 0x40

# if_msghdr and ifa_msghdr begin alike: length, version, type, addresses, flags, index
_HEADER: Final = struct.Struct("=HBBiiH")


class RouteSocketChanges(AnnouncementSocket):
    """Deletions are not announced, nor addresses with all that matters: it is not complete."""

    def __init__(self) -> None:
        super().__init__(socket.socket(_AF_ROUTE, socket.SOCK_RAW, 0))

    def _parse(self, data: bytes) -> Iterable[Event]:
        return read_messages_untrusted(data)


def read_messages_untrusted(data: bytes) -> Iterator[Event]:
    """What routing messages announce. Addresses are left to a comparison of listings."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, version, kind, _addresses, flags, index = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        if version == RTM_VERSION and kind == RTM_IFINFO:
            yield LinkSeen(index, has_carrier=bool(flags & _IFF_RUNNING))
        offset += length
