"""What a program asked to hear, as opposed to what is heard at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ._plan.addresses import Group, parse_group, sources_for
from ._plan.filters import SourceFilter
from ._plan.interfaces import IPVersion
from ._plan.selection import Selection


@dataclass(eq=False)
class JoinRequest:
    """A join as the program asked for it: it may mean several interfaces, now or later.

    Attributes:
      group: the group, perhaps with a zone
      filter: the senders to hear
      selection: the interfaces
    """

    group: Group
    filter: SourceFilter
    selection: Selection

    @classmethod
    def parse(
        cls, group: object, sources: tuple[IPv4Address | IPv6Address, ...], interfaces: object
    ) -> JoinRequest:
        parsed = parse_group(group)
        return cls(
            parsed,
            SourceFilter.admitting(sources_for(parsed, sources)),
            Selection.parse(interfaces, zone=parsed.zone),
        )

    @property
    def version(self) -> IPVersion:
        return self.group.version
