"""What may be written for a group, a source, a port; and what is refused, and how it is said."""

import json
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from trio_mcast._addresses.classify import classify
from trio_mcast._addresses.parsing import (
    Group,
    check_sendable,
    is_multicast,
    is_ssm,
    parse_group,
    parse_port,
    parse_source,
    parse_sources,
    sources_for,
)
from trio_mcast._base.errors import AddressError

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "multicast_registry.json").read_text(encoding="utf-8")
)["vectors"]

IPV4_GROUPS = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
IPV6_GROUPS = st.builds(
    lambda flags, scope, rest: IPv6Address(0xFF << 120 | flags << 116 | scope << 112 | rest),
    st.integers(0, 15),
    st.integers(1, 15),
    st.integers(0, 2**112 - 1) | st.integers(0, 2**32 - 1),
)
GROUPS = IPV4_GROUPS | IPV6_GROUPS
ZONES = st.text(
    st.characters(codec="utf-8", exclude_characters="%/"), min_size=1, max_size=20
).filter(lambda zone: zone == zone.strip())
SOURCES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(AddressError) as caught:
        call(*arguments)
    return str(caught.value)


# --- groups ------------------------------------------------------------------------------------


@given(GROUPS)
def test_a_group_may_be_text_an_address_or_a_group(address: IPv4Address | IPv6Address) -> None:
    group = parse_group(address)
    assert group == Group(address)
    assert group.version == address.version
    assert parse_group(str(address)) == group
    assert parse_group(address.exploded.upper()) == group
    assert parse_group(group) is group


@given(GROUPS, ZONES)
def test_a_group_with_a_zone_comes_back_from_its_text(
    address: IPv4Address | IPv6Address, zone: str
) -> None:
    group = parse_group(f"{address}%{zone}")
    assert group == Group(address, zone)
    assert str(group) == f"{address}%{zone}"
    assert parse_group(str(group)) == group


def test_the_zone_of_an_address_object_moves_to_the_group() -> None:
    group = parse_group(IPv6Address("ff02::fb%eth0"))
    assert group == Group(IPv6Address("ff02::fb"), "eth0")
    assert isinstance(group.address, IPv6Address)
    assert group.address.scope_id is None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["address"])
def test_of_the_vectors_those_can_be_joined_that_are_multicast_and_not_of_scope_0(
    vector: dict[str, Any],
) -> None:
    expected = vector["expected"]
    can_be_joined = expected["is_multicast"] and expected.get("effective_scope", 0) is not None
    if can_be_joined:
        assert parse_group(vector["address"]).version == expected["version"]
    else:
        assert vector["address"] in refusal(parse_group, vector["address"])


@given(SOURCES)
def test_a_unicast_address_is_no_group(address: IPv4Address | IPv6Address) -> None:
    assume(not is_multicast(address))
    message = refusal(parse_group, address)
    assert str(address) in message
    assert "unicast" in message or "mapped" in message


def test_a_refused_group_is_told_what_would_be_right() -> None:
    assert refusal(parse_group, "192.168.1.1") == (
        "'192.168.1.1' is a unicast address; IPv4 groups are 224.0.0.0/4, IPv6 ff00::/8"
    )
    assert "write it as 239.1.2.3" in refusal(parse_group, "::ffff:239.1.2.3")
    assert "write it as 10.0.0.1" in refusal(parse_group, IPv6Address("::ffff:10.0.0.1"))
    assert "scope 0" in refusal(parse_group, "ff10::1234")
    assert "write it like" in refusal(parse_group, "mdns")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 239.1.2.3",
        "239.1.2.3 ",
        "239.1.2.3\n",
        "ff02::fb ",
        "239.1.2",
        "239.1.2.3.4",
        "239.01.2.3",
        "239.1.2.256",
        "239.1.2.3/32",
        "239.1.2.3:5000",
        "[ff02::fb]",
        "ff02::fb::1",
        "239.1.2.3%",
        "ff02::fb%",
        "ff02::fb% ",
        "ff02::fb%eth0 ",
        "ff02::fb% eth0",
        "ff02::fb%eth0%1",
        "ff02::fb%eth0/64",
        "%eth0",
        "٢٣٩.1.2.3",
    ],
)
def test_text_that_is_no_address_is_refused_as_it_was_written(text: str) -> None:
    assert repr(text) in refusal(parse_group, text)
    assert repr(text) in refusal(parse_source, text)


@given(st.text())
def test_no_text_leads_to_any_other_error(text: str) -> None:
    for parse in (parse_group, parse_source, parse_sources):
        try:
            parse(text)
        except AddressError:
            pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        True,
        b"\xef\x01\x02\x03",
        4010869251,
        ["239.1.2.3"],
        ip_network("239.0.0.0/8"),
        IPv4Interface("239.1.2.3/8"),
    ],
)
def test_what_is_neither_text_nor_address_is_a_type_error(value: Any) -> None:
    for parse in (parse_group, parse_source):
        with pytest.raises(TypeError) as caught:
            parse(value)
        assert repr(value) in str(caught.value)


# --- sources -----------------------------------------------------------------------------------


