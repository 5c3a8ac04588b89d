"""The policy, written out: what every system is asked, in which order, with which bytes."""

import errno
from dataclasses import FrozenInstanceError, replace
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import pytest

from trio_mcast import AddressError, NotSupportedError, SocketSetupError
from trio_mcast._plan.addresses import parse_group
from trio_mcast._plan.interfaces import Interface
from trio_mcast._plan.options import SocketOption
from trio_mcast._plan.plan import (
    DEFAULT_RECEIVE_BUFFER,
    SocketPlan,
    plan_add_source,
    plan_block_source,
    plan_filter,
    plan_leave,
    plan_receiver,
    plan_remove_source,
    plan_sender,
    plan_unblock_source,
)
from trio_mcast._plan.platforms import LINUX, LINUX_32BIT, MACOS, WINDOWS, Platform

PLATFORMS = [LINUX, LINUX_32BIT, MACOS, WINDOWS]

ETH0 = Interface(
    name="eth0",
    index=2,
    friendly_name="eth0",
    addresses=(ip_interface("192.0.2.10/24"), ip_interface("fe80::1/64")),
    is_up=True,
    is_loopback=False,
    supports_multicast=True,
    mtu=1500,
)
ETHERNET = replace(ETH0, name="{4D36E972-E325}", friendly_name="Ethernet 2", index=12)
NO_IPV4 = replace(ETH0, addresses=(ip_interface("fe80::1/64"),))

# A call of setsockopt: level, option, value in hexadecimal, label.
Call = tuple[int, int, str, str]

ONE = "01000000"
ZERO = "00000000"
FOUR_MIB = "00004000"


def storage(sockaddr: str) -> str:
    """A sockaddr in its 128 bytes."""
    return sockaddr.replace(" ", "").ljust(256, "0")


GROUP4 = "239.1.2.3"
SSM4 = "232.1.2.3"
GROUP6 = "ff15::1234"
SSM6 = "ff35::8000:1"

# --- Receiving: the table ----------------------------------------------------------------------

LINUX_V4: list[Call] = [
    (1, 2, ONE, "SO_REUSEADDR=1"),
    (1, 62, "02000000", "SO_BINDTOIFINDEX=2 (eth0)"),
    (0, 49, ZERO, "IP_MULTICAST_ALL=0"),
    (1, 8, FOUR_MIB, "SO_RCVBUF=4194304"),
    (1, 33, FOUR_MIB, "SO_RCVBUFFORCE=4194304"),
    (17, 104, ONE, "UDP_GRO=1"),
]
LINUX_V6: list[Call] = [
    (1, 2, ONE, "SO_REUSEADDR=1"),
    (1, 62, "02000000", "SO_BINDTOIFINDEX=2 (eth0)"),
    (41, 29, ZERO, "IPV6_MULTICAST_ALL=0"),
    (41, 26, ONE, "IPV6_V6ONLY=1"),
    (1, 8, FOUR_MIB, "SO_RCVBUF=4194304"),
    (1, 33, FOUR_MIB, "SO_RCVBUFFORCE=4194304"),
    (17, 104, ONE, "UDP_GRO=1"),
]
MACOS_V4: list[Call] = [
    (0xFFFF, 4, ONE, "SO_REUSEADDR=1"),
    (0xFFFF, 0x200, ONE, "SO_REUSEPORT=1"),
    (0xFFFF, 0x1002, FOUR_MIB, "SO_RCVBUF=4194304"),
]
MACOS_V6: list[Call] = [
    (0xFFFF, 4, ONE, "SO_REUSEADDR=1"),
    (0xFFFF, 0x200, ONE, "SO_REUSEPORT=1"),
    (41, 27, ONE, "IPV6_V6ONLY=1"),
    (0xFFFF, 0x1002, FOUR_MIB, "SO_RCVBUF=4194304"),
    (41, 61, ONE, "IPV6_RECVPKTINFO=1"),
]
WINDOWS_V4: list[Call] = [
    (0xFFFF, 4, ONE, "SO_REUSEADDR=1"),
    (0xFFFF, 0x1002, FOUR_MIB, "SO_RCVBUF=4194304"),
    (0, 19, ONE, "IP_PKTINFO=1"),
    (0, 11, ONE, "IP_MULTICAST_LOOP=1"),
]
WINDOWS_V6: list[Call] = [
    (0xFFFF, 4, ONE, "SO_REUSEADDR=1"),
    (41, 27, ONE, "IPV6_V6ONLY=1"),
    (0xFFFF, 0x1002, FOUR_MIB, "SO_RCVBUF=4194304"),
    (41, 19, ONE, "IPV6_PKTINFO=1"),
    (41, 11, ONE, "IPV6_MULTICAST_LOOP=1"),
]

