"""Announcements of changes on Windows: SIO_ADDRESS_LIST_CHANGE, by trio's completion port."""

from __future__ import annotations

import ctypes
import socket
import sys
from typing import TYPE_CHECKING, Final

import trio

from .._interfaces.following import Event
from .machine import Changes
from .winsock import OVERLAPPED, SIO_ADDRESS_LIST_CHANGE, Winsock

assert not TYPE_CHECKING or sys.platform == "win32"

_POLL_SECONDS: Final = 2.0


class AddressListChanges(Changes):
    """A request to Winsock for each IP version that completes when its addresses change.

    That is when an interface comes, goes, or gets or loses an address; Windows takes the addresses
    from one that loses its carrier. A request tells of one change, so the next is made before
    anybody looks at what has changed: nothing that comes after the look is missed.
    """

    def __init__(self) -> None:
        self._winsock = Winsock()
        self._has_changed = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = False
        self._sockets: list[socket.socket] = []
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                try:
                    sock = socket.socket(family, socket.SOCK_DGRAM)
                except OSError:  # a host without one of them, say
                    if family == socket.AF_INET6 and not self._sockets:
                        raise
                    continue
                self._sockets.append(sock)
                sock.setblocking(False)  # on a blocking socket the request would block
                trio.lowlevel.register_with_iocp(sock.fileno())
        except BaseException:
            self.close()
            raise
        # System tasks, since the requests are pending while nobody waits for changes. A request
        # that completes must have a task that waits for it: trio takes anything else for a bug.
        for sock in self._sockets:
            trio.lowlevel.spawn_system_task(
                self._wait_for_changes, sock, name="trio_mcast: wait for changes"
            )

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self._has_changed and not self._is_closed:
            await self._waiting.park()
        if self._is_closed:
            raise trio.ClosedResourceError("the announcements were closed")

    def read(self) -> list[Event]:
        """Only that there was something, which a comparison of listings finds."""
        self._has_changed = False
        return []

    def close(self) -> None:
        self._is_closed = True
        self._waiting.unpark_all()
        for sock in self._sockets:
            sock.close()

    def _note_change(self) -> None:
        self._has_changed = True
        self._waiting.unpark_all()

    async def _wait_for_changes(self, sock: socket.socket) -> None:
        """The task of one IP version. It must not raise."""
        while not self._is_closed:
            overlapped = OVERLAPPED()
            try:
                self._winsock.control_overlapped(sock, SIO_ADDRESS_LIST_CHANGE, overlapped)
                # The first time too, for what has changed before there was a request.
                self._note_change()
                await trio.lowlevel.wait_overlapped(sock.fileno(), ctypes.addressof(overlapped))
            except trio.ClosedResourceError:
                return
            except OSError:
                if self._is_closed:
                    return
                self._note_change()
                await trio.sleep(_POLL_SECONDS)
