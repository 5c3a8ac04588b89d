"""Many sockets to wait for at once, on systems where one descriptor can stand for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol


class ReadinessSet(Protocol):
    """A set of sockets that is itself readable when one of them is.

    Waiting for it is one registration with the event loop, however many sockets there are, and one
    wake-up, however many of them have become readable.
    """

    def fileno(self) -> int: ...

    def add(self, descriptor: int) -> None: ...

    def remove(self, descriptor: int) -> None:
        """Of an open socket; a closed one has removed itself."""

    def ready(self) -> Sequence[int]:
        """Those that are readable, or some of them: then others are next, for they take turns."""

    def wake(self) -> None:
        """Make the set readable, once, for another reason than its sockets."""

    def close(self) -> None: ...


def open_readiness_set() -> ReadinessSet | None:
    """None where the system has none, or no descriptor is left for it."""
    if sys.platform == "linux":
        from .readiness_epoll import EpollSet

        try:
            return EpollSet()
        except OSError:
            pass
    return None
