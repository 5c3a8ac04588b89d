"""Ctrl-C as an ordinary way to end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

from .output import tell

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


AsyncFunction: TypeAlias = Callable[[], Awaitable[None]]


async def run_until_interrupted(
    function: AsyncFunction, *, background: Iterable[AsyncFunction] = ()
) -> None:
    """Run something to its end, or until Ctrl-C or SIGTERM. Its exceptions come out as they are.

    Whoever presses Ctrl-C twice ends the program wherever it is.

    Args:
      function: what to run
      background: what to run meanwhile; it must not raise
    """
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_when_signalled, nursery.cancel_scope)
        for other in background:
            nursery.start_soon(other)
        try:
            await function()
        except Exception as error:
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _cancel_when_signalled(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            break
    if sys.stderr.isatty():
        tell("")  # the terminal has just shown ^C
    scope.cancel()
