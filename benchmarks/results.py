"""What was measured, as it is written to the JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass
class Results:
    """All figures of a session.

    Attributes:
      machine: what was measured on, and when
      figures: the value of each run, by scenario, row and name of the figure. CPU times are in
        microseconds for each datagram, other times in seconds, memory in bytes, losses and loads
        are fractions, rates are per second
      skipped: what could not be measured, and why
    """

    machine: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, scenario: str, row: str, figures: dict[str, float]) -> None:
        """Add a run."""
        of_row = self.figures.setdefault(scenario, {}).setdefault(row, {})
        for name, value in figures.items():
            of_row.setdefault(name, []).append(value)

    def find(self, scenario: str, row: str, name: str) -> float | None:
        """The median of a figure; None if it was not measured."""
        values = self.figures.get(scenario, {}).get(row, {}).get(name)
        return median(values) if values else None

    def disturbance(self) -> float:
        """The fraction of runs in which others had the receiver's processor for a twentieth."""
        shares = [
            share
            for rows in self.figures.values()
            for figures in rows.values()
            for share in figures.get("waiting", ())
        ]
        return sum(share > 0.05 for share in shares) / len(shares) if shares else 0.0

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        return cls(**json.loads(path.read_text()))
