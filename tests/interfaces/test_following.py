"""No membership is taken for joined that the kernel has dropped, whatever happens to interfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import TypeAlias

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from interfaces.link_model import Link, ModelKernel

from trio_mcast._base.interface import Interface
from trio_mcast._interfaces.following import (
    Action,
    AddressSeen,
    Change,
    Event,
    EventsLost,
    GroupEnded,
    Held,
    LinkGone,
    LinkSeen,
    LinkTracker,
    compare_listings,
    decide,
    find_new,
)
from trio_mcast._interfaces.selection import Selection

GROUP4 = ip_address("233.252.0.1")
GROUP6 = ip_address("ff15::4d43:1")
NAMES = ["eth0", "eth1"]

Happening: TypeAlias = Callable[[ModelKernel, str], None]


# --- The rules against a kernel that is a model ------------------------------------------------


@dataclass
class ModelMembership:
    """A membership as the library holds it."""

    group: IPv4Address | IPv6Address
    selection: Selection
    interface: Interface
    is_joined: bool = False
    is_absent: bool = False

    def held(self) -> Held:
        version = self.group.version
        return Held(
            self.interface,
            self.selection,
            version,
            self.group,
            is_absent=self.is_absent,
            works=self.is_joined,
            reason=self.selection if self.selection.is_named else None,
        )


def _of_a_link(happening: Callable[[ModelKernel, Link], None]) -> Happening:
    def happen(kernel: ModelKernel, name: str) -> None:
        if (link := kernel.find(name)) is not None:
            happening(kernel, link)

    return happen


def _create(kernel: ModelKernel, name: str) -> None:
    if kernel.find(name) is None:
        kernel.create(name)


def _create_anew(kernel: ModelKernel, link: Link) -> None:
    kernel.delete(link)
    kernel.create(link.name)


def _create_anew_with_the_same_index(kernel: ModelKernel, link: Link) -> None:
    kernel.delete(link)
    kernel.create(link.name, link.index)


def _dip(kernel: ModelKernel, link: Link) -> None:
    mtu = link.mtu
    kernel.set_mtu(link, 1000)
    kernel.set_mtu(link, mtu)


def _flap(kernel: ModelKernel, link: Link) -> None:
    kernel.unplug(link)
    kernel.plug_in(link)


HAPPENINGS: list[Happening] = [
    _create,
    _of_a_link(ModelKernel.delete),
    _of_a_link(_create_anew),
    _of_a_link(_create_anew_with_the_same_index),
    _of_a_link(ModelKernel.unplug),
    _of_a_link(ModelKernel.plug_in),
    _of_a_link(_flap),
    _of_a_link(ModelKernel.flap_unseen),
    _of_a_link(_dip),
    _of_a_link(lambda kernel, link: kernel.set_mtu(link, 576)),
    _of_a_link(lambda kernel, link: kernel.set_mtu(link, 1280)),
    _of_a_link(ModelKernel.restart_ipv6),
    _of_a_link(lambda kernel, link: kernel.set_addresses(link, (link.addresses + 1) % 3)),
    _of_a_link(ModelKernel.announce_nothing_new),
    lambda kernel, _name: kernel.overrun(),
]


NAMED = Selection.parse("eth0")
OTHERS = Selection().leaving(NAMED)
NOWHERE = Interface("eth0", 999, "eth0", (), False, False, True, 1500)


class Following(RuleBasedStateMachine):
    """Anything happens to interfaces, any number of times, and then the events are read.

    "eth0" is named by the program. On the others it joins because they are there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernel = ModelKernel()
        self.tracker = LinkTracker()
        self.listing: tuple[Interface, ...] = ()
        self.memberships: list[ModelMembership] = []
        self.is_settled = True

    @initialize(
        names=st.sets(st.sampled_from(NAMES)),
        counts=st.booleans(),
        identity=st.booleans(),
        now=st.booleans(),
    )
    def begin(self, names: set[str], counts: bool, identity: bool, now: bool) -> None:
        self.kernel.counts_carrier_changes = counts
        self.kernel.tells_identity = identity
        self.kernel.tells_now = now
        for name in sorted(names):
            self.kernel.create(name)
        kept = self.kernel.read()
        self.tracker.read(self.kernel.look() or kept)
        self.memberships = [
            ModelMembership(group, NAMED, NOWHERE, is_absent=True) for group in (GROUP4, GROUP6)
        ]
        self._adapt(Change(self.kernel.listing(), everything=True))
        self.listing = self.kernel.listing()

    @rule(
        happening=st.sampled_from(HAPPENINGS),
        name=st.sampled_from(NAMES),
        how_many_times=st.sampled_from([1, 1, 2]),
        then_read=st.booleans(),
    )
    def something_happens(
        self, happening: Happening, name: str, how_many_times: int, then_read: bool
    ) -> None:
        for _ in range(how_many_times):
            happening(self.kernel, name)
        self.is_settled = False
        if then_read:
            self.the_events_are_read()

    # What the library does about it

    @rule()
    def the_events_are_read(self) -> None:
        events = self.kernel.read()
        now = self.kernel.look() if EventsLost() in events else []
        before, self.listing = self.listing, self.kernel.listing()
        change = self.tracker.read(events, self.listing, before, now)
        if change.calls_for_a_look():
            change = change.with_groups(self.kernel.groups())
        self._adapt(change)
        self.kernel.doubtful.clear()
        self.is_settled = True

    def _adapt(self, change: Change) -> None:
        for membership in list(self.memberships):
            index = membership.interface.index
            others = self._taken(membership.group) - ({index} - {membership.is_absent and index})
            action, interface = decide(membership.held(), change, others)
            is_concerned = change.concerns_membership(index, membership.group)
            if not membership.is_absent and not is_concerned:
                assert action is Action.KEEP, "a receiver does not even ask"
            self._apply(membership, action, interface)
        for selection in (NAMED, OTHERS):
            for group in (GROUP4, GROUP6):
                taken = self._taken(group)
                for interface in find_new(selection, group.version, change, taken):
                    membership = ModelMembership(group, selection, interface)
                    self.memberships.append(membership)
                    self._join(membership)

    def _taken(self, group: IPv4Address | IPv6Address) -> set[int]:
        return {m.interface.index for m in self.memberships if m.group == group and not m.is_absent}

    def _apply(
        self, membership: ModelMembership, action: Action, interface: Interface | None
    ) -> None:
        key = (membership.interface.index, membership.group.version)
        match action:
            case Action.KEEP:
                assert interface is not None
                membership.interface = interface
            case Action.RENEW:
                assert interface is not None
                assert not membership.is_joined or key in self.kernel.doubtful, "needlessly"
                self.kernel.leave(membership.interface.index, membership.group)
                membership.interface, membership.is_absent = interface, False
                self._join(membership)
            case Action.SUSPEND:
                assert membership.selection.is_named
                membership.is_joined, membership.is_absent = False, True
            case Action.FORGET:
                assert not membership.selection.is_named
                self.memberships.remove(membership)

    def _join(self, membership: ModelMembership) -> None:
        index = membership.interface.index
        membership.is_joined = self.kernel.join(index, membership.group)

    # The laws

    @invariant()
    def what_is_held_as_joined_is_in_force(self) -> None:
        if self.is_settled:
            for membership in self.memberships:
                if membership.is_joined:
                    link = self.kernel.links[membership.interface.index]
                    assert membership.group in link.in_force
                    assert link.name == membership.interface.name

    @invariant()
    def what_can_be_joined_is_joined(self) -> None:
        if self.is_settled:
            joined = {(m.interface.name, m.group) for m in self.memberships if m.is_joined}
            can_be = {
                (link.name, group)
                for link in self.kernel
                for group in (GROUP4, GROUP6)
                if group.version == 4 or link.has_ipv6
            }
            assert joined == can_be

    @invariant()
    def the_switch_forwards_what_is_joined(self) -> None:
        if self.is_settled:
            for membership in self.memberships:
                link = self.kernel.links.get(membership.interface.index)
                if membership.is_joined and link is not None and link.has_carrier:
                    assert membership.group in link.forwarded

    @invariant()
    def what_was_named_stays_listed_and_the_rest_goes_with_its_interface(self) -> None:
        if self.is_settled:
            assert sum(m.selection.is_named for m in self.memberships) in (0, 2)
            for membership in self.memberships:
                is_there = membership.interface.index in self.kernel.links
                assert is_there or (membership.selection.is_named and membership.is_absent)


