"""Announcements of changes on macOS: the routing socket (route(4), ``net/route.h``)."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import trio

from .._interfaces.following import Event, EventsLost, LinkSeen

assert not TYPE_CHECKING or sys.platform == "darwin"

RTM_VERSION: Final = 5
RTM_NEWADDR: Final = 0xC
RTM_DELADDR: Final = 0xD
RTM_IFINFO: Final = 0xE
_AF_ROUTE: Final = 17
_IFF_RUNNING: Final = 0x40

# if_msghdr and ifa_msghdr begin alike: length, version, type, addresses, flags, index
_HEADER: Final = struct.Struct("=HBBiiH")


class RouteSocketWatch:
    """A socket that is readable when something was announced."""

    def __init__(self) -> None:
        self.socket = socket.socket(_AF_ROUTE, socket.SOCK_RAW, 0)
        self.socket.setblocking(False)

    is_complete = False  # deletions are not announced, nor addresses with all that matters

    def look(self) -> list[Event]:
        """How every interface is now: nothing that a listing would not tell."""
        return []

    async def wait(self) -> None:
        """Return when something was announced."""
        await trio.lowlevel.wait_readable(self.socket)

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
                events += read_messages_untrusted(data)

    def interrupt(self) -> None:
        """Before closing: whoever waits gets a ClosedResourceError."""
        trio.lowlevel.notify_closing(self.socket)

    def close(self) -> None:
        self.socket.close()


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
