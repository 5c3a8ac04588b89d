"""Source filters of open receivers, as the kernel has them: /proc/net/mcfilter and mcfilter6."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
import trio.testing
from namespaces.network import Card, Host, Network, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import BOTH, SOURCE_SPECIFIC, everything
from patience import SOON

import trio_mcast
from trio_mcast import MulticastReceiver
from trio_mcast._base.source_filter import FilterMode

Address = IPv4Address | IPv6Address
Filter = tuple[set[Address], set[Address]]

EVERY_KIND = [*BOTH, *SOURCE_SPECIFIC]


def kernels_filter(host: Host, group: str, interface: str = "eth0") -> Filter:
    """Whom this host includes and whom it excludes, over all sockets that have the group."""
    including: set[Address] = set()
    excluding: set[Address] = set()
    for line in host.read("mcfilter6" if ":" in group else "mcfilter").splitlines():
        words = line.split()
        if words[1] != interface:
            continue
        if ":" in group:
            listed, source = (IPv6Address(bytes.fromhex(word)) for word in words[2:4])
        elif words[2] == "MCA":
            continue
        else:
            listed, source = (IPv4Address(int(word, 16)) for word in words[2:4])
        if str(listed) == group:
            if int(words[4], 0):
                including.add(source)
            if int(words[5], 0):
                excluding.add(source)
    return including, excluding


def some_sources(group: str, count: int, first: int = 100) -> list[str]:
    """Addresses in the first network that nobody has."""
    if ":" in group:
        return [f"fd77:0:0:1::{n:x}" for n in range(first, first + count)]
    return [f"10.77.1.{n}" for n in range(first, first + count)]


def addresses(sources: list[str]) -> set[Address]:
    return {ip_address(source) for source in sources}


def listed_filter(receiver: MulticastReceiver) -> Filter:
    """The same, as the receiver's only membership tells it."""
    (membership,) = receiver.memberships()
    sources = set(membership.sources)
    return (sources, set()) if membership.mode == "include" else (set(), sources)


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)


def peer_address(here: Card, group: str) -> str:
    assert here.peer is not None
    return here.peer.ipv6 if ":" in group else here.peer.ipv4


def send_from_peer(here: Card, group: str, port: int, data: bytes) -> None:
    assert here.peer is not None
    here.peer.talker(group, port, source=peer_address(here, group)).send(data)


# --- One change after the other -------------------------------------------------------------------


