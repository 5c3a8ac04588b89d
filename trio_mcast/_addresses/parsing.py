"""Text to values: groups, sources, ports, and whether a group can be joined or sent to.

What is parsed here is known to be good afterwards and is never checked again. Everything is told
from the bits of the address, since a receiver may be opened with a thousand groups; what an address
means in full is for `classification`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
)
from typing import TYPE_CHECKING, TypeAlias

from .._base.errors import AddressError
from .._base.values import are_several

if TYPE_CHECKING:
    from .._base.interface import IPVersion

IPAddress: TypeAlias = IPv4Address | IPv6Address

GroupLike: TypeAlias = str | IPv4Address | IPv6Address
SourceLike: TypeAlias = str | IPv4Address | IPv6Address
"""What callers may write for a group, and for a sender."""

_LIMITED_BROADCAST = IPv4Address("255.255.255.255")
_SCOPES_TO_TAKE = "the scope is the fourth digit, from 1 (the interface) to e (global)"


@dataclass(frozen=True)
class Group:
    """A multicast group, perhaps on one interface only.

    Attributes:
      address: the group, without a zone
      zone: name or index of the interface that the group was restricted to (``ff02::fb%eth0``)
    """

    address: IPAddress
    zone: str | None = None

    def __str__(self) -> str:
        return str(self.address) if self.zone is None else f"{self.address}%{self.zone}"

    @property
    def version(self) -> IPVersion:
        return self.address.version


def parse_group(value: object) -> Group:
    """A group that can be joined, from text or an `ipaddress` object.

    Text may carry a zone for either IP version: ``239.1.2.3%eth0``, ``ff02::fb%2``.

    Raises:
      AddressError: no address, a unicast one, or a group that nobody can receive
      TypeError: neither text nor an address
    """
    if isinstance(value, Group):
        return value
    address, zone = parse_address(value)
    if not is_multicast(address):
        raise AddressError(_not_a_group(value, address))
    if address.version == 6 and ipv6_scope(address) == 0:
        raise AddressError(
            f"{str(value)!r} has scope 0, which is reserved: nodes drop what is sent there "
            f"(RFC 4291 s2.7); {_SCOPES_TO_TAKE}"
        )
    return Group(address, zone)


def _not_a_group(value: object, address: IPAddress) -> str:
    if mapped := mapped_ipv4(address):
        return f"{str(value)!r} {_mapped(mapped)}"
    return f"{str(value)!r} is a unicast address; IPv4 groups are 224.0.0.0/4, IPv6 ff00::/8"


def _mapped(address: IPv4Address) -> str:
    return f"is an IPv4 address mapped into IPv6; write it as {address}"


def parse_source(value: object) -> IPAddress:
    """The unicast address of a sender. That of IPv6 keeps its zone, which says where the sender is.

    Raises:
      AddressError: no address, or one that no datagram comes from; or a zone of an IPv4 address
      TypeError: neither text nor an address
    """
    address, zone = parse_address(value)
    if fault := _source_fault(address):
        raise AddressError(f"source {str(value)!r} {fault}")
    if zone is None:
        return address
    if address.version == 4:
        raise AddressError(
            f"source {str(value)!r} has a zone, which is for IPv6: choose the interface instead"
        )
    return IPv6Address(f"{address}%{zone}")


def _source_fault(address: IPAddress) -> str | None:
    if mapped := mapped_ipv4(address):
        return _mapped(mapped)
    if is_multicast(address):
        return "is a multicast group; a source is the unicast address of a sender"
    if int(address) == 0:
        return "is the unspecified address; leave sources out to hear every sender"
    if address == _LIMITED_BROADCAST:
        return "is the broadcast address; a source is the unicast address of a sender"
    return None


def parse_sources(value: object) -> tuple[IPAddress, ...]:
    """One source or several of them, each once, in the order given.

    Raises:
      AddressError: one that no datagram comes from
      TypeError: one that is neither text nor an address
    """
    if are_several(value):
        return tuple(dict.fromkeys(parse_source(item) for item in value))
    return (parse_source(value),)


def sources_for(group: Group, sources: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    """Those of the sources that can send to the group: the ones of its own IP version.

    Raises:
      AddressError: sources were given, but this group would be left without one; or the group is
        for source-specific multicast and needs one
    """
    sources = tuple(sources)
    if sources:
        own = tuple(source for source in sources if source.version == group.version)
        if own:
            return own
        given = ", ".join(map(str, sources))
        raise AddressError(
            f"{group} would be left without a source: of the sources given ({given}) "
            f"none is an IPv{group.version} address"
        )
    if is_ssm(group.address):
        raise AddressError(_needs_source(group))
    return ()


def _needs_source(group: object) -> str:
    return (
        f"{group} is for source-specific multicast (RFC 4607) and cannot be joined without "
        "the address of a sender: give sources=[...]"
    )


def check_sources(group: IPAddress, mode: str, sources: Iterable[IPAddress]) -> None:
    """Refuse a source filter that does not fit the group.

    Raises:
      AddressError: a source of another IP version, or no source where the group needs one
    """
    if mode == "exclude" and is_ssm(group):
        raise AddressError(_needs_source(group))
    for source in sources:
        check_source(group, source)


def check_source(group: IPAddress, source: IPAddress) -> None:
    """Refuse a source that cannot send to the group. Its zone is not looked at.

    Raises:
      AddressError: it is of another IP version
    """
    if source.version != group.version:
        raise AddressError(f"{source} cannot send to {group}: it is of the other IP version")


def check_sendable(group: IPAddress) -> None:
    """Refuse the groups that a node may join but should not send to.

    Raises:
      AddressError: the scope is reserved (RFC 4291 s2.7: 0 and F)
    """
    if group.version == 6 and ipv6_scope(group) in (0, 15):
        raise AddressError(
            f"{group} has scope {ipv6_scope(group):X}, which is reserved and not to be "
            f"sent to (RFC 4291 s2.7); {_SCOPES_TO_TAKE}"
        )


def parse_port(value: object, *, zero_allowed: bool = False) -> int:
    """A UDP port.

    Raises:
      ValueError: outside 1 to 65535; 0 is allowed where the system is to choose
      TypeError: no integer
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a port: give an integer")
    lowest = 0 if zero_allowed else 1
    if not lowest <= value <= 65535:
        raise ValueError(f"port {value} is outside {lowest} to 65535")
    return value