Following.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestFollowing = pytest.mark.filterwarnings("ignore::pytest.PytestCollectionWarning")(
    Following.TestCase
)


# --- Cases, one by one -------------------------------------------------------------------------


def change_after(
    *events: Event,
    before: tuple[Event, ...] = (LinkSeen(2),),
    listing: tuple[Interface, ...] | None = None,
    now: tuple[Event, ...] = (),
) -> Change:
    tracker = LinkTracker()
    tracker.read(before)
    listing = (interface(2),) if listing is None else listing
    return tracker.read(events, listing, [interface(2)], now)


def joined(group: IPv4Address | IPv6Address, *, is_named: bool = False) -> Held:
    selection = Selection.parse("eth2") if is_named else Selection()
    reason = selection if is_named else None
    return Held(interface(2), selection, group.version, group, reason=reason)


def action_after(held: Held, change: Change) -> Action:
    return decide(held, change)[0]


both = pytest.mark.parametrize("group", [GROUP4, GROUP6])


@both
def test_an_interface_announced_as_gone_has_dropped_its_memberships_even_if_it_is_there(
    group: IPv4Address | IPv6Address,
) -> None:
    assert action_after(joined(group), change_after(LinkGone(2), LinkSeen(2))) is Action.RENEW


@both
@pytest.mark.parametrize("event", [LinkGone(2), EventsLost(), LinkSeen(3)])
def test_a_membership_whose_interface_is_not_there_is_kept_only_if_it_was_named(
    group: IPv4Address | IPv6Address, event: Event
) -> None:
    change = change_after(event, listing=(interface(3),))
    assert decide(joined(group), change) == (Action.FORGET, None)
    assert decide(joined(group, is_named=True), change) == (Action.SUSPEND, None)


