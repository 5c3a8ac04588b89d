"""The pump reads real sockets, for a task of the program or, while there is none, by itself."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

import pytest
import trio
import trio.testing

from trio_mcast import Datagram
from trio_mcast._os.readers import reader_for_this_thread
from trio_mcast._os.readiness import open_readiness_set
from trio_mcast._os.reading import Origin
from trio_mcast.testing import make_interface

if sys.platform != "linux":
    pytest.skip("only Linux has a descriptor for many sockets", allow_module_level=True)

from trio_mcast._pump import Pump

GROUP = ip_address("233.252.0.1")


class Hearing:
    """A socket that is watched, and one that sends to it."""

    def __init__(self, stack: ExitStack, name: str) -> None:
        self.name = name
        self.is_closed = False
        self.over = trio.Event()
        self.before_close: Callable[[], None] | None = None
        self._socket = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._sender.connect(self._socket.getsockname())
        origin = Origin(GROUP, 5000, make_interface(), GROUP.packed, False)
        self.reader = reader_for_this_thread()(self._socket, origin)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self._sender.send(self.name.encode())

    def break_down(self) -> None:
        """The next read is refused: an answer to what was sent to a port that nobody has."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            self._socket.connect(nobody.getsockname())
        self._socket.send(b"")

    def close(self) -> None:
        if self.before_close is not None:
            self.before_close()
        self.is_closed = True
        self.over.set()
        self._socket.close()


class Sink:
    """What the background task has read."""

    def __init__(self) -> None:
        self.free = 10_000
        self.taken: list[str] = []
        self.batches = 0
        self.has_taken = trio.lowlevel.ParkingLot()

    async def wait_for_room(self) -> None:
        pass

    def room(self) -> float:
        return self.free

    async def put(self, batch: list[Datagram]) -> None:
        self.taken += names(batch)
        self.batches += 1
        self.has_taken.unpark_all()

    def is_relief_expected(self) -> bool:
        return False


class Setting:
    """A pump, its background task, and what it reports."""

    def __init__(self, nursery: trio.Nursery, stack: ExitStack) -> None:
        readiness = open_readiness_set()
        assert readiness is not None
        self.sink = Sink()
        self.broken: list[str] = []
        self.pump = Pump(readiness, self.sink, self._note_broken)
        stack.callback(self.pump.close)
        self._nursery = nursery
        self._stack = stack

    def _note_broken(self, membership: Any, ear: Any, error: OSError) -> None:
        assert membership == f"membership of {ear.name}"
        if not ear.is_closed:
            self.broken.append(ear.name)
            ear.close()

    async def hear(self, *some: str) -> list[Hearing]:
        hearings = [Hearing(self._stack, name) for name in some]
        for hearing in hearings:
            membership: Any = f"membership of {hearing.name}"
            ear: Any = hearing
            self._nursery.start_soon(self.pump.watch, membership, ear)
        await trio.testing.wait_all_tasks_blocked()
        return hearings

    def start_background_task(self) -> None:
        self._nursery.start_soon(self.pump.run)


@pytest.fixture
def setting(nursery: trio.Nursery) -> Iterator[Setting]:
    with ExitStack() as stack:
        yield Setting(nursery, stack)


def names(datagrams: list[Datagram]) -> list[str]:
    return [datagram.data.decode() for datagram in datagrams]


async def test_who_leads_gets_what_arrives_at_any_socket(setting: Setting) -> None:
    one, other, _silent = await setting.hear("one", "other", "silent")
    for hearing in (one, other, one):
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            found: list[str] = []

            async def lead(found: list[str] = found) -> None:
                found += names(await setting.pump.lead())

            nursery.start_soon(lead)
            await trio.testing.wait_all_tasks_blocked()
            assert setting.pump.is_led
            hearing.send()
            with trio.fail_after(5):
                while not found:
                    await trio.lowlevel.checkpoint()
            scope.cancel()
        assert found == [hearing.name]
        assert not setting.pump.is_led


async def test_a_flooded_socket_lets_others_be_read(setting: Setting) -> None:
    flooded, quiet = await setting.hear("flooded", "quiet")
    flooded.send(1000)
    found = names(setting.pump.read())
    assert 64 <= len(found) < 256, "other tasks have their turn as well"
    quiet.send()
    assert "quiet" in names(setting.pump.read()) + names(setting.pump.read())
    while setting.pump.has_more:
        found += names(setting.pump.read())
    assert len(found) >= 1000 - 2 * 256


async def test_every_socket_is_read_once_there_is_something_however_many_there_are(
    setting: Setting,
) -> None:
    hearings = await setting.hear(*map(str, range(200)))
    for hearing in hearings:
        hearing.send(2)
    found: list[str] = []
    while batch := names(setting.pump.read()):
        found += batch
    assert not setting.pump.has_more
    assert sorted(found) == sorted([hearing.name for hearing in hearings] * 2)