def parse_address(value: object) -> tuple[IPAddress, str | None]:
    """Any address and its zone, from text or an `ipaddress` object.

    Raises:
      AddressError: text that is no address
      TypeError: neither text nor an address
    """
    match value:
        case str():
            return _parse_text(value)
        case IPv4Interface() | IPv6Interface():
            # They pass for addresses, being subclasses, but carry a network that nobody asked for.
            pass
        case IPv4Address():
            return value, None
        case IPv6Address():
            zone = value.scope_id
            return (value, None) if zone is None else (IPv6Address(int(value)), zone)
    raise TypeError(f"{value!r} is not an IP address: give text or an ipaddress object")


def _parse_text(text: str) -> tuple[IPAddress, str | None]:
    address, percent, zone = text.partition("%")
    if percent and (zone != zone.strip() or not zone or "%" in zone or "/" in zone):
        raise AddressError(
            f"{text!r} has no interface behind the %: write it like ff02::fb%eth0 or ff02::fb%2"
        )
    try:
        parsed = IPv6Address(address) if ":" in address else IPv4Address(address)
    except ValueError:
        raise AddressError(
            f"{text!r} is not an IP address: write it like 239.1.2.3 or ff15::1:2"
        ) from None
    return parsed, zone if percent else None


def is_multicast(address: IPAddress) -> bool:
    """Whether it is in 224.0.0.0/4 or ff00::/8.

    Not `address.is_multicast`: for IPv4-mapped IPv6 addresses its answer depends on the patch
    release of Python, and RFC 4291 s2.7 knows no multicast outside ff00::/8.
    """
    if address.version == 4:
        return int(address) >> 28 == 0b1110
    return int(address) >> 120 == 0xFF


def is_ssm(address: IPAddress) -> bool:
    """Whether it is for source-specific multicast: 232.0.0.0/8, ff3x::/32 or ffbx::/32.

    All of the /32 (RFC 4607 s1), not only the /96 that is in use today. The top flag and the
    reserved bits before the prefix length are ignored on receipt (RFC 7371 s4.1), so here too.
    """
    number = int(address)
    if address.version == 4:
        return number >> 24 == 232
    return number >> 120 == 0xFF and number >> 116 & 0b0111 == 0b0011 and number >> 96 & 0xFF == 0


def ipv6_scope(address: IPAddress) -> int:
    """The scope field of an IPv6 group (RFC 4291 s2.7)."""
    return int(address) >> 112 & 0xF


def mapped_ipv4(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address inside ::ffff:0.0.0.0/96 (RFC 4291 s2.5.5.2)."""
    return address.ipv4_mapped if isinstance(address, IPv6Address) else None