@both
def test_what_was_named_moves_to_where_the_name_is_now(group: IPv4Address | IPv6Address) -> None:
    stranger, again = interface(2, name="tun0"), interface(7, name="eth2")
    change = change_after(LinkGone(2), LinkSeen(2), LinkSeen(7), listing=(stranger, again))
    for held in (joined(group, is_named=True), joined(group)):
        assert decide(held, change) == (Action.RENEW, again)
        assert decide(held, change, taken={7})[0] in (Action.SUSPEND, Action.FORGET)
        assert decide(replace(held, is_absent=True), change) == (Action.RENEW, again)
        assert decide(replace(held, group=None), change) == (Action.RENEW, again)


def test_a_new_name_is_not_another_interface() -> None:
    renamed = interface(2, name="lan0")
    change = change_after(LinkSeen(2), listing=(renamed,))
    assert decide(joined(GROUP4, is_named=True), change) == (Action.KEEP, renamed)


def test_what_comes_back_unfit_is_taken_only_if_it_was_named() -> None:
    without_address = interface(7, name="eth2", addresses=())
    change = change_after(LinkGone(2), LinkSeen(7), listing=(without_address,))
    assert decide(joined(GROUP4), change) == (Action.FORGET, None)
    assert decide(joined(GROUP4, is_named=True), change) == (Action.RENEW, without_address)


def test_an_interface_too_small_for_ipv6_drops_ipv6_groups_only() -> None:
    change = change_after(LinkSeen(2, lost_ipv6=True), LinkSeen(2))
    assert action_after(joined(GROUP6), change) is Action.RENEW
    assert action_after(joined(GROUP4), change) is Action.KEEP


