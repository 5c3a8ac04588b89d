"""Making groups undoes classifying them, and the examples of the RFCs come out as printed."""

import json
import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from trio_mcast._addresses.classify import classify
from trio_mcast._addresses.groups import (
    embedded_rp_groups,
    ethernet_address,
    ethernet_aliases,
    glop_block,
    ipv4_embedded_group,
    link_scoped_groups,
    random_group,
    sacn_group,
    scope_relative_group,
    solicited_node_group,
    unicast_prefix_groups,
)
from trio_mcast._addresses.parsing import parse_group
from trio_mcast._base.errors import AddressError

DERIVATIONS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "multicast_registry.json").read_text(encoding="utf-8")
)["derivations"]

# How the derivations, each with its printed arguments, are written with our functions.
WRITTEN_AS: dict[str, Callable[..., object]] = {
    "ipv4_mac_aliases": lambda group: [str(alias) for alias in ethernet_aliases(group)],
    "glop_prefix": glop_block,
    "ipv4_unicast_prefix_based": unicast_prefix_groups,
    "scope_relative": scope_relative_group,
    "solicited_node": solicited_node_group,
    "unicast_prefix_based": lambda prefix, scope, number: unicast_prefix_groups(
        prefix, scope=int(scope, 16)
    )[number],
    "embedded_rp_group": lambda rp, length, scope, number: embedded_rp_groups(
        rp, prefix_length=length, scope=int(scope, 16)
    )[number],
    "link_scoped": lambda address, scope, number: link_scoped_groups(address, scope=int(scope, 16))[
        number
    ],
    "ipv4_embedded": ipv4_embedded_group,
    "mac": ethernet_address,
    "sacn_group": sacn_group,
}

SCOPES = st.integers(1, 14)
GLOBAL_UNICAST = st.integers(0x2000 << 112, (0x4000 << 112) - 1)
IPV6_PREFIXES = st.builds(
    lambda number, length: IPv6Network((number, length), strict=False),
    GLOBAL_UNICAST,
    st.integers(3, 64),
)
IPV4_PREFIXES = st.builds(
    lambda number, length: IPv4Network((number, length), strict=False),
    st.integers(0x01000000, 0xDFFFFFFF),
    st.integers(3, 24),
)
IPV4_GROUPS = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
IPV6_GROUPS = st.integers(0xFF01 << 112, (1 << 128) - 1).map(IPv6Address)


@pytest.mark.parametrize("row", DERIVATIONS, ids=lambda row: f"{row['fn']} {row['args']}")
def test_every_derivation_comes_out_as_printed(row: dict[str, Any]) -> None:
    make = WRITTEN_AS[row["fn"]]
    if str(row["result"]).startswith("error"):
        with pytest.raises(AddressError) as caught:
            make(*row["args"])
        assert str(row["args"][0]) in str(caught.value)
    else:
        made = make(*row["args"])
        assert (made if isinstance(made, list) else str(made)) == row["result"]


# --- AS numbers ----------------------------------------------------------------------------------


@given(st.integers(0, 64511), st.integers(0, 255))
def test_the_groups_of_an_as_number_lead_back_to_it(asn: int, number: int) -> None:
    block = glop_block(asn)
    assert block.num_addresses == 256
    assert classify(block[number]).glop_asn == asn


@pytest.mark.parametrize("asn", [-1, 64512, 65535, 65536, 4294967295])
def test_an_as_number_without_groups_is_refused(asn: int) -> None:
    with pytest.raises(AddressError, match=f"AS number {asn} has no GLOP groups"):
        glop_block(asn)


@pytest.mark.parametrize("asn", ["5662", 5662.0, True, None])
def test_an_as_number_is_an_integer(asn: Any) -> None:
    with pytest.raises(TypeError, match="not an integer"):
        glop_block(asn)


# --- unicast prefixes ----------------------------------------------------------------------------


@given(IPV4_PREFIXES, st.data())
def test_the_ipv4_groups_of_a_prefix_lead_back_into_it(
    prefix: IPv4Network, data: st.DataObject
) -> None:
    groups = unicast_prefix_groups(prefix)
    assert groups.num_addresses == 2 ** (24 - prefix.prefixlen)
    group = groups[data.draw(st.integers(0, groups.num_addresses - 1))]
    found = classify(group)
    assert found.block == "unicast-prefix-based"
    assert IPv4Address(found.embedded_unicast or "") in prefix
    assert classify(groups[0]).embedded_unicast == str(prefix.network_address)


