"""What each system's own mechanism tells about an interface."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TypeAlias

Addresses: TypeAlias = dict[int, list[IPv4Interface | IPv6Interface]]
"""Those of each interface, by its index."""


@dataclass(frozen=True)
class LinkState:
    """What each system tells of an interface besides its addresses."""

    index: int
    name: str
    is_up: bool
    is_loopback: bool
    supports_multicast: bool
    mtu: int
    has_ipv6: bool | None = None
    friendly_name: str | None = None
    master: str | None = None
    mac_address: str | None = None
    altnames: tuple[str, ...] = ()
