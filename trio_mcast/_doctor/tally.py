"""Counting what strangers send, within limits that they cannot exceed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from .evidence import Crowd, Stream

MOST_STREAMS: Final = 32
"""Of a group on an interface: so many that were asked for, others, and such with a flaw."""


@dataclass
class _Bin:
    """Streams that do not compete with those of another bin for being listed."""

    counts: dict[Stream, int] = field(default_factory=dict)
    more: int = 0


class Tally:
    """Counts datagrams by stream: the first ones each, the others together.

    The counts of those that are listed are exact. Who makes up addresses and ports can fill a list,
    but other ports take no place from the one that was asked for, nor senders from those named.
    """

    def __init__(self) -> None:
        self._bins: dict[tuple[str, int, bool, bool], _Bin] = {}

    def add(self, stream: Stream, is_wanted: bool) -> None:
        """Count one datagram. The stream's own count is not looked at."""
        key = stream.group, stream.interface, is_wanted, bool(stream.flaw)
        bin_ = self._bins.setdefault(key, _Bin())
        if stream in bin_.counts or len(bin_.counts) < MOST_STREAMS:
            bin_.counts[stream] = bin_.counts.get(stream, 0) + 1
        else:
            bin_.more += 1

    def streams(self) -> tuple[Stream, ...]:
        """Those that are listed, what was asked for first."""
        bins = sorted(self._bins.items(), key=lambda item: not item[0][2])
        return tuple(
            replace(stream, count=count)
            for _, bin_ in bins
            for stream, count in bin_.counts.items()
        )

    def crowds(self) -> tuple[Crowd, ...]:
        return tuple(Crowd(*key, bin_.more) for key, bin_ in self._bins.items() if bin_.more)
