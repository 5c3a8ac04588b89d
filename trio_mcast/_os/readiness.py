"""Many sockets to wait for at once, on systems where one descriptor can stand for them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Sequence
from typing import Protocol


class SocketSet(Protocol):
    """Sockets that one task waits for together.

    Waiting for it is one registration with the event loop, however many sockets there are, and one
    wake-up, however many of them have become readable.

    Another task can wait for an alarm, which goes off when a socket is readable, but only while it
    is armed. So that task is not woken for each datagram, and need not be woken in order to be told
    whether it shall be: arming and disarming costs less than a tenth of a wake-up.
    """

    def add(self, descriptor: int) -> None: ...

    def remove(self, descriptor: int) -> None:
        """Of an open socket; a closed one has removed itself."""

    def ready(self) -> Sequence[int]:
        """Those that are readable, or some of them: then others are next, for they take turns."""

    def wait(self) -> Awaitable[None]:
        """Return when a socket is readable. Raises ClosedResourceError if interrupted."""

    def interrupt(self) -> None:
        """Wake whoever is in `wait`."""

    def arm(self) -> None:
        """Have the alarm go off as soon as a socket is readable, and until `disarm`."""

    def disarm(self) -> None: ...

    def wait_for_alarm(self) -> Awaitable[None]:
        """Return when the alarm has gone off. Raises ClosedResourceError if the set is closed."""

    def close(self) -> None: ...


def open_socket_set() -> SocketSet | None:
    """None where the system has none, or no descriptor is left for it."""
    if sys.platform == "linux":
        from .readiness_epoll import EpollSet

        try:
            return EpollSet()
        except OSError:
            pass
    return None
