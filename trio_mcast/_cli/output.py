"""Where text goes: results to standard output, remarks to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def prepare_streams() -> None:
    """Let a character that the terminal cannot show be escaped, and have a stream for each closed.

    A closed standard stream is None to Python, and its descriptor would go to the next socket.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open to the end
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def silence_streams() -> None:
    """Writing has failed: keep Python from trying again at its end, when it flushes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def write(lines: Iterable[str]) -> None:
    """Write lines to standard output, at once."""
    if text := "".join(f"{line}\n" for line in lines):
        sys.stdout.write(text)
        sys.stdout.flush()


def tell(*lines: str) -> None:
    """Write lines to standard error."""
    if text := "".join(f"{line}\n" for line in lines):
        sys.stderr.write(text)
        sys.stderr.flush()


def to_json(value: Mapping[str, object]) -> str:
    """One JSON object in one line."""
    return json.dumps(value, default=_to_json_value)


def _to_json_value(value: Any) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def write_table(table: Table) -> None:
    """Write a table, with colours only on a terminal, and never cut: a line may be long instead."""
    console = Console(markup=False, highlight=False, emoji=False)
    wide = console.options.update(width=10_000)
    console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    with console.capture() as captured:
        console.print(table)
    write(line.rstrip() for line in captured.get().splitlines())


def count_of(number: int, thing: str) -> str:
    """``1 datagram``, ``2 datagrams``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