def test_ipv6_groups_that_the_kernel_no_longer_lists_are_joined_anew() -> None:
    change = change_after(AddressSeen(2, 6))
    assert change.calls_for_a_look()
    there = change.with_groups(frozenset({(2, GROUP6.packed)}))
    elsewhere = change.with_groups(frozenset({(3, GROUP6.packed)}))
    assert action_after(joined(GROUP6), elsewhere) is Action.RENEW
    assert action_after(joined(GROUP6), there) is Action.KEEP
    assert action_after(joined(GROUP6), change) is Action.KEEP
    assert action_after(joined(GROUP4), change.with_groups(frozenset())) is Action.KEEP


@both
def test_a_group_whose_end_was_announced_is_joined_anew_if_it_is_not_listed(
    group: IPv4Address | IPv6Address,
) -> None:
    change = change_after(GroupEnded(2, group.packed))
    assert change.concerns_membership(2, group)
    assert not change.concerns(2), "it is no reason to try again what failed"
    there = frozenset({(2, group.packed)})
    assert action_after(joined(group), change.with_groups(there)) is Action.KEEP
    assert action_after(joined(group), change.with_groups(frozenset())) is Action.RENEW
    failed = replace(joined(group), works=False)
    assert action_after(failed, change.with_groups(frozenset())) is Action.KEEP


def test_an_ipv4_address_is_no_reason_to_ask_for_groups() -> None:
    change = change_after(AddressSeen(2, 4))
    assert not change.calls_for_a_look()
    assert action_after(joined(GROUP6), change.with_groups(frozenset())) is Action.KEEP


CARRIER_RETURNS = {
    "down, then up": (LinkSeen(2, has_carrier=False), LinkSeen(2)),
    "counted twice": (LinkSeen(2, carrier_changes=3),),
}


@pytest.mark.parametrize("events", CARRIER_RETURNS.values(), ids=CARRIER_RETURNS.keys())
def test_ipv4_groups_are_reported_again_when_the_carrier_is_back(events: tuple[Event, ...]) -> None:
    change = change_after(*events, before=(LinkSeen(2, carrier_changes=1),))
    assert action_after(joined(GROUP4), change) is Action.RENEW
    assert action_after(joined(GROUP6), change) is Action.KEEP


@pytest.mark.parametrize(
    "event", [LinkSeen(2, has_carrier=False, carrier_changes=2), LinkSeen(2, carrier_changes=1)]
)
def test_a_carrier_that_stays_or_goes_is_no_reason_to_report_again(event: LinkSeen) -> None:
    change = change_after(event, before=(LinkSeen(2, carrier_changes=1),))
    assert action_after(joined(GROUP4), change) is Action.KEEP


def test_a_carrier_that_returns_in_a_later_batch_is_noticed() -> None:
    tracker = LinkTracker()
    tracker.read([LinkSeen(2)])
    assert not tracker.read([LinkSeen(2, has_carrier=False)]).carrier_regained
    assert tracker.read([LinkSeen(3), LinkSeen(2)]).carrier_regained == {2}
    assert not tracker.read([LinkSeen(2)]).carrier_regained


def test_an_interface_seen_for_the_first_time_has_not_regained_its_carrier() -> None:
    assert not change_after(LinkSeen(2), before=()).carrier_regained
    assert not change_after(LinkGone(2), LinkSeen(2)).carrier_regained


def test_what_failed_is_tried_again_when_something_is_announced_of_its_interface() -> None:
    failed = replace(joined(GROUP4), works=False)
    assert action_after(failed, change_after()) is Action.KEEP
    assert action_after(failed, change_after(LinkSeen(3))) is Action.KEEP
    assert action_after(replace(failed, is_due=True), change_after()) is Action.RENEW
    for event in (LinkSeen(2), AddressSeen(2, 4), AddressSeen(2, 6), LinkGone(2), EventsLost()):
        assert action_after(failed, change_after(event)) is Action.RENEW


def test_a_socket_that_sends_is_opened_anew_when_its_interface_was_and_not_for_less() -> None:
    sending = replace(joined(GROUP4), group=None)
    for event in (LinkSeen(2, lost_ipv6=True), LinkSeen(2, carrier_changes=3), AddressSeen(2, 6)):
        assert action_after(sending, change_after(event)) is Action.KEEP
    assert action_after(sending, change_after(LinkGone(2), LinkSeen(2))) is Action.RENEW


