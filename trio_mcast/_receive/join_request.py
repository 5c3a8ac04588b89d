"""What a program asked to hear, as opposed to what is heard at the moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .._addresses.parsing import Group, parse_group, parse_sources, sources_for
from .._base.interface import Interface, IPVersion
from .._base.source_filter import SourceFilter
from .._interfaces.selection import Selection, addresses_on, zone_of


def narrow(filter_: SourceFilter, interface: Interface) -> SourceFilter | None:
    """A source filter as it is on an interface. A source with a zone is somebody there only.

    None: it includes nobody who is there.
    """
    if not any(map(zone_of, filter_.sources)):
        return filter_
    sources = addresses_on(filter_.sources, interface)
    if filter_.mode == "include" and not sources:
        return None
    return SourceFilter(filter_.mode, tuple(dict.fromkeys(sources)))


def require_zones(filter_: SourceFilter, listing: Iterable[Interface]) -> None:
    """Refuse a source in a zone that does not exist. Raises InterfaceNotFoundError."""
    for zone in filter(None, map(zone_of, filter_.sources)):
        Selection().in_zone(zone).require(listing)


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
    def parse(cls, group: object, sources: object, interfaces: object) -> JoinRequest:
        """From what a caller wrote. Raises: as `MulticastReceiver.join`."""
        (request,) = cls.parse_several([group], sources, interfaces)
        return request

    @classmethod
    def parse_several(
        cls, groups: Iterable[object], sources: object, interfaces: object
    ) -> list[JoinRequest]:
        """The same sources and interfaces for several groups. Raises: as `open_receiver`."""
        senders = parse_sources(sources)
        selection = Selection.parse(interfaces)
        requests = []
        for parsed in map(parse_group, groups):
            filter_ = SourceFilter.admitting(sources_for(parsed, senders))
            requests.append(cls(parsed, filter_, selection.in_zone(parsed.zone)))
        return requests

    @property
    def version(self) -> IPVersion:
        return self.group.version
