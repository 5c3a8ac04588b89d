"""Ctrl-C as an ordinary way to end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable

import trio

from .output import tell

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def run_until_interrupted(function: Callable[[], Awaitable[None]]) -> None:
    """Run something to its end, or until Ctrl-C or SIGTERM. Its exceptions come out as they are.

    Whoever presses Ctrl-C twice ends the program wherever it is.
    """
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_when_signalled, nursery.cancel_scope)
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
