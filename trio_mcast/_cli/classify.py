"""`trio-mcast classify`"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

import trio_mcast
from trio_mcast import Classification

from .output import add_row, to_json, write, write_table


def classify(
    addresses: Annotated[list[str], Parameter(name="ADDRESS")], /, *, json: bool = False
) -> int:
    """Tell what kind of group an address is, and who may use it.

    Everything is read off the address and the registries of IANA; nothing
    is sent. Any address will do, unicast too.

    Try:

        trio-mcast classify 224.0.0.251 239.1.2.3 ff3e::8000:1

    Args:
      addresses: IPv4 or IPv6 addresses
      json: one JSON object a line; its keys are the attributes of
        trio_mcast.Classification
    """
    found = [trio_mcast.classify(address) for address in addresses]
    if json:
        write(to_json({f.name: getattr(c, f.name) for f in fields(c)}) for c in found)
        return 0
    for number, classification in enumerate(found):
        if number:
            write([""])
        write_table(_make_table(classification))
    return 0


def _make_table(classification: Classification) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for label, text in _facts(classification):
        add_row(table, label, text.split("\n"))
    return table


def _facts(c: Classification) -> Iterator[tuple[str, str]]:
    zone = f"%{c.zone}" if c.zone else ""
    yield "Address", f"{c.address}{zone}"
    if not c.is_multicast:
        yield "Kind", _describe_unicast(c)
        return
    yield from _identity(c)
    yield from _ipv4_facts(c) if c.version == 4 else _ipv6_facts(c)
    yield from _delivery(c)
    if c.rfc:
        yield "Defined in", c.rfc
    yield "Problems", "\n".join(c.describe_problems()) or "none"


def _describe_unicast(c: Classification) -> str:
    if c.mapped_ipv4 is not None:
        what = "group" if c.mapped_is_multicast else "address"
        return f"no group: the IPv4 {what} {c.mapped_ipv4} mapped into IPv6; write it as that"
    return "a unicast address, no group"


def _identity(c: Classification) -> Iterator[tuple[str, str]]:
    source_specific = ", source-specific: joined with a source only" if c.is_ssm else ""
    yield "Kind", f"IPv{c.version} group{source_specific}"
    if c.common_name:
        official = f" (IANA: {c.iana_record})" if c.iana_record != c.common_name else ""
        yield "Assigned to", f"{c.common_name}{official}"
    if c.conventional_names:
        yield "Often used by", ", ".join(c.conventional_names)
    if c.port is not None:
        yield "Usual port", str(c.port)
    if c.documentation is not None:
        yield (
            "Example",
            {
                "assigned": "set aside for documentation",
                "derived": "derived from a prefix or AS number for documentation",
            }[c.documentation],
        )


def _ipv4_facts(c: Classification) -> Iterator[tuple[str, str]]:
    yield "Block", "\n".join(c.describe_blocks())
    yield "May be used", c.describe_use() or ""
    if c.glop_asn is not None:
        yield "Holder", f"AS {c.glop_asn}"
    if c.embedded_unicast is not None:
        yield "Holder", f"of the unicast prefix {c.embedded_unicast}/24"
    if c.relative_offset is not None:
        yield "Relative", f"{c.relative_offset} below the end of its scope"
    equivalent = c.scope_ipv6_equivalent
    alike = f", like IPv6 scope {equivalent:x}" if equivalent is not None else ""
    yield "Scope", f"{c.scope}{alike}"
    yield "Reaches", c.describe_reach() or ""


_IPV6_KINDS = {
    "well-known": "permanently assigned",
    "transient": "transient",
    "unicast-prefix-based": "built on a unicast prefix",
    "ssm": "for source-specific multicast",
    "embedded-rp": "with an embedded rendezvous point",
    "link-scoped": "built on an interface identifier",
    "malformed": "flags that do not fit together",
}


def _ipv6_facts(c: Classification) -> Iterator[tuple[str, str]]:
    assert c.kind is not None
    assert isinstance(c.scope, int)
    flags = f" (flags {c.flags})" if c.flags is not None and c.flags.value else ""
    yield "Built as", f"{_IPV6_KINDS[c.kind]}{flags}"
    yield "May be used", c.describe_use() or ""
    for label, value in (
        ("Prefix", c.prefix),
        ("Rendezvous", c.rp),
        ("Interface ID", c.interface_id),
    ):
        if value is not None:
            yield label, value
    if c.is_solicited_node:
        yield "Belongs to", "neighbor discovery: a solicited-node group"
    if c.is_node_information:
        yield "Belongs to", "node information queries"
    yield "Scope", f"{c.scope:x}, {c.scope_name}"
    yield "Reaches", c.describe_reach() or ""
    if c.zone_required and not c.zone:
        yield "Interface", f"each has its own: write {c.address}%eth0 to mean one"


def _delivery(c: Classification) -> Iterator[tuple[str, str]]:
    if c.mac is not None:
        floods = "; switches flood it like 224.0.0.x" if c.mac_floods_like_local_control else ""
        yield "Ethernet", f"{c.mac}{floods}"
    if not c.membership_reports:
        protocol = "IGMP" if c.version == 4 else "MLD"
        yield "Membership", f"never reported ({protocol})"
