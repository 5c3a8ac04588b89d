"""What the doctor goes by: plain frozen values, which can be saved as JSON and loaded again.

Addresses are text here, as they are shown. None means that this system, or this user, is not told.
What a machine says of itself is in `snapshot`; this is what the doctor was asked and has tried.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .._base.snapshot import Route, Snapshot, UdpSocket


@dataclass(frozen=True)
class Attempt:
    """A step that the doctor tried for a group on an interface; `errno` 0: it worked."""

    group: str
    interface: int
    errno: int
    error: str = ""


@dataclass(frozen=True)
class Stream:
    """Datagrams of one sender to one group and port, that came in by one interface."""

    group: str
    interface: int
    source: str
    port: int
    hop_limit: int | None
    count: int


@dataclass(frozen=True)
class Query:
    """A question of a querier who has joined what, as it came in by an interface."""

    interface: int
    source: str
    protocol: str  # "IGMP" or "MLD"


@dataclass(frozen=True)
class LocalRoute:
    """How IPv6 groups are routed on an interface: ``"none"``, ``"local"`` or another kind."""

    group: str
    interface: int
    kind: str


@dataclass(frozen=True)
class Observation:
    """What became of datagrams while the doctor listened.

    Attributes:
      counters: by how much the kernel's counters grew, under their names in /proc/net/snmp, netstat
        (``IpExt.InMcastPkts``) and snmp6 (``Ip6InReceives``)
      joins: the groups the doctor tried to join, on every interface that may be the right one
      sends: sending tried, without a datagram leaving the host
      arrivals: what the doctor's sockets received
      sightings: what came in before the firewall and the routes had a say; None: not for this user
      losses: sockets that lost datagrams, with how many it were meanwhile
      vanished: memberships of the doctor's own that did not last
    """

    seconds: float
    port: int | None
    counters: dict[str, int] = field(default_factory=dict)
    joins: tuple[Attempt, ...] = ()
    sends: tuple[Attempt, ...] = ()
    arrivals: tuple[Stream, ...] = ()
    sightings: tuple[Stream, ...] | None = None
    queries: tuple[Query, ...] = ()
    routes: tuple[Route, ...] = ()
    local_routes: tuple[LocalRoute, ...] = ()
    losses: tuple[UdpSocket, ...] = ()
    vanished: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Question:
    """What was asked: groups, perhaps the port, the interfaces and the senders meant."""

    groups: tuple[str, ...] = ()
    port: int | None = None
    interfaces: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """All that a rule may see."""

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