INDEX = "02000000"
PAD = "00000000"
LE_GROUP4 = storage("0200 0000 ef010203")
LE_SSM4 = storage("0200 0000 e8010203")
LE_SOURCE4 = storage("0200 0000 c6336407")  # 198.51.100.7
LE_OTHER4 = storage("0200 0000 c6336408")
BSD_GROUP4 = storage("1002 0000 ef010203")
BSD_SSM4 = storage("1002 0000 e8010203")
BSD_SOURCE4 = storage("1002 0000 c6336407")
BSD_OTHER4 = storage("1002 0000 c6336408")

IP6_GROUP = "ff15" + 24 * "0" + "1234"
IP6_SSM = "ff35" + 20 * "0" + "80000001"
IP6_SOURCE = "20010db8" + 23 * "0" + "7"


def v6(head: str, address: str) -> str:
    return storage(f"{head} 0000 00000000 {address} 00000000")


JOIN4 = "MCAST_JOIN_GROUP 239.1.2.3 on eth0 (2)"
JOIN4_S = "MCAST_JOIN_SOURCE_GROUP 232.1.2.3 from 198.51.100.7 on eth0 (2)"
JOIN4_O = "MCAST_JOIN_SOURCE_GROUP 232.1.2.3 from 198.51.100.8 on eth0 (2)"
JOIN6 = "MCAST_JOIN_GROUP ff15::1234 on eth0 (2)"
JOIN6_S = "MCAST_JOIN_SOURCE_GROUP ff35::8000:1 from 2001:db8::7 on eth0 (2)"

SOURCES4 = ["198.51.100.7", "198.51.100.8"]
SOURCE6 = "2001:db8::7"

