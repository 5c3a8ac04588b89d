"""One feed of changes for all who follow interfaces, on machines that are made up."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

import trio_mcast.testing
from trio_mcast._base.interface import Interface
from trio_mcast._interfaces.following import Change, Event, LinkSeen
from trio_mcast._machine.announcement_socket import AnnouncementSocket
from trio_mcast._machine.feed import FeedShare, follow_interfaces
from trio_mcast.testing import make_interface
from trio_mcast.testing.machine import MemoryChanges, MemoryMachine

ETH0, ETH1 = make_interface("eth0", index=2), make_interface("eth1", index=3)


class WatchedMachine(MemoryMachine):
    """Counts what it is asked, and announces nothing if a test says so.

    Attributes:
      refusals: errors that listing the interfaces ends with, the next first
    """

    def __init__(self, *interfaces: Interface, announces: bool = True) -> None:
        super().__init__(interfaces)
        self.listings = 0
        self.opened = 0
        self.refusals: list[OSError] = []
        self._announces = announces

    def list_interfaces(self) -> tuple[Interface, ...]:
        self.listings += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return super().list_interfaces()

    def open_changes(self) -> MemoryChanges | None:  # type: ignore[override]
        self.opened += 1
        return super().open_changes() if self._announces else None


class SocketChanges(AnnouncementSocket):
    """Announced by a socket, as a kernel does: what somebody has read wakes nobody else."""

    is_complete = True

    def __init__(self) -> None:
        own, self.kernel = socket.socketpair()
        super().__init__(own)

    def _parse(self, data: bytes) -> list[Event]:
        return [LinkSeen(index) for index in data]

    def close(self) -> None:
        super().close()
        self.kernel.close()


class SocketMachine(WatchedMachine):
    def open_changes(self) -> SocketChanges:  # type: ignore[override]
        self.opened += 1
        self.announcements = SocketChanges()
        return self.announcements

    def say(self, *indexes: int) -> None:
        self.announcements.kernel.send(bytes(indexes))


async def wait_all(shares: list[FeedShare], take: Callable[[int, Change], None]) -> None:
    """Tasks that wait for their shares, until those are closed."""

    async def wait(number: int, share: FeedShare) -> None:
        with suppress(trio.ClosedResourceError):
            while True:
                take(number, await share.wait())

    async with trio.open_nursery() as nursery:
        for number, share in enumerate(shares):
            nursery.start_soon(wait, number, share)


async def test_everyone_is_told_and_the_machine_is_asked_once(nursery: trio.Nursery) -> None:
    machine = WatchedMachine(ETH0)
    shares = [follow_interfaces(machine) for _ in range(50)]
    assert (machine.opened, machine.listings) == (1, 1)
    told: list[tuple[int, tuple[Interface, ...]]] = []
    nursery.start_soon(wait_all, shares, lambda n, change: told.append((n, change.listing)))
    await trio.testing.wait_all_tasks_blocked()
    machine.set_interfaces((ETH0, ETH1))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(told) == [(number, (ETH0, ETH1)) for number in range(50)]
    assert machine.listings == 2
    nursery.cancel_scope.cancel()


async def test_when_the_one_that_reads_leaves_another_reads(nursery: trio.Nursery) -> None:
    """Cancelled, closed or both, in any order."""
    machine = WatchedMachine(ETH0)
    shares = [follow_interfaces(machine) for _ in range(6)]
    told: list[int] = []

    async def wait(number: int, scope: trio.CancelScope) -> None:
        with scope:
            try:
                while True:
                    await shares[number].wait()
                    told.append(number)
            except trio.ClosedResourceError:
                pass

    scopes = [trio.CancelScope() for _ in shares]
    for number, scope in enumerate(scopes):
        nursery.start_soon(wait, number, scope)
    await trio.testing.wait_all_tasks_blocked()
    left = set(range(6))
    while len(left) > 1:
        reader = next(n for n in left if shares[n]._reading is not None)
        left.remove(reader)
        if reader % 2:
            scopes[reader].cancel()
        else:
            shares[reader].close()
        await trio.testing.wait_all_tasks_blocked()
        told.clear()
        machine.announce_everything()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(told) == sorted(left)
    nursery.cancel_scope.cancel()


async def test_one_that_is_woken_to_read_and_closed_at_once_passes_it_on(
    nursery: trio.Nursery,
) -> None:
    machine = WatchedMachine(ETH0)
    shares = [follow_interfaces(machine) for _ in range(4)]
    told: list[int] = []
    nursery.start_soon(wait_all, shares, lambda number, _change: told.append(number))
    await trio.testing.wait_all_tasks_blocked()
    order = sorted(range(4), key=lambda number: shares[number]._reading is None)
    for number in order[:3]:
        shares[number].close()
        await trio.lowlevel.checkpoint()
    machine.announce_everything()
    await trio.testing.wait_all_tasks_blocked()
    assert told == order[3:]
    nursery.cancel_scope.cancel()


async def test_the_one_that_reads_is_told_what_another_has_read(nursery: trio.Nursery) -> None:
    machine = SocketMachine(ETH0)
    share = follow_interfaces(machine)
    told: list[Change] = []
    nursery.start_soon(wait_all, [share], lambda _n, change: told.append(change))
    await trio.testing.wait_all_tasks_blocked()
    machine.say(ETH0.index)
    follow_interfaces(machine).close()
    await trio.testing.wait_all_tasks_blocked()
    assert [change.concerned for change in told] == [{ETH0.index}]
    machine.say(ETH0.index)
    await trio.testing.wait_all_tasks_blocked()
    assert len(told) == 2, "it reads again"
    share.close()
    nursery.cancel_scope.cancel()


async def test_one_that_is_closed_is_not_told_what_happened_before() -> None:
    machine = WatchedMachine(ETH0)
    share, other = follow_interfaces(machine), follow_interfaces(machine)
    machine.set_interfaces(())
    await other.wait()
    share.close()
    with pytest.raises(trio.ClosedResourceError):
        await share.wait()


async def test_a_listing_is_up_to_date_before_anyone_has_read() -> None:
    machine = WatchedMachine(ETH0)
    first = follow_interfaces(machine)
    machine.set_interfaces((ETH0, ETH1))
    second = follow_interfaces(machine)
    assert second.listing == (ETH0, ETH1)
    assert second.catch_up() is None
    assert first.listing == (ETH0,)
    assert machine.listings == 2, "as nothing else was announced"
    assert (await first.wait()).listing == (ETH0, ETH1)
    with trio.move_on_after(0) as scope:
        await second.wait()
    assert scope.cancelled_caught, "it knows all that has happened"


async def test_what_nobody_has_looked_at_adds_up() -> None:
    machine = WatchedMachine(ETH0)
    one, other = follow_interfaces(machine), follow_interfaces(machine)
    machine.set_interfaces(())
    await other.wait()
    machine.set_interfaces((ETH0,))
    await other.wait()
    change = await one.wait()
    assert change.listing == (ETH0,)
    assert change.dropped == {2}, "it was gone for a moment"


async def test_with_the_last_share_the_feed_is_closed_and_the_next_opens_it_anew() -> None:
    machine = WatchedMachine(ETH0)
    shares = [follow_interfaces(machine) for _ in range(2)]
    assert len(machine._changes) == 1
    shares[0].close()
    shares[0].close()
    assert len(machine._changes) == 1
    shares[1].close()
    assert machine._changes == []
    for share in shares:
        with pytest.raises(trio.ClosedResourceError):
            await share.wait()
    follow_interfaces(machine).close()
    assert machine.opened == 2


async def test_each_machine_has_a_feed_of_its_own() -> None:
    one, other = WatchedMachine(ETH0), WatchedMachine(ETH1)
    shares = [follow_interfaces(machine) for machine in (one, other)]
    one.set_interfaces((ETH0, ETH1))
    assert (await shares[0].wait()).listing == (ETH0, ETH1)
    assert shares[1].catch_up() is None
    assert shares[1].listing == (ETH1,)


# --- Trouble -------------------------------------------------------------------------------------


async def test_a_machine_that_cannot_be_looked_at_leaves_nothing_open() -> None:
    machine = WatchedMachine(ETH0)
    machine.refusals = [OSError(errno.EMFILE, "no more")]
    with pytest.raises(OSError, match="no more"):
        follow_interfaces(machine)
    assert machine._changes == []
    share = follow_interfaces(machine)
    machine.announce_everything()
    machine.refusals = [OSError(errno.EMFILE, "no more")]
    with pytest.raises(OSError, match="no more"):
        follow_interfaces(machine)
    assert len(machine._changes) == 1, "those who had a share before keep it"
    share.close()
    assert machine._changes == []


async def test_after_a_look_that_failed_everything_is_looked_at_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = WatchedMachine(ETH0)
    share = follow_interfaces(machine)
    machine.refusals = [OSError(errno.EMFILE, "no more")] * 3
    machine.announce_everything()
    change = await share.wait()
    assert machine.refusals == []
    assert change.were_lost


async def test_what_was_announced_to_a_look_that_failed_is_not_lost(nursery: trio.Nursery) -> None:
    machine = SocketMachine(ETH0)
    share = follow_interfaces(machine)
    told: list[Change] = []
    nursery.start_soon(wait_all, [share], lambda _n, change: told.append(change))
    await trio.testing.wait_all_tasks_blocked()
    machine.refusals = [OSError(errno.EMFILE, "no more")]
    machine.say(ETH0.index)
    with pytest.raises(OSError, match="no more"):
        follow_interfaces(machine)
    await trio.testing.wait_all_tasks_blocked()
    assert [change.concerns(ETH0.index) for change in told] == [True]
    share.close()
    nursery.cancel_scope.cancel()


# --- Without announcements -----------------------------------------------------------------------


async def test_where_nothing_is_announced_the_interfaces_are_looked_at_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = WatchedMachine(ETH0, announces=False)
    share = follow_interfaces(machine)
    began = trio.current_time()
    machine.interfaces = (ETH0, ETH1)
    change = await share.wait()
    assert trio.current_time() - began == 2
    assert change.concerned == {3}


async def test_a_wait_that_is_broken_off_does_not_put_the_next_look_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = WatchedMachine(ETH0, announces=False)
    share = follow_interfaces(machine)
    machine.interfaces = (ETH0, ETH1)
    began = trio.current_time()
    change = None
    while change is None:
        with trio.move_on_after(0.75):
            change = await share.wait()
    assert trio.current_time() - began == 2
    assert change.concerned == {3}


# --- Where the end of a group is not announced ---------------------------------------------------

HELD = (2, b"\xe9\xfc\x00\x01")


class GroupMachine(SocketMachine):
    """Says what is joined if it is asked, and announces only what happens to interfaces."""

    def __init__(self, *interfaces: Interface) -> None:
        super().__init__(*interfaces)
        self.groups: frozenset[tuple[int, bytes]] | OSError | None = frozenset({HELD})
        self.asked = 0

    def list_groups(self) -> frozenset[tuple[int, bytes]]:
        self.asked += 1
        if isinstance(self.groups, OSError):
            raise self.groups
        return self.groups  # type: ignore[return-value]


async def test_groups_that_are_held_are_looked_for_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = GroupMachine(ETH0)
    share = follow_interfaces(machine, lambda: {HELD})
    with trio.move_on_after(9):
        await share.wait()
    assert machine.asked == 4
    began = trio.current_time()
    machine.groups = frozenset()
    change = await share.wait()
    assert trio.current_time() - began <= 2
    assert change.ended == {HELD}
    assert change.groups == frozenset()
    assert machine.listings == 1  # nothing was announced, so the interfaces are as they were
    share.close()


async def test_they_are_looked_for_when_something_is_announced_as_well(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = GroupMachine(ETH0)
    share = follow_interfaces(machine, lambda: {HELD})
    machine.groups = frozenset()
    machine.say(2)
    began = trio.current_time()
    change = await share.wait()
    assert trio.current_time() == began
    assert change.ended == {HELD}
    share.close()


async def test_who_holds_no_group_is_not_woken(autojump_clock: trio.testing.MockClock) -> None:
    machine = GroupMachine(ETH0)
    share = follow_interfaces(machine)
    with trio.move_on_after(100):
        await share.wait()
    assert machine.asked == 0
    share.close()


async def test_who_waits_already_looks_for_those_of_one_who_comes_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = GroupMachine(ETH0)
    machine.groups = frozenset()
    sender = follow_interfaces(machine)
    told: list[Change] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_all, [sender], lambda _number, change: told.append(change))
        await trio.sleep(50)
        receiver = follow_interfaces(machine, lambda: {HELD})
        await trio.sleep(2.5)
        change = receiver.catch_up()
        assert change is not None
        assert change.ended == {HELD}
        assert machine.opened == 1
        sender.close()
        receiver.close()


async def test_a_look_that_fails_for_want_of_something_is_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = GroupMachine(ETH0)
    share = follow_interfaces(machine, lambda: {HELD})
    machine.groups = OSError(errno.EMFILE, "too many open files")
    with trio.move_on_after(9):
        await share.wait()
    assert share.trouble is None
    machine.groups = frozenset()
    assert (await share.wait()).ended == {HELD}
    share.close()


async def test_groups_that_were_listed_once_are_looked_for_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """There may be a moment without any."""
    machine = GroupMachine(ETH0)
    share = follow_interfaces(machine, lambda: {HELD})
    for groups in (frozenset({HELD}), None):
        machine.groups = groups
        with trio.move_on_after(5):
            await share.wait()
    machine.groups = frozenset()
    assert (await share.wait()).ended == {HELD}
    share.close()


async def test_where_nothing_is_announced_a_group_ends_with_its_interface(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The interfaces are looked at as well as the groups."""
    machine = WatchedMachine(ETH0, announces=False)
    share = follow_interfaces(machine, lambda: {HELD})
    machine.interfaces = (ETH1,)
    change = await share.wait()
    assert change.listing == (ETH1,)
    assert change.dropped == {2}
    assert change.ended == {HELD}
    share.close()


async def test_where_groups_cannot_be_listed_nobody_looks_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = GroupMachine(ETH0)
    machine.groups = None
    share = follow_interfaces(machine, lambda: {HELD})
    with trio.move_on_after(100):
        await share.wait()
    assert machine.asked == 1
    share.close()


# --- Those who follow ----------------------------------------------------------------------------


async def test_what_is_not_concerned_is_not_told_of_again() -> None:
    """A host on which interfaces come and go, and a receiver that is not about them."""
    network = trio_mcast.testing.MemoryNetwork(ETH0)
    async with network.open_receiver("233.252.0.1", port=5000, interfaces="eth0") as receiver:
        events = receiver.events()
        for _ in range(20):
            await network.set_interfaces(ETH0, ETH1)
            await network.set_interfaces(ETH0)
        with trio.move_on_after(0) as scope:
            await events.receive()
        assert scope.cancelled_caught
