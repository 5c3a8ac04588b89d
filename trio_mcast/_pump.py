"""One wait for all sockets of a receiver, by whoever needs a datagram most.

With hundreds of sockets that get a datagram each in turn, waking a task for each would cost more
than reading does. So where the system can watch many sockets by one descriptor, one task waits for
that, and reads whatever is ready.

And a program's task that waits for a datagram need not be woken by a background task that was woken
by the kernel: it does the waiting itself (it *leads*). The background task rests meanwhile, and
takes over when the program is busy with what it got.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import trio

from ._membership import Membership, SocketEar
from ._os.readiness import ReadinessSet
from ._os.reading import DATAGRAMS_PER_READ
from ._plan.datagram import Datagram

# After so many datagrams it is other tasks' turn.
_DATAGRAMS_PER_TURN: Final = 2 * DATAGRAMS_PER_READ

# So long the background task leaves the sockets to a task of the program that took something and
# may be back at once. Waking it each time would cost as much as the datagram does.
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


class Pump:
    """Waits for sockets and has them read.

    Attributes:
      is_led: whether some task waits for the sockets now
    """

    def __init__(
        self,
        readiness: ReadinessSet,
        collect: Callable[[Membership, SocketEar], list[Datagram]],
        sink: Sink,
    ) -> None:
        """Watch nothing yet.

        Args:
          readiness: the set to watch by
          collect: reads a socket
          sink: where that goes when the background task has read it
        """
        self.is_led: bool = False
        self._readiness = readiness
        self._collect = collect
        self._sink = sink
        self._watched: dict[int, tuple[Membership, SocketEar]] = {}
        self._ready: deque[int] = deque()
        self._rest: trio.CancelScope | None = None
        self._is_closed = False

    async def watch(self, membership: Membership, ear: SocketEar) -> None:
        """Have this socket read whenever there is something, until it has retired or was closed.

        If there is no room for one more in the set, return at once.
        """
        descriptor = ear.fileno()
        entry = (membership, ear)
        try:
            self._readiness.add(descriptor)
        except OSError:
            return
        self._watched[descriptor] = entry
        try:
            await ear.over.wait()
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
                with trio.CancelScope() as self._rest:
                    await trio.sleep_forever()
                self._rest = None
            elif batch := await self.lead():
                await self._sink.put(batch)

    @trio.lowlevel.enable_ki_protection
    async def lead(self) -> list[Datagram]:
        """Wait until some sockets are ready, and read them, or some of them."""
        self.is_led = True
        if self._rest is not None:
            self._rest.deadline = math.inf
        try:
            if self._ready:
                await trio.lowlevel.checkpoint()
            elif not self._is_closed:
                await trio.lowlevel.wait_readable(self._readiness)
        except trio.ClosedResourceError:
            return []
        finally:
            self.is_led = False
        return self.read()

    @trio.lowlevel.enable_ki_protection
    def read(self) -> list[Datagram]:
        """Read the sockets that are ready, or some of them, without waiting."""
        found: list[Datagram] = []
        limit = min(_DATAGRAMS_PER_TURN, self._sink.room())
        while len(found) < limit:
            if not self._ready:
                if self._is_closed:
                    break
                self._ready.extend(self._readiness.ready())
                if not self._ready:
                    break
            descriptor = self._ready.popleft()
            entry = self._watched.get(descriptor)
            if entry is None:
                continue
            batch = self._collect(*entry)
            if len(batch) >= DATAGRAMS_PER_READ:
                self._ready.append(descriptor)
            if found:
                found += batch
            else:
                found = batch
        return found

    def interrupt(self) -> None:
        """Have whoever leads look again: datagrams came by another way, or none will."""
        self._readiness.wake()

    def relieve(self) -> None:
        """A task of the program leads no longer; but it may be back at once."""
        if self._rest is not None and self._rest.deadline == math.inf:
            self._rest.deadline = trio.current_time() + _PATIENCE

    def close(self) -> None:
        self._is_closed = True
        trio.lowlevel.notify_closing(self._readiness)
        self._readiness.close()
        if self._rest is not None:
            self._rest.cancel()