# platform, group, sources: family, before bind, bind, after bind
RECEIVERS: list[tuple[Platform, str, Any, int, list[Call], tuple[Any, ...], list[Call]]] = [
    (
        LINUX,
        GROUP4,
        (),
        2,
        LINUX_V4,
        ("239.1.2.3", 5000),
        [(0, 42, INDEX + PAD + LE_GROUP4, JOIN4)],
    ),
    (
        LINUX,
        SSM4,
        SOURCES4,
        2,
        LINUX_V4,
        ("232.1.2.3", 5000),
        [
            (0, 46, INDEX + PAD + LE_SSM4 + LE_SOURCE4, JOIN4_S),
            (0, 46, INDEX + PAD + LE_SSM4 + LE_OTHER4, JOIN4_O),
        ],
    ),
    (
        LINUX,
        GROUP6,
        (),
        10,
        LINUX_V6,
        ("ff15::1234", 5000, 0, 0),
        [(41, 42, INDEX + PAD + v6("0a00", IP6_GROUP), JOIN6)],
    ),
    (
        LINUX,
        SSM6,
        SOURCE6,
        10,
        LINUX_V6,
        ("ff35::8000:1", 5000, 0, 0),
        [(41, 46, INDEX + PAD + v6("0a00", IP6_SSM) + v6("0a00", IP6_SOURCE), JOIN6_S)],
    ),
    (
        LINUX_32BIT,
        GROUP4,
        (),
        2,
        LINUX_V4,
        ("239.1.2.3", 5000),
        [(0, 42, INDEX + LE_GROUP4, JOIN4)],
    ),
    (
        LINUX_32BIT,
        SSM4,
        SOURCES4,
        2,
        LINUX_V4,
        ("232.1.2.3", 5000),
        [
            (0, 46, INDEX + LE_SSM4 + LE_SOURCE4, JOIN4_S),
            (0, 46, INDEX + LE_SSM4 + LE_OTHER4, JOIN4_O),
        ],
    ),
    (
        LINUX_32BIT,
        GROUP6,
        (),
        10,
        LINUX_V6,
        ("ff15::1234", 5000, 0, 0),
        [(41, 42, INDEX + v6("0a00", IP6_GROUP), JOIN6)],
    ),
    (
        LINUX_32BIT,
        SSM6,
        SOURCE6,
        10,
        LINUX_V6,
        ("ff35::8000:1", 5000, 0, 0),
        [(41, 46, INDEX + v6("0a00", IP6_SSM) + v6("0a00", IP6_SOURCE), JOIN6_S)],
    ),
    (
        MACOS,
        GROUP4,
        (),
        2,
        MACOS_V4,
        ("239.1.2.3", 5000),
        [(0, 80, INDEX + BSD_GROUP4, JOIN4)],
    ),
    (
        MACOS,
        SSM4,
        SOURCES4,
        2,
        MACOS_V4,
        ("232.1.2.3", 5000),
        [
            (0, 82, INDEX + BSD_SSM4 + BSD_SOURCE4, JOIN4_S),
            (0, 82, INDEX + BSD_SSM4 + BSD_OTHER4, JOIN4_O),
        ],
    ),
    (
        MACOS,
        GROUP6,
        (),
        30,
        MACOS_V6,
        ("ff15::1234", 5000, 0, 0),
        [(41, 80, INDEX + v6("1c1e", IP6_GROUP), JOIN6)],
    ),
    (
        MACOS,
        SSM6,
        SOURCE6,
        30,
        MACOS_V6,
        ("ff35::8000:1", 5000, 0, 0),
        [(41, 82, INDEX + v6("1c1e", IP6_SSM) + v6("1c1e", IP6_SOURCE), JOIN6_S)],
    ),
    (
        WINDOWS,
        GROUP4,
        (),
        2,
        WINDOWS_V4,
        ("0.0.0.0", 5000),
        [(0, 41, INDEX + PAD + LE_GROUP4, JOIN4)],
    ),
    (
        WINDOWS,
        SSM4,
        SOURCES4,
        2,
        WINDOWS_V4,
        ("0.0.0.0", 5000),
        [
            (0, 45, INDEX + PAD + LE_SSM4 + LE_SOURCE4, JOIN4_S),
            (0, 45, INDEX + PAD + LE_SSM4 + LE_OTHER4, JOIN4_O),
        ],
    ),
    (
        WINDOWS,
        GROUP6,
        (),
        23,
        WINDOWS_V6,
        ("::", 5000, 0, 0),
        [(41, 41, INDEX + PAD + v6("1700", IP6_GROUP), JOIN6)],
    ),
    (
        WINDOWS,
        SSM6,
        SOURCE6,
        23,
        WINDOWS_V6,
        ("::", 5000, 0, 0),
        [(41, 45, INDEX + PAD + v6("1700", IP6_SSM) + v6("1700", IP6_SOURCE), JOIN6_S)],
    ),
]


def calls(options: tuple[SocketOption, ...]) -> list[Call]:
    return [(o.level, o.option, o.value.hex(), o.label) for o in options]


def labels(options: tuple[SocketOption, ...]) -> list[str]:
    return [option.label for option in options]