@given(IPV6_PREFIXES, SCOPES, st.integers(0, 2**32 - 1))
def test_the_ipv6_groups_of_a_prefix_lead_back_to_it(
    prefix: IPv6Network, scope: int, number: int
) -> None:
    found = classify(unicast_prefix_groups(prefix, scope=scope)[number])
    assert (found.kind, found.prefix, found.plen) == (
        "unicast-prefix-based",
        str(prefix),
        prefix.prefixlen,
    )
    assert (found.scope, found.group_id32) == (scope, f"{number:#010x}")
    assert found.problems == ()


@given(IPV4_PREFIXES | IPV6_PREFIXES)
def test_a_prefix_may_be_text_or_a_network(prefix: IPv4Network | IPv6Network) -> None:
    assert unicast_prefix_groups(str(prefix)) == unicast_prefix_groups(prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        "0.0.0.0/0",
        "::/0",  # a length of 0 would make source-specific groups
        "192.0.2.0/25",
        "192.0.2.1",
        "2001:db8::/65",
        "224.0.0.0/8",
        "ff02::/16",
        "192.0.2.1/24",
        "2001:db8::1/64",
        "nonsense",
    ],
)
def test_a_prefix_without_groups_is_refused_by_its_name(prefix: str) -> None:
    with pytest.raises(AddressError) as caught:
        unicast_prefix_groups(prefix)
    assert repr(prefix) in str(caught.value)


def test_link_local_prefixes_have_no_groups_wider_than_the_link() -> None:
    assert str(unicast_prefix_groups("fe80::/64", scope=2)) == "ff32:40:fe80::/96"
    with pytest.raises(AddressError, match="wider than link-local"):
        unicast_prefix_groups("fe80::/64", scope=3)
    assert "scope-exceeds-prefix" in (classify("ff33:40:fe80::1").problems or ())


def test_the_ipv4_groups_of_a_prefix_have_no_choice_of_scope() -> None:
    with pytest.raises(ValueError, match="scope 5"):
        unicast_prefix_groups("192.0.2.0/24", scope=5)


@pytest.mark.parametrize("value", [None, 1, IPv4Address("192.0.2.0"), b"192.0.2.0/24"])
def test_a_prefix_is_text_or_a_network(value: Any) -> None:
    with pytest.raises(TypeError, match="is not a network"):
        unicast_prefix_groups(value)


@pytest.mark.parametrize("scope", [-1, 0, 15, 16])
def test_reserved_scopes_are_never_made(scope: int) -> None:
    for make in (
        lambda: unicast_prefix_groups("2001:db8::/32", scope=scope),
        lambda: embedded_rp_groups("2001:db8::1", scope=scope),
        lambda: link_scoped_groups("fe80::1", scope=scope),
        lambda: random_group(6, scope=scope),
    ):
        with pytest.raises(ValueError, match=f"scope {scope} is not"):
            make()


# --- rendezvous points ---------------------------------------------------------------------------


@given(IPV6_PREFIXES, st.integers(1, 15), SCOPES, st.integers(0, 2**32 - 1))
def test_a_group_leads_back_to_the_rendezvous_point_it_was_made_from(
    prefix: IPv6Network, riid: int, scope: int, number: int
) -> None:
    rp = prefix[riid]
    group = embedded_rp_groups(rp, prefix_length=prefix.prefixlen, scope=scope)[number]
    found = classify(group)
    assert (found.kind, found.rp, found.rp_valid) == ("embedded-rp", str(rp), True)
    assert (found.prefix, found.riid, found.scope) == (str(prefix), riid, scope)
    assert found.problems == ()


@given(GLOBAL_UNICAST | st.integers(1, 2**128 - 1), st.integers(1, 64))
def test_an_address_is_carried_whole_or_refused(number: int, length: int) -> None:
    rp = IPv6Address(number)
    try:
        groups = embedded_rp_groups(rp, prefix_length=length)
    except AddressError:
        return
    found = classify(groups[1])
    assert (found.rp, found.rp_valid) == (str(rp), True)


