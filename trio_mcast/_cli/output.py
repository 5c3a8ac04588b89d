"""Where text goes: results to standard output, remarks to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def prepare_streams() -> None:
    """Let a character that the terminal cannot show be escaped, not be an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def write(lines: Iterable[str]) -> None:
    """Write lines to standard output, at once."""
    if text := "".join(f"{line}\n" for line in lines):
        sys.stdout.write(text)
        sys.stdout.flush()


def tell(*lines: str) -> None:
    """Write lines to standard error."""
    if lines:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


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
