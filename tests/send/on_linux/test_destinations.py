"""By which interface a datagram leaves, where its address and the routes have a say."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio
from namespaces.network import Card, Network
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, GROUP6
from patience import SOON

import trio_mcast
from trio_mcast import AddressError, InterfaceNotFoundError, SendError, SocketSetupError

LINK_LOCAL_GROUP = "ff12::4d43:1"

each_group = pytest.mark.parametrize("group", BOTH)


class Ear:
    """A plain socket of a host that hears what is sent to it."""

    def __init__(self, card: Card, address: str, port: int) -> None:
        six = ":" in address
        self.socket = card.host.socket(socket.AF_INET6 if six else socket.AF_INET)
        scope = card.index if address.startswith("fe80:") else 0
        self.socket.bind((address, port, 0, scope) if six else (address, port))
        self.socket.settimeout(SOON)

    def receive(self) -> tuple[bytes, str]:
        data, source = self.socket.recvfrom(65536)
        return data, source[0]

    def drain(self) -> list[bytes]:
        self.socket.setblocking(False)
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536))
            except BlockingIOError:
                self.socket.settimeout(SOON)
                return found


def two_cables(network: Network) -> tuple[list[Card], list[Card]]:
    """A host with eth0 and eth1, and the neighbours there."""
    host = network.host()
    links = [network.link(host, f"eth{n}", network.host(f"n{n}"), "eth0") for n in range(2)]
    return [here for here, _there in links], [there for _here, there in links]


# --- Zones ----------------------------------------------------------------------------------------

every_way_to_write = pytest.mark.parametrize(
    "write",
    [
        lambda host, card, port: (f"{host}%{card.name}", port),
        lambda host, card, port: (f"{host}%{card.index}", port),
        lambda host, card, port: (host, port, 0, card.index),
        lambda host, card, port: (f"{host}%{card.name}", port, 0, 0),
    ],
    ids=["name", "index", "scope", "name without scope"],
)
every_opening = pytest.mark.parametrize(
    "opening", [{"interface": "eth0"}, {"interfaces": ["eth0", "eth1"]}], ids=["one", "two"]
)


@every_way_to_write
@every_opening
def test_a_host_is_sent_to_in_the_zone_of_its_address(
    network: Network, udp_port: int, write: Any, opening: dict[str, Any]
) -> None:
    cards, neighbours = two_cables(network)
    same = "fe80::99"
    for neighbour in neighbours:
        neighbour.host.ip(f"addr add {same}/64 dev eth0 nodad")
    ears = [Ear(neighbour, same, udp_port) for neighbour in neighbours]

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP6, port=udp_port, **opening) as sender:
            await sender.send_to(b"second", write(same, cards[1], udp_port))
            assert ears[1].receive()[0] == b"second"
            await sender.send_to(b"first", write(same, cards[0], udp_port))
            assert ears[0].receive()[0] == b"first"
            assert [ear.drain() for ear in ears] == [[], []]

    cards[0].host.run(main)


@pytest.mark.parametrize("group", [GROUP4, GROUP6, LINK_LOCAL_GROUP])
def test_a_group_is_sent_to_in_the_zone_of_its_address(
    network: Network, udp_port: int, group: str
) -> None:
    cards, neighbours = two_cables(network)
    ears = [neighbour.listener(group, udp_port) for neighbour in neighbours]

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interfaces=["eth0", "eth1"]
        ) as sender:
            await sender.send_to(b"second", (f"{group}%eth1", udp_port))
            await sender.send_to(b"both", (group, udp_port))
            assert ears[0].receive_data() == b"both"
            assert [ears[1].receive_data(), ears[1].receive_data()] == [b"second", b"both"]
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            with pytest.raises(AddressError, match="eth1"):
                await sender.send_to(b"elsewhere", (f"{group}%eth1", udp_port))
            await sender.send_to(b"after", (f"{group}%eth0", udp_port))
            assert ears[0].receive_data() == b"after"

    cards[0].host.run(main)


@pytest.mark.parametrize("host", ["fe80::99", "2001:db8::99", GROUP6, LINK_LOCAL_GROUP])
def test_a_zone_that_does_not_exist_is_no_interface(here: Card, udp_port: int, host: str) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(GROUP6, port=udp_port, interface="eth0") as sender:
            with pytest.raises(InterfaceNotFoundError, match="nosuch"):
                await sender.send_to(b"x", (f"{host}%nosuch", udp_port))

    here.host.run(main)


# --- Hosts ----------------------------------------------------------------------------------------


@each_group
@pytest.mark.parametrize("opening", ["interface", "interfaces", "source"])
def test_of_two_cards_in_one_network_the_chosen_one_sends_to_hosts_too(
    network: Network, udp_port: int, group: str, opening: str
) -> None:
    here, neighbour, second = two_cards_in_one_network(network)
    own = second.ipv4 if group == GROUP4 else second.ipv6
    host = neighbour.ipv4 if group == GROUP4 else neighbour.ipv6
    ear = Ear(neighbour, host, udp_port)
    options: dict[str, Any] = {
        "interface": {"interface": "eth1"},
        "interfaces": {"interfaces": ["eth1", "eth0"]},
        "source": {"interface": "eth1", "source": own},
    }[opening]

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, **options) as sender:
            if opening == "interfaces":  # in the order of the listing
                second.host.ip("link set eth0 down")
                await trio.testing.wait_all_tasks_blocked(0.01)
                here.delete()
                await trio.testing.wait_all_tasks_blocked(0.01)
            await sender.send_to(b"host", (host, udp_port))
            assert ear.receive() == (b"host", own)
            assert sender.local_address[0] == own

    here.host.run(main)


def two_cards_in_one_network(network: Network) -> tuple[Card, Card, Card]:
    """eth0 and eth1 of a host, and a neighbour: eth0, the neighbour, eth1."""
    switch = network.switch()
    host = network.host()
    first = switch.plug(host, "eth0")
    second = switch.plug(host, "eth1")
    neighbour = switch.plug(network.host("neighbour"), "eth0")
    for setting in ("arp_ignore", "arp_announce"):  # or either card answers for both
        host.sysctl(f"net.ipv4.conf.all.{setting}", 2)
    return first, neighbour, second


@each_group
def test_a_host_beyond_the_networks_of_the_interface_is_sent_to_as_the_routes_say(
    network: Network, udp_port: int, group: str
) -> None:
    """Linux would believe it to be on the link, and send to nobody."""
    cards, neighbours = two_cables(network)
    host = neighbours[1].ipv4 if group == GROUP4 else neighbours[1].ipv6
    ear = Ear(neighbours[1], host, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send_to(b"by the routes", (host, udp_port))
            assert ear.receive()[0] == b"by the routes"

    cards[0].host.run(main)


@each_group
def test_a_route_to_a_part_of_the_network_is_taken(
    network: Network, udp_port: int, group: str
) -> None:
    """As a VPN sets it: what is in the network of one card is reached by another."""
    cards, neighbours = two_cables(network)
    host, prefix = ("10.200.0.5", "8") if group == GROUP4 else ("fd99:0:0:1::5", "32")
    own, gateway = ("10.200.0.1", neighbours[1].ipv4)
    if group == GROUP6:
        own, gateway = ("fd99:0:0:1::1", neighbours[1].ipv6)
    cards[0].add_address(f"{own}/{prefix}")
    neighbours[1].add_address(f"{host}/{'32' if group == GROUP4 else '128'}")
    family = "-4" if group == GROUP4 else "-6"
    cards[0].host.ip(f"{family} route add {host} via {gateway}")
    ear = Ear(neighbours[1], host, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send_to(b"x", (host, udp_port))
            assert ear.receive()[0] == b"x"

    cards[0].host.run(main)


def test_nobody_but_the_peer_is_in_the_network_of_a_tunnel(network: Network, udp_port: int) -> None:
    """Its address looks as if it had a network around it; that is the other end's."""
    cards, neighbours = two_cables(network)
    own = cards[0].ipv4.rsplit(".", 1)[0] + ".77"
    cards[1].host.ip(f"addr add {own} peer 192.0.2.1/24 dev eth1")
    ear = Ear(neighbours[0], neighbours[0].ipv4, udp_port)

    async def main() -> None:
        eth1 = next(i for i in trio_mcast.list_interfaces() if i.name == "eth1")
        assert f"{own}/32" in map(str, eth1.addresses)
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth1") as sender:
            await sender.send_to(b"x", (neighbours[0].ipv4, udp_port))
            assert ear.receive()[0] == b"x"

    cards[0].host.run(main)


