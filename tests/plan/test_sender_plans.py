"""What every system is asked for a socket that sends, in which order, with which bytes."""

import errno
from dataclasses import replace
from ipaddress import IPv4Address, ip_interface
from typing import Any

import pytest
from plan.written_out import (
    ETH0,
    GROUP4,
    GROUP6,
    INDEX,
    NO_IPV4,
    ONE,
    PLATFORMS,
    SSM4,
    ZERO,
    Call,
    calls,
    labels,
)

from trio_mcast import AddressError, SocketSetupError
from trio_mcast._addresses.parsing import parse_group
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.sender_plan import plan_sender
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._plan.windows import WINDOWS

# --- Sending: the table ------------------------------------------------------------------------

# platform, group: family, before bind, destination
SENDERS: list[tuple[Platform, str, int, list[Call], tuple[Any, ...]]] = [
    (
        LINUX,
        GROUP4,
        2,
        [
            (0, 32, ZERO + ZERO + INDEX, "IP_MULTICAST_IF=2 (eth0)"),
            (0, 33, ONE, "IP_MULTICAST_TTL=1"),
            (0, 34, ONE, "IP_MULTICAST_LOOP=1"),
            (0, 11, ONE, "IP_RECVERR=1"),
            (0, 8, ONE, "IP_PKTINFO=1"),
        ],
        ("239.1.2.3", 5000),
    ),
    (
        LINUX,
        GROUP6,
        10,
        [
            (41, 26, ONE, "IPV6_V6ONLY=1"),
            (41, 17, INDEX, "IPV6_MULTICAST_IF=2 (eth0)"),
            (41, 18, ONE, "IPV6_MULTICAST_HOPS=1"),
            (41, 19, ONE, "IPV6_MULTICAST_LOOP=1"),
            (41, 25, ONE, "IPV6_RECVERR=1"),
            (41, 49, ONE, "IPV6_RECVPKTINFO=1"),
        ],
        ("ff15::1234", 5000, 0, 0),
    ),
    (
        MACOS,
        GROUP4,
        2,
        [
            (0, 9, ZERO + ZERO + INDEX, "IP_MULTICAST_IF=2 (eth0)"),
            (0, 10, ONE, "IP_MULTICAST_TTL=1"),
            (0, 11, ONE, "IP_MULTICAST_LOOP=1"),
            (0, 26, ONE, "IP_PKTINFO=1"),
            (0xFFFF, 0x1001, "ffff0000", "SO_SNDBUF=65535"),
        ],
        ("239.1.2.3", 5000),
    ),
    (
        MACOS,
        GROUP6,
        30,
        [
            (41, 27, ONE, "IPV6_V6ONLY=1"),
            (41, 9, INDEX, "IPV6_MULTICAST_IF=2 (eth0)"),
            (41, 10, ONE, "IPV6_MULTICAST_HOPS=1"),
            (41, 11, ONE, "IPV6_MULTICAST_LOOP=1"),
            (41, 61, ONE, "IPV6_RECVPKTINFO=1"),
            (0xFFFF, 0x1001, "ffff0000", "SO_SNDBUF=65535"),
        ],
        ("ff15::1234", 5000, 0, 0),
    ),
    (
        WINDOWS,
        GROUP4,
        2,
        [
            (0, 9, "00000002", "IP_MULTICAST_IF=2 (eth0)"),
            (0, 10, ONE, "IP_MULTICAST_TTL=1"),
            (0, 11, ONE, "IP_MULTICAST_LOOP=1"),
            (0, 19, ONE, "IP_PKTINFO=1"),
        ],
        ("239.1.2.3", 5000),
    ),
    (
        WINDOWS,
        GROUP6,
        23,
        [
            (41, 27, ONE, "IPV6_V6ONLY=1"),
            (41, 9, INDEX, "IPV6_MULTICAST_IF=2 (eth0)"),
            (41, 10, ONE, "IPV6_MULTICAST_HOPS=1"),
            (41, 11, ONE, "IPV6_MULTICAST_LOOP=1"),
            (41, 19, ONE, "IPV6_PKTINFO=1"),
        ],
        ("ff15::1234", 5000, 0, 0),
    ),
]


def sender(
    platform: Platform = LINUX, group: Any = GROUP4, interface: Any = ETH0, **options: Any
) -> SocketPlan:
    return plan_sender(platform, group, 5000, interface, **options)


@pytest.mark.parametrize(
    ("platform", "group", "family", "before", "destination"),
    SENDERS,
    ids=lambda value: value.name if isinstance(value, Platform) else None,
)
def test_senders(
    platform: Platform,
    group: str,
    family: int,
    before: list[Call],
    destination: tuple[Any, ...],
) -> None:
    plan = sender(platform, group)
    assert plan.family == family
    assert calls(plan.before_bind) == before
    assert plan.bind is None
    assert plan.after_bind == ()
    assert plan.options == plan.before_bind
    assert plan.destination == destination
    assert (plan.group, plan.interface) == (parse_group(group).address, ETH0)


