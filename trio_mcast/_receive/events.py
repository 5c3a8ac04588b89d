"""Streams of things that happen, for any number of tasks that may or may not look."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final, Generic, TypeVar

import trio

T = TypeVar("T")

_KEPT_EVENTS: Final = 4096


class EventStream(trio.abc.ReceiveChannel[T]):
    """A channel of events from now on. Who does not look loses the oldest, past 4096 of them.

    It need not be closed: who no longer wants it can just drop it.
    """

    def __init__(self) -> None:
        self._events: deque[T] = deque(maxlen=_KEPT_EVENTS)
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = False
        self._is_over = False

    async def receive(self) -> T:
        """The next event.

        Raises:
          trio.EndOfChannel: what the events are about was closed
          trio.ClosedResourceError: this stream was closed
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._is_closed:
                raise trio.ClosedResourceError("this stream of events was closed")
            if self._events:
                return self._events.popleft()
            if self._is_over:
                raise trio.EndOfChannel
            await self._waiting.park()

    async def aclose(self) -> None:
        """Close this stream; what the events are about is not affected."""
        self._is_closed = True
        self._waiting.unpark_all()
        await trio.lowlevel.checkpoint()

    def _add(self, event: T) -> None:
        self._events.append(event)
        self._waiting.unpark()

    def _end(self) -> None:
        self._is_over = True
        self._waiting.unpark_all()


class Broadcast(Generic[T]):
    """Tells every stream what happens."""

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[EventStream[T]] = weakref.WeakSet()

    def subscribe(self) -> EventStream[T]:
        stream = EventStream[T]()
        self._streams.add(stream)
        return stream

    @property
    def has_streams(self) -> bool:
        return bool(self._streams)

    def publish(self, event: T) -> None:
        for stream in list(self._streams):
            if not stream._is_closed:
                stream._add(event)

    def end(self) -> None:
        for stream in list(self._streams):
            stream._end()
