"""Choosing whom to hear: source-specific multicast and source filters."""

from ipaddress import ip_address

import pytest
import trio
from namespaces.network import Card, Network, Talker
from namespaces.opening import Hear
from namespaces.receiving import (
    EVERY_SCOPE,
    GROUP4,
    GROUP6,
    SOURCE_SPECIFIC,
    SOURCE_SPECIFIC4,
    SOURCE_SPECIFIC6,
    collect,
    everything,
)

import trio_mcast
from trio_mcast import MulticastReceiver


class Senders:
    """A receiving host and three senders of one group on its network: one, two, three."""

    def __init__(self, network: Network, group: str, port: int) -> None:
        self.here, there = network.pair()
        self.group = group
        self.addresses = [address_on(there, group, number) for number in (1, 2, 3)]
        self.one, self.two, self.three = self.addresses
        self._talkers: list[Talker] = [
            there.talker(group, port, source=address) for address in self.addresses
        ]

    async def heard_by(self, receiver: trio_mcast.MulticastReceiver) -> list[str]:
        """Let each of the three send something. Returns who of them is heard."""
        for talker, name in zip(self._talkers, ("one", "two", "three"), strict=True):
            talker.send(name.encode())
        return [d.data.decode() for d in await everything(receiver)]


def address_on(card: Card, group: str, number: int) -> str:
    if ":" in group:
        address, prefix = f"{card.ipv6}{number}", "/64"
    else:
        address, prefix = f"{card.ipv4}{number}", "/24"
    card.add_address(address + prefix)
    return address


def many_sources(card: Card, group: str, count: int) -> tuple[list[str], str]:
    """Give a card so many more addresses, and one. Returns them."""
    if ":" in group:
        found = [str(ip_address(f"fd77:0:0:1:a::{n:x}")) for n in range(1, count + 2)]
        card.host.ip(*(f"addr add {source}/64 dev {card.name} nodad" for source in found))
    else:
        found = [f"10.77.1.{number}" for number in range(100, 101 + count)]
        card.host.ip(*(f"addr add {source}/24 dev {card.name}" for source in found))
    return found[:-1], found[-1]


GROUPS = [*SOURCE_SPECIFIC, GROUP4, "ff12::4d43:1", GROUP6]


@pytest.mark.parametrize("group", [*SOURCE_SPECIFIC, "ff32::4d43:1", *EVERY_SCOPE])
def test_only_the_named_sources_are_heard(network: Network, udp_port: int, group: str) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[senders.one]
        ) as receiver:
            assert await senders.heard_by(receiver) == ["one"]
            (membership,) = receiver.memberships()
            assert membership.sources == (ip_address(senders.one),)
            assert membership.mode == "include"
            assert membership.state == "joined"
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=(senders.three, ip_address(senders.two))
        ) as receiver:
            assert await senders.heard_by(receiver) == ["two", "three"]
            (membership,) = receiver.memberships()
            assert set(membership.sources) == {ip_address(senders.two), ip_address(senders.three)}

    senders.here.host.run(main)


@pytest.mark.parametrize("group", GROUPS)
def test_a_source_named_twice_counts_once(network: Network, udp_port: int, group: str) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[senders.one, ip_address(senders.one)]
        ) as receiver:
            assert await senders.heard_by(receiver) == ["one"]
            assert receiver.memberships()[0].sources == (ip_address(senders.one),)

    senders.here.host.run(main)


def test_sources_of_both_families_apply_to_the_groups_of_their_own(
    there: Card, hear: Hear, udp_port: int
) -> None:
    wanted = {group: address_on(there, group, 1) for group in SOURCE_SPECIFIC}
    unwanted = {group: address_on(there, group, 2) for group in SOURCE_SPECIFIC}

    async def main(receiver: MulticastReceiver) -> None:
        for addresses in (unwanted, wanted):
            for group, address in addresses.items():
                there.talker(group, udp_port, source=address).send(address.encode())
        datagrams = await collect(receiver, 2) + await everything(receiver)
        assert sorted(d.data.decode() for d in datagrams) == sorted(wanted.values())
        assert {m.group: m.sources for m in receiver.memberships()} == {
            ip_address(group): (ip_address(address),) for group, address in wanted.items()
        }

    hear(main, *SOURCE_SPECIFIC, sources=list(wanted.values()))


