"""What a group is: every fact that can be read off its address.

Addresses tell more than most programs ask of them: whose the group is, how far it travels, whether
it needs a source, where its rendezvous point is. Where the RFCs leave a question open or contradict
each other, the later one is followed, and what is odd about the address is listed among its
`problems`. A classification says what is written, not what is allowed: nothing is refused here.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import NamedTuple

from .classification import Classification, Documentation, Flags, SSMRange
from .groups import mac_of
from .parsing import IPAddress, ipv6_scope, is_multicast, is_ssm, mapped_ipv4, parse_address
from .registry import (
    IPV4_SCOPES,
    IPV6_KINDS,
    IPV6_SCOPES,
    Assignment,
    Block,
    conventional_names,
    enclosing_blocks,
    ipv4_assignment,
    ipv6_assignment,
    relative_assignment,
)

# RFC 5737, and RFC 3849 with RFC 9637.
_IPV4_DOCUMENTATION = ("192.0.2.0", "198.51.100.0", "203.0.113.0")
_IPV6_DOCUMENTATION = (IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"))

_LINK_LOCAL = IPv6Network("fe80::/10")

# RFC 3956 s4: no rendezvous point is there.
_NO_RENDEZVOUS_POINT = (_LINK_LOCAL, IPv6Network("::/16"), IPv6Network("ff00::/8"))


def classify(address: str | IPv4Address | IPv6Address) -> Classification:
    """What kind of address it is and who may use it how far, for any address, multicast or not.

    Raises:
      AddressError: text that is no address
      TypeError: neither text nor an address
    """
    parsed, zone = parse_address(address)
    if not is_multicast(parsed):
        return _classify_unicast(parsed, zone)
    if isinstance(parsed, IPv4Address):
        return _classify_ipv4(parsed, zone)
    return _classify_ipv6(parsed, zone)


def _classify_unicast(address: IPAddress, zone: str | None) -> Classification:
    mapped = mapped_ipv4(address)
    if mapped is None:
        return Classification(address, address.version, is_multicast=False, zone=zone)
    return Classification(
        address,
        address.version,
        is_multicast=False,
        zone=zone,
        kind="ipv4-mapped",
        rfc=IPV6_KINDS["ipv4-mapped"],
        mapped_ipv4=str(mapped),
        mapped_is_multicast=is_multicast(mapped),
    )


def _classify_ipv4(address: IPv4Address, zone: str | None) -> Classification:
    number = int(address)
    blocks = enclosing_blocks(number)
    block, narrowest = blocks[0], blocks[-1]
    offset = narrowest.numbers[1] - number if narrowest.use == "iana-relative" else None
    record = ipv4_assignment(number) if offset is None else relative_assignment(offset)
    conventional = conventional_names(4, number)
    scope = IPV4_SCOPES[narrowest.scope]
    embedded = str(IPv4Address(number << 8 & 0xFFFFFFFF)) if number >> 24 == 234 else None
    documentation = _ipv4_documentation(narrowest, offset, embedded)
    return Classification(
        address,
        4,
        is_multicast=True,
        zone=zone,
        scope=narrowest.scope,
        is_ssm=is_ssm(address),
        documentation=documentation,
        iana_record=record.name if record else None,
        common_name=_common_name(record),
        conventional_names=tuple(name.name for name in conventional),
        port=_port(record, conventional),
        rfc=(record.rfc if record else "") or narrowest.rfc,
        membership_reports=number != 0xE0000001,  # RFC 3376 s5: never for all systems
        mac=mac_of(address),
        block=block.id,
        block_name=block.name,
        sub_block=narrowest.id if narrowest is not block else None,
        scope_ipv6_equivalent=scope.ipv6_equivalent,
        routable_beyond_link=scope.routable_beyond_link,
        may_reach_internet=narrowest.may_reach_internet,
        use="documentation" if documentation == "assigned" else narrowest.use,
        is_reserved=narrowest.use == "reserved",
        is_admin_scoped=number >> 24 == 239,
        glop_asn=number >> 8 & 0xFFFF if block.id == "glop" else None,
        embedded_unicast=embedded,
        relative_offset=offset,
        mac_floods_like_local_control=number & 0x7FFFFF <= 0xFF and number >> 8 != 0xE00000,
    )


def _ipv4_documentation(
    block: Block, offset: int | None, embedded_unicast: str | None
) -> Documentation | None:
    if block.id == "mcast-test-net" or offset == 10:  # RFC 6676 s2.1
        return "assigned"
    if block.id == "glop-documentation" or embedded_unicast in _IPV4_DOCUMENTATION:
        return "derived"
    return None


def _common_name(record: Assignment | None) -> str | None:
    return record.common_name or record.name if record else None


def _port(record: Assignment | None, conventional: tuple[Assignment, ...]) -> int | None:
    # Squatters on an assigned group do not say what port it is for.
    names = (record,) if record else conventional
    return next((name.port for name in names if name.port), None)


def _classify_ipv6(address: IPv6Address, zone: str | None) -> Classification:
    number = int(address)
    flags = Flags(number >> 116 & 0xF)
    scope = ipv6_scope(address)
    parts = _Parts.read(number)
    layout = _read_layout(address, flags, scope, parts)
    record = ipv6_assignment(number)
    conventional = conventional_names(6, number)
    return Classification(
        address,
        6,
        is_multicast=True,
        zone=zone,
        scope=scope,
        is_ssm=is_ssm(address),
        documentation=_ipv6_documentation(number, layout.prefix),
        iana_record=record.name if record else None,
        iana_address=record.addresses if record else None,
        common_name=_common_name(record),
        conventional_names=tuple(name.name for name in conventional),
        port=_port(record, conventional),
        rfc=(record.rfc if record else "") or IPV6_KINDS[layout.kind],
        membership_reports=scope > 1 and number != _ALL_NODES,  # RFC 3810 s6
        mac=mac_of(address),
        flags=flags,
        scope_name=IPV6_SCOPES[scope].name,
        scope_status=IPV6_SCOPES[scope].status,
        effective_scope=_effective_scope(scope),
        lifetime="transient" if flags.t else "permanent",
        kind=layout.kind,
        plen=parts.plen if flags.p and flags.t else None,
        prefix=None if layout.prefix is None else str(layout.prefix),
        rp=None if layout.rp is None else str(layout.rp),
        riid=parts.riid if flags.r and flags.p and flags.t else None,
        rp_valid=layout.rp_valid,
        interface_id=layout.interface_id,
        ssm_range=layout.ssm_range,
        is_solicited_node=number >> 24 == 0xFF02_0000_0000_0000_0000_0001_FF,
        is_node_information=number >> 24 == 0xFF02_0000_0000_0000_0000_0002_FF,
        group_id=f"{number & (1 << 112) - 1:#030x}",
        group_id32=f"{parts.group_id32:#010x}",
        group_id_class=_group_id_class(parts.group_id32),
        zone_required=scope in (1, 2),
        originate_allowed=scope != 0,
        problems=_problems(flags, scope, parts, layout),
    )


_ALL_NODES = 0xFF02 << 112 | 1


def _effective_scope(scope: int) -> int | None:
    """RFC 4291 s2.7: datagrams to scope 0 are dropped, F is treated as E."""
    return {0: None, 15: 14}.get(scope, scope)


def _group_id_class(group_id32: int) -> str:
    """RFC 3307 s4. Information only: many programs use small identifiers in transient groups."""
    if group_id32 == 0:
        return "zero"
    return ("permanent-address", "permanent-group-id", "dynamic", "dynamic")[group_id32 >> 30]


def _ipv6_documentation(number: int, prefix: IPv6Network | None) -> Documentation | None:
    if number >> 32 & ~(0xF << 80) == 0xFF00_0000_0000_0000_0000_0DB8:  # RFC 6676 s3
        return "assigned"
    if prefix is not None and any(prefix.subnet_of(network) for network in _IPV6_DOCUMENTATION):
        return "derived"
    return None


class _Parts(NamedTuple):
    """The fields of an address with P and T set: RFC 3306 s4, RFC 3956 s4, RFC 7371 s4."""

    reserved: int
    riid: int
    plen: int
    prefix: int
    group_id32: int

    @classmethod
    def read(cls, number: int) -> _Parts:
        return cls(
            reserved=number >> 108 & 0xF,
            riid=number >> 104 & 0xF,
            plen=number >> 96 & 0xFF,
            prefix=number >> 32 & (1 << 64) - 1,
            group_id32=number & 0xFFFFFFFF,
        )


class _Layout(NamedTuple):
    """How an address is built, and what of the fields has a meaning in it."""

    kind: str
    prefix: IPv6Network | None = None
    rp: IPv6Address | None = None
    rp_valid: bool | None = None
    interface_id: str | None = None
    ssm_range: SSMRange | None = None


def _read_layout(address: IPv6Address, flags: Flags, scope: int, parts: _Parts) -> _Layout:
    match flags.r, flags.p, flags.t:
        case False, False, False:
            return _Layout("well-known")
        case False, False, True:
            return _Layout("transient")
        case False, True, True if is_ssm(address):
            return _Layout("ssm", ssm_range=_ssm_range(parts))
        case False, True, True if parts.plen <= 64:
            return _Layout("unicast-prefix-based", _unicast_prefix(parts))
        case False, True, True if parts.plen == 255 and scope <= 2:
            return _Layout("link-scoped", interface_id=_interface_id(parts.prefix))
        case True, True, True if 1 <= parts.plen <= 64:
            prefix = _unicast_prefix(parts)
            rp = prefix[parts.riid]
            return _Layout("embedded-rp", prefix, rp, parts.riid != 0 and not _is_excluded(rp))
    return _Layout("malformed")


def _unicast_prefix(parts: _Parts) -> IPv6Network:
    return IPv6Network((parts.prefix << 64, parts.plen), strict=False)


def _interface_id(number: int) -> str:
    digits = f"{number:016x}"
    return ":".join(digits[start : start + 4] for start in range(0, 16, 4))


def _is_excluded(rp: IPv6Address) -> bool:
    return any(rp in network for network in _NO_RENDEZVOUS_POINT)


def _ssm_range(parts: _Parts) -> SSMRange:
    """RFC 4607 s1 and s4.3. The registry counts ::4000:0 to IANA's part, the RFC sets it aside."""
    if parts.prefix:
        return "future"
    if parts.group_id32 < 0x40000000:
        return "invalid"
    if parts.group_id32 == 0x40000000:
        return "reserved-null"
    return "iana" if parts.group_id32 < 0x80000000 else "host"


