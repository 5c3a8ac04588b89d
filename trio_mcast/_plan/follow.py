"""What to do with memberships when interfaces change: events and a listing in, actions out.

A joined socket is never told that it went deaf. The kernel keeps a membership through a link going
down and up, through renames and changes of addresses, and drops it without a word when the
interface is deleted or moved to another namespace, or, for IPv6, when its MTU is below 1280 for a
moment. Comparing listings does not show all of this: an interface that was deleted and re-created
with the same name, index and hardware address looks as it did. So the rules are about what was
*announced* in between, and the listing only says what there is now.

1. An interface that was announced as gone has dropped its memberships, whatever is there now.
2. IPv6 memberships are dropped when the interface was announced without a state for IPv6.
   A membership of either version is dropped if the kernel no longer lists the group there. It is
   asked when it has announced the group's end or, for IPv6, a change of addresses. A group can end
   by no fault of ours: closing a socket whose membership is on an interface that was deleted is
   taken for the end of a membership on the one that has its index now, whoever's that is.
3. A switch that snoops forgets a port that lost its carrier. When the carrier comes back Linux
   reports IPv6 groups again but not IPv4 ones: joining anew reports them.
4. When announcements were lost, everything may have happened to every interface. A carrier that is
   seen there next may have come back meanwhile.
5. What failed before is tried again when something is announced of its interface.
6. An interface that turns up and is covered by a selection is joined. One that only no longer fits
   a selection without names (its address went, it is down) keeps its membership, as the kernel
   does.

"Linux", "the kernel" and the numbers: seen on Linux 6.18 between network namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from .interfaces import Interface, IPVersion


@dataclass(frozen=True)
class LinkGone:
    """The interface was deleted, or moved out of sight."""

    index: int


@dataclass(frozen=True)
class LinkSeen:
    """Something was announced of an interface: this is how it was at that moment.

    Attributes:
      index: which interface
      has_carrier: whether the cable, so to speak, is plugged in; None where that was not told
      carrier_changes: how often that has changed since the interface was made, None where the
        system does not count. It shows a loss that was too short to be announced
      lost_ipv6: IPv6 had no state for it, so that its memberships are gone
    """

    index: int
    has_carrier: bool | None = True
    carrier_changes: int | None = None
    lost_ipv6: bool = False


@dataclass(frozen=True)
class AddressSeen:
    """An address came or went."""

    index: int
    version: IPVersion


@dataclass(frozen=True)
class EventsLost:
    """More was announced than could be kept, so nothing is known for certain."""


@dataclass(frozen=True)
class GroupEnded:
    """The last membership of a group on an interface ended, as the kernel counts them."""

    index: int
    group: bytes


Event: TypeAlias = GroupEnded | LinkGone | LinkSeen | AddressSeen | EventsLost


class Loss(Enum):
    """What became of the memberships on an interface."""

    NONE = 0
    UNREPORTED = 1  # in force, but a switch may have forgotten them
    DROPPED = 2


@dataclass
class Changes:
    """What a run of events means for the memberships on each interface."""

    everything: bool = False
    dropped: set[int] = field(default_factory=set)
    dropped_ipv6: set[int] = field(default_factory=set)
    carrier_regained: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)
    addressed_ipv6: set[int] = field(default_factory=set)
    ended: set[tuple[int, bytes]] = field(default_factory=set)

    def loss(self, index: int, version: IPVersion) -> Loss:
        """What became of a membership that was in force before."""
        if self.everything or index in self.dropped:
            return Loss.DROPPED
        if version == 6:
            return Loss.DROPPED if index in self.dropped_ipv6 else Loss.NONE
        return Loss.UNREPORTED if index in self.carrier_regained else Loss.NONE

    def calls_for_a_look(self) -> bool:
        """Whether the kernel should be asked which groups it lists."""
        return bool(self.addressed_ipv6 or self.ended)

    def may_have_ended(self, index: int, group: IPv4Address | IPv6Address) -> bool:
        return (index, group.packed) in self.ended or (
            group.version == 6 and index in self.addressed_ipv6
        )

    def concerns(self, index: int) -> bool:
        """Whether anything was announced of the interface, so that a refusal may be over."""
        return self.everything or index in self.touched


class CarrierWatch:
    """Remembers each interface's carrier, to tell when one has come back."""

    def __init__(self) -> None:
        self._last: dict[int, LinkSeen] = {}
        self._has_lost_track = False

    def read(self, events: Iterable[Event]) -> Changes:
        """Take a run of events in, and say what it means."""
        changes = Changes()
        for event in events:
            match event:
                case EventsLost():
                    changes.everything = True
                case LinkGone(index):
                    changes.dropped.add(index)
                    changes.touched.add(index)
                    self._last.pop(index, None)
                case GroupEnded(index, group):
                    changes.ended.add((index, group))
                case AddressSeen(index, version):
                    changes.touched.add(index)
                    if version == 6:
                        changes.addressed_ipv6.add(index)
                case LinkSeen(index):
                    changes.touched.add(index)
                    if event.lost_ipv6:
                        changes.dropped_ipv6.add(index)
                    if event.has_carrier is None:
                        continue
                    if self._has_regained_carrier(event):
                        changes.carrier_regained.add(index)
                    self._last[index] = event
        if changes.everything:  # what netlink kept is older than what it lost
            self._last.clear()
            self._has_lost_track = True
        return changes

    def _has_regained_carrier(self, now: LinkSeen) -> bool:
        if not now.has_carrier:
            return False
        before = self._last.get(now.index)
        if before is None:
            return self._has_lost_track
        return not before.has_carrier or before.carrier_changes != now.carrier_changes


