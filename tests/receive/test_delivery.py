"""Delivery: each datagram goes to one task, in order, and nobody waits in vain."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from trio_mcast import Datagram
from trio_mcast._machine.receiving import DATAGRAMS_PER_READ, Origin, ReceivingSocket, SocketSet
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._receive.backlog import Backlog
from trio_mcast._receive.delivery import Delivery, Overflow
from trio_mcast.testing import make_datagram, make_interface

OVERFLOWS: list[Overflow] = ["wait", "drop-oldest"]
GROUP = ip_address("233.252.0.1")
ORIGIN = Origin.make(GROUP, 5000, make_interface())
FIRST = make_datagram()


def numbered(*numbers: int) -> list[Datagram]:
    return [FIRST._replace(timestamp=number) for number in numbers]


def numbers_of(datagrams: Sequence[Datagram]) -> list[int]:
    return [datagram.timestamp or 0 for datagram in datagrams]


# --- A model of sockets, and of a set of them --------------------------------------------------


class ModelSocket(ReceivingSocket):
    def __init__(self, number: int) -> None:
        super().__init__(SocketPlan(0, (), None, ()), ORIGIN)
        self.number = number
        self.arrived: deque[Datagram] = deque()
        self.refusal: OSError | None = None
        self.changed = trio.lowlevel.ParkingLot()

    @property
    def is_readable(self) -> bool:
        return bool(self.arrived) or self.refusal is not None

    def arrive(self, *numbers: int) -> None:
        self.arrived += numbered(*numbers)
        self._wake()
        if isinstance(self.socket_set, ModelSet):
            self.socket_set.look()

    def break_down(self, refusal: OSError) -> None:
        self.refusal = refusal
        self.arrive()

    def read(self, found: list[Datagram], _again: bool) -> int:
        if self.refusal is not None:
            raise self.refusal
        count = min(len(self.arrived), DATAGRAMS_PER_READ)
        found += [self.arrived.popleft() for _ in range(count)]
        return count

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.is_readable:
            if self.is_retired or self.is_closed:
                raise trio.ClosedResourceError
            await self.changed.park()

    def change_filter(self, *_: object) -> None:
        raise NotImplementedError

    def receive_buffer(self) -> int:
        return 0

    def _leave(self) -> None:
        pass

    def _wake(self) -> None:
        self.changed.unpark_all()

    def _close(self) -> None:
        pass


class Wait:
    """One task that waits for one thing, as trio's `wait_readable` has it: level-triggered."""

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.is_interrupted = False

    async def __call__(self, is_ready: Callable[[], bool]) -> None:
        assert self.task is None, "trio lets one task wait"
        self.is_interrupted = False
        self.task = trio.lowlevel.current_task()
        if is_ready():
            self.wake()

        def abort(_: object) -> trio.lowlevel.Abort:
            self.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if self.is_interrupted:
            raise trio.ClosedResourceError

    def wake(self, *, interrupts: bool = False) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            self.is_interrupted = interrupts
            trio.lowlevel.reschedule(task)


