"""What has come of trying: plain frozen values.

Addresses are text here, as they are shown. None means that this system, or this user, is not told.
What a machine says of itself is in a `Snapshot`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .._base.snapshot import Route, UdpSocket


@dataclass(frozen=True)
class Attempt:
    """A step that the doctor tried for a group on an interface; `errno` 0: it worked."""

    group: str
    interface: int
    errno: int
    error: str = ""


@dataclass(frozen=True)
class Stream:
    """Datagrams of one sender to one group and port, that came in by one interface.

    Attributes:
      flaw: what about them keeps this host from taking them; empty: nothing that shows on the wire
    """

    group: str
    interface: int
    source: str
    port: int
    hop_limit: int | None
    count: int
    flaw: str = ""


@dataclass(frozen=True)
class Crowd:
    """Datagrams of more senders than are told one by one.

    Attributes:
      is_wanted: they have the port, and come from a sender, that was asked for
      is_flawed: as `Stream.flaw`
    """

    group: str
    interface: int
    is_wanted: bool
    is_flawed: bool
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
      more_arrivals, more_sightings: those beyond the first senders and ports, which are not listed
      losses: sockets that lost datagrams, with how many it were meanwhile
      vanished: memberships of the doctor's own that did not last
    """

    seconds: float = 0.0
    port: int | None = None
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
    more_arrivals: tuple[Crowd, ...] = ()
    more_sightings: tuple[Crowd, ...] = ()
