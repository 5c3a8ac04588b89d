"""Background tasks of an object that is open as long as a block lasts. They never raise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio


class ServiceNursery:
    """Where background tasks are started. They run until its block ends, whatever is cancelled.

    A block may be left slowly: a program that is cancelled can say goodbye, in a shielded scope,
    and wait for what comes back. Until then its receivers and senders work as before.
    """

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._early: list[tuple[Any, ...]] = []  # started before it runs
        self._scope = trio.CancelScope(shield=True)

    def start_soon(
        self, function: Callable[..., Awaitable[object]], *args: Any, name: str | None = None
    ) -> None:
        """As `trio.Nursery.start_soon`."""
        if self._nursery is None:
            self._early.append((name, function, *args))
        else:
            self._nursery.start_soon(function, *args, name=name)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run the tasks until `cancel`. It is a task itself: its scope is not that of the block."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                for name, function, *args in self._early:
                    self._nursery.start_soon(function, *args, name=name)
                self._early.clear()
                await trio.sleep_forever()

    def cancel(self) -> None:
        self._scope.cancel()


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_service_nursery() -> AsyncIterator[ServiceNursery]:
    """A nursery that ends with its block, and whose block's exception leaves it as it is.

    Trio wraps whatever leaves a nursery in an exception group, because a background task may have
    failed too. Ours deliver their failures in band and never raise, so the group would have one
    member, and every caller would have to take it apart.

    Ctrl-C is for the block. Here, as in everything that opens and closes, it would leave something
    half open.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            services = ServiceNursery()
            nursery.start_soon(services.run, name="trio_mcast: run services")
            try:
                yield services
            except BaseException as error:
                raised = error
            services.cancel()
    except BaseExceptionGroup as group:  # Ctrl-C, or a cancellation, while the nursery ended
        (late,) = group.exceptions
        late.__context__ = raised
        raised = late
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # or the exception's traceback would hold this frame, and so itself
