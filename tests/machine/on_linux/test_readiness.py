"""Many real sockets that one task waits for."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest
import trio
import trio.testing
from patience import PATIENCE

from trio_mcast import Datagram
from trio_mcast._machine.epoll import EpollSet
from trio_mcast._machine.receiving import Origin, ReceivingSocket, SocketSet
from trio_mcast._machine.this_machine import _find_way_to_read, _open_socket_set as open_socket_set
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._receive.backlog import Backlog
from trio_mcast._receive.delivery import Delivery
from trio_mcast.testing import make_interface

if sys.platform != "linux":
    pytest.skip("only Linux has a descriptor for many sockets", allow_module_level=True)

GROUP = ip_address("233.252.0.1")


class Hearing:
    """A socket that is heard, and one that sends to it."""

    def __init__(self, stack: ExitStack, name: str) -> None:
        self.name = name
        self.socket = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self._sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._sender.connect(self.socket.getsockname())
        origin = Origin.make(GROUP, 5000, make_interface())
        plan = SocketPlan(
            socket.AF_INET, (), None, (), group=origin.group, interface=origin.interface
        )
        self.receiving = _find_way_to_read()(self.socket, plan, origin)

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self._sender.send(self.name.encode())

    def break_down(self) -> None:
        """The next read is refused: an answer to what was sent to a port that nobody has."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            self.socket.connect(nobody.getsockname())
        self.socket.send(b"")


class Setting:
    """A delivery, and what it reports."""

    def __init__(self, nursery: trio.Nursery, stack: ExitStack) -> None:
        self.broken: list[str] = []
        self._hearings: dict[ReceivingSocket, Hearing] = {}
        self.delivery = Delivery(
            Backlog(10_000, 2**40),
            True,
            open_socket_set(),
            list.clear,
            self._report,
            lambda _is_polled: None,
        )
        stack.callback(self.delivery.close)
        self._nursery = nursery
        self._stack = stack
        nursery.start_soon(self.delivery.run)

    async def hear(self, *some: str) -> list[Hearing]:
        hearings = [Hearing(self._stack, name) for name in some]
        for hearing in hearings:
            self._hearings[hearing.receiving] = hearing
            self._nursery.start_soon(self.delivery.deliver_from, hearing.receiving)
        await trio.testing.wait_all_tasks_blocked()
        return hearings

    def _report(self, sock: ReceivingSocket, _error: OSError) -> None:
        self.broken.append(self._hearings[sock].name)
        sock.close()


@pytest.fixture
def setting(nursery: trio.Nursery) -> Iterator[Setting]:
    with ExitStack() as stack:
        yield Setting(nursery, stack)


@pytest.fixture
async def sockets() -> AsyncIterator[SocketSet]:
    """A set that is closed at the end."""
    found = open_socket_set()
    assert found is not None
    yield found
    found.close()


def names(datagrams: list[Datagram]) -> list[str]:
    return [datagram.data.decode() for datagram in datagrams]


# --- The set -------------------------------------------------------------------------------------


@pytest.fixture
async def one(sockets: SocketSet) -> AsyncIterator[Hearing]:
    with ExitStack() as stack:
        one = Hearing(stack, "one")
        sockets.add(one.receiving)
        yield one


async def test_waiting_ends_when_a_socket_is_readable(sockets: SocketSet, one: Hearing) -> None:
    assert sockets.ready() == []
    one.send()
    with trio.fail_after(PATIENCE):
        await sockets.wait()
    assert sockets.ready() == [one.fileno()]


async def test_waiting_can_be_interrupted_and_cancelled(sockets: SocketSet, one: Hearing) -> None:
    interruptions = 0

    async def wait() -> None:
        nonlocal interruptions
        for _ in range(3):
            with pytest.raises(trio.ClosedResourceError):
                await sockets.wait()
            interruptions += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for number in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert interruptions == number, "each wakes once"
            sockets.interrupt()
    sockets.interrupt()  # nobody: no harm
    with trio.move_on_after(0) as scope:
        await sockets.wait()
    assert scope.cancelled_caught
    one.send()
    with trio.fail_after(PATIENCE):
        await sockets.wait()


