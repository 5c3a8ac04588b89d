"""What a program asked to hear, as opposed to what is heard at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ._errors import InterfaceNotFoundError
from ._plan.addresses import Group, parse_group, sources_for
from ._plan.filters import SourceFilter
from ._plan.interfaces import (
    ByName,
    Interface,
    Selector,
    parse_selectors,
    require,
    select,
)


@dataclass(eq=False)
class Subscription:
    """A join as the program asked for it: it may mean several interfaces, now or later.

    Attributes:
      group: the group, perhaps with a zone
      filter: the senders to hear
      selectors: the interfaces named; None: every fitting one
      left: interfaces that were covered, but left since
    """

    group: Group
    filter: SourceFilter
    selectors: tuple[Selector, ...] | None
    left: tuple[Selector, ...] = ()

    @classmethod
    def parse(
        cls, group: object, sources: tuple[IPv4Address | IPv6Address, ...], interfaces: object
    ) -> Subscription:
        parsed = parse_group(group)
        return cls(
            parsed,
            SourceFilter.admitting(sources_for(parsed, sources)),
            parse_selectors(interfaces),
        )

    @property
    def named(self) -> tuple[Selector, ...]:
        """The interfaces that the program named, in either way."""
        zone = () if self.group.zone is None else (ByName(self.group.zone),)
        return (*(self.selectors or ()), *zone)

    @property
    def is_named(self) -> bool:
        return bool(self.named)

    def leave(self, selectors: tuple[Selector, ...]) -> None:
        """Cover these interfaces no longer."""
        self.left = tuple(dict.fromkeys(self.left + selectors))

    def require_interfaces(self, listing: tuple[Interface, ...]) -> None:
        """Raise `InterfaceNotFoundError` unless every interface that is named exists."""
        for selector in self.named:
            require(selector, listing)
        if self.is_named and not self.find_interfaces(listing):
            raise InterfaceNotFoundError(
                f"the zone of {self.group} is none of the interfaces selected"
            )

    def find_interfaces(self, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
        """The interfaces of the listing that it covers."""
        version = self.group.version
        left = select(self.left, version, listing)
        listing = tuple(interface for interface in listing if interface not in left)
        if self.group.zone is None:
            return select(self.selectors, version, listing)
        zone = select((ByName(self.group.zone),), version, listing)
        return zone if self.selectors is None else select(self.selectors, version, zone)

    def covers(self, interface: Interface) -> bool:
        return bool(self.find_interfaces((interface,)))

    def means_the_same(self, before: Interface, now: Interface) -> bool:
        """Whether what the program named was the one interface and is the other now."""
        return any(selector.matches(before) and selector.matches(now) for selector in self.named)
