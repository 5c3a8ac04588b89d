"""Ctrl-C as an ordinary way to end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

from .output import tell
from .streams import OUTPUT

AsyncFunction: TypeAlias = Callable[[], Awaitable[None]]


async def run_until_interrupted(
    function: AsyncFunction, *, background: Iterable[AsyncFunction] = ()
) -> None:
    """Run something to its end, or until Ctrl-C, SIGTERM or the end of the terminal.

    Exceptions come out as they are. Whoever presses Ctrl-C twice ends the program wherever it is.

    Args:
      function: what to run
      background: what to run meanwhile; what it raises ends the rest as well
    """
    raised: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def run(one: AsyncFunction) -> None:
            try:
                await one()
            except Exception as error:
                raised.append(error)
                nursery.cancel_scope.cancel()

        await nursery.start(_cancel_when_signalled, nursery.cancel_scope)
        for other in background:
            nursery.start_soon(run, other)
        await run(function)
        nursery.cancel_scope.cancel()
    if raised:
        raise raised[0]
    await OUTPUT.give_grace()  # before anything is said about it


async def _cancel_when_signalled(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(*_signals()) as signals:
        task_status.started()
        number = await anext(signals)
    if number == signal.SIGINT:
        if sys.stderr.isatty():
            tell("")  # the terminal has just shown ^C
    elif number != signal.SIGTERM:
        # The shell and the kernel may both send it, the second before there is a summary.
        signal.signal(number, signal.SIG_IGN)
    scope.cancel()


def _signals() -> list[signal.Signals]:
    signals = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        signals.append(signal.SIGHUP)
    # What is ignored has to stay so: SIGHUP below nohup, SIGINT with `command &` in a script.
    return [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