class ModelSet(SocketSet):
    """Sockets that one task waits for together, and an alarm."""

    def __init__(self) -> None:
        self.sockets: dict[int, ModelSocket] = {}
        self.refused: set[int] = set()  # for which there is no room
        self.waiting = Wait()
        self.waiting_for_alarm = Wait()
        self.is_armed = False
        self.is_closed = False
        self.armings = 0

    @property
    def is_readable(self) -> bool:
        return any(sock.is_readable for sock in self.sockets.values())

    def look(self) -> None:
        if self.is_readable:
            self.waiting.wake()
            if self.is_armed:
                self.waiting_for_alarm.wake()

    def add(self, sock: ReceivingSocket) -> int:
        assert isinstance(sock, ModelSocket)
        self._require_open()
        if sock.number in self.refused:
            raise OSError("no room for one more")
        self.sockets[sock.number] = sock
        sock.socket_set = self
        self.look()
        return sock.number

    def remove(self, sock: ReceivingSocket) -> None:
        assert isinstance(sock, ModelSocket)
        self.sockets.pop(sock.number, None)
        sock.socket_set = None

    def ready(self) -> list[int]:
        self._require_open()
        return [number for number, sock in self.sockets.items() if sock.is_readable]

    async def wait(self) -> None:
        self._require_open()
        await self.waiting(lambda: self.is_readable)

    def interrupt(self) -> None:
        self.waiting.wake(interrupts=True)

    def arm(self) -> bool:
        assert not self.is_armed
        self._require_open()
        self.is_armed = True
        self.armings += 1
        self.look()
        return True

    def disarm(self) -> None:
        assert self.is_armed
        self._require_open()
        self.is_armed = False

    async def wait_for_alarm(self) -> None:
        self._require_open()
        await self.waiting_for_alarm(lambda: self.is_armed and self.is_readable)

    def close(self) -> None:
        self.is_closed = True
        self.waiting.wake(interrupts=True)
        self.waiting_for_alarm.wake(interrupts=True)

    def _require_open(self) -> None:
        if self.is_closed:  # as a closed epoll object says
            raise ValueError("I/O operation on closed epoll object")


class Scene:
    """A delivery with its tasks, over model sockets: with a set that watches them, or without.

    Attributes:
      sock: a socket that is watched by the set, if there is one
      other: a socket for which the set has no room, so its own task reads it
      lost: what was given up for newer datagrams
      broken: what was reported of sockets that cannot be read
      ended: the sockets whose tasks have ended
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        way: str,
        overflow: Overflow = "wait",
        limit: int = 100,
        max_bytes: int = 2**40,
    ) -> None:
        self.set = ModelSet() if way == "with a set" else None
        self.limit = limit
        self.lost: list[int] = []
        self.broken: list[OSError] = []
        self.ended: list[ModelSocket] = []
        self.start_soon = nursery.start_soon
        self.delivery = Delivery(
            Backlog(limit, max_bytes),
            overflow == "wait",
            self.set,
            lambda lost: self.lost.extend(numbers_of(lost)),
            self._report_broken,
            lambda _is_polled: None,
        )
        self._nursery = nursery
        self._number = 0
        nursery.start_soon(self.delivery.run)
        self.sock = self.add_socket()
        self.other = self.add_socket(has_room=False)

    def add_socket(self, *, has_room: bool = True) -> ModelSocket:
        self._number += 1
        sock = ModelSocket(self._number)
        if self.set is not None and not has_room:
            self.set.refused.add(sock.number)
        self._nursery.start_soon(self._run_task_of, sock)
        return sock

    async def _run_task_of(self, sock: ModelSocket) -> None:
        await self.delivery.deliver_from(sock)
        self.ended.append(sock)

    def _report_broken(self, sock: ReceivingSocket, error: OSError) -> None:
        self.broken.append(error)
        sock.close()

    def count_unread(self) -> int:
        return len(self.sock.arrived) + len(self.other.arrived)

    def close(self) -> None:
        self.delivery.close()
        self.sock.close()
        self.other.close()


WAYS = ["with a set", "each for itself"]
both_ways = pytest.mark.parametrize("way", WAYS)
Take = Callable[[Delivery], Coroutine[Any, Any, list[Datagram]]]


async def take_one(delivery: Delivery) -> list[Datagram]:
    return [await delivery.receive()]


async def take_some(delivery: Delivery) -> list[Datagram]:
    return await delivery.receive_batch(3)


async def take_all(delivery: Delivery) -> list[Datagram]:
    return await delivery.receive_batch(None)


FORMS: list[Take] = [take_one, take_some, take_all]
every_form = pytest.mark.parametrize("take", FORMS)


async def settle() -> None:
    """Let tasks run until all wait, the background task's patience included."""
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(0.01)  # of the tests' own clock, which jumps
    await trio.testing.wait_all_tasks_blocked()


# --- Schedules -----------------------------------------------------------------------------------