async def test_the_alarm_goes_off_only_while_it_is_armed(sockets: SocketSet, one: Hearing) -> None:
    alarms = 0

    async def wait_for_alarms() -> None:
        nonlocal alarms
        while True:
            await sockets.wait_for_alarm()
            alarms += 1
            sockets.disarm()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_alarms)
        one.send()
        await trio.testing.wait_all_tasks_blocked()
        assert alarms == 0
        sockets.arm()  # there is something already
        await trio.testing.wait_all_tasks_blocked()
        assert alarms == 1
        one.socket.recv(100)
        sockets.arm()
        await trio.testing.wait_all_tasks_blocked()
        assert alarms == 1
        sockets.disarm()
        one.send()
        await trio.testing.wait_all_tasks_blocked()
        assert alarms == 1
        one.socket.recv(100)
        sockets.arm()
        one.send()
        with trio.fail_after(PATIENCE):
            while alarms == 1:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_closing_wakes_whoever_waits(one: Hearing) -> None:
    sockets = open_socket_set()
    assert sockets is not None

    async def expect_the_end(wait: str) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await getattr(sockets, wait)()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_the_end, "wait")
        nursery.start_soon(expect_the_end, "wait_for_alarm")
        await trio.testing.wait_all_tasks_blocked()
        sockets.close()


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_set_that_cannot_be_made_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    made = 0
    real = select.epoll

    def refuse() -> select.epoll:
        nonlocal made
        made += 1
        if made == fails_at:
            raise OSError(errno.EMFILE, "no more")
        return real()

    monkeypatch.setattr(select, "epoll", refuse)
    before = os.listdir("/proc/self/fd")
    assert open_socket_set() is None
    assert os.listdir("/proc/self/fd") == before


# --- Delivery from it ----------------------------------------------------------------------------


async def test_a_task_that_waits_gets_what_arrives_at_any_socket(setting: Setting) -> None:
    one, other, _silent = await setting.hear("one", "other", "silent")
    found: list[str] = []

    async def take() -> None:
        found.extend(names([await setting.delivery.receive()]))

    for hearing in (one, other, one):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            hearing.send()
    assert found == ["one", "other", "one"]


async def test_a_flooded_socket_lets_others_be_read(setting: Setting) -> None:
    flooded, quiet = await setting.hear("flooded", "quiet")
    flooded.send(1000)
    found = names(await setting.delivery.receive_batch(None))
    assert len(found) < 256, "other tasks have their turn as well"
    quiet.send()
    while "quiet" not in found:
        found += names(await setting.delivery.receive_batch(None))
    assert len(found) < 512


async def test_every_socket_is_read_once_there_is_something_however_many_there_are(
    setting: Setting,
) -> None:
    hearings = await setting.hear(*map(str, range(200)))
    for hearing in hearings:
        hearing.send(2)
    found: list[str] = []
    with trio.fail_after(PATIENCE):
        while len(found) < 400:
            found += names(await setting.delivery.receive_batch(None))
    assert sorted(found) == sorted([hearing.name for hearing in hearings] * 2)


async def test_what_nobody_wants_does_not_keep_other_tasks_waiting(setting: Setting) -> None:
    (one,) = await setting.hear("one")
    one.receiving.unwanted_sources = frozenset({"127.0.0.1"})
    one.send(1000)
    with trio.move_on_after(0.05) as scope:
        await setting.delivery.receive()
    assert scope.cancelled_caught
    one.receiving.unwanted_sources = frozenset()
    one.send()
    with trio.fail_after(PATIENCE):
        assert names([await setting.delivery.receive()]) == ["one"]


async def test_a_descriptor_that_is_ready_for_nothing_does_not_hold_up_the_program(
    setting: Setting,
) -> None:
    gone, sound = await setting.hear("gone", "sound")
    with socket.socket(fileno=os.dup(gone.fileno())):  # as a child process may have it
        gone.send()
        del setting.delivery._by_number[gone.fileno()]
        gone.socket.close()
        with trio.move_on_after(0.05) as scope:
            await setting.delivery.receive()
        assert scope.cancelled_caught
        sound.send()
        with trio.fail_after(PATIENCE):
            assert names([await setting.delivery.receive()]) == ["sound"]


async def test_a_broken_socket_is_reported_and_others_are_read_all_the_same(
    setting: Setting,
) -> None:
    broken, sound = await setting.hear("broken", "sound")
    broken.break_down()
    sound.send()
    with trio.fail_after(PATIENCE):
        assert names([await setting.delivery.receive()]) == ["sound"]
    await trio.testing.wait_all_tasks_blocked()
    assert setting.broken == ["broken"]


async def test_a_socket_that_was_closed_is_not_taken_for_another_with_its_number(
    setting: Setting,
) -> None:
    (gone,) = await setting.hear("gone")
    number = gone.fileno()
    gone.receiving.close()
    (new,) = await setting.hear("new")
    assert new.fileno() == number, "the system gives the lowest number that is free"
    new.send()
    with trio.fail_after(PATIENCE):
        assert names([await setting.delivery.receive()]) == ["new"]
    assert setting.broken == []


async def test_a_set_that_is_closed_interrupts_nobody_who_has_its_number_now() -> None:
    closed = open_socket_set()
    assert isinstance(closed, EpollSet)
    number = closed._descriptor
    reader, writer = socket.socketpair()
    with reader, writer:
        closed.close()
        os.dup2(reader.fileno(), number)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_readable, number)
                await trio.testing.wait_all_tasks_blocked()
                closed.interrupt()
                await trio.testing.wait_all_tasks_blocked()
                writer.send(b"x")
        finally:
            os.close(number)
