"""Announcements that come by a socket of the kernel's."""

from __future__ import annotations

import errno
import select
import socket
import sys
from abc import abstractmethod
from collections.abc import Iterable
from typing import Final

import trio

from .._interfaces.following import Event, EventsLost
from .machine import Changes

# More was announced than the buffer holds; or something that QEMU's emulation of Linux could not
# translate.
_LOSSES: Final = frozenset({errno.ENOBUFS, errno.EINVAL})


class AnnouncementSocket(Changes):
    """A socket that is readable when something was announced."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes the socket over."""
        self.socket: socket.socket = sock
        sock.setblocking(False)
        if sys.platform != "win32":  # where no announcements come by sockets
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self.socket)

    def may_have_news(self) -> bool:
        return sys.platform == "win32" or bool(self._poll.poll(0))

    def read(self) -> list[Event]:
        events: list[Event] = []
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return events
            except OSError as error:
                if error.errno not in _LOSSES:
                    raise
                events.append(EventsLost())
            else:
                events += self._parse(data)

    @abstractmethod
    def _parse(self, data: bytes) -> Iterable[Event]:
        """What the kernel says in one datagram. It is trusted."""

    def close(self) -> None:
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()
