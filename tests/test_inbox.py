"""The inbox is a queue: what is put is taken, once each and in order, or counted as given up."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_mcast import Datagram
from trio_mcast._inbox import Inbox, Overflow
from trio_mcast.testing import make_datagram

OVERFLOWS: list[Overflow] = ["wait", "drop-oldest"]
either = pytest.mark.parametrize("overflow", OVERFLOWS)
FIRST = make_datagram()


def numbered(*numbers: int) -> list[Datagram]:
    return [FIRST._replace(timestamp=number) for number in numbers]


def numbers_of(datagrams: list[Datagram]) -> list[int | None]:
    return [datagram.timestamp for datagram in datagrams]


async def take_one(inbox: Inbox) -> list[Datagram]:
    return [await inbox.take()]


async def take_some(inbox: Inbox) -> list[Datagram]:
    return await inbox.take_batch(3)


async def take_all(inbox: Inbox) -> list[Datagram]:
    return await inbox.take_batch(None)


Take = Callable[[Inbox], Coroutine[Any, Any, list[Datagram]]]
WAYS: list[Take] = [take_one, take_some, take_all]
every_way = pytest.mark.parametrize("take", WAYS)


# --- Order and number --------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """Without waiting, an inbox is a list that is cut at one end and taken from at the other."""

    @initialize(limit=st.integers(1, 5), overflow=st.sampled_from(OVERFLOWS))
    def begin(self, limit: int, overflow: Overflow) -> None:
        self.inbox = Inbox(limit, overflow)
        self.limit = limit if overflow == "drop-oldest" else 10**9
        self.expected: list[int | None] = []
        self.next = 0

    @rule(size=st.integers(0, 12))
    def put(self, size: int) -> None:
        new = list(range(self.next, self.next + size))
        self.next += size
        given_up = self.inbox.put(numbered(*new))
        whole = [*self.expected, *new]
        surplus = max(0, len(whole) - self.limit)
        assert numbers_of(given_up) == whole[:surplus]
        self.expected = whole[surplus:]

    @rule()
    def take(self) -> None:
        if self.expected:
            assert self.inbox.take_nowait().timestamp == self.expected.pop(0)
        else:
            with pytest.raises(trio.WouldBlock):
                self.inbox.take_nowait()

    @invariant()
    def the_length_is_right(self) -> None:
        if hasattr(self, "inbox"):
            assert len(self.inbox) == len(self.expected)


TestModel = Model.TestCase


@given(
    batches=st.lists(st.integers(0, 9), max_size=10),
    takes=st.lists(st.sampled_from(WAYS), min_size=1, max_size=4),
    limit=st.integers(1, 9),
)
def test_what_is_put_is_taken_once_each_and_in_order(
    batches: list[int], takes: list[Take], limit: int
) -> None:
    """By one task, that takes in all ways in turn, while another waits for room and puts."""
    total = sum(batches)
    inbox = Inbox(limit, "wait")

    async def put() -> None:
        number = 0
        for size in batches:
            await inbox.wait_for_room()
            assert len(inbox) < limit
            assert inbox.put(numbered(*range(number, number + size))) == []
            number += size

    async def main() -> None:
        taken: list[int | None] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            for turn in range(total):
                if len(taken) < total:
                    taken += numbers_of(await takes[turn % len(takes)](inbox))
        assert taken == list(range(total))
        assert len(inbox) == 0

    trio.run(main)


@every_way
@either
async def test_several_tasks_share_and_each_datagram_goes_to_one(
    take: Take, overflow: Overflow
) -> None:
    inbox = Inbox(1000, overflow)
    taken: list[list[int | None]] = [[] for _ in range(5)]

    async def taker(own: list[int | None]) -> None:
        while True:
            own += numbers_of(await take(inbox))

    async with trio.open_nursery() as nursery:
        for own in taken:
            nursery.start_soon(taker, own)
        await trio.testing.wait_all_tasks_blocked()
        for start in range(0, 300, 7):
            inbox.put(numbered(*range(start, min(start + 7, 300))))
            if start % 3:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(n for own in taken for n in own if n is not None) == list(range(300))
    assert all(own == sorted(own, key=lambda n: n or 0) for own in taken)


async def test_a_batch_for_several_waiting_tasks_wakes_as_many_as_it_can_serve() -> None:
    inbox = Inbox(100, "wait")
    taken: list[int | None] = []

    async def taker() -> None:
        taken.append((await inbox.take()).timestamp)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(taker)
        await trio.testing.wait_all_tasks_blocked()
        inbox.put(numbered(0, 1, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(n or 0 for n in taken) == [0, 1, 2]
        inbox.put(numbered(3, 4))


@pytest.mark.parametrize("limit", [1, 2, 64, 65, 100])
async def test_a_batch_has_at_most_what_was_asked_for(limit: int) -> None:
    inbox = Inbox(1000, "wait")
    inbox.put(numbered(*range(200)))
    taken: list[int | None] = []
    while len(inbox):
        batch = await inbox.take_batch(limit)
        assert len(batch) == min(limit, 200 - len(taken))
        taken += numbers_of(batch)
    assert taken == list(range(200))


# --- Cancellation ------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("put_first", [True, False])
async def test_cancelling_a_task_that_waits_loses_nothing(take: Take, put_first: bool) -> None:
    inbox = Inbox(100, "wait")
    taken: list[int | None] = []

    async def taker(scope: trio.CancelScope) -> None:
        with scope:
            taken.extend(numbers_of(await take(inbox)))

    for number in range(0, 30, 3):
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker, scope)
            await trio.testing.wait_all_tasks_blocked()
            if put_first:
                inbox.put(numbered(number, number + 1, number + 2))
                scope.cancel()
            else:
                scope.cancel()
                inbox.put(numbered(number, number + 1, number + 2))
        taken += numbers_of(await inbox.take_batch(None)) if len(inbox) else []
    assert taken == list(range(30))


@every_way
async def test_a_cancelled_task_takes_nothing(take: Take) -> None:
    inbox = Inbox(100, "wait")
    inbox.put(numbered(0, 1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await take(inbox)
    assert scope.cancelled_caught
    assert len(inbox) == 2


async def test_a_cancelled_taker_does_not_keep_the_turn_of_another() -> None:
    inbox = Inbox(100, "wait")
    taken: list[int | None] = []
    scope = trio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await inbox.take()

    async def other() -> None:
        taken.append((await inbox.take()).timestamp)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(other)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        inbox.put(numbered(7))
    assert taken == [7]


async def test_cancelling_a_task_that_waits_for_room_loses_no_room() -> None:
    inbox = Inbox(1, "wait")
    inbox.put(numbered(0))
    entered: list[str] = []

    async def putter(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await inbox.wait_for_room()
            entered.append(name)

    scopes = {name: trio.CancelScope() for name in "abc"}
    async with trio.open_nursery() as nursery:
        for name, scope in scopes.items():
            nursery.start_soon(putter, name, scope)
        await trio.testing.wait_all_tasks_blocked()
        scopes["a"].cancel()
        inbox.take_nowait()
    assert sorted(entered) in (["b", "c"], ["a", "b", "c"])


# --- Room --------------------------------------------------------------------------------------


@every_way
async def test_who_waits_for_room_goes_on_once_there_is_some(take: Take) -> None:
    inbox = Inbox(4, "wait")
    inbox.put(numbered(*range(6)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        while len(inbox) >= 4:
            await take(inbox)
            await trio.testing.wait_all_tasks_blocked()
            assert bool(nursery.child_tasks) == (len(inbox) >= 4)


async def test_with_drop_oldest_there_is_always_room() -> None:
    inbox = Inbox(1, "drop-oldest")
    inbox.put(numbered(0, 1, 2))
    with trio.testing.assert_no_checkpoints():
        await inbox.wait_for_room()
    assert len(inbox) == 1


# --- Fairness ----------------------------------------------------------------------------------


async def test_other_tasks_run_once_in_64_datagrams_at_least() -> None:
    inbox = Inbox(10_000, "wait")
    inbox.put(numbered(*range(1000)))
    taken = 0
    turns = 0

    async def other() -> None:
        nonlocal turns
        while taken < 1000:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(1000):
            await inbox.take()
            taken += 1
    # In each turn trio runs both tasks once, in either order: 15 turns, one more or less.
    assert abs(turns - 1000 // 64) <= 1


async def test_taking_one_that_is_there_is_a_checkpoint_for_cancellation() -> None:
    inbox = Inbox(100, "wait")
    inbox.put(numbered(*range(10)))
    with trio.CancelScope() as scope:
        await inbox.take()
        scope.cancel()
        await inbox.take()
    assert scope.cancelled_caught
    assert len(inbox) == 9


async def test_taking_a_batch_is_a_full_checkpoint() -> None:
    inbox = Inbox(100, "wait")
    for limit in (None, 1):
        inbox.put(numbered(0, 1))
        with trio.testing.assert_checkpoints():
            await inbox.take_batch(limit)


async def test_another_task_may_take_all_while_a_batch_is_on_its_way() -> None:
    inbox = Inbox(100, "wait")
    inbox.put(numbered(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.take_batch, None)
        await trio.testing.wait_all_tasks_blocked()
        inbox.put(numbered(1))
        nursery.start_soon(inbox.take_batch, None)
        inbox_was_emptied_by = numbers_of([inbox.take_nowait()])
        await trio.testing.wait_all_tasks_blocked()
        assert inbox_was_emptied_by == [1]
        assert len(nursery.child_tasks) == 1, "it waits, and does not return an empty list"
        inbox.put(numbered(2))


# --- Tasks that read for themselves ------------------------------------------------------------


class FakeSource:
    """Holds numbers; says who reads them."""

    def __init__(self, inbox: Inbox) -> None:
        self.arrived: list[int] = []
        self.is_led = False
        self.reliefs = 0
        self._leading = trio.lowlevel.ParkingLot()
        inbox.source = self

    def arrive(self, *numbers: int) -> None:
        self.arrived += numbers
        self._leading.unpark_all()

    def read(self) -> list[Datagram]:
        found, self.arrived = self.arrived, []
        return numbered(*found)

    async def lead(self) -> list[Datagram]:
        assert not self.is_led, "one task is enough"
        self.is_led = True
        try:
            if not self.arrived:
                await self._leading.park()
        finally:
            self.is_led = False
        return self.read()

    def interrupt(self) -> None:
        self._leading.unpark_all()

    def relieve(self) -> None:
        self.reliefs += 1

    # What an inbox asks for before it waits.
    has_more = True


@every_way
async def test_a_task_that_waits_reads_for_itself(take: Take) -> None:
    inbox = Inbox(100, "wait")
    source = FakeSource(inbox)
    taken: list[int | None] = []

    async def taker() -> None:
        while len(taken) < 7:
            taken.extend(numbers_of(await take(inbox)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker)
        for numbers in ((0,), (1, 2, 3), (), (4, 5, 6)):
            await trio.testing.wait_all_tasks_blocked()
            assert source.is_led
            source.arrive(*numbers)
    assert taken == list(range(7))
    assert source.reliefs > 0


@every_way
async def test_what_comes_by_another_way_reaches_a_task_that_reads_for_itself(take: Take) -> None:
    inbox = Inbox(100, "wait")
    source = FakeSource(inbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, inbox)
        await trio.testing.wait_all_tasks_blocked()
        assert source.is_led
        inbox.put(numbered(7))
    assert not source.is_led
    assert len(inbox) == 0


@every_way
async def test_when_the_task_that_reads_leaves_another_that_waits_reads(take: Take) -> None:
    inbox = Inbox(100, "wait")
    source = FakeSource(inbox)
    taken: list[int | None] = []

    async def take_once(scope: trio.CancelScope) -> None:
        with scope:
            taken.extend(numbers_of(await take(inbox)))

    first = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_once, first)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(take_once, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        for number in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert source.is_led
            source.arrive(number)
    assert taken == [0, 1, 2]
    assert not source.is_led


@every_way
async def test_a_task_that_reads_can_be_cancelled_and_loses_nothing(take: Take) -> None:
    inbox = Inbox(100, "wait")
    source = FakeSource(inbox)
    taken: list[int | None] = []

    async def take_within(scope: trio.CancelScope) -> None:
        with scope:
            taken.extend(numbers_of(await take(inbox)))

    for _ in range(3):
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_within, scope)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            source.arrive(1)  # at the same time
        with trio.move_on_after(0) as scope:
            taken += numbers_of(await take(inbox))
        assert scope.cancelled_caught
    while source.arrived or len(inbox):
        taken += numbers_of(await take(inbox))
    assert taken == [1, 1, 1]


@every_way
async def test_a_task_that_comes_too_late_is_not_waited_for(take: Take) -> None:
    inbox = Inbox(100, "wait")
    source = FakeSource(inbox)
    source.is_led = True  # by a background task
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, inbox)
        await trio.testing.wait_all_tasks_blocked()
        inbox.put(numbered(1))
        assert inbox.is_taker_coming
        inbox.take_nowait()
        await trio.testing.wait_all_tasks_blocked()
        assert not inbox.is_taker_coming
        nursery.cancel_scope.cancel()


async def test_a_task_that_cannot_relieve_anyone_is_not_waited_for() -> None:
    inbox = Inbox(100, "wait")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.take)
        await trio.testing.wait_all_tasks_blocked()
        inbox.put(numbered(1))
        assert not inbox.is_taker_coming


async def test_with_drop_oldest_what_a_task_reads_beyond_the_limit_is_counted_as_lost() -> None:
    inbox = Inbox(3, "drop-oldest")
    source = FakeSource(inbox)
    lost: list[Datagram] = []
    inbox.count_lost = lost.extend
    source.arrive(*range(5))
    taken = numbers_of(await inbox.take_batch(None))
    assert (numbers_of(lost), taken) == ([0, 1], [2, 3, 4])


# --- The end -----------------------------------------------------------------------------------


@every_way
async def test_closing_wakes_everyone_and_drops_what_is_there(take: Take) -> None:
    inbox = Inbox(2, "wait")

    async def refused() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await take(inbox)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(refused)
        await trio.testing.wait_all_tasks_blocked()
        inbox.close()
    inbox = Inbox(2, "wait")
    inbox.put(numbered(0, 1, 2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
        inbox.close()
    assert len(inbox) == 0
    await refused()
    with pytest.raises(trio.ClosedResourceError):
        inbox.take_nowait()


@every_way
async def test_after_a_failure_what_is_there_can_still_be_taken(take: Take) -> None:
    inbox = Inbox(100, "wait")
    error = OSError("the cable was cut")
    inbox.put(numbered(0, 1, 2, 3))
    inbox.fail(error)
    taken: list[int | None] = []
    while len(inbox):
        taken += numbers_of(await take(inbox))
    assert taken == [0, 1, 2, 3]
    with pytest.raises(trio.BrokenResourceError) as caught:
        await take(inbox)
    assert caught.value.__cause__ is error
    with pytest.raises(trio.BrokenResourceError):
        inbox.take_nowait()


@every_way
async def test_a_failure_wakes_who_waits(take: Take) -> None:
    inbox = Inbox(100, "wait")

    async def broken() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await take(inbox)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broken)
        nursery.start_soon(broken)
        await trio.testing.wait_all_tasks_blocked()
        inbox.fail(OSError())


async def test_what_was_closed_after_a_failure_is_closed() -> None:
    inbox = Inbox(100, "wait")
    inbox.fail(OSError())
    inbox.close()
    with pytest.raises(trio.ClosedResourceError):
        await inbox.take()
