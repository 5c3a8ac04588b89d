"""list_interfaces and default_interface, compared with what `ip` says."""

import json
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

import pytest
from namespaces.network import Host, Network

import trio_mcast


def what_ip_says(host: Host) -> dict[str, dict[str, Any]]:
    """`ip -json addr show`, by name."""
    return {entry["ifname"]: entry for entry in json.loads(host.ip("-json addr show"))}


def by_name(host: Host) -> dict[str, trio_mcast.Interface]:
    return {interface.name: interface for interface in host.call(trio_mcast.list_interfaces)}


def varied_host(network: Network) -> Host:
    """Up and down, with and without carrier, with one family, several addresses, a small MTU."""
    host = network.host("varied")
    network.link(host, "eth0", network.host("1"), "eth0")
    off, _ = network.link(host, "off", network.host("2"), "eth0")
    off.down()
    unplugged, _ = network.link(host, "unplugged", network.host("3"), "eth0")
    unplugged.unplug()
    only4, _ = network.link(host, "only4", network.host("4"), "eth0", ipv6=False)
    only4.add_address("10.99.0.1/30")
    only4.add_address("10.99.0.2/32")
    only6, _ = network.link(host, "only6", network.host("5"), "eth0", ipv4=False, mtu=9000)
    only6.add_address("fd99::1/128")
    only6.set("multicast off")
    host.ip(
        "link add bridge0 type bridge", "link set bridge0 up", "addr add 10.98.0.1/8 dev bridge0"
    )
    return host


def test_interfaces_are_listed_as_ip_lists_them(network: Network) -> None:
    host = varied_host(network)
    expected = what_ip_says(host)
    found = by_name(host)
    assert found.keys() == expected.keys()
    assert len(found) == 7
    for name, interface in found.items():
        said = expected[name]
        assert isinstance(interface, trio_mcast.Interface)
        assert interface.index == said["ifindex"]
        assert interface.friendly_name == name
        assert interface.mtu == said["mtu"]
        assert interface.is_up == ("UP" in said["flags"])
        assert interface.is_loopback == ("LOOPBACK" in said["flags"])
        assert interface.supports_multicast == ("MULTICAST" in said["flags"])
        assert isinstance(interface.addresses, tuple)
        assert {without_zone(a) for a in interface.addresses} == {
            ip_interface(f"{a['local']}/{a['prefixlen']}") for a in said["addr_info"]
        }
        assert all(isinstance(a, IPv4Interface | IPv6Interface) for a in interface.addresses)


