"""Classifications held against vectors taken from the RFCs, and against the registry itself."""

import json
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, strategies as st

from trio_mcast._addresses import assignments
from trio_mcast._addresses.classification import Classification, Flags
from trio_mcast._addresses.classify import classify
from trio_mcast._addresses.registry import (
    IPV4_BLOCKS,
    IPV6_KINDS,
    IPV6_SCOPES,
    PROBLEMS,
    USES,
    Block,
)
from trio_mcast._base.errors import AddressError

REGISTRY: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "multicast_registry.json").read_text(encoding="utf-8")
)
VECTORS = REGISTRY["vectors"]
IANA = [row for row in REGISTRY["assigned"] if row["status"] == "iana"]
CONVENTIONAL = [row for row in REGISTRY["assigned"] if row["status"] == "conventional"]

IPV4_GROUPS = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
IPV6_GROUPS = st.integers(0xFF << 120, (1 << 128) - 1).map(IPv6Address)

# Groups spread evenly would hardly ever come upon the small blocks at the edges, and hardly any
# IPv6 one would be well-formed.
NEAR_IPV4_EDGES = st.builds(
    lambda edge, distance: IPv4Address(
        min(max(int(IPv4Address(edge)) + distance, 0xE0000000), 0xEFFFFFFF)
    ),
    st.sampled_from([block[end] for block in REGISTRY["ipv4_blocks"] for end in ("start", "end")]),
    st.integers(-300, 300),
)
SHAPED_IPV6_GROUPS = st.builds(
    lambda flags, scope, reserved, riid, plen, prefix, group: IPv6Address(
        0xFF << 120
        | flags << 116
        | scope << 112
        | reserved << 108
        | riid << 104
        | plen << 96
        | prefix << 32
        | group
    ),
    flags=st.integers(0, 15),
    scope=st.integers(0, 15),
    reserved=st.sampled_from([0, 0, 0, 5]),
    riid=st.integers(0, 15),
    plen=st.sampled_from([0, 1, 10, 16, 32, 48, 64, 65, 128, 254, 255]),
    prefix=st.sampled_from([0, 0x20010DB8 << 32, 0xFE80 << 48, 0xFF02 << 48])
    | st.integers(0, 2**64 - 1),
    group=st.sampled_from([0, 1, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000])
    | st.integers(0, 2**32 - 1),
)
ANY_IPV4 = IPV4_GROUPS | NEAR_IPV4_EDGES
ANY_IPV6 = IPV6_GROUPS | SHAPED_IPV6_GROUPS


def as_json(value: object) -> object:
    """Tuples as the lists that JSON has. Flags are compared as the mapping that they are."""
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    "vector", VECTORS, ids=lambda vector: f"{vector['id']} {vector['address']}"
)
def test_every_vector_is_classified_as_its_source_says(vector: dict[str, Any]) -> None:
    found = classify(vector["address"])
    expected = vector["expected"]
    assert {name: as_json(getattr(found, name)) for name in expected} == expected


def test_the_vectors_leave_no_field_of_a_classification_untested() -> None:
    told_about = {name for vector in VECTORS for name in vector["expected"]}
    of_our_own = {"address", "common_name", "conventional_names", "port", "rfc"}
    assert {field.name for field in fields(Classification)} == told_about | of_our_own


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["id"]))
def test_what_is_not_for_the_family_of_the_address_is_none(vector: dict[str, Any]) -> None:
    version = vector["expected"]["version"]
    own = {n for v in VECTORS if v["expected"]["version"] == version for n in v["expected"]}
    others = {n for v in VECTORS for n in v["expected"]} - own
    found = classify(vector["address"])
    assert {name for name in others if getattr(found, name) is not None} == set()


def test_a_classification_cannot_be_changed_and_can_be_a_key() -> None:
    found = classify("ff3e::8000:1")
    with pytest.raises(FrozenInstanceError):
        found.scope = 2  # type: ignore[misc]
    assert {found: "here"}[classify("FF3E:0:0::8000:1")] == "here"


# --- any address -----------------------------------------------------------------------------


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6) | ANY_IPV4 | ANY_IPV6)
@example(IPv6Address(0))
@example(IPv6Address((1 << 128) - 1))
@example(IPv4Address(0))
@example(IPv4Address(0xFFFFFFFF))
def test_every_address_can_be_classified_and_is_multicast_in_the_two_ranges_only(
    address: IPv4Address | IPv6Address,
) -> None:
    groups = ip_network("224.0.0.0/4") if address.version == 4 else ip_network("ff00::/8")
    found = classify(address)
    assert found.address == address
    assert found.version == address.version
    assert found.is_multicast is (address in groups)


