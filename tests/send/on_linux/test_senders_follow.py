"""Senders that stay open while their interfaces fail, go and come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, no_descriptor_left, open_descriptors
from namespaces.receiving import BOTH, GROUP4, GROUP6
from patience import SOON

import trio_mcast
from trio_mcast import MulticastSender, SendError


async def settle() -> None:
    """Let the sender see all that the kernel has announced so far, and act."""
    await trio.testing.wait_all_tasks_blocked(0.005)


async def send_soon(sender: MulticastSender, data: bytes) -> None:
    """Send as soon as it is possible, in time."""
    with trio.fail_after(SOON):
        while True:
            try:
                await sender.send(data)
            except SendError:
                await trio.sleep(0.001)
            else:
                return


every_pace = pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "at once"])
every_choice = pytest.mark.parametrize(
    "choice",
    [{"interface": "eth0"}, {"interfaces": ["eth0"]}, {"interfaces": "all"}],
    ids=["interface", "interfaces", "all"],
)


def _move_away_and_back(card: Card) -> None:
    home = card.host
    card.move_to(home.network.host("elsewhere"))
    card.move_to(home)
    card.up()


def _delete_and_create(card: Card) -> None:
    card.delete()
    card.create()


def _delete_and_create_alike(card: Card) -> None:
    card.delete()
    card.create(with_index=card.index)


def _dip_the_mtu(card: Card) -> None:
    card.set("mtu 1200")
    card.set("mtu 1500")
    card.up()


def _lose_addresses(card: Card) -> None:
    card.host.ip(f"addr del {card.ipv4}/24 dev eth0", f"addr del {card.ipv6}/64 dev eth0")
    card.up()


def _switch_ipv6_off_and_on(card: Card) -> None:
    card.host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 1)
    card.host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 0)
    card.up()


def _switch_off_and_on(card: Card) -> None:
    card.down()
    card.up()


FAULTS: dict[str, Callable[[Card], None]] = {
    "switched off and on": _switch_off_and_on,
    "re-created": _delete_and_create,
    "re-created with the same index": _delete_and_create_alike,
    "moved away and back": _move_away_and_back,
    "below the MTU of IPv6": _dip_the_mtu,
    "without carrier": Card.flap,
    "without addresses": _lose_addresses,
    "without IPv6": _switch_ipv6_off_and_on,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("group", BOTH)
@every_choice
def test_a_sender_sends_again_after_its_interface_was(
    here: Card,
    there: Card,
    udp_port: int,
    fault: Callable[[Card], None],
    group: str,
    choice: dict[str, object],
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, **choice) as sender:
            fault(here)
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive_data() == b"again"
            await settle()
            await sender.send(b"and again")
            await sender.send_batch([b"in", b"a", b"batch"])
            assert [listener.receive_data() for _ in range(4)] == [
                b"and again",
                b"in",
                b"a",
                b"batch",
            ]
            assert [i.index for i in sender.interfaces] == [here.index]

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("form", [int, str, "zone"])
def test_a_sender_that_was_given_an_index_sends_again_under_that_index(
    here: Card, there: Card, udp_port: int, group: str, form: Any
) -> None:
    """However it is written: as a number, as text, as a zone."""
    index = here.index
    choice = {} if form == "zone" else {"interface": form(index)}
    target = f"{group}%{index}" if form == "zone" else group

    async def main() -> None:
        async with trio_mcast.open_sender(target, port=udp_port, **choice) as sender:
            here.delete()
            here.create(with_index=index)
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive_data() == b"again"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@every_choice
@every_pace
def test_while_the_interface_is_gone_sending_says_so(
    network: Network, udp_port: int, group: str, choice: dict[str, object], noticed: bool
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, **choice) as sender:
            here.delete()
            if noticed:
                await settle()
            for attempt in (
                lambda: sender.send(b"nowhere"),
                lambda: sender.send_batch([b"no", b"where"]),
                lambda: sender.send_to(b"nowhere", (group, udp_port)),
            ):
                with pytest.raises(SendError) as caught:
                    await attempt()
                assert str(caught.value)
            if noticed:
                text = str(caught.value) + "".join(caught.value.__notes__)
                assert "gone" in text or "no interface is up" in text
                assert caught.value.errno == 19  # ENODEV
            assert sender.statistics().datagrams_sent == 0

    here.host.run(main)


def test_an_interface_that_goes_just_while_something_is_sent_is_a_send_error(
    network: Network, udp_port: int
) -> None:
    """Not an error of the program's, as a closed sender would be. Chance decides which task of
    trio's runs first, so it is tried some times.
    """
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP6, port=udp_port, interfaces="all") as sender:
            for _ in range(8):
                here.delete()
                with pytest.raises(SendError):
                    await sender.send_to(b"nowhere", (GROUP6, udp_port))
                here.create()
                await settle()

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@every_choice
@every_pace
def test_while_the_interface_is_down_sending_says_so(
    here: Card, there: Card, udp_port: int, group: str, choice: dict[str, object], noticed: bool
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, **choice) as sender:
            here.down()
            if noticed:
                await settle()
            with pytest.raises(SendError) as caught:
                await sender.send(b"nowhere")
            assert caught.value.errno in (100, 101)  # ENETDOWN, ENETUNREACH
            assert "down" in "".join([str(caught.value), *caught.value.__notes__])
            here.up()
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive_data() == b"again"

    here.host.run(main)


@every_choice
def test_without_an_ipv4_address_nothing_counts_as_sent(
    network: Network, here: Card, there: Card, udp_port: int, choice: dict[str, object]
) -> None:
    """Linux would send from another interface's address, or from none, which receivers drop."""
    network.link(here.host, "eth1", network.host("c"), "eth0")
    has_another = choice == {"interfaces": "all"}

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, **choice) as sender:
            listener = there.listener(GROUP4, udp_port)
            here.host.ip(f"addr del {here.ipv4}/24 dev eth0")
            await settle()
            if has_another:
                await sender.send(b"by eth1 only")
            else:
                with pytest.raises(SendError, match="no IPv4 address"):
                    await sender.send(b"from nowhere")
            assert sender.statistics().datagrams_sent == has_another
            here.host.ip(f"addr add {here.ipv4}/24 dev eth0")
            await settle()
            await sender.send(b"again")
            heard = listener.receive()
            assert (heard.data, heard.source) == (b"again", here.ipv4)

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_all_interfaces_are_followed_as_they_come_and_go(
    network: Network, udp_port: int, group: str
) -> None:
    one, _ = network.pair()
    home = one.host

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interfaces="all") as sender:

            async def check(*cards: Card) -> None:
                await settle()
                assert [i.index for i in sender.interfaces] == [c.index for c in cards]
                listeners = [c.peer.listener(group, udp_port) for c in cards if c.peer]
                await sender.send(b"to all")
                assert [each.receive_data() for each in listeners] == [b"to all"] * len(cards)
                for each in listeners:
                    each.socket.close()

            await check(one)
            two, _ = network.link(home, "eth1", network.host("c"), "eth0")
            await check(one, two)
            one.delete()
            await check(two)
            one.create()
            await check(two, one)
            two.delete()
            one.delete()
            await settle()
            assert sender.interfaces == ()
            with pytest.raises(SendError):
                await sender.send(b"nowhere")
            two.create()
            await check(two)
            assert sender.statistics().datagrams_sent == 7

    home.run(main)


