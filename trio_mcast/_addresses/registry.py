"""What the RFCs and IANA say about ranges of groups: blocks, scopes, problems, names.

Tables first, then the few functions that look something up in them. Every row names the text that
it comes from. Addresses in the tables are text; they become numbers when first asked about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import ip_address, ip_network
from typing import Literal, NamedTuple, TypeAlias

from . import assignments

Use: TypeAlias = Literal[
    "iana",
    "reserved",
    "sap-only",
    "dis-only",
    "ssm-only",
    "as-holder",
    "prefix-holder",
    "site-admin",
    "site-admin-discouraged",
    "iana-relative",
    "documentation",
]

IPv4Scope: TypeAlias = Literal[
    "link-local", "global", "admin-scoped", "organization-local", "local"
]

USES: dict[Use, str] = {
    "iana": "only with an assignment by IANA",
    "reserved": "must not be used (RFC5771 s13)",
    "sap-only": "only through the Session Announcement Protocol (RFC5771 s7)",
    "dis-only": "set aside for Distributed Interactive Simulation (RFC2365 s6.3)",
    "ssm-only": "free to any host, but only together with a source (RFC4607 s4.3)",
    "as-holder": "belongs to the holder of the 16-bit AS number (RFC3180)",
    "prefix-holder": "belongs to the holder of the unicast prefix; never hard-code it (RFC6034)",
    "site-admin": "free inside one administrative domain (RFC2365)",
    "site-admin-discouraged": "inside one administrative domain, but kept for growth (RFC2365 s6)",
    "iana-relative": "only services with a scope-relative assignment by IANA (RFC2365 s9)",
    "documentation": "for examples only, never on the public Internet (RFC6676)",
}
"""Who may use the groups of a block, in words."""


class IPv4ScopeMeaning(NamedTuple):
    """What an IPv4 scope amounts to: the equivalent IPv6 scope by RFC 2365 s8, if it has one."""

    ipv6_equivalent: int | None
    routable_beyond_link: bool


# 239/8 outside RFC 2365's two scopes has no IPv6 equivalent. IANA labels all of it
# "Organization-Local Scope", a name that RFC 2365 gives to 239.192.0.0/14 alone.
#
# The local scope is not the IPv6 site-local one, whatever Java and most prose say: RFC 2365 s8 puts
# it beside SCOP 3, which was unassigned then and has been realm-local since RFC 7346.
IPV4_SCOPES: dict[IPv4Scope, IPv4ScopeMeaning] = {
    "link-local": IPv4ScopeMeaning(2, False),
    "local": IPv4ScopeMeaning(3, True),
    "organization-local": IPv4ScopeMeaning(8, True),
    "admin-scoped": IPv4ScopeMeaning(None, True),
    "global": IPv4ScopeMeaning(14, True),
}


@dataclass(frozen=True)
class Block:
    """A range of IPv4 groups with one purpose, and the ranges inside it with their own."""

    id: str
    first: str
    last: str
    name: str
    rfc: str
    scope: IPv4Scope
    use: Use
    inner: tuple[Block, ...] = ()

    @cached_property
    def numbers(self) -> tuple[int, int]:
        return int(ip_address(self.first)), int(ip_address(self.last))

    def __contains__(self, number: int) -> bool:
        first, last = self.numbers
        return first <= number <= last

    @property
    def may_reach_internet(self) -> bool | None:
        """Whether it may rightly be seen in the public Internet; None where nobody can say."""
        if self.scope != "global":
            return False
        return {"reserved": None, "documentation": False}.get(self.use, True)


# fmt: off
IPV4_BLOCKS: tuple[Block, ...] = (
    # Routers do not forward these whatever the TTL, and switches flood them.
    Block("local-network-control", "224.0.0.0", "224.0.0.255",
          "Local Network Control Block", "RFC5771 s4", "link-local", "iana", (
        Block("base-address", "224.0.0.0", "224.0.0.0",
              "Base Address (Reserved)", "RFC1112 s4", "link-local", "reserved"),
    )),
    Block("internetwork-control", "224.0.1.0", "224.0.1.255",
          "Internetwork Control Block", "RFC5771 s5", "global", "iana"),
    Block("ad-hoc-1", "224.0.2.0", "224.0.255.255",
          "AD-HOC Block I", "RFC5771 s6", "global", "iana"),
    # Formerly the ST groups. A few old assignments live on inside, so an address here can have a
    # name: reserved is said of the block.
    Block("reserved-224-1", "224.1.0.0", "224.1.255.255",
          "RESERVED", "RFC5771 s3", "global", "reserved"),
    Block("sdp-sap", "224.2.0.0", "224.2.255.255",
          "SDP/SAP Block", "RFC5771 s7", "global", "sap-only", (
        Block("sap-conference", "224.2.0.0", "224.2.127.253",
              "Multimedia Conference Calls", "RFC2974; RFC2365 s6.3", "global", "sap-only"),
        Block("sap-v1", "224.2.127.254", "224.2.127.254",
              "SAPv1 Announcements", "RFC2974", "global", "sap-only"),
        Block("sap-v0", "224.2.127.255", "224.2.127.255",
              "SAPv0 Announcements (deprecated)", "RFC2974", "global", "sap-only"),
        Block("sap-dynamic", "224.2.128.0", "224.2.255.255",
              "SAP Dynamic Assignments", "RFC2974; RFC2365 s6.3", "global", "sap-only"),
    )),
    Block("ad-hoc-2", "224.3.0.0", "224.4.255.255",
          "AD-HOC Block II", "RFC5771 s6", "global", "iana"),
    Block("reserved-224-5", "224.5.0.0", "224.251.255.255",
          "RESERVED", "RFC5771 s3", "global", "reserved"),
    # RFC 5771's table counts this as reserved. The registry and RFC 2365 do not, and the registry
    # is the later word.
    Block("dis-transient", "224.252.0.0", "224.255.255.255",
          "DIS Transient Groups", "RFC2365 s6.3", "global", "dis-only"),
    Block("reserved-225-231", "225.0.0.0", "231.255.255.255",
          "RESERVED", "RFC5771 s3", "global", "reserved"),
    Block("ssm", "232.0.0.0", "232.255.255.255",
          "Source-Specific Multicast Block", "RFC4607; RFC5771 s8", "global", "ssm-only", (
        Block("ssm-reserved", "232.0.0.0", "232.0.0.0",
              "Reserved", "RFC4607 s4.3", "global", "reserved"),
        Block("ssm-iana", "232.0.0.1", "232.0.0.255",
              "Reserved for IANA allocation", "RFC4607 s4.3", "global", "iana"),
        Block("ssm-host", "232.0.1.0", "232.255.255.255",
              "Reserved for local host allocation", "RFC4607 s4.3", "global", "ssm-only"),
    )),
    Block("glop", "233.0.0.0", "233.251.255.255",
          "GLOP Block", "RFC3180; RFC5771 s9", "global", "as-holder", (
        Block("glop-documentation", "233.251.240.0", "233.251.255.255",
              "GLOP of the documentation ASNs 64496-64511", "RFC6676 s2.2; RFC5398",
              "global", "documentation"),
    )),
    # The private-use AS numbers 64512-65535 would map here (EGLOP, RFC 3138, obsolete): no AS
    # number is derived from these.
    Block("ad-hoc-3", "233.252.0.0", "233.255.255.255",
          "AD-HOC Block III", "RFC5771 s9.2", "global", "iana", (
        Block("mcast-test-net", "233.252.0.0", "233.252.0.255",
              "MCAST-TEST-NET", "RFC5771 s9.2; RFC6676", "global", "documentation"),
    )),
    Block("unicast-prefix-based", "234.0.0.0", "234.255.255.255",
          "Unicast-Prefix-based IPv4 Multicast Addresses", "RFC6034", "global", "prefix-holder"),
    Block("reserved-235-238", "235.0.0.0", "238.255.255.255",
          "RESERVED", "RFC5771 s3", "global", "reserved"),
    Block("admin-scoped", "239.0.0.0", "239.255.255.255",
          "Administratively Scoped Block", "RFC2365; RFC5771 s10", "admin-scoped", "site-admin", (
        Block("admin-expansion-a", "239.0.0.0", "239.63.255.255",
              "Unassigned, kept for expansion of the Organization Local Scope (239.0.0.0/10)",
              "RFC2365 s6.2.1", "admin-scoped", "site-admin-discouraged"),
        Block("admin-expansion-b", "239.64.0.0", "239.127.255.255",
              "Unassigned, kept for expansion of the Organization Local Scope (239.64.0.0/10)",
              "RFC2365 s6.2.1", "admin-scoped", "site-admin-discouraged"),
        Block("admin-expansion-c", "239.128.0.0", "239.191.255.255",
              "Unassigned, kept for expansion of the Organization Local Scope (239.128.0.0/10)",
              "RFC2365 s6.2.1", "admin-scoped", "site-admin-discouraged"),
        Block("organization-local", "239.192.0.0", "239.195.255.255",
              "IPv4 Organization Local Scope", "RFC2365 s6.2", "organization-local", "site-admin", (
            Block("organization-local-relative", "239.195.255.0", "239.195.255.255",
                  "Scope-relative assignments of the Organization Local Scope",
                  "RFC2365 s9; RFC5771 s10.1.1", "organization-local", "iana-relative"),
        )),
        Block("admin-undefined", "239.196.0.0", "239.252.255.255",
              "Not defined by RFC 2365", "RFC2365 (silent)",
              "admin-scoped", "site-admin-discouraged"),
        Block("local-expansion-253", "239.253.0.0", "239.253.255.255",
              "Reserved for downward growth of the Local Scope", "RFC2365 s6.1.1",
              "admin-scoped", "site-admin-discouraged"),
        Block("local-expansion-254", "239.254.0.0", "239.254.255.255",
              "Reserved for downward growth of the Local Scope", "RFC2365 s6.1.1",
              "admin-scoped", "site-admin-discouraged"),
        Block("ipv4-local", "239.255.0.0", "239.255.255.255",
              "IPv4 Local Scope", "RFC2365 s6.1", "local", "site-admin", (
            Block("ipv4-local-relative", "239.255.255.0", "239.255.255.255",
                  "Scope-relative assignments of the Local Scope",
                  "RFC2365 s9; RFC5771 s10.1.1", "local", "iana-relative"),
        )),
    )),
)
# fmt: on


class IPv6Scope(NamedTuple):
    name: str
    status: Literal["assigned", "unassigned", "reserved"]
    boundary: str


# RFC 4291 s2.7 and RFC 7346 s2; the index is the value of the scope field.
IPV6_SCOPES: tuple[IPv6Scope, ...] = (
    IPv6Scope("Reserved", "reserved", "none: never sent, dropped on receipt"),
    IPv6Scope("Interface-Local scope", "assigned", "one interface: it never leaves the host"),
    IPv6Scope("Link-Local scope", "assigned", "the link"),
    IPv6Scope("Realm-Local scope", "assigned", "the realm, for example one 802.15.4 PAN"),
    IPv6Scope("Admin-Local scope", "assigned", "set by the administrator"),
    IPv6Scope("Site-Local scope", "assigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Organization-Local scope", "assigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Unassigned", "unassigned", "set by the administrator"),
    IPv6Scope("Global scope", "assigned", "none"),
    IPv6Scope("Reserved", "reserved", "treated as global"),
)

# The text that defines each kind of IPv6 address told apart here.
IPV6_KINDS: dict[str, str] = {
    "well-known": "RFC4291 s2.7",
    "transient": "RFC4291 s2.7",
    "unicast-prefix-based": "RFC3306 s4; RFC7371 s4.1",
    "ssm": "RFC4607 s1; RFC3306 s6; RFC7371 s4.1.2",
    "embedded-rp": "RFC3956 s4; RFC7371 s4.2",
    "link-scoped": "RFC4489 s3",
    "malformed": "RFC7371 s3",
    "ipv4-mapped": "RFC4291 s2.5.5.2",
}

IPV6_USES: dict[str, str] = {
    "well-known": "only with an assignment by IANA",
    "transient": "free to any program within the scope",
    "unicast-prefix-based": "belongs to the holder of the unicast prefix",
    "embedded-rp": "belongs to the holder of the rendezvous point's prefix",
    "link-scoped": "belongs to the host with the interface identifier",
    "malformed": "not to be used",
}
"""Who may use a group of each kind, but for those of the SSM range."""

SSM_USES: dict[str, str] = {
    "host": "free to any host, but only together with a source",
    "iana": "only with an assignment by IANA",
    "reserved-null": "must not be used",
    "invalid": "must not be used",
    "future": "must not be used",
}
"""Who may use the groups of each part of the SSM range."""

PROBLEMS: dict[str, str] = {
    "embedded-rp-plen-zero": "says that it embeds a rendezvous point, with no prefix (RFC3956 s4)",
    "p-without-t": "built on a unicast prefix, yet not marked transient (RFC3306 s4)",
    "plen-255-scope": "an interface identifier belongs to scopes up to link-local (RFC4489 s3)",
    "plen-gt-64": "the prefix length is above 64 (RFC3306 s4)",
    "prefix-trailing-bits": "the prefix has bits set beyond its length (RFC3306 s4)",
    "r-without-p-and-t": "the R flag needs P and T beside it (RFC3956 s3)",
    "reserved-bits-nonzero": "reserved bits are set; they are ignored (RFC7371 s4.1)",
    "riid-without-r": "an identifier of a rendezvous point without the R flag (RFC3956 s3)",
    "riid-zero": "the identifier of the rendezvous point is 0 (RFC3956 s6.3)",
    "rp-prefix-excluded": "no rendezvous point can have an address there (RFC3956 s4)",
    "scope-exceeds-prefix": "the scope is wider than that of the unicast prefix (RFC3306 s4)",
    "scope-reserved-0": "scope 0 is reserved: never sent, dropped on receipt (RFC4291 s2.7)",
    "scope-reserved-f": "scope F is reserved: not to be sent, treated as global (RFC4291 s2.7)",
    "ssm-invalid-group": "not a valid group identifier for SSM (RFC4607 s1)",
    "ssm-prefix-nonzero": "reserved for future kinds of SSM, invalid today (RFC4607 s1)",
    "ssm-reserved-null": "set aside as a value that means none (RFC4607 s4.3)",
    "x-flag-set": "the X flag is set: undefined (RFC7371 s3)",
}
"""What can be wrong with an IPv6 group, in words."""


class Assignment(NamedTuple):
    """A group, or a range of them, that has a name. Text that there is none of is empty, a port 0.

    `name` is IANA's description, or for a conventional group what uses it.
    """

    addresses: str
    name: str
    rfc: str
    common_name: str
    port: int


def enclosing_blocks(number: int, blocks: tuple[Block, ...] = IPV4_BLOCKS) -> tuple[Block, ...]:
    """The blocks that an IPv4 address lies in, from the widest to the narrowest."""
    for block in blocks:
        if number in block:
            return (block, *enclosing_blocks(number, block.inner))
    return ()


def ipv4_assignment(number: int) -> Assignment | None:
    """What IANA has assigned the IPv4 group to, scope-relative assignments left out."""
    return _ipv4_assignments().find(number)


def relative_assignment(offset: int) -> Assignment | None:
    """What IANA has assigned this place to, counted down from the end of every scope."""
    return _relative_assignments().get(offset)


def ipv6_assignment(number: int) -> Assignment | None:
    """What IANA has assigned the IPv6 group to, at its scope or else at any.

    A name for any scope does not hold at the reserved ones, except that the group identifier 0 is
    reserved at all sixteen.
    """
    if found := _ipv6_fixed_assignments().find(number):
        return found
    scope = number >> 112 & 0xF
    at_scope_0 = number & ~(0xF << 112)
    if scope in (0, 15) and at_scope_0 != 0xFF00 << 112:
        return None
    return _ipv6_variable_assignments().find(at_scope_0)


def conventional_names(version: int, number: int) -> tuple[Assignment, ...]:
    """The programs that use the group by default without an assignment, the closest first."""
    return tuple(
        name
        for name_version, (base, last), mask, name in _conventional_names()
        if version == name_version and base <= number & mask <= last
    )


class _Index:
    """Assignments that do not overlap, found by any number in their range."""

    def __init__(self, rows: Iterable[assignments.Row]) -> None:
        entries = sorted((_read_range(row[0]), Assignment(*row)) for row in rows)
        self._firsts = [first for (first, _), _ in entries]
        self._entries = entries

    def find(self, number: int) -> Assignment | None:
        position = bisect_right(self._firsts, number) - 1
        if position < 0:
            return None
        (_, last), assignment = self._entries[position]
        return assignment if number <= last else None


def _read_range(text: str) -> tuple[int, int]:
    """An address, `FIRST-LAST` or a network, as IANA writes them; the X of FF0X becomes 0."""
    text = text.replace("FF0X", "FF00")
    if "/" in text:
        network = ip_network(text)
        return int(network.network_address), int(network.broadcast_address)
    first, _, last = text.partition("-")
    return int(ip_address(first)), int(ip_address(last or first))


@cache
def _ipv4_assignments() -> _Index:
    return _Index(assignments.IPV4)


@cache
def _ipv6_fixed_assignments() -> _Index:
    return _Index(assignments.IPV6_FIXED_SCOPE)


@cache
def _ipv6_variable_assignments() -> _Index:
    return _Index(assignments.IPV6_VARIABLE_SCOPE)


@cache
def _relative_assignments() -> dict[int, Assignment]:
    return {
        offset: Assignment(str(offset), name, rfc, common_name, port)
        for offset, name, rfc, common_name, port in assignments.IPV4_RELATIVE
    }


@cache
def _conventional_names() -> tuple[tuple[int, tuple[int, int], int, Assignment], ...]:
    exact = (1 << 128) - 1
    rows = [
        (
            6 if ":" in addresses else 4,
            _read_range(addresses),
            exact,
            Assignment(addresses, name, "", name, port),
        )
        for addresses, name, port in assignments.CONVENTIONAL
    ]
    rows += [
        (6, _read_range(base), int(ip_address(mask)), Assignment(base, name, "", name, port))
        for base, mask, name, port in assignments.CONVENTIONAL_PATTERNS
    ]
    return tuple(rows)
