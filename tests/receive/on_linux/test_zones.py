"""On which link somebody is: the zones of sources, filters and groups; and this host itself."""

from __future__ import annotations

import pytest
import trio
from namespaces.network import Card, Network
from namespaces.receiving import GROUP4, GROUP6, everything
from patience import SOON

import trio_mcast
from trio_mcast import InterfaceNotFoundError, MulticastError, MulticastReceiver

SAME = "fe80::99"
"""An address that both neighbours have, each on its own link."""


@pytest.fixture
def cards(network: Network) -> list[Card]:
    """eth0 and eth1 of one host. The neighbours there have one address in common."""
    host = network.host()
    cards = [network.link(host, f"eth{n}", network.host(f"n{n}"), "eth0")[0] for n in range(2)]
    for card in cards:
        assert card.peer is not None
        card.peer.add_address(f"{SAME}/64")
    return cards


def send_from_both(cards: list[Card], port: int, group: str = GROUP6) -> None:
    for card in cards:
        assert card.peer is not None
        card.peer.talker(group, port, source=SAME).send(card.name.encode())


async def heard(receiver: MulticastReceiver, cards: list[Card], port: int) -> list[bytes]:
    send_from_both(cards, port)
    return sorted(d.data for d in await everything(receiver))


@pytest.mark.parametrize("interfaces", [None, ["eth0", "eth1"]])
@pytest.mark.parametrize("written_as", ["name", "index"])
def test_a_source_is_heard_in_its_zone_only(
    cards: list[Card], udp_port: int, interfaces: list[str] | None, written_as: str
) -> None:
    zone = "eth1" if written_as == "name" else str(cards[1].index)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            GROUP6, port=udp_port, sources=f"{SAME}%{zone}", interfaces=interfaces
        ) as receiver:
            assert [m.interface.name for m in receiver.memberships()] == ["eth1"]
            assert [str(s) for m in receiver.memberships() for s in m.sources] == [SAME]
            assert await heard(receiver, cards, udp_port) == [b"eth1"]

    cards[0].host.run(main)


def test_sources_with_and_without_zone_go_together(cards: list[Card], udp_port: int) -> None:
    assert cards[0].peer is not None
    other = cards[0].peer.ipv6

    async def main() -> None:
        async with trio_mcast.open_receiver(
            GROUP6, port=udp_port, sources=[f"{SAME}%eth1", other]
        ) as receiver:
            assert await heard(receiver, cards, udp_port) == [b"eth1"]
            filters = {
                m.interface.name: [str(s) for s in m.sources] for m in receiver.memberships()
            }
            assert filters == {"eth0": [other], "eth1": [SAME, other]}

    cards[0].host.run(main)


def test_filters_change_in_the_zone_of_the_source_only(cards: list[Card], udp_port: int) -> None:
    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP6, port=udp_port) as receiver:
            assert await heard(receiver, cards, udp_port) == [b"eth0", b"eth1"]
            receiver.block_source(GROUP6, f"{SAME}%eth0")
            assert await heard(receiver, cards, udp_port) == [b"eth1"]
            receiver.unblock_source(GROUP6, f"{SAME}%eth0")
            receiver.set_sources(GROUP6, [f"{SAME}%eth1"], mode="exclude")
            assert await heard(receiver, cards, udp_port) == [b"eth0"]
            receiver.set_sources(GROUP6, [f"{SAME}%eth0", "fe80::1"])
            assert await heard(receiver, cards, udp_port) == [b"eth0"]
            receiver.add_source(GROUP6, f"{SAME}%eth1")
            assert await heard(receiver, cards, udp_port) == [b"eth0", b"eth1"]
            with pytest.raises(MulticastError, match="nobody would be heard on eth0"):
                receiver.set_sources(GROUP6, [f"{SAME}%eth1"])
            assert await heard(receiver, cards, udp_port) == [b"eth0", b"eth1"]

    cards[0].host.run(main)


