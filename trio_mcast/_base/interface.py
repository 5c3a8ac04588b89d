"""Network interfaces as values."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Literal, TypeAlias

IPVersion: TypeAlias = Literal[4, 6]


@dataclass(frozen=True)
class Interface:
    """A network interface of this host, as it was when it was listed.

    Attributes:
      name: the system's own name (``eth0``; on Windows the adapter's GUID)
      index: the number by which the kernel knows it, never reused while the interface exists
      friendly_name: what people call it (``Ethernet 2`` on Windows; elsewhere the name)
      addresses: its addresses with their networks, IPv4 and IPv6, in the system's order
      is_up: switched on by the administrator (``IFF_UP``). It says nothing about the cable
      is_loopback: traffic on it never leaves this host
      supports_multicast: the driver says so (``IFF_MULTICAST``). Linux' ``lo`` says no, yet
        carries multicast for programs that name it
      mtu: the largest IP packet it takes whole, in bytes
      has_ipv6: whether IPv6 runs on it (an interface can have that without any address yet). Where
        the system does not tell, whether it has an IPv6 address
      master: the name of the bridge, bond or team that it is a port of; None: of none. Such a port
        hears and sends nothing by itself (Linux)
      mac_address: its hardware address, ``02:00:5e:10:00:01``; None where it has none, or the
        system was not asked (macOS, Windows)
      altnames: other names that the system takes for it (Linux: ``altname`` of ``ip link``)
    """

    name: str
    index: int
    friendly_name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    is_up: bool
    is_loopback: bool
    supports_multicast: bool
    mtu: int
    has_ipv6: bool | None = None
    master: str | None = None
    mac_address: str | None = None
    altnames: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.has_ipv6 is None:
            object.__setattr__(self, "has_ipv6", any(a.version == 6 for a in self.addresses))

    def __str__(self) -> str:
        return self.name

    def carries(self, version: IPVersion) -> bool:
        """Whether groups of this IP version can be heard here: IPv4 needs an address."""
        if version == 6:
            return bool(self.has_ipv6)
        return any(address.version == 4 for address in self.addresses)


def ipv4_addresses(interface: Interface) -> list[IPv4Address]:
    """Its addresses without their networks."""
    return [IPv4Address(int(a.ip)) for a in interface.addresses if a.version == 4]