@pytest.mark.parametrize(
    ("platform", "group", "sources", "family", "before", "bind", "after"),
    RECEIVERS,
    ids=lambda value: value.name if isinstance(value, Platform) else None,
)
def test_receivers(
    platform: Platform,
    group: str,
    sources: Any,
    family: int,
    before: list[Call],
    bind: tuple[Any, ...],
    after: list[Call],
) -> None:
    plan = plan_receiver(platform, group, 5000, ETH0, sources=sources)
    assert plan.family == family
    assert calls(plan.before_bind) == before
    assert plan.bind == bind
    assert calls(plan.after_bind) == after
    assert calls(plan.options) == before + after


def test_the_table_of_receivers_is_complete() -> None:
    tried = {(row[0], row[3] == 2, bool(row[2])) for row in RECEIVERS}
    assert len(tried) == len(RECEIVERS) == len(PLATFORMS) * 2 * 2


# --- Receiving: in detail ----------------------------------------------------------------------


def receiver(platform: Platform = LINUX, group: Any = GROUP4, **options: Any) -> SocketPlan:
    return plan_receiver(platform, group, 5000, ETH0, **options)


def test_only_what_may_be_refused_is_optional() -> None:
    optional = {
        (platform, option.label.partition("=")[0])
        for platform in PLATFORMS
        for option in plan_receiver(platform, GROUP4, 5000, ETH0).options
        if option.optional
    }
    assert optional == {
        (LINUX, "SO_RCVBUFFORCE"),
        (LINUX, "UDP_GRO"),
        (LINUX_32BIT, "SO_RCVBUFFORCE"),
        (LINUX_32BIT, "UDP_GRO"),
        (MACOS, "SO_RCVBUF"),
    }


def test_linux_lets_reuse_port_only_programs_have_their_way() -> None:
    for group in (GROUP4, GROUP6):
        plan = receiver(group=group)
        assert calls(plan.if_address_in_use) == [(1, 15, ONE, "SO_REUSEPORT=1")]
        assert calls(plan.after_second_bind) == [(1, 15, ZERO, "SO_REUSEPORT=0")]


@pytest.mark.parametrize("platform", [MACOS, WINDOWS], ids=repr)
def test_others_have_no_second_choice(platform: Platform) -> None:
    plan = receiver(platform)
    assert plan.if_address_in_use == plan.after_second_bind == ()


def test_old_linux_is_bound_to_the_interface_by_name() -> None:
    bound = receiver().before_bind[1]
    assert bound.fallback == SocketOption(1, 25, b"eth0\0", "SO_BINDTODEVICE=eth0")


def test_old_windows_joins_by_index_or_else_by_address() -> None:
    (join,) = receiver(WINDOWS).after_bind
    assert join.fallback is not None
    assert calls((join.fallback,)) == [
        (0, 12, "ef01020300000002", "IP_ADD_MEMBERSHIP 239.1.2.3 on eth0 (2)")
    ]
    assert join.fallback.fallback is not None
    assert calls((join.fallback.fallback,)) == [
        (0, 12, "ef010203c000020a", "IP_ADD_MEMBERSHIP 239.1.2.3 on 192.0.2.10")
    ]
    assert join.fallback.fallback.fallback is None


def test_old_windows_joins_by_index_only_where_there_is_no_address() -> None:
    (join,) = plan_receiver(WINDOWS, GROUP4, 5000, NO_IPV4).after_bind
    assert join.fallback is not None
    assert join.fallback.fallback is None


def test_old_windows_joins_ipv6_by_index() -> None:
    (join,) = receiver(WINDOWS, GROUP6).after_bind
    assert join.fallback is not None
    assert calls((join.fallback,)) == [
        (41, 12, IP6_GROUP + INDEX, "IPV6_JOIN_GROUP ff15::1234 on eth0 (2)")
    ]


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_joins_with_sources_have_no_older_form(platform: Platform) -> None:
    plan = receiver(platform, SSM4, sources=SOURCES4)
    assert [option.fallback for option in plan.after_bind] == [None, None]


