"""Receivers that stay open while their interfaces fail, go and come back.

Each fault happens in two ways: `noticed`, where the receiver has time to see every step of it, and
`at once`, where its event loop is busy until everything is over: then it finds an interface that
may look as if nothing had happened.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest
import trio
import trio.testing
from namespaces.network import (
    Card,
    Host,
    Network,
    Talker,
    no_descriptor_left,
    open_descriptors,
    wait_until,
    wait_until_async,
)
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, GROUP6, SOURCE_SPECIFIC, collect, everything
from patience import SOON

import trio_mcast
from trio_mcast import MembershipStatus, MulticastReceiver


async def settle() -> None:
    """Let the receiver see all that the kernel has announced so far, and act."""
    await trio.testing.wait_all_tasks_blocked(0.005)


# --- Faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that happens to an interface, and how it is undone.

    Attributes:
      state4, state6: what a membership of a group of that IP version says meanwhile, if its
        interface was named. "gone": the same as "waiting", but unnamed ones are listed no longer
      rejoins4, rejoins6: whether the group has to be joined anew
    """

    strike: Callable[[Card], None]
    undo: Callable[[Card], None]
    state4: str
    state6: str
    rejoins4: bool = False
    rejoins6: bool = False

    def state(self, group: str) -> str:
        return self.state6 if ":" in group else self.state4

    def rejoins(self, group: str) -> bool:
        return self.rejoins6 if ":" in group else self.rejoins4


def _move_away(card: Card) -> None:
    card.home = card.host  # type: ignore[attr-defined]
    card.move_to(card.host.network.host("elsewhere"))


def _move_back(card: Card) -> None:
    card.move_to(card.home)  # type: ignore[attr-defined]
    card.up()


def _remove_addresses(card: Card) -> None:
    card.host.ip(
        f"addr del {card.ipv4}/24 dev {card.name}",
        f"addr del {card.ipv6}/64 dev {card.name}",
    )


def _switch_ipv6(card: Card, disabled: int) -> None:
    card.host.sysctl(f"net.ipv6.conf.{card.name}.disable_ipv6", disabled)


def _enable_ipv6(card: Card) -> None:
    _switch_ipv6(card, 0)
    card.up()


def _mtu_back(card: Card) -> None:
    card.set("mtu 1500")
    card.up()


FAULTS = {
    "switched off": Fault(Card.down, Card.up, "waiting", "waiting"),
    "deleted": Fault(Card.delete, Card.create, "gone", "gone", True, True),
    "deleted, index kept": Fault(
        Card.delete, lambda card: card.create(with_index=card.index), "gone", "gone", True, True
    ),
    "moved away": Fault(_move_away, _move_back, "gone", "gone", True, True),
    "MTU below 1280": Fault(
        lambda card: card.set("mtu 1200"), _mtu_back, "joined", "waiting", False, True
    ),
    "carrier lost": Fault(Card.unplug, Card.plug, "joined", "joined", True, False),
    "addresses removed": Fault(_remove_addresses, Card.up, "joined", "joined"),
    "IPv6 disabled": Fault(lambda card: _switch_ipv6(card, 1), _enable_ipv6, "joined", "joined"),
}

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
every_pace = pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "at once"])
EVERY_KIND = [*BOTH, *SOURCE_SPECIFIC]


# --- What is asked of a receiver ------------------------------------------------------------------


def talker_beside(here: Card, group: str, port: int) -> Talker:
    """Somebody at the other end of the cable, whose address is the one that never changes."""
    assert here.peer is not None
    return here.peer.talker(group, port, source=peer_address(here, group))


def peer_address(here: Card, group: str) -> str:
    assert here.peer is not None
    return here.peer.ipv6 if ":" in group else here.peer.ipv4


def sources(here: Card, group: str) -> list[str]:
    return [peer_address(here, group)] if group in SOURCE_SPECIFIC else []


def send_and_see_it_arrive(here: Card, group: str, port: int, data: bytes) -> None:
    """Have a datagram in the kernel's buffers of `here`, while the receiver's loop is busy."""
    source = peer_address(here, group) if group in SOURCE_SPECIFIC else None
    witness = here.listener(group, port, source=source)
    talker_beside(here, group, port).send(data)
    assert witness.receive_data() == data
    witness.socket.close()


