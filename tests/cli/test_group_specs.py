"""Groups as people type them: the sources before, the interface behind."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from trio_mcast import AddressError
from trio_mcast._cli.groups import parse_group_spec
from trio_mcast.lowlevel import Group, parse_group

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


def is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(AddressError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "group", "sources"),
    [
        ("239.1.2.3", "239.1.2.3", []),
        ("239.1.2.3%eth0", "239.1.2.3%eth0", []),
        ("10.0.0.1@232.1.2.3", "232.1.2.3", ["10.0.0.1"]),
        ("10.0.0.1,10.0.0.2@232.1.2.3%eth0", "232.1.2.3%eth0", ["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.1,10.0.0.1@232.1.2.3", "232.1.2.3", ["10.0.0.1"]),
        ("fe80::1%eth0@ff32::8000:1%eth0", "ff32::8000:1%eth0", ["fe80::1%eth0"]),
        ("239.1.2.3%a@b", "239.1.2.3%a@b", []),
        ("10.0.0.1@232.1.2.3%a@b", "232.1.2.3%a@b", ["10.0.0.1"]),
        ("fe80::1%a@b,fe80::2@ff32::8000:1%a@b", "ff32::8000:1%a@b", ["fe80::1%a@b", "fe80::2"]),
        ("232.1.2.3", "232.1.2.3", []),  # the sources may be said elsewhere
    ],
)
def test_a_group_is_typed_with_its_sources_before_and_its_interface_behind(
    text: str, group: str, sources: list[str]
) -> None:
    assert parse_group_spec(text) == (parse_group(group), tuple(sources))


@given(GROUPS, st.lists(SOURCES, max_size=3, unique=True), ZONES)
def test_a_typed_group_comes_back_from_its_parts(
    address: IPv4Address | IPv6Address, sources: list[IPv4Address | IPv6Address], zone: str
) -> None:
    assume("@" not in zone or not any(map(is_address, zone.split("@"))))
    sources = [s for s in sources if s.version == address.version and not s.is_multicast]
    assume(all(int(s) and s not in IPv6Network("::ffff:0:0/96") for s in sources))
    assume(ip_address("255.255.255.255") not in sources)
    before = ",".join(map(str, sources)) + "@" if sources else ""
    assert parse_group_spec(f"{before}{address}%{zone}") == (
        Group(address, zone),
        tuple(map(str, sources)),
    )


@pytest.mark.parametrize(
    "text",
    ["@232.1.2.3", "10.0.0.1@", "10.0.0.1,@232.1.2.3", "fe80::1@232.1.2.3", "10.0.0.1@10.0.0.2"],
)
def test_a_typed_group_with_a_part_that_cannot_be_meant_is_refused(text: str) -> None:
    refusal(parse_group_spec, text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("239.1.2.3:5000", "write 239.1.2.3 and --port 5000"),
        ("239.1.2.3:5000%eth0", "write 239.1.2.3%eth0 and --port 5000"),
        ("10.0.0.1@239.1.2.3:5000", "write 10.0.0.1@239.1.2.3 and --port 5000"),
        ("udp://239.1.2.3:5000", "write 239.1.2.3 and --port 5000"),
        ("udp://@239.1.2.3:5000", "write 239.1.2.3 and --port 5000"),
        ("rtp://10.0.0.1@239.1.2.3:5000", "write 10.0.0.1@239.1.2.3 and --port 5000"),
        ("[ff15::1]:5000", "write ff15::1 and --port 5000"),
        ("[ff15::1]:5000%eth0", "write ff15::1%eth0 and --port 5000"),
        ("[ff15::1%eth0]:5000", "write ff15::1%eth0 and --port 5000"),
        ("[ff15::1]", "write ff15::1"),
    ],
)
def test_how_other_programs_write_a_group_is_rewritten(text: str, remedy: str) -> None:
    assert refusal(parse_group_spec, text).endswith(f": {remedy}")


def test_a_source_of_the_other_version_is_named() -> None:
    message = refusal(parse_group_spec, "10.0.0.1,fe80::1@232.1.2.3")
    assert "fe80::1 cannot send to 232.1.2.3" in message


@given(st.text())
def test_no_text_leads_to_any_other_error(text: str) -> None:
    try:
        parse_group_spec(text)
    except AddressError:
        pass
