"""Groups made from what one has: an AS number, a prefix, a rendezvous point, or nothing at all.

Where a rule yields a range, the result is the network of all its groups: take one by its number
(``unicast_prefix_groups("2001:db8::/32")[0x80000001]``). What is made here classifies as what it
was made to be, without problems.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

from .._base.errors import AddressError
from .._base.values import check_type
from .parsing import Group, IPAddress, is_multicast, mapped_ipv4, parse_address, parse_group
from .registry import conventional_names

if TYPE_CHECKING:
    from .._base.interface import IPVersion

_LINK_LOCAL = IPv6Network("fe80::/10")

_GLOP_LAST_ASN = 64511
_SACN_UNIVERSES = range(1, 64000)
_SACN_DISCOVERY = 64214


def glop_block(asn: int) -> IPv4Network:
    """The 256 groups that belong to the holder of a 16-bit AS number (RFC 3180 s3).

    AS numbers from 64512 are for private use, and their groups have gone to the AD-HOC Block III
    (RFC 5771 s9.2).

    Raises:
      AddressError: an AS number without groups: below 0, or above 64511
    """
    _check_integer("AS number", asn)
    if not 0 <= asn <= _GLOP_LAST_ASN:
        raise AddressError(
            f"AS number {asn} has no GLOP groups: those with 0 to {_GLOP_LAST_ASN} have "
            "(RFC 5771 s9); use unicast_prefix_groups"
        )
    return IPv4Network((233 << 24 | asn << 8, 24))


def unicast_prefix_groups(
    prefix: str | IPv4Network | IPv6Network, *, scope: int = 14
) -> IPv4Network | IPv6Network:
    """The groups that belong to the holder of a unicast prefix.

    IPv4 (RFC 6034 s3): 2 ** (24 - length) groups in 234.0.0.0/8, for prefixes up to /24. They are
    global, and not to be hard-coded. IPv6 (RFC 3306 s4): ff3S:00LL:PREFIX::/96 for prefixes up to
    /64; RFC 3307 keeps the upper half, from ``[0x80000000]``, for what hosts choose themselves.

    Args:
      prefix: a network without host bits
      scope: of the IPv6 groups, 1 to 14; not wider than that of the prefix

    Raises:
      AddressError: no prefix of unicast addresses, or one too long
      ValueError: a reserved scope, or one for IPv4
    """
    network = _parse_network(prefix)
    _check_scope(scope)
    longest = 24 if network.version == 4 else 64
    if not 1 <= network.prefixlen <= longest:
        raise AddressError(
            f"prefix {str(prefix)!r} has length {network.prefixlen}: "
            f"IPv{network.version} groups are made from 1 to {longest} (RFC 6034 s3, RFC 3306 s4)"
        )
    if is_multicast(network.network_address):
        raise AddressError(
            f"prefix {str(prefix)!r} is multicast: groups are made from a unicast one"
        )
    if isinstance(network, IPv4Network):
        if scope != 14:
            raise ValueError(f"scope {scope} is for IPv6 only: IPv4 groups of a prefix are global")
        number = 234 << 24 | int(network.network_address) >> 8
        return IPv4Network((number, 8 + network.prefixlen))
    if network.subnet_of(_LINK_LOCAL) and scope > 2:
        raise AddressError(
            f"scope {scope} is wider than link-local, the scope of {network} (RFC 3306 s4)"
        )
    prefix_bits = int(network.network_address) >> 64
    return IPv6Network((_number(0x3, scope, network.prefixlen, prefix_bits), 96))


def embedded_rp_groups(
    rp: str | IPv6Address, *, prefix_length: int = 64, scope: int = 14
) -> IPv6Network:
    """The IPv6 groups that carry the address of their rendezvous point (RFC 3956 s4).

    ff7S:0RLL:PREFIX::/96, where R is the last digit of the rendezvous point's address and LL the
    length of its prefix. Only addresses of the form PREFIX::R can be carried.

    Args:
      rp: the rendezvous point, from PREFIX::1 to PREFIX::f
      prefix_length: how much of the address is its prefix, 1 to 64
      scope: of the groups, 1 to 14

    Raises:
      AddressError: no rendezvous point can have that address, or it is not of that form
      ValueError: a reserved scope or a length outside 1 to 64
    """
    address = _parse_unicast_ipv6(rp)
    _check_scope(scope)
    _check_integer("prefix length", prefix_length)
    if not 1 <= prefix_length <= 64:
        raise ValueError(f"prefix length {prefix_length} is outside 1 to 64 (RFC 3956 s4)")
    if address in _LINK_LOCAL or int(address) >> 112 == 0:
        raise AddressError(
            f"{str(rp)!r} cannot be a rendezvous point: fe80::/10 and ::/16 are excluded "
            "(RFC 3956 s4)"
        )
    prefix = IPv6Network((int(address), prefix_length), strict=False)
    riid = int(address) - int(prefix.network_address)
    if not 1 <= riid <= 15:
        raise AddressError(
            f"{str(rp)!r} cannot be carried in a group: behind the {prefix_length} bits of its "
            "prefix it must be 0 but for the last digit, 1 to f (RFC 3956 s4)"
        )
    fields = riid << 8 | prefix_length
    return IPv6Network((_number(0x7, scope, fields, int(prefix.network_address) >> 64), 96))


def link_scoped_groups(address: str | IPv6Address, *, scope: int = 2) -> IPv6Network:
    """The groups that a host owns on its link, by its interface identifier (RFC 4489 s3).

    ff3S:00ff:IDENTIFIER::/96: no other host on the link has the identifier, so none has the groups.

    Args:
      address: a link-local address of the interface
      scope: 1 (the interface) or 2 (the link)

    Raises:
      AddressError: not a link-local IPv6 address
      ValueError: a wider scope
    """
    host = _parse_unicast_ipv6(address)
    if host not in _LINK_LOCAL:
        raise AddressError(f"{host} is not link-local: link-scoped groups are made from fe80::/10")
    _check_integer("scope", scope)
    if scope not in (1, 2):
        raise ValueError(f"scope {scope} is not 1 (interface) or 2 (link) (RFC 4489 s3)")
    return IPv6Network((_number(0x3, scope, 0xFF, int(host) & (1 << 64) - 1), 96))


def ipv4_embedded_group(prefix: str | IPv6Network, group: str | IPv4Address) -> IPv6Address:
    """An IPv4 group as a translator or tunnel carries it in IPv6 (RFC 8114, RFC 8115).

    Args:
      prefix: the operator's /96 of IPv6 groups; there is no well-known one
      group: the IPv4 group

    Raises:
      AddressError: no /96 of IPv6 groups, or no IPv4 group
    """
    network = _parse_network(prefix)
    if network.version != 6 or network.prefixlen != 96 or not is_multicast(network[0]):
        raise AddressError(f"{str(prefix)!r} is not a /96 of IPv6 groups")
    return IPv6Address(int(network.network_address) | int(_parse_ipv4_group(group)))


def solicited_node_group(address: str | IPv6Address) -> IPv6Address:
    """The group that a neighbour solicitation for the address is sent to (RFC 4291 s2.7.1).

    Raises:
      AddressError: not a unicast IPv6 address
    """
    host = _parse_unicast_ipv6(address)
    return IPv6Address(0xFF02_0000_0000_0000_0000_0001_FF00_0000 | int(host) & 0xFFFFFF)


def scope_relative_group(block: str | IPv4Network, offset: int) -> IPv4Address:
    """The group that an assignment relative to every scope has in this one (RFC 2365 s9).

    Offsets count down from the end: ``scope_relative_group("239.255.0.0/16", 5)`` is SSDP's
    239.255.255.250.

    Raises:
      AddressError: no scope inside 239.0.0.0/8, or one with fewer than 256 groups
      ValueError: an offset outside 0 to 255
    """
    network = _parse_network(block)
    if int(network[0]) >> 24 != 239 or network.prefixlen > 24:
        raise AddressError(f"{str(block)!r} is not a scope in 239.0.0.0/8, /24 at the longest")
    _check_integer("offset", offset)
    if not 0 <= offset <= 255:
        raise ValueError(f"offset {offset} is outside 0 to 255 (RFC 2365 s9)")
    return IPv4Address(int(network.broadcast_address) - offset)


def sacn_group(universe: int) -> IPv4Address:
    """The group of a universe of sACN, stage lighting over IP (ANSI E1.31).

    Args:
      universe: 1 to 63999, or 64214 for universe discovery

    Raises:
      ValueError: any other
    """
    _check_integer("universe", universe)
    if universe not in _SACN_UNIVERSES and universe != _SACN_DISCOVERY:
        raise ValueError(
            f"universe {universe} is outside 1 to 63999 and is not {_SACN_DISCOVERY} (discovery)"
        )
    return IPv4Address(0xEFFF0000 | universe)


def ethernet_address(group: str | IPv4Address | IPv6Address | Group) -> str:
    """The Ethernet address that datagrams for the group are sent to (RFC 1112 s6.4, RFC 2464 s7).

    Raises:
      AddressError: not a group
    """
    return mac_of(parse_group(group).address)


def ethernet_aliases(group: str | IPv4Address | Group) -> tuple[IPv4Address, ...]:
    """The 32 IPv4 groups that share the group's Ethernet address, itself among them.

    A switch cannot tell them apart: who joins one is sent all of them (RFC 1112 s6.4).

    Raises:
      AddressError: not an IPv4 group; in IPv6, 2 ** 88 share each
    """
    low = int(_parse_ipv4_group(group)) & 0x7FFFFF
    return tuple(IPv4Address(0b1110 << 28 | high << 23 | low) for high in range(32))


def random_group(
    version: IPVersion = 4,
    *,
    scope: str | int | None = None,
    ssm: bool = False,
    avoid: Iterable[object] = (),
    rng: random.Random | None = None,
) -> IPv4Address | IPv6Address:
    """A group that is free to use, chosen at random.

    IPv4: administratively scoped (RFC 2365), or with `ssm` from 232.0.1.0 up (RFC 4607 s4.3).
    IPv6: transient, or source-specific with `ssm`, with a group identifier that RFC 3307 s4 leaves
    to hosts. Never one that IANA has assigned, nor one that shares its Ethernet address with the
    control groups 224.0.0.0/24, which switches send everywhere, or with solicited-node groups.

    Free means free by the rules: nobody keeps a list of what others on the network have chosen. The
    defaults of well-known programs are left alone, except that in the IPv4 local scope there is
    nothing that stage lighting (sACN) and audio (Dante) do not help themselves to.

    Args:
      version: 4 or 6
      scope: how far it may travel. IPv4: ``"organization-local"`` (the default) or ``"local"``;
        none with `ssm`, for 232.0.0.0/8 is global. IPv6: 1 to 14, by default 8,
        organization-local
      ssm: for source-specific multicast
      avoid: groups in use. Neither these nor what shares an Ethernet address with them is chosen
      rng: where randomness comes from; by default the operating system

    Raises:
      AddressError: nothing is left, or `avoid` contains something that is not a group
      ValueError: a version or scope that there is not
    """
    first, last = _free_range(version, scope, ssm)
    size = int(last) - int(first) + 1
    taken = {ethernet_address(parse_group(group)) for group in avoid}
    # From a random place onwards, not one random place after the other: so it always comes to an
    # end, and finds the last free group if there is but one.
    if rng is None:
        rng = random.SystemRandom()
    start = check_type("rng", rng, random.Random, "a random.Random").randrange(size)
    for step in range(size):
        address = first + (start + step) % size
        if mac_of(address) not in taken and not _is_known(address):
            return address
    raise AddressError(f"every group from {first} to {last} is to be avoided")


def _free_range(
    version: IPVersion, scope: str | int | None, ssm: bool
) -> tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]:
    if version == 4:
        return _free_ipv4_range(scope, ssm)
    if version == 6:
        return _free_ipv6_range(8 if scope is None else scope, ssm)
    raise ValueError(f"version {version!r} is not 4 or 6")


def _free_ipv4_range(scope: str | int | None, ssm: bool) -> tuple[IPv4Address, IPv4Address]:
    if ssm:
        if scope is not None:
            raise ValueError(f"scope {scope!r} is not for IPv4 SSM: 232.0.0.0/8 is global")
        return _FREE_IPV4_SSM
    name = "organization-local" if scope is None else scope
    if name not in _FREE_IPV4:
        raise ValueError(f"scope {scope!r} is not one of {', '.join(map(repr, _FREE_IPV4))}")
    return _FREE_IPV4[name]


def _free_ipv6_range(scope: str | int, ssm: bool) -> tuple[IPv6Address, IPv6Address]:
    base = _number(0x3 if ssm else 0x1, _check_scope(scope))
    # Up to the group identifiers ff00:0 and above, whose Ethernet addresses are those of the
    # solicited-node groups (33:33:ff...).
    return IPv6Address(base | 0x80000000), IPv6Address(base | 0xFEFFFFFF)


# Each without the 256 scope-relative groups at its end. 239.192.0.0/16 is left to the audio streams
# that are there by convention; such conventions take all of the local scope.
_FREE_IPV4: dict[str | int, tuple[IPv4Address, IPv4Address]] = {
    "organization-local": (IPv4Address("239.193.0.0"), IPv4Address("239.195.254.255")),
    "local": (IPv4Address("239.255.0.0"), IPv4Address("239.255.254.255")),
}
_FREE_IPV4_SSM = (IPv4Address("232.0.1.0"), IPv4Address("232.255.255.255"))

_TAKES_THE_WHOLE_SCOPE = {"239.255.0.0/16", "239.255.0.1-239.255.249.255"}


def _is_known(address: IPAddress) -> bool:
    """Whether its Ethernet address is that of a control group, or a program is known to use it."""
    if address.version == 4 and int(address) & 0x7FFFFF <= 0xFF:
        return True
    names = conventional_names(address.version, int(address))
    return any(name.addresses not in _TAKES_THE_WHOLE_SCOPE for name in names)


def mac_of(address: IPAddress) -> str:
    """The Ethernet address of what is known to be a group."""
    if address.version == 4:
        number = 0x0100_5E00_0000 | int(address) & 0x7FFFFF
    else:
        number = 0x3333_0000_0000 | int(address) & 0xFFFFFFFF
    return number.to_bytes(6, "big").hex(":")


def _number(flags: int, scope: int, fields: int = 0, prefix: int = 0) -> int:
    """An IPv6 group: `fields` are the 16 bits before the prefix, `prefix` is of 64 bits."""
    return 0xFF << 120 | flags << 116 | scope << 112 | fields << 96 | prefix << 32


def _parse_network(value: object) -> IPv4Network | IPv6Network:
    match value:
        case IPv4Network() | IPv6Network():
            return value
        case str():
            try:
                return ip_network(value)
            except ValueError as error:
                raise AddressError(f"{value!r} is not a network: {error}") from None
    raise TypeError(f"{value!r} is not a network: give text or an ipaddress object")


def _parse_unicast_ipv6(value: object) -> IPv6Address:
    address, _ = parse_address(value)
    if (
        not isinstance(address, IPv6Address)
        or is_multicast(address)
        or mapped_ipv4(address)
        or int(address) == 0
    ):
        raise AddressError(f"{str(value)!r} is not a unicast IPv6 address")
    return address


def _parse_ipv4_group(value: object) -> IPv4Address:
    address = parse_group(value).address
    if not isinstance(address, IPv4Address):
        raise AddressError(f"{str(value)!r} is not an IPv4 group")
    return address


def _check_integer(what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} {value!r} is not an integer")
    return value


def _check_scope(scope: object) -> int:
    number = _check_integer("scope", scope)
    if not 1 <= number <= 14:
        raise ValueError(f"scope {number} is not 1 to 14; 0 and 15 are reserved (RFC 4291 s2.7)")
    return number