@pytest.mark.parametrize(
    ("rp", "length"),
    [
        ("2001:db8::", 64),  # RIID 0
        ("2001:db8::10", 64),  # more than one digit behind the prefix
        ("2001:db8:0:0:1::1", 64),
        ("2001:db8:1::1", 32),  # bits beyond the prefix length
        ("fe80::1", 64),
        ("::1", 64),
        ("ff02::1", 64),
        ("::ffff:192.0.2.1", 64),
        ("192.0.2.1", 64),
        ("::", 64),
    ],
)
def test_no_group_is_made_for_what_cannot_be_a_rendezvous_point(rp: str, length: int) -> None:
    with pytest.raises(AddressError) as caught:
        embedded_rp_groups(rp, prefix_length=length)
    assert rp in str(caught.value)


def test_a_rendezvous_point_just_outside_the_excluded_range_is_carried() -> None:
    assert str(embedded_rp_groups("1::1", prefix_length=16)) == "ff7e:110:1::/96"


def test_the_prefix_of_a_rendezvous_point_is_64_bits_long_and_its_groups_global_by_default() -> (
    None
):
    assert str(embedded_rp_groups("2001:db8::1")) == "ff7e:140:2001:db8::/96"


@pytest.mark.parametrize("length", [0, 65, -1])
def test_the_prefix_length_of_a_rendezvous_point_is_1_to_64(length: int) -> None:
    with pytest.raises(ValueError, match=f"prefix length {length}"):
        embedded_rp_groups("2001:db8::1", prefix_length=length)


# --- hosts ---------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_link_scoped_groups_lead_back_to_the_interface_identifier(
    identifier: int, scope: int, number: int
) -> None:
    host = IPv6Address(0xFE80 << 112 | identifier)
    found = classify(link_scoped_groups(host, scope=scope)[number])
    assert found.kind == "link-scoped"
    assert int((found.interface_id or "").replace(":", ""), 16) == identifier
    assert (found.scope, found.problems) == (scope, ())


def test_link_scoped_groups_are_for_link_local_addresses_and_the_link() -> None:
    with pytest.raises(AddressError, match="2001:db8::1 is not link-local"):
        link_scoped_groups("2001:db8::1")
    with pytest.raises(ValueError, match="scope 3"):
        link_scoped_groups("fe80::1", scope=3)


@given(st.integers(1, (0xFF << 120) - 1).map(IPv6Address))
def test_a_solicited_node_group_ends_like_the_address(address: IPv6Address) -> None:
    assume(address.ipv4_mapped is None)
    group = solicited_node_group(address)
    assert group.exploded[-7:] == address.exploded[-7:]
    assert classify(group).is_solicited_node


@pytest.mark.parametrize("value", ["192.0.2.1", "ff02::1", "::", "::ffff:192.0.2.1", "nonsense"])
def test_a_solicited_node_group_is_for_unicast_ipv6(value: str) -> None:
    with pytest.raises(AddressError, match=value):
        solicited_node_group(value)


def test_a_link_scoped_group_has_the_identifier_and_nothing_of_the_prefix() -> None:
    assert link_scoped_groups("fe80:0:0:1::1") == link_scoped_groups("fe80::1")


def test_a_zone_does_not_matter_for_groups_of_hosts() -> None:
    assert str(solicited_node_group("fe80::1:2%eth0")) == "ff02::1:ff01:2"
    assert link_scoped_groups("fe80::1%eth0") == link_scoped_groups("fe80::1")


@given(IPV4_GROUPS)
def test_an_embedded_ipv4_group_keeps_its_32_bits(group: IPv4Address) -> None:
    carried = ipv4_embedded_group("ff3e:20:2001:db8::/96", group)
    assert carried.packed[-4:] == group.packed
    assert carried in IPv6Network("ff3e:20:2001:db8::/96")


@pytest.mark.parametrize(
    ("prefix", "group"),
    [
        ("ff3e:20:2001:db8::/64", "239.1.2.3"),
        ("2001:db8::/96", "239.1.2.3"),
        ("239.0.0.0/8", "239.1.2.3"),
        ("ff3e:20:2001:db8::/96", "192.0.2.1"),
        ("ff3e:20:2001:db8::/96", "ff02::1"),
    ],
)
def test_embedding_wants_a_96_of_groups_and_an_ipv4_group(prefix: str, group: str) -> None:
    with pytest.raises(AddressError):
        ipv4_embedded_group(prefix, group)


