"""Results as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .results import Results
from .rows import RECEIVERS, SENDERS, Row
from .scenarios import SCENARIOS, Scenario, Sending


class Column(NamedTuple):
    heading: str
    write: Callable[[float], str]


COLUMNS: Final = {
    "cpu": Column("CPU us", "{:.2f}".format),
    "rate": Column("per second", "{:,.0f}".format),
    "loss": Column("lost", "{:.1%}".format),
    "busy": Column("busy", "{:.0%}".format),
    "delay-median": Column("delay us", lambda value: f"{value * 1e6:.0f}"),
    "delay-p99": Column("99% us", lambda value: f"{value * 1e6:.0f}"),
    "lateness-median": Column("late us", lambda value: f"{value * 1e6:.0f}"),
    "lateness-p99": Column("99% us", lambda value: f"{value * 1e6:.0f}"),
    "opening": Column("opening us each", lambda value: f"{value * 1e6:.1f}"),
    "memory": Column("bytes each", "{:,.0f}".format),
    "idle": Column("CPU", "{:.3%}".format),
}
"""The figures that tables show. `cpu` is for each datagram, and `busy` the load of the receiver's
processor by the receiver: one that is not fully busy keeps up with the sender."""


def write_tables(results: Results) -> str:
    """Everything that was measured, a table for each scenario."""
    parts = [_write_machine(results)]
    parts += [_write_table(results, s) for s in SCENARIOS if s.key in results.figures]
    if results.skipped:
        parts.append("Not measured\n" + _indent(f"{k}: {v}" for k, v in results.skipped.items()))
    return "\n\n".join(parts) + "\n"


def _write_machine(results: Results) -> str:
    width = max(map(len, results.machine), default=0) + 2
    lines = [f"{name:{width}}{value}" for name, value in results.machine.items()]
    if (share := results.disturbance()) > 0.1:
        lines.append(f"In {share:.0%} of the runs other programs took the receiver's processor for")
        lines.append(
            "more than a twentieth of the time: rates and losses are worse for it, and CPU"
        )
        lines.append("times a little.")
    return "\n".join(lines)


def _write_table(results: Results, scenario: Scenario) -> str:
    rows = [row for row in rows_of(scenario) if row.key in results.figures[scenario.key]]
    first = scenario.columns[0]
    base = results.find(scenario.key, rows[0].key, first)
    lines = [["", *(COLUMNS[name].heading for name in scenario.columns), f"to {rows[0].title}"]]
    for row in rows:
        values = [results.find(scenario.key, row.key, name) for name in scenario.columns]
        cells = [
            "-" if value is None else COLUMNS[name].write(value)
            for name, value in zip(scenario.columns, values, strict=True)
        ]
        ratio = f"{values[0] / base:.2f}" if base and values[0] is not None else "-"
        lines.append([row.title, *cells, ratio])
    return scenario.title + "\n" + _align(lines)


def rows_of(scenario: Scenario) -> list[Row]:
    """The rows of a scenario, in its order."""
    known = {row.key: row for row in (SENDERS if isinstance(scenario, Sending) else RECEIVERS)}
    return [known[key] for key in scenario.rows]


def _align(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _indent(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
