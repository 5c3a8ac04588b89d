"""Memberships with source filters: how many sockets, and what is asked of each."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from trio_mcast._errors import AddressError
from trio_mcast._plan.addresses import IPAddress
from trio_mcast._plan.filters import SourceFilter
from trio_mcast._plan.interfaces import Interface
from trio_mcast._plan.options import SocketOption, pack_group_filter
from trio_mcast._plan.plan import (
    SocketPlan,
    plan_filter_change,
    plan_membership,
    plan_receiver,
)
from trio_mcast._plan.platforms import LINUX, LINUX_32BIT, MACOS, WINDOWS, Platform

GROUP4, GROUP6 = "233.252.0.1", "ff15::4d43:1"
SSM4, SSM6 = "232.1.2.3", "ff3e::4d43:1"
PLATFORMS = [LINUX, LINUX_32BIT, MACOS, WINDOWS]

# linux: sysctl net.ipv4.igmp_max_msf, net.ipv6.mld_max_msf; macOS: netinet/in.h
MOST_SOURCES: dict[tuple[Platform, int], int | None] = {
    (LINUX, 4): 10,
    (LINUX, 6): 64,
    (LINUX_32BIT, 4): 10,
    (LINUX_32BIT, 6): 64,
    (MACOS, 4): 128,
    (MACOS, 6): 128,
    (WINDOWS, 4): None,
    (WINDOWS, 6): None,
}
everywhere = pytest.mark.parametrize(
    ("platform", "version", "most"),
    [(platform, version, most) for (platform, version), most in MOST_SOURCES.items()],
    ids=[f"{platform.name}-{version}" for platform, version in MOST_SOURCES],
)
rows = st.sampled_from([(*key, most) for key, most in MOST_SOURCES.items()])


def group(version: int, *, ssm: bool = False) -> str:
    return (SSM4 if ssm else GROUP4) if version == 4 else (SSM6 if ssm else GROUP6)


def senders(version: int, count: int, first: int = 1) -> tuple[IPAddress, ...]:
    if version == 4:
        return tuple(IPv4Address("198.18.0.0") + n for n in range(first, first + count))
    return tuple(IPv6Address("2001:db8::") + n for n in range(first, first + count))


def interface() -> Interface:
    addresses: Any = ()
    return Interface("eth0", 2, "eth0", addresses, True, False, True, 1500, True)


def plan(platform: Platform, filter_: SourceFilter, version: int, **others: Any) -> Any:
    return plan_membership(platform, group(version), 5000, interface(), filter_, **others)


def asked(plans: tuple[SocketPlan, ...], name: str) -> list[list[SocketOption]]:
    return [[o for o in plan.after_bind if o.label.startswith(name)] for plan in plans]


# --- Joining -----------------------------------------------------------------------------------


@everywhere
def test_without_sources_it_is_one_plain_receiver(
    platform: Platform, version: int, most: int | None
) -> None:
    (only,) = plan(platform, SourceFilter("exclude"), version)
    assert only == plan_receiver(platform, group(version), 5000, interface())


@everywhere
def test_what_is_asked_for_holds_for_every_socket(
    platform: Platform, version: int, most: int | None
) -> None:
    asked_for: dict[str, Any] = {
        "loopback": False,
        "packet_info": () if platform is WINDOWS else ("hop_limit",),
        "receive_buffer": 9999,
    }
    sources = senders(version, 200)
    for each in plan(platform, SourceFilter("include", sources), version, **asked_for):
        plain = plan_receiver(
            platform, group(version), 5000, interface(), sources=sources[:1], **asked_for
        )
        assert each.before_bind == plain.before_bind
        assert (each.bind, each.drops_own, each.packet_info) == (
            plain.bind,
            plain.drops_own,
            plain.packet_info,
        )


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(1, 300), st.booleans())
def test_each_included_source_is_joined_by_one_socket_and_none_has_too_many(
    row: tuple[Platform, int, int | None], count: int, ssm: bool
) -> None:
    platform, version, most = row
    sources = senders(version, count)
    plans = plan_membership(
        platform, group(version, ssm=ssm), 5000, interface(), SourceFilter("include", sources)
    )
    assert len(plans) == (1 if most is None else -(-count // most))
    joins = asked(plans, "MCAST_JOIN_SOURCE_GROUP")
    assert all(joins)
    assert all(len(options) <= (most or count) for options in joins)
    told = [option for options in joins for option in options]
    single = [
        plan_receiver(
            platform, group(version, ssm=ssm), 5000, interface(), sources=[source]
        ).after_bind[-1]
        for source in sources
    ]
    assert told == single
    assert not any(plan.drops_sources for plan in plans)
    assert not any(asked(plans, "MCAST_BLOCK_SOURCE"))


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(0, 300))
def test_each_excluded_source_is_blocked_by_the_kernel_or_dropped_by_the_reader(
    row: tuple[Platform, int, int | None], count: int
) -> None:
    platform, version, most = row
    sources = senders(version, count)
    (only,) = plan(platform, SourceFilter("exclude", sources), version)
    (blocks,) = asked((only,), "MCAST_BLOCK_SOURCE")
    in_kernel = count if most is None else min(count, most)
    assert len(blocks) == in_kernel
    assert only.drops_sources == frozenset(sources[in_kernel:])
    assert only.after_bind[0].label.startswith("MCAST_JOIN_GROUP")
    for source, option in zip(sources, blocks, strict=False):
        assert source.packed in option.value


@pytest.mark.parametrize("ssm", [SSM4, SSM6])
@pytest.mark.parametrize("count", [0, 1])
def test_a_source_specific_group_cannot_hear_everyone(ssm: str, count: int) -> None:
    version = ip_address(ssm).version
    filter_ = SourceFilter("exclude", senders(version, count))
    with pytest.raises(AddressError, match="RFC 4607"):
        plan_membership(LINUX, ssm, 5000, interface(), filter_)


@pytest.mark.parametrize("mode", ["include", "exclude"])
def test_sources_of_the_other_ip_version_are_refused(mode: Any) -> None:
    with pytest.raises(AddressError):
        plan(LINUX, SourceFilter(mode, senders(6, 1)), 4)


# --- Changing ----------------------------------------------------------------------------------

MANY = 129


@everywhere
@pytest.mark.parametrize("mode", ["include", "exclude"])
def test_where_a_filter_can_be_replaced_it_is_one_option(
    platform: Platform, version: int, most: int | None, mode: Any
) -> None:
    old = SourceFilter("exclude", senders(version, 3))
    new = SourceFilter(mode, senders(version, 4, first=2))
    change = plan_filter_change(platform, group(version), interface(), old, new)
    if platform in (LINUX, LINUX_32BIT):
        assert change is not None
        assert change.label.startswith("MCAST_MSFILTER")
        target = ip_address(group(version))
        assert change.value == pack_group_filter(platform, 2, target, mode, new.sources)
    else:
        assert change is None


ONE_MORE_OR_LESS = [
    ("include", 2, 3, "MCAST_JOIN_SOURCE_GROUP"),
    ("include", 3, 2, "MCAST_LEAVE_SOURCE_GROUP"),
    ("exclude", 0, 1, "MCAST_BLOCK_SOURCE"),
    ("exclude", 3, 2, "MCAST_UNBLOCK_SOURCE"),
]


@everywhere
@pytest.mark.parametrize(("mode", "before", "after", "option"), ONE_MORE_OR_LESS)
def test_one_source_more_or_less_is_one_option(
    platform: Platform,
    version: int,
    most: int | None,
    mode: Any,
    before: int,
    after: int,
    option: str,
) -> None:
    old = SourceFilter(mode, senders(version, before))
    new = SourceFilter(mode, senders(version, after))
    change = plan_filter_change(platform, group(version), interface(), old, new)
    assert change is not None
    if platform in (LINUX, LINUX_32BIT):
        assert change.label.startswith("MCAST_MSFILTER")
    else:
        assert change.label.startswith(f"{option} ")
        (source,) = set(old.sources) ^ set(new.sources)
        assert source.packed in change.value


@everywhere
@pytest.mark.parametrize("mode", ["include", "exclude"])
@pytest.mark.parametrize(("before", "after"), [(MANY, 1), (1, MANY), (MANY, MANY - 1)])
def test_a_filter_that_does_not_fit_one_socket_takes_new_sockets(
    platform: Platform, version: int, most: int | None, mode: Any, before: int, after: int
) -> None:
    old = SourceFilter(mode, senders(version, before))
    new = SourceFilter(mode, senders(version, after))
    change = plan_filter_change(platform, group(version), interface(), old, new)
    if most is not None:
        assert change is None


@everywhere
def test_what_just_fits_is_changed_in_place(
    platform: Platform, version: int, most: int | None
) -> None:
    if most is not None:
        old = SourceFilter("include", senders(version, most - 1))
        new = SourceFilter("include", senders(version, most))
        assert plan_filter_change(platform, group(version), interface(), old, new) is not None
        over = SourceFilter("include", senders(version, most + 1))
        assert plan_filter_change(platform, group(version), interface(), new, over) is None


@everywhere
def test_the_mode_is_never_changed_by_single_sources(
    platform: Platform, version: int, most: int | None
) -> None:
    """Linux would turn an any-source membership into one that hears the single source only."""
    old = SourceFilter("exclude")
    new = SourceFilter("include", senders(version, 1))
    for before, after in ((old, new), (new, old)):
        change = plan_filter_change(platform, group(version), interface(), before, after)
        assert change is None or change.label.startswith("MCAST_MSFILTER")
