"""Which interfaces a caller means: the one answer for receivers, senders and everything else.

A selector is what a caller writes to mean some interfaces: a name, an index, an address, a network,
or an `Interface` that was listed before. A `Selection` is all that was written in one place. It is
parsed once and can then be held against any listing, also a later one: that is how an interface is
found again that was re-created.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias, TypeVar

from .._base.errors import InterfaceNotFoundError
from .._base.interface import Interface, IPVersion
from .._base.values import are_several

_Address = TypeVar("_Address", IPv4Address, IPv6Address, IPv4Address | IPv6Address)

InterfaceSelector: TypeAlias = (
    str | int | IPv4Address | IPv6Address | IPv4Network | IPv6Network | Interface
)
"""What names one interface, or several that have an address or a network in common."""

InterfacesLike: TypeAlias = InterfaceSelector | Iterable[InterfaceSelector] | None
"""What names any number of interfaces. None: every fitting one."""


@dataclass(frozen=True)
class ByName:
    """The interface called so, by the system or by people; or, all digits, with that index.

    Attributes:
      may_be_index: it was written as text. The name of an `Interface` means no index
    """

    name: str
    may_be_index: bool = True

    def __str__(self) -> str:
        return f"named {self.name!r}"

    def matches(self, interface: Interface) -> bool:
        return self.is_name_of(interface) or (
            self.may_be_index and self.name.isdecimal() and interface.index == int(self.name)
        )

    def is_name_of(self, interface: Interface) -> bool:
        return self.name in (interface.name, interface.friendly_name, *interface.altnames)


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
        zone = zone_of(self.address)
        if zone is not None and not ByName(zone).matches(interface):
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


@dataclass(frozen=True)
class Selection:
    """Which interfaces a caller means.

    Attributes:
      selectors: what was named, each for itself. None: every interface that is up, can multicast,
        is not loopback, no port of a bridge and the like, and has what the IP version needs
      zones: what the zones of a group and of a source restrict this to
      without: what was taken out again, by what was named
    """

    selectors: tuple[Selector, ...] | None = None
    zones: tuple[ByName, ...] = ()
    without: tuple[Selection, ...] = ()

    @classmethod
    def parse(cls, value: object) -> Selection:
        """What a caller wrote for some interfaces: one selector, several, None or ``"all"``.

        Raises:
          ValueError: an empty selection, for that is a mistake sooner than a wish; an empty text,
            or an index below 1
          TypeError: anything that cannot name an interface
        """
        return cls(_parse_several(value))

    @classmethod
    def parse_one(cls, value: object) -> Selection:
        """One selector. Raises: as `parse`."""
        return cls((_parse_selector(value),))

    def in_zone(self, zone: str | None) -> Selection:
        """This, restricted to the interface of a zone if there is one."""
        return self if zone is None else replace(self, zones=(*self.zones, ByName(zone)))

    @property
    def named(self) -> tuple[Selector, ...]:
        """What the caller named, in either way."""
        return (*(self.selectors or ()), *self.zones)

    @property
    def is_named(self) -> bool:
        return bool(self.named)

    def find(
        self, listing: Iterable[Interface], version: IPVersion | None = None
    ) -> tuple[Interface, ...]:
        """The interfaces that are meant, in the listing's order.

        Named ones are taken as they are, for the caller will know why.

        Args:
          version: which groups it is for; None: any
        """
        found = tuple(listing)
        if self.without:
            left = {i.index for other in self.without for i in other.find(found)}
            found = tuple(i for i in found if i.index not in left)
        # Each is looked up among all, for what is digits is an index only if nothing is called so.
        everything = found
        for zone in self.zones:
            found = tuple(i for i in _find(zone, everything) if i in found)
        if self.selectors is not None:
            chosen = {i.index for selector in self.selectors for i in _find(selector, everything)}
            return tuple(interface for interface in found if interface.index in chosen)
        return found if self.zones else tuple(i for i in found if _fits(i, version))

    def require(
        self, listing: Iterable[Interface], version: IPVersion | None = None
    ) -> tuple[Interface, ...]:
        """As `find`, but it is an error if something was named that does not exist.

        Raises:
          InterfaceNotFoundError: it says what there is instead
        """
        listing = tuple(listing)
        for selector in self.named:
            if not any(map(selector.matches, listing)):
                there = ", ".join(f"{i.name} ({i.index})" for i in listing) or "none"
                raise InterfaceNotFoundError(f"no interface {selector}; there are: {there}")
        found = self.find(listing, version)
        if self.is_named and not found:
            raise InterfaceNotFoundError(
                f"the zone, the interface {self.zones[-1]}, is none of the interfaces selected"
            )
        return found

    def covers(self, interface: Interface, version: IPVersion | None = None) -> bool:
        return bool(self.find((interface,), version))

    def reason_for(self, interface: Interface) -> Selection | None:
        """That part of this which means one interface; None if nothing was named.

        When the interface has gone and its index may be another's, the reason tells which of those
        that are there now is meant. It is kept from the beginning: an interface may be renamed, or
        lose its address, before it goes.
        """
        if not self.is_named:
            return None
        matching = tuple(s for s in self.selectors or () if s.matches(interface))
        return Selection(matching or None, self.zones)

    def leaving(self, other: Selection) -> Selection:
        """This, but for what another one names, now and later."""
        return replace(self, without=tuple(dict.fromkeys((*self.without, other))))


def zone_of(address: IPv4Address | IPv6Address) -> str | None:
    return address.scope_id if isinstance(address, IPv6Address) else None


def without_zone(address: _Address) -> _Address:
    return address if zone_of(address) is None else type(address)(int(address))


def addresses_on(addresses: Iterable[_Address], interface: Interface) -> tuple[_Address, ...]:
    """Those of the addresses that can be on an interface, without their zones."""
    return tuple(
        without_zone(address)
        for address in addresses
        if (zone := zone_of(address)) is None or ByName(zone).matches(interface)
    )


def _fits(interface: Interface, version: IPVersion | None) -> bool:
    return (
        interface.is_up
        and interface.master is None
        and interface.supports_multicast
        and not interface.is_loopback
        and (version is None or interface.carries(version))
    )


def _find(selector: Selector, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """The listed interfaces that the selector means. A name goes before an index."""
    found = tuple(interface for interface in listing if selector.matches(interface))
    if isinstance(selector, ByName) and len(found) > 1:
        return tuple(i for i in found if selector.is_name_of(i)) or found
    return found


def _parse_several(value: object) -> tuple[Selector, ...] | None:
    if value is None or value == "all":
        return None
    if are_several(value):
        selectors = tuple(_parse_selector(item) for item in value)
        if not selectors:
            raise ValueError(
                f"interfaces={value!r} selects nothing; None means every fitting interface"
            )
        return tuple(dict.fromkeys(selectors))
    return (_parse_selector(value),)


def _parse_selector(value: object) -> Selector:
    match value:
        case bool():
            raise TypeError(_not_a_selector(value))
        case Interface(name=name):
            return ByName(name, may_be_index=not name.isdecimal())
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