def states(receiver: MulticastReceiver) -> list[str]:
    return [m.state for m in receiver.memberships()]


def check_against_the_kernel(receiver: MulticastReceiver, host: Host) -> None:
    """What says that it is joined is joined, on the interface of that index and name."""
    for membership in receiver.memberships():
        if membership.state == "joined":
            name = membership.interface.name
            assert membership.group in host.groups(name), membership
            assert f": {name}: " in host.ip(f"-o link show {name}") or (
                f": {name}@" in host.ip(f"-o link show {name}")
            )
            assert host.ip(f"-o link show {name}").startswith(f"{membership.interface.index}: ")


async def wait_until_joined(receiver: MulticastReceiver, host: Host, group: str, name: str) -> None:
    """Until the receiver says so and the kernel too."""

    def is_joined() -> bool:
        states = [
            m.state
            for m in receiver.memberships()
            if (m.group, m.interface.name) == (ip_address(group), name)
        ]
        return states == ["joined"] and host.has_joined(group, name)

    await wait_until_async(is_joined, f"{group} is joined on {name}", patience=SOON)


def drain(stream: trio_mcast.EventStream[MembershipStatus]) -> list[MembershipStatus]:
    """The events so far."""
    events = list(stream._events)
    stream._events.clear()
    return events


# --- Every fault ----------------------------------------------------------------------------------


@every_fault
@pytest.mark.parametrize("group", EVERY_KIND)
@pytest.mark.parametrize("named", [True, False], ids=["named", "every interface"])
@every_pace
def test_a_receiver_hears_again_after_its_interface_was(
    network: Network, udp_port: int, fault: Fault, group: str, named: bool, noticed: bool
) -> None:
    """... and what had arrived before is delivered, once; memberships and events tell the truth."""
    here, _there = network.pair()
    home = here.host

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group,
            port=udp_port,
            interfaces="eth0" if named else None,
            sources=sources(here, group),
        ) as receiver:
            stream = receiver.events()
            (before,) = receiver.memberships()
            assert before.state == "joined"
            send_and_see_it_arrive(here, group, udp_port, b"before")
            fault.strike(here)
            if noticed:
                await settle()
                check_against_the_kernel(receiver, home)
                expected = fault.state(group)
                if expected == "gone":
                    assert states(receiver) == (["waiting"] if named else [])
                else:
                    assert states(receiver) == [expected]
                seen = [e.state for e in drain(stream)]
                assert seen[-1:] == ["waiting" if expected == "gone" else expected][: len(seen)]
                assert bool(seen) or expected == "joined"
            fault.undo(here)
            await wait_until_joined(receiver, home, group, "eth0")
            await settle()
            check_against_the_kernel(receiver, home)
            (after,) = receiver.memberships()
            assert (after.group, after.port, after.sources, after.mode) == (
                before.group,
                before.port,
                before.sources,
                before.mode,
            )
            assert after.interface.index == here.index
            assert after.error is None
            events = drain(stream)
            if fault.rejoins(group) or (noticed and fault.state(group) != "joined"):
                assert events, "nobody was told"
            assert not events or events[-1] == after
            talker_beside(here, group, udp_port).send(b"after")
            heard = [(await receiver.receive()).data, (await receiver.receive()).data]
            assert heard == [b"before", b"after"]
            assert await everything(receiver) == []
            assert receiver.statistics().datagrams_received == 2
            assert receiver.statistics().dropped_by_kernel == 0

    home.run(main)


@every_fault
@every_pace
def test_one_interface_in_trouble_does_not_disturb_the_others(
    network: Network, udp_port: int, fault: Fault, noticed: bool
) -> None:
    here, _there = network.pair()
    quiet, _ = network.link(here.host, "eth1", network.host("c"), "eth0")
    home = here.host

    async def main() -> None:
        async with trio_mcast.open_receiver(*BOTH, port=udp_port) as receiver:
            stream = receiver.events()
            fault.strike(here)
            if noticed:
                await settle()
                for group in BOTH:
                    talker_beside(quiet, group, udp_port).send(b"meanwhile")
                heard = [(await receiver.receive()).data for _ in BOTH]
                assert heard == [b"meanwhile"] * 2
            fault.undo(here)
            for group in BOTH:
                await wait_until_joined(receiver, home, group, "eth0")
            await settle()
            for card in (here, quiet):
                for group in BOTH:
                    talker_beside(card, group, udp_port).send(b"after")
            assert [d.data for d in await collect(receiver, 4)] == [b"after"] * 4
            assert await everything(receiver) == []
            assert states(receiver) == ["joined"] * 4
            assert "eth1" not in {e.interface.name for e in drain(stream)}

    home.run(main)