@given(ANY_IPV4 | ANY_IPV6)
def test_text_and_object_are_classified_alike(address: IPv4Address | IPv6Address) -> None:
    assert classify(str(address)) == classify(address)
    assert classify(address.exploded.upper()) == classify(address)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_a_unicast_address_has_nothing_but_its_version(
    address: IPv4Address | IPv6Address,
) -> None:
    found = classify(address)
    assume(not found.is_multicast and found.kind is None)
    assert found == Classification(address, address.version, is_multicast=False)


@given(st.ip_addresses(v=4))
def test_an_ipv4_mapped_address_is_no_group_but_tells_of_the_one_inside(
    address: IPv4Address,
) -> None:
    found = classify(f"::ffff:{address}")
    assert not found.is_multicast
    assert found.kind == "ipv4-mapped"
    assert found.mapped_ipv4 == str(address)
    assert found.mapped_is_multicast is classify(address).is_multicast


@pytest.mark.parametrize(
    "text", ["239.1.2.3%eth0", "ff02::fb%eth0", "10.0.0.1%eth0", "fe80::1%eth0"]
)
def test_a_zone_is_kept_apart_from_the_address(text: str) -> None:
    bare = text.partition("%")[0]
    found = classify(text)
    assert found.zone == "eth0"
    assert found.address == ip_address(bare)
    assert str(found.address) == bare


def test_the_zone_of_an_address_object_is_kept_apart_too() -> None:
    found = classify(IPv6Address("ff02::fb%7"))
    assert (str(found.address), found.zone) == ("ff02::fb", "7")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "239.1.2", "239.1.2.3/24", " 239.1.2.3", "ff02::g"]
)
def test_text_that_is_no_address_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        classify(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [None, 1, True, b"\xe0\x00\x00\x01", ip_network("239.0.0.0/8")])
def test_what_is_neither_text_nor_address_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="is not an IP address"):
        classify(value)


# --- IPv4, against the blocks of the registry --------------------------------------------------


