"""`trio-mcast demo` works anywhere."""

import json
import socket
from typing import Any

import pytest
from cli.program import cli
from namespaces.network import Card, Host, Network

ETH_P_ALL = 3  # linux/if_ether.h
WORDS = ["one", "two", "three"]


def show(host: Host | None) -> dict[int, dict[str, Any]]:
    done = cli("demo", "--json", host=host)
    assert (done.code, done.err) == (0, "")
    runs = {run["version"]: run for run in map(json.loads, done.lines)}
    assert list(runs) == [4, 6]
    for run in runs.values():
        assert run["works"] == (run["error"] is None)
        if run["works"]:
            assert [heard["text"] for heard in run["received"]] == WORDS
    return runs


def test_it_works_on_this_machine_as_it_is() -> None:
    done = cli("demo")
    assert done.code == 0
    for word in WORDS:
        assert f"sent {word!r}, received {word!r} from 127.0.0.1:" in done.out
    assert "trio-mcast listen" in done.out


def test_it_works_where_loopback_is_the_only_interface(network: Network) -> None:
    runs = show(network.host())
    assert (runs[4]["works"], runs[4]["interface"]) == (True, "lo")
    assert not runs[6]["works"]
    assert "unreachable" in runs[6]["error"]


def test_it_shows_ipv6_on_loopback_where_a_route_allows_it(network: Network) -> None:
    lonely = network.host()
    lonely.let_ipv6_multicast_use_lo()
    runs = show(lonely)
    assert (runs[6]["works"], runs[6]["interface"]) == (True, "lo")


def test_it_says_so_where_ipv6_is_off(network: Network) -> None:
    lonely = network.host()
    lonely.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    runs = show(lonely)
    assert runs[4]["works"]
    assert runs[6]["error"] == "no interface that is up has IPv6"
    done = cli("demo", host=lonely)
    assert done.code == 0
    assert "IPv6 does not work here" in done.out
    assert "--interface lo" in done.out


def test_nothing_leaves_the_host(here: Card, there: Card) -> None:
    family = socket.AF_PACKET
    with there.host.call(socket.socket, family, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as wire:
        runs = show(here.host)
        assert runs[6]["interface"] == "eth0"
        group = socket.inet_pton(socket.AF_INET6, runs[6]["group"])
        # What is sent on purpose arrives after anything that the demonstration had let out.
        here.talker("233.252.0.1", 5000).send(b"the last")
        wire.settimeout(5)
        packet = b""
        while not packet.endswith(b"the last"):
            packet = wire.recv(2048)
            assert group not in packet
            assert not any(packet.endswith(word.encode()) for word in WORDS)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_it_says_so_when_loopback_is_down(network: Network, options: list[str]) -> None:
    lonely = network.host()
    lonely.ip("link set lo down")
    done = cli("demo", *options, host=lonely)
    assert done.code == 1
    assert done.out == ""
    assert "loopback interface lo is down" in done.err.splitlines()[0]