# --- scopes and universes ------------------------------------------------------------------------


@given(st.sampled_from(["239.255.0.0/16", "239.192.0.0/14"]), st.integers(0, 255))
def test_a_scope_relative_group_leads_back_to_its_offset(block: str, offset: int) -> None:
    group = scope_relative_group(block, offset)
    assert group in ip_network(block)
    assert classify(group).relative_offset == offset


def test_the_largest_scope_is_all_of_239_and_the_smallest_has_256_groups() -> None:
    assert str(scope_relative_group("239.0.0.0/8", 10)) == "239.255.255.245"
    assert str(scope_relative_group("239.1.2.0/24", 255)) == "239.1.2.0"


def test_a_service_has_the_same_offset_in_every_scope() -> None:
    local = classify(scope_relative_group("239.255.0.0/16", 5))
    wider = classify(scope_relative_group(IPv4Network("239.192.0.0/14"), 5))
    assert local.iana_record == wider.iana_record == "SSDP"


@pytest.mark.parametrize(
    "block", ["238.0.0.0/8", "224.0.0.0/4", "239.255.0.0/25", "ff00::/8", "239.255.0.1/16"]
)
def test_a_scope_is_a_part_of_239_with_256_groups(block: str) -> None:
    with pytest.raises(AddressError, match=block):
        scope_relative_group(block, 0)


@pytest.mark.parametrize("offset", [-1, 256])
def test_an_offset_is_0_to_255(offset: int) -> None:
    with pytest.raises(ValueError, match=f"offset {offset}"):
        scope_relative_group("239.255.0.0/16", offset)