@pytest.mark.parametrize(
    ("group", "scope_id"),
    [
        ("ff11::1", 2),
        ("ff02::fb", 2),
        ("ff12::1", 2),
        ("ff32::8000:1", 2),
        ("ff13::1", 0),
        ("ff14::1", 0),
        ("ff05::2", 0),
        ("ff18::1", 0),
        ("ff1e::1", 0),
    ],
)
@pytest.mark.parametrize("platform", [LINUX, MACOS], ids=repr)
def test_the_scope_id_is_for_groups_that_each_interface_has(
    platform: Platform, group: str, scope_id: int
) -> None:
    sources = ["fe80::7"] if group.startswith("ff3") else []
    assert receiver(platform, group, sources=sources).bind == (group, 5000, 0, scope_id)


def test_windows_binds_to_everything_also_for_link_local_groups() -> None:
    assert receiver(WINDOWS, "ff02::fb").bind == ("::", 5000, 0, 0)


STRAYS = {(LINUX, 4): False, (LINUX, 6): False, (MACOS, 4): False, (MACOS, 6): True}
STRAYS |= {(WINDOWS, 4): True, (WINDOWS, 6): True}


@pytest.mark.parametrize(("platform", "version"), STRAYS, ids=str)
def test_strays_are_sorted_out_where_they_come(platform: Platform, version: int) -> None:
    plan = receiver(platform, GROUP4 if version == 4 else GROUP6)
    assert plan.sorts_strays is STRAYS[platform, version]


def test_all_hosts_reaches_every_socket_on_macos() -> None:
    plan = receiver(MACOS, "224.0.0.1")
    assert plan.sorts_strays
    assert "IP_PKTINFO=1" in labels(plan.before_bind)
    assert not receiver(LINUX, "224.0.0.1").sorts_strays


def test_destination_and_interface_are_asked_for_only_to_sort_strays_out() -> None:
    assert not any("PKTINFO" in label for label in labels(receiver().options))


def test_packet_info_is_asked_for_before_bind() -> None:
    plan = receiver(packet_info=("timestamp", "hop_limit"))
    assert labels(plan.before_bind)[-2:] == ["IP_RECVTTL=1", "SO_TIMESTAMPNS=1"]
    assert plan.packet_info == {"hop_limit", "timestamp"}


def test_windows_cannot_tell_the_time() -> None:
    with pytest.raises(NotSupportedError, match="Windows"):
        receiver(WINDOWS, packet_info="timestamp")


@pytest.mark.parametrize("platform", [LINUX, MACOS], ids=repr)
def test_without_loopback_ones_own_is_dropped_where_the_option_is_the_senders(
    platform: Platform,
) -> None:
    plan = receiver(platform, loopback=False)
    assert plan.drops_own
    assert plan.options == receiver(platform).options
    assert not receiver(platform).drops_own


@pytest.mark.parametrize(
    ("group", "call"),
    [
        (GROUP4, (0, 11, ZERO, "IP_MULTICAST_LOOP=0")),
        (GROUP6, (41, 11, ZERO, "IPV6_MULTICAST_LOOP=0")),
    ],
)
def test_without_loopback_windows_keeps_ones_own_away(group: str, call: Call) -> None:
    plan = receiver(WINDOWS, group, loopback=False)
    assert calls(plan.before_bind)[-1] == call
    assert not plan.drops_own


def test_receive_buffer_is_asked_for() -> None:
    assert DEFAULT_RECEIVE_BUFFER == 4 * 2**20
    plan = receiver(receive_buffer=65536)
    assert labels(plan.before_bind)[3:5] == ["SO_RCVBUF=65536", "SO_RCVBUFFORCE=65536"]


def test_a_plan_knows_what_it_is_for() -> None:
    plan = receiver()
    assert (plan.group, plan.interface) == (IPv4Address(GROUP4), ETH0)
    assert plan.destination is None