def test_32_bit_linux_sends_as_64_bit_linux_does() -> None:
    for group in (GROUP4, GROUP6):
        assert sender(LINUX_32BIT, group) == sender(LINUX, group)


# --- Sending: in detail ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "group", "expected"),
    [
        (LINUX, GROUP4, [(0, 33, "ff000000"), (0, 34, ZERO), (0, 1, "b8000000")]),
        (LINUX, GROUP6, [(41, 18, "ff000000"), (41, 19, ZERO), (41, 67, "b8000000")]),
        (MACOS, GROUP4, [(0, 10, "ff000000"), (0, 11, ZERO), (0, 3, "b8000000")]),
        (MACOS, GROUP6, [(41, 10, "ff000000"), (41, 11, ZERO), (41, 36, "b8000000")]),
        (WINDOWS, GROUP4, [(0, 10, "ff000000"), (0, 11, ZERO), (0, 3, "b8000000")]),
        (WINDOWS, GROUP6, [(41, 10, "ff000000"), (41, 11, ZERO), (41, 39, "b8000000")]),
    ],
)
def test_senders_settings(
    platform: Platform, group: str, expected: list[tuple[int, int, str]]
) -> None:
    plan = sender(platform, group, hop_limit=255, loopback=False, traffic_class=0xB8)
    start = next(i for i, o in enumerate(plan.before_bind) if "_MULTICAST_IF" in o.label) + 1
    assert [call[:3] for call in calls(plan.before_bind[start : start + 3])] == expected


@pytest.mark.parametrize("value", [0, 255])
def test_hop_limit_and_traffic_class_at_their_bounds(value: int) -> None:
    plan = sender(hop_limit=value, traffic_class=value)
    assert f"IP_MULTICAST_TTL={value}" in labels(plan.options)
    assert f"IP_TOS={value}" in labels(plan.options)


def test_unicast_hops_are_left_alone() -> None:
    for platform in PLATFORMS:
        for group in (GROUP4, GROUP6):
            plan = sender(platform, group, hop_limit=7, traffic_class=7)
            assert not any(
                "UNICAST" in label or "IP_TTL" in label for label in labels(plan.options)
            )


def test_send_buffer_is_asked_for() -> None:
    plan = sender(send_buffer=300_000)
    assert calls(plan.before_bind)[-2:] == [
        (1, 7, "e0930400", "SO_SNDBUF=300000"),
        (1, 32, "e0930400", "SO_SNDBUFFORCE=300000"),
    ]
    assert [option.optional for option in plan.before_bind[-2:]] == [False, True]


@pytest.mark.parametrize(("asked", "expected"), [(None, 65535), (9216, 65535), (10**6, 10**6)])
def test_macos_can_always_send_the_largest_datagram(asked: int | None, expected: int) -> None:
    option = sender(MACOS, send_buffer=asked).before_bind[-1]
    assert option.label == f"SO_SNDBUF={expected}"
    assert option.optional


@pytest.mark.parametrize("platform", [LINUX, MACOS], ids=repr)
@pytest.mark.parametrize(
    ("addresses", "named"),
    [
        (["127.0.0.1/8", "::1/128"], "127.0.0.1"),
        (["169.254.7.7/16"], "169.254.7.7"),
        (["169.254.7.7/16", "192.0.2.10/24"], None),
        (["127.0.0.1/8", "192.0.2.10/32"], None),
        (["10.0.0.1/8"], None),
    ],
)
def test_an_address_that_the_kernel_would_pass_over_is_named(
    platform: Platform, addresses: list[str], named: str | None
) -> None:
    interface = replace(ETH0, addresses=tuple(map(ip_interface, addresses)))
    option = sender(platform, interface=interface).before_bind[0]
    address = IPv4Address(named) if named else IPv4Address(0)
    assert option.value.hex() == ZERO + address.packed.hex() + INDEX
    assert option.label == "IP_MULTICAST_IF=2 (eth0)" + (f", source {named}" if named else "")


def test_a_source_that_is_given_need_not_be_named_again() -> None:
    interface = replace(ETH0, addresses=(ip_interface("127.0.0.1/8"),))
    assert sender(interface=interface, source="127.0.0.2").before_bind == sender().before_bind


def test_old_windows_sends_by_address() -> None:
    option = sender(WINDOWS).before_bind[0]
    assert option.fallback is not None
    assert calls((option.fallback,)) == [(0, 9, "c000020a", "IP_MULTICAST_IF=192.0.2.10")]


def test_a_source_is_bound_to() -> None:
    assert sender(source="192.0.2.10").bind == ("192.0.2.10", 0)
    assert sender(source=IPv4Address("192.0.2.10"), source_port=6000).bind == ("192.0.2.10", 6000)
    assert sender(group=GROUP6, source="2001:db8::1").bind == ("2001:db8::1", 0, 0, 0)
    assert sender(group=GROUP6, source="fe80::1").bind == ("fe80::1", 0, 0, 2)
    assert sender(group=GROUP6, source="fe80::1%eth0").bind == ("fe80::1", 0, 0, 2)


def test_a_source_alone_shares_no_port() -> None:
    assert sender(source="192.0.2.10").before_bind == sender().before_bind