async def test_no_more_is_read_than_there_is_room_for_but_for_one_read(setting: Setting) -> None:
    (one,) = await setting.hear("one")
    one.send(200)
    setting.sink.free = 0
    assert setting.pump.read() == []
    setting.sink.free = 1
    counts = []
    while count := len(setting.pump.read()):
        counts.append(count)
    assert sum(counts) == 200
    assert max(counts) <= 64


async def test_the_background_task_reads_only_if_the_program_does_not_come_back(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    (one,) = await setting.hear("one")
    setting.pump.is_led = True  # by a task that is about to read
    setting.start_background_task()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(20):
        one.send()
        assert names(await setting.pump.lead()) == ["one"]
        setting.pump.relieve()
    assert setting.sink.taken == []
    one.send(3)
    with trio.fail_after(5):
        while len(setting.sink.taken) < 3:
            await setting.sink.has_taken.park()


async def test_the_background_task_reads_in_batches(setting: Setting) -> None:
    (one,) = await setting.hear("one")
    one.send(1000)
    setting.start_background_task()
    with trio.fail_after(5):
        while len(setting.sink.taken) < 1000:
            await setting.sink.has_taken.park()
    assert setting.sink.batches < 20


@pytest.mark.parametrize("count", [1, 2])
async def test_who_leads_can_be_interrupted_and_cancelled(setting: Setting, count: int) -> None:
    one, *_ = await setting.hear(*["one", "two"][:count])
    interruptions = 0

    async def lead() -> None:
        nonlocal interruptions
        while interruptions < 3:
            assert await setting.pump.lead() == []
            interruptions += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        for number in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert interruptions == number, "each wakes once"
            setting.pump.interrupt()
    with trio.move_on_after(0) as scope:
        await setting.pump.lead()
    assert scope.cancelled_caught
    one.send()
    with trio.fail_after(5):
        assert names(await setting.pump.lead()) == ["one"]


async def test_what_nobody_wants_does_not_keep_other_tasks_waiting(setting: Setting) -> None:
    (one,) = await setting.hear("one")
    one.reader.unwanted_sources = frozenset({"127.0.0.1"})
    read, reads = one.reader.read, 0

    def read_and_send_more(found: list[Datagram], again: bool) -> int:
        nonlocal reads
        reads += 1
        one.send(64)
        return read(found, again)

    setting.pump._watched[one.fileno()] = (
        read_and_send_more,
        *setting.pump._watched[one.fileno()][1:],
    )
    one.send()
    for _ in range(3):
        assert setting.pump.read() == []
        assert setting.pump.has_more
    assert reads < 100


async def test_a_descriptor_that_is_ready_for_nothing_does_not_hold_up_the_program(
    setting: Setting,
) -> None:
    (gone,) = await setting.hear("gone")
    with socket.socket(fileno=os.dup(gone.fileno())):  # as a child process may have it
        gone.send()
        setting.pump._watched.clear()
        gone._socket.close()
        assert setting.pump.read() == []
        with trio.fail_after(5):
            assert await setting.pump.lead() == []


async def test_a_broken_socket_is_reported_and_others_are_read_all_the_same(
    setting: Setting,
) -> None:
    broken, sound = await setting.hear("broken", "sound")
    broken.break_down()
    sound.send()
    found: list[str] = []
    with trio.fail_after(5):
        while not found or not setting.broken:
            found += names(await setting.pump.lead())
    assert setting.broken == ["broken"]
    assert found == ["sound"]


async def test_a_socket_that_was_closed_is_not_taken_for_another_with_its_number(
    setting: Setting,
) -> None:
    (gone,) = await setting.hear("gone")
    number = gone.fileno()
    gone.close()
    (new,) = await setting.hear("new")
    assert new.fileno() == number, "the system gives the lowest number that is free"
    new.send()
    with trio.fail_after(5):
        assert names(await setting.pump.lead()) == ["new"]
    assert setting.broken == []


@pytest.mark.parametrize("by_the_background_task", [True, False])
async def test_closing_wakes_who_leads(by_the_background_task: bool) -> None:
    async with trio.open_nursery() as nursery:
        with ExitStack() as stack:
            setting = Setting(nursery, stack)
            (one,) = await setting.hear("one")
            nursery.start_soon(setting.pump.run if by_the_background_task else setting.pump.lead)
            await trio.testing.wait_all_tasks_blocked()
            assert setting.pump.is_led
            one.over.set()
        assert setting.pump.read() == []


def test_a_set_that_cannot_be_made_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self) -> None:
            raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr(select, "epoll", Refusing)
    before = os.listdir("/proc/self/fd")
    assert open_readiness_set() is None
    assert os.listdir("/proc/self/fd") == before
