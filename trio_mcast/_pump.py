"""One wait for all sockets of a receiver, by whoever needs a datagram most.

With hundreds of sockets that get a datagram each in turn, waking a task for each would cost more
than reading does. So where the system can watch many sockets by one descriptor, one task waits for
that, and reads whatever is ready.

And a program's task that waits for a datagram need not be woken by a background task that was woken
by the kernel: it does the waiting itself (it *leads*). The background task rests meanwhile, and
takes over when the program is busy with what it got.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from ._membership import Membership, SocketEar
from ._os.readiness import ReadinessSet
from ._os.reading import DATAGRAMS_PER_READ

# After so many datagrams it is other tasks' turn.
_DATAGRAMS_PER_TURN: Final = 2 * DATAGRAMS_PER_READ


class Sink(Protocol):
    """What takes the datagrams, as far as the pump is concerned."""

    async def wait_for_room(self) -> None:
        """Return when it is time to read."""

    def has_room(self) -> bool:
        """Whether it is time to read."""

    def is_relief_expected(self) -> bool:
        """Whether a task of the program was woken that will lead, or else call `relieve`."""


class Pump:
    """Waits for sockets and has them read.

    Attributes:
      is_led: whether some task waits for the sockets now
    """

    def __init__(
        self,
        readiness: ReadinessSet,
        read: Callable[[Membership, SocketEar], Awaitable[int]],
        sink: Sink,
    ) -> None:
        """Watch nothing yet.

        Args:
          readiness: the set to watch by
          read: reads a socket and passes on what it had; returns how many datagrams
          sink: where that goes
        """
        self.is_led = False
        self._readiness = readiness
        self._read = read
        self._sink = sink
        self._watched: dict[int, tuple[Membership, SocketEar]] = {}
        self._ready: deque[int] = deque()
        self._resting = trio.lowlevel.ParkingLot()
        self._is_closed = False

    @contextmanager
    def watching(self, membership: Membership, ear: SocketEar) -> Iterator[None]:
        """Read this socket whenever there is something, for as long as the block lasts."""
        descriptor = ear.fileno()
        entry = (membership, ear)
        self._readiness.add(descriptor)
        self._watched[descriptor] = entry
        try:
            yield
        finally:
            # Once closed, the number may be another socket's already.
            if self._watched.get(descriptor) is entry:
                del self._watched[descriptor]
                if not ear.is_closed and not self._is_closed:
                    self._readiness.remove(descriptor)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """The background task, which leads while no task of the program does. It never raises."""
        while not self._is_closed:
            await self._sink.wait_for_room()
            if self.is_led or self._sink.is_relief_expected():
                await self._resting.park()
            else:
                await self.lead()

    @trio.lowlevel.enable_ki_protection
    async def lead(self) -> None:
        """Wait until some sockets are ready, and read them, or some of them."""
        self.is_led = True
        try:
            if self._ready:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._readiness)
        except trio.ClosedResourceError:
            return
        finally:
            self.is_led = False
        await self.read_now()

    @trio.lowlevel.enable_ki_protection
    async def read_now(self) -> None:
        """Read the sockets that are ready, or some of them, without waiting."""
        if not self._ready and not self._is_closed:
            self._ready.extend(self._readiness.ready())
        read = 0
        while self._ready and read < _DATAGRAMS_PER_TURN and self._sink.has_room():
            descriptor = self._ready.popleft()
            entry = self._watched.get(descriptor)
            if entry is not None and not entry[1].is_retired and not entry[1].is_closed:
                count = await self._read(*entry)
                read += count
                if count >= DATAGRAMS_PER_READ:
                    self._ready.append(descriptor)

    def interrupt(self) -> None:
        """Have whoever leads look again: datagrams came by another way, or none will."""
        self._readiness.wake()

    def relieve(self) -> None:
        """A task of the program leads no longer."""
        self._resting.unpark_all()

    def close(self) -> None:
        self._is_closed = True
        trio.lowlevel.notify_closing(self._readiness)
        self._readiness.close()
        self._resting.unpark_all()