@each_group
def test_this_host_itself_is_reached_at_every_address(
    network: Network, udp_port: int, group: str
) -> None:
    here, _neighbour, second = two_cards_in_one_network(network)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth1") as sender:
            for card in (here, second):
                own = card.ipv4 if group == GROUP4 else card.ipv6
                ear = Ear(card, own, udp_port)
                for zone in ("", "%eth0", "%eth1", "%lo"):
                    await sender.send_to(b"myself", (own + zone, udp_port))
                    assert ear.receive()[0] == b"myself"

    here.host.run(main)


@each_group
def test_hosts_are_sent_to_as_long_as_any_interface_is_there(
    network: Network, udp_port: int, group: str
) -> None:
    cards, neighbours = two_cables(network)
    host = neighbours[1].ipv4 if group == GROUP4 else neighbours[1].ipv6
    ear = Ear(neighbours[1], host, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interfaces=["eth0", "eth1"]
        ) as sender:
            cards[0].delete()
            await trio.testing.wait_all_tasks_blocked(0.01)
            await sender.send_to(b"still", (host, udp_port))
            assert ear.receive()[0] == b"still"
            assert sender.local_address[0] in (cards[1].ipv4, cards[1].ipv6)

    cards[0].host.run(main)


def test_the_smallest_network_decides_which_interface_has_a_host(
    network: Network, udp_port: int
) -> None:
    cards, neighbours = two_cables(network)
    cards[0].host.ip("addr add 10.200.0.1/8 dev eth0", "addr add 10.200.1.1/24 dev eth1")
    neighbours[1].add_address("10.200.1.5/24")
    ear = Ear(neighbours[1], "10.200.1.5", udp_port)

    async def main() -> None:
        for opening in ({"interface": "eth0"}, {"interfaces": ["eth0", "eth1"]}):
            async with trio_mcast.open_sender(GROUP4, port=udp_port, **opening) as sender:  # type: ignore[arg-type]
                await sender.send_to(b"x", ("10.200.1.5", udp_port))
                assert ear.receive()[0] == b"x"

    cards[0].host.run(main)


