"""What the doctor says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .._base.remedies import ADVICE

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


def make_finding(
    code: str,
    severity: Severity,
    summary: str,
    evidence: Iterable[str],
    remedy: str | None = None,
    **words: object,
) -> Finding:
    """A finding with the advice that goes with its code.

    Args:
      remedy: what to do in this very case; None: what `ADVICE` says
      words: what stands for the words in braces there
    """
    advice = ADVICE[code]
    text = advice.remedy.format(**words) if remedy is None else remedy
    seen = tuple(dict.fromkeys(evidence))
    return Finding(code, severity, summary, seen, text, advice.reference)
