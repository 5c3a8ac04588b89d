"""What to do with memberships and senders' sockets when interfaces change: one set of rules.

Announcements and a listing go in, actions come out; nothing here touches a system.

A joined socket is never told that it went deaf. The kernel keeps a membership through a link going
down and up, through renames and changes of addresses, and drops it without a word when the
interface is deleted or moved to another namespace, or, for IPv6, when its MTU is below 1280 for a
moment. Comparing listings does not show all of this: an interface that was deleted and re-created
with the same name, index and hardware address looks as it did. So the rules are about what was
*announced* in between, and the listing only says what there is now.

1. An interface that was announced as gone has dropped its memberships, whatever is there now. A
   socket that sends by it sends no more, too.
2. IPv6 memberships are dropped when the interface was announced without a state for IPv6.
   A membership of either version is dropped if the kernel no longer lists the group there. It is
   asked when it has announced the group's end or, for IPv6, a change of addresses; one that
   announces no end (Linux before 6.15) is asked again and again (`feed`). A group can end
   by no fault of ours: closing a socket whose membership is on an interface that was deleted is
   taken for the end of a membership on the one that has its index now, whoever's that is.
3. A switch that snoops forgets a port that lost its carrier. When the carrier comes back Linux
   reports IPv6 groups again but not IPv4 ones: joining anew reports them.
4. When announcements were lost, the system is asked how each interface is now. One that is called
   otherwise than before or has another hardware address is another; one whose carrier was counted
   to change has lost it in between; and the kernel is asked for its groups. A socket that sends is
   opened anew, for nothing tells whether it still can. Where the system tells nothing of all this,
   everything may have happened to every interface.
5. What failed before is tried again when something is announced of its interface.
6. An interface that turns up and is covered by a selection is joined. One that only no longer fits
   a selection without names (its address went, it is down) keeps its membership, as the kernel
   does.
7. As long as nothing else is known it is the index that counts: names can change. When an
   interface has gone, another may have been given its index. Then what was held there moves to
   whatever is meant now for the same reason (`Selection.reason_for`). If there is none, what was
   named waits for it, and the rest is forgotten. What a socket heard last may have come by the
   other one, to which the kernel lets it listen, and is given up.
8. Who does not follow joins nothing again. But what the kernel has dropped does not count as joined
   any more.

"Linux", "the kernel" and the numbers: seen on Linux 6.18 between network namespaces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from .._base.interface import Interface, IPVersion
from .selection import Selection

# --- What is announced -------------------------------------------------------------------------


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
      identity: what tells it from another with its index: its hardware address, or its name if it
        has none; None where that was not told
    """

    index: int
    has_carrier: bool | None = True
    carrier_changes: int | None = None
    lost_ipv6: bool = False
    identity: str | bytes | None = None


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


