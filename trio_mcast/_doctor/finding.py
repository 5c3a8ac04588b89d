"""What the doctor says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from .._base.remedies import ADVICE

Severity: TypeAlias = Literal["error", "warning", "info"]

_MOST_EVIDENCE: Final = 20
_MOST_CHARACTERS: Final = 500
_MOST_NAMED: Final = 8


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

    Its text is harmless and short, whatever it tells of: programs and interfaces have names that
    others give them, and anybody may send.

    Args:
      remedy: what to do in this very case; None: what `ADVICE` says
      words: what stands for the words in braces there
    """
    advice = ADVICE[code]
    if remedy is None:
        remedy = advice.remedy.format(**words)
    seen = tuple(dict.fromkeys(map(_show, evidence)))
    if len(seen) > _MOST_EVIDENCE:
        seen = (*seen[:_MOST_EVIDENCE], f"and {len(seen) - _MOST_EVIDENCE} more like these")
    do = "\n".join(map(_escape, remedy.split("\n")))
    return Finding(code, severity, _show(summary), seen, do, advice.reference)


def some_of(values: Iterable[object], word: str = ", ") -> str:
    """The first few of them, joined by a word, and how many more there are."""
    first = list(map(str, values))
    more = len(first) - _MOST_NAMED
    return word.join(first) if more <= 0 else f"{word.join(first[:_MOST_NAMED])} and {more} more"


def _show(text: str) -> str:
    shown = _escape(text)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}..."


def _escape(text: str) -> str:
    """With what a terminal would take for a command, or cannot show, as Python would write it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
