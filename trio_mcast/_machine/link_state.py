"""What each system's own mechanism tells about an interface."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinkState:
    """What ifaddr does not tell about an interface."""

    index: int
    name: str
    is_up: bool
    is_loopback: bool
    supports_multicast: bool
    mtu: int
    has_ipv6: bool | None = None
    friendly_name: str | None = None
