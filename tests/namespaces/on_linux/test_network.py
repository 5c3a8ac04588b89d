"""The harness itself: whether its hosts, cables and switches behave as the other tests believe."""

import socket
import threading
import time

import pytest
import trio
from namespaces.network import Card, Network, open_descriptors, wait_until

GROUPS = ["233.252.0.1", "ff15::4d43:1"]


def test_hosts_see_only_their_own_interfaces(network: Network, here: Card, there: Card) -> None:
    assert here.host is not there.host
    assert {name for _, name in here.host.call(socket.if_nameindex)} == {"lo", "eth0"}
    lonely = network.host("lonely")
    assert lonely.call(socket.if_nameindex) == [(1, "lo")]


@pytest.mark.parametrize("group", GROUPS)
def test_a_plain_datagram_crosses_a_cable_at_once(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = here.listener(group, udp_port)
    there.talker(group, udp_port, hop_limit=7, traffic_class=0x48).send(b"hello")
    heard = listener.receive()
    assert heard.data == b"hello"
    assert heard.group == group
    assert heard.source == (there.ipv6 if ":" in group else there.ipv4)
    assert (heard.hop_limit, heard.traffic_class) == (7, 0x48)


@pytest.mark.parametrize("group", ["232.1.2.3", "ff3e::4d43:1"])
def test_a_plain_listener_hears_the_chosen_source_only(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    wanted, other = (
        ("fd77:0:0:1::a", "fd77:0:0:1::b") if ":" in group else ("10.77.1.10", "10.77.1.11")
    )
    for address in (wanted, other):
        there.add_address(address + ("/64" if ":" in group else "/24"))
    listener = here.listener(group, udp_port, source=wanted)
    there.talker(group, udp_port, source=other).send(b"unwanted")
    there.talker(group, udp_port, source=wanted).send(b"wanted")
    assert listener.receive_data() == b"wanted"


def test_a_switch_connects_all_that_are_plugged_in(network: Network, udp_port: int) -> None:
    switch = network.switch()
    cards = [switch.plug(network.host(name)) for name in "abc"]
    listeners = [card.listener(GROUPS[0], udp_port) for card in cards[1:]]
    cards[0].talker(GROUPS[0], udp_port).send(b"to all")
    assert [listener.receive_data() for listener in listeners] == [b"to all", b"to all"]


def test_a_snooping_switch_with_a_querier_forwards_only_to_members(
    network: Network, udp_port: int
) -> None:
    switch = network.switch(snooping=True, querier=True)
    talking, listening, deaf = (switch.plug(network.host(name)) for name in "abc")
    listener = listening.listener(GROUPS[0], udp_port)
    wait_until(
        lambda: GROUPS[0] in switch.host.command("bridge", "mdb", "show"), "the switch has learnt"
    )
    before = _multicast_packets_received(deaf)
    talking.talker(GROUPS[0], udp_port).send(b"to members")
    assert listener.receive_data() == b"to members"
    talking.talker("224.0.0.1", udp_port).send(b"flooded")
    assert _multicast_packets_received(deaf) == before + 1


def _multicast_packets_received(card) -> int:
    names, values = (
        line.split() for line in card.host.read("netstat").splitlines() if "IpExt" in line
    )
    return int(dict(zip(names, values, strict=True))["InMcastPkts"])


def test_run_returns_and_raises_what_the_function_does(network: Network) -> None:
    host = network.host()

    async def names(extra: str) -> list[str]:
        return [name for _, name in socket.if_nameindex()] + [extra]

    async def fail() -> None:
        raise KeyError("mine")

    assert host.run(names, "x") == ["lo", "x"]
    with pytest.raises(KeyError, match="mine"):
        host.run(fail)


def test_start_waits_for_task_status(network: Network) -> None:
    host = network.host()
    go_on = threading.Event()

    async def serve(*, task_status) -> str:
        task_status.started("ready")
        await trio.to_thread.run_sync(go_on.wait)
        return "done"

    task = host.start(serve)
    assert task.wait_until_started() == "ready"
    assert not task.done
    go_on.set()
    assert task.result() == "done"


def test_start_raises_what_comes_before_started(network: Network) -> None:
    async def fail(*, task_status) -> None:
        raise KeyError("early")

    with pytest.raises(KeyError, match="early"):
        network.host().start(fail)


def test_a_task_that_waits_forever_is_cancelled_with_the_network(network: Network) -> None:
    task = network.host().start_soon(trio.sleep_forever)
    network.close()
    assert task.done
    network.tasks.clear()
    network.sockets.clear()
    network._hosts.clear()


def test_programs_run_in_the_namespace_of_their_host(network: Network) -> None:
    here, _there = network.pair()
    assert "10.77.1.1/24" in here.host.ip("-4 addr show")
    assert "eth0" not in network.host().ip("link show")
    with pytest.raises(AssertionError, match=r"nonsense.*eth0|eth0.*nonsense"):
        here.host.ip("link set eth0 nonsense")


def test_carrier_is_lost_and_regained(network: Network) -> None:
    here, _there = network.pair()
    here.unplug()
    assert "NO-CARRIER" in here.host.ip("link show eth0")
    here.plug()
    assert "LOWER_UP" in here.host.ip("link show eth0")


def test_an_interface_that_was_deleted_comes_back_with_its_index_and_mac(
    here: Card, there: Card, udp_port: int
) -> None:
    index, mac = here.index, here.mac
    here.delete()
    assert here.host.call(socket.if_nameindex) == [(1, "lo")]
    here.create(with_index=index)
    assert here.host.call(socket.if_nametoindex, "eth0") == index
    assert mac in here.host.ip("link show eth0")
    listener = here.listener(GROUPS[1], udp_port)
    there.talker(GROUPS[1], udp_port).send(b"again")
    assert listener.receive_data() == b"again"


def test_an_interface_moves_to_another_host(
    network: Network, here: Card, there: Card, udp_port: int
) -> None:
    old, new = here.host, network.host("new")
    here.move_to(new)
    assert old.call(socket.if_nameindex) == [(1, "lo")]
    assert "state DOWN" in new.ip("link show eth0")
    here.up()
    for group in GROUPS:
        listener = here.listener(group, udp_port)
        there.talker(group, udp_port).send(b"hello")
        assert listener.receive_data() == b"hello"


def test_carrier_flaps_at_a_switch(network: Network, udp_port: int) -> None:
    switch = network.switch(snooping=True)
    one, two = switch.plug(network.host("one")), switch.plug(network.host("two"))
    one.flap()
    listener = one.listener(GROUPS[1], udp_port)
    two.talker(GROUPS[1], udp_port).send(b"hello")
    assert listener.receive_data() == b"hello"


def test_a_dip_of_the_mtu_takes_ipv6_away_until_up(network: Network) -> None:
    here, _there = network.pair()
    here.set("mtu 1200")
    assert "inet6" not in here.host.ip("addr show eth0")
    here.set("mtu 1500")
    here.up()
    assert f"{here.ipv6}/64" in here.host.ip("addr show eth0")
    assert here.link_local


def test_ipv6_is_switched_off_and_on_again(network: Network) -> None:
    here, _there = network.pair()
    here.host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 1)
    assert "inet6" not in here.host.ip("addr show eth0")
    here.host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 0)
    here.up()
    assert f"{here.ipv6}/64" in here.host.ip("addr show eth0")