@pytest.mark.parametrize("group", ["232.0.0.1", "232.255.255.255", "ff3e::1", "ff32::8000:1"])
def test_source_specific_groups_need_a_source(network: Network, udp_port: int, group: str) -> None:
    here, _there = network.pair()

    async def main() -> None:
        with pytest.raises(ValueError, match=group):
            async with trio_mcast.open_receiver(group, port=udp_port):
                pytest.fail("it opened")
        async with trio_mcast.open_receiver(port=udp_port) as receiver:
            with pytest.raises(ValueError, match=group):
                await receiver.join(group)
            assert receiver.memberships() == ()

    here.host.run(main)


@pytest.mark.parametrize(
    ("groups", "sources"),
    [
        ((GROUP4, GROUP6), ["192.0.2.1"]),
        ((GROUP4, GROUP6), ["fd00::1"]),
        ((SOURCE_SPECIFIC4, SOURCE_SPECIFIC6), ["192.0.2.1"]),
        ((SOURCE_SPECIFIC4, SOURCE_SPECIFIC6), ["fd00::1"]),
    ],
)
def test_no_group_may_be_left_without_a_source_when_there_are_some(
    network: Network, udp_port: int, groups: tuple[str, str], sources: list[str]
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        with pytest.raises(ValueError):
            async with trio_mcast.open_receiver(*groups, port=udp_port, sources=sources):
                pytest.fail("it opened")

    here.host.run(main)


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
def test_join_takes_sources_of_its_own(network: Network, udp_port: int, group: str) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(port=udp_port) as receiver:
            await receiver.join(group, sources=[senders.two])
            assert await senders.heard_by(receiver) == ["two"]
            await receiver.leave(group)
            assert await senders.heard_by(receiver) == []
            async with receiver.joined(group, sources=[senders.one, senders.three]):
                assert await senders.heard_by(receiver) == ["one", "three"]
            assert await senders.heard_by(receiver) == []

    senders.here.host.run(main)


# --- Changing the filter --------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_sources_are_added_and_removed(network: Network, udp_port: int, group: str) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[senders.one]
        ) as receiver:
            receiver.add_source(group, senders.two)
            assert await senders.heard_by(receiver) == ["one", "two"]
            assert set(receiver.memberships()[0].sources) == {
                ip_address(senders.one),
                ip_address(senders.two),
            }
            receiver.remove_source(group, senders.one)
            assert await senders.heard_by(receiver) == ["two"]
            assert receiver.memberships()[0].sources == (ip_address(senders.two),)

    senders.here.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_sources_are_blocked_and_unblocked(network: Network, udp_port: int, group: str) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            assert await senders.heard_by(receiver) == ["one", "two", "three"]
            assert receiver.memberships()[0].mode == "exclude"
            assert receiver.memberships()[0].sources == ()
            receiver.block_source(group, senders.one)
            receiver.block_source(group, ip_address(senders.two))
            assert await senders.heard_by(receiver) == ["three"]
            assert receiver.memberships()[0].mode == "exclude"
            assert set(receiver.memberships()[0].sources) == {
                ip_address(senders.one),
                ip_address(senders.two),
            }
            receiver.unblock_source(group, senders.one)
            assert await senders.heard_by(receiver) == ["one", "three"]
            assert receiver.memberships()[0].sources == (ip_address(senders.two),)

    senders.here.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_the_whole_filter_is_replaced_at_once(network: Network, udp_port: int, group: str) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            receiver.set_sources(group, [senders.one, senders.two])
            assert await senders.heard_by(receiver) == ["one", "two"]
            assert receiver.memberships()[0].mode == "include"
            receiver.set_sources(group, [senders.two], mode="exclude")
            assert await senders.heard_by(receiver) == ["one", "three"]
            assert receiver.memberships()[0].mode == "exclude"
            assert receiver.memberships()[0].sources == (ip_address(senders.two),)
            receiver.set_sources(group, [], mode="exclude")
            assert await senders.heard_by(receiver) == ["one", "two", "three"]
            receiver.set_sources(group, [senders.three], mode="include")
            assert await senders.heard_by(receiver) == ["three"]
            assert receiver.memberships()[0].state == "joined"

    senders.here.host.run(main)


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_mixing_the_modes_is_refused_and_changes_nothing(
    network: Network, udp_port: int, group: str
) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            before = receiver.memberships()
            with pytest.raises(trio_mcast.MulticastError):
                receiver.add_source(group, senders.one)
            with pytest.raises(trio_mcast.MulticastError):
                receiver.remove_source(group, senders.one)
            assert receiver.memberships() == before
            assert await senders.heard_by(receiver) == ["one", "two", "three"]
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[senders.one]
        ) as receiver:
            before = receiver.memberships()
            with pytest.raises(trio_mcast.MulticastError):
                receiver.block_source(group, senders.one)
            with pytest.raises(trio_mcast.MulticastError):
                receiver.unblock_source(group, senders.one)
            assert receiver.memberships() == before
            assert await senders.heard_by(receiver) == ["one"]

    senders.here.host.run(main)


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
def test_the_filter_of_a_source_specific_group_cannot_become_open_to_all(
    network: Network, udp_port: int, group: str
) -> None:
    senders = Senders(network, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[senders.one]
        ) as receiver:
            with pytest.raises((ValueError, trio_mcast.MulticastError)):
                receiver.set_sources(group, [], mode="exclude")
            assert await senders.heard_by(receiver) == ["one"]

    senders.here.host.run(main)


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
@pytest.mark.parametrize("wrong", ["nonsense", "233.252.0.9", "ff15::9", "other family"])
def test_a_wrong_source_is_refused_and_changes_nothing(
    network: Network, udp_port: int, group: str, wrong: str
) -> None:
    senders = Senders(network, group, udp_port)
    if wrong == "other family":
        wrong = "192.0.2.1" if group == GROUP6 else "fd00::1"

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=[senders.one]
        ) as receiver:
            before = receiver.memberships()
            for change in (
                lambda: receiver.add_source(group, wrong),
                lambda: receiver.set_sources(group, [senders.two, wrong]),
                lambda: receiver.set_sources(group, [wrong], mode="exclude"),
            ):
                with pytest.raises(ValueError, match=wrong):
                    change()
            with pytest.raises(ValueError):
                receiver.set_sources(group, [senders.two], mode="nonsense")
            assert receiver.memberships() == before
            assert await senders.heard_by(receiver) == ["one"]

    senders.here.host.run(main)


