"""What a caller writes for some interfaces, and which of a listing it means."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from trio_mcast._base.errors import InterfaceNotFoundError
from trio_mcast._base.interface import Interface
from trio_mcast._interfaces.selection import (
    ByAddress,
    ByIndex,
    ByName,
    ByNetwork,
    Selection,
    Selector,
)


def interface(name: str, index: int, *addresses: str, **others: Any) -> Interface:
    fields = {
        "friendly_name": name,
        "is_up": True,
        "is_loopback": False,
        "supports_multicast": True,
        "mtu": 1500,
    }
    return Interface(
        name=name, index=index, addresses=tuple(map(ip_interface, addresses)), **fields | others
    )


LO = interface("lo", 1, "127.0.0.1/8", "::1/128", is_loopback=True, supports_multicast=False)
ETH0 = interface("eth0", 2, "192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64", "fe80::1/64")
ETH1 = interface("eth1", 3, "198.51.100.1/24", "fe80::1/64")
WIFI = interface("{0A1B}", 7, "192.0.2.10/25", friendly_name="Wi-Fi 2")
TUN = interface("tun0", 12, has_ipv6=True)
ISP = interface("10", 20)  # a name that looks like an index
LISTING = (LO, ETH0, ETH1, WIFI, TUN, ISP)


def names(found: tuple[Interface, ...]) -> list[str]:
    return [interface.name for interface in found]


# --- Parsing and finding, by a table -----------------------------------------------------------

MEANT: list[tuple[Any, Selector, list[str]]] = [
    ("eth0", ByName("eth0"), ["eth0"]),
    ("Wi-Fi 2", ByName("Wi-Fi 2"), ["{0A1B}"]),
    ("{0A1B}", ByName("{0A1B}"), ["{0A1B}"]),
    ("ETH0", ByName("ETH0"), []),
    (3, ByIndex(3), ["eth1"]),
    ("3", ByName("3"), ["eth1"]),
    ("10", ByName("10"), ["10"]),  # a name goes before an index
    (10, ByIndex(10), []),
    ("eth", ByName("eth"), []),
    ("²", ByName("²"), []),
    ("192.0.2.10", ByAddress(ip_address("192.0.2.10")), ["eth0", "{0A1B}"]),
    ("192.0.2.11", ByAddress(ip_address("192.0.2.11")), ["eth0"]),
    (ip_address("2001:db8::10"), ByAddress(ip_address("2001:db8::10")), ["eth0"]),
    ("2001:DB8:0::10", ByAddress(ip_address("2001:db8::10")), ["eth0"]),
    ("fe80::1", ByAddress(ip_address("fe80::1")), ["eth0", "eth1"]),
    ("fe80::1%eth1", ByAddress(ip_address("fe80::1%eth1")), ["eth1"]),
    ("fe80::1%2", ByAddress(ip_address("fe80::1%2")), ["eth0"]),
    ("fe80::1%tun0", ByAddress(ip_address("fe80::1%tun0")), []),
    ("192.0.2.0", ByAddress(ip_address("192.0.2.0")), []),
    ("192.0.2.0/24", ByNetwork(IPv4Network("192.0.2.0/24")), ["eth0", "{0A1B}"]),
    ("192.0.2.99/24", ByNetwork(IPv4Network("192.0.2.0/24")), ["eth0", "{0A1B}"]),
    ("192.0.2.11/32", ByNetwork(IPv4Network("192.0.2.11/32")), ["eth0"]),
    (ip_network("::/0"), ByNetwork(IPv6Network("::/0")), ["lo", "eth0", "eth1"]),
    ("0.0.0.0/0", ByNetwork(IPv4Network("0.0.0.0/0")), ["lo", "eth0", "eth1", "{0A1B}"]),
    ("eth0/1", ByName("eth0/1"), []),
    (ETH1, ByName("eth1"), ["eth1"]),
]


@pytest.mark.parametrize(("given", "selector", "meant"), MEANT, ids=[str(row[0]) for row in MEANT])
def test_a_selector_is_parsed_and_means_what_the_table_says(
    given: Any, selector: Selector, meant: list[str]
) -> None:
    assert Selection.parse_one(given) == Selection.parse(given) == Selection((selector,))
    assert names(Selection((selector,)).find(LISTING)) == meant


@pytest.mark.parametrize("value", ["", " ", 0, -1])
def test_what_can_name_no_interface_is_a_value_error(value: Any) -> None:
    for parse in (Selection.parse_one, Selection.parse):
        with pytest.raises(ValueError, match=repr(value)):
            parse(value)


@pytest.mark.parametrize("value", [None, True, 1.0, b"eth0", bytearray(b"x"), ["eth0"], object()])
def test_what_is_no_name_at_all_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot name an interface"):
        Selection.parse_one(value)


def test_several_selectors_are_kept_in_order_and_once_each() -> None:
    parsed = Selection.parse(["eth1", 2, "eth1", ETH1])
    assert parsed == Selection((ByName("eth1"), ByIndex(2)))
    assert Selection.parse(iter(["eth1"])) == Selection((ByName("eth1"),))


@pytest.mark.parametrize("everything", [None, "all"])
def test_no_selection_is_every_fitting_interface_but_an_empty_one_is_a_mistake(
    everything: Any,
) -> None:
    assert Selection.parse(everything) == Selection()
    assert not Selection.parse(everything).is_named
    for empty in ([], (), {}, iter([])):
        with pytest.raises(ValueError, match="selects nothing"):
            Selection.parse(empty)


@pytest.mark.parametrize("value", [b"eth0", ["eth0", None], 1.5])
def test_a_selection_with_something_else_in_it_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        Selection.parse(value)


# --- Requiring and selecting -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("eth9", "named 'eth9'"),
        (9, "with index 9"),
        ("192.0.2.99", "with address 192.0.2.99"),
        ("203.0.113.0/24", "with an address in 203.0.113.0/24"),
    ],
)
def test_an_interface_that_does_not_exist_is_an_error_that_says_what_there_is(
    wanted: Any, shown: str
) -> None:
    selection = Selection.parse(["eth0", wanted])
    with pytest.raises(InterfaceNotFoundError) as caught:
        selection.require(LISTING)
    assert f"no interface {shown}; there are: lo (1), eth0 (2)" in str(caught.value)
    with pytest.raises(InterfaceNotFoundError, match="there are: none"):
        selection.require(())


def test_without_a_selection_every_fitting_interface_is_used() -> None:
    down = interface("down", 30, "192.0.2.30/24", is_up=False)
    listing = (*LISTING, down)
    assert names(Selection().find(listing, 4)) == ["eth0", "eth1", "{0A1B}"]
    assert names(Selection().find(listing, 6)) == ["eth0", "eth1", "tun0"]
    assert names(Selection().require(listing, 6)) == ["eth0", "eth1", "tun0"]
    assert Selection().require((), 4) == (), "there may be one later"


def test_named_interfaces_are_taken_as_they_are_and_in_the_order_of_the_listing() -> None:
    selection = Selection.parse(["tun0", "lo", "192.0.2.0/24", "eth0"])
    assert names(selection.find(LISTING, 4)) == ["lo", "eth0", "{0A1B}", "tun0"]


def test_selecting_what_is_not_there_selects_nothing() -> None:
    assert Selection.parse("eth9").find(LISTING, 4) == ()


ZONES: list[tuple[Any, str, list[str]]] = [
    (None, "eth0", ["eth0"]),
    (None, "3", ["eth1"]),
    (None, "10", ["10"]),
    (None, "lo", ["lo"]),  # named, so taken as it is
    ("all", "lo", ["lo"]),
    ("fe80::1", "eth1", ["eth1"]),
    ("192.0.2.0/24", "7", ["{0A1B}"]),
    (["eth0", 3], "3", ["eth1"]),
    ("eth0", "eth1", []),
    ("eth0", "eth9", []),
]


@pytest.mark.parametrize(("given", "zone", "meant"), ZONES)
def test_a_zone_restricts_a_selection(given: Any, zone: str, meant: list[str]) -> None:
    selection = Selection.parse(given).in_zone(zone)
    assert selection.is_named
    assert names(selection.find(LISTING, 4)) == meant
    for each in LISTING:
        assert selection.covers(each) == (each.name in meant)
    if meant:
        assert names(selection.require(LISTING, 4)) == meant
    else:
        with pytest.raises(InterfaceNotFoundError):
            selection.require(LISTING, 4)


def test_what_was_left_by_zone_and_selection_is_what_both_mean() -> None:
    left = Selection().leaving(Selection.parse(["eth0", "eth1"]).in_zone("eth0"))
    assert names(left.find(LISTING, 4)) == ["eth1", "{0A1B}"]


def test_what_was_left_is_covered_no_longer() -> None:
    selection = Selection.parse(["eth0", "192.0.2.0/24", "tun0"])
    without = selection.leaving(Selection.parse(2)).leaving(Selection.parse(None).in_zone("12"))
    assert names(without.find(LISTING)) == ["{0A1B}"]
    assert names(Selection().leaving(Selection.parse("eth1")).find(LISTING, 4)) == [
        "eth0",
        "{0A1B}",
    ]


def test_the_name_of_an_interface_is_no_index() -> None:
    called_2, other = interface("2", 99, "192.0.2.1/24"), interface("eth0", 2, "192.0.2.2/24")
    assert Selection.parse(called_2).find([called_2, other]) == (called_2,)
    assert Selection.parse(called_2).find([other]) == ()
    assert Selection.parse("2").find([called_2, other]) == (called_2,)
    assert Selection.parse("2").find([other]) == (other,)
    with pytest.raises(InterfaceNotFoundError, match="zone"):
        Selection.parse("2").in_zone("eth0").require([called_2, other])


# --- An interface that has come back -------------------------------------------------------------

AGAIN = replace(ETH1, index=33)
STRANGER = interface("tun9", 3, "203.0.113.1/24")
RENAMED = replace(ETH1, name="lan1", friendly_name="lan1", index=33)

STILL_MEANT: list[tuple[Any, str | None, list[Interface]]] = [
    ("eth1", None, [ETH1, AGAIN]),
    (ETH1, None, [ETH1, AGAIN]),
    (3, None, [ETH1, STRANGER]),
    ("3", None, [ETH1, STRANGER]),
    (None, "eth1", [ETH1, AGAIN]),
    (None, "3", [ETH1, STRANGER]),
    ("198.51.100.1", None, [ETH1, AGAIN, RENAMED]),
    ("198.51.100.0/24", None, [ETH1, AGAIN, RENAMED]),
    ("198.51.100.0/24", "eth1", [ETH1, AGAIN]),
    ("198.51.100.0/24", "3", [ETH1]),
    (["tun9", "eth1"], None, [ETH1, AGAIN]),
]


@pytest.mark.parametrize(("given", "zone", "meant"), STILL_MEANT)
def test_what_was_meant_before_is_meant_again_for_the_same_reason(
    given: Any, zone: str | None, meant: list[Interface]
) -> None:
    selection = Selection.parse(given).in_zone(zone)
    reason = selection.reason_for(ETH1)
    assert reason is not None
    assert [i for i in (ETH1, AGAIN, STRANGER, RENAMED) if reason.covers(i)] == meant


def test_what_was_not_named_was_meant_for_no_reason_of_its_own() -> None:
    assert Selection().reason_for(ETH1) is None


@pytest.mark.parametrize(("has_ipv6", "told"), [(None, True), (False, False), (True, True)])
def test_ipv6_is_told_from_the_addresses_unless_the_system_tells(
    has_ipv6: bool | None, told: bool
) -> None:
    assert interface("a", 1, "fe80::1/64", has_ipv6=has_ipv6).carries(6) is told


@pytest.mark.parametrize("known", LISTING, ids=str)
def test_an_interface_is_a_value(known: Interface) -> None:
    assert str(known) == known.name
    assert {known: 1}[known] == 1
    with pytest.raises(FrozenInstanceError):
        known.mtu = 1  # type: ignore[misc]


# --- Laws --------------------------------------------------------------------------------------

addresses = st.sampled_from(
    ["192.0.2.1/24", "192.0.2.2/24", "198.51.100.1/24", "2001:db8::1/64", "fe80::1/64"]
)
interfaces = st.builds(
    lambda name, index, addresses, flags: interface(
        name,
        index,
        *addresses,
        is_up=flags[0],
        is_loopback=flags[1],
        supports_multicast=flags[2],
        has_ipv6=flags[3],
    ),
    st.sampled_from(["eth0", "eth1", "wlan0", "2", "3"]),
    st.integers(1, 5),
    st.lists(addresses, unique=True),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, True, False])),
)
listings = st.lists(
    interfaces, unique_by=(lambda found: found.index, lambda found: found.name)
).map(tuple)
selectors = st.sampled_from(
    ["eth0", "wlan0", "2", 2, 4, "192.0.2.1", "fe80::1", "fe80::1%eth1", "192.0.2.0/24", "::/0"]
)
versions = st.sampled_from([4, 6])


@given(selectors, listings)
def test_finding_takes_from_the_listing_in_its_order(
    selector: Any, listing: tuple[Interface, ...]
) -> None:
    selection = Selection.parse(selector)
    found = selection.find(listing)
    assert found == tuple(i for i in listing if i in found)
    assert selection.find(found) == found


@given(selectors, listings)
def test_requiring_is_finding_or_an_error(selector: Any, listing: tuple[Interface, ...]) -> None:
    selection = Selection.parse(selector)
    if found := selection.find(listing):
        assert selection.require(listing) == found
    else:
        with pytest.raises(InterfaceNotFoundError):
            selection.require(listing)


@given(st.lists(selectors, min_size=1).map(tuple), versions, listings)
def test_selecting_is_the_union_of_finding(
    chosen: tuple[Any, ...], version: Any, listing: tuple[Interface, ...]
) -> None:
    union = {i for selector in chosen for i in Selection.parse(selector).find(listing)}
    found = Selection.parse(chosen).find(listing, version)
    assert set(found) == union
    assert len(found) == len(union)


@given(selectors, listings)
def test_what_was_found_is_still_meant_as_long_as_it_is_called_the_same(
    selector: Any, listing: tuple[Interface, ...]
) -> None:
    selection = Selection.parse(selector)
    for found in selection.find(listing):
        reason = selection.reason_for(found)
        assert reason is not None
        assert reason.covers(replace(found, mtu=9000))


@given(versions, listings)
def test_without_a_selection_only_what_can_hear_the_version_is_used(
    version: Any, listing: tuple[Interface, ...]
) -> None:
    chosen = Selection().find(listing, version)
    for each in listing:
        fits = (
            each.is_up
            and each.supports_multicast
            and not each.is_loopback
            and each.carries(version)
        )
        assert (each in chosen) == fits


@given(listings, st.data())
def test_every_interface_is_found_by_each_of_its_properties(
    listing: tuple[Interface, ...], data: st.DataObject
) -> None:
    assume(listing)
    wanted = data.draw(st.sampled_from(listing))
    ways: list[Any] = [wanted, wanted.name, wanted.index]
    ways += [address.ip for address in wanted.addresses]
    ways += [address.network for address in wanted.addresses]
    ways += [f"{a.ip}%{wanted.name}" for a in wanted.addresses if a.version == 6]
    for way in ways:
        assert wanted in Selection.parse(way).find(listing)


@given(st.text())
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    try:
        selection = Selection.parse_one(text)
    except ValueError:
        assert not text.strip()
    else:
        selection.find(LISTING)
        assert str(selection.named[0])