# --- Lost announcements --------------------------------------------------------------------------

SEEN = LinkSeen(2, carrier_changes=1, identity=b"\2")
NOW: dict[str, tuple[LinkSeen, bool, bool]] = {
    "as before": (SEEN, False, False),
    "another carrier": (replace(SEEN, carrier_changes=3), True, False),
    "another interface": (replace(SEEN, identity=b"\3"), True, True),
    "a carrier that nobody counts": (replace(SEEN, carrier_changes=None), True, False),
    "without IPv6": (replace(SEEN, lost_ipv6=True), False, True),
}


@both
def test_everything_is_joined_anew_when_nothing_is_known(group: IPv4Address | IPv6Address) -> None:
    change = change_after(EventsLost())
    assert action_after(joined(group), change) is Action.RENEW
    assert action_after(replace(joined(group), works=False), change) is Action.RENEW


@pytest.mark.parametrize(("now", "renews4", "renews6"), NOW.values(), ids=NOW)
def test_what_was_not_touched_while_announcements_were_lost_is_left_alone(
    now: LinkSeen, renews4: bool, renews6: bool
) -> None:
    change = change_after(EventsLost(), before=(SEEN,), now=(now,))
    listed = change.with_groups(frozenset({(2, GROUP4.packed), (2, GROUP6.packed)}))
    for group, renews in ((GROUP4, renews4), (GROUP6, renews6)):
        assert (action_after(joined(group), listed) is Action.RENEW) == renews
        assert action_after(joined(group), change.with_groups(frozenset())) is Action.RENEW
        assert action_after(replace(joined(group), group=None), listed) is Action.RENEW


def test_an_interface_that_went_while_announcements_were_lost_is_noticed() -> None:
    change = change_after(EventsLost(), before=(SEEN, LinkSeen(3)), now=(LinkSeen(3),), listing=())
    assert change.dropped == {2}
    assert action_after(joined(GROUP4), change) is Action.FORGET


@pytest.mark.parametrize("carrier_changes", [None, 1])
def test_a_carrier_whose_loss_was_not_announced_is_noticed_when_it_returns(
    carrier_changes: int | None,
) -> None:
    """What netlink kept from before comes after the news that something was lost."""
    seen = LinkSeen(2, carrier_changes=carrier_changes)
    tracker = LinkTracker()
    tracker.read([seen])
    tracker.read([EventsLost(), seen])  # the loss of the carrier is among what was lost
    back = replace(seen, carrier_changes=carrier_changes and carrier_changes + 2)
    assert tracker.read([back]).carrier_regained == {2}
    assert not tracker.read([back]).carrier_regained


# --- Changes that nobody has looked at -----------------------------------------------------------


def test_changes_add_up_for_who_looks_later() -> None:
    earlier = change_after(LinkGone(2), AddressSeen(2, 6), GroupEnded(2, b"g"), listing=())
    later = change_after(LinkSeen(2, lost_ipv6=True), LinkSeen(3), listing=(interface(3),))
    together = earlier.followed_by(later)
    assert together.listing == later.listing
    assert together.present == later.present
    for name in ("dropped", "dropped_ipv6", "addressed_ipv6", "ended", "concerned"):
        assert getattr(together, name) == getattr(earlier, name) | getattr(later, name)
    lost = change_after(EventsLost())
    assert lost.followed_by(later).everything
    assert later.followed_by(lost).everything


# --- What is new ---------------------------------------------------------------------------------


def test_an_interface_that_turns_up_or_begins_to_fit_is_new_to_a_selection() -> None:
    new, unfit = interface(3), interface(4, addresses=())
    change = change_after(LinkSeen(3), LinkSeen(4), listing=(interface(2), new, unfit))
    assert find_new(Selection(), 4, change, {2}) == (new,)
    assert find_new(Selection(), 4, change, {2, 3}) == ()
    assert find_new(Selection.parse(["eth3", "eth4"]), 4, change, ()) == (new, unfit)
    assert find_new(Selection.parse("eth2"), 4, change, {2}) == ()
    assert find_new(Selection(), 4, change_after(GroupEnded(2, b"g")), ()) == ()


