"""The list of interfaces is what the system says, from whichever pieces it is put together."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from types import SimpleNamespace
from typing import Any

import ifaddr
import pytest

from trio_mcast import default_interface, list_interfaces
from trio_mcast._machine import listing
from trio_mcast._machine.link_state import LinkState

ETH0 = LinkState(2, "eth0", True, False, True, 1500)
WIFI = LinkState(7, "{0A1B}", False, False, False, 1400, True, "Wi-Fi")


def ip(address: str | tuple[str, int, int], prefix: int) -> SimpleNamespace:
    return SimpleNamespace(ip=address, network_prefix=prefix, is_IPv4=isinstance(address, str))


def adapter(index: int | None, *ips: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(index=index, ips=list(ips))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(links: list[LinkState], adapters: list[Any]) -> None:
        monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)
        both = (links, listing.list_addresses())
        monkeypatch.setattr(listing, "list_links_and_addresses", lambda: both)

    return install


def test_links_and_addresses_are_put_together_by_index(system: Any) -> None:
    system(
        [WIFI, ETH0],
        [
            adapter(2, ip("192.0.2.1", 24), ip(("2001:db8::1", 0, 0), 64)),
            adapter(2, ip("192.0.2.2", 25)),  # as Linux lists an alias label
            adapter(7, ip(("fe80::1%7", 0, 7), 64)),
        ],
    )
    eth0, wifi = list_interfaces()
    assert (eth0.name, eth0.index, eth0.friendly_name) == ("eth0", 2, "eth0")
    assert eth0.addresses == tuple(
        map(ip_interface, ["192.0.2.1/24", "2001:db8::1/64", "192.0.2.2/25"])
    )
    assert (eth0.is_up, eth0.is_loopback, eth0.supports_multicast) == (True, False, True)
    assert (eth0.mtu, eth0.has_ipv6) == (1500, True)
    assert (wifi.name, wifi.friendly_name, wifi.mtu) == ("{0A1B}", "Wi-Fi", 1400)
    assert wifi.addresses == (ip_interface("fe80::1/64"),)
    assert (wifi.is_up, wifi.supports_multicast) == (False, False)


def test_an_interface_without_addresses_is_listed_and_addresses_without_one_are_not(
    system: Any,
) -> None:
    system([ETH0], [adapter(9, ip("192.0.2.1", 24)), adapter(None, ip("192.0.2.2", 24))])
    (only,) = list_interfaces()
    assert only.addresses == ()
    assert only.has_ipv6 is False


def test_without_interfaces_the_list_is_empty(system: Any) -> None:
    system([], [])
    assert list_interfaces() == ()
    assert default_interface() is None


def test_the_default_interface_is_the_one_that_the_route_names(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system([ETH0, WIFI], [])
    asked: list[IPv4Address | IPv6Address] = []

    def find(destination: IPv4Address | IPv6Address, _listing: Any) -> int | None:
        asked.append(destination)
        return {4: 7, 6: None}[destination.version]

    monkeypatch.setattr(listing, "_find_outgoing_interface", find)
    assert getattr(default_interface(4), "name", None) == "{0A1B}"
    assert default_interface(6) is None
    assert [address.version for address in asked] == [4, 6]
    assert all(address.is_global for address in asked), "only a default route leads there"


def test_a_default_route_by_an_interface_that_has_just_gone_is_none(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system([ETH0], [])
    monkeypatch.setattr(listing, "_find_outgoing_interface", lambda *_: 99)
    assert default_interface() is None


@pytest.mark.parametrize("version", [0, 5, "4", None])
def test_another_ip_version_is_refused(version: Any) -> None:
    with pytest.raises(ValueError, match="neither 4 nor 6"):
        default_interface(version)


# --- This machine ------------------------------------------------------------------------------


def test_every_interface_of_this_machine_is_listed_once_in_order() -> None:
    listing = list_interfaces()
    indexes = [interface.index for interface in listing]
    assert indexes == sorted(set(indexes))
    if sys.platform != "win32":
        named = {(interface.index, interface.name) for interface in listing}
        assert named == set(socket.if_nameindex())


def test_this_machine_has_a_loopback_interface() -> None:
    loopbacks = [interface for interface in list_interfaces() if interface.is_loopback]
    assert loopbacks
    assert any(a.ip == ip_address("127.0.0.1") for i in loopbacks for a in i.addresses)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("ip"), reason="needs Linux' `ip`")
def test_addresses_are_what_ip_shows() -> None:
    answer = subprocess.run(["ip", "-json", "address"], check=True, capture_output=True, text=True)
    theirs = {
        link["ifindex"]: {
            ip_interface(f"{address['local']}/{address['prefixlen']}")
            for address in link["addr_info"]
            if "local" in address
        }
        for link in json.loads(answer.stdout)
        if link
    }
    ours = {interface.index: set(interface.addresses) for interface in list_interfaces()}
    assert ours == theirs
