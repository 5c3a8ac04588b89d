"""A case: what the doctor was asked, and all that is known about it.

It can be saved as JSON and loaded again. Rules see nothing else, and what several of them ask of it
is answered here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from .._base.snapshot import Link, Snapshot
from .evidence import Crowd, Observation, Stream
from .losses import ENOUGH, count_losses

_NOTHING_OBSERVED: Final = Observation()


@dataclass(frozen=True)
class Question:
    """What was asked: groups, perhaps the port, the interfaces and the senders meant."""

    groups: tuple[str, ...] = ()
    port: int | None = None
    interfaces: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """All that a rule may see.

    Attributes:
      question: what was asked
      snapshot: how the machine was at the beginning
      observation: what became of datagrams meanwhile; None: it was not listened
    """

    question: Question
    snapshot: Snapshot
    observation: Observation | None = None

    def to_json(self) -> str:
        """The whole case, to look at elsewhere or to test rules with."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case that `to_json` wrote. Fields that it lacks have their default."""
        case: Case = _load(cls, json.loads(text))
        return case

    @property
    def observed(self) -> Observation:
        """The observation; if it was not listened, one of nothing."""
        return self.observation or _NOTHING_OBSERVED

    # What was asked

    def versions(self) -> set[int]:
        """The IP versions that matter: those of the groups, or both."""
        return {ip_address(group).version for group in self.question.groups} or {4, 6}

    def groups_of(self, version: int) -> list[str]:
        return [group for group in self.question.groups if ip_address(group).version == version]

    def chosen(self) -> list[Link]:
        """The interfaces named; or all that a receiver would take by itself, or nearly so."""
        named = self.question.interfaces
        return [
            link
            for link in self.snapshot.links
            if (link.index in named if named else not link.is_loopback and link.master is None)
        ]

    def is_crucial(self, link: Link, version: int) -> bool:
        """Whether all depends on the interface: it was named, or no other works."""
        return link.index in self.question.interfaces or not any(
            other.can_carry(version) and other.supports_multicast for other in self.chosen()
        )

    def is_wanted(self, stream: Stream) -> bool:
        """Whether it is what was asked for: the group where it was, from who was named."""
        sources = self.question.sources
        return stream.interface in {link.index for link in self.chosen()} and (
            not sources or stream.source in sources
        )

    # What the machine says

    def is_own(self, address: str) -> bool:
        version = ip_address(address).version
        return any(address in link.addresses_of(version) for link in self.snapshot.links)

    def sees_tables(self) -> bool:
        """Whether /proc/net can be read. An interface that is up has joined groups by itself."""
        snapshot = self.snapshot
        return snapshot.system == "linux" and (
            bool(snapshot.joined) or not any(link.is_up for link in snapshot.links)
        )

    def setting(self, name: str) -> int:
        return self.snapshot.settings.get(name, 0)

    def reverse_path_filter(self, link: Link) -> int:
        """The larger setting counts, so loose (2) beats strict (1)."""
        return max(self.setting("net.ipv4.conf.all.rp_filter"), link.rp_filter or 0)

    # What was heard

    def arrivals_of(self, group: str) -> list[Stream]:
        return [stream for stream in self.observed.arrivals if stream.group == group]

    def sightings_of(self, group: str) -> list[Stream]:
        """What was seen on the wire, without what has a flaw."""
        return [s for s in self.observed.sightings or () if s.group == group and not s.flaw]

    def streams_of(self, group: str) -> list[Stream]:
        """What was received; or seen, where no port was named at which to receive."""
        return self.sightings_of(group) if self._is_seen_only() else self.arrivals_of(group)

    def count_crowd(self, group: str) -> int:
        """The datagrams that go with `streams_of`, of those asked for, from still more senders."""
        observed = self.observed
        crowds = observed.more_sightings if self._is_seen_only() else observed.more_arrivals
        return self.count_wanted(group, crowds)

    def count_wanted(self, group: str, crowds: Iterable[Crowd]) -> int:
        chosen = {link.index for link in self.chosen()}
        return sum(
            crowd.count
            for crowd in crowds
            if crowd.group == group
            and crowd.interface in chosen
            and crowd.is_wanted
            and not crowd.is_flawed
        )

    def _is_seen_only(self) -> bool:
        return self.observation is not None and self.observation.port is None

    def is_heard(self, group: str) -> bool:
        """Whether the group arrives as it was asked for."""
        return any(self.is_wanted(stream) for stream in self.streams_of(group))

    def unheard(self, version: int | None = None) -> list[str]:
        """The groups that were listened for, and of which nothing wanted arrived."""
        joined = {attempt.group for attempt in self.observed.joins if not attempt.errno}
        return [
            group
            for group in self.question.groups
            if group in joined
            and not self.is_heard(group)
            and version in (None, ip_address(group).version)
        ]

    def silent(self) -> list[str]:
        """The groups of which nothing at all has come, to be lost or not."""
        arrived = {stream.group for stream in self.observed.arrivals}
        lost = self.maybe_lost()
        silent = [group for group in self.unheard() if group not in arrived and group not in lost]
        is_port_known = self.observed.port is not None
        return [group for group in silent if is_port_known or not self._has_come(group)]

    def _has_come(self, group: str) -> bool:
        """Whether datagrams of joined groups were delivered, to a port that nobody named."""
        name = "IpExt.InMcastPkts" if ip_address(group).version == 4 else "Ip6InMcastPkts"
        return self.observed.sightings is None and self.observed.counters.get(name, 0) >= ENOUGH

    def maybe_lost(self, version: int | None = None) -> list[str]:
        """The groups that were not heard, but of which datagrams may have come in and been lost.

        A capture knows. The counters are the whole host's: other groups make them grow as well.
        """
        unheard = self.unheard(version)
        if self.observed.sightings is not None:
            seen = {stream.group for stream in self.observed.sightings}
            return [group for group in unheard if group in seen]
        return [
            group
            for group in unheard
            if count_losses(self.observed.counters, ip_address(group).version).is_suspicious()
        ]

    # In words

    def show_streams(self, streams: Iterable[Stream], what: str) -> Iterator[str]:
        for stream in streams:
            hops = "" if stream.hop_limit is None else f", hop limit {stream.hop_limit}"
            yield (
                f"{what} {stream.count} from {stream.source} to {stream.group} port {stream.port} "
                f"on {self.snapshot.name(stream.interface)}{hops}"
            )


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _load(kind: Any, value: Any) -> Any:
    """The value of that kind that became this JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(_load(arguments[0], item) for item in value)
    if origin in (UnionType, Union):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _load(inner, value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: _load(hints[name], item) for name, item in value.items()})
    return value