def rows_around(address: IPv4Address) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of the block and that of the smallest range in it, straight from the registry."""
    around = [
        row
        for row in REGISTRY["ipv4_blocks"]
        if IPv4Address(row["start"]) <= address <= IPv4Address(row["end"])
    ]
    top = next(row for row in around if row["level"] == "top")
    smallest = min(
        around, key=lambda row: int(IPv4Address(row["end"])) - int(IPv4Address(row["start"]))
    )
    # A sub-block may be as large as nothing but itself; the block is never smaller than its parts.
    return top, smallest


@given(ANY_IPV4)
def test_an_ipv4_group_has_the_facts_of_the_narrowest_range_around_it(
    address: IPv4Address,
) -> None:
    top, narrowest = rows_around(address)
    found = classify(address)
    is_relative = narrowest["id"].endswith("-relative")
    is_example = is_relative and int(address) & 0xFF == 245  # RFC 6676 s2.1: offset 10
    assert found.block == top["id"]
    assert found.block_name == top["name"]
    assert found.sub_block == (narrowest["id"] if narrowest is not top else None)
    assert found.scope == narrowest["scope"]
    assert found.scope_ipv6_equivalent == narrowest["scope_ipv6_equivalent"]
    assert found.routable_beyond_link == narrowest["routable_beyond_link"]
    assert found.may_reach_internet == narrowest["may_reach_internet"]
    assert found.use == ("documentation" if is_example else narrowest["free_for_applications"])
    assert found.relative_offset == (255 - (int(address) & 0xFF) if is_relative else None)
    if found.iana_record is None:
        assert found.rfc == narrowest["rfc"]


@given(ANY_IPV4)
def test_what_an_ipv4_group_is_follows_from_its_octets(address: IPv4Address) -> None:
    a, b, c, d = address.packed
    found = classify(address)
    assert found.is_ssm is (a == 232)
    assert found.is_admin_scoped is (a == 239)
    assert found.glop_asn == (b * 256 + c if a == 233 and b < 252 else None)
    assert found.embedded_unicast == (f"{b}.{c}.{d}.0" if a == 234 else None)
    assert found.mac == f"01:00:5e:{b % 128:02x}:{c:02x}:{d:02x}"
    is_control = (a, b, c) == (224, 0, 0)
    assert found.mac_floods_like_local_control is (b % 128 == 0 and c == 0 and not is_control)
    assert found.is_reserved is (found.use == "reserved")
    assert found.membership_reports is (str(address) != "224.0.0.1")


@given(ANY_IPV4)
def test_what_stays_on_the_link_or_in_the_site_never_reaches_the_internet(
    address: IPv4Address,
) -> None:
    found = classify(address)
    if found.scope == "link-local":
        assert not found.routable_beyond_link
    if found.scope != "global":
        assert found.may_reach_internet is False


def walk(blocks: tuple[Block, ...]) -> Iterator[tuple[Block, tuple[Block, ...]]]:
    for block in blocks:
        yield block, block.inner
        yield from walk(block.inner)


def test_the_blocks_cover_every_ipv4_group_once() -> None:
    position = 0xE0000000
    for block in IPV4_BLOCKS:
        first, last = block.numbers
        assert first == position <= last
        position = last + 1
    assert position == 0xF0000000


def test_ranges_inside_a_block_lie_in_it_and_beside_each_other() -> None:
    for block, inner in walk(IPV4_BLOCKS):
        position, end = block.numbers
        for part in inner:
            first, last = part.numbers
            assert position <= first <= last <= end, part.id
            position = last + 1


def test_the_blocks_are_those_of_the_registry_and_no_others() -> None:
    ours = {
        (block.id, block.first, block.last, block.name, block.rfc, block.scope, block.use)
        for block, _ in walk(IPV4_BLOCKS)
    }
    theirs = {
        (row["id"], row["start"], row["end"], row["name"], row["rfc"], row["scope"],
         row["free_for_applications"])
        for row in REGISTRY["ipv4_blocks"]
    }  # fmt: skip
    assert ours == theirs


def test_every_use_is_put_in_words() -> None:
    assert {block.use for block, _ in walk(IPV4_BLOCKS)} <= set(USES)
    assert set(USES) == set(REGISTRY["meta"]["field_notes"]["use"])


# --- IPv6 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nibble", list(REGISTRY["ipv6_flags"]["nibbles"]))
@pytest.mark.parametrize("scope", list(REGISTRY["ipv6_scopes"]))
def test_every_combination_of_flags_and_scope_is_told_apart(nibble: str, scope: str) -> None:
    row = REGISTRY["ipv6_flags"]["nibbles"][nibble]
    found = classify(f"ff{nibble}{scope}:0120:2001:db8::8000:1")
    assert found.kind == row["kind_with_plen_32"]
    assert found.flags is not None
    letters = "".join(letter if letter != "0" else "" for letter in row["bits"])
    assert str(found.flags) == (letters or "0")
    assert found.scope == int(scope, 16)
    assert (found.scope_name, found.scope_status) == (
        REGISTRY["ipv6_scopes"][scope]["name"],
        REGISTRY["ipv6_scopes"][scope]["status"],
    )
    assert found.problems is not None
    assert ({"p-without-t", "r-without-p-and-t"} & set(found.problems) == set()) is row["valid"]


def test_there_are_sixteen_scopes() -> None:
    assert len(IPV6_SCOPES) == 16


@given(ANY_IPV6)
def test_scopes_follow_from_the_fourth_digit(address: IPv6Address) -> None:
    scope = int(address.exploded[3], 16)
    found = classify(address)
    assert found.scope == scope
    assert found.effective_scope == {0: None, 15: 14}.get(scope, scope)
    assert found.zone_required is (scope in (1, 2))
    assert found.originate_allowed is (scope > 0)
    assert found.membership_reports is (scope > 1 and address != IPv6Address("ff02::1"))


@given(ANY_IPV6)
def test_source_specific_groups_are_those_of_the_two_prefixes_reserved_bits_aside(
    address: IPv6Address,
) -> None:
    plain = IPv6Address(int(address) & ~(0xFF << 104))
    third, fourth = address.exploded[2], address.exploded[3]
    is_ssm = third in "3b" and plain in IPv6Network(f"ff{third}{fourth}::/32")
    found = classify(address)
    assert found.is_ssm is is_ssm
    assert (found.kind == "ssm") is is_ssm
    assert (found.ssm_range is not None) is is_ssm


@given(ANY_IPV6)
def test_a_kind_has_the_parts_that_belong_to_it_and_no_others(address: IPv6Address) -> None:
    found = classify(address)
    assert found.kind in IPV6_KINDS
    assert found.kind != "ipv4-mapped"
    assert (found.prefix is not None) is (found.kind in ("unicast-prefix-based", "embedded-rp"))
    assert (found.rp is not None) is (found.kind == "embedded-rp")
    assert (found.rp_valid is not None) is (found.kind == "embedded-rp")
    assert (found.interface_id is not None) is (found.kind == "link-scoped")
    assert found.flags is not None
    assert (found.plen is not None) is (found.flags.p and found.flags.t)
    assert (found.riid is not None) is (found.flags.r and found.flags.p and found.flags.t)
    if found.prefix is not None:
        assert IPv6Network(found.prefix).prefixlen == found.plen


@given(ANY_IPV6)
def test_the_parts_of_an_ipv6_group_are_its_digits(address: IPv6Address) -> None:
    digits = address.packed.hex()
    found = classify(address)
    assert found.group_id == "0x" + digits[4:]
    assert found.group_id32 == "0x" + digits[24:]
    assert found.mac == "33:33:" + address.packed[12:].hex(":")
    if found.plen is not None:
        assert found.plen == int(digits[6:8], 16)
    if found.riid is not None:
        assert found.riid == int(digits[5], 16)
    if found.interface_id is not None:
        assert found.interface_id.replace(":", "") == digits[8:24]
    if found.prefix is not None:
        bits = f"{int(digits[8:24], 16):064b}"[: found.plen].ljust(128, "0")
        assert IPv6Network(found.prefix).network_address == IPv6Address(int(bits, 2))
    if found.rp is not None and found.prefix is not None:
        assert found.rp == str(IPv6Network(found.prefix)[found.riid or 0])


@given(ANY_IPV6)
def test_what_has_no_record_of_its_own_is_defined_by_its_kind(address: IPv6Address) -> None:
    found = classify(address)
    if found.iana_record is None:
        assert found.rfc == IPV6_KINDS[found.kind or ""]


def test_a_record_is_defined_by_its_own_rfc_where_it_has_one() -> None:
    assert classify("ff02::fb").rfc == "RFC6762"
    assert classify("ff0e::181").rfc == IPV6_KINDS["well-known"]
    assert classify("224.0.0.251").rfc == "RFC6762"
    assert classify("224.0.23.12").rfc == "RFC5771 s6"


def test_a_link_local_prefix_is_good_for_groups_up_to_the_link() -> None:
    assert classify("ff32:40:fe80::1").problems == ()
    assert classify("ff33:40:fe80::1").problems == ("scope-exceeds-prefix",)


@given(ANY_IPV6)
def test_problems_are_sorted_known_and_told_once(address: IPv6Address) -> None:
    problems = classify(address).problems
    assert problems is not None
    assert list(problems) == sorted(set(problems))
    assert set(problems) <= set(PROBLEMS)


@given(SHAPED_IPV6_GROUPS)
def test_a_malformed_group_always_has_a_problem(address: IPv6Address) -> None:
    found = classify(address)
    if found.kind == "malformed":
        assert set(found.problems or ()) & {
            "p-without-t",
            "r-without-p-and-t",
            "plen-gt-64",
            "plen-255-scope",
            "embedded-rp-plen-zero",
        }


def test_every_problem_is_shown_by_some_vector() -> None:
    shown = {name for v in VECTORS for name in v["expected"].get("problems", ())}
    assert shown == set(PROBLEMS)


@pytest.mark.parametrize("prefix", ["2001:db8:1::/48", "3fff:123::/32"])
def test_groups_of_a_documentation_prefix_are_for_documentation(prefix: str) -> None:
    network = IPv6Network(prefix)
    number = 0xFF3E << 112 | network.prefixlen << 96 | int(network[0]) >> 64 << 32 | 0x80000001
    assert classify(IPv6Address(number)).documentation == "derived"


@pytest.mark.parametrize("value", range(16))
def test_flags_are_attributes_and_a_mapping_alike(value: int) -> None:
    flags = Flags(value)
    bits = [bool(int(digit)) for digit in f"{value:04b}"]
    assert flags == dict(zip(("value", "x", "r", "p", "t"), [value, *bits], strict=True))
    assert (flags.x, flags.r, flags.p, flags.t) == (
        flags["x"], flags["r"], flags["p"], flags["t"],
    )  # fmt: skip
    assert hash(flags) == hash(Flags(value))
    assert flags != Flags(value ^ 1)


def test_flags_have_no_other_names() -> None:
    with pytest.raises(KeyError):
        Flags(0)["keys"]


# --- names -------------------------------------------------------------------------------------


def ends(addresses: str) -> tuple[str, str]:
    """The first and the last address of a range in any of the spellings of the registry."""
    if "/" in addresses:
        network = ip_network(addresses)
        return str(network[0]), str(network[-1])
    first, _, last = addresses.partition("-")
    return first, last or first


@pytest.mark.parametrize("row", IANA, ids=lambda row: row["address"])
def test_what_iana_has_assigned_is_known_by_name(row: dict[str, Any]) -> None:
    for scope in "123456789abcde" if row.get("scope") == "variable" else "-":
        for address in ends(row["address"].replace("ff0x", f"ff0{scope}")):
            found = classify(address)
            # The few names that hold at one scope only come before those that hold at all.
            if row.get("scope") == "variable" and found.iana_address != row["registry_address"]:
                assert not str(found.iana_address).startswith("FF0X")
                continue
            assert found.iana_record == row["name"]
            assert found.common_name == row["common_name"]
            assert found.iana_address == row.get("registry_address")
            assert found.port == row["port"]


@pytest.mark.parametrize("scope", "0f")
@pytest.mark.parametrize("row", [r for r in IANA if r.get("scope") == "variable"],
                         ids=lambda row: row["address"])  # fmt: skip
def test_names_for_any_scope_do_not_hold_at_the_reserved_ones(
    row: dict[str, Any], scope: str
) -> None:
    address, _ = ends(row["address"].replace("ff0x", f"ff0{scope}"))
    expected = row["name"] if row["address"] == "ff0x::" else None
    assert classify(address).iana_record == expected


@pytest.mark.parametrize("row", [r for r in IANA if r.get("scope") == "variable"],
                         ids=lambda row: row["address"])  # fmt: skip
def test_a_transient_group_has_nothing_to_do_with_the_permanent_one_of_its_number(
    row: dict[str, Any],
) -> None:
    address, _ = ends(row["address"].replace("ff0x", "ff15"))
    assert classify(address).iana_record is None


@pytest.mark.parametrize("row", CONVENTIONAL, ids=lambda row: row["key"])
def test_what_programs_use_by_convention_is_named_so_and_never_as_assigned(
    row: dict[str, Any],
) -> None:
    inside = {
        "sacn": "239.255.0.1",
        "thread": "ff33:40:fdde:ad00:beef:0:0:1",
        "matter": "ff35:40:fd00:1122:3344:5566:7700:1",
    }
    found = classify(inside.get(row["key"], ends(row["address"])[0]))
    word = row["name"].split()[0].rstrip(":,")
    assert any(word in name for name in found.conventional_names)
    if row["key"] != "ws-discovery":  # it uses SSDP's group
        assert found.iana_record is None
        assert found.common_name is None


def test_the_closest_convention_is_named_first() -> None:
    lcm = classify("239.255.76.67")
    assert lcm.conventional_names[0].startswith("LCM")
    assert lcm.port == 7667
    assert any(name.startswith("sACN") for name in lcm.conventional_names)


def test_neighbours_of_a_conventional_group_are_not_named() -> None:
    for address in ("239.12.255.253", "ff12::8385", "ff34:40:fdde:ad00:beef::1", "224.0.0.234"):
        assert classify(address).conventional_names == ()


@pytest.mark.parametrize(
    "rows", [assignments.IPV4, assignments.IPV6_FIXED_SCOPE, assignments.IPV6_VARIABLE_SCOPE]
)
def test_assignments_are_in_order_and_do_not_overlap(rows: tuple[assignments.Row, ...]) -> None:
    position = -1
    for addresses, name, *_ in rows:
        first, last = (int(ip_address(a)) for a in ends(addresses.replace("FF0X", "FF00")))
        assert position < first <= last, addresses
        assert name.strip() == name != ""
        position = last


@pytest.mark.parametrize("row", assignments.IPV4, ids=lambda row: row[0])
def test_both_ends_of_an_ipv4_assignment_find_it_and_their_neighbours_do_not(
    row: assignments.Row,
) -> None:
    first, last = (IPv4Address(address) for address in ends(row[0]))
    assert classify(first).iana_record == row[1] == classify(last).iana_record
    starts = {ends(other[0])[0] for other in assignments.IPV4}
    if str(last + 1) not in starts:
        assert classify(last + 1).iana_record is None
