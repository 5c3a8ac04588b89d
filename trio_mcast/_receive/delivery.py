"""From the sockets of a receiver to the tasks of the program: who waits, who reads, who is served.

Everything that decides about this lives here. The rules:

1. What was read is *held* until a task takes it, each datagram once and in the order of reading.
2. Tasks that find nothing held stand in a line, and are served in the order in which they came.
   Nobody takes what is held from under them. So nothing is held while somebody stands in line,
   but for the moment in which the first is being woken to take it.
3. Where the system can wait for many sockets by one descriptor (a `SocketSet`), the first in line
   waits for the sockets itself, and reads when some are ready. A datagram then reaches the program
   by one wake-up, where a background task that hands it over would cost a second one. When the
   first leaves, the next in line is woken to wait in its place.
4. While nobody stands in line, an alarm is set at the set. When something arrives it wakes the
   background task, which reads if the program does not come back within a moment. The alarm goes
   off once, so while the program comes and goes in time, the background task sleeps.
5. Without a set, the task of each socket waits for that socket and reads it.
6. Held is at most so many datagrams, and so many bytes, and one batch more with overflow "wait":
   when it is full, nobody reads, and the kernel's buffer fills. With "drop-oldest" reading goes on,
   and what is too much is taken off the old end and counted.
7. A task that reads on and on lets others run after `_DATAGRAMS_PER_TURN` datagrams at most.

====================  ============  =======================  =================================
state                 held          waits for the sockets    goes on when
====================  ============  =======================  =================================
a task waits          nothing       the first in line        something arrives; it is cancelled
unattended, alarm     some or none  nobody: the alarm is set a task comes; the alarm goes off
unattended, alert     some or none  the background task,     it has read all; a task comes
                                    after `_PATIENCE`
full                  too much      nobody                   a task takes some
over                  what is left  nobody                   (closed, or failed for good)
====================  ============  =======================  =================================
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import trio
from trio.lowlevel import (  # looked up once: they are called for each datagram
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    wait_task_rescheduled,
)

from .._base.datagram import Datagram
from .._machine.receiving import DATAGRAMS_PER_READ, ReceivingSocket, SocketSet
from .._machine.sockets import LOOK_SECONDS
from .backlog import Backlog

Overflow: TypeAlias = Literal["wait", "drop-oldest"]

# After so many datagrams it is other tasks' turn, which are then some tenth of a millisecond late.
# Without a limit they would starve under a flood.
_DATAGRAMS_PER_TURN: Final = 2 * DATAGRAMS_PER_READ

# Other tasks run at least once in so many datagrams that are taken one by one.
_TAKES_PER_TURN: Final = 64

# For so long the background task leaves the sockets to a program that has just read and may be
# back at once. Meanwhile the kernel's buffer has to do: the smallest that systems grant by default
# is full after 256 datagrams, which is a rate of 256,000 a second.
_PATIENCE: Final = 0.001


class _Waiter:
    """A task in line."""

    __slots__ = ("datagrams", "limit", "task")

    def __init__(self, task: trio.lowlevel.Task, limit: int | None) -> None:
        self.task = task
        self.limit = limit
        self.datagrams: list[Datagram] | None = None


class Delivery:
    """Moves datagrams from sockets to tasks. The rules are at the head of this file."""

    def __init__(
        self,
        held: Backlog,
        waits_when_full: bool,
        sockets: SocketSet | None,
        count_lost: Callable[[list[Datagram]], None],
        report_broken: Callable[[ReceivingSocket, OSError], None],
        see_news: Callable[[bool], None],
    ) -> None:
        """Nothing is waited for yet.

        Args:
          held: what was read is held there
          waits_when_full: with overflow "wait"; False with "drop-oldest"
          sockets: the set to wait by; None where the system has none
          count_lost: is told of what was given up for newer datagrams
          report_broken: is told of a socket that cannot be read, and closes it
          see_news: is called before anything is read: some sockets may have to be closed. Is told
            whether the event loop has asked the system since the program's code ran
        """
        self._held = held
        self._waits_when_full = waits_when_full
        self._most_at_once: tuple[float, float] = (_DATAGRAMS_PER_TURN, math.inf)
        if waits_when_full:
            self._most_at_once = (min(_DATAGRAMS_PER_TURN, held.room()), held.byte_room())
        self._sockets = sockets
        self._count_lost = count_lost
        self._report_broken = report_broken
        self._see_news = see_news

        self._line: OrderedDict[_Waiter, None] = OrderedDict()
        self._poller: _Waiter | None = None  # the first in line, once it waits for the sockets
        self._until_others_run = _TAKES_PER_TURN

        self._by_number: dict[int, ReceivingSocket] = {}
        self._ready: Sequence[int] = ()  # whose turn to be read is next
        self._may_have_more = False  # whether the last read left something, as far as is known
        self._reads = 0  # by the program's tasks

        self._wait_for_room: list[ReceivingSocket] = []  # sockets that are read by themselves
        self._is_armed = False
        self._is_alert = False  # the alarm has gone off, and the background task sees to it
        self._is_blocked = False  # somebody would read if there were room
        self._room_made = trio.lowlevel.ParkingLot()

        self._is_closed = False
        self._count_when_closed = 0
        self._failure: BaseException | None = None
        if sockets is not None:
            self._set_alarm()

    # --- Taking: called by tasks of the program ---------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Datagram:
        """The next datagram. A checkpoint, but for others only once in `_TAKES_PER_TURN`."""
        # Only the half of a checkpoint that can be cancelled: to let others run each time would
        # cost several times as much as all the rest does.
        await checkpoint_if_cancelled()
        held = self._held
        if held and not self._line:
            if self._until_others_run > 0:
                self._until_others_run -= 1
                datagram = held.popleft()
                if self._is_blocked:
                    self._unblock()
                return datagram
            self._until_others_run = _TAKES_PER_TURN
            # The other half. Not cancellable: cancellation was looked for, and once is enough.
            await cancel_shielded_checkpoint()
        return (await self._obtain(1))[0]

    @trio.lowlevel.enable_ki_protection
    async def receive_batch(self, limit: int | None) -> list[Datagram]:
        """All datagrams that are there, at least one. A full checkpoint."""
        if self._held and not self._line:
            await checkpoint()
        else:
            await checkpoint_if_cancelled()
        return await self._obtain(limit)

    @trio.lowlevel.enable_ki_protection
    def receive_nowait(self) -> Datagram:
        """The next datagram that is there, here or at a socket."""
        if not self._line:
            if not self._held and not self._is_closed:
                self._read()
            if self._held:
                return self._take(1)[0]
        self._raise_if_over()
        raise trio.WouldBlock

    async def _obtain(self, limit: int | None) -> list[Datagram]:
        if not self._line:
            # The sockets are asked before they are waited for only if something is likely to be
            # there: to be told that there is nothing costs a tenth of a wake-up, for nothing.
            if self._may_have_more and not self._held and not self._is_closed:
                self._reads += 1
                self._read()
                if self._held:
                    await checkpoint()
            # Asked again, for others have run since: they may have taken it, or stand in line now.
            if self._held and not self._line:
                return self._take(limit)
        if not self._held:
            self._raise_if_over()
        waiter = _Waiter(current_task(), limit)
        if self._sockets is not None and not self._line:
            self._poller = waiter
        self._line[waiter] = None
        try:
            return await self._wait_in_line(waiter)
        finally:
            self._until_others_run = _TAKES_PER_TURN  # they ran while it waited
            self._line.pop(waiter, None)
            if self._poller is waiter:
                self._poller = None
            # It may leave datagrams behind: of a batch of which it wanted one, or of what came just
            # as it was cancelled. And somebody else has to wait for the sockets now.
            self._serve()

    async def _wait_in_line(self, waiter: _Waiter) -> list[Datagram]:
        def leave(_: object) -> trio.lowlevel.Abort:
            # At once, or it might be handed something on its way to being cancelled.
            del self._line[waiter]
            return trio.lowlevel.Abort.SUCCEEDED

        while self._poller is not waiter:
            await wait_task_rescheduled(leave)
            if waiter.datagrams is not None:
                return waiter.datagrams
            # Woken with empty hands: all is over, or it is the first in line now.
            self._raise_if_over()
        assert self._sockets is not None
        while not self._held:
            self._raise_if_over()
            # Sockets that are known to hold more are read at once: to wait for them would return at
            # once too, but only after a turn of the event loop.
            if self._may_have_more:
                self._reads += 1
                self._read()
                if self._held:
                    break
            # An alarm would wake the background task for what this task is going to read itself.
            self._disarm(self._sockets)
            try:
                await self._sockets.wait()
            except trio.ClosedResourceError:  # interrupted: something came by another way, or ends
                continue
            except OSError:
                await trio.sleep(LOOK_SECONDS)
            if not self._held and not self._is_closed:
                self._reads += 1
                self._read(is_urgent=True)
        return self._take(waiter.limit)

    def _take(self, limit: int | None) -> list[Datagram]:
        held = self._held
        if limit is None or limit >= len(held):
            taken = list(held)
            held.clear()
        else:
            taken = [held.popleft() for _ in range(limit)]
        if self._is_blocked:
            self._unblock()
        return taken

    def _serve(self) -> None:
        """Hand what is held to those in line; then have the first wait, or nobody but the alarm."""
        is_over = self._is_closed or self._failure is not None
        while self._line:
            first = next(iter(self._line))
            if first is self._poller:
                # It waits for the sockets, where nothing can be handed to it: it takes what is held
                # when it runs. Until then it stays the first in line, so nobody takes it before.
                if self._held or is_over:
                    assert self._sockets is not None
                    self._sockets.interrupt()
                return
            if self._held:
                del self._line[first]
                first.datagrams = self._take(first.limit)
            elif is_over:
                del self._line[first]
            elif self._sockets is not None:
                self._poller = first
            else:
                return
            trio.lowlevel.reschedule(first.task)
        if self._sockets is not None:
            self._set_alarm()

    def _raise_if_over(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this receiver was closed")
        if self._failure is not None:
            raise trio.BrokenResourceError(
                "no membership of this receiver can deliver again"
            ) from self._failure

    # --- Reading ----------------------------------------------------------------------------------

    def _read(self, is_urgent: bool = False) -> None:
        """Read sockets that are ready, or some of them, without waiting; hold what they have.

        Args:
          is_urgent: if there is just one datagram, hold it before looking for others
        """
        if is_urgent:
            self._see_news(True)
        if self._wait_for_room:
            # What has retired is older, and would never find room beside a flood.
            for retired in [sock for sock in self._wait_for_room if sock.is_retired]:
                self.read_out(retired)
        found: list[Datagram] = []
        count = 0  # also of those that nobody wants
        size = 0  # of the payloads
        self._may_have_more = True
        limit, most_bytes = self._most_at_once
        if self._held and self._waits_when_full:
            limit = min(_DATAGRAMS_PER_TURN, self._held.room())
            most_bytes = self._held.byte_room()
        by_number = self._by_number
        if is_urgent and not self._ready and len(by_number) == 1:
            self._ready = tuple(by_number)  # no need to ask which of them: a system call saved
        before: Sequence[int] = ()
        while count < limit and size < most_bytes and not self._is_closed:
            # Those that were ready the last time and not reached go first, or a flood in the first
            # of them would starve the others.
            is_fresh = not self._ready
            ready = self._ready or self._find_ready()
            if not ready:
                self._may_have_more = False
                break
            if not is_urgent and not before:
                self._see_news(False)
            # Those that were read a moment ago and have something again are worth a read of many.
            again = set(before).intersection(ready) if before else ()
            count_before = count
            left = iter(ready)
            for number in left:
                sock = by_number.get(number)
                if sock is None:
                    continue
                size -= sock.bytes_read
                try:
                    count += sock.read(found, number in again)
                except OSError as error:
                    self._report_broken(sock, error)
                size += sock.bytes_read
                if count >= limit or size >= most_bytes:
                    break
            self._ready = list(left)
            before = ready
            # All were empty, whatever the system said: a datagram with a wrong checksum does that
            # (select(2), BUGS). To go on would be to turn in a circle.
            if is_fresh and count == count_before:
                self._may_have_more = False
                break
            # One datagram after a wait: somebody waits for it, and there are rarely more. Whether
            # there are is asked before the next wait (`_may_have_more`).
            if is_urgent and count == 1:
                break
        if found:
            self._hold(found, size)

    def _find_ready(self) -> Sequence[int]:
        return tuple(self._by_number) if self._sockets is None else self._sockets.ready()

    def _hold(self, batch: list[Datagram], size: int) -> None:
        self._held.add(batch, size)
        if not self._waits_when_full and (shed := self._held.shed()):
            self._count_lost(shed)

    def _room(self) -> float:
        """So many datagrams fit, and one batch more."""
        return self._held.room() if self._waits_when_full else math.inf

    def _unblock(self) -> None:
        """There is room again: who waits for it looks whether it is enough."""
        self._is_blocked = False
        self._room_made.unpark_all()
        if self._sockets is not None and not self._line:
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Have the background task woken when something arrives, if there is room for it."""
        if self._is_armed or self._is_alert or self._is_closed:
            return
        if self._room() > 0:
            assert self._sockets is not None
            self._is_armed = self._sockets.arm()
        else:
            self._is_blocked = True

    def _disarm(self, sockets: SocketSet) -> None:
        if self._is_armed:
            self._is_armed = False
            sockets.disarm()

    # --- The background ---------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """The background task, for as long as the receiver is open. It never raises."""
        if self._sockets is None:
            return
        while not self._is_closed:
            try:
                await self._sockets.wait_for_alarm()
            except trio.ClosedResourceError:
                return
            except OSError:
                await trio.sleep(LOOK_SECONDS)
            if self._is_closed:  # just after the alarm went off
                return
            self._disarm(self._sockets)
            self._is_alert = True
            await self._stand_in()
            self._is_alert = False
            if not self._line:
                self._set_alarm()

    async def _stand_in(self) -> None:
        """Read for a program that is away, until there is nothing more or it is back."""
        reads_seen = -1
        while not self._line and not self._is_closed and self._room() > 0:
            # As long as the program comes and reads, however briefly, it is faster than any reading
            # on its behalf: what is read here has to be taken from here afterwards.
            if self._reads != reads_seen:
                reads_seen = self._reads
                await trio.sleep(_PATIENCE)
                continue
            self._read()
            if not self._may_have_more:
                return
            await checkpoint()

    @trio.lowlevel.enable_ki_protection
    async def deliver_from(self, sock: ReceivingSocket) -> None:
        """The task of a socket, until it is closed, or has retired and is empty."""
        by_number, sockets = self._by_number, self._sockets
        if sockets is not None and not sock.over.is_set():
            try:
                number = sockets.add(sock)
            except OSError:
                pass  # There is no room for one more in the set, so it is waited for by itself.
            else:
                by_number[number] = sock
                try:
                    await sock.over.wait()
                finally:
                    sockets.remove(sock)
                    # Once it is closed, its number may be another socket's.
                    if by_number.get(number) is sock:
                        del by_number[number]
        number = -id(sock)  # no descriptor
        by_number[number] = sock
        try:
            await self._read_alone(sock)
        finally:
            del by_number[number]

    async def _read_alone(self, sock: ReceivingSocket) -> None:
        has_more = False
        while not sock.is_closed:
            try:
                if sock.is_retired:  # Nothing new can come, so there is nothing to wait for.
                    await checkpoint()
                else:
                    await sock.wait_readable()
            except trio.ClosedResourceError:  # closed, or retired
                continue
            except OSError:
                await trio.sleep(LOOK_SECONDS)
            # Room before reading: what was read and cannot be held would be lost, while what is not
            # read stays with the kernel, which drops cheaply, and counts.
            self._wait_for_room.append(sock)
            try:
                while self._room() <= 0 and not sock.is_closed:
                    self._is_blocked = True
                    await self._room_made.park()
            finally:
                self._wait_for_room.remove(sock)
            self._see_news(True)
            if sock.is_closed:
                return
            batch: list[Datagram] = []
            refusal = None
            bytes_before = sock.bytes_read
            try:
                has_more = bool(sock.read(batch, has_more))
            except OSError as error:
                refusal = error
            if batch:
                self._hold(batch, sock.bytes_read - bytes_before)
                self._serve()
            if refusal is not None:
                self._report_broken(sock, refusal)
            elif sock.is_retired and not has_more:
                return

    def read_out(self, sock: ReceivingSocket) -> bool:
        """Hold what a socket that has retired still has, as long as there is room.

        Returns:
          Whether that was all
        """
        is_empty = False
        while not is_empty and self._room() > 0:
            batch: list[Datagram] = []
            bytes_before = sock.bytes_read
            try:
                is_empty = not sock.read(batch, True)
            except OSError:  # so it is lost, and nothing more is to be had
                is_empty = True
            if batch:
                self._hold(batch, sock.bytes_read - bytes_before)
        self._serve()
        return is_empty

    # --- The end ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many datagrams are held, or were when this was closed."""
        return self._count_when_closed if self._is_closed else len(self._held)

    def fail(self, error: BaseException) -> None:
        """Nothing will come any more. What is held can still be taken."""
        self._failure = error
        self._serve()

    def revive(self) -> None:
        """Something may come again."""
        self._failure = None

    def close(self) -> None:
        """Whoever waits gets a ClosedResourceError, and so does whoever comes later."""
        if self._is_closed:
            return
        self._is_closed = True
        self._count_when_closed = len(self._held)
        self._held.clear()
        self._serve()
        self._room_made.unpark_all()
        self._is_armed = False
        if self._sockets is not None:
            self._sockets.close()
