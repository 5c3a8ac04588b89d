"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """Something that the doctor has found.

    Attributes:
      code: what it is, in a word that stays the same: ``"reverse-path-filter"``
      severity: ``"error"``: it keeps datagrams away. ``"warning"``: it may, or will some day.
        ``"info"``: good to know
      summary: one line for people
      evidence: what was read where
      remedy: what to do: commands to paste, or changes to make in lines that begin with #. Empty if
        there is nothing to do
      reference: where it is explained
    """

    code: str
    severity: Severity
    summary: str
    evidence: tuple[str, ...]
    remedy: str
    reference: str
