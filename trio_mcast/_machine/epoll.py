"""Many sockets to wait for at once: epoll(7), where there is one."""

from __future__ import annotations

import select
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from .receiving import ReceivingSocket, SocketSet

assert not TYPE_CHECKING or sys.platform == "linux"

# With more at a time, those that were not read in this turn would be asked for twice.
_MOST_EVENTS: Final = 64


class EpollSet(SocketSet):
    """An epoll instance is readable when one of its sockets is.

    The alarm is a second instance that holds the first one.
    """

    def __init__(self) -> None:
        self._sockets = select.epoll()
        try:
            self._alarm = select.epoll()
        except BaseException:
            self._sockets.close()
            raise
        self._alarm.register(self._sockets.fileno(), 0)
        self._descriptor = self._sockets.fileno()

    def add(self, sock: ReceivingSocket) -> int:
        descriptor = sock.fileno()
        self._sockets.register(descriptor, select.EPOLLIN)
        sock.socket_set = self
        return descriptor

    def remove(self, sock: ReceivingSocket) -> None:
        if sock.socket_set is self and not self._sockets.closed:
            with suppress(OSError):  # a sandbox; closing the socket does it too
                self._sockets.unregister(sock.fileno())
        sock.socket_set = None

    def ready(self) -> Sequence[int]:
        return [descriptor for descriptor, _event in self._sockets.poll(0, _MOST_EVENTS)]

    def wait(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._descriptor)  # noqa: ASYNC105 # a frame saved

    def interrupt(self) -> None:
        # Trio means it for a descriptor that is about to be closed, and forgets about it until
        # somebody waits for it again, which is what happens here.
        if not self._sockets.closed:  # else the number may be somebody else's by now
            trio.lowlevel.notify_closing(self._descriptor)

    def arm(self) -> bool:
        return self._switch_alarm(select.EPOLLIN)

    def disarm(self) -> None:
        self._switch_alarm(0)

    def _switch_alarm(self, events: int) -> bool:
        try:
            self._alarm.modify(self._descriptor, events)
        except OSError:  # a sandbox, or no memory
            return False
        return True

    def wait_for_alarm(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._alarm)  # noqa: ASYNC105

    def close(self) -> None:
        for epoll in (self._sockets, self._alarm):
            trio.lowlevel.notify_closing(epoll)
            epoll.close()
