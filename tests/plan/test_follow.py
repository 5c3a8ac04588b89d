"""No membership is taken for joined that the kernel has dropped, whatever happens to interfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import TypeAlias

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from plan.model_kernel import Link, ModelKernel

from trio_mcast._plan.follow import (
    Action,
    AddressSeen,
    CarrierWatch,
    Changes,
    Event,
    EventsLost,
    Held,
    LinkGone,
    LinkSeen,
    Loss,
    compare_listings,
    decide,
)
from trio_mcast._plan.interfaces import Interface

GROUP4 = ip_address("233.252.0.1")
GROUP6 = ip_address("ff15::4d43:1")
NAMES = ["eth0", "eth1"]

Happening: TypeAlias = Callable[[ModelKernel, str], None]


# --- The rules against a kernel that is a model ------------------------------------------------


@dataclass
class ModelMembership:
    """A membership as the library holds it."""

    group: IPv4Address | IPv6Address
    name: str
    index: int
    is_joined: bool
    is_named: bool

    def held(self) -> Held:
        return Held(self.group, self.index, self.is_joined, self.is_named)


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


class Following(RuleBasedStateMachine):
    """Anything happens to interfaces, any number of times, and then the events are read.

    "eth0" is named by the program. On the others it joins because they are there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernel = ModelKernel()
        self.watch = CarrierWatch()
        self.memberships: list[ModelMembership] = []
        self.is_settled = True

    @initialize(names=st.sets(st.sampled_from(NAMES)), counts=st.booleans())
    def begin(self, names: set[str], counts: bool) -> None:
        self.kernel.counts_carrier_changes = counts
        for name in sorted(names):
            self.kernel.create(name)
        self.kernel.read()
        self.watch.read(self.kernel.look())
        self.memberships = [
            ModelMembership(group, "eth0", -1, False, is_named=True) for group in (GROUP4, GROUP6)
        ]
        self._join_what_turned_up()

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
        changes = self.watch.read(self.kernel.read())
        groups = self.kernel.ipv6_groups() if changes.addressed_ipv6 else None
        present = frozenset(self.kernel.links)
        for membership in list(self.memberships):
            self._apply(membership, decide(membership.held(), changes, present, groups))
        self._join_what_turned_up()
        self.kernel.doubtful.clear()
        self.is_settled = True

    def _apply(self, membership: ModelMembership, action: Action) -> None:
        key = (membership.index, membership.group.version)
        match action:
            case Action.KEEP:
                assert membership.index in self.kernel.links
            case Action.REJOIN:
                assert not membership.is_joined or key in self.kernel.doubtful, "needlessly"
                self.kernel.leave(membership.index, membership.group)
                self._join(membership)
            case Action.SUSPEND:
                assert membership.is_named
                assert membership.index not in self.kernel.links
                membership.is_joined = False
            case Action.FORGET:
                assert not membership.is_named
                assert membership.index not in self.kernel.links
                self.memberships.remove(membership)

    def _join(self, membership: ModelMembership) -> None:
        membership.is_joined = self.kernel.join(membership.index, membership.group)

    def _join_what_turned_up(self) -> None:
        for membership in self.memberships:
            if membership.index not in self.kernel.links:
                found = [link.index for link in self.kernel if link.name == membership.name]
                if found:
                    membership.index = found[0]
                    self._join(membership)
        heard = {(membership.index, membership.group) for membership in self.memberships}
        for link in self.kernel:
            for group in (GROUP4, GROUP6):
                if (link.index, group) not in heard:
                    new = ModelMembership(group, link.name, link.index, False, is_named=False)
                    self.memberships.append(new)
                    self._join(new)

    # The laws

    @invariant()
    def what_is_held_as_joined_is_in_force(self) -> None:
        if self.is_settled:
            for membership in self.memberships:
                if membership.is_joined:
                    assert membership.group in self.kernel.links[membership.index].in_force

    @invariant()
    def what_can_be_joined_is_joined(self) -> None:
        if self.is_settled:
            for membership in self.memberships:
                link = self.kernel.links.get(membership.index)
                can_be = link is not None and (membership.group.version == 4 or link.has_ipv6)
                assert membership.is_joined == can_be

    @invariant()
    def the_switch_forwards_what_is_joined(self) -> None:
        if self.is_settled:
            for membership in self.memberships:
                link = self.kernel.links.get(membership.index)
                if membership.is_joined and link is not None and link.has_carrier:
                    assert membership.group in link.forwarded

    @invariant()
    def what_was_named_stays_listed_and_the_rest_goes_with_its_interface(self) -> None:
        if self.is_settled:
            assert sum(membership.is_named for membership in self.memberships) in (0, 2)
            for membership in self.memberships:
                assert membership.is_named or membership.index in self.kernel.links


