"""The datagram, as the application sees it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .interface import Interface

SocketAddress: TypeAlias = tuple[Any, ...]
"""An address as the `socket` module writes it: (host, port), for IPv6 with flow and scope id."""


class Datagram(NamedTuple):
    """A datagram that arrived, and what is known about its way here.

    Attributes:
      data: the payload, whole
      source: the sender, as the `socket` module writes addresses: ``(host, port)`` for IPv4,
        ``(host, port, flow info, scope id)`` for IPv6. It can be answered as it stands
      group: the group it was sent to
      port: the port it was sent to
      interface: the interface it came in by
      hop_limit: the hops it had left when it arrived (IPv4: TTL), if asked for
      timestamp: when the kernel got it, in nanoseconds since 1970 (UTC), if asked for. The first
        after opening may be when it was read instead: Linux begins to stamp a moment later
      traffic_class: the byte with DSCP and ECN (RFC 2474, RFC 3168), if asked for
      truncated: whether the payload was cut. The buffers take the largest UDP datagram there is,
        so it is False unless a system does what none is known to do
    """

    data: bytes
    source: SocketAddress
    group: IPv4Address | IPv6Address
    port: int
    interface: Interface
    hop_limit: int | None = None
    timestamp: int | None = None
    traffic_class: int | None = None
    truncated: bool = False