@given(SOURCES)
def test_a_source_is_any_address_that_a_datagram_can_come_from(
    address: IPv4Address | IPv6Address,
) -> None:
    cannot_send = (
        is_multicast(address)
        or int(address) == 0
        or address == ip_address("255.255.255.255")
        or address in IPv6Network("::ffff:0:0/96")
    )
    if cannot_send:
        assert str(address) in refusal(parse_source, address)
    else:
        assert parse_source(address) == parse_source(str(address)) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("239.1.2.3", "multicast group"),
        ("ff02::1", "multicast group"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:10.0.0.1", "write it as 10.0.0.1"),
        ("::ffff:239.1.2.3", "write it as 239.1.2.3"),
    ],
)
def test_a_refused_source_is_told_why(text: str, reason: str) -> None:
    message = refusal(parse_source, text)
    assert repr(text) in message
    assert reason in message


@pytest.mark.parametrize("value", ["fe80::1%eth0", IPv6Address("fe80::1%eth0")])
def test_a_source_keeps_its_zone(value: str | IPv6Address) -> None:
    assert parse_source(value) == IPv6Address("fe80::1%eth0")


def test_an_ipv4_source_has_no_zone() -> None:
    with pytest.raises(AddressError, match="has a zone, which is for IPv6"):
        parse_source("10.0.0.1%eth0")


def test_sources_are_one_or_several_each_once_in_their_order() -> None:
    one, two, three = map(ip_address, ("10.0.0.2", "10.0.0.1", "fe80::1"))
    assert parse_sources("10.0.0.2") == (one,)
    assert parse_sources(one) == (one,)
    assert parse_sources(["10.0.0.2", two, "10.0.0.2", "fe80::1", three]) == (one, two, three)
    assert parse_sources(address for address in (three, one)) == (three, one)
    assert parse_sources({"10.0.0.2": "a"}) == (one,)
    assert parse_sources(()) == ()


@pytest.mark.parametrize("value", [None, 5, b"\x0a\x00\x00\x01", ip_network("10.0.0.0/30"), [1]])
def test_sources_of_a_wrong_type_are_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        parse_sources(value)


# --- which sources a group has -----------------------------------------------------------------

IPV4_SOURCES = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
IPV6_SOURCES = (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"))


@given(GROUPS)
def test_a_group_has_the_sources_of_its_own_version(address: IPv4Address | IPv6Address) -> None:
    own, others = (IPV4_SOURCES, IPV6_SOURCES)[:: 1 if address.version == 4 else -1]
    group = Group(address)
    assert sources_for(group, [others[0], own[1], others[1], own[0]]) == (own[1], own[0])
    message = refusal(sources_for, group, others)
    assert f"{group} would be left without a source" in message
    assert str(others[0]) in message


@given(GROUPS)
def test_a_group_goes_without_sources_unless_it_is_source_specific(
    address: IPv4Address | IPv6Address,
) -> None:
    group = Group(address, "eth0")
    if is_ssm(address):
        message = refusal(sources_for, group, ())
        assert str(group) in message
        assert "sources=" in message
    else:
        assert sources_for(group, ()) == ()


@given(GROUPS)
def test_what_is_source_specific_is_what_a_classification_says(
    address: IPv4Address | IPv6Address,
) -> None:
    assert is_ssm(address) is classify(address).is_ssm


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["expected"].get("is_ssm")],
                         ids=lambda vector: vector["address"])  # fmt: skip
def test_the_source_specific_vectors_need_a_source(vector: dict[str, Any]) -> None:
    group = parse_group(vector["address"])
    assert "source-specific" in refusal(sources_for, group, ())
    source = (IPV4_SOURCES if group.version == 4 else IPV6_SOURCES)[:1]
    assert sources_for(group, source) == source


@given(SOURCES)
def test_no_unicast_address_is_source_specific(address: IPv4Address | IPv6Address) -> None:
    assume(not is_multicast(address))
    assert not is_ssm(address)


# --- sending -----------------------------------------------------------------------------------


@given(GROUPS)
def test_every_group_can_be_sent_to_but_those_of_the_reserved_scope(
    address: IPv4Address | IPv6Address,
) -> None:
    if address.version == 6 and address.exploded[3] == "f":
        message = refusal(check_sendable, address)
        assert str(address) in message
        assert "scope F" in message
    else:
        check_sendable(address)


@given(st.integers(0, 2**112 - 1))
def test_what_must_not_be_originated_cannot_be_sent_to(rest: int) -> None:
    address = IPv6Address(0xFF10 << 112 | rest)
    assert classify(address).originate_allowed is False
    assert "scope 0" in refusal(check_sendable, address)


# --- ports -------------------------------------------------------------------------------------


@given(st.integers(1, 65535))
def test_a_port_is_1_to_65535(port: int) -> None:
    assert parse_port(port) == port


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_outside_is_refused_by_its_number(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} is outside 1 to 65535"):
        parse_port(port)


def test_port_0_is_for_where_the_system_chooses() -> None:
    assert parse_port(0, zero_allowed=True) == 0
    with pytest.raises(ValueError, match="outside 0 to 65535"):
        parse_port(-1, zero_allowed=True)


@pytest.mark.parametrize("port", ["5000", 5000.0, True, None, b"5"])
def test_a_port_is_an_integer(port: Any) -> None:
    with pytest.raises(TypeError, match="is not a port"):
        parse_port(port)