Following.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestFollowing = pytest.mark.filterwarnings("ignore::pytest.PytestCollectionWarning")(
    Following.TestCase
)


# --- Cases, one by one -------------------------------------------------------------------------

ALL = frozenset({2})
NOTHING = Changes()


def changes_after(*events: Event, before: tuple[Event, ...] = (LinkSeen(2),)) -> Changes:
    watch = CarrierWatch()
    watch.read(before)
    return watch.read(events)


def joined(group: IPv4Address | IPv6Address, *, is_named: bool = False) -> Held:
    return Held(group, 2, is_joined=True, is_named=is_named)


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_an_interface_announced_as_gone_has_dropped_its_memberships_even_if_it_is_there(
    group: IPv4Address | IPv6Address,
) -> None:
    changes = changes_after(LinkGone(2), LinkSeen(2))
    assert changes.loss(2, group.version) is Loss.DROPPED
    assert decide(joined(group), changes, ALL, None) is Action.REJOIN


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
@pytest.mark.parametrize("event", [LinkGone(2), EventsLost(), LinkSeen(3)])
def test_a_membership_whose_interface_is_not_there_is_kept_only_if_it_was_named(
    group: IPv4Address | IPv6Address, event: Event
) -> None:
    changes = changes_after(event)
    assert decide(joined(group), changes, frozenset({3}), None) is Action.FORGET
    assert decide(joined(group, is_named=True), changes, frozenset({3}), None) is Action.SUSPEND


def test_an_interface_too_small_for_ipv6_drops_ipv6_groups_only() -> None:
    changes = changes_after(LinkSeen(2, lost_ipv6=True), LinkSeen(2))
    assert decide(joined(GROUP6), changes, ALL, None) is Action.REJOIN
    assert decide(joined(GROUP4), changes, ALL, None) is Action.KEEP


def test_ipv6_groups_that_the_kernel_no_longer_lists_are_joined_anew() -> None:
    changes = changes_after(AddressSeen(2, 6))
    there = frozenset({(2, GROUP6.packed)})
    elsewhere = frozenset({(3, GROUP6.packed)})
    assert decide(joined(GROUP6), changes, ALL, elsewhere) is Action.REJOIN
    assert decide(joined(GROUP6), changes, ALL, there) is Action.KEEP
    assert decide(joined(GROUP6), changes, ALL, None) is Action.KEEP
    assert decide(joined(GROUP4), changes, ALL, frozenset()) is Action.KEEP


def test_an_ipv4_address_is_no_reason_to_ask_for_ipv6_groups() -> None:
    changes = changes_after(AddressSeen(2, 4))
    assert not changes.addressed_ipv6
    assert decide(joined(GROUP6), changes, ALL, frozenset()) is Action.KEEP


CARRIER_RETURNS = {
    "down, then up": (LinkSeen(2, has_carrier=False), LinkSeen(2)),
    "counted twice": (LinkSeen(2, carrier_changes=3),),
}


@pytest.mark.parametrize("events", CARRIER_RETURNS.values(), ids=CARRIER_RETURNS.keys())
def test_ipv4_groups_are_reported_again_when_the_carrier_is_back(events: tuple[Event, ...]) -> None:
    changes = changes_after(*events, before=(LinkSeen(2, carrier_changes=1),))
    assert changes.loss(2, 4) is Loss.UNREPORTED
    assert decide(joined(GROUP4), changes, ALL, None) is Action.REJOIN
    assert decide(joined(GROUP6), changes, ALL, None) is Action.KEEP


@pytest.mark.parametrize(
    "event", [LinkSeen(2, has_carrier=False, carrier_changes=2), LinkSeen(2, carrier_changes=1)]
)
def test_a_carrier_that_stays_or_goes_is_no_reason_to_report_again(event: LinkSeen) -> None:
    changes = changes_after(event, before=(LinkSeen(2, carrier_changes=1),))
    assert decide(joined(GROUP4), changes, ALL, None) is Action.KEEP


