"""Which interfaces a receiver listens on, and what happens when some of them refuse."""

from ipaddress import ip_address, ip_interface

import pytest
import trio
from namespaces.network import Card, Network, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, GROUP6, everything

import trio_mcast
from trio_mcast import MulticastReceiver


def three_interfaces(network: Network) -> dict[str, Card]:
    """The cards of one host."""
    host = network.host("middle")
    return {
        name: network.link(host, name, network.host(f"peer of {name}"), "eth0")[0]
        for name in ("eth0", "eth1", "eth2")
    }


async def chosen(port: int, group: str, interfaces: object) -> list[str]:
    """The names of the interfaces that a receiver takes, checked against what it hears."""
    async with trio_mcast.open_receiver(group, port=port, interfaces=interfaces) as receiver:
        assert all(m.state == "joined" for m in receiver.memberships())
        return sorted(m.interface.name for m in receiver.memberships())


@pytest.mark.parametrize("group", BOTH)
def test_interfaces_are_chosen_by_all_that_identifies_them(
    network: Network, udp_port: int, group: str
) -> None:
    cards = three_interfaces(network)
    one, two = cards["eth1"], cards["eth2"]

    async def main() -> None:
        (listed,) = (i for i in trio_mcast.list_interfaces() if i.name == "eth1")
        for selector in (
            "eth1",
            one.index,
            str(one.index),
            one.ipv4,
            one.ipv6,
            one.link_local,
            ip_address(one.ipv4),
            ip_address(one.ipv6),
            "10.77.2.0/24",
            "10.77.2.9/24",
            "fd77:0:0:2::/64",
            ip_interface("10.77.2.0/24").network,
            ip_interface("fd77:0:0:2::/64").network,
            listed,
        ):
            assert await chosen(udp_port, group, selector) == ["eth1"], selector
            assert await chosen(udp_port, group, [selector]) == ["eth1"], selector
            both = ["eth1", "eth2"]
            assert await chosen(udp_port, group, [selector, two.index]) == both, selector
        assert await chosen(udp_port, group, ["eth1", one.index, one.ipv4]) == ["eth1"]
        assert await chosen(udp_port, group, "10.77.0.0/16") == ["eth0", "eth1", "eth2"]
        assert await chosen(udp_port, group, "0.0.0.0/0") == ["eth0", "eth1", "eth2", "lo"]

    one.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_no_choice_means_every_interface_that_can(
    network: Network, udp_port: int, group: str
) -> None:
    """Up, multicast-capable, not loopback, and with what the family of the group needs."""
    host = network.host()
    network.link(host, "good", network.host("1"), "eth0")
    down, _ = network.link(host, "off", network.host("2"), "eth0")
    network.link(host, "only6", network.host("3"), "eth0", ipv4=False)
    network.link(host, "only4", network.host("4"), "eth0", ipv6=False)
    incapable, _ = network.link(host, "incapable", network.host("5"), "eth0")
    down.down()
    incapable.set("multicast off")
    expected = ["good", "only4"] if group == GROUP4 else ["good", "only6"]

    async def main() -> None:
        assert await chosen(udp_port, group, None) == expected

    host.run(main)


def test_ipv6_needs_no_address_but_the_link_local_one(
    here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    here.host.ip(f"addr del {here.ipv6}/64 dev eth0")

    async def main(receiver: MulticastReceiver) -> None:
        there.talker(GROUP6, udp_port).send(b"hello")
        assert (await receiver.receive()).data == b"hello"

    hear(main, GROUP6)


@pytest.mark.parametrize("group", BOTH)
def test_an_address_carried_by_two_interfaces_selects_both(
    network: Network, udp_port: int, group: str
) -> None:
    cards = three_interfaces(network)
    cards["eth0"].add_address("10.99.0.1/24")
    cards["eth2"].add_address("10.99.0.1/24")

    async def main() -> None:
        assert await chosen(udp_port, group, "10.99.0.1") == ["eth0", "eth2"]

    cards["eth0"].host.run(main)


def test_a_link_local_address_with_a_zone_selects_one_of_several(
    network: Network, udp_port: int
) -> None:
    cards = three_interfaces(network)
    for name in ("eth0", "eth1"):
        cards[name].add_address("fe80::77/64")

    async def main() -> None:
        assert await chosen(udp_port, GROUP4, "fe80::77") == ["eth0", "eth1"]
        assert await chosen(udp_port, GROUP4, "fe80::77%eth1") == ["eth1"]

    cards["eth0"].host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_each_copy_says_by_which_of_three_interfaces_it_came(
    network: Network, udp_port: int, group: str
) -> None:
    cards = three_interfaces(network)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            for name, card in cards.items():
                assert card.peer is not None
                card.peer.talker(group, udp_port).send(name.encode())
            datagrams = await everything(receiver)
            assert sorted(d.data.decode() for d in datagrams) == sorted(cards)
            for datagram in datagrams:
                assert datagram.interface.name == datagram.data.decode()
                assert datagram.interface.index == cards[datagram.interface.name].index

    cards["eth0"].host.run(main)


def test_nothing_to_listen_on_is_an_error_unless_following(network: Network, udp_port: int) -> None:
    host = network.host()

    async def main() -> None:
        with pytest.raises(trio_mcast.MulticastError):
            async with trio_mcast.open_receiver(GROUP4, port=udp_port, follow=False):
                pytest.fail("it opened")
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, follow=True) as receiver:
            assert not [m for m in receiver.memberships() if m.state == "joined"]
            with pytest.raises(trio.WouldBlock):
                receiver.receive_nowait()

    host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_receiver_with_nothing_to_listen_on_joins_what_comes(
    network: Network, udp_port: int, group: str
) -> None:
    host = network.host()

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            assert receiver.memberships() == ()
            _, there = network.link(host, "eth0", network.host("peer"), "eth0")
            await wait_until_async(
                lambda: [m.state for m in receiver.memberships()] == ["joined"], "it has joined"
            )
            there.talker(group, udp_port).send(b"hello")
            datagram = await receiver.receive()
            assert (datagram.data, datagram.interface.name) == (b"hello", "eth0")

    host.run(main)


