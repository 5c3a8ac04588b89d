"""What every system is asked for a socket that receives, in which order, with which bytes."""

from dataclasses import FrozenInstanceError
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from plan.written_out import (
    BSD_GROUP4,
    BSD_OTHER4,
    BSD_SOURCE4,
    BSD_SSM4,
    ETH0,
    ETHERNET,
    FOUR_MIB,
    GROUP4,
    GROUP6,
    INDEX,
    IP6_GROUP,
    IP6_SOURCE,
    IP6_SSM,
    LE_GROUP4,
    LE_OTHER4,
    LE_SOURCE4,
    LE_SSM4,
    NO_IPV4,
    ONE,
    PAD,
    PLATFORMS,
    SOURCE6,
    SOURCES4,
    SSM4,
    SSM6,
    ZERO,
    Call,
    calls,
    labels,
    v6,
)

from trio_mcast import AddressError, NotSupportedError
from trio_mcast._addresses.parsing import parse_group
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import SocketOption
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.receiver_plan import DEFAULT_RECEIVE_BUFFER, plan_receiver
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._plan.windows import WINDOWS

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

JOIN4 = "MCAST_JOIN_GROUP 239.1.2.3 on eth0 (2)"
JOIN4_S = "MCAST_JOIN_SOURCE_GROUP 232.1.2.3 from 198.51.100.7 on eth0 (2)"
JOIN4_O = "MCAST_JOIN_SOURCE_GROUP 232.1.2.3 from 198.51.100.8 on eth0 (2)"
JOIN6 = "MCAST_JOIN_GROUP ff15::1234 on eth0 (2)"
JOIN6_S = "MCAST_JOIN_SOURCE_GROUP ff35::8000:1 from 2001:db8::7 on eth0 (2)"

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
        (LINUX, "IP_MULTICAST_ALL"),
        (LINUX, "SO_RCVBUFFORCE"),
        (LINUX, "UDP_GRO"),
        (LINUX_32BIT, "IP_MULTICAST_ALL"),
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
        ({"interface": "eth0"}, TypeError, "'eth0' is not of the type Interface"),
        ({"interface": 2}, TypeError, "2 is not of the type Interface"),
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


@pytest.mark.parametrize("platform", [LINUX, LINUX_32BIT])
def test_who_wants_time_stamps_gets_datagrams_singly(platform: Platform) -> None:
    """What the kernel merges has one time stamp for all."""
    plain = plan_receiver(platform, "239.1.2.3", 5000, ETH0, packet_info="hop_limit")
    stamped = plan_receiver(platform, "239.1.2.3", 5000, ETH0, packet_info="timestamp")
    assert (plain.merges_datagrams, "UDP_GRO=1" in labels(plain.before_bind)) == (True, True)
    assert (stamped.merges_datagrams, "UDP_GRO=1" in labels(stamped.before_bind)) == (False, False)
