"""How this system announces changes of its interfaces."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import Protocol

from .._plan.follow import Event


class ChangeWatch(Protocol):
    """Announcements of changes."""

    is_complete: bool
    """Whether everything that matters is announced. If not, compare listings as well."""

    async def wait(self) -> None:
        """Return when something was announced since the last `read`, or might have been.

        Raises:
          trio.ClosedResourceError: the watch was closed
          OSError: nothing is known of what is announced, for now
        """

    def look(self) -> list[Event]:
        """How every interface is now, as if it were announced."""

    def read(self) -> list[Event]:
        """What was announced since the last call, in order. It does not wait."""

    def interrupt(self) -> None:
        """Before closing: whoever waits gets a ClosedResourceError."""

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
        if sys.platform == "win32":
            from .watch_windows import AddressListWatch

            return AddressListWatch()
    except OSError:  # a sandbox without AF_NETLINK or AF_ROUTE, or no descriptor left
        pass
    return None


def list_groups() -> frozenset[tuple[int, bytes]] | None:
    """The groups that anyone on this host has joined: (interface index, packed group).

    None where the system does not say.
    """
    if sys.platform != "linux":
        return None
    from . import proc

    try:
        rows = proc.read_groups()
    except OSError:  # no /proc
        return None
    return frozenset((row.interface, ip_address(row.group).packed) for row in rows)
