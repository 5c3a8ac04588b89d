"""Source filters: whom of a group's senders a membership hears (RFC 3376 section 2, RFC 3678)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal


@dataclass(frozen=True)
class SourceFilter:
    """A filter mode and the senders it speaks of.

    Attributes:
      mode: "include": hear only the sources. "exclude": hear everyone but them
      sources: the senders, each once, in the order in which they were named
    """

    mode: Literal["include", "exclude"]
    sources: tuple[IPv4Address | IPv6Address, ...] = ()

    @classmethod
    def admitting(cls, sources: tuple[IPv4Address | IPv6Address, ...]) -> SourceFilter:
        """The filter for a join: named sources only, or, with none named, everyone."""
        return cls("include" if sources else "exclude", sources)

    def admits(self, source: IPv4Address | IPv6Address) -> bool:
        return (source in self.sources) == (self.mode == "include")