# --- Behind a switch ------------------------------------------------------------------------------


def plug_into_forgetful_switch(network: Network) -> tuple[Card, Callable[[str], bool]]:
    """An interface at a switch that nobody asks for groups, and whether it knows of one.

    The host reports a change by IGMP once, not twice as by default (robustness, RFC 3376 8.1): the
    second time comes at random, up to a second later, and may make up for a first one that was not
    heard. For MLD that cannot be set for a single namespace.
    """
    switch = network.switch(snooping=True)
    host = network.host("a")
    host.sysctl("net.ipv4.igmp_qrv", 1)  # interfaces take it over when they are made
    here = switch.plug(host)
    return here, lambda group: group in switch.host.command("bridge", "mdb", "show")


@pytest.mark.parametrize("group", BOTH)
@every_pace
def test_a_switch_that_forgot_a_port_is_told_again_without_asking(
    network: Network, udp_port: int, group: str, noticed: bool
) -> None:
    here, switch_knows = plug_into_forgetful_switch(network)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            await wait_until_async(lambda: switch_knows(group), "the switch has learnt it")
            here.unplug()
            assert not switch_knows(group), "a port without carrier is forgotten"
            if noticed:
                await settle()
            here.plug()
            await wait_until_async(
                lambda: switch_knows(group), "the switch knows it again", patience=SOON
            )
            assert states(receiver) == ["joined"]

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_group_joined_without_carrier_is_reported_when_there_is_one(
    network: Network, udp_port: int, group: str
) -> None:
    here, switch_knows = plug_into_forgetful_switch(network)
    here.unplug()

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0"):
            await settle()
            assert not switch_knows(group)
            here.plug()
            await wait_until_async(
                lambda: switch_knows(group), "the switch knows the group", patience=SOON
            )

    here.host.run(main)


# --- Names ----------------------------------------------------------------------------------------


def rename(card: Card, name: str) -> None:
    card.down()
    card.set(f"name {name}")
    card.name = name
    card.up()


@pytest.mark.parametrize("group", EVERY_KIND)
@pytest.mark.parametrize("named", [True, False], ids=["named", "every interface"])
@every_pace
def test_a_renamed_interface_stays_heard_and_shows_its_new_name(
    network: Network, udp_port: int, group: str, named: bool, noticed: bool
) -> None:
    """It is the index that counts."""
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group,
            port=udp_port,
            interfaces="eth0" if named else None,
            sources=sources(here, group),
        ) as receiver:
            stream = receiver.events()
            send_and_see_it_arrive(here, group, udp_port, b"before")
            if noticed:
                await settle()
            rename(here, "lan0")
            await wait_until_joined(receiver, here.host, group, "lan0")
            check_against_the_kernel(receiver, here.host)
            assert len(receiver.memberships()) == 1
            assert drain(stream)[-1] == receiver.memberships()[0]
            talker_beside(here, group, udp_port).send(b"after")
            before, after = await collect(receiver, 2)
            assert (before.data, after.data) == (b"before", b"after")
            assert after.interface.name == "lan0"
            assert await everything(receiver) == []

    here.host.run(main)