@given(st.integers(1, 63999))
def test_a_universe_is_the_last_two_octets(universe: int) -> None:
    assert sacn_group(universe).packed == bytes([239, 255, universe // 256, universe % 256])


@pytest.mark.parametrize("universe", [0, 64000, 64213, 64215, 65535, 65536, -1])
def test_there_are_no_other_universes(universe: int) -> None:
    with pytest.raises(ValueError, match=f"universe {universe}"):
        sacn_group(universe)


# --- Ethernet ------------------------------------------------------------------------------------


@given(IPV4_GROUPS | IPV6_GROUPS)
def test_the_ethernet_address_is_the_one_that_a_classification_tells(
    group: IPv4Address | IPv6Address,
) -> None:
    assume(classify(group).scope != 0)
    assert ethernet_address(group) == classify(group).mac
    assert ethernet_address(str(group)) == ethernet_address(parse_group(group))


@given(IPV4_GROUPS)
def test_all_groups_with_the_ethernet_address_are_aliases_of_each_other(
    group: IPv4Address,
) -> None:
    aliases = ethernet_aliases(group)
    assert len(set(aliases)) == 32
    assert group in aliases
    assert {ethernet_address(alias) for alias in aliases} == {ethernet_address(group)}
    assert {ethernet_aliases(alias) for alias in aliases} == {aliases}


@given(IPV4_GROUPS, IPV4_GROUPS)
def test_groups_share_an_ethernet_address_exactly_when_they_are_aliases(
    one: IPv4Address, other: IPv4Address
) -> None:
    assert (ethernet_address(one) == ethernet_address(other)) is (other in ethernet_aliases(one))


@pytest.mark.parametrize("value", ["192.0.2.1", "2001:db8::1", "::ffff:239.1.2.3"])
def test_only_groups_have_an_ethernet_address_of_their_own(value: str) -> None:
    with pytest.raises(AddressError):
        ethernet_address(value)


def test_the_aliases_of_ipv6_groups_are_too_many_to_list() -> None:
    with pytest.raises(AddressError, match="ff02::fb"):
        ethernet_aliases("ff02::fb")


# --- free groups ---------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**32)


@given(st.sampled_from([None, "organization-local", "local"]), SEEDS)
def test_a_random_ipv4_group_is_free_inside_its_scope(scope: str | None, seed: int) -> None:
    found = classify(random_group(4, scope=scope, rng=random.Random(seed)))
    assert (found.use, found.scope) == ("site-admin", scope or "organization-local")
    assert found.iana_record is None
    assert found.mac_floods_like_local_control is False
    # Nobody else's, but for those two who take the whole local scope.
    assert all(name.startswith(("sACN", "Dante")) for name in found.conventional_names)
    if scope != "local":
        assert found.conventional_names == ()


@given(SEEDS)
def test_a_random_source_specific_ipv4_group_is_free(seed: int) -> None:
    found = classify(random_group(ssm=True, rng=random.Random(seed)))
    assert (found.use, found.is_ssm, found.sub_block) == ("ssm-only", True, "ssm-host")
    assert found.mac_floods_like_local_control is False


@given(st.none() | SCOPES, st.booleans(), SEEDS)
def test_a_random_ipv6_group_is_free(scope: int | None, ssm: bool, seed: int) -> None:
    group = random_group(6, scope=scope, ssm=ssm, rng=random.Random(seed))
    found = classify(group)
    assert found.kind == ("ssm" if ssm else "transient")
    assert found.ssm_range == ("host" if ssm else None)
    assert found.scope == (scope or 8)
    assert (found.group_id_class, found.problems) == ("dynamic", ())
    assert found.conventional_names == ()
    assert not ethernet_address(group).startswith("33:33:ff")


class Drawn(random.Random):
    """Always draws the same number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def randrange(self, *bounds: Any) -> int:
        return self.number


@pytest.mark.parametrize(
    ("version", "options", "drawn", "group"),
    [
        (4, {}, 0, "239.193.0.0"),
        (4, {}, 3 * 65536 - 257, "239.195.254.255"),
        (4, {"scope": "local"}, 0, "239.255.0.0"),
        (4, {"scope": "local"}, 1, "239.255.0.2"),  # 239.255.0.1 is where DDS is found
        (4, {"scope": "local"}, 65536 - 257, "239.255.254.255"),
        (4, {"ssm": True}, 0, "232.0.1.0"),
        (4, {"ssm": True}, 0x800000 - 256, "232.128.1.0"),  # 256 aliases of control groups
        (6, {}, 0, "ff18::8000:0"),
        (6, {}, 0x3000000, "ff18::8301:0"),  # 65536 universes
        (6, {"scope": 5}, 0xEFC0988F - 0x80000000, "ff15::efc0:9890"),  # BitTorrent
        (6, {"scope": 5}, 0x7EFFFFFF, "ff15::feff:ffff"),
        (6, {"scope": 5}, 0x7F000000, "ff15::8000:0"),  # past the last comes the first
        (6, {"scope": 14, "ssm": True}, 0, "ff3e::8000:0"),
    ],
)
def test_a_group_that_is_not_free_gives_way_to_the_next(
    version: Any, options: dict[str, Any], drawn: int, group: str
) -> None:
    assert str(random_group(version, **options, rng=Drawn(drawn))) == group


def test_groups_to_avoid_are_avoided_and_so_are_their_aliases() -> None:
    assert str(random_group(avoid=["239.193.0.0"], rng=Drawn(0))) == "239.193.0.1"
    assert str(random_group(avoid=["224.65.0.0"], rng=Drawn(0))) == "239.193.0.1"
    assert str(random_group(avoid=["224.66.0.0"], rng=Drawn(0))) == "239.193.0.0"
    assert str(random_group(6, avoid=["ff12::8000:0"], rng=Drawn(0))) == "ff18::8000:1"


def test_the_last_free_group_is_found_and_then_there_is_none() -> None:
    every = [IPv4Address("239.193.0.0") + n for n in range(3 * 65536 - 256)]
    assert random_group(avoid=every[:-1]) == every[-1]
    with pytest.raises(AddressError, match=r"every group from 239\.193\.0\.0 to"):
        random_group(avoid=every)


def test_groups_are_not_the_same_each_time() -> None:
    assert len({random_group() for _ in range(20)}) > 1
    assert random_group(6, rng=random.Random(1)) == random_group(6, rng=random.Random(1))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"version": 5}, "version 5"),
        ({"scope": "global"}, "'global'"),
        ({"scope": 8}, "8"),
        ({"ssm": True, "scope": "local"}, "'local'"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        random_group(**options)


def test_the_scope_of_an_ipv6_group_is_a_number() -> None:
    with pytest.raises(TypeError, match="'local'"):
        random_group(6, scope="local")