def test_labels_have_the_name_that_people_use() -> None:
    plan = plan_receiver(WINDOWS, GROUP4, 5000, ETHERNET)
    assert labels(plan.after_bind) == ["MCAST_JOIN_GROUP 239.1.2.3 on Ethernet 2 (12)"]


@pytest.mark.parametrize(
    "group", [GROUP4, IPv4Address(GROUP4), "239.1.2.3%eth0", "239.1.2.3%2", parse_group(GROUP4)]
)
def test_groups_are_given_in_several_ways(group: Any) -> None:
    assert receiver(group=group) == receiver()


def test_the_zone_may_be_in_the_address() -> None:
    plan = receiver(group=IPv6Address("ff02::fb%eth0"))
    assert plan.bind == ("ff02::fb", 5000, 0, 2)
    assert plan.group == IPv6Address("ff02::fb")


def test_sources_of_the_other_version_are_for_other_groups() -> None:
    plan = receiver(group=SSM4, sources=[SOURCE6, *SOURCES4])
    assert labels(plan.after_bind) == [JOIN4_S, JOIN4_O]


def test_plans_are_values() -> None:
    assert receiver() == receiver()
    with pytest.raises(FrozenInstanceError):
        receiver().bind = None  # type: ignore[misc]


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_options_come_before_bind_and_joins_after_it(platform: Platform) -> None:
    for group, sources in ((GROUP4, ()), (SSM4, SOURCES4), (GROUP6, ()), (SSM6, SOURCE6)):
        plan = receiver(platform, group, sources=sources, packet_info="hop_limit")
        assert not any(label.startswith("MCAST") for label in labels(plan.before_bind))
        assert all(label.startswith("MCAST_JOIN") for label in labels(plan.after_bind))


# --- Receiving: what is refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "shown"),
    [
        ({"group": "192.0.2.1"}, AddressError, "192.0.2.1"),
        ({"group": "nonsense"}, AddressError, "nonsense"),
        ({"group": "ff02::fb%eth1"}, AddressError, r"ff02::fb%eth1 is not on eth0 \(2\)"),
        ({"group": SSM4}, AddressError, "232.1.2.3"),
        ({"group": 7}, TypeError, "7"),
        ({"sources": "239.9.9.9"}, AddressError, "239.9.9.9"),
        ({"sources": [SOURCE6]}, AddressError, "2001:db8::7"),
        ({"sources": 7}, TypeError, "7"),
        ({"port": 0}, ValueError, "0"),
        ({"port": 65536}, ValueError, "65536"),
        ({"port": "5000"}, TypeError, "'5000'"),
        ({"port": True}, TypeError, "True"),
        ({"interface": "eth0"}, TypeError, "'eth0' is not an Interface"),
        ({"interface": 2}, TypeError, "2 is not an Interface"),
        ({"loopback": 1}, TypeError, "loopback=1"),
        ({"loopback": None}, TypeError, "loopback=None"),
        ({"packet_info": "ttl"}, ValueError, "'ttl'"),
        ({"packet_info": 5}, TypeError, "5"),
        ({"receive_buffer": 0}, ValueError, "receive_buffer=0"),
        ({"receive_buffer": -1}, ValueError, "receive_buffer=-1"),
        ({"receive_buffer": 2**31}, ValueError, "receive_buffer=2147483648"),
        ({"receive_buffer": True}, TypeError, "receive_buffer=True"),
        ({"receive_buffer": 1e6}, TypeError, "receive_buffer=1000000.0"),
        ({"receive_buffer": "1M"}, TypeError, "receive_buffer='1M'"),
    ],
)
def test_receivers_refuse(change: dict[str, Any], error: type[Exception], shown: str) -> None:
    arguments: dict[str, Any] = {"group": GROUP4, "port": 5000, "interface": ETH0}
    for platform in PLATFORMS:
        with pytest.raises(error, match=shown):
            plan_receiver(platform, **arguments | change)


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
        ({"interface": None}, TypeError, "None is not an Interface"),
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