class Schedule:
    """Does things to a delivery one after the other, and checks what must hold at the end.

    Each step is a word: ``take a``, ``batch b`` (a task begins to wait, if it does not already),
    ``cancel a``, ``nowait``, ``one``, ``three``, ``other`` (datagrams that arrive), ``close``,
    ``fail``, and ``run``, which lets all tasks run until they wait.
    """

    def __init__(self, scene: Scene, nursery: trio.Nursery) -> None:
        self.scene = scene
        self.arrived = 0
        self.taken: list[int] = []
        self.taken_by: dict[str, list[int]] = {}
        self.waiting: dict[str, trio.CancelScope] = {}
        self.by_other: set[int] = set()  # what arrived at the other socket
        self.is_over = False
        self.nursery = nursery

    async def do(self, step: str) -> None:
        match step.split():
            case ["take", name]:
                self._begin(name, take_one)
            case ["batch", name]:
                self._begin(name, take_all)
            case ["cancel", name]:
                if name in self.waiting:
                    self.waiting[name].cancel()
            case ["nowait"]:
                self._take_nowait()
            case ["one"]:
                self._arrive(self.scene.sock, 1)
            case ["three"]:
                self._arrive(self.scene.sock, 3)
            case ["other"]:
                self._arrive(self.scene.other, 1)
            case ["close"]:
                self.scene.close()
                self.is_over = True
            case ["fail"]:
                self.scene.delivery.fail(OSError("the cable was cut"))
                self.is_over = True
            case ["run"]:
                await settle()

    def _arrive(self, sock: ModelSocket, count: int) -> None:
        if not sock.is_closed:
            numbers = range(self.arrived, self.arrived + count)
            self.arrived += count
            if sock is self.scene.other:
                self.by_other.update(numbers)
            sock.arrive(*numbers)

    def _take_nowait(self) -> None:
        had_waiting = bool(self.scene.delivery._line)
        try:
            (number,) = numbers_of([self.scene.delivery.receive_nowait()])
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            return
        assert not had_waiting, "nothing is taken from under a task that waits"
        self._note("nowait", [number])

    def _begin(self, name: str, take: Take) -> None:
        if name not in self.waiting:
            self.waiting[name] = trio.CancelScope()
            self.nursery.start_soon(self._take, name, take)

    async def _take(self, name: str, take: Take) -> None:
        try:
            with self.waiting[name]:
                self._note(name, numbers_of(await take(self.scene.delivery)))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            assert self.is_over
        finally:
            del self.waiting[name]

    def _note(self, name: str, numbers: list[int]) -> None:
        self.taken += numbers
        self.taken_by.setdefault(name, []).extend(numbers)

    async def check(self) -> None:
        """Nobody waits in vain; nothing is lost, doubled or, for one task, out of order."""
        await settle()
        delivery, scene = self.scene.delivery, self.scene
        if self.waiting:
            assert not self.is_over
            assert len(delivery) == 0
            assert scene.count_unread() == 0
        if not self.is_over:  # as much as fits is moved out of the kernel's buffers
            assert not scene.count_unread() or len(delivery) >= scene.limit
        assert sorted(self.taken + scene.lost) == sorted(set(self.taken + scene.lost))
        known = len(self.taken) + len(scene.lost) + len(delivery) + scene.count_unread()
        assert known == self.arrived
        for name, numbers in self.taken_by.items():
            for by_other in (True, False):
                of_one_socket = [n for n in numbers if (n in self.by_other) == by_other]
                assert of_one_socket == sorted(of_one_socket), name


async def play(
    way: str, steps: Sequence[str], overflow: Overflow = "wait", limit: int = 100
) -> None:
    async with trio.open_nursery() as nursery:
        scene = Scene(nursery, way, overflow, limit)
        schedule = Schedule(scene, nursery)
        await settle()
        for step in steps:
            await schedule.do(step)
        await schedule.check()
        nursery.cancel_scope.cancel()


STEPS = ["take a", "batch b", "cancel a", "nowait", "one", "three", "other", "close", "fail"]
MORE_STEPS = [*STEPS, "take c", "cancel b", "cancel c", "run"]