def test_an_interface_that_takes_over_a_name_is_heard_too(network: Network, udp_port: int) -> None:
    """What was joined as eth0 is followed by its index; the name, meanwhile, means another."""
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as receiver:
            rename(here, "lan0")
            await wait_until_joined(receiver, here.host, GROUP4, "lan0")
            heir, _ = network.link(here.host, "eth0", network.host("c"), "eth0")
            await wait_until_joined(receiver, here.host, GROUP4, "eth0")
            for card in (here, heir):
                talker_beside(card, GROUP4, udp_port).send(card.name.encode())
            assert {d.data for d in await collect(receiver, 2)} == {b"lan0", b"eth0"}
            assert await everything(receiver) == []

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@every_pace
def test_another_interface_that_gets_the_index_is_not_taken_for_the_one_that_was_named(
    network: Network, udp_port: int, group: str, noticed: bool
) -> None:
    here, _there = network.pair()
    index = here.index

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            here.delete()
            if noticed:
                await settle()
            here.name = "eth9"
            here.create(with_index=index)
            await settle()
            assert not here.host.has_joined(group, "eth9")
            (membership,) = receiver.memberships()
            assert (membership.interface.name, membership.state) == ("eth0", "waiting")
            here.delete()
            here.name = "eth0"
            here.create()
            await wait_until_joined(receiver, here.host, group, "eth0")
            assert len(receiver.memberships()) == 1

    here.host.run(main)


# --- Interfaces that turn up ----------------------------------------------------------------------


@pytest.mark.parametrize("group", EVERY_KIND)
@every_pace
def test_a_new_interface_is_joined_when_none_is_named(
    network: Network, udp_port: int, group: str, noticed: bool
) -> None:
    home, other = network.host("a"), network.host("b")

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, sources=["10.77.1.2", "fd77:0:0:1::2"]
        ) as receiver:
            stream = receiver.events()
            assert receiver.memberships() == ()
            if noticed:
                await settle()
            here, _there = network.link(home, "eth0", other, "eth0")
            await wait_until_joined(receiver, home, group, "eth0")
            assert drain(stream)[-1] == receiver.memberships()[0]
            talker_beside(here, group, udp_port).send(b"hello")
            assert (await receiver.receive()).data == b"hello"

    home.run(main)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("selector", ["10.77.1.0/24", "fd77:0:0:1::/64", "10.77.1.1"])
def test_an_interface_with_a_new_index_is_joined_when_the_selection_covers_it(
    network: Network, udp_port: int, group: str, selector: str
) -> None:
    """Not so an index that was named: another index is another interface."""
    here, _there = network.pair()
    index = here.index

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces=[selector, index]
        ) as receiver:
            here.delete()
            await settle()
            assert states(receiver) == ["waiting"]
            here.create()
            await wait_until_joined(receiver, here.host, group, "eth0")
            assert [m.interface.index for m in receiver.memberships()] == [here.index]
            talker_beside(here, group, udp_port).send(b"hello")
            assert (await receiver.receive()).data == b"hello"

    here.host.run(main)


@pytest.mark.parametrize("form", [int, str, "zone"])
def test_an_index_that_was_named_is_heard_again_only_under_that_index(
    network: Network, udp_port: int, form: Any
) -> None:
    """However it is written: as a number, as text, as a zone."""
    here, _there = network.pair()
    index = here.index
    group = f"{GROUP4}%{index}" if form == "zone" else GROUP4
    interfaces = None if form == "zone" else form(index)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces=interfaces
        ) as receiver:
            here.delete()
            here.create()
            await settle()
            assert states(receiver) == ["waiting"]
            assert not here.host.has_joined(GROUP4)
            here.delete()
            here.create(with_index=index)
            await wait_until_joined(receiver, here.host, GROUP4, "eth0")
            assert states(receiver) == ["joined"]
            talker_beside(here, GROUP4, udp_port).send(b"hello")
            assert (await receiver.receive()).data == b"hello"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("selector", ["10.99.0.7", "10.99.0.0/24", "fd99::7", "fd99::/64"])
@every_pace
def test_an_interface_is_joined_when_the_address_named_turns_up_there(
    network: Network, udp_port: int, group: str, selector: str, noticed: bool
) -> None:
    """Everywhere else, what was joined for an address that has gone is kept."""
    here, _there = network.pair()
    spare, _ = network.link(here.host, "eth1", network.host("c"), "eth0")
    address = "fd99::7/64" if ":" in selector else "10.99.0.7/24"
    here.add_address(address)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces=selector) as receiver:
            assert [m.interface.name for m in receiver.memberships()] == ["eth0"]
            here.host.ip(f"addr del {address} dev eth0")
            if noticed:
                await settle()
                assert states(receiver) == ["joined"]
            spare.add_address(address)
            await wait_until_joined(receiver, here.host, group, "eth1")
            for card in (here, spare):
                talker_beside(card, group, udp_port).send(card.name.encode())
            assert {d.data for d in await collect(receiver, 2)} == {b"eth0", b"eth1"}
            assert await everything(receiver) == []

    here.host.run(main)


