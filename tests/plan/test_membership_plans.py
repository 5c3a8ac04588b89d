"""Memberships with source filters: how many sockets, what is asked of each, how they change."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from plan.written_out import (
    BSD_GROUP4,
    BSD_SOURCE4,
    ETH0,
    GROUP4,
    GROUP6,
    INDEX,
    IP6_GROUP,
    IP6_SOURCE,
    LE_GROUP4,
    LE_OTHER4,
    LE_SOURCE4,
    LE_SSM4,
    ONE,
    PAD,
    PLATFORMS,
    SOURCE6,
    SOURCES4,
    SSM4,
    SSM6,
    ZERO,
    calls,
    v6,
)

from trio_mcast._addresses.parsing import IPAddress
from trio_mcast._base.errors import AddressError
from trio_mcast._base.source_filter import SourceFilter
from trio_mcast._plan.joining import plan_filter_change, plan_leave
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import SocketOption, pack_group_filter
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.receiver_plan import ReceiverPlanner, plan_receiver
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._plan.windows import WINDOWS

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


def addresses(*texts: str) -> tuple[IPAddress, ...]:
    return tuple(map(ip_address, texts))


def senders(version: int, count: int, first: int = 1) -> tuple[IPAddress, ...]:
    if version == 4:
        return tuple(IPv4Address("198.18.0.0") + n for n in range(first, first + count))
    return tuple(IPv6Address("2001:db8::") + n for n in range(first, first + count))


def planned(
    platform: Platform, group: str, filter_: SourceFilter, **asked_for: Any
) -> tuple[SocketPlan, ...]:
    nothing: dict[str, Any] = {"loopback": True, "packet_info": (), "receive_buffer": None}
    planner = ReceiverPlanner.parse(platform, 5000, **nothing | asked_for)
    return planner.plan(ip_address(group), ETH0, filter_)


def plan_change(
    platform: Platform, group: str, old: SourceFilter, new: SourceFilter
) -> SocketOption | None:
    return plan_filter_change(platform, ip_address(group), ETH0, old, new)


def asked(plans: tuple[SocketPlan, ...], name: str) -> list[list[SocketOption]]:
    return [[o for o in plan.after_bind if o.label.startswith(name)] for plan in plans]


# --- Joining -----------------------------------------------------------------------------------


@everywhere
def test_without_sources_it_is_one_plain_receiver(
    platform: Platform, version: int, most: int | None
) -> None:
    (only,) = planned(platform, group(version), SourceFilter("exclude"))
    assert only == plan_receiver(platform, group(version), 5000, ETH0)


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
    for each in planned(platform, group(version), SourceFilter("include", sources), **asked_for):
        plain = plan_receiver(
            platform, group(version), 5000, ETH0, sources=sources[:1], **asked_for
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
    plans = planned(platform, group(version, ssm=ssm), SourceFilter("include", sources))
    assert len(plans) == (1 if most is None else -(-count // most))
    joins = asked(plans, "MCAST_JOIN_SOURCE_GROUP")
    assert all(joins)
    assert all(len(options) <= (most or count) for options in joins)
    told = [option for options in joins for option in options]
    single = [
        plan_receiver(platform, group(version, ssm=ssm), 5000, ETH0, sources=[source]).after_bind[
            -1
        ]
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
    (only,) = planned(platform, group(version), SourceFilter("exclude", sources))
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
        planned(LINUX, ssm, filter_)


@pytest.mark.parametrize("mode", ["include", "exclude"])
def test_sources_of_the_other_ip_version_are_refused(mode: Any) -> None:
    with pytest.raises(AddressError):
        planned(LINUX, group(4), SourceFilter(mode, senders(6, 1)))


# --- Changing ----------------------------------------------------------------------------------

MANY = 129


@everywhere
@pytest.mark.parametrize("mode", ["include", "exclude"])
def test_where_a_filter_can_be_replaced_it_is_one_option(
    platform: Platform, version: int, most: int | None, mode: Any
) -> None:
    old = SourceFilter("exclude", senders(version, 3))
    new = SourceFilter(mode, senders(version, 4, first=2))
    change = plan_change(platform, group(version), old, new)
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
    change = plan_change(platform, group(version), old, new)
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
    change = plan_change(platform, group(version), old, new)
    if most is not None:
        assert change is None


@everywhere
def test_what_just_fits_is_changed_in_place(
    platform: Platform, version: int, most: int | None
) -> None:
    if most is not None:
        old = SourceFilter("include", senders(version, most - 1))
        new = SourceFilter("include", senders(version, most))
        assert plan_change(platform, group(version), old, new) is not None
        over = SourceFilter("include", senders(version, most + 1))
        assert plan_change(platform, group(version), new, over) is None


@everywhere
def test_the_mode_is_never_changed_by_single_sources(
    platform: Platform, version: int, most: int | None
) -> None:
    """Linux would turn an any-source membership into one that hears the single source only."""
    old = SourceFilter("exclude")
    new = SourceFilter("include", senders(version, 1))
    for before, after in ((old, new), (new, old)):
        change = plan_change(platform, group(version), before, after)
        assert change is None or change.label.startswith("MCAST_MSFILTER")


# --- Changing, byte for byte -------------------------------------------------------------------

# mode, whether the source comes: the option, its number on macOS and on Windows
SINGLE_CHANGES: list[tuple[Any, bool, str, int, int]] = [
    ("include", True, "MCAST_JOIN_SOURCE_GROUP", 82, 45),
    ("include", False, "MCAST_LEAVE_SOURCE_GROUP", 83, 46),
    ("exclude", True, "MCAST_BLOCK_SOURCE", 84, 43),
    ("exclude", False, "MCAST_UNBLOCK_SOURCE", 85, 44),
]


@pytest.mark.parametrize(("mode", "comes", "name", "macos", "windows"), SINGLE_CHANGES)
def test_a_source_is_changed(mode: Any, comes: bool, name: str, macos: int, windows: int) -> None:
    for platform, group_, source, level, number, value in (
        (MACOS, GROUP4, SOURCES4[0], 0, macos, BSD_GROUP4 + BSD_SOURCE4),
        (MACOS, GROUP6, SOURCE6, 41, macos, v6("1c1e", IP6_GROUP) + v6("1c1e", IP6_SOURCE)),
        (WINDOWS, GROUP4, SOURCES4[0], 0, windows, PAD + LE_GROUP4 + LE_SOURCE4),
        (
            WINDOWS,
            GROUP6,
            SOURCE6,
            41,
            windows,
            PAD + v6("1700", IP6_GROUP) + v6("1700", IP6_SOURCE),
        ),
    ):
        other = senders(ip_address(group_).version, 1)
        few, more = SourceFilter(mode, other), SourceFilter(mode, (*other, *addresses(source)))
        change = plan_change(platform, group_, *((few, more) if comes else (more, few)))
        assert change is not None
        label = f"{name} {group_} from {source} on eth0 (2)"
        assert calls((change,)) == [(level, number, INDEX + value, label)]


@pytest.mark.parametrize(("mode", "number"), [("include", ONE), ("exclude", ZERO)])
def test_linux_sets_a_whole_filter(mode: Any, number: str) -> None:
    new = SourceFilter(mode, addresses(*SOURCES4))
    option = plan_change(LINUX, GROUP4, SourceFilter("exclude"), new)
    assert option is not None
    assert calls((option,)) == [
        (
            0,
            48,
            INDEX + PAD + LE_GROUP4 + number + "02000000" + LE_SOURCE4 + LE_OTHER4,
            f"MCAST_MSFILTER {mode} 198.51.100.7, 198.51.100.8: 239.1.2.3 on eth0 (2)",
        )
    ]


def test_linux_sets_an_ipv6_filter_at_its_own_level() -> None:
    new = SourceFilter("include", addresses(SOURCE6))
    option = plan_change(LINUX_32BIT, GROUP6, SourceFilter("exclude"), new)
    assert option is not None
    assert calls((option,))[0][:3] == (
        41,
        48,
        INDEX + v6("0a00", IP6_GROUP) + ONE + ONE + v6("0a00", IP6_SOURCE),
    )


def test_a_filter_may_name_nobody() -> None:
    old = SourceFilter("exclude", addresses(*SOURCES4))
    option = plan_change(LINUX, GROUP4, old, SourceFilter("exclude"))
    assert option is not None
    assert option.value.hex() == INDEX + PAD + LE_GROUP4 + ZERO + ZERO
    assert option.label == "MCAST_MSFILTER exclude nobody: 239.1.2.3 on eth0 (2)"


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_a_change_to_sources_of_the_other_ip_version_is_refused(platform: Platform) -> None:
    new = SourceFilter("include", addresses(*SOURCES4, SOURCE6))
    with pytest.raises(AddressError, match=r"2001:db8::7 cannot send to 239\.1\.2\.3"):
        plan_change(platform, GROUP4, SourceFilter("exclude"), new)


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_a_source_specific_group_is_not_changed_to_hear_everyone(platform: Platform) -> None:
    old = SourceFilter("include", addresses(*SOURCES4))
    with pytest.raises(AddressError, match="RFC 4607"):
        plan_change(platform, SSM4, old, SourceFilter("exclude"))


# --- Leaving -----------------------------------------------------------------------------------

LEAVES = {
    LINUX: [(0, 45, INDEX + PAD + LE_GROUP4), (41, 45, INDEX + PAD + v6("0a00", IP6_GROUP))],
    LINUX_32BIT: [(0, 45, INDEX + LE_GROUP4), (41, 45, INDEX + v6("0a00", IP6_GROUP))],
    MACOS: [(0, 81, INDEX + BSD_GROUP4), (41, 81, INDEX + v6("1c1e", IP6_GROUP))],
    WINDOWS: [(0, 42, INDEX + PAD + LE_GROUP4), (41, 42, INDEX + PAD + v6("1700", IP6_GROUP))],
}


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_a_group_is_left(platform: Platform) -> None:
    for group, expected in zip((GROUP4, GROUP6), LEAVES[platform], strict=True):
        left = plan_leave(platform, ip_address(group), ETH0)
        assert calls((left,)) == [(*expected, f"MCAST_LEAVE_GROUP {group} on eth0 (2)")]


def test_old_windows_leaves_as_it_joined() -> None:
    leave = plan_leave(WINDOWS, ip_address(GROUP4), ETH0)
    assert leave.fallback is not None
    assert leave.fallback.fallback is not None
    assert calls((leave.fallback, leave.fallback.fallback)) == [
        (0, 13, "ef01020300000002", "IP_DROP_MEMBERSHIP 239.1.2.3 on eth0 (2)"),
        (0, 13, "ef010203c000020a", "IP_DROP_MEMBERSHIP 239.1.2.3 on 192.0.2.10"),
    ]
    leave = plan_leave(WINDOWS, ip_address(GROUP6), ETH0)
    assert leave.fallback is not None
    assert calls((leave.fallback,)) == [
        (41, 13, IP6_GROUP + INDEX, "IPV6_LEAVE_GROUP ff15::1234 on eth0 (2)")
    ]


def test_a_group_is_left_with_all_its_sources() -> None:
    for platform in PLATFORMS:
        leave = plan_leave(platform, ip_address(SSM4), ETH0, addresses(*SOURCES4))
        assert leave.label == "MCAST_LEAVE_GROUP 232.1.2.3 on eth0 (2)"
        assert leave.fallback is None


def test_an_ssm_group_can_be_left_without_naming_its_sources() -> None:
    leave = plan_leave(LINUX, ip_address(SSM4), ETH0)
    assert calls((leave,)) == [
        (0, 45, INDEX + PAD + LE_SSM4, "MCAST_LEAVE_GROUP 232.1.2.3 on eth0 (2)")
    ]