# --- What it means -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """What a run of announcements means, and how the interfaces are now.

    Attributes:
      listing: the interfaces as they are now
      groups: the groups that the kernel lists now, by interface; None if it was not asked
      everything: nothing is known, and everything may have happened
      were_lost: announcements were lost, but the system has told how interfaces are now
      dropped: indexes of interfaces that are gone, or were for a moment
      dropped_ipv6: where IPv6 is gone, or was for a moment
      carrier_regained: where the carrier has come back
      addressed_ipv6: where an IPv6 address came or went
      ended: groups whose last membership has ended, by interface
      concerned: every interface of which something was announced, or that is listed otherwise than
        before
    """

    listing: tuple[Interface, ...]
    groups: frozenset[tuple[int, bytes]] | None = None
    everything: bool = False
    were_lost: bool = False
    dropped: frozenset[int] = frozenset()
    dropped_ipv6: frozenset[int] = frozenset()
    carrier_regained: frozenset[int] = frozenset()
    addressed_ipv6: frozenset[int] = frozenset()
    ended: frozenset[tuple[int, bytes]] = frozenset()
    concerned: frozenset[int] = frozenset()
    present: dict[int, Interface] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "present", {i.index: i for i in self.listing})

    def concerns(self, index: int) -> bool:
        """Whether anything has happened to the interface, so that a refusal may be over."""
        return self.everything or self.were_lost or index in self.concerned

    def concerns_membership(self, index: int, group: IPv4Address | IPv6Address) -> bool:
        """Whether `decide` may have something else to say about a membership than to keep it.

        The end of a group is not a reason to try again what failed: trying it may be what ends.
        """
        return self.concerns(index) or (index, group.packed) in self.ended

    def is_certain_of(self, index: int) -> bool:
        """Whether what has this index now is what had it before."""
        return not self.everything and index not in self.dropped

    def has_given_away(self, before: Interface) -> bool:
        """Whether another interface has its index now, as far as a name tells."""
        now = self.present.get(before.index)
        return not self.is_certain_of(before.index) and now is not None and now.name != before.name

    def calls_for_a_look(self) -> bool:
        """Whether the kernel should be asked which groups it lists."""
        return bool(self.addressed_ipv6 or self.ended or self.were_lost)

    def has_dropped(self, index: int, group: IPv4Address | IPv6Address) -> bool:
        """Whether a membership that was in force there is so no more."""
        if group.version == 6 and index in self.dropped_ipv6:
            return True
        may_have_ended = (
            self.were_lost
            or (index, group.packed) in self.ended
            or (group.version == 6 and index in self.addressed_ipv6)
        )
        return (
            may_have_ended and self.groups is not None and (index, group.packed) not in self.groups
        )

    def was_forgotten(self, index: int, group: IPv4Address | IPv6Address) -> bool:
        """Whether a switch may have forgotten a membership that is still in force."""
        return group.version == 4 and index in self.carrier_regained

    def with_groups(self, groups: frozenset[tuple[int, bytes]] | None) -> Change:
        return replace(self, groups=groups)

    def candidates(self) -> Iterable[Interface]:
        """The interfaces that may be new, or fit where they did not fit before."""
        if self.everything or self.were_lost:
            return self.listing
        return [self.present[index] for index in self.concerned if index in self.present]

    def followed_by(self, later: Change) -> Change:
        """Both together, for who has not looked in between."""
        return Change(
            later.listing,
            later.groups if later.groups is not None else self.groups,
            self.everything or later.everything,
            self.were_lost or later.were_lost,
            self.dropped | later.dropped,
            self.dropped_ipv6 | later.dropped_ipv6,
            self.carrier_regained | later.carrier_regained,
            self.addressed_ipv6 | later.addressed_ipv6,
            self.ended | later.ended,
            self.concerned | later.concerned,
        )


class LinkTracker:
    """Remembers how each interface was announced last, to tell what a new announcement means."""

    def __init__(self) -> None:
        self._last: dict[int, LinkSeen] = {}
        self._has_lost_track = False

    def read(
        self,
        events: Iterable[Event],
        listing: tuple[Interface, ...] = (),
        before: Iterable[Interface] = (),
        now: Iterable[Event] = (),
    ) -> Change:
        """Take a run of events in, and say what it means.

        Args:
          listing: the interfaces as they are now
          before: as they were when this was last called
          now: where announcements were lost, how the system says that each interface is now
        """
        dropped: set[int] = set()
        dropped_ipv6: set[int] = set()
        carrier_regained: set[int] = set()
        addressed_ipv6: set[int] = set()
        ended: set[tuple[int, bytes]] = set()
        known = {interface.index: interface for interface in before}
        concerned = {i.index for i in listing if known.get(i.index) != i}
        events = list(events)
        were_lost = any(isinstance(event, EventsLost) for event in events)
        seen_now = {e.index: e for e in now if isinstance(e, LinkSeen)} if were_lost else {}
        if seen_now:
            # As if they had been announced now: what has happened more than once in between cannot
            # be told apart from once, and need not be.
            events += self._find_losses(seen_now)
        for event in events:
            match event:
                case LinkGone(index):
                    dropped.add(index)
                    concerned.add(index)
                    self._last.pop(index, None)
                case GroupEnded(index, group):
                    ended.add((index, group))
                case AddressSeen(index, version):
                    concerned.add(index)
                    if version == 6:
                        addressed_ipv6.add(index)
                case LinkSeen(index):
                    concerned.add(index)
                    # Also if it has IPv6 again by now: for a moment it had not, and that is enough.
                    if event.lost_ipv6:
                        dropped_ipv6.add(index)
                    if event.has_carrier is None:  # this tells nothing of carriers: keep what was
                        continue
                    if self._has_regained_carrier(event):
                        carrier_regained.add(index)
                    self._last[index] = event
        if were_lost and not seen_now:  # what was kept of announcements is older than what was lost
            self._last.clear()
            self._has_lost_track = True
        return Change(
            listing,
            everything=were_lost and not seen_now,
            were_lost=were_lost and bool(seen_now),
            dropped=frozenset(dropped),
            dropped_ipv6=frozenset(dropped_ipv6),
            carrier_regained=frozenset(carrier_regained),
            addressed_ipv6=frozenset(addressed_ipv6),
            ended=frozenset(ended),
            concerned=frozenset(concerned),
        )

    def _find_losses(self, now: dict[int, LinkSeen]) -> Iterable[Event]:
        """What must have happened since the last announcements that were not lost."""
        for index, before in list(self._last.items()):
            after = now.get(index)
            if after is None or before.identity != after.identity:
                yield LinkGone(index)
            elif after.has_carrier and after.carrier_changes is None:  # it may have gone meanwhile
                yield replace(after, has_carrier=False)
        yield from now.values()

    def _has_regained_carrier(self, now: LinkSeen) -> bool:
        if not now.has_carrier:
            return False
        before = self._last.get(now.index)
        if before is None:
            return self._has_lost_track
        return not before.has_carrier or before.carrier_changes != now.carrier_changes


# --- What to do ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What a receiver or a sender holds on an interface, as the rules see it.

    Attributes:
      interface: the interface, as it was last seen
      selection: the interfaces that were meant
      version: the IP version it is for
      group: the group that was joined; None for a socket that sends
      is_absent: the interface was gone the last time
      works: it is joined, or can send, as far as the library knows
      is_due: if it does not work, try it again whatever was announced
      reason: the part of the selection by which the interface was meant when it was chosen; None:
        its name, whatever that is by now
      follows: whether it is to be held on to
    """

    interface: Interface
    selection: Selection
    version: IPVersion
    group: IPv4Address | IPv6Address | None = None
    is_absent: bool = False
    works: bool = True
    is_due: bool = False
    reason: Selection | None = None
    follows: bool = True