# --- Comparing listings ------------------------------------------------------------------------


def interface(index: int = 2, **others: object) -> Interface:
    fields: dict[str, object] = {
        "name": f"eth{index}",
        "index": index,
        "friendly_name": others.get("name", f"eth{index}"),
        "addresses": (ip_interface(f"192.0.2.{index}/24"),),
        "is_up": True,
        "is_loopback": False,
        "supports_multicast": True,
        "mtu": 1500,
        "has_ipv6": True,
    }
    return Interface(**fields | others)  # type: ignore[arg-type]


addresses = st.lists(
    st.sampled_from([ip_interface("192.0.2.1/24"), ip_interface("2001:db8::1/64")]), unique=True
)
listings = st.dictionaries(
    st.integers(1, 5),
    st.builds(
        dict,
        name=st.sampled_from(NAMES),
        addresses=addresses.map(tuple),
        is_up=st.booleans(),
        mtu=st.sampled_from([576, 1500]),
        has_ipv6=st.booleans(),
    ),
).map(lambda found: tuple(interface(index, **fields) for index, fields in found.items()))


@given(listings)
def test_equal_listings_show_nothing(listing: tuple[Interface, ...]) -> None:
    assert compare_listings(listing, tuple(reversed(listing))) == ()


@given(listings, listings)
def test_every_difference_of_listings_and_nothing_else_shows(
    before: tuple[Interface, ...], after: tuple[Interface, ...]
) -> None:
    change = LinkTracker().read(compare_listings(before, after), after, before)
    old = {i.index: i for i in before}
    new = {i.index: i for i in after}
    indexes = old.keys() | new.keys()
    assert change.concerned == {index for index in indexes if old.get(index) != new.get(index)}
    assert change.dropped >= old.keys() - new.keys()
    assert change.dropped <= change.concerned & old.keys()
    for index in old.keys() & new.keys():
        lost_ipv6 = bool(old[index].has_ipv6) and not new[index].has_ipv6
        assert (index in change.dropped_ipv6) == lost_ipv6
        if old[index].name == new[index].name or old[index].addresses == new[index].addresses:
            assert index not in change.dropped


def test_another_name_with_other_addresses_at_the_same_index_is_another_interface() -> None:
    other = interface(name="wlan0", addresses=(ip_interface("198.51.100.1/24"),))
    assert change_after(*compare_listings([interface()], [other])).dropped == {2}
    renamed = compare_listings([interface()], [interface(name="wlan0")])
    assert not change_after(*renamed).dropped


def test_where_listings_are_all_there_is_being_up_stands_for_the_carrier() -> None:
    down = interface(is_up=False)
    tracker = LinkTracker()
    tracker.read(compare_listings([], [interface()]))
    assert not tracker.read(compare_listings([interface()], [down])).carrier_regained
    assert tracker.read(compare_listings([down], [interface()])).carrier_regained == {2}


def test_a_listing_does_not_contradict_what_was_announced_of_the_carrier() -> None:
    """Where both are read: without a carrier an interface is up, and loses addresses by and by."""
    tracker = LinkTracker()
    tracker.read([LinkSeen(2)])
    tracker.read([LinkSeen(2, has_carrier=False)])
    without_address = interface(addresses=())
    assert not tracker.read(compare_listings([interface()], [without_address])).carrier_regained
    assert tracker.read([LinkSeen(2)]).carrier_regained == {2}


def test_the_end_of_a_group_calls_for_no_retry() -> None:
    """It may be that of the retry before, which would go on without a pause then."""
    due = replace(joined(GROUP4), works=False, is_due=True)
    ended = change_after(GroupEnded(2, GROUP4.packed))
    assert action_after(due, ended) is Action.KEEP
    assert action_after(due, change_after()) is Action.RENEW
    assert (
        action_after(due, change_after(GroupEnded(2, GROUP4.packed), LinkSeen(2))) is Action.RENEW
    )
