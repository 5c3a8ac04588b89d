"""What the doctor goes by: plain frozen values, which can be saved as JSON and loaded again.

Addresses are text here, as they are shown. None means that this system, or this user, is not told.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_interface
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Bridge:
    """An Ethernet bridge of this host, as a switch.

    Attributes:
      is_snooping: it forwards a group only to where it was joined
      is_querier: it asks who has joined what, itself
      queriers: the addresses of those who ask, one for each IP version at most
    """

    is_snooping: bool
    is_querier: bool
    queriers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """A network interface.

    Attributes:
      kind: of a virtual one: ``veth``, ``bridge``, ``macvlan``...; otherwise empty
      master: the index of the bridge or bond that it belongs to
      addresses: with prefix lengths
      rp_filter, accept_local, force_igmp_version, force_mld_version: its own kernel settings, not
        yet joined with those of "all"
      igmp_version: the version that its IGMP speaks, of the column "Querier" in /proc/net/igmp: 3,
        or less where an older querier is on the link
      mld_queries: the MLD queries heard since it came up
      floods_unknown: of a bridge port: groups that nobody is known to have joined are sent out
    """

    name: str
    index: int
    is_up: bool
    is_loopback: bool
    supports_multicast: bool
    mtu: int
    addresses: tuple[str, ...] = ()
    has_carrier: bool | None = None
    ipv6: str | None = None  # "on", "disabled", "absent"
    kind: str = ""
    master: int | None = None
    rp_filter: int | None = None
    accept_local: int | None = None
    force_igmp_version: int | None = None
    force_mld_version: int | None = None
    igmp_version: int | None = None
    mld_queries: int | None = None
    bridge: Bridge | None = None
    floods_unknown: bool | None = None

    def addresses_of(self, version: int) -> list[str]:
        """Its addresses of an IP version, without prefix lengths."""
        parsed = [ip_interface(address) for address in self.addresses]
        return [str(address.ip) for address in parsed if address.version == version]


@dataclass(frozen=True)
class Joined:
    """A group that some program of this host has joined."""

    group: str
    interface: int
    users: int


@dataclass(frozen=True)
class FilteredSource:
    """A source that some memberships include, and others exclude."""

    group: str
    interface: int
    source: str
    included: int
    excluded: int


@dataclass(frozen=True)
class Holder:
    """A program that has a socket."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


@dataclass(frozen=True)
class UdpSocket:
    """A UDP socket of any program of this host.

    Attributes:
      inode: the number by which /proc knows it
      drops: datagrams lost at it since it was opened
      holders: the programs that have it, those that this user may see
    """

    version: int
    address: str
    port: int
    user: int
    inode: int
    drops: int
    holders: tuple[Holder, ...] = ()

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        who = ", ".join(map(str, self.holders)) or f"a program of user {self.user}"
        return f"{who} at {shown}:{self.port}"


@dataclass(frozen=True)
class Chain:
    """A chain of firewall rules that sees every packet of a hook."""

    family: str
    table: str
    name: str
    hook: str
    policy: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


@dataclass(frozen=True)
class Snapshot:
    """How a machine was at one moment.

    Attributes:
      system: ``linux``, ``darwin``, ``win32``
      settings: kernel settings by their names in sysctl(8)
      chains: those of the firewall; None: not for this user to see
      container: the kind of container that this program is in, or empty
      wsl: the version of Windows Subsystem for Linux; 0: none
      can_capture: this user may see packets before the firewall does
    """

    system: str
    links: tuple[Link, ...]
    joined: tuple[Joined, ...] = ()
    filtered: tuple[FilteredSource, ...] = ()
    sockets: tuple[UdpSocket, ...] = ()
    settings: dict[str, int] = field(default_factory=dict)
    chains: tuple[Chain, ...] | None = None
    container: str = ""
    wsl: int = 0
    can_capture: bool = False
    sees_all_holders: bool = False

    def link(self, index: int) -> Link | None:
        return next((link for link in self.links if link.index == index), None)

    def name(self, index: int) -> str:
        link = self.link(index)
        return f"interface {index}" if link is None else link.name


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
class Route:
    """What the routes say of a source.

    Attributes:
      refusal: the number of the error with which the kernel would refuse a datagram from it to the
        group by the interface; 0: it would take it; None: not known
      outgoing: the interface by which it would be answered; None: no route leads there
      gateway: the router that leads there; empty: it is on the link, or no route leads there
    """

    group: str
    interface: int
    source: str
    refusal: int | None
    outgoing: int | None
    gateway: str


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
