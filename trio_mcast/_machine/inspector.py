"""What a machine says of itself beyond what receivers and senders need: the doctor's questions.

Nothing is changed by asking, and every answer may be that it is not known.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Protocol

import trio

from .._base.interface import Interface
from .._base.snapshot import Joined, Link, Route, Sighting, Snapshot, UdpSocket


class Frame(NamedTuple):
    """What came in by an interface, as it is on the wire.

    Attributes:
      flaw: what about the frame itself keeps this host from taking it; empty: nothing does
    """

    sighting: Sighting
    flaw: str = ""


class Capture(Protocol):
    """What comes in, before firewall and routes have a say: a socket that is readable then."""

    socket: socket.socket

    def read(self) -> list[Frame]:
        """Some of what has come in since the last call. It does not wait."""

    def close(self) -> None: ...


class Inspector:
    """Knows the interfaces and nothing else: of a made-up machine, say."""

    def __init__(self, list_interfaces: Callable[[], tuple[Interface, ...]]) -> None:
        self._list_interfaces = list_interfaces

    def take_snapshot(self) -> Snapshot:
        """The machine as it is now."""
        return Snapshot(sys.platform, tuple(map(link_from, self._list_interfaces())))

    def read_counters(self) -> dict[str, int]:
        """The counters of IP and UDP, by their names in /proc/net."""
        return {}

    def list_udp_sockets(self) -> tuple[UdpSocket, ...]:
        """Every UDP socket that is bound, without the programs that have it."""
        return ()

    def find_inode(self, descriptor: int) -> int:
        """By which number `list_udp_sockets` has an open socket of ours; 0 if that is not known."""
        return 0

    def list_joined(self) -> tuple[Joined, ...] | None:
        """Every group that is joined, on which interface; None if that is not known."""
        return None

    def find_route(
        self, group: IPv4Address | IPv6Address, index: int, source: IPv4Address | IPv6Address
    ) -> Route:
        """What the routes say of a sender to a group, that comes in by an interface."""
        return Route(str(group), index, str(source), None, None, "")

    def find_local_route(self, group: IPv6Address, index: int) -> str | None:
        """How an IPv6 group is routed on an interface: "none", "local", "other"; None: unknown."""
        return None

    @trio.lowlevel.enable_ki_protection
    def find_free_port(self) -> int:
        """A UDP port at which nobody is."""
        return 65535

    def try_to_send(
        self, group: IPv4Address | IPv6Address, port: int, interface: Interface
    ) -> bool:
        """See whether sending is forbidden, without a datagram leaving the host.

        Returns:
          Whether it could be tried

        Raises:
          OSError: it is forbidden
        """
        return False

    def open_capture(self) -> Capture | None:
        """None where the system has none, or this user may not."""
        return None


class SystemInspector(Inspector):
    """Of a system that has sockets as Python has them, and tells nothing else."""

    def find_free_port(self) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("", 0))
            port: int = sock.getsockname()[1]
            return port


def link_from(interface: Interface) -> Link:
    """A link of which only the listing is known."""
    return Link(
        interface.name,
        interface.index,
        interface.is_up,
        interface.is_loopback,
        interface.supports_multicast,
        interface.mtu,
        tuple(map(str, interface.addresses)),
        ipv6="on" if interface.has_ipv6 else "disabled",
    )