def _problems(flags: Flags, scope: int, parts: _Parts, layout: _Layout) -> tuple[str, ...]:
    has_parts = flags.p and flags.t
    prefix, rp = layout.prefix, layout.rp
    is_interface_id = parts.plen == 255 and not flags.r
    found = {
        "embedded-rp-plen-zero": has_parts and flags.r and parts.plen == 0,
        "p-without-t": flags.p and not flags.t,
        "plen-255-scope": has_parts and is_interface_id and scope > 2,
        "plen-gt-64": has_parts and parts.plen > 64 and not is_interface_id,
        "prefix-trailing-bits": prefix is not None and int(prefix[0]) >> 64 != parts.prefix,
        "r-without-p-and-t": flags.r and not has_parts,
        "reserved-bits-nonzero": has_parts and parts.reserved != 0,
        "riid-without-r": has_parts and not flags.r and parts.riid != 0,
        "riid-zero": rp is not None and parts.riid == 0,
        "rp-prefix-excluded": rp is not None and _is_excluded(rp),
        "scope-exceeds-prefix": prefix is not None and prefix.subnet_of(_LINK_LOCAL) and scope > 2,
        "scope-reserved-0": scope == 0,
        "scope-reserved-f": scope == 15,
        "ssm-invalid-group": layout.ssm_range == "invalid",
        "ssm-prefix-nonzero": layout.ssm_range == "future",
        "ssm-reserved-null": layout.ssm_range == "reserved-null",
        "x-flag-set": flags.x,
    }
    return tuple(sorted(problem for problem, is_there in found.items() if is_there))