def without_zone(address: IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
    host, _, prefix = address.with_prefixlen.rpartition("/")
    return ip_interface(f"{host.partition('%')[0]}/{prefix}")


def test_the_listing_is_that_of_the_moment(network: Network) -> None:
    here, _there = network.pair()
    before = by_name(here.host)["eth0"]
    here.add_address("10.77.1.99/24")
    after = by_name(here.host)["eth0"]
    assert len(after.addresses) == len(before.addresses) + 1
    here.down()
    assert not by_name(here.host)["eth0"].is_up
    here.set("name wan")
    assert by_name(here.host).keys() == {"lo", "wan"}
    here.host.ip("link delete wan")
    assert by_name(here.host).keys() == {"lo"}


def test_interfaces_are_values(network: Network) -> None:
    here, _there = network.pair()
    one, two = by_name(here.host)["eth0"], by_name(here.host)["eth0"]
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(AttributeError):
        one.name = "other"


def test_an_interface_without_carrier_is_up_nevertheless(network: Network) -> None:
    here, _there = network.pair()
    here.unplug()
    assert by_name(here.host)["eth0"].is_up


def test_a_lonely_host_has_the_loopback_interface(network: Network) -> None:
    (lo,) = network.host().call(trio_mcast.list_interfaces)
    assert (lo.name, lo.index, lo.is_loopback, lo.is_up) == ("lo", 1, True, True)
    assert {str(a.ip) for a in lo.addresses} == {"127.0.0.1", "::1"}


def test_hundreds_of_addresses_are_listed(network: Network) -> None:
    here, _there = network.pair()
    here.host.ip(*(f"addr add 10.50.{n // 200}.{n % 200 + 1}/16 dev eth0" for n in range(400)))
    addresses = by_name(here.host)["eth0"].addresses
    assert len([a for a in addresses if a.version == 4]) == 401


# --- default_interface ----------------------------------------------------------------------------


def default_name(host: Host, *version: int) -> str | None:
    interface = host.call(trio_mcast.default_interface, *version)
    assert interface is None or isinstance(interface, trio_mcast.Interface)
    return interface and interface.name


def two_links(network: Network) -> tuple[Host, Callable[[int, str], str]]:
    """A host with eth0 and eth1, and the address of the neighbour behind each."""
    host = network.host("host")
    peers = [
        network.link(host, f"eth{number}", network.host(f"peer{number}"), "eth0")[1]
        for number in (0, 1)
    ]

    def neighbour(version: int, name: str) -> str:
        peer = peers[int(name[-1])]
        return peer.ipv4 if version == 4 else peer.ipv6

    return host, neighbour


@pytest.mark.parametrize("version", [4, 6])
def test_without_a_default_route_there_is_no_default_interface(
    network: Network, version: int
) -> None:
    host, _neighbour = two_links(network)
    assert default_name(host, version) is None
    assert default_name(network.host("lonely"), version) is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", ["eth0", "eth1"])
def test_the_default_interface_is_that_of_the_default_route(
    network: Network, version: int, name: str
) -> None:
    host, neighbour = two_links(network)
    host.ip(f"-{version} route add default via {neighbour(version, name)}")
    assert default_name(host, version) == name
    assert default_name(host, 10 - version) is None


@pytest.mark.parametrize("version", [4, 6])
def test_of_several_default_routes_that_with_the_lowest_metric_counts(
    network: Network, version: int
) -> None:
    host, neighbour = two_links(network)
    host.ip(f"-{version} route add default via {neighbour(version, 'eth0')} metric 500")
    host.ip(f"-{version} route add default via {neighbour(version, 'eth1')} metric 100")
    assert default_name(host, version) == "eth1"
    host.ip(f"-{version} route del default via {neighbour(version, 'eth1')} metric 100")
    assert default_name(host, version) == "eth0"


@pytest.mark.parametrize("version", [4, 6])
def test_a_default_route_without_gateway_counts_too(network: Network, version: int) -> None:
    host, _neighbour = two_links(network)
    host.ip(f"-{version} route add default dev eth1")
    assert default_name(host, version) == "eth1"


@pytest.mark.parametrize("version", [4, 6])
def test_unreachable_default_routes_do_not_count(network: Network, version: int) -> None:
    host, neighbour = two_links(network)
    host.ip(f"-{version} route add unreachable default metric 4000000000")
    assert default_name(host, version) is None
    host.ip(f"-{version} route add default via {neighbour(version, 'eth0')} metric 100")
    assert default_name(host, version) == "eth0"


def test_ipv4_is_asked_for_unless_told_otherwise(network: Network) -> None:
    host, neighbour = two_links(network)
    host.ip(f"-4 route add default via {neighbour(4, 'eth1')}")
    assert default_name(host) == "eth1"


def test_the_default_interface_is_one_of_the_listed(network: Network) -> None:
    host, neighbour = two_links(network)
    host.ip(f"-4 route add default via {neighbour(4, 'eth1')}")
    assert host.call(trio_mcast.default_interface) in host.call(trio_mcast.list_interfaces)


@pytest.mark.parametrize(
    ("wrong", "error"), [(5, ValueError), (0, ValueError), ("4", (TypeError, ValueError))]
)
def test_there_are_two_versions_only(wrong: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        trio_mcast.default_interface(wrong)