def test_a_filter_of_a_group_that_was_not_joined_cannot_be_changed(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            for change in (
                lambda: receiver.set_sources("233.252.0.2", ["192.0.2.1"]),
                lambda: receiver.block_source("233.252.0.2", "192.0.2.1"),
            ):
                with pytest.raises((trio_mcast.MulticastError, ValueError, LookupError)):
                    change()
            assert [str(m.group) for m in receiver.memberships()] == [GROUP4]

    here.host.run(main)


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_a_filter_change_holds_on_every_interface_of_the_group(
    network: Network, udp_port: int, group: str
) -> None:
    host = network.host()
    talkers = []
    for number in (0, 1):
        _here, there = network.link(
            host, f"eth{number}", network.host(f"peer{number}"), "eth0", ipv4=True
        )
        for label in ("wanted", "blocked"):
            source = address_on(there, group, 1 if label == "wanted" else 2)
            talkers.append((label, source, there.talker(group, udp_port, source=source)))

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            for label, source, _talker in talkers:
                if label == "blocked":
                    receiver.block_source(group, source)
            for label, _source, talker in talkers:
                talker.send(label.encode())
            datagrams = await everything(receiver)
            assert sorted(d.data for d in datagrams) == [b"wanted", b"wanted"]
            assert {d.interface.name for d in datagrams} == {"eth0", "eth1"}

    host.run(main)


@pytest.mark.parametrize(("group", "count"), [(GROUP4, 25), (GROUP6, 140), ("232.1.2.3", 25)])
def test_a_filter_may_be_longer_than_the_kernel_takes_for_one_socket(
    there: Card, hear: Hear, udp_port: int, group: str, count: int
) -> None:
    """Linux takes 10 sources for IPv4 (igmp_max_msf) and 64 for IPv6 (mld_max_msf) by default."""
    sources, stranger = many_sources(there, group, count)
    talkers = [there.talker(group, udp_port, source=source) for source in [*sources, stranger]]

    async def main(receiver: MulticastReceiver) -> None:
        assert len(receiver.memberships()) == 1
        assert len(receiver.memberships()[0].sources) == count
        for talker in talkers:
            talker.send(b"x", b"y")
        heard = [(d.source[0], d.data) for d in await everything(receiver)]
        assert sorted(heard) == sorted((s, data) for s in sources for data in (b"x", b"y"))
        statistics = receiver.statistics()
        assert statistics.datagrams_received == 2 * count
        assert len(statistics.memberships) == 1

    hear(main, group, sources=sources)


@pytest.mark.parametrize(("group", "count"), [(GROUP4, 25), (GROUP6, 140)])
def test_more_senders_may_be_blocked_than_the_kernel_takes_for_one_socket(
    there: Card, hear: Hear, udp_port: int, group: str, count: int
) -> None:
    sources, stranger = many_sources(there, group, count)
    talkers = [there.talker(group, udp_port, source=source) for source in [*sources, stranger]]

    async def main(receiver: MulticastReceiver) -> None:
        receiver.set_sources(group, sources, mode="exclude")
        for talker in talkers:
            talker.send(b"x")
        assert [d.source[0] for d in await everything(receiver)] == [stranger]
        assert len(receiver.memberships()[0].sources) == count
        receiver.unblock_source(group, sources[-1])
        for talker in talkers:
            talker.send(b"x")
        heard = {d.source[0] for d in await everything(receiver)}
        assert heard == {stranger, sources[-1]}

    hear(main, group)


@pytest.mark.parametrize("mode", ["include", "exclude"])
def test_a_filter_grows_and_shrinks_past_the_kernels_limit(
    there: Card, hear: Hear, udp_port: int, mode: str
) -> None:
    sources, _stranger = many_sources(there, GROUP4, 24)
    talkers = [there.talker(GROUP4, udp_port, source=source) for source in sources]

    async def main(receiver: MulticastReceiver) -> None:
        named = set(sources[:6])
        receiver.set_sources(GROUP4, list(named), mode=mode)

        async def check() -> None:
            for talker in talkers:
                talker.send(b"x")
            heard = sorted(d.source[0] for d in await everything(receiver))
            assert heard == sorted(named if mode == "include" else set(sources) - named)
            (membership,) = receiver.memberships()
            assert {str(s) for s in membership.sources} == named
            assert (membership.mode, membership.state) == (mode, "joined")

        await check()
        for source in sources[6:]:
            if mode == "include":
                receiver.add_source(GROUP4, source)
            else:
                receiver.block_source(GROUP4, source)
            named.add(source)
            await check()
        for source in sources[1:]:
            if mode == "include":
                receiver.remove_source(GROUP4, source)
            else:
                receiver.unblock_source(GROUP4, source)
            named.remove(source)
            await check()

    hear(main, GROUP4)


def test_more_sources_than_the_kernel_takes_is_an_error_that_leaves_the_filter_as_it_was(
    network: Network, udp_port: int
) -> None:
    senders = Senders(network, GROUP4, udp_port)
    senders.here.host.sysctl("net.ipv4.igmp_max_msf", 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            GROUP4, port=udp_port, sources=[senders.one, senders.two]
        ) as receiver:
            before = receiver.memberships()
            with pytest.raises((OSError, trio_mcast.MulticastError)):
                receiver.add_source(GROUP4, senders.three)
            with pytest.raises((OSError, trio_mcast.MulticastError)):
                receiver.set_sources(GROUP4, senders.addresses)
            assert receiver.memberships() == before
            assert await senders.heard_by(receiver) == ["one", "two"]

    senders.here.host.run(main)


def test_a_changed_filter_survives_being_received_from_in_between(
    network: Network, udp_port: int
) -> None:
    """A consumer that waits the whole time is not disturbed by changes of the filter."""
    senders = Senders(network, GROUP4, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):
            heard: list[str] = []

            async def consume() -> None:
                async for datagram in receiver:
                    heard.append(datagram.data.decode())

            nursery.start_soon(consume)
            await trio.testing.wait_all_tasks_blocked()
            for blocked in senders.addresses:
                receiver.block_source(GROUP4, blocked)
                await senders.heard_by(receiver)
            assert heard == ["two", "three", "three"]
            nursery.cancel_scope.cancel()

    senders.here.host.run(main)