def test_a_zone_that_does_not_exist_is_no_interface(cards: list[Card], udp_port: int) -> None:
    nowhere, group_nowhere = f"{SAME}%nosuch", f"{GROUP6}%nosuch"

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP6, port=udp_port) as receiver:
            before = receiver.memberships()
            for attempt in (
                lambda: receiver.add_source(GROUP6, nowhere),
                lambda: receiver.remove_source(GROUP6, nowhere),
                lambda: receiver.block_source(GROUP6, nowhere),
                lambda: receiver.unblock_source(GROUP6, nowhere),
                lambda: receiver.set_sources(GROUP6, nowhere),
                lambda: receiver.set_sources(GROUP6, nowhere, mode="exclude"),
                lambda: receiver.set_sources(group_nowhere, "fe80::1"),
            ):
                with pytest.raises(InterfaceNotFoundError, match="nosuch"):
                    attempt()
            for opening in (
                trio_mcast.open_receiver(GROUP6, port=udp_port, sources=nowhere),
                trio_mcast.open_receiver(group_nowhere, port=udp_port),
                trio_mcast.open_sender(group_nowhere, port=udp_port),
                trio_mcast.open_sender(GROUP6, port=udp_port, source=nowhere),
                receiver.joined("ff15::2", sources=nowhere),
            ):
                with pytest.raises(InterfaceNotFoundError, match="nosuch"):
                    async with opening:
                        pass
            with pytest.raises(InterfaceNotFoundError, match="nosuch"):
                await receiver.leave(group_nowhere)
            assert receiver.memberships() == before

    cards[0].host.run(main)


def test_the_zone_of_a_senders_source_chooses_the_interface(
    cards: list[Card], udp_port: int
) -> None:
    neighbours = [card.peer for card in cards]
    assert neighbours[1] is not None
    listener = neighbours[1].listener(GROUP6, udp_port)
    own = cards[1].link_local

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP6, port=udp_port, source=f"{own}%eth1") as sender:
            await sender.send(b"x")
            assert listener.receive().source == own
        with pytest.raises(InterfaceNotFoundError, match="eth1"):
            async with trio_mcast.open_sender(
                GROUP6, port=udp_port, interface="eth0", source=f"{own}%eth1"
            ):
                pass

    cards[0].host.run(main)


@pytest.mark.parametrize("follow", [True, False])
def test_a_source_in_a_zone_that_was_not_selected_is_refused(
    cards: list[Card], udp_port: int, follow: bool
) -> None:
    async def main() -> None:
        with pytest.raises(InterfaceNotFoundError, match=f"{SAME}%eth1"):
            async with trio_mcast.open_receiver(
                GROUP6,
                port=udp_port,
                sources=f"{SAME}%eth1",
                interfaces="eth0",
                follow=follow,
            ):
                pass

    cards[0].host.run(main)


# --- This host itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "address"), [(GROUP6, SAME), (GROUP4, "169.254.7.7")])
def test_without_loopback_a_neighbour_with_an_address_of_another_link_is_heard(
    network: Network, udp_port: int, group: str, address: str
) -> None:
    host = network.host()
    first, there = network.link(host, "eth0", network.host("there"), "eth0")
    second, _ = network.link(host, "eth1", network.host("elsewhere"), "eth0")
    prefix = f"{address}/64" if ":" in address else f"{address}/16"
    there.add_address(prefix)
    second.add_address(prefix)
    host.sysctl("net.ipv4.conf.eth0.accept_local", 1)  # or the kernel would drop it
    host.sysctl("net.ipv4.conf.all.accept_local", 1)
    talker = there.talker(group, udp_port, source=address)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0", loopback=False
        ) as receiver:
            async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
                await sender.send(b"own")
            talker.send(b"neighbour")
            with trio.fail_after(SOON):
                assert (await receiver.receive()).data == b"neighbour"
            assert await everything(receiver) == []

    first.host.run(main)