@dataclass(frozen=True)
class Held:
    """A membership as the rules see it: one group on one interface.

    Attributes:
      group: the group
      index: the interface it was joined on last
      is_joined: whether it is in force, as far as the library knows
      is_named: whether the program named the interface, so that it stays listed while absent
    """

    group: IPv4Address | IPv6Address
    index: int
    is_joined: bool
    is_named: bool


class Action(Enum):
    """What to do with one membership."""

    KEEP = "keep"
    REJOIN = "rejoin"
    SUSPEND = "suspend"  # close its sockets, keep it listed
    FORGET = "forget"


def decide(
    held: Held,
    changes: Changes,
    present: frozenset[int],
    listed: frozenset[tuple[int, bytes]] | None,
) -> Action:
    """What to do with a membership after some events.

    Args:
      held: the membership
      changes: what the events mean
      present: the indexes of the interfaces that exist now
      listed: the groups that the kernel lists now, by interface; None if it was not asked
    """
    if held.index not in present:
        return Action.SUSPEND if held.is_named else Action.FORGET
    if not held.is_joined:
        return Action.REJOIN if changes.concerns(held.index) else Action.KEEP
    if changes.loss(held.index, held.group.version) is not Loss.NONE:
        return Action.REJOIN
    is_listed = listed is None or (held.index, held.group.packed) in listed
    if changes.may_have_ended(held.index, held.group) and not is_listed:
        return Action.REJOIN
    return Action.KEEP


def compare_listings(before: Iterable[Interface], after: Iterable[Interface]) -> tuple[Event, ...]:
    """What can be seen without announcements, or in addition to incomplete ones.

    An interface that is switched on or off stands for one whose carrier comes or goes, for nothing
    else in a listing tells of it.
    """
    old = {interface.index: interface for interface in before}
    new = {interface.index: interface for interface in after}
    events: list[Event] = [LinkGone(index) for index in old if index not in new]
    for index, interface in new.items():
        known = old.get(index)
        if known is None:
            events.append(LinkSeen(index, has_carrier=interface.is_up))
        elif known != interface:
            if known.name != interface.name and set(known.addresses) != set(interface.addresses):
                events.append(LinkGone(index))  # more likely another one than the same
            has_carrier = None if known.is_up == interface.is_up else interface.is_up
            lost_ipv6 = bool(known.has_ipv6) and not interface.has_ipv6
            events.append(LinkSeen(index, has_carrier, lost_ipv6=lost_ipv6))
    return tuple(events)
