"""Network interfaces as values, and the choice among them.

A selector is what a caller writes to mean some interfaces: a name, an index, an address, a network,
or an `Interface` that was listed before. It is parsed once and can then be held against any
listing, also a later one: that is how a receiver finds an interface again that was re-created.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Literal, TypeAlias

from .._errors import InterfaceNotFoundError

IPVersion: TypeAlias = Literal[4, 6]

InterfaceSelector: TypeAlias = (
    "str | int | IPv4Address | IPv6Address | IPv4Network | IPv6Network | Interface"
)


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


@dataclass(frozen=True)
class ByName:
    """The interface called so, by the system or by people; or, all digits, with that index."""

    name: str

    def __str__(self) -> str:
        return f"named {self.name!r}"

    def matches(self, interface: Interface) -> bool:
        return self.name in (interface.name, interface.friendly_name)


@dataclass(frozen=True)
class ByIndex:
    index: int

    def __str__(self) -> str:
        return f"with index {self.index}"

    def matches(self, interface: Interface) -> bool:
        return interface.index == self.index


@dataclass(frozen=True)
class ByAddress:
    """Every interface that has the address; with a zone, of those the one the zone names."""

    address: IPv4Address | IPv6Address

    def __str__(self) -> str:
        return f"with address {self.address}"

    def matches(self, interface: Interface) -> bool:
        zone = getattr(self.address, "scope_id", None)
        if zone is not None and zone not in (interface.name, str(interface.index)):
            return False
        return any(
            int(a.ip) == int(self.address)
            for a in interface.addresses
            if a.version == self.address.version
        )


@dataclass(frozen=True)
class ByNetwork:
    """Every interface with an address inside the network."""

    network: IPv4Network | IPv6Network

    def __str__(self) -> str:
        return f"with an address in {self.network}"

    def matches(self, interface: Interface) -> bool:
        return any(
            a.ip in self.network for a in interface.addresses if a.version == self.network.version
        )


Selector: TypeAlias = ByName | ByIndex | ByAddress | ByNetwork


def parse_selector(value: object) -> Selector:
    """What a caller wrote for some interfaces.

    Raises:
      ValueError: an empty text, or an index below 1
      TypeError: anything that cannot name an interface
    """
    match value:
        case bool():
            raise TypeError(_not_a_selector(value))
        case Interface(name=name):
            return ByName(name)
        case int():
            if value < 1:
                raise ValueError(f"interface index {value} is below 1")
            return ByIndex(value)
        case IPv4Address() | IPv6Address():
            return ByAddress(value)
        case IPv4Network() | IPv6Network():
            return ByNetwork(value)
        case str():
            return _parse_text(value)
    raise TypeError(_not_a_selector(value))


def _not_a_selector(value: object) -> str:
    return (
        f"{value!r} cannot name an interface: give a name, an index, an address, a network "
        "or an Interface"
    )


def _parse_text(text: str) -> Selector:
    if not text.strip():
        raise ValueError(f"interface name {text!r} is empty")
    try:
        return ByAddress(ip_address(text))
    except ValueError:
        pass
    if "/" in text:
        try:
            return ByNetwork(ip_network(text, strict=False))
        except ValueError:
            pass
    return ByName(text)


def parse_selectors(value: object) -> tuple[Selector, ...] | None:
    """One selector or several of them; None (every fitting interface) stays None.

    Raises:
      ValueError: an empty selection, for that is a mistake sooner than a wish
      TypeError: anything that cannot name an interface
    """
    if value is None:
        return None
    if isinstance(value, Iterable) and not isinstance(
        value, (str, bytes, bytearray, IPv4Network, IPv6Network)
    ):
        selectors = tuple(parse_selector(item) for item in value)
        if not selectors:
            raise ValueError(
                f"interfaces={value!r} selects nothing; None means every fitting interface"
            )
        return tuple(dict.fromkeys(selectors))
    return (parse_selector(value),)


def find(selector: Selector, listing: Iterable[Interface]) -> tuple[Interface, ...]:
    """The listed interfaces that the selector means, perhaps none."""
    listing = tuple(listing)
    found = tuple(interface for interface in listing if selector.matches(interface))
    if not found and isinstance(selector, ByName) and selector.name.isdecimal():
        return find(ByIndex(int(selector.name)), listing)
    return found


def require(selector: Selector, listing: Iterable[Interface]) -> tuple[Interface, ...]:
    """As `find`, but finding nothing is an error.

    Raises:
      InterfaceNotFoundError: it says what there is instead
    """
    listing = tuple(listing)
    if found := find(selector, listing):
        return found
    there = ", ".join(f"{i.name} ({i.index})" for i in listing) or "none"
    raise InterfaceNotFoundError(f"no interface {selector}; there are: {there}")


def select(
    selectors: tuple[Selector, ...] | None, version: IPVersion, listing: Iterable[Interface]
) -> tuple[Interface, ...]:
    """The interfaces to use for groups of an IP version, in the listing's order, each once.

    Named ones are taken as they are, for the caller will know why. Without a selection it is every
    interface that is up, can multicast, is not loopback and has what the IP version needs.
    """
    listing = tuple(listing)
    if selectors is None:
        return tuple(
            interface
            for interface in listing
            if interface.is_up
            and interface.supports_multicast
            and not interface.is_loopback
            and interface.carries(version)
        )
    chosen = {i.index for selector in selectors for i in find(selector, listing)}
    return tuple(interface for interface in listing if interface.index in chosen)