@both_ways
def test_every_short_schedule(way: str) -> None:
    """Four steps of any kind, with all tasks run to their waits in between, or not at all."""

    async def main() -> None:
        for steps in itertools.product(STEPS, repeat=4):
            with note_on_failure(steps):
                await play(way, steps)
                await play(way, [word for step in steps for word in (step, "run")])

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@both_ways
@settings(deadline=None, max_examples=300)
@given(
    steps=st.lists(st.sampled_from(MORE_STEPS), max_size=30),
    overflow=st.sampled_from(OVERFLOWS),
    limit=st.sampled_from([1, 2, 3, 100]),
)
def test_longer_schedules(way: str, steps: list[str], overflow: Overflow, limit: int) -> None:
    trio.run(play, way, steps, overflow, limit, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def note_on_failure(steps: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"schedule: {', '.join(steps)}")
        raise


@pytest.fixture(params=WAYS)
def scene(
    request: pytest.FixtureRequest, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> Scene:
    """A delivery that holds up to a hundred, in each of the two ways."""
    return Scene(nursery, request.param)


@contextmanager
def taking(scene: Scene, take: Take) -> Iterator[tuple[list[int], trio.CancelScope]]:
    """A task that takes again and again, what it has taken, and how to cancel it."""
    taken: list[int] = []
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            while True:
                taken.extend(numbers_of(await take(scene.delivery)))

    scene.start_soon(run)
    yield taken, scope
    scope.cancel()


# --- Order and number ----------------------------------------------------------------------------


@every_form
async def test_all_that_arrives_is_taken_once_each_and_in_order(scene: Scene, take: Take) -> None:
    with taking(scene, take) as (taken, _):
        number = 0
        for count in (1, 7, 64, 65, 300, 1, 2):
            scene.sock.arrive(*range(number, number + count))
            number += count
            await settle()
        assert taken == list(range(number))


@every_form
async def test_tasks_that_wait_are_served_first_come_first_served(scene: Scene, take: Take) -> None:
    order: list[int] = []

    async def take_in_turn(name: int) -> None:
        while True:
            await take(scene.delivery)
            order.append(name)

    async with trio.open_nursery() as nursery:
        for name in range(4):
            nursery.start_soon(take_in_turn, name)
            await settle()
        for number in range(40):
            scene.sock.arrive(number)
            await settle()
        assert order == [0, 1, 2, 3] * 10
        nursery.cancel_scope.cancel()


async def test_a_lone_receive_has_its_turn_beside_a_loop(scene: Scene) -> None:
    with taking(scene, take_one) as (taken, _):
        await settle()
        own: list[int] = []

        async def take_once() -> None:
            own.append(numbers_of([await scene.delivery.receive()])[0])

        scene.start_soon(take_once)
        await settle()
        for number in range(3):
            scene.sock.arrive(number)
            await settle()
    assert (taken, own) == ([0, 2], [1])


async def test_several_datagrams_at_once_serve_several_tasks(scene: Scene) -> None:
    taken: list[int] = []

    async def take_once() -> None:
        taken.extend(numbers_of([await scene.delivery.receive()]))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(take_once)
        await settle()
        scene.sock.arrive(0, 1, 2)
        await settle()
        assert sorted(taken) == [0, 1, 2]
        scene.sock.arrive(3, 4)


@pytest.mark.parametrize("limit", [1, 2, 64, 65, 100])
async def test_a_batch_has_at_most_what_was_asked_for(scene: Scene, limit: int) -> None:
    scene.sock.arrive(*range(200))
    await settle()
    taken: list[int] = []
    while len(taken) < 200:
        batch = numbers_of(await scene.delivery.receive_batch(limit))
        assert len(batch) <= limit
        taken += batch
    assert taken == list(range(200))


# --- Without waiting -----------------------------------------------------------------------------


async def test_without_waiting_what_is_still_in_the_kernel_is_taken_as_well(scene: Scene) -> None:
    await settle()
    scene.sock.arrive(0, 1)
    with trio.testing.assert_no_checkpoints():
        taken = [scene.delivery.receive_nowait(), scene.delivery.receive_nowait()]
    assert numbers_of(taken) == [0, 1]
    with pytest.raises(trio.WouldBlock):
        scene.delivery.receive_nowait()


async def test_nothing_is_taken_from_under_a_task_that_waits(scene: Scene) -> None:
    with taking(scene, take_one) as (taken, _):
        await settle()
        scene.sock.arrive(0)
        with pytest.raises(trio.WouldBlock):
            scene.delivery.receive_nowait()
        await settle()
        assert taken == [0]


async def test_nobody_takes_what_a_task_that_waits_is_being_woken_for(scene: Scene) -> None:
    """Not in the moment between, however it is tried."""
    moments = 0
    for number in range(50):
        taken: list[int] = []

        async def take_first(taken: list[int] = taken) -> None:
            taken += numbers_of([await scene.delivery.receive()])

        scene.start_soon(take_first)
        await settle()
        scene.other.arrive(number)
        while not taken and not len(scene.delivery):
            await trio.lowlevel.checkpoint()
        moments += not taken
        with pytest.raises(trio.WouldBlock):
            scene.delivery.receive_nowait()
        with trio.move_on_after(0.001) as scope:
            await (scene.delivery.receive() if number % 2 else scene.delivery.receive_batch(None))
        assert scope.cancelled_caught
        assert taken == [number]
    if scene.set is not None:
        assert moments, "it was tried at least once"


# --- Room ----------------------------------------------------------------------------------------


@both_ways
@every_form
async def test_with_wait_no_more_is_read_than_fits_but_for_one_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, way: str, take: Take
) -> None:
    scene = Scene(nursery, way, limit=4)
    scene.sock.arrive(*range(300))
    await settle()
    assert 4 <= len(scene.delivery) < 4 + DATAGRAMS_PER_READ
    taken: list[int] = []
    while len(taken) < 300:
        taken += numbers_of(await take(scene.delivery))
        await settle()
        assert scene.count_unread() == 0 or 4 <= len(scene.delivery) < 4 + DATAGRAMS_PER_READ
    assert taken == list(range(300))


@both_ways
async def test_with_drop_oldest_the_newest_are_kept_and_the_others_counted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, way: str
) -> None:
    scene = Scene(nursery, way, "drop-oldest", limit=3)
    scene.sock.arrive(*range(100))
    await settle()
    assert scene.count_unread() == 0
    assert scene.lost == list(range(97))
    assert numbers_of(await scene.delivery.receive_batch(None)) == [97, 98, 99]


