"""What this library wants to reach, as ratios to others on the same machine.

This is for people who work on the library, and no test: figures differ by machine and weather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from .results import Results
from .scenarios import GROUP_COUNTS


class Figure(NamedTuple):
    scenario: str
    row: str
    name: str = "cpu"


@dataclass(frozen=True)
class Goal:
    """A figure, or its ratio to another one, that shall be at most or at least so much."""

    text: str
    figure: Figure
    relative_to: Figure | None = None
    at_most: float | None = None
    at_least: float | None = None

    def needs(self) -> set[tuple[str, str]]:
        """The scenarios and rows that must be measured for it."""
        figures = (self.figure, self.relative_to) if self.relative_to else (self.figure,)
        return {(figure.scenario, figure.row) for figure in figures}

    def judge(self, results: Results) -> str:
        """One line: met, missed, or not measured."""
        value = results.find(*self.figure)
        if value is not None and self.relative_to is not None:
            other = results.find(*self.relative_to)
            value = value / other if other else None
        if self.at_most is not None:
            bound, met = f"<= {self.at_most:g}", value is not None and value <= self.at_most
        else:
            assert self.at_least is not None
            bound, met = f">= {self.at_least:g}", value is not None and value >= self.at_least
        verdict = "unknown" if value is None else "met" if met else "MISSED"
        found = "-" if value is None else f"{value:.3g}"
        return f"{verdict:8}{found:>8}  {bound:9} {self.text}"


def _compare(
    text: str,
    scenario: str,
    row: str,
    other: str,
    name: str = "cpu",
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Goal:
    return Goal(text, Figure(scenario, row, name), Figure(scenario, other, name), at_most, at_least)


def _groups(count: int, row: str) -> tuple[Goal, Goal]:
    scenario = GROUP_COUNTS[count]
    return (
        Goal(
            f"{count} groups, {row}: to one group",
            Figure(scenario, row),
            Figure(GROUP_COUNTS[1], row),
            at_most=1.5,
        ),
        _compare(
            f"{count} groups, {row}: to asyncio protocols", scenario, row, "asyncio", at_most=1
        ),
    )


def _flood(kind: str) -> tuple[Goal, ...]:
    """For a flood, which some receivers withstand, and for a queue that does not run dry."""
    scenario = f"{kind}-64"
    return (
        _compare(
            f"{kind}, receive_batch: to Python recvfrom", scenario, "batch", "python", at_most=0.8
        ),
        _compare(
            f"{kind}, receive_batch: to C recvmmsg", scenario, "batch", "c-recvmmsg", at_most=2.5
        ),
        _compare(f"{kind}, async for: to Python recvfrom", scenario, "each", "python", at_most=1.1),
        _compare(
            f"{kind}, multicast_expert on asyncio: to async for",
            scenario,
            "expert-async",
            "each",
            at_least=6,
        ),
        _compare(
            f"{kind}, multicast_expert blocking: to async for",
            scenario,
            "expert-sync",
            "each",
            at_least=1.5,
        ),
        _compare(
            f"{kind}, hop limit and time stamp: to receive_batch without",
            scenario,
            "packet-info",
            "batch",
            at_most=1.5,
        ),
    )


GOALS: Final = (
    *_flood("flood"),
    *_flood("backlog"),
    _compare(
        "merged datagrams, receive_batch: to C recvmmsg of single ones",
        "merged-64",
        "batch",
        "c-recvmmsg",
        at_most=1.3,
    ),
    *_groups(10, "each"),
    *_groups(100, "each"),
    *_groups(500, "each"),
    *_groups(10, "batch"),
    *_groups(100, "batch"),
    *_groups(500, "batch"),
    _compare(
        "delay at 500 a second, median, async for: to trio.socket",
        "delay",
        "each",
        "trio-socket",
        "delay-median",
        at_most=1.2,
    ),
    Goal("overrun, async for: fraction lost", Figure("overrun", "each", "loss"), at_most=0),
    Goal("overrun, receive_batch: fraction lost", Figure("overrun", "batch", "loss"), at_most=0),
    _compare("send: to Python sendto", "send-64", "send", "python", at_most=1.4),
    _compare("trio.socket.sendto: to send", "send-64", "trio-socket", "send", at_least=3),
    _compare("send_batch: to Python sendto", "send-64", "send-batch", "python", at_most=0.25),
    Goal(
        "1,000 idle memberships: share of a processor",
        Figure("idle-1000", "each", "idle"),
        at_most=0.0005,
    ),
    Goal(
        "1,000 idle memberships: bytes of memory each",
        Figure("idle-1000", "each", "memory"),
        at_most=8192,
    ),
    Goal(
        "fairness, async for: 99th percentile of lateness in seconds",
        Figure("fairness", "each", "lateness-p99"),
        at_most=0.005,
    ),
    Goal(
        "fairness, receive_batch: 99th percentile of lateness in seconds",
        Figure("fairness", "batch", "lateness-p99"),
        at_most=0.005,
    ),
)