@each_group
def test_an_interface_that_is_down_sends_to_no_host(
    network: Network, udp_port: int, group: str
) -> None:
    here, neighbour, second = two_cards_in_one_network(network)
    host = neighbour.ipv4 if group == GROUP4 else neighbour.ipv6
    ear = Ear(neighbour, host, udp_port)

    async def main() -> None:
        here.down()
        async with trio_mcast.open_sender(
            group, port=udp_port, interfaces=["eth0", "eth1"]
        ) as sender:
            await sender.send_to(b"x", (host, udp_port))
            assert ear.receive() == (b"x", second.ipv4 if group == GROUP4 else second.ipv6)

    here.host.run(main)


def test_a_source_that_was_chosen_is_kept_for_hosts(here: Card, there: Card, udp_port: int) -> None:
    here.add_address("10.66.6.200/24")
    there.add_address("10.66.6.1/24")
    ear = Ear(there, "10.66.6.1", udp_port)

    async def main() -> None:
        here.host.ip("addr add 10.66.6.201/24 dev eth0")
        async with trio_mcast.open_sender(
            GROUP4, port=udp_port, interface="eth0", source="10.66.6.201"
        ) as sender:
            await sender.send_to(b"x", ("10.66.6.1", udp_port))
            assert ear.receive() == (b"x", "10.66.6.201")

    here.host.run(main)