def test_an_interface_that_gets_its_first_ipv4_address_is_joined(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair(ipv4=False)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            await settle()
            assert receiver.memberships() == ()
            here.add_address("10.99.0.1/24")
            await wait_until_joined(receiver, here.host, GROUP4, "eth0")

    here.host.run(main)


def test_an_interface_on_which_ipv6_is_switched_on_is_joined(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair(ipv6=False)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP6, port=udp_port) as receiver:
            await settle()
            assert receiver.memberships() == ()
            _switch_ipv6(here, 0)
            await wait_until_joined(receiver, here.host, GROUP6, "eth0")

    here.host.run(main)


def test_a_zone_in_the_group_is_followed_as_a_name(network: Network, udp_port: int) -> None:
    here, _there = network.pair()
    network.link(here.host, "eth1", network.host("c"), "eth0")
    group = "ff12::4d43:1"

    async def main() -> None:
        async with trio_mcast.open_receiver(f"{group}%eth0", port=udp_port) as receiver:
            here.delete()
            await settle()
            assert states(receiver) == ["waiting"]
            here.create()
            await wait_until_joined(receiver, here.host, group, "eth0")
            assert len(receiver.memberships()) == 1

    here.host.run(main)


# --- What the program does meanwhile --------------------------------------------------------------


@pytest.mark.parametrize("group", BOTH)
def test_a_group_that_was_left_while_its_interface_was_gone_does_not_come_back(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            async with receiver.joined("233.252.0.9", interfaces="eth0"):
                here.delete()
                await settle()
                assert states(receiver) == ["waiting", "waiting"]
            await receiver.leave(group)
            assert receiver.memberships() == ()
            here.create()
            await settle()
            assert receiver.memberships() == ()
            assert not here.host.has_joined(group)
            assert not here.host.has_joined("233.252.0.9")

    here.host.run(main)


def test_a_block_of_joined_ends_a_membership_that_was_joined_anew(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(port=udp_port) as receiver:
            async with receiver.joined(GROUP4):
                here.delete()
                here.create(with_index=here.index)
                await wait_until_joined(receiver, here.host, GROUP4, "eth0")
            assert receiver.memberships() == ()
            assert not here.host.has_joined(GROUP4)

    here.host.run(main)


@pytest.mark.parametrize("overflow", ["wait", "drop-oldest"])
@every_pace
def test_what_had_arrived_before_a_deletion_is_delivered_however_much_and_late(
    network: Network, udp_port: int, overflow: str, noticed: bool
) -> None:
    """A receiver that is full leaves it in the kernel, at a socket that hears nothing new."""
    here, _there = network.pair()
    payloads = [f"{n}".encode() for n in range(300)]

    async def main() -> None:
        async with trio_mcast.open_receiver(
            GROUP4,
            port=udp_port,
            interfaces="eth0",
            overflow=overflow,
            max_buffered=1 if overflow == "wait" else 1000,
        ) as receiver:
            witness = here.listener(GROUP4, udp_port)
            talker_beside(here, GROUP4, udp_port).send(*payloads)
            assert [witness.receive_data() for _ in payloads] == payloads
            witness.socket.close()
            here.delete()
            if noticed:
                await settle()
                assert states(receiver) == ["waiting"]
            here.create(with_index=here.index)
            await wait_until_joined(receiver, here.host, GROUP4, "eth0")
            heard = [d.data for d in await collect(receiver, 300)]
            assert heard == payloads
            talker_beside(here, GROUP4, udp_port).send(b"after")
            assert (await receiver.receive()).data == b"after"
            assert await everything(receiver) == []
            statistics = receiver.statistics()
            assert (statistics.datagrams_received, statistics.dropped_by_kernel) == (301, 0)

    here.host.run(main)


def test_a_task_that_waits_for_a_datagram_is_not_disturbed(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(*BOTH, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):
            heard = []

            async def consume() -> None:
                async for datagram in receiver:
                    heard.append(datagram.data)

            nursery.start_soon(consume)
            for fault in FAULTS.values():
                await settle()
                fault.strike(here)
                await settle()
                fault.undo(here)
                for group in BOTH:
                    await wait_until_joined(receiver, here.host, group, "eth0")
                await settle()
                for group in BOTH:
                    talker_beside(here, group, udp_port).send(b"after")
                await wait_until_async(lambda: len(heard) == 2, "both were heard")
                heard.clear()
            nursery.cancel_scope.cancel()

    here.host.run(main)


def test_run_receiver_follows_as_well(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](8)
        async with trio.open_nursery() as nursery:
            listener = await nursery.start(
                functools.partial(
                    trio_mcast.run_receiver, send_channel, GROUP4, port=udp_port, interfaces="eth0"
                )
            )
            here.delete()
            await settle()
            assert [m.state for m in listener.memberships()] == ["waiting"]
            here.create()
            await wait_until_joined(listener, here.host, GROUP4, "eth0")
            talker_beside(here, GROUP4, udp_port).send(b"after")
            assert [d.data for d in await receive_channel.receive()] == [b"after"]
            nursery.cancel_scope.cancel()

    here.host.run(main)


# --- Who shares the host --------------------------------------------------------------------------


@pytest.mark.usefixtures("ends_of_groups")
@pytest.mark.parametrize("group", BOTH)
@every_pace
def test_two_receivers_of_a_group_both_hear_again_and_one_can_be_closed(
    network: Network, udp_port: int, group: str, noticed: bool
) -> None:
    """Linux takes a stale membership's end for that of a new one on an interface of its index."""
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as one:
            async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as two:
                here.delete()
                if noticed:
                    await settle()
                here.create(with_index=here.index)
                await settle()
                for receiver in (one, two):
                    await wait_until_joined(receiver, here.host, group, "eth0")
                talker_beside(here, group, udp_port).send(b"to both")
                for receiver in (one, two):
                    assert (await receiver.receive()).data == b"to both"
            await wait_until_joined(one, here.host, group, "eth0")
            talker_beside(here, group, udp_port).send(b"to one")
            assert (await one.receive()).data == b"to one"
            assert await everything(one) == []

    here.host.run(main)


@pytest.mark.usefixtures("ends_of_groups")
@pytest.mark.parametrize("group", BOTH)
@every_pace
def test_another_programs_stale_membership_does_no_harm(
    network: Network, udp_port: int, group: str, noticed: bool
) -> None:
    """A program that knows nothing of the re-creation ends after it."""
    here, _there = network.pair()

    async def main() -> None:
        stale = here.listener(group, udp_port)
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            here.delete()
            if noticed:
                await settle()
            here.create(with_index=here.index)
            await settle()
            stale.socket.close()
            await wait_until_joined(receiver, here.host, group, "eth0")
            talker_beside(here, group, udp_port).send(b"after")
            assert (await receiver.receive()).data == b"after"
            assert await everything(receiver) == []

    here.host.run(main)


@pytest.mark.usefixtures("ends_of_groups")
@pytest.mark.parametrize("group", BOTH)
def test_every_end_is_noticed_however_many_there_are(
    network: Network, udp_port: int, group: str
) -> None:
    """Each stale membership that ends takes the one away that was joined after the last."""
    here, _there = network.pair()

    async def main() -> None:
        stale = [here.listener(group, udp_port) for _ in range(3)]
        async with (
            trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver,
            trio_mcast.open_sender(group, port=udp_port, interface="eth0"),
        ):
            here.delete()
            here.create(with_index=here.index)
            await wait_until_joined(receiver, here.host, group, "eth0")
            for listener in stale:
                listener.socket.close()
                await wait_until_joined(receiver, here.host, group, "eth0")
                talker_beside(here, group, udp_port).send(b"after")
                assert (await receiver.receive()).data == b"after"

    here.host.run(main)


@pytest.mark.usefixtures("ends_of_groups")
def test_who_does_not_follow_is_told_of_the_end(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        stale = here.listener(GROUP4, udp_port)
        here.delete()
        here.create(with_index=here.index)
        async with trio_mcast.open_receiver(
            GROUP4, port=udp_port, interfaces="eth0", follow=False
        ) as receiver:
            stale.socket.close()
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(SOON):
                await receiver.receive()
            assert states(receiver) == ["waiting"]

    here.host.run(main)


# --- Refusals -------------------------------------------------------------------------------------


def test_a_refusal_is_the_memberships_state_and_is_over_when_the_reason_is(
    network: Network, udp_port: int
) -> None:
    """Nothing announces that there is enough again, so it is tried once a second: hence 1 s."""
    here, _there = network.pair()
    other, _ = network.link(here.host, "eth1", network.host("c"), "eth0")

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            stream = receiver.events()
            here.host.sysctl("net.ipv4.igmp_max_memberships", 0)
            here.delete()
            here.create(with_index=here.index)
            await settle()
            by_name = {m.interface.name: m for m in receiver.memberships()}
            assert by_name["eth1"].state == "joined"
            failed = by_name["eth0"]
            assert failed.state == "failed"
            assert isinstance(failed.error, trio_mcast.SocketSetupError)
            assert failed.error.errno == 105  # ENOBUFS
            assert "igmp_max_memberships" in "".join(failed.error.__notes__)
            assert drain(stream)[-1] == failed
            talker_beside(other, GROUP4, udp_port).send(b"meanwhile")
            assert (await receiver.receive()).data == b"meanwhile"
            here.host.sysctl("net.ipv4.igmp_max_memberships", 20)
            await wait_until_joined(receiver, here.host, GROUP4, "eth0")
            assert drain(stream)[-1].state == "joined"
            talker_beside(here, GROUP4, udp_port).send(b"after")
            assert (await receiver.receive()).data == b"after"

    here.host.run(main)


def test_a_membership_whose_interface_is_gone_for_good_does_not_end_the_receiver(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(*BOTH, port=udp_port, interfaces="eth0") as receiver:
            here.delete()
            with trio.move_on_after(0.1) as scope:
                await receiver.receive()
            assert scope.cancelled_caught
            assert states(receiver) == ["waiting", "waiting"]
            assert {str(m.group) for m in receiver.memberships()} == set(BOTH)

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("named", [True, False], ids=["named", "every interface"])
def test_a_lack_of_descriptors_while_an_interface_is_re_created_is_made_up_for(
    network: Network,
    udp_port: int,
    group: str,
    named: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even the interfaces can be listed then, so nothing is known of them."""
    monkeypatch.setattr("trio_mcast._machine.feed._POLL_SECONDS", 0.1)
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0" if named else None
        ) as receiver:
            here.delete()
            here.create()
            with no_descriptor_left():
                await settle()
            await wait_until_joined(receiver, here.host, group, "eth0")
            talker_beside(here, group, udp_port).send(b"after")
            assert (await receiver.receive()).data == b"after"
            assert len(receiver.memberships()) == 1

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_group_that_is_left_and_joined_again_is_joined_once(hear: Hear, group: str) -> None:
    """The kernel announces the end of the first membership, which is not that of the second."""

    async def main(receiver: MulticastReceiver) -> None:
        told: list[str] = []

        async def watch() -> None:
            async for status in receiver.events():
                told.append(status.state)

        await receiver.join(group)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await settle()
            for _ in range(20):
                told.clear()
                await receiver.leave(group)
                await receiver.join(group)
                await settle()
                assert told == ["joined"]
            nursery.cancel_scope.cancel()

    hear(main)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("named", [True, False], ids=["named", "every interface"])
def test_without_follow_a_membership_that_is_lost_does_not_say_joined(
    network: Network, udp_port: int, group: str, named: bool
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0" if named else None, follow=False
        ) as receiver:
            here.delete()
            await settle()
            assert "joined" not in states(receiver)
            here.create()
            await settle()
            assert "joined" not in states(receiver)
            assert not here.host.has_joined(group)

    here.host.run(main)


# --- Announcements that are lost ------------------------------------------------------------------


def lost_announcements(host: Host) -> int:
    """How many messages the kernel has dropped at netlink sockets of this host."""
    head, *rows = host.read("netlink").splitlines()
    column = head.split().index("Drops")
    return sum(int(row.split()[column]) for row in rows)


def flood_with_announcements(host: Host) -> None:
    """More than the buffer of any netlink socket of this host takes."""
    before = lost_announcements(host)

    def flood() -> bool:
        commands = [f"addr {verb} 10.98.0.1/24 dev lo" for verb in ("add", "del")]
        host.ip(*commands * 400)
        return lost_announcements(host) > before

    wait_until(flood, "announcements are lost")


@pytest.mark.parametrize("name", [f for f in FAULTS if FAULTS[f].rejoins4 or FAULTS[f].rejoins6])
@pytest.mark.parametrize("named", [True, False], ids=["named", "every interface"])
def test_lost_announcements_lead_to_joining_everything_anew(
    network: Network, udp_port: int, name: str, named: bool
) -> None:
    """The loop is busy while more happens than the kernel keeps for it, a fault among it."""
    fault = FAULTS[name]
    here, _there = network.pair()
    home = here.host

    async def main() -> None:
        async with trio_mcast.open_receiver(
            *BOTH, port=udp_port, interfaces="eth0" if named else None
        ) as receiver:
            for group in BOTH:
                send_and_see_it_arrive(here, group, udp_port, b"before")
            flood_with_announcements(home)
            fault.strike(here)
            fault.undo(here)
            for group in BOTH:
                await wait_until_joined(receiver, home, group, "eth0")
            await settle()
            check_against_the_kernel(receiver, home)
            assert len(receiver.memberships()) == 2
            for group in BOTH:
                talker_beside(here, group, udp_port).send(b"after")
            heard = [d.data for d in await collect(receiver, 4)]
            assert sorted(heard) == [b"after", b"after", b"before", b"before"]
            assert await everything(receiver) == []

    home.run(main)


def test_what_was_not_touched_while_announcements_were_lost_is_left_alone(
    network: Network, udp_port: int
) -> None:
    """More happens on the host than the kernel keeps for a busy loop, but none of it here."""
    here, _there = network.pair()
    home = here.host
    talkers = [talker_beside(here, group, udp_port) for group in BOTH]

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(*BOTH, port=udp_port, interfaces="eth0") as named,
            trio_mcast.open_receiver(*BOTH, port=udp_port) as unnamed,
        ):
            receivers = (named, unnamed)
            events = [receiver.events() for receiver in receivers]
            descriptors = open_descriptors()
            for _ in range(3):
                flood_with_announcements(home)
                await settle()
            for receiver, stream in zip(receivers, events, strict=True):
                assert states(receiver) == ["joined", "joined"]
                with trio.move_on_after(0.01) as scope:
                    status = await stream.receive()
                assert scope.cancelled_caught, f"told of {status}"
            assert open_descriptors() == descriptors, "no socket was exchanged"
            for talker in talkers:
                talker.send(b"still here")
            for receiver in receivers:
                assert len(await collect(receiver, 2)) == 2

    home.run(main)


def test_lost_announcements_of_a_deletion_are_made_up_for(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as named,
            trio_mcast.open_receiver(GROUP4, port=udp_port) as unnamed,
        ):
            flood_with_announcements(here.host)
            here.delete()
            await settle()
            assert states(named) == ["waiting"]
            assert states(unnamed) == []
            flood_with_announcements(here.host)
            here.create()
            for receiver in (named, unnamed):
                await wait_until_joined(receiver, here.host, GROUP4, "eth0")

    here.host.run(main)


def test_the_carrier_is_still_watched_after_announcements_were_lost(
    network: Network, udp_port: int
) -> None:
    """They are lost while there is no carrier; when it is back, the switch is to be told."""
    here, switch_knows = plug_into_forgetful_switch(network)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0"):
            await wait_until_async(lambda: switch_knows(GROUP4), "the switch has learnt it")
            here.unplug()
            await settle()
            flood_with_announcements(here.host)
            await settle()
            assert not switch_knows(GROUP4)
            here.plug()
            await wait_until_async(
                lambda: switch_knows(GROUP4), "the switch knows it again", patience=SOON
            )

    here.host.run(main)
