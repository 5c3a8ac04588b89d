"""Every datagram is told the right group and interface, once, and nothing leaks between them.

Linux by itself hands a datagram to every socket of its group and port, whichever interface and
source the socket has asked for, as long as anything on the host has joined. So these tests always
have other programs joined beside the receiver.
"""

import itertools
import socket
import struct
import threading
from ipaddress import ip_address

import pytest
import trio
from namespaces.network import Card, Network, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import (
    BOTH,
    EVERY_SCOPE,
    GROUP4,
    GROUP6,
    SOURCE_SPECIFIC,
    collect,
    everything,
)

import trio_mcast
from trio_mcast import MulticastReceiver

SO_REUSEADDR, SO_REUSEPORT = socket.SO_REUSEADDR, socket.SO_REUSEPORT


def two_interfaces(network: Network, count: int = 2) -> list[tuple[Card, Card]]:
    """A host with several interfaces, each of them connected to a host of its own."""
    host = network.host("middle")
    return [
        network.link(host, f"eth{number}", network.host(f"peer{number}"), "eth0")
        for number in range(count)
    ]


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_a_group_on_one_interface_is_not_heard_on_another(
    network: Network, udp_port: int, group: str
) -> None:
    (here0, there0), (here1, there1) = two_interfaces(network)
    other_program = here1.listener(group, udp_port)
    wanted, unwanted = there0.talker(group, udp_port), there1.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            unwanted.send(b"unwanted")
            assert other_program.receive_data() == b"unwanted"
            wanted.send(b"wanted")
            datagram = await receiver.receive()
            assert (datagram.data, datagram.interface.name) == (b"wanted", "eth0")
            assert await everything(receiver) == []

    here0.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_a_group_on_two_interfaces_arrives_once_and_says_where(
    network: Network, udp_port: int, group: str
) -> None:
    (here0, there0), (_here1, there1) = two_interfaces(network)
    talkers = {"eth0": there0.talker(group, udp_port), "eth1": there1.talker(group, udp_port)}

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            for _ in range(10):
                for name, talker in talkers.items():
                    talker.send(name.encode())
            datagrams = await collect(receiver, 20)
            datagrams += await everything(receiver)
            assert len(datagrams) == 20
            for datagram in datagrams:
                assert datagram.interface.name == datagram.data.decode()

    here0.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_two_receivers_on_different_interfaces_do_not_hear_each_others(
    network: Network, udp_port: int, group: str
) -> None:
    (here0, there0), (_here1, there1) = two_interfaces(network)
    talker0, talker1 = there0.talker(group, udp_port), there1.talker(group, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as on_eth0,
            trio_mcast.open_receiver(group, port=udp_port, interfaces="eth1") as on_eth1,
        ):
            for _ in range(5):
                talker0.send(b"eth0")
                talker1.send(b"eth1")
            for receiver, name in ((on_eth0, "eth0"), (on_eth1, "eth1")):
                datagrams = await collect(receiver, 5) + await everything(receiver)
                assert [d.data.decode() for d in datagrams] == [name] * 5
                assert {d.interface.name for d in datagrams} == {name}

    here0.host.run(main)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (GROUP4, "233.252.0.2"),
        ("233.252.0.1", "239.128.0.1"),  # the same Ethernet address
        (GROUP6, "ff15::4d43:2"),
        ("ff15::4d43:1", "ff18::4d43:1"),  # likewise
        ("ff12::4d43:1", "ff15::4d43:1"),
    ],
)
def test_another_group_on_the_same_port_is_not_heard(
    here: Card, there: Card, hear: Hear, udp_port: int, one: str, other: str
) -> None:
    other_program = here.listener(other, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        there.talker(other, udp_port).send(b"other")
        assert other_program.receive_data() == b"other"
        there.talker(one, udp_port).send(b"one")
        assert [d.data for d in await collect(receiver, 1)] == [b"one"]
        assert await everything(receiver) == []

    hear(main, one)


def test_another_port_of_the_same_group_is_not_heard(
    here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    other_port = udp_port - 1
    other_program = here.listener(GROUP4, other_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio_mcast.open_receiver(GROUP4, port=other_port) as other:
            there.talker(GROUP4, other_port).send(b"other")
            assert other_program.receive_data() == b"other"
            there.talker(GROUP4, udp_port).send(b"own")
            datagram = await receiver.receive()
            assert (datagram.data, datagram.port) == (b"own", udp_port)
            datagram = await other.receive()
            assert (datagram.data, datagram.port) == (b"other", other_port)
            assert await everything(receiver) == await everything(other) == []

    hear(main, GROUP4)


def test_every_combination_of_group_and_interface_is_told_apart(
    network: Network, udp_port: int
) -> None:
    links = two_interfaces(network, 3)
    groups = [*EVERY_SCOPE, "233.252.0.2", "239.128.0.1", "ff12::4d43:2", "ff15::4d43:2"]
    sent = [(group, f"eth{number}") for group in groups for number in range(3)]
    talkers = {
        (group, name): links[int(name[-1])][1].talker(group, udp_port) for group, name in sent
    }

    async def main() -> None:
        async with trio_mcast.open_receiver(*groups, port=udp_port) as receiver:
            assert len(receiver.memberships()) == len(sent)
            for group, name in sent * 2:
                talkers[group, name].send(f"{group} {name}".encode())
            datagrams = await collect(receiver, 2 * len(sent)) + await everything(receiver)
            said = sorted(d.data.decode() for d in datagrams)
            assert said == sorted(f"{group} {name}" for group, name in sent * 2)
            for datagram in datagrams:
                assert f"{datagram.group} {datagram.interface.name}" == datagram.data.decode()
                assert datagram.group in map(ip_address, groups)

    links[0][0].host.run(main)


# --- Sources --------------------------------------------------------------------------------------


def with_prefix(address: str) -> str:
    return address + ("/64" if ":" in address else "/24")


def sources_of(card: Card, group: str, count: int) -> list[str]:
    """Give a card more addresses of a group's family, to send from."""
    base = card.ipv6 if ":" in group else card.ipv4
    found = [f"{base}{number}" for number in range(1, count + 1)]
    for address in found:
        card.add_address(with_prefix(address))
    return found


@pytest.mark.parametrize("group", [*SOURCE_SPECIFIC, *EVERY_SCOPE])
def test_two_receivers_with_different_sources_hear_only_their_own(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    one, two, three = sources_of(there, group, 3)
    talkers = [there.talker(group, udp_port, source=source) for source in (one, two, three)]

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(group, port=udp_port, sources=[one]) as hears_one,
            trio_mcast.open_receiver(group, port=udp_port, sources=[two]) as hears_two,
        ):
            for _ in range(5):
                for talker, source in zip(talkers, (one, two, three), strict=True):
                    talker.send(source.encode())
            for receiver, source in ((hears_one, one), (hears_two, two)):
                datagrams = await collect(receiver, 5) + await everything(receiver)
                assert [d.data.decode() for d in datagrams] == [source] * 5
                assert {d.source[0] for d in datagrams} == {source}

    here.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_a_source_filter_holds_beside_a_program_that_wants_all(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    wanted, unwanted = sources_of(there, group, 2)
    other_program = here.listener(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as hears_all:
            there.talker(group, udp_port, source=unwanted).send(b"unwanted")
            assert other_program.receive_data() == b"unwanted"
            there.talker(group, udp_port, source=wanted).send(b"wanted")
            assert [d.data for d in await collect(receiver, 1)] == [b"wanted"]
            assert [d.data for d in await collect(hears_all, 2)] == [b"unwanted", b"wanted"]
            assert await everything(receiver) == await everything(hears_all) == []

    hear(main, group, sources=[wanted])


@pytest.mark.parametrize("group", [*SOURCE_SPECIFIC, *EVERY_SCOPE])
def test_each_interface_may_have_its_own_source_of_the_same_group(
    network: Network, udp_port: int, group: str
) -> None:
    """One IPv6 socket with both memberships would hear one of them only."""
    (here0, there0), (_here1, there1) = two_interfaces(network)
    source0, stranger0 = sources_of(there0, group, 2)
    source1, stranger1 = sources_of(there1, group, 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(port=udp_port) as receiver:
            await receiver.join(group, sources=[source0], interfaces="eth0")
            await receiver.join(group, sources=[source1], interfaces="eth1")
            for _ in range(5):
                for card, source in (
                    (there0, stranger0),
                    (there1, stranger1),
                    (there0, source0),
                    (there1, source1),
                ):
                    card.talker(group, udp_port, source=source).send(source.encode())
            datagrams = await collect(receiver, 10) + await everything(receiver)
            said = [(d.data.decode(), d.interface.name) for d in datagrams]
            assert sorted(said) == sorted([(source0, "eth0"), (source1, "eth1")] * 5)

    here0.host.run(main)


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
def test_a_source_seen_on_another_interface_does_not_leak(
    network: Network, udp_port: int, group: str
) -> None:
    (here0, there0), (here1, there1) = two_interfaces(network)
    (source0,) = sources_of(there0, group, 1)
    (source1,) = sources_of(there1, group, 1)
    other_program = here1.listener(group, udp_port, source=source1)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[source0, source1], interfaces="eth0"
        ) as receiver:
            there1.talker(group, udp_port, source=source1).send(b"elsewhere")
            assert other_program.receive_data() == b"elsewhere"
            there0.talker(group, udp_port, source=source0).send(b"here")
            assert [d.data for d in await collect(receiver, 1)] == [b"here"]
            assert await everything(receiver) == []

    here0.host.run(main)


# --- Other programs on the port -------------------------------------------------------------------

SHARING = {
    "REUSEADDR": (SO_REUSEADDR,),
    "REUSEPORT": (SO_REUSEPORT,),
    "both": (SO_REUSEADDR, SO_REUSEPORT),
}


def hold_port(
    card: Card, group: str, port: int, sharing: str, *, wildcard: bool = False, joins: bool = True
) -> socket.socket:
    """A program that has joined the group on a card's interface, in the usual naive way.

    Without `joins` it has the port only, and has refused the groups that others have joined.
    """
    six = ":" in group
    sock = card.host.socket(socket.AF_INET6 if six else socket.AF_INET)
    sock.settimeout(5)
    for option in SHARING[sharing]:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    address = ("::" if six else "") if wildcard else group
    sock.bind((address, port, 0, 0 if wildcard else card.index) if six else (address, port))
    if not joins:
        level, option = (socket.IPPROTO_IPV6, 29) if six else (socket.IPPROTO_IP, 49)
        sock.setsockopt(level, option, 0)  # IPV6_MULTICAST_ALL, IP_MULTICAST_ALL
    elif six:
        request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=i", card.index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        request = socket.inet_aton(group) + socket.inet_aton(card.ipv4)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    return sock


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("wildcard", [False, True])
@pytest.mark.parametrize("sharing", SHARING)
def test_isolation_holds_while_other_programs_have_the_port(
    network: Network, udp_port: int, group: str, sharing: str, wildcard: bool
) -> None:
    (here0, there0), (here1, there1) = two_interfaces(network)
    others = [
        hold_port(card, group, udp_port, sharing, wildcard=wildcard) for card in (here0, here1)
    ]
    talkers = {"eth0": there0.talker(group, udp_port), "eth1": there1.talker(group, udp_port)}

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as on_eth0,
            trio_mcast.open_receiver(group, port=udp_port, interfaces="eth1") as on_eth1,
            trio_mcast.open_receiver(group, port=udp_port) as on_both,
        ):
            for _ in range(10):
                for name, talker in talkers.items():
                    talker.send(name.encode())
            expected = {
                on_eth0: ["eth0"] * 10,
                on_eth1: ["eth1"] * 10,
                on_both: ["eth0"] * 10 + ["eth1"] * 10,
            }
            for receiver, names in expected.items():
                datagrams = await collect(receiver, len(names)) + await everything(receiver)
                assert sorted(d.data.decode() for d in datagrams) == names
                assert all(d.interface.name == d.data.decode() for d in datagrams)

    here0.host.run(main)
    for other in others:
        assert other.recv(100) in (b"eth0", b"eth1")  # neither is it robbed


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("sharing", ["REUSEADDR", "both"])
def test_other_programs_may_come_later(
    network: Network, udp_port: int, group: str, sharing: str
) -> None:
    (here0, there0), (here1, there1) = two_interfaces(network)
    wanted, unwanted = there0.talker(group, udp_port), there1.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            for wildcard in (False, True):
                other = hold_port(here1, group, udp_port, sharing, wildcard=wildcard)
                for _ in range(5):
                    unwanted.send(b"unwanted")
                    wanted.send(b"wanted")
                # A naive program hears both, thanks to the receiver's join on the other interface.
                while other.recv(100) != b"unwanted":
                    pass
                datagrams = await collect(receiver, 5) + await everything(receiver)
                assert [d.data for d in datagrams] == [b"wanted"] * 5
                other.close()

    here0.host.run(main)


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
@pytest.mark.parametrize("sharing", SHARING)
def test_source_filters_hold_while_other_programs_have_the_port(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str, sharing: str
) -> None:
    wanted, unwanted = sources_of(there, group, 2)
    others = [
        hold_port(here, group, udp_port, sharing, wildcard=wildcard) for wildcard in (False, True)
    ]

    async def main(receiver: MulticastReceiver) -> None:
        for _ in range(10):
            there.talker(group, udp_port, source=unwanted).send(b"unwanted")
            there.talker(group, udp_port, source=wanted).send(b"wanted")
        datagrams = await collect(receiver, 10) + await everything(receiver)
        assert [d.data for d in datagrams] == [b"wanted"] * 10

    hear(main, group, sources=[wanted])
    assert len(others) == 2


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
@pytest.mark.parametrize("sharing", SHARING)
def test_two_receivers_with_their_own_sources_beside_another_program(
    here: Card, there: Card, udp_port: int, group: str, sharing: str
) -> None:
    """Where SO_REUSEPORT stays on, Linux gives IPv4 datagrams to the wrong one in some rounds.

    That happens when a single socket wants a datagram, so the other program must not.
    """
    one, two = sources_of(there, group, 2)

    async def round_(port: int) -> None:
        other = hold_port(here, group, port, sharing, joins=False)
        talkers = {source: there.talker(group, port, source=source) for source in (one, two)}
        async with (
            trio_mcast.open_receiver(group, port=port, sources=[one]) as hears_one,
            trio_mcast.open_receiver(group, port=port, sources=[two]) as hears_two,
        ):
            for _ in range(3):
                for source, talker in talkers.items():
                    talker.send(source.encode())
            for receiver, source in ((hears_one, one), (hears_two, two)):
                datagrams = await collect(receiver, 3) + await everything(receiver)
                assert [d.data.decode() for d in datagrams] == [source] * 3
        other.close()

    async def main() -> None:
        for number in range(12):
            await round_(10_000 + (udp_port + number) % 50_000)  # all are free in a new namespace

    here.host.run(main)


@pytest.mark.parametrize("version", [4, 6])
def test_unicast_to_the_same_port_stays_with_the_program_that_owns_it(
    here: Card, there: Card, hear: Hear, udp_port: int, version: int
) -> None:
    group, address = (GROUP4, here.ipv4) if version == 4 else (GROUP6, here.ipv6)
    server = here.host.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    server.settimeout(5)
    server.setsockopt(socket.SOL_SOCKET, SO_REUSEADDR, 1)
    server.bind(("" if version == 4 else "::", udp_port))
    client = there.host.socket(server.family)

    async def main(receiver: MulticastReceiver) -> None:
        for number in range(5):
            client.sendto(b"%d" % number, (address, udp_port))
            assert server.recv(100) == b"%d" % number
        assert await everything(receiver) == []

    hear(main, group)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_no_stray_datagram_slips_in_while_a_receiver_opens(
    network: Network, udp_port: int, group: str
) -> None:
    (here0, there0), (here1, there1) = two_interfaces(network)
    other_program = here1.listener(group, udp_port)
    strays, marker = there1.talker(group, udp_port), there0.talker(group, udp_port)
    stop = threading.Event()

    def flood() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            strays.send(b"stray %d" % number)

    async def main() -> None:
        for _ in range(20):
            async with trio_mcast.open_receiver(
                group, port=udp_port, interfaces="eth0"
            ) as receiver:
                marker.send(b"marker")
                assert (await receiver.receive()).data == b"marker"

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        here0.host.run(main)
    finally:
        stop.set()
        flooding.join()
    assert other_program.receive_data().startswith(b"stray")  # there were some indeed


def test_interfaces_on_one_network_each_deliver_a_copy(network: Network, udp_port: int) -> None:
    switch = network.switch()
    host = network.host("twice")
    switch.plug(host, "eth0")
    switch.plug(host, "eth1")
    talking = switch.plug(network.host("talking"))
    for name in ("all", "eth0", "eth1"):  # else the kernel takes the second copy for forged
        host.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)

    async def main() -> None:
        async with trio_mcast.open_receiver(*BOTH, port=udp_port) as receiver:
            for group in BOTH:
                talking.talker(group, udp_port).send(group.encode())
            datagrams = await collect(receiver, 4)
            assert sorted((str(d.group), d.interface.name) for d in datagrams) == sorted(
                (group, name) for group in BOTH for name in ("eth0", "eth1")
            )
            assert await everything(receiver) == []

    host.run(main)


def test_the_fifth_of_many_receivers_is_as_isolated_as_the_first(
    network: Network, udp_port: int
) -> None:
    links = two_interfaces(network, 3)
    talkers = [there.talker(GROUP4, udp_port) for _here, there in links]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            results: list[tuple[str, list[str]]] = []
            opened = 0

            async def listen(name: str) -> None:
                nonlocal opened
                async with trio_mcast.open_receiver(
                    GROUP4, port=udp_port, interfaces=name
                ) as receiver:
                    opened += 1
                    datagrams = await collect(receiver, 10) + await everything(receiver)
                    results.append((name, [d.data.decode() for d in datagrams]))

            for _ in range(4):
                for number in range(3):
                    nursery.start_soon(listen, f"eth{number}")
            await wait_until_async(lambda: opened == 12, "all are open")
            for _ in range(10):
                for number, talker in enumerate(talkers):
                    talker.send(f"eth{number}".encode())
        assert sorted(results) == sorted(
            (f"eth{number}", [f"eth{number}"] * 10) for number in range(3) for _ in range(4)
        )

    links[0][0].host.run(main)