@pytest.mark.parametrize("group", EVERY_KIND)
def test_what_is_included_is_what_the_kernel_includes(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()
    one, two, three = some_sources(group, 3)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, sources=one) as receiver:

            def check(*sources: str) -> None:
                expected = (addresses(list(sources)), set())
                assert kernels_filter(here.host, group) == expected
                assert listed_filter(receiver) == expected
                assert receiver.memberships()[0].state == "joined"

            check(one)
            receiver.add_source(group, two)
            check(one, two)
            receiver.remove_source(group, one)
            check(two)
            receiver.set_sources(group, [one, three])
            check(one, three)
            receiver.set_sources(group, two)
            check(two)

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_what_is_excluded_is_what_the_kernel_excludes(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()
    one, two, three = some_sources(group, 3)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:

            def check(*sources: str) -> None:
                expected = (set[Address](), addresses(list(sources)))
                assert kernels_filter(here.host, group) == expected
                assert listed_filter(receiver) == expected
                assert receiver.memberships()[0].state == "joined"

            check()
            receiver.block_source(group, one)
            check(one)
            receiver.block_source(group, two)
            check(one, two)
            receiver.unblock_source(group, one)
            check(two)
            receiver.set_sources(group, [one, three], mode="exclude")
            check(one, three)
            receiver.set_sources(group, [], mode="exclude")
            check()

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_set_sources_turns_the_mode_around_both_ways(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()
    one, two = some_sources(group, 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            stream = receiver.events()
            receiver.set_sources(group, [one], mode="include")
            assert kernels_filter(here.host, group) == (addresses([one]), set())
            receiver.set_sources(group, [two], mode="exclude")
            assert kernels_filter(here.host, group) == (set(), addresses([two]))
            events = [await stream.receive() for _ in range(2)]
            assert [(e.mode, list(map(str, e.sources))) for e in events] == [
                ("include", [one]),
                ("exclude", [two]),
            ]

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_each_interface_has_a_filter_of_its_own(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()
    network.link(here.host, "eth1", network.host("c"), "eth0")
    one, two = some_sources(group, 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            receiver.block_source(group, one, interfaces="eth0")
            receiver.set_sources(group, [two], interfaces="eth1")
            assert kernels_filter(here.host, group, "eth0") == (set(), addresses([one]))
            assert kernels_filter(here.host, group, "eth1") == (addresses([two]), set())
            modes = {m.interface.name: m.mode for m in receiver.memberships()}
            assert modes == {"eth0": "exclude", "eth1": "include"}

    here.host.run(main)


# --- Changes that fail ----------------------------------------------------------------------------


def _refused_changes(group: str) -> dict[str, tuple[str, Callable[[MulticastReceiver], None]]]:
    """Each with the mode in which it does not fit."""
    one, two = some_sources(group, 2)
    return {
        "add while excluding": ("exclude", lambda r: r.add_source(group, two)),
        "remove while excluding": ("exclude", lambda r: r.remove_source(group, one)),
        "block while including": ("include", lambda r: r.block_source(group, two)),
        "unblock while including": ("include", lambda r: r.unblock_source(group, one)),
        "block what is blocked": ("exclude", lambda r: r.block_source(group, one)),
        "unblock what is not blocked": ("exclude", lambda r: r.unblock_source(group, two)),
        "add what is there": ("include", lambda r: r.add_source(group, one)),
        "remove what is not there": ("include", lambda r: r.remove_source(group, two)),
        "remove the last": ("include", lambda r: r.remove_source(group, one)),
        "include nobody": ("exclude", lambda r: r.set_sources(group, [])),
    }


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("name", _refused_changes(BOTH[0]))
def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(
    network: Network, udp_port: int, group: str, name: str
) -> None:
    """Linux would silently turn some memberships around by a change of the other mode."""
    here, _there = network.pair()
    mode, change = _refused_changes(group)[name]
    one = some_sources(group, 1)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            receiver.set_sources(group, one, mode=mode)
            before = (kernels_filter(here.host, group), receiver.memberships())
            stream = receiver.events()
            with pytest.raises(trio_mcast.MulticastError):
                change(receiver)
            assert (kernels_filter(here.host, group), receiver.memberships()) == before
            with pytest.raises(trio.TooSlowError), trio.fail_after(0):
                await stream.receive()

    here.host.run(main)


def test_a_change_that_one_interface_refuses_is_taken_back_on_the_others(
    network: Network, udp_port: int
) -> None:
    """eth1 includes enough already to have the kernel refuse one more source."""
    here, _there = network.pair()
    network.link(here.host, "eth1", network.host("c"), "eth0")
    group = BOTH[0]
    here.host.sysctl("net.ipv4.igmp_max_msf", 3)
    one, two, three, four = some_sources(group, 4)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, sources=one) as receiver:
            receiver.set_sources(group, [one, two, three], interfaces="eth1")

            def seen() -> object:
                return (
                    kernels_filter(here.host, group, "eth0"),
                    kernels_filter(here.host, group, "eth1"),
                    receiver.memberships(),
                )

            before = seen()
            with pytest.raises(trio_mcast.SocketSetupError) as caught:
                receiver.add_source(group, four)
            assert caught.value.interface.name == "eth1"
            assert "igmp_max_msf" in "".join(caught.value.__notes__)
            assert seen() == before

    here.host.run(main)


# --- Long filters ---------------------------------------------------------------------------------

# More than Linux takes for a socket by default: 10 for IPv4, 64 for IPv6.
MANY = {BOTH[0]: 25, BOTH[1]: 70}


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("heard_number", [0, -1])
def test_more_sources_than_a_socket_takes_are_included(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str, heard_number: int
) -> None:
    sources = some_sources(group, MANY[group])
    heard, unheard = sources[heard_number], some_sources(group, 1, first=240)[0]
    for address in (heard, unheard):
        there.add_address(address + ("/64" if ":" in group else "/24"))
    wanted = there.talker(group, udp_port, source=heard)
    unwanted = there.talker(group, udp_port, source=unheard)

    async def main(receiver: MulticastReceiver) -> None:

        async def check(expected: list[str]) -> None:
            assert kernels_filter(here.host, group) == (addresses(expected), set())
            assert listed_filter(receiver) == (addresses(expected), set())
            assert len(receiver.memberships()) == 1
            unwanted.send(b"unwanted")
            wanted.send(b"wanted")
            await settle()
            data = [d.data for d in await everything(receiver)]
            assert data == ([b"wanted"] if heard in expected else [])

        await check(sources)
        fewer = [s for s in sources if s != heard]
        receiver.remove_source(group, heard)
        await check(fewer)
        receiver.add_source(group, heard)
        await check([*fewer, heard])
        receiver.set_sources(group, [heard])
        await check([heard])
        receiver.set_sources(group, sources)
        await check(sources)

    hear(main, group, sources=sources)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("blocked_number", [0, -1])
def test_more_sources_than_a_socket_takes_are_excluded(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str, blocked_number: int
) -> None:
    """The kernel excludes as many as it takes; the rest is dropped after reading."""
    sources = some_sources(group, MANY[group])
    blocked, free = sources[blocked_number], some_sources(group, 1, first=240)[0]
    for address in (blocked, free):
        there.add_address(address + ("/64" if ":" in group else "/24"))
    unwanted = there.talker(group, udp_port, source=blocked)
    wanted = there.talker(group, udp_port, source=free)

    async def main(receiver: MulticastReceiver) -> None:

        async def check(expected: list[str]) -> None:
            including, excluding = kernels_filter(here.host, group)
            assert including == set()
            assert excluding <= addresses(expected)
            assert len(excluding) == min(len(expected), 64 if ":" in group else 10)
            assert listed_filter(receiver) == (set(), addresses(expected))
            unwanted.send(b"unwanted")
            wanted.send(b"wanted")
            data = [d.data for d in await everything(receiver)]
            assert data == ([b"wanted"] if blocked in expected else [b"unwanted", b"wanted"])

        await check([])
        receiver.set_sources(group, sources, mode="exclude")
        await check(sources)
        receiver.unblock_source(group, blocked)
        fewer = [s for s in sources if s != blocked]
        await check(fewer)
        receiver.block_source(group, blocked)
        await check([*fewer, blocked])
        receiver.set_sources(group, [], mode="exclude")
        await check([])

    hear(main, group)


# --- Interfaces that go and come back -------------------------------------------------------------


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("mode", ["include", "exclude"])
@pytest.mark.parametrize("count", ["few", "many"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "every interface"])
@pytest.mark.parametrize("keeps_index", [True, False], ids=["same index", "new index"])
def test_a_filter_holds_again_after_its_interface_was_re_created(
    network: Network,
    udp_port: int,
    group: str,
    mode: FilterMode,
    count: str,
    named: bool,
    keeps_index: bool,
) -> None:
    here, _there = network.pair()
    sources = some_sources(group, MANY[group] if count == "many" else 3)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0" if named else None
        ) as receiver:
            receiver.set_sources(group, sources, mode=mode)
            before = kernels_filter(here.host, group)
            assert any(before)
            here.delete()
            here.create(with_index=here.index if keeps_index else None)
            await wait_until_async(
                lambda: kernels_filter(here.host, group) == before,
                "the filter is in force again",
                patience=SOON,
            )
            await settle()
            (membership,) = receiver.memberships()
            assert membership.state == "joined"
            assert (membership.mode, set(membership.sources)) == (mode, addresses(sources))

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_filter_changed_while_its_interface_is_gone_holds_when_it_is_back(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()
    one, two, three = some_sources(group, 3)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0", sources=one
        ) as receiver:
            here.delete()
            await settle()
            receiver.add_source(group, two)
            receiver.add_source(group, three)
            receiver.remove_source(group, one)
            assert listed_filter(receiver) == (addresses([two, three]), set())
            assert receiver.memberships()[0].state == "waiting"
            here.create()
            await wait_until_async(
                lambda: kernels_filter(here.host, group) == (addresses([two, three]), set()),
                "the filter is in force",
                patience=SOON,
            )

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_filter_changed_before_the_deletion_was_noticed_holds_when_it_is_back(
    network: Network, udp_port: int, group: str
) -> None:
    """The change may be refused, as long as what is listed is what comes into force."""
    here, _there = network.pair()
    one, two = some_sources(group, 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0", sources=one
        ) as receiver:
            here.delete()
            try:
                receiver.add_source(group, two)
            except trio_mcast.SocketSetupError:
                assert listed_filter(receiver) == (addresses([one]), set())
            here.create()
            await wait_until_async(
                lambda: kernels_filter(here.host, group) == listed_filter(receiver),
                "the filter is in force",
                patience=SOON,
            )

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_an_interface_that_appears_later_gets_the_filter_as_it_is_then(
    network: Network, udp_port: int, group: str
) -> None:
    home = network.host("a")
    one, two = some_sources(group, 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            receiver.set_sources(group, [one, two])
            receiver.remove_source(group, two)
            network.link(home, "eth0", network.host("b"), "eth0")
            await wait_until_async(
                lambda: kernels_filter(home, group) == (addresses([one]), set()),
                "the filter is in force",
                patience=SOON,
            )
            assert listed_filter(receiver) == (addresses([one]), set())

    home.run(main)


@pytest.mark.parametrize("group", EVERY_KIND)
def test_datagrams_that_had_arrived_survive_a_change_of_the_filter(
    network: Network, udp_port: int, group: str
) -> None:
    """Also one that takes other sockets."""
    here, _there = network.pair()
    peer = peer_address(here, group)
    others = some_sources(group, 80)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, sources=peer) as receiver:
            witness = here.listener(group, udp_port, source=peer)
            for number, sources in enumerate([[peer, others[0]], [peer, *others], [peer]]):
                data = f"{number}".encode()
                send_from_peer(here, group, udp_port, data)
                assert witness.receive_data() == data
                receiver.set_sources(group, sources)
            send_from_peer(here, group, udp_port, b"3")
            assert [(await receiver.receive()).data for _ in range(4)] == [b"0", b"1", b"2", b"3"]
            assert await everything(receiver) == []

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_what_is_left_behind_unwanted_datagrams_survives_a_change_of_the_filter(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    """A whole batch of what is only dropped after reading does not look like the end."""
    blocked = some_sources(group, MANY[group])
    there.add_address(blocked[-1] + ("/64" if ":" in group else "/24"))
    unwanted = there.talker(group, udp_port, source=blocked[-1])

    async def main(receiver: MulticastReceiver) -> None:
        receiver.set_sources(group, blocked, mode="exclude")
        witness = here.listener(group, udp_port)
        unwanted.send(*[b"unwanted"] * 200)
        send_from_peer(here, group, udp_port, b"wanted")
        while witness.receive_data() != b"wanted":
            pass
        receiver.set_sources(group, [peer_address(here, group)])
        assert [d.data for d in await everything(receiver)] == [b"wanted"]

    hear(main, group)


def test_a_change_everywhere_holds_also_where_interfaces_had_been_told_one_by_one(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()
    network.link(here.host, "eth1", network.host("elsewhere"), "eth0")
    one, two = some_sources("233.252.0.1", 2)

    async def main() -> None:
        async with trio_mcast.open_receiver("233.252.0.1", port=udp_port, sources=one) as receiver:
            for name in ("eth0", "eth1"):
                receiver.add_source("233.252.0.1", two, interfaces=name)
            receiver.remove_source("233.252.0.1", two)
            assert [m.sources for m in receiver.memberships()] == [(ip_address(one),)] * 2

    here.host.run(main)
