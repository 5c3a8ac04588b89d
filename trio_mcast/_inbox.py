"""Where the batches of all memberships meet before the program takes datagrams one by one.

This is a memory channel whose capacity counts datagrams. Trio's own counts the items put in, which
here are lists of any length, and cannot give up its oldest ones.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeAlias

import trio
from trio.lowlevel import checkpoint_if_cancelled  # looked up once: it is called for each datagram

from ._plan.datagram import Datagram

Overflow: TypeAlias = Literal["wait", "drop-oldest"]

# Other tasks run at least once in so many datagrams that are taken one by one.
_DATAGRAMS_PER_TURN: Final = 64


class Source(Protocol):
    """Where datagrams come from, if a task that waits for one may see to that itself."""

    is_led: bool
    has_more: bool

    def read(self) -> list[Datagram]:
        """What there is, without waiting."""

    async def lead(self) -> list[Datagram]:
        """Wait until there may be something, and return what there is."""

    def interrupt(self) -> None:
        """Have the task that leads look again."""

    def relieve(self) -> None:
        """Wake who sees to it when no task of the program does."""


class Inbox:
    """A bounded queue of datagrams, with memberships that put and tasks that take.

    Attributes:
      source: if set, tasks that wait for datagrams do the waiting for sockets
      count_lost: is told of what had to be given up for what such a task has read
      is_taker_coming: whether a task was woken to take that has yet to relieve the source
    """

    def __init__(self, max_buffered: int, overflow: Overflow) -> None:
        self._datagrams: deque[Datagram] = deque()
        self._max_buffered = max_buffered
        self._waits_when_full = overflow == "wait"
        self._until_others_run = _DATAGRAMS_PER_TURN
        self._takers = trio.lowlevel.ParkingLot()
        self._putters = trio.lowlevel.ParkingLot()
        self.source: Source | None = None
        self.count_lost: Callable[[list[Datagram]], None] = list.clear
        self.is_taker_coming: bool = False
        self._has_putters = False
        self._closed = False
        self._failure: BaseException | None = None

    def __len__(self) -> int:
        return len(self._datagrams)

    async def wait_for_room(self) -> None:
        """Return when a batch may be read and put. With "drop-oldest" that is always."""
        while self.room() <= 0:
            self._has_putters = True
            await self._putters.park()

    def room(self) -> float:
        """So many datagrams fit, and one batch more."""
        return self._max_buffered - len(self._datagrams) if self._waits_when_full else math.inf

    def put(self, batch: list[Datagram]) -> list[Datagram]:
        """Add a batch and return what had to be given up for it."""
        datagrams = self._datagrams
        datagrams.extend(batch)
        given_up: list[Datagram] = []
        if not self._waits_when_full:
            surplus = len(datagrams) - self._max_buffered
            given_up = [datagrams.popleft() for _ in range(surplus)]
        if self._takers:
            self._wake_takers(len(batch))
        self._interrupt_leader()
        return given_up

    @trio.lowlevel.enable_ki_protection
    async def take(self) -> Datagram:
        await checkpoint_if_cancelled()
        datagrams = self._datagrams
        if datagrams and self._until_others_run <= 0:
            self._until_others_run = _DATAGRAMS_PER_TURN
            await trio.lowlevel.cancel_shielded_checkpoint()
        if not datagrams:
            await self._wait_for_datagrams()
        self._until_others_run -= 1
        if self._has_putters:
            self._let_putters_in()
        return datagrams.popleft()

    def take_nowait(self) -> Datagram:
        if not self._datagrams:
            self._raise_if_over()
            raise trio.WouldBlock
        self._until_others_run -= 1
        if self._has_putters:
            self._let_putters_in()
        return self._datagrams.popleft()

    @trio.lowlevel.enable_ki_protection
    async def take_batch(self, limit: int | None) -> list[Datagram]:
        datagrams = self._datagrams
        if datagrams:
            await trio.lowlevel.checkpoint()
        if not datagrams:
            await self._wait_for_datagrams()
        self._until_others_run = _DATAGRAMS_PER_TURN
        if limit is None or limit >= len(datagrams):
            batch = list(datagrams)
            datagrams.clear()
        else:
            batch = [datagrams.popleft() for _ in range(limit)]
        if self._has_putters:
            self._let_putters_in()
        return batch

    @trio.lowlevel.enable_ki_protection
    async def _wait_for_datagrams(self) -> None:
        source = self.source
        if source is not None and source.has_more:  # else there has hardly come anything since
            self.take_in(source.read())
            if self._datagrams:
                await trio.lowlevel.checkpoint()
        try:
            while not self._datagrams:
                self._raise_if_over()
                if source is None or source.is_led:
                    self.is_taker_coming = False  # another was faster than this one
                    await self._takers.park()
                else:
                    self.take_in(await source.lead())
        finally:
            self.is_taker_coming = False
            if source is not None:
                if self._takers and not source.is_led:
                    self._wake_takers(1)  # to lead, now that this task does no longer
                source.relieve()
        self._until_others_run = _DATAGRAMS_PER_TURN

    def take_in(self, batch: list[Datagram]) -> None:
        """Add a batch, and have counted what had to be given up for it."""
        if batch and (given_up := self.put(batch)):
            self.count_lost(given_up)

    def _wake_takers(self, count: int) -> None:
        self.is_taker_coming = self.source is not None
        self._takers.unpark(count=count)

    def _let_putters_in(self) -> None:
        """They look themselves whether there is room, when it is their turn."""
        self._has_putters = False
        self._putters.unpark_all()

    def _raise_if_over(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this receiver was closed")
        if self._failure is not None:
            raise trio.BrokenResourceError(
                "no membership of this receiver can deliver again"
            ) from self._failure

    def fail(self, error: BaseException) -> None:
        """Nothing will be put any more. What is there can still be taken."""
        self._failure = error
        self._takers.unpark_all()
        self._interrupt_leader()

    def _interrupt_leader(self) -> None:
        if self.source is not None and self.source.is_led:
            self.source.interrupt()

    def close(self) -> None:
        self._closed = True
        self._datagrams.clear()
        self._takers.unpark_all()
        self._putters.unpark_all()
