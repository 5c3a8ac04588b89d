"""What a machine says of itself: plain frozen values, as the doctor judges them.

Addresses are text here, as they are shown. None means that this system, or this user, is not told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import NamedTuple


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

    def can_carry(self, version: int) -> bool:
        """Whether datagrams of an IP version get through, as far as this host is concerned."""
        if not self.is_up or self.has_carrier is False:
            return False
        if version == 6:
            return self.ipv6 not in ("disabled", "absent")
        return bool(self.addresses_of(4))


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


@dataclass(frozen=True, order=True)
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


class Sighting(NamedTuple):
    """A UDP datagram as it came in, or with `port` None a query for memberships (IGMP or MLD)."""

    interface: str
    source: IPv4Address | IPv6Address
    group: IPv4Address | IPv6Address
    port: int | None
    hop_limit: int