def test_one_interface_in_trouble_is_counted_but_not_raised(
    network: Network, udp_port: int
) -> None:
    one, _ = network.pair()
    two, there = network.link(one.host, "eth1", network.host("c"), "eth0")

    async def main() -> None:
        async with trio_mcast.open_sender(
            GROUP6, port=udp_port, interfaces=["eth0", "eth1"]
        ) as sender:
            one.down()
            await settle()
            listener = there.listener(GROUP6, udp_port)
            await sender.send(b"by eth1")
            assert listener.receive_data() == b"by eth1"
            statistics = sender.statistics()
            assert (statistics.datagrams_sent, statistics.send_errors) == (1, 1)

    two.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@every_pace
def test_another_interface_that_gets_the_index_is_not_sent_by(
    here: Card, there: Card, udp_port: int, group: str, noticed: bool
) -> None:
    index = here.index

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            here.delete()
            if noticed:
                await settle()
            here.name = "eth9"
            here.create(with_index=index)
            await settle()
            listener = there.listener(group, udp_port)
            with pytest.raises(SendError):
                await sender.send(b"to the wrong place")
            here.host.ip("link set eth9 down", "link set eth9 name eth0")
            here.name = "eth0"
            here.up()
            await send_soon(sender, b"right")
            assert listener.receive_data() == b"right"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_renamed_interface_is_sent_by_all_the_same(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            here.down()
            here.set("name lan0")
            here.name = "lan0"
            here.up()
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"still")
            assert listener.receive_data() == b"still"
            await settle()
            assert [i.name for i in sender.interfaces] == ["lan0"]

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_lost_announcements_do_not_stop_a_sender(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    def lost() -> int:
        head, *rows = here.host.read("netlink").splitlines()
        return sum(int(row.split()[head.split().index("Drops")]) for row in rows)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            commands = [f"addr {verb} 10.98.0.1/24 dev lo" for verb in ("add", "del")]
            while not lost():
                here.host.ip(*commands * 400)
            here.delete()
            here.create(with_index=here.index)
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive_data() == b"again"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_answers_are_heard_after_the_interface_was_re_created(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    async def main() -> None:
        async with (
            trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender,
            sender.open_answers() as answers,
        ):
            here.delete()
            await settle()
            here.create()
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"question")
            heard = listener.receive()
            listener.socket.sendto(b"answer", (heard.source, heard.source_port))
            with trio.fail_after(SOON):
                assert (await answers.receive()).data == b"answer"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_the_port_that_the_system_chose_stays_while_it_is_free(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            port = sender.local_address[1]
            here.delete()
            await settle()
            here.create()
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive().source_port == port

    here.host.run(main)


def _rename_and_delete(card: Card) -> None:
    # Down, for older kernels rename nothing that is up.
    card.host.ip(f"link set {card.name} down", f"link set {card.name} name lan0")
    card.host.ip("link delete lan0")


def _lose_the_address_and_delete(card: Card) -> None:
    card.host.ip(f"addr flush dev {card.name}")
    card.delete()


@pytest.mark.parametrize("lose", [_rename_and_delete, _lose_the_address_and_delete])
@pytest.mark.parametrize("choice", ["name", "address"])
def test_what_has_happened_before_it_went_does_not_matter(
    here: Card, there: Card, udp_port: int, choice: str, lose: Callable[[Card], None]
) -> None:
    """It was found by its name or its address, and is found again by that."""

    async def main() -> None:
        interface = "eth0" if choice == "name" else here.ipv4
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface=interface) as sender:
            lose(here)
            await settle()
            here.create()
            listener = there.listener(GROUP4, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive_data() == b"again"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_lack_of_descriptors_is_made_up_for(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            here.delete()
            await settle()
            here.create()
            with no_descriptor_left():
                await settle()
                with pytest.raises(SendError):
                    await sender.send(b"in vain")
            listener = there.listener(group, udp_port)
            with trio.fail_after(3 * SOON):
                await send_soon(sender, b"again")
            assert listener.receive_data() == b"again"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_the_source_port_stays_when_it_was_chosen(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", source_port=udp_port
        ) as sender:
            here.delete()
            await settle()
            here.create()
            listener = there.listener(group, udp_port)
            await send_soon(sender, b"again")
            assert listener.receive().source_port == udp_port

    here.host.run(main)


def test_many_re_creations_leave_nothing_behind(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interfaces="all") as sender:
            await settle()
            before = len(open_descriptors())
            tasks = trio.lowlevel.current_statistics().tasks_living
            for _ in range(20):
                here.delete()
                await settle()
                here.create()
                await send_soon(sender, b"again")
            await settle()
            assert len(open_descriptors()) == before
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            assert sender.statistics().datagrams_sent == 20

    here.host.run(main)
