"""A kernel as a model: which memberships are in force, and what is announced, or is not.

It keeps what no socket option tells: which groups the switch behind an interface forwards. A switch
that snoops forgets a port that loses its carrier. Linux reports IPv6 groups again when the carrier
comes back, and IPv4 groups when they are joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import TypeAlias

from trio_mcast._base.interface import Interface
from trio_mcast._interfaces.following import AddressSeen, Event, EventsLost, LinkGone, LinkSeen

IPAddress: TypeAlias = IPv4Address | IPv6Address

LEAST_IPV6_MTU = 1280


@dataclass
class Link:
    """An interface of the model, and what only the kernel and the switch know about it."""

    index: int
    name: str
    has_carrier: bool = True
    carrier_changes: int = 1
    mtu: int = 1500
    addresses: int = 1
    identity: str = ""
    in_force: set[IPAddress] = field(default_factory=set)
    forwarded: set[IPAddress] = field(default_factory=set)

    @property
    def has_ipv6(self) -> bool:
        return self.mtu >= LEAST_IPV6_MTU

    def interface(self) -> Interface:
        ipv4 = [ip_interface(f"192.0.2.{self.index}/24")]
        ipv6 = [ip_interface(f"2001:db8:{self.index}::{n + 1}/64") for n in range(self.addresses)]
        return Interface(
            name=self.name,
            index=self.index,
            friendly_name=self.name,
            addresses=(*ipv4, *(ipv6 if self.has_ipv6 else ())),
            is_up=True,
            is_loopback=False,
            supports_multicast=True,
            mtu=self.mtu,
            has_ipv6=self.has_ipv6,
        )


class ModelKernel:
    """Interfaces, memberships and announcements.

    Attributes:
      links: by index
      doubtful: (interface index, IP version) of what gives a reason to join again, since the
        announcements were last read
      counts_carrier_changes: as Linux does, and others do not
      tells_identity: two interfaces that come one after the other can be told apart
      tells_now: asked how interfaces are now, it says more than a listing does
    """

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.doubtful: set[tuple[int, int]] = set()
        self.counts_carrier_changes = True
        self.tells_identity = True
        self.tells_now = True
        self._created = 0
        self._announced: list[Event] = []
        self._is_overrun = False
        self._unsure: set[int] = set()  # not heard of since announcements were lost
        self._next_index = 1

    # What happens

    def create(self, name: str, index: int | None = None) -> None:
        if index is None:
            while self._next_index in self.links:
                self._next_index += 1
            index = self._next_index
            self._next_index += 1
        self._created += 1
        identity = f"{name} {self._created}" if self.tells_identity else name
        self.links[index] = Link(index, name, identity=identity)
        self._announce_link(self.links[index])

    def delete(self, link: Link) -> None:
        del self.links[link.index]
        self._doubt(link.index)
        self._announce(LinkGone(link.index))

    def unplug(self, link: Link) -> None:
        if link.has_carrier:
            link.has_carrier = False
            link.carrier_changes += 1
            link.forwarded.clear()
            self._announce_link(link)

    def plug_in(self, link: Link) -> None:
        if not link.has_carrier:
            link.has_carrier = True
            link.carrier_changes += 1
            link.forwarded |= {group for group in link.in_force if group.version == 6}
            self.doubtful.add((link.index, 4))
            self._announce_link(link)

    def flap_unseen(self, link: Link) -> None:
        """The carrier is lost for so short a time that only the count tells."""
        if link.has_carrier and self.counts_carrier_changes:
            link.carrier_changes += 2
            link.forwarded = {group for group in link.in_force if group.version == 6}
            self.doubtful.add((link.index, 4))
            self._announce_link(link)

    def set_mtu(self, link: Link, mtu: int) -> None:
        had_ipv6, link.mtu = link.has_ipv6, mtu
        if had_ipv6 and not link.has_ipv6:
            self._drop_ipv6(link)
        self._announce_link(link)
        if had_ipv6 != link.has_ipv6:
            for _ in range(link.addresses):
                self._announce(AddressSeen(link.index, 6))

    def restart_ipv6(self, link: Link) -> None:
        """IPv6 starts anew, of which only its addresses tell."""
        if link.has_ipv6 and link.addresses:
            self._drop_ipv6(link)
            self._announce(AddressSeen(link.index, 6))

    def set_addresses(self, link: Link, count: int) -> None:
        if count != link.addresses:
            link.addresses = count
            self._announce(AddressSeen(link.index, 6))

    def announce_nothing_new(self, link: Link) -> None:
        self._announce_link(link)

    def overrun(self) -> None:
        """From now until they are read, announcements are lost; those of before are still there."""
        self._is_overrun = True

    # What a program does

    def join(self, index: int, group: IPAddress) -> bool:
        link = self.links.get(index)
        if link is None or (group.version == 6 and not link.has_ipv6):
            return False
        link.in_force.add(group)
        if link.has_carrier:
            link.forwarded.add(group)
        return True

    def leave(self, index: int, group: IPAddress) -> None:
        if link := self.links.get(index):
            link.in_force.discard(group)

    def look(self) -> list[Event]:
        return [self._seen(link) for link in self.links.values()] if self.tells_now else []

    def read(self) -> list[Event]:
        """As netlink does it: that something was lost comes first, then what was kept."""
        events: list[Event] = [EventsLost()] if self._is_overrun else []
        events += self._announced
        if self._is_overrun and not self.tells_now:
            self.doubtful |= {(index, version) for index in range(100) for version in (4, 6)}
            self._unsure = set(range(100))
        elif self._is_overrun and not self.counts_carrier_changes:
            self.doubtful |= {(link.index, 4) for link in self if link.has_carrier}
        self._announced.clear()
        self._is_overrun = False
        return events

    def listing(self) -> tuple[Interface, ...]:
        return tuple(self.links[index].interface() for index in sorted(self.links))

    def groups(self) -> frozenset[tuple[int, bytes]]:
        return frozenset(
            (link.index, group.packed) for link in self.links.values() for group in link.in_force
        )

    # Inside

    def _drop_ipv6(self, link: Link) -> None:
        link.in_force = {group for group in link.in_force if group.version == 4}
        link.forwarded &= link.in_force
        self.doubtful.add((link.index, 6))

    def _doubt(self, index: int) -> None:
        self.doubtful |= {(index, 4), (index, 6)}

    def _announce_link(self, link: Link) -> None:
        if link.index in self._unsure and link.has_carrier and not self._is_overrun:
            self._unsure.discard(link.index)
            self.doubtful.add((link.index, 4))
        self._announce(self._seen(link))

    def _announce(self, event: Event) -> None:
        if not self._is_overrun:
            self._announced.append(event)

    def _seen(self, link: Link) -> LinkSeen:
        changes = link.carrier_changes if self.counts_carrier_changes else None
        return LinkSeen(
            link.index, link.has_carrier, changes, not link.has_ipv6, identity=link.identity
        )

    def __iter__(self) -> Iterator[Link]:
        return iter(self.links.values())

    def find(self, name: str) -> Link | None:
        return next((link for link in self if link.name == name), None)
