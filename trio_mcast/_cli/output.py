"""Where text goes: results to standard output, remarks to standard error.

Much of it comes from strangers: names of interfaces, programs and users. Nothing that is not
printable gets out of here as it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from .streams import ERRORS, OUTPUT

_PLAIN = bytes(range(0x20, 0x7F))


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
    """Write lines to standard output."""
    if text := _join(lines):
        OUTPUT.write(text)


def tell(*lines: str) -> None:
    """Write lines to standard error."""
    if text := _join(lines):
        ERRORS.write(text)


def _join(lines: Iterable[str]) -> str:
    lines = list(lines)
    text = "".join(f"{line}\n" for line in lines)
    # Plain ASCII has nothing to escape, which is quick to see: nothing is left but our line ends.
    if text.isascii() and text.encode().translate(None, _PLAIN) == b"\n" * len(lines):
        return text
    return "".join(f"{_escape(line)}\n" for line in lines)


def _escape(text: str) -> str:
    r"""The text with ``\x1b`` and the like for what is not printable."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def to_json(value: Mapping[str, object]) -> str:
    """One JSON object in one line."""
    return json.dumps(value, default=_to_json_value)


def _to_json_value(value: Any) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def add_row(table: Table, *cells: str | Sequence[str], style: str | None = None) -> None:
    """Add a row to a table that is to be written. A cell is its text, or several lines of it."""
    lines = ([cell] if isinstance(cell, str) else cell for cell in cells)
    table.add_row(*("\n".join(map(_escape, one)) for one in lines), style=style)


def write_table(table: Table) -> None:
    """Write a table, with colours only on a terminal, and never cut: a line may be long instead."""
    console = Console(markup=False, highlight=False, emoji=False)
    wide = console.options.update(width=10_000)
    console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    with console.capture() as captured:
        console.print(table)
    # What is not printable now is colour.
    OUTPUT.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def count_of(number: int, thing: str) -> str:
    """``1 datagram``, ``2 datagrams``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