def test_a_named_interface_that_does_not_exist_is_an_error_even_when_following(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        for follow in (True, False):
            with pytest.raises(trio_mcast.InterfaceNotFoundError, match="nosuch"):
                async with trio_mcast.open_receiver(
                    GROUP4, port=udp_port, interfaces=["eth0", "nosuch"], follow=follow
                ):
                    pytest.fail("it opened")
        assert not here.host.has_joined(GROUP4)

    here.host.run(main)


def test_an_interface_that_refuses_is_a_failed_membership_among_good_ones(
    network: Network, udp_port: int
) -> None:
    """An MTU below 1280 takes IPv6 away from an interface: the kernel refuses to join there."""
    cards = three_interfaces(network)
    cards["eth1"].set("mtu 1000")
    good = cards["eth0"].peer
    assert good is not None

    async def main() -> None:
        async with trio_mcast.open_receiver(
            GROUP6, port=udp_port, interfaces=["eth0", "eth1"], follow=False
        ) as receiver:
            by_name = {m.interface.name: m for m in receiver.memberships()}
            assert by_name["eth0"].state == "joined"
            assert by_name["eth0"].error is None
            assert by_name["eth1"].state == "failed"
            assert isinstance(by_name["eth1"].error, OSError)
            good.talker(GROUP6, udp_port).send(b"hello")
            assert (await receiver.receive()).data == b"hello"

    cards["eth0"].host.run(main)


def test_an_interface_that_refuses_while_following_never_says_joined(
    network: Network, udp_port: int
) -> None:
    cards = three_interfaces(network)
    cards["eth1"].set("mtu 1000")

    async def main() -> None:
        async with trio_mcast.open_receiver(
            GROUP6, port=udp_port, interfaces=["eth0", "eth1"]
        ) as receiver:
            states = {m.interface.name: m.state for m in receiver.memberships()}
            assert states["eth0"] == "joined"
            assert states["eth1"] in ("failed", "waiting")

    cards["eth0"].host.run(main)


def test_when_all_interfaces_refuse_the_first_error_is_raised(
    network: Network, udp_port: int
) -> None:
    cards = three_interfaces(network)
    for name in ("eth0", "eth1"):
        cards[name].set("mtu 1000")

    async def main() -> None:
        with pytest.raises(trio_mcast.SocketSetupError) as caught:
            async with trio_mcast.open_receiver(
                GROUP6, port=udp_port, interfaces=["eth0", "eth1"], follow=False
            ):
                pytest.fail("it opened")
        assert caught.value.interface.name == "eth0"
        assert caught.value.group == ip_address(GROUP6)
        assert caught.value.errno
        assert caught.value.step

    cards["eth0"].host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_named_interface_that_is_down_is_heard_once_it_is_up(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    here.down()

    async def main(receiver: MulticastReceiver) -> None:
        assert [m.interface.name for m in receiver.memberships()] == ["eth0"]
        here.up()
        await wait_until_async(
            lambda: (
                here.host.has_joined(group)
                and [m.state for m in receiver.memberships()] == ["joined"]
            ),
            "the membership stands",
        )
        there.talker(group, udp_port).send(b"hello")
        assert (await receiver.receive()).data == b"hello"

    hear(main, group, interfaces="eth0")


def test_a_named_interface_without_an_ipv4_address_is_heard_all_the_same(
    network: Network, udp_port: int
) -> None:
    here, there = network.pair(ipv4=False)
    there.add_address("10.77.1.2/24")
    here.host.sysctl("net.ipv4.conf.all.rp_filter", 0)
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 0)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as receiver:
            there.talker(GROUP4, udp_port).send(b"hello")
            assert (await receiver.receive()).data == b"hello"

    here.host.run(main)


def test_join_takes_its_own_interfaces(network: Network, udp_port: int) -> None:
    cards = three_interfaces(network)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as receiver:
            await receiver.join("233.252.0.2", interfaces=["eth1", "eth2"])
            await receiver.join("233.252.0.3")
            assert sorted((str(m.group), m.interface.name) for m in receiver.memberships()) == [
                (GROUP4, "eth0"),
                ("233.252.0.2", "eth1"),
                ("233.252.0.2", "eth2"),
                ("233.252.0.3", "eth0"),
                ("233.252.0.3", "eth1"),
                ("233.252.0.3", "eth2"),
            ]

    cards["eth0"].host.run(main)