class Action(Enum):
    """What to do with something held."""

    KEEP = "keep"
    RENEW = "renew"  # join again, or open anew
    SUSPEND = "suspend"  # close its sockets, but keep it for when its interface comes back
    FORGET = "forget"


def decide(
    held: Held, change: Change, taken: Collection[int] = ()
) -> tuple[Action, Interface | None]:
    """What to do after a change, and the interface as it is now, if there is one.

    Args:
      taken: indexes of interfaces on which the same is held already, by something else
    """
    before = held.interface
    here = change.present.get(before.index)
    if not held.follows:
        is_gone = here is None or held.is_absent or before.index in change.dropped
        if is_gone or (held.group is not None and change.has_dropped(before.index, held.group)):
            return Action.SUSPEND, None
        return Action.KEEP, here
    # If what has this index now may be another, the index says nothing, and the reason for which
    # the interface was meant decides.
    if here is None or held.is_absent or not change.is_certain_of(before.index):
        again = _find_again(held, change, taken)
        if again is not None:
            return Action.RENEW, again
        return (Action.SUSPEND if held.selection.is_named else Action.FORGET), None
    if here.master is not None and not held.selection.is_named:
        return Action.FORGET, None  # it has become a port, so its master stands for it
    if not held.works:
        # The end of a group calls for no retry: it may be that of the retry before.
        is_due = (held.is_due and not change.ended) or change.concerns(here.index)
        return (Action.RENEW if is_due else Action.KEEP), here
    if held.group is None:
        # A socket that sends belongs to the interface, not to an index: when that is deleted and
        # made anew it sends no more. Lost announcements may have said so, and opening anew costs
        # little.
        return (Action.RENEW if change.were_lost else Action.KEEP), here
    is_lost = change.has_dropped(here.index, held.group)
    must_join_anew = is_lost or change.was_forgotten(here.index, held.group)
    return (Action.RENEW if must_join_anew else Action.KEEP), here


def _find_again(held: Held, change: Change, taken: Collection[int]) -> Interface | None:
    """The interface that is meant now for the reason for which the one before was."""
    before, selection, reason = held.interface, held.selection, held.reason
    # Something absent was looked for in all the listing when it went: only what is new can be it.
    pool = list(change.candidates()) if held.is_absent else list(change.listing)
    pool.sort(key=lambda interface: interface.index != before.index)  # its own index goes first
    for interface in pool:
        fits = selection.is_named or selection.covers(interface, held.version)
        is_meant = interface.name == before.name if reason is None else reason.covers(interface)
        if fits and is_meant and interface.index not in taken:
            return interface
    return None


def find_new(
    selection: Selection, version: IPVersion, change: Change, taken: Collection[int]
) -> tuple[Interface, ...]:
    """The interfaces that a selection covers since a change, and on which nothing is held yet."""
    # Asked first, for it is the usual case that nothing is new, and to look through the listing of
    # a host with hundreds of interfaces, for each request of each receiver, takes long.
    if not any(selection.covers(i, version) for i in change.candidates() if i.index not in taken):
        return ()
    found = selection.find(change.listing, version)
    return tuple(interface for interface in found if interface.index not in taken)


# --- Without announcements -----------------------------------------------------------------------


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
