"""One wait for all sockets of a receiver, by whoever needs a datagram most.

With hundreds of sockets that get a datagram each in turn, waking a task for each would cost more
than reading does. So where the system can watch many sockets by one descriptor, one task waits for
that, and reads whatever is ready.

And a program's task that waits for a datagram need not be woken by a background task that was woken
by the kernel: it does the waiting itself (it *leads*). The background task rests meanwhile, and
takes over when the program is busy with what it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

import trio

from ._membership import Membership, SocketEar
from ._os.readiness import ReadinessSet
from ._os.reading import DATAGRAMS_PER_READ
from ._plan.datagram import Datagram

# After so many datagrams it is other tasks' turn, which are then some tenth of a millisecond late.
# Without a limit they would starve under a flood.
_DATAGRAMS_PER_TURN: Final = 2 * DATAGRAMS_PER_READ

# So long the background task leaves the sockets to a task of the program that has just read them
# and may be back at once.
_PATIENCE: Final = 0.001


class Sink(Protocol):
    """What takes the datagrams, as far as the pump is concerned."""

    async def wait_for_room(self) -> None:
        """Return when it is time to read."""

    def room(self) -> float:
        """So many datagrams may be read, and one read's more."""

    async def put(self, batch: list[Datagram]) -> None:
        """Take a batch."""

    def is_relief_expected(self) -> bool:
        """Whether a task of the program was woken that will lead, or else call `relieve`."""


_Watched: TypeAlias = tuple[Callable[[list[Datagram], bool], int], Membership, SocketEar]
"""A socket, its membership, and what is called to read it."""


class Pump:
    """Waits for sockets and has them read.

    Attributes:
      is_led: whether some task waits for the sockets now
      has_more: whether the last read left something, as far as is known
    """

    def __init__(
        self,
        readiness: ReadinessSet,
        sink: Sink,
        report_broken: Callable[[Membership, SocketEar, OSError], None],
    ) -> None:
        """Watch nothing yet.

        Args:
          readiness: the set to watch by
          sink: where goes what the background task has read
          report_broken: is told of a socket that cannot be read, unless it was closed meanwhile
        """
        self.is_led: bool = False
        self.has_more: bool = False
        self._readiness = readiness
        self._sink = sink
        self._report_broken = report_broken
        self._watched: dict[int, _Watched] = {}
        self._ready: Sequence[int] = ()  # whose turn is next
        self._was_used = False
        self._resting: trio.lowlevel.Task | None = None
        self._is_closed = False

    async def watch(self, membership: Membership, ear: SocketEar) -> None:
        """Have this socket read whenever there is something, until it has retired or was closed.

        If there is no room for one more in the set, return at once.
        """
        descriptor = ear.fileno()
        entry = (ear.reader.read, membership, ear)
        try:
            self._readiness.add(descriptor)
        except OSError:
            return
        self._watched[descriptor] = entry

        def end() -> None:
            # Once closed, the number may be another socket's already. It must be taken out before:
            # where a child process has a copy, closing does not do that (epoll(7)).
            if self._watched.get(descriptor) is entry:
                del self._watched[descriptor]
                if not self._is_closed:
                    self._readiness.remove(descriptor)

        ear.before_close = end
        try:
            await ear.over.wait()
        finally:
            end()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """The background task, which leads while no task of the program does. It never raises."""
        while not self._is_closed:
            await self._sink.wait_for_room()
            if self.is_led or self._sink.is_relief_expected():
                await self._rest()
            elif self._was_used:
                self._was_used = False
                await trio.sleep(_PATIENCE)
            elif await self._wait():
                batch = self.read()
                self._was_used = False
                if batch:
                    await self._sink.put(batch)

    @trio.lowlevel.enable_ki_protection
    async def lead(self) -> list[Datagram]:
        """Wait until some sockets are ready, and read some; a single datagram goes on at once."""
        if not await self._wait():
            return []
        if not self._ready and len(self._watched) == 1:
            self._ready = tuple(self._watched)  # no need to ask which of them
        return self.read(is_urgent=True)

    @trio.lowlevel.enable_ki_protection
    async def _wait(self) -> bool:
        """Return when some sockets are ready: True, or False if this was closed meanwhile."""
        self.is_led = True
        try:
            if self._ready:
                await trio.lowlevel.checkpoint()
            elif not self._is_closed:
                await trio.lowlevel.wait_readable(self._readiness)
        except trio.ClosedResourceError:
            pass
        finally:
            self.is_led = False
        return not self._is_closed

    @trio.lowlevel.enable_ki_protection
    def read(self, is_urgent: bool = False) -> list[Datagram]:
        """Read the sockets that are ready, or some of them, without waiting.

        Args:
          is_urgent: if there is just one datagram, return it before looking for others
        """
        found: list[Datagram] = []
        count = 0  # also of those that nobody wants
        self.has_more = self._was_used = True
        limit = min(_DATAGRAMS_PER_TURN, self._sink.room())
        watched = self._watched
        before: Sequence[int] = ()
        while count < limit and not self._is_closed:
            is_fresh = not self._ready
            ready = self._ready or self._readiness.ready()
            if not ready:
                self.has_more = False
                break
            again = set(before).intersection(ready) if before else ()
            count_before = count
            left = iter(ready)
            for descriptor in left:
                entry = watched.get(descriptor)
                if entry is None:
                    continue
                read, membership, ear = entry
                try:
                    count += read(found, descriptor in again)
                except OSError as error:
                    self._report_broken(membership, ear, error)
                if count >= limit:
                    break
            self._ready = list(left)
            before = ready
            if is_fresh and count == count_before:  # something is ready, but for no read
                break
            if is_urgent and count == 1:
                break
        return found

    def interrupt(self) -> None:
        """Have whoever leads look again: datagrams came by another way, or none will."""
        self._readiness.wake()

    def relieve(self) -> None:
        """A task of the program leads no longer; but it may be back at once."""
        self._end_rest()

    def close(self) -> None:
        self._is_closed = True
        trio.lowlevel.notify_closing(self._readiness)
        self._readiness.close()
        self._end_rest()

    async def _rest(self) -> None:
        """Until `_end_rest`. A `ParkingLot` would take longer when a datagram is on its way."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._resting = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._resting = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _end_rest(self) -> None:
        if self._resting is not None:
            task, self._resting = self._resting, None
            trio.lowlevel.reschedule(task)