# --- Memberships that change -------------------------------------------------------------------


LEAVES = {
    LINUX: [(0, 45, INDEX + PAD + LE_GROUP4), (41, 45, INDEX + PAD + v6("0a00", IP6_GROUP))],
    LINUX_32BIT: [(0, 45, INDEX + LE_GROUP4), (41, 45, INDEX + v6("0a00", IP6_GROUP))],
    MACOS: [(0, 81, INDEX + BSD_GROUP4), (41, 81, INDEX + v6("1c1e", IP6_GROUP))],
    WINDOWS: [(0, 42, INDEX + PAD + LE_GROUP4), (41, 42, INDEX + PAD + v6("1700", IP6_GROUP))],
}


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_a_group_is_left(platform: Platform) -> None:
    for group, expected in zip((GROUP4, GROUP6), LEAVES[platform], strict=True):
        left = plan_leave(platform, group, ETH0)
        assert calls(left) == [(*expected, f"MCAST_LEAVE_GROUP {group} on eth0 (2)")]


def test_old_windows_leaves_as_it_joined() -> None:
    (leave,) = plan_leave(WINDOWS, GROUP4, ETH0)
    assert leave.fallback is not None
    assert leave.fallback.fallback is not None
    assert calls((leave.fallback, leave.fallback.fallback)) == [
        (0, 13, "ef01020300000002", "IP_DROP_MEMBERSHIP 239.1.2.3 on eth0 (2)"),
        (0, 13, "ef010203c000020a", "IP_DROP_MEMBERSHIP 239.1.2.3 on 192.0.2.10"),
    ]
    (leave,) = plan_leave(WINDOWS, GROUP6, ETH0)
    assert leave.fallback is not None
    assert calls((leave.fallback,)) == [
        (41, 13, IP6_GROUP + INDEX, "IPV6_LEAVE_GROUP ff15::1234 on eth0 (2)")
    ]


def test_a_group_is_left_with_all_its_sources() -> None:
    for platform in PLATFORMS:
        (leave,) = plan_leave(platform, SSM4, ETH0, SOURCES4)
        assert leave.label == "MCAST_LEAVE_GROUP 232.1.2.3 on eth0 (2)"
        assert leave.fallback is None


def test_an_ssm_group_can_be_left_without_naming_its_sources() -> None:
    (leave,) = plan_leave(LINUX, SSM4, ETH0)
    assert calls((leave,)) == [
        (0, 45, INDEX + PAD + LE_SSM4, "MCAST_LEAVE_GROUP 232.1.2.3 on eth0 (2)")
    ]