# --- What cannot be answered ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "address"),
    [
        (GROUP4, ("10.77.1.9", 0)),
        (GROUP4, ("0.0.0.0", 5000)),
        (GROUP4, ("255.255.255.255", 5000)),
        (GROUP6, ("fd77::9", 0)),
        (GROUP6, ("::", 5000, 0, 0)),
        (GROUP6, ("fe80::9", 5000, 0, 4711)),
    ],
)
def test_a_source_that_nobody_can_have_is_a_send_error(
    here: Card, there: Card, udp_port: int, group: str, address: Any
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            with pytest.raises(SendError) as caught:
                await sender.send_to(b"x", address)
            assert caught.value.errno
            assert str(address[0]) in str(caught.value)
            await sender.send(b"still works")
            assert listener.receive_data() == b"still works"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_datagram_from_port_0_is_heard_and_cannot_be_answered(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    async def main(receiver: trio_mcast.MulticastReceiver) -> None:
        send_from_port_0(there, group, udp_port)
        datagram = await receiver.receive()
        assert datagram.source[1] == 0
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            with pytest.raises(SendError, match="port 0"):
                await sender.send_to(b"answer", datagram.source)

    hear(main, group)


def send_from_port_0(card: Card, group: str, port: int) -> None:
    import struct

    six = ":" in group
    raw = card.host.call(
        socket.socket,
        socket.AF_INET6 if six else socket.AF_INET,
        socket.SOCK_RAW,
        socket.IPPROTO_UDP,
    )
    with raw:
        datagram = struct.pack("!HHHH", 0, port, 9, 0) + b"x"
        if six:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, card.index)
            raw.setsockopt(socket.IPPROTO_IPV6, 7, 6)  # IPV6_CHECKSUM: the kernel fills it in
            raw.sendto(datagram, (group, 0, 0, card.index))
        else:
            by_index = struct.pack("=4s4si", bytes(4), bytes(4), card.index)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by_index)
            raw.sendto(datagram, (group, 0))


# --- Opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "lacks"), [(GROUP4, "IPv4"), (GROUP6, "IPv6")])
def test_an_interface_that_can_never_send_is_refused_when_opening(
    network: Network, udp_port: int, group: str, lacks: str
) -> None:
    here, _there = network.pair(ipv4=lacks != "IPv4", ipv6=lacks != "IPv6")

    async def main() -> None:
        with pytest.raises(SocketSetupError, match=lacks) as caught:
            async with trio_mcast.open_sender(group, port=udp_port, interface="eth0"):
                pass
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert caught.value.__notes__

    here.host.run(main)


@each_group
@pytest.mark.parametrize("shared_by", [socket.SO_REUSEADDR, socket.SO_REUSEPORT, "both"])
def test_a_source_port_is_shared_with_whoever_shares_it(
    here: Card, there: Card, udp_port: int, group: str, shared_by: int | str
) -> None:
    other = here.host.socket(socket.AF_INET6 if ":" in group else socket.AF_INET)
    options = [socket.SO_REUSEADDR, socket.SO_REUSEPORT] if shared_by == "both" else [shared_by]
    for option in options:
        assert isinstance(option, int)
        other.setsockopt(socket.SOL_SOCKET, option, 1)
    other.bind(("", udp_port))
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", source_port=udp_port
        ) as sender:
            await sender.send(b"x")
            assert listener.receive().source_port == udp_port

    here.host.run(main)


# --- Answers --------------------------------------------------------------------------------------


@each_group
@pytest.mark.parametrize("chosen", [True, False], ids=["chosen port", "any port"])
def test_an_answer_tells_the_interface_that_it_came_in_by(
    network: Network, udp_port: int, group: str, chosen: bool
) -> None:
    """Of two sockets that share a port, one gets all answers."""
    cards, neighbours = two_cables(network)
    listeners = [neighbour.listener(group, udp_port) for neighbour in neighbours]

    async def main() -> None:
        async with (
            trio_mcast.open_sender(
                group,
                port=udp_port,
                interfaces=["eth0", "eth1"],
                source_port=udp_port if chosen else 0,
            ) as sender,
            sender.open_answers() as answers,
        ):
            await sender.send(b"who?")
            for number, listener in enumerate(listeners):
                question = listener.receive()
                answer = (question.source, question.source_port)
                listener.socket.sendto(f"eth{number}".encode(), answer)
            with trio.fail_after(SOON):
                found = [await answers.receive() for _ in listeners]
            assert {(a.data.decode(), a.interface.name) for a in found} == {
                ("eth0", "eth0"),
                ("eth1", "eth1"),
            }

    cards[0].host.run(main)
