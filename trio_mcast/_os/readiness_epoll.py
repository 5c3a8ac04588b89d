"""Many sockets to wait for at once: epoll(7), where there is one."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

assert not TYPE_CHECKING or sys.platform == "linux"

# With more at a time, those that were not read in this turn would be asked for twice.
_MOST_EVENTS: Final = 64


class EpollSet:
    """A set of sockets that is itself readable when one of them is.

    Waiting for it is one registration with the event loop, however many sockets there are, and one
    wake-up, however many of them have become readable.
    """

    def __init__(self) -> None:
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._epoll = select.epoll()
            self._epoll.register(self._alarm, select.EPOLLIN)
        except OSError:
            os.close(self._alarm)
            raise

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, descriptor: int) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """A closed socket has removed itself."""
        self._epoll.unregister(descriptor)

    def ready(self) -> Sequence[int]:
        """Those that are readable, or some of them: then others are next, for they take turns."""
        found = [descriptor for descriptor, _event in self._epoll.poll(0, _MOST_EVENTS)]
        if self._alarm in found:
            os.eventfd_read(self._alarm)
            found.remove(self._alarm)
        return found

    def wake(self) -> None:
        """Make the set readable, once, for another reason than its sockets."""
        os.eventfd_write(self._alarm, 1)

    def close(self) -> None:
        self._epoll.close()
        os.close(self._alarm)
