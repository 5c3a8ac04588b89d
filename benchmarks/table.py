"""Results as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .programs import CHECKOUT
from .results import Results
from .rows import RECEIVERS, SENDERS, Row, with_rows_of
from .scenarios import SCENARIOS, Scenario, Sending


class Column(NamedTuple):
    heading: str
    write: Callable[[float], str]
    is_cost: bool = True  # something whose ratio to another row's means something


def _microseconds(value: float) -> str:
    return f"{value * 1e6:.0f}"


COLUMNS: Final = {
    "cpu": Column("CPU us", "{:.2f}".format),
    "rate": Column("per second", "{:,.0f}".format, is_cost=False),
    "loss": Column("lost", "{:.1%}".format, is_cost=False),
    "busy": Column("busy", "{:.0%}".format, is_cost=False),
    "delay-median": Column("delay us", _microseconds),
    "delay-p99": Column("99% us", _microseconds),
    "lateness-median": Column("late us", _microseconds),
    "lateness-p99": Column("99% us", _microseconds),
    "opening": Column("opening us each", lambda value: f"{value * 1e6:.1f}"),
    "memory": Column("bytes each", "{:,.0f}".format),
    "idle": Column("CPU", "{:.3%}".format, is_cost=False),
}
"""The figures that tables show. `cpu` is for each datagram, and `busy` the load of the receiver's
processor by the receiver: one that is not fully busy keeps up with the sender."""


def write_tables(results: Results) -> str:
    """Everything that was measured, a table for each scenario."""
    parts = [_write_machine(results)]
    parts += [_write_table(results, s) for s in SCENARIOS if s.key in results.figures]
    parts += _write_comparison(results)
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


def _write_comparison(results: Results) -> list[str]:
    """This checkout's cost to that of the other one, if one was measured beside it."""
    lines = [["", "", "ratio of the medians, here to there"]]
    for scenario in SCENARIOS:
        column = scenario.columns[0] if COLUMNS[scenario.columns[0]].is_cost else "cpu"
        for row in rows_of(scenario):
            here = results.find(scenario.key, row.key, column)
            there = results.find(scenario.key, f"{row.key}-there", column)
            if here and there:
                lines.append([scenario.key, f"{row.title}, {column}", f"{here / there:.2f}"])
    return ["Here and there\n" + _align(lines)] if len(lines) > 1 else []


def _write_table(results: Results, scenario: Scenario) -> str:
    rows = with_rows_of(rows_of(scenario), CHECKOUT)  # wherever those of another checkout were
    rows = [row for row in rows if row.key in results.figures[scenario.key]]
    columns = [COLUMNS[name] for name in scenario.columns]
    lines = [["", *(column.heading for column in columns)]]
    for row in rows:
        values = [results.find(scenario.key, row.key, name) for name in scenario.columns]
        lines.append([row.title, *map(_write_cell, columns, values)])
    if columns[0].is_cost:
        base = results.find(scenario.key, rows[0].key, scenario.columns[0])
        lines[0].append(f"to {rows[0].title}")
        for line, row in zip(lines[1:], rows, strict=True):
            value = results.find(scenario.key, row.key, scenario.columns[0])
            line.append(f"{value / base:.2f}" if value is not None and base else "-")
    return scenario.title + "\n" + _align(lines)


def _write_cell(column: Column, value: float | None) -> str:
    return "-" if value is None else column.write(value)


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
