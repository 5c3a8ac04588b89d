"""Joining and leaving groups on an open receiver, and what it says about its memberships."""

from ipaddress import ip_address

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, open_descriptors
from namespaces.opening import Hear
from namespaces.receiving import BOTH, EVERY_SCOPE, GROUP4, GROUP6, collect, everything

import trio_mcast
from trio_mcast import MulticastReceiver


def two_interfaces(network: Network) -> tuple[Card, Card, Card, Card]:
    host = network.host("middle")
    here0, there0 = network.link(host, "eth0", network.host("peer0"), "eth0")
    here1, there1 = network.link(host, "eth1", network.host("peer1"), "eth0")
    return here0, there0, here1, there1


def listed(receiver: trio_mcast.MulticastReceiver) -> set[tuple[str, str, str]]:
    """Group, interface and state of every membership."""
    return {(str(m.group), m.interface.name, m.state) for m in receiver.memberships()}


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_a_group_is_joined_and_left(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        for number in range(3):
            assert receiver.memberships() == ()
            assert not here.host.has_joined(group)
            await receiver.join(group)
            assert listed(receiver) == {(group, "eth0", "joined")}
            assert here.host.has_joined(group)
            talker.send(b"%d" % number)
            datagram = await receiver.receive()
            assert (datagram.data, str(datagram.group)) == (b"%d" % number, group)
            await receiver.leave(group)

    hear(main)


@pytest.mark.parametrize("group", BOTH)
def test_after_leaving_nothing_more_arrives(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)
    other_program = here.listener(group, udp_port)

    async def main() -> None:
        descriptors = open_descriptors()
        async with trio_mcast.open_receiver(group, "233.252.0.9", port=udp_port) as receiver:
            await receiver.leave(group)
            talker.send(b"too late")
            assert other_program.receive_data() == b"too late"
            there.talker("233.252.0.9", udp_port).send(b"marker")
            assert [d.data for d in await collect(receiver, 1)] == [b"marker"]
            assert await everything(receiver) == []
        closed = set(descriptors) - set(open_descriptors())
        assert closed == set()

    here.host.run(main)


def test_what_was_read_before_leaving_can_still_be_taken(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(b"a", b"b")
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert receiver.statistics().datagrams_buffered == 2
        await receiver.leave(GROUP4)
        assert [d.data for d in await collect(receiver, 2)] == [b"a", b"b"]

    hear(main, GROUP4)


@pytest.mark.parametrize("group", BOTH)
def test_joined_lasts_as_long_as_its_block(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with receiver.joined(group):
            assert listed(receiver) == {(group, "eth0", "joined")}
            talker.send(b"inside")
            assert (await receiver.receive()).data == b"inside"
        assert receiver.memberships() == ()
        assert not here.host.has_joined(group)

    hear(main)


def test_a_block_of_joined_is_left_by_an_exception_too(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def fail(receiver: trio_mcast.MulticastReceiver) -> None:
        async with receiver.joined(GROUP4):
            raise KeyError("mine")

    async def main() -> None:
        async with trio_mcast.open_receiver(port=udp_port) as receiver:
            with pytest.raises(KeyError, match="mine"):
                await fail(receiver)
            assert receiver.memberships() == ()
            assert not here.host.has_joined(GROUP4)

    here.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_the_same_group_is_joined_again_on_another_interface(
    network: Network, udp_port: int, group: str
) -> None:
    here0, there0, here1, there1 = two_interfaces(network)
    talkers = {"eth0": there0.talker(group, udp_port), "eth1": there1.talker(group, udp_port)}

    async def heard(receiver: trio_mcast.MulticastReceiver) -> list[str]:
        for name, talker in talkers.items():
            talker.send(name.encode())
        datagrams = await everything(receiver)
        assert all(d.interface.name == d.data.decode() for d in datagrams)
        return sorted(d.interface.name for d in datagrams)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            assert await heard(receiver) == ["eth0"]
            await receiver.join(group, interfaces="eth1")
            assert listed(receiver) == {(group, "eth0", "joined"), (group, "eth1", "joined")}
            assert await heard(receiver) == ["eth0", "eth1"]
            await receiver.leave(group, interfaces="eth0")
            assert listed(receiver) == {(group, "eth1", "joined")}
            assert not here0.host.has_joined(group, "eth0")
            assert here1.host.has_joined(group, "eth1")
            assert await heard(receiver) == ["eth1"]
            await receiver.join(group, interfaces=[here0.index])
            assert await heard(receiver) == ["eth0", "eth1"]
            await receiver.leave(group)
            assert receiver.memberships() == ()
            assert await heard(receiver) == []

    here0.host.run(main)


def test_joined_on_one_interface_leaves_the_other_alone(network: Network, udp_port: int) -> None:
    here0, _, _, _ = two_interfaces(network)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as receiver:
            async with receiver.joined(GROUP4, interfaces="eth1"):
                assert len(receiver.memberships()) == 2
            assert listed(receiver) == {(GROUP4, "eth0", "joined")}

    here0.host.run(main)


def test_a_receiver_joins_many_groups_one_after_the_other(
    here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    groups = [f"233.252.0.{number}" for number in range(1, 61)]
    talkers = [there.talker(group, udp_port) for group in groups]

    async def main(receiver: MulticastReceiver) -> None:
        for group in groups:
            await receiver.join(group)
        for talker in talkers:
            talker.send(talker.group.encode())
        datagrams = await collect(receiver, 60)
        assert sorted(str(d.group) for d in datagrams) == sorted(groups)
        assert all(str(d.group) == d.data.decode() for d in datagrams)
        for group in groups[1:]:
            await receiver.leave(group)
        assert listed(receiver) == {(groups[0], "eth0", "joined")}
        assert here.host.groups("eth0") & set(map(ip_address, groups)) == {ip_address(groups[0])}

    hear(main)


@pytest.mark.parametrize(
    ("group", "error"),
    [
        ("nonsense", trio_mcast.AddressError),
        ("192.0.2.1", trio_mcast.AddressError),
        ("fe80::1", trio_mcast.AddressError),
        ("232.1.2.3", ValueError),
        ("ff3e::4d43:1", ValueError),
        ("ff12::1%nosuch", trio_mcast.InterfaceNotFoundError),
        (None, TypeError),
    ],
)
def test_a_wrong_group_is_refused_and_changes_nothing(
    there: Card, hear: Hear, udp_port: int, group: object, error: type[Exception]
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        before = open_descriptors(), receiver.memberships()
        with pytest.raises(error):
            await receiver.join(group)
        with pytest.raises(error):
            async with receiver.joined(group):
                pytest.fail("it joined")
        assert (open_descriptors(), receiver.memberships()) == before
        talker.send(b"still works")
        assert (await receiver.receive()).data == b"still works"

    hear(main, GROUP4)


@pytest.mark.parametrize(
    ("interfaces", "error"),
    [
        ("nosuch", trio_mcast.InterfaceNotFoundError),
        (9999, trio_mcast.InterfaceNotFoundError),
        ("203.0.113.77", trio_mcast.InterfaceNotFoundError),
        ([], ValueError),
        (["eth0", "nosuch"], trio_mcast.InterfaceNotFoundError),
        (1.5, TypeError),
    ],
)
def test_a_wrong_interface_is_refused_and_changes_nothing(
    network: Network, udp_port: int, interfaces: object, error: type[Exception]
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            before = open_descriptors(), receiver.memberships()
            with pytest.raises(error):
                await receiver.join("233.252.0.2", interfaces=interfaces)
            assert (open_descriptors(), receiver.memberships()) == before
            assert not here.host.has_joined("233.252.0.2")

    here.host.run(main)


def test_leaving_what_was_not_joined_changes_nothing(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        before = receiver.memberships()
        with pytest.raises((trio_mcast.MulticastError, ValueError, LookupError)):
            await receiver.leave("233.252.0.2")
        assert receiver.memberships() == before
        talker.send(b"still works")
        assert (await receiver.receive()).data == b"still works"

    hear(main, GROUP4)


@pytest.mark.parametrize("group", BOTH)
def test_joining_what_is_joined_already_never_delivers_twice(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        assert listed(receiver) == {(group, "eth0", "joined")}
        assert len(receiver.memberships()) == 1
        try:
            await receiver.join(group)
        except trio_mcast.MulticastError:
            pass  # to refuse is as good as to see that there is nothing to do
        assert len(receiver.memberships()) == 1
        talker.send(b"once")
        assert [d.data for d in await everything(receiver)] == [b"once"]

    hear(main, group, group)


def test_one_receivers_leaving_does_not_concern_another(
    here: Card, there: Card, udp_port: int
) -> None:
    talker = there.talker(GROUP6, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(GROUP6, port=udp_port) as one,
            trio_mcast.open_receiver(GROUP6, port=udp_port) as two,
        ):
            await one.leave(GROUP6)
            assert here.host.has_joined(GROUP6)
            talker.send(b"hello")
            assert (await two.receive()).data == b"hello"

    here.host.run(main)


# --- memberships() --------------------------------------------------------------------------------


def test_memberships_tell_everything_about_themselves(
    here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    async def main(receiver: MulticastReceiver) -> None:
        await receiver.join(GROUP6)
        memberships = receiver.memberships()
        assert isinstance(memberships, tuple)
        by_group = {str(m.group): m for m in memberships}
        assert by_group.keys() == {GROUP4, GROUP6}
        for membership in memberships:
            assert isinstance(membership, trio_mcast.MembershipStatus)
            assert membership.port == udp_port
            assert membership.interface.name == "eth0"
            assert membership.interface.index == here.index
            assert membership.state == "joined"
            assert membership.error is None
            with pytest.raises(AttributeError):
                membership.state = "failed"
        assert by_group[GROUP4].mode == "include"
        assert by_group[GROUP4].sources == (ip_address(there.ipv4),)
        assert by_group[GROUP6].mode == "exclude"
        assert by_group[GROUP6].sources == ()

    hear(main, GROUP4, sources=[there.ipv4])


def test_a_zone_restricts_a_group_to_its_interface(network: Network, udp_port: int) -> None:
    here0, there0, here1, there1 = two_interfaces(network)
    group = "ff02::1234"
    talkers = {"eth0": there0.talker(group, udp_port), "eth1": there1.talker(group, udp_port)}

    async def main() -> None:
        for zone in ("eth0", str(here0.index)):
            async with trio_mcast.open_receiver(f"{group}%{zone}", port=udp_port) as receiver:
                assert listed(receiver) == {(group, "eth0", "joined")}
                for name, talker in talkers.items():
                    talker.send(name.encode())
                assert [d.data for d in await everything(receiver)] == [b"eth0"]
        async with trio_mcast.open_receiver(
            f"{group}%eth0", f"{group}%eth1", GROUP4, port=udp_port
        ) as receiver:
            assert listed(receiver) == {
                (group, "eth0", "joined"),
                (group, "eth1", "joined"),
                (GROUP4, "eth0", "joined"),
                (GROUP4, "eth1", "joined"),
            }
            for name, talker in talkers.items():
                talker.send(name.encode())
            datagrams = await everything(receiver)
            assert sorted(d.data.decode() for d in datagrams) == ["eth0", "eth1"]
            assert all(d.interface.name == d.data.decode() for d in datagrams)

    assert here1.host is here0.host
    here0.host.run(main)