@both_ways
async def test_with_drop_oldest_a_task_that_reads_itself_gets_no_more_than_the_limit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, way: str
) -> None:
    scene = Scene(nursery, way, "drop-oldest", limit=3)
    with taking(scene, take_all) as (taken, _):
        await settle()
        scene.sock.arrive(*range(5))
        await settle()
    assert sorted(scene.lost + taken) == [0, 1, 2, 3, 4]
    assert len(taken) >= 3


# --- Other tasks ---------------------------------------------------------------------------------


async def test_other_tasks_run_once_in_64_datagrams_that_are_taken_one_by_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, "with a set", limit=10_000)
    scene.sock.arrive(*range(1000))
    await settle()
    taken = 0
    turns = 0

    async def other() -> None:
        nonlocal turns
        while taken < 1000:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as beside:
        beside.start_soon(other)
        for _ in range(1000):
            await scene.delivery.receive()
            taken += 1
    # In each turn trio runs both tasks once, in either order: 15 turns, one more or less.
    assert abs(turns - 1000 // 64) <= 1


@every_form
async def test_a_flood_lets_other_tasks_run(scene: Scene, take: Take) -> None:
    """The socket is never empty, and the program takes on and on."""
    turns = 0
    unanswered = 0

    async def other() -> None:
        nonlocal turns, unanswered
        while turns < 20:
            await trio.lowlevel.checkpoint()
            turns += 1
            unanswered = 0

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as beside:

            async def flood() -> None:
                nonlocal unanswered
                while True:
                    scene.sock.arrive(*range(128))
                    batch = await take(scene.delivery)
                    unanswered += len(batch)
                    assert unanswered <= 4 * DATAGRAMS_PER_READ

            beside.start_soon(flood)
            await other()
            scope.cancel()
    assert turns == 20


async def test_taking_one_that_is_there_is_a_checkpoint_for_cancellation(scene: Scene) -> None:
    scene.sock.arrive(*range(10))
    await settle()
    with trio.CancelScope() as scope:
        await scene.delivery.receive()
        scope.cancel()
        await scene.delivery.receive()
    assert scope.cancelled_caught
    assert len(scene.delivery) == 9


@pytest.mark.parametrize("limit", [None, 1])
async def test_taking_a_batch_is_a_full_checkpoint(scene: Scene, limit: int | None) -> None:
    scene.sock.arrive(0, 1)
    await settle()
    with trio.testing.assert_checkpoints():
        await scene.delivery.receive_batch(limit)


# --- Cancellation --------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("arrives_first", [True, False])
async def test_cancelling_a_task_that_waits_loses_nothing(
    scene: Scene, take: Take, arrives_first: bool
) -> None:
    everything: list[int] = []
    for number in range(0, 30, 3):
        with taking(scene, take) as (taken, scope):
            await settle()
            if not arrives_first:
                scope.cancel()
            scene.sock.arrive(number, number + 1, number + 2)
            if arrives_first:
                scope.cancel()
            await settle()
        everything += taken
        while len(scene.delivery):
            everything += numbers_of(await scene.delivery.receive_batch(None))
    assert everything == list(range(30))


@every_form
async def test_a_cancelled_task_takes_nothing(scene: Scene, take: Take) -> None:
    scene.sock.arrive(0, 1)
    await settle()
    with trio.CancelScope() as scope:
        scope.cancel()
        await take(scene.delivery)
    assert scope.cancelled_caught
    assert len(scene.delivery) == 2


async def test_a_cancelled_task_does_not_keep_the_turn_of_another(scene: Scene) -> None:
    with (
        taking(scene, take_one) as (taken_by_first, scope),
        taking(scene, take_one) as (taken, _),
    ):
        await settle()
        scope.cancel()
        scene.other.arrive(7)
        await settle()
        assert (taken_by_first, taken) == ([], [7])


# --- The background task -------------------------------------------------------------------------


async def test_the_background_task_sleeps_while_the_program_comes_and_goes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, "with a set")
    assert scene.set is not None
    with taking(scene, take_one):
        await settle()
        task = scene.set.waiting_for_alarm.task
        assert task is not None
        for number in range(20):
            scene.sock.arrive(number)
            await trio.testing.wait_all_tasks_blocked()
            assert scene.set.waiting_for_alarm.task is task, "it was not woken"
            assert not scene.set.is_armed, "a task waits"