CHANGES = {
    plan_add_source: ("MCAST_JOIN_SOURCE_GROUP", 46, 82, 45),
    plan_remove_source: ("MCAST_LEAVE_SOURCE_GROUP", 47, 83, 46),
    plan_block_source: ("MCAST_BLOCK_SOURCE", 43, 84, 43),
    plan_unblock_source: ("MCAST_UNBLOCK_SOURCE", 44, 85, 44),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_source_is_changed(change: Any) -> None:
    name, linux, macos, windows = CHANGES[change]
    source4, source6 = SOURCES4[0], SOURCE6
    label4 = f"{name} 232.1.2.3 from {source4} on eth0 (2)"
    label6 = f"{name} ff35::8000:1 from {source6} on eth0 (2)"
    for platform, number, value4, value6 in (
        (
            LINUX,
            linux,
            PAD + LE_SSM4 + LE_SOURCE4,
            PAD + v6("0a00", IP6_SSM) + v6("0a00", IP6_SOURCE),
        ),
        (
            MACOS,
            macos,
            BSD_SSM4 + BSD_SOURCE4,
            v6("1c1e", IP6_SSM) + v6("1c1e", IP6_SOURCE),
        ),
        (
            WINDOWS,
            windows,
            PAD + LE_SSM4 + LE_SOURCE4,
            PAD + v6("1700", IP6_SSM) + v6("1700", IP6_SOURCE),
        ),
    ):
        changed = (change(platform, SSM4, ETH0, source4), change(platform, SSM6, ETH0, source6))
        assert calls(changed) == [
            (0, number, INDEX + value4, label4),
            (41, number, INDEX + value6, label6),
        ]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_source_of_the_other_version_is_refused(change: Any) -> None:
    with pytest.raises(AddressError, match=r"2001:db8::7 cannot send to 232\.1\.2\.3"):
        change(LINUX, SSM4, ETH0, SOURCE6)
    with pytest.raises(TypeError):
        change(LINUX, SSM4, ETH0, None)


@pytest.mark.parametrize(("mode", "number"), [("include", ONE), ("exclude", ZERO)])
def test_linux_sets_a_whole_filter(mode: Any, number: str) -> None:
    option = plan_filter(LINUX, SSM4, ETH0, mode, SOURCES4)
    assert option is not None
    assert calls((option,)) == [
        (
            0,
            48,
            INDEX + PAD + LE_SSM4 + number + "02000000" + LE_SOURCE4 + LE_OTHER4,
            f"MCAST_MSFILTER {mode} 198.51.100.7, 198.51.100.8: 232.1.2.3 on eth0 (2)",
        )
    ]


def test_linux_sets_an_ipv6_filter_at_its_own_level() -> None:
    option = plan_filter(LINUX_32BIT, SSM6, ETH0, "include", SOURCE6)
    assert option is not None
    assert calls((option,))[0][:3] == (
        41,
        48,
        INDEX + v6("0a00", IP6_SSM) + ONE + ONE + v6("0a00", IP6_SOURCE),
    )


def test_a_filter_may_name_nobody() -> None:
    option = plan_filter(LINUX, GROUP4, ETH0, "exclude")
    assert option is not None
    assert option.value.hex() == INDEX + PAD + LE_GROUP4 + ZERO + ZERO
    assert option.label == "MCAST_MSFILTER exclude nobody: 239.1.2.3 on eth0 (2)"


@pytest.mark.parametrize("platform", [MACOS, WINDOWS], ids=repr)
def test_others_set_filters_source_by_source(platform: Platform) -> None:
    assert plan_filter(platform, SSM4, ETH0, "include", SOURCES4) is None


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_filters_refuse(platform: Platform) -> None:
    mode: Any = "only"
    with pytest.raises(ValueError, match="'only' is unknown; there are: include, exclude"):
        plan_filter(platform, SSM4, ETH0, mode, SOURCES4)
    with pytest.raises(AddressError, match="2001:db8::7 cannot send to"):
        plan_filter(platform, SSM4, ETH0, "include", [*SOURCES4, SOURCE6])
    with pytest.raises(TypeError):
        plan_filter(platform, SSM4, ETH0, "include", 7)


@pytest.mark.parametrize("platform", [LINUX, LINUX_32BIT])
def test_who_wants_time_stamps_gets_datagrams_singly(platform: Platform) -> None:
    """What the kernel merges has one time stamp for all."""
    plain = plan_receiver(platform, "239.1.2.3", 5000, ETH0, packet_info="hop_limit")
    stamped = plan_receiver(platform, "239.1.2.3", 5000, ETH0, packet_info="timestamp")
    assert (plain.merges_datagrams, "UDP_GRO=1" in labels(plain.before_bind)) == (True, True)
    assert (stamped.merges_datagrams, "UDP_GRO=1" in labels(stamped.before_bind)) == (False, False)


@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::1"])
def test_what_would_reach_nobody_is_refused(group: str) -> None:
    with pytest.raises(ValueError, match="reaches nobody"):
        plan_sender(LINUX, group, 5000, ETH0, hop_limit=0, loopback=False)
