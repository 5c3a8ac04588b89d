"""How this system announces changes of its interfaces."""

from __future__ import annotations

import sys
from socket import socket
from typing import Protocol

from .._plan.follow import Event


class ChangeWatch(Protocol):
    """Announcements of changes, to be waited for by waiting for its socket to be readable."""

    socket: socket
    is_complete: bool
    """Whether everything that matters is announced. If not, compare listings as well."""

    def look(self) -> list[Event]:
        """How every interface is now, as if it were announced."""

    def read(self) -> list[Event]:
        """What was announced since the last call, in order. It does not wait."""

    def list_ipv6_groups(self) -> frozenset[tuple[int, bytes]] | None:
        """The IPv6 groups joined on this host: (interface index, packed group), or None."""

    def close(self) -> None: ...


def open_watch() -> ChangeWatch | None:
    """The system's way, or None where there is none, or none that may be used here."""
    try:
        if sys.platform == "linux":
            from .watch_netlink import NetlinkWatch

            return NetlinkWatch()
        if sys.platform == "darwin":
            from .watch_route import RouteSocketWatch

            return RouteSocketWatch()
    except OSError:  # a sandbox without AF_NETLINK or AF_ROUTE, or no descriptor left
        pass
    return None