async def test_the_background_task_leaves_the_sockets_to_a_program_that_is_back_soon(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It does not read between two reads of a program that does something else for a moment."""
    scene = Scene(nursery, "with a set")
    await settle()
    for number in range(20):
        scene.sock.arrive(number)
        await trio.testing.wait_all_tasks_blocked()  # the alarm has gone off, the clock stands
        assert len(scene.delivery) == 0
        assert numbers_of([await scene.delivery.receive()]) == [number]
    scene.sock.arrive(20)
    await settle()
    assert len(scene.delivery) == 1


async def test_the_background_task_is_not_woken_by_what_there_is_no_room_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, "with a set", limit=1)
    assert scene.set is not None
    scene.sock.arrive(*range(200))
    await settle()
    armings = scene.set.armings
    scene.sock.arrive(200)
    await settle()
    assert scene.set.armings == armings
    assert scene.set.waiting_for_alarm.task is not None


# --- Sockets that come and go --------------------------------------------------------------------


async def test_a_socket_that_has_retired_is_emptied_and_its_task_ends(scene: Scene) -> None:
    sock = scene.add_socket()
    await settle()
    sock.arrive(1, 2)
    sock.retire()
    await settle()
    assert sock in scene.ended
    assert numbers_of(await scene.delivery.receive_batch(None)) == [1, 2]
    if scene.set is not None:
        assert sock.number not in scene.set.sockets


async def test_a_socket_that_is_closed_is_read_no_more(scene: Scene) -> None:
    sock = scene.add_socket()
    await settle()
    sock.close()
    await settle()
    assert sock in scene.ended
    if scene.set is not None:
        assert sock.number not in scene.set.sockets


@pytest.mark.parametrize("is_waiting", [True, False])
@pytest.mark.parametrize("which", ["sock", "other"])
async def test_a_broken_socket_is_reported_and_others_are_read_all_the_same(
    scene: Scene, which: str, is_waiting: bool
) -> None:
    broken: ModelSocket = getattr(scene, which)
    sound = scene.other if broken is scene.sock else scene.sock
    refusal = OSError("broken")
    if is_waiting:
        with taking(scene, take_one) as (taken, _):
            await settle()
            broken.break_down(refusal)
            sound.arrive(1)
            await settle()
        assert taken == [1]
    else:
        broken.break_down(refusal)
        sound.arrive(1)
        await settle()
        assert numbers_of([scene.delivery.receive_nowait()]) == [1]
    assert scene.broken == [refusal]


# --- The end -------------------------------------------------------------------------------------


@every_form
async def test_closing_wakes_everyone_and_drops_what_is_there(scene: Scene, take: Take) -> None:
    async def refused() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await take(scene.delivery)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(refused)
        await settle()
        scene.close()
    await refused()
    with pytest.raises(trio.ClosedResourceError):
        scene.delivery.receive_nowait()


async def test_what_was_held_when_it_was_closed_can_still_be_counted(scene: Scene) -> None:
    scene.sock.arrive(1, 2, 3)
    await settle()
    scene.close()
    assert len(scene.delivery) == 3
    with pytest.raises(trio.ClosedResourceError):
        await scene.delivery.receive()


@every_form
async def test_after_a_failure_what_is_there_can_still_be_taken(scene: Scene, take: Take) -> None:
    error = OSError("the cable was cut")
    scene.sock.arrive(0, 1, 2, 3)
    await settle()
    scene.delivery.fail(error)
    taken: list[int] = []
    while len(scene.delivery):
        taken += numbers_of(await take(scene.delivery))
    assert taken == [0, 1, 2, 3]
    with pytest.raises(trio.BrokenResourceError) as caught:
        await take(scene.delivery)
    assert caught.value.__cause__ is error
    with pytest.raises(trio.BrokenResourceError):
        scene.delivery.receive_nowait()


@every_form
async def test_a_failure_wakes_who_waits(scene: Scene, take: Take) -> None:
    async def broken() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await take(scene.delivery)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broken)
        nursery.start_soon(broken)
        await settle()
        scene.delivery.fail(OSError())


async def test_what_was_closed_after_a_failure_is_closed(scene: Scene) -> None:
    scene.delivery.fail(OSError())
    scene.close()
    with pytest.raises(trio.ClosedResourceError):
        await scene.delivery.receive()


class FloodedSocket(ModelSocket):
    """Something new is always there."""

    def read(self, found: list[Datagram], _again: bool) -> int:
        self.arrive(*[-1] * DATAGRAMS_PER_READ)
        return super().read(found, _again)


@both_ways
async def test_what_a_retired_socket_has_finds_room_beside_a_flood(
    way: str, autojump_clock: object
) -> None:
    """The room that a task makes is filled again before another one runs."""
    async with trio.open_nursery() as nursery:
        scene = Scene(nursery, way, limit=1)
        scene.sock.__class__ = FloodedSocket
        scene.sock.arrive(-1)
        await settle()
        scene.other.arrive(7)
        scene.other.retire()
        await settle()
        received = []
        for _ in range(3):
            received += numbers_of(await scene.delivery.receive_batch(None))
        assert 7 in received
        scene.close()