def test_down_and_up_restores_the_addresses(here: Card, there: Card, udp_port: int) -> None:
    here.down()
    here.up()
    for group in GROUPS:
        listener = here.listener(group, udp_port)
        there.talker(group, udp_port).send(b"hello")
        assert listener.receive_data() == b"hello"


@pytest.mark.parametrize("group", GROUPS)
def test_the_kernels_list_of_groups_is_read(network: Network, udp_port: int, group: str) -> None:
    here, _there = network.pair()
    assert not here.host.has_joined(group)
    listener = here.listener(group, udp_port)
    assert here.host.has_joined(group)
    assert not here.host.has_joined(group, "lo")
    assert udp_port in here.host.bound_udp_ports()
    listener.socket.close()
    assert not here.host.has_joined(group)


def test_ipv6_multicast_goes_through_lo_once_there_is_a_route(
    network: Network, udp_port: int
) -> None:
    host = network.host()
    host.let_ipv6_multicast_use_lo()
    listener = host.lo.listener(GROUPS[1], udp_port)
    host.lo.talker(GROUPS[1], udp_port).send(b"hello")
    assert listener.receive_data() == b"hello"


def test_interfaces_can_lack_either_family(network: Network) -> None:
    here, _ = network.pair(ipv4=False)
    assert "inet " not in here.host.ip("addr show eth0")
    assert here.link_local
    here, _ = network.pair(ipv6=False)
    assert "inet6" not in here.host.ip("addr show eth0")


def test_a_network_leaves_no_descriptor(network: Network) -> None:
    before = open_descriptors()
    other = Network()
    here, there = other.pair()
    here.listener(GROUPS[0], 5000)
    there.talker(GROUPS[0], 5000).send(b"x")
    other.close()
    assert open_descriptors() == before


def test_setting_up_is_quick(network: Network) -> None:
    begin = time.perf_counter()
    network.pair()
    assert time.perf_counter() - begin < 1.0  # some 6 ms; a loaded machine is forgiven