@pytest.mark.parametrize(
    ("platform", "group", "bind", "first"),
    [
        (LINUX, GROUP4, ("0.0.0.0", 6000), ["SO_REUSEADDR=1", "IP_MULTICAST_ALL=0"]),
        (LINUX, GROUP6, ("::", 6000, 0, 0), ["SO_REUSEADDR=1", "IPV6_MULTICAST_ALL=0"]),
        (MACOS, GROUP4, ("0.0.0.0", 6000), ["SO_REUSEADDR=1", "SO_REUSEPORT=1"]),
        (MACOS, GROUP6, ("::", 6000, 0, 0), ["SO_REUSEADDR=1", "SO_REUSEPORT=1"]),
        (WINDOWS, GROUP4, ("0.0.0.0", 6000), ["SO_REUSEADDR=1"]),
        (WINDOWS, GROUP6, ("::", 6000, 0, 0), ["SO_REUSEADDR=1"]),
    ],
)
def test_a_source_port_is_shared_and_hears_no_groups(
    platform: Platform, group: str, bind: tuple[Any, ...], first: list[str]
) -> None:
    plan = sender(platform, group, source_port=6000)
    assert plan.bind == bind
    assert labels(plan.before_bind)[: len(first)] == first
    assert plan.before_bind[len(first) :] == sender(platform, group).before_bind


def test_the_destination_has_a_scope_id_where_it_counts() -> None:
    assert sender(group="ff02::fb").destination == ("ff02::fb", 5000, 0, 2)
    assert sender(group="ff1e::1").destination == ("ff1e::1", 5000, 0, 0)


def test_a_senders_zone_is_not_looked_at() -> None:
    assert sender(group="ff02::fb%wlan0") == sender(group="ff02::fb")


def test_ssm_groups_can_be_sent_to() -> None:
    assert sender(group=SSM4).destination == (SSM4, 5000)


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_an_interface_without_ipv4_address_is_refused(platform: Platform) -> None:
    with pytest.raises(SocketSetupError) as caught:
        sender(platform, interface=NO_IPV4)
    error = caught.value
    assert error.step == "choose a source address on eth0"
    assert error.errno == errno.EADDRNOTAVAIL
    assert (error.interface, error.group) == (NO_IPV4, IPv4Address(GROUP4))
    assert "no IPv4 address" in str(error)
    assert "source=" in error.__notes__[0]


def test_an_interface_without_ipv4_address_does_with_a_source_or_ipv6() -> None:
    assert sender(interface=NO_IPV4, source="192.0.2.10").bind == ("192.0.2.10", 0)
    assert sender(interface=NO_IPV4, group=GROUP6).bind is None
    assert sender(WINDOWS, interface=NO_IPV4, source="192.0.2.1").before_bind[0].fallback is None


@pytest.mark.parametrize(
    ("change", "error", "shown"),
    [
        ({"group": "192.0.2.1"}, AddressError, "192.0.2.1"),
        ({"group": "ff0f::1"}, AddressError, "ff0f::1"),
        ({"group": "ff10::1"}, AddressError, "ff10::1"),
        ({"group": None}, TypeError, "None"),
        ({"port": 0}, ValueError, "0"),
        ({"port": None}, TypeError, "None"),
        ({"interface": None}, TypeError, "None is not of the type Interface"),
        ({"hop_limit": -1}, ValueError, "hop_limit=-1"),
        ({"hop_limit": 256}, ValueError, "hop_limit=256"),
        ({"hop_limit": True}, TypeError, "hop_limit=True"),
        ({"hop_limit": None}, TypeError, "hop_limit=None"),
        ({"hop_limit": 1.0}, TypeError, "hop_limit=1.0"),
        ({"loopback": 0}, TypeError, "loopback=0"),
        ({"traffic_class": 256}, ValueError, "traffic_class=256"),
        ({"traffic_class": -1}, ValueError, "traffic_class=-1"),
        ({"traffic_class": False}, TypeError, "traffic_class=False"),
        ({"source": "2001:db8::1"}, AddressError, "2001:db8::1 cannot send to 239.1.2.3"),
        ({"source": "239.1.1.1"}, AddressError, "239.1.1.1"),
        ({"source": 7}, TypeError, "7"),
        ({"source_port": -1}, ValueError, "-1"),
        ({"source_port": 65536}, ValueError, "65536"),
        ({"source_port": None}, TypeError, "None"),
        ({"send_buffer": 0}, ValueError, "send_buffer=0"),
        ({"send_buffer": False}, TypeError, "send_buffer=False"),
    ],
)
def test_senders_refuse(change: dict[str, Any], error: type[Exception], shown: str) -> None:
    arguments: dict[str, Any] = {"group": GROUP4, "port": 5000, "interface": ETH0}
    for platform in PLATFORMS:
        with pytest.raises(error, match=shown):
            plan_sender(platform, **arguments | change)


@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::1"])
def test_what_would_reach_nobody_is_refused(group: str) -> None:
    with pytest.raises(ValueError, match="reaches nobody"):
        plan_sender(LINUX, group, 5000, ETH0, hop_limit=0, loopback=False)
