"""All that an address tells, as values: what kind of group it is, whose, and how far it travels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .parsing import IPAddress
from .registry import (
    IPV6_SCOPES,
    IPV6_USES,
    PROBLEMS,
    SSM_USES,
    USES,
    IPv4Scope,
    Use,
    enclosing_blocks,
)

Documentation: TypeAlias = Literal["assigned", "derived"]
SSMRange: TypeAlias = Literal["host", "iana", "reserved-null", "invalid", "future"]


@dataclass(frozen=True, eq=False)
class Flags(Mapping[str, "int | bool"]):
    """The four flag bits of an IPv6 group, as attributes or as a mapping.

    Each bit is to be treated for itself, never the four together as a number (RFC 7371 s3).
    """

    value: int

    @property
    def x(self) -> bool:
        """Undefined (RFC 7371 s3)."""
        return bool(self.value & 8)

    @property
    def r(self) -> bool:
        """The address of the rendezvous point is embedded (RFC 3956)."""
        return bool(self.value & 4)

    @property
    def p(self) -> bool:
        """Built on a unicast prefix (RFC 3306)."""
        return bool(self.value & 2)

    @property
    def t(self) -> bool:
        """Transient, not permanently assigned by IANA (RFC 4291 s2.7)."""
        return bool(self.value & 1)

    def __str__(self) -> str:
        return "".join(name.upper() for name in "xrpt" if self[name]) or "0"

    def __hash__(self) -> int:
        return hash(self.value)

    def __getitem__(self, name: str) -> int | bool:
        if name not in _FLAG_NAMES:
            raise KeyError(name)
        flag: int | bool = getattr(self, name)
        return flag

    def __iter__(self) -> Iterator[str]:
        return iter(_FLAG_NAMES)

    def __len__(self) -> int:
        return len(_FLAG_NAMES)


_FLAG_NAMES = ("value", "x", "r", "p", "t")


@dataclass(frozen=True)
class Classification:
    """Every fact that an address tells. What does not apply to its family or kind is None.

    Attributes:
      address: the address, without a zone
      version: 4 or 6
      is_multicast: in 224.0.0.0/4 or ff00::/8. When False, only `kind`, `mapped_ipv4` and
        `mapped_is_multicast` may say more
      zone: the interface named behind a ``%``
      scope: IPv4: ``"link-local"``, ``"local"``, ``"organization-local"``, ``"admin-scoped"`` or
        ``"global"``; IPv6: the number in the address, 0 to 15
      is_ssm: for source-specific multicast, joined with a source only
      documentation: for examples only, since ``"assigned"`` for that or ``"derived"`` from a
        documentation prefix or AS number
      iana_record: IANA's description, verbatim; None when unassigned, reserved or only in a block
      common_name: what people call the assignment
      conventional_names: programs that use the group by default, without any assignment
      port: the UDP port usually used with it, as assigned or by convention
      rfc: where the record, or else the block or kind of address, is defined
      membership_reports: whether hosts report that they joined it, and snooping switches know
      mac: the Ethernet address it is sent to, shared with other groups

      block, block_name: the range of the IPv4 registry that it is in
      sub_block: the narrowest range inside the block that has a purpose of its own
      scope_ipv6_equivalent: the IPv6 scope beside it in RFC 2365 s8
      routable_beyond_link: routers may forward it off the link
      may_reach_internet: it may rightly be seen in the public Internet; None in reserved space
      use: who may use it, the keys of `registry.USES`
      is_reserved: the block is reserved, or the address itself is set aside
      is_admin_scoped: in 239.0.0.0/8
      glop_asn: the AS number whose holder it belongs to (RFC 3180)
      embedded_unicast: the start of the unicast /24 it is derived from (RFC 6034)
      relative_offset: how far it is from the end of its scope, where assignments repeat in every
        scope (RFC 2365 s9)
      mac_floods_like_local_control: it shares its Ethernet address with one of 224.0.0.0/24, which
        switches send everywhere

      flags: the four flag bits of IPv6
      scope_name, scope_status: the name of the scope, and whether IANA has assigned it
      effective_scope: what receivers treat the scope as: F as E; None when they drop it (0)
      lifetime: ``"permanent"`` or ``"transient"``
      kind: how the address is built, the keys of `registry.IPV6_KINDS`
      plen, prefix: the length field, and the unicast prefix that it is built on
      rp, riid, rp_valid: the rendezvous point, the number of its interface identifier, and whether
        such a rendezvous point may exist (RFC 3956)
      interface_id: the interface identifier that it is built on (RFC 4489)
      ssm_range: the part of the SSM range: only ``"host"`` is free to use
      iana_address: the registry's own spelling of the address or range that the record is for
      is_solicited_node, is_node_information: the groups of RFC 4291 s2.7.1 and of RFC 4620 s5
      group_id, group_id32: the low 112 bits (RFC 4291) and the low 32 (RFC 3307)
      group_id_class: what RFC 3307 s4 keeps that `group_id32` for
      zone_required: it means nothing without an interface
      originate_allowed: False for what must never be sent (scope 0)
      problems: what is wrong or odd about it, sorted: keys of `registry.PROBLEMS`
      mapped_ipv4, mapped_is_multicast: the IPv4 address in an IPv4-mapped one, and whether that is
        a group. The mapped address is none: RFC 4291 knows multicast in ff00::/8 only
    """

    address: IPAddress
    version: Literal[4, 6]
    is_multicast: bool
    zone: str | None = None
    scope: IPv4Scope | int | None = None
    is_ssm: bool | None = None
    documentation: Documentation | None = None
    iana_record: str | None = None
    common_name: str | None = None
    conventional_names: tuple[str, ...] = ()
    port: int | None = None
    rfc: str | None = None
    membership_reports: bool | None = None
    mac: str | None = None

    block: str | None = None
    block_name: str | None = None
    sub_block: str | None = None
    scope_ipv6_equivalent: int | None = None
    routable_beyond_link: bool | None = None
    may_reach_internet: bool | None = None
    use: Use | None = None
    is_reserved: bool | None = None
    is_admin_scoped: bool | None = None
    glop_asn: int | None = None
    embedded_unicast: str | None = None
    relative_offset: int | None = None
    mac_floods_like_local_control: bool | None = None

    flags: Flags | None = None
    scope_name: str | None = None
    scope_status: str | None = None
    effective_scope: int | None = None
    lifetime: Literal["permanent", "transient"] | None = None
    kind: str | None = None
    plen: int | None = None
    prefix: str | None = None
    rp: str | None = None
    riid: int | None = None
    rp_valid: bool | None = None
    interface_id: str | None = None
    ssm_range: SSMRange | None = None
    iana_address: str | None = None
    is_solicited_node: bool | None = None
    is_node_information: bool | None = None
    group_id: str | None = None
    group_id32: str | None = None
    group_id_class: str | None = None
    zone_required: bool | None = None
    originate_allowed: bool | None = None
    problems: tuple[str, ...] | None = None
    mapped_ipv4: str | None = None
    mapped_is_multicast: bool | None = None

    # In words

    def describe_blocks(self) -> tuple[str, ...]:
        """The ranges of the IPv4 registry that it is in, the widest first."""
        if not (self.version == 4 and self.is_multicast):
            return ()
        blocks = enclosing_blocks(int(self.address))
        return tuple(f"{block.first} to {block.last}: {block.name}" for block in blocks)

    def describe_use(self) -> str | None:
        """Who may use the group; None for what is no group."""
        if self.use is not None:
            return USES[self.use]
        if self.ssm_range is not None:
            return SSM_USES[self.ssm_range]
        return IPV6_USES[self.kind] if self.is_multicast and self.kind is not None else None

    def describe_reach(self) -> str | None:
        """How far the group may travel; None for what is no group."""
        if not self.is_multicast:
            return None
        if isinstance(self.scope, int):
            boundary = IPV6_SCOPES[self.scope].boundary
            return "anywhere" if boundary == "none" else boundary
        if not self.routable_beyond_link:
            return "the link: no router passes it on"
        if self.may_reach_internet is None:
            return "unclear, the block is reserved"
        if self.may_reach_internet:
            return "anywhere, also the public Internet"
        return "as far as the administrators let it, never the public Internet"

    def describe_problems(self) -> tuple[str, ...]:
        """What is wrong or odd about it: `problems`, a sentence each."""
        return tuple(PROBLEMS[name] for name in self.problems or ())
