"""Source filters: whom of a group's senders a membership hears (RFC 3376 section 2, RFC 3678).

The kernels disagree about what happens when a filter is changed in a way that does not fit its
mode. Linux lets a single source join an any-source membership, and silently turns that into one
that hears the single source only. So the mode is kept here, and what does not fit it is refused
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, TypeAlias

from .errors import MulticastError

FilterMode: TypeAlias = Literal["include", "exclude"]
"""Whether a source filter names the only sources to hear, or those not to hear."""

Source: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True)
class SourceFilter:
    """A filter mode and the senders it speaks of.

    Attributes:
      mode: "include": hear only the sources. "exclude": hear everyone but them
      sources: the senders, each once, in the order in which they were named
    """

    mode: FilterMode
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if self.mode == "include" and not self.sources:
            raise MulticastError("a filter that includes no source hears nobody: leave the group")

    @classmethod
    def admitting(cls, sources: tuple[Source, ...]) -> SourceFilter:
        """The filter for a join: named sources only, or, with none named, everyone."""
        return cls("include", sources) if sources else EVERYONE

    def admits(self, source: Source) -> bool:
        """Whether a sender is heard."""
        return (source in self.sources) == (self.mode == "include")

    def adding(self, source: Source) -> SourceFilter:
        """Hear one more sender."""
        self._require("include", f"{source} cannot be added: every source is heard but those named")
        if source in self.sources:
            raise MulticastError(f"{source} is heard already")
        return SourceFilter(self.mode, (*self.sources, source))

    def removing(self, source: Source) -> SourceFilter:
        """Hear one sender less of those that were named."""
        self._require("include", f"{source} cannot be removed but blocked: all others are heard")
        if source not in self.sources:
            raise MulticastError(f"{source} is none of the sources that are heard")
        return SourceFilter(self.mode, _without(self.sources, source))

    def blocking(self, source: Source) -> SourceFilter:
        """Hear everyone as before but this sender."""
        self._require("exclude", f"{source} cannot be blocked: only the sources named are heard")
        if source in self.sources:
            raise MulticastError(f"{source} is blocked already")
        return SourceFilter(self.mode, (*self.sources, source))

    def unblocking(self, source: Source) -> SourceFilter:
        """Hear a sender again that was blocked."""
        self._require("exclude", f"{source} cannot be unblocked: only the sources named are heard")
        if source not in self.sources:
            raise MulticastError(f"{source} is not blocked")
        return SourceFilter(self.mode, _without(self.sources, source))

    def _require(self, mode: FilterMode, otherwise: str) -> None:
        if self.mode != mode:
            raise MulticastError(f"{otherwise}; the filter is in {self.mode} mode")


EVERYONE: Final = SourceFilter("exclude")
"""Any-source multicast."""


def _without(sources: tuple[Source, ...], source: Source) -> tuple[Source, ...]:
    return tuple(other for other in sources if other != source)