def test_a_carrier_that_returns_in_a_later_batch_is_noticed() -> None:
    watch = CarrierWatch()
    watch.read([LinkSeen(2)])
    assert watch.read([LinkSeen(2, has_carrier=False)]).loss(2, 4) is Loss.NONE
    assert watch.read([LinkSeen(3), LinkSeen(2)]).loss(2, 4) is Loss.UNREPORTED
    assert watch.read([LinkSeen(2)]).loss(2, 4) is Loss.NONE


def test_an_interface_seen_for_the_first_time_has_not_regained_its_carrier() -> None:
    assert changes_after(LinkSeen(2), before=()).loss(2, 4) is Loss.NONE
    assert changes_after(LinkGone(2), LinkSeen(2)).carrier_regained == set()


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_everything_is_joined_anew_when_announcements_were_lost(
    group: IPv4Address | IPv6Address,
) -> None:
    changes = changes_after(EventsLost())
    assert decide(joined(group), changes, ALL, None) is Action.REJOIN
    assert decide(replace(joined(group), is_joined=False), changes, ALL, None) is Action.REJOIN


@pytest.mark.parametrize("carrier_changes", [None, 1])
def test_a_carrier_whose_loss_was_not_announced_is_noticed_when_it_returns(
    carrier_changes: int | None,
) -> None:
    """What netlink kept from before comes after the news that something was lost."""
    seen = LinkSeen(2, carrier_changes=carrier_changes)
    watch = CarrierWatch()
    watch.read([seen])
    watch.read([EventsLost(), seen])  # the loss of the carrier is among what was lost
    back = replace(seen, carrier_changes=carrier_changes and carrier_changes + 2)
    assert watch.read([back]).loss(2, 4) is Loss.UNREPORTED
    assert watch.read([back]).loss(2, 4) is Loss.NONE


def test_what_failed_is_tried_again_when_something_is_announced_of_its_interface() -> None:
    failed = replace(joined(GROUP4), is_joined=False)
    assert decide(failed, NOTHING, ALL, None) is Action.KEEP
    assert decide(failed, changes_after(LinkSeen(3)), ALL, None) is Action.KEEP
    for event in (LinkSeen(2), AddressSeen(2, 4), AddressSeen(2, 6), LinkGone(2), EventsLost()):
        assert decide(failed, changes_after(event), ALL, None) is Action.REJOIN


# --- Comparing listings ------------------------------------------------------------------------


def interface(index: int = 2, **others: object) -> Interface:
    fields: dict[str, object] = {
        "name": f"eth{index}",
        "index": index,
        "friendly_name": f"eth{index}",
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
    changes = CarrierWatch().read(compare_listings(before, after))
    old = {i.index: i for i in before}
    new = {i.index: i for i in after}
    indexes = old.keys() | new.keys()
    assert changes.touched == {index for index in indexes if old.get(index) != new.get(index)}
    assert changes.dropped >= old.keys() - new.keys()
    assert changes.dropped <= changes.touched & old.keys()
    for index in old.keys() & new.keys():
        lost_ipv6 = bool(old[index].has_ipv6) and not new[index].has_ipv6
        assert (index in changes.dropped_ipv6) == lost_ipv6
        if old[index].name == new[index].name or old[index].addresses == new[index].addresses:
            assert index not in changes.dropped


def test_another_name_with_other_addresses_at_the_same_index_is_another_interface() -> None:
    other = interface(name="wlan0", addresses=(ip_interface("198.51.100.1/24"),))
    events = compare_listings([interface()], [other])
    assert changes_after(*events).loss(2, 4) is Loss.DROPPED
    renamed = compare_listings([interface()], [interface(name="wlan0")])
    assert changes_after(*renamed).loss(2, 4) is Loss.NONE


def test_where_listings_are_all_there_is_being_up_stands_for_the_carrier() -> None:
    down = interface(is_up=False)
    watch = CarrierWatch()
    watch.read(compare_listings([], [interface()]))
    assert watch.read(compare_listings([interface()], [down])).loss(2, 4) is Loss.NONE
    assert watch.read(compare_listings([down], [interface()])).loss(2, 4) is Loss.UNREPORTED


def test_a_listing_does_not_contradict_what_was_announced_of_the_carrier() -> None:
    """Where both are read: without a carrier an interface is up, and loses addresses by and by."""
    watch = CarrierWatch()
    watch.read([LinkSeen(2)])
    watch.read([LinkSeen(2, has_carrier=False)])
    without_address = interface(addresses=())
    assert watch.read(compare_listings([interface()], [without_address])).loss(2, 4) is Loss.NONE
    assert watch.read([LinkSeen(2)]).loss(2, 4) is Loss.UNREPORTED
