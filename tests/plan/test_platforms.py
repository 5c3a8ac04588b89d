"""The platform tables against the collected facts about each system, and against our needs."""

import json
import struct
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from plan.platform_table import constants, option_names

from trio_mcast import lowlevel
from trio_mcast._base.interface import Interface
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.platforms import (
    AncillaryFormat,
    ControlLayout,
    Family,
    MembershipOptions,
    OptionName,
    Platform,
)
from trio_mcast._plan.receiver_plan import plan_receiver
from trio_mcast._plan.sender_plan import plan_sender
from trio_mcast._plan.windows import WINDOWS, WINDOWS_32BIT

DATA = json.loads((Path(__file__).parents[1] / "data" / "constants.json").read_text())

PLATFORMS = {"linux": LINUX, "linux_ilp32": LINUX_32BIT, "darwin": MACOS, "win32": WINDOWS}
SYSTEMS = [pytest.param(system, p, id=p.name) for system, p in PLATFORMS.items()]


def facts(system: str) -> dict[str, int]:
    section = DATA[system]
    return DATA[section.get("constants_same_as", system)]["constants"]  # type: ignore[no-any-return]


# --- Numbers -----------------------------------------------------------------------------------

# The compiled probe of test_abi.py knows these.
NOT_COLLECTED = {"IP_RECVERR", "IPV6_RECVERR", "SO_SNDBUFFORCE"}


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_numbers_are_those_collected(system: str, platform: Platform) -> None:
    known = facts(system)
    ours = {n: v for n, v in constants(platform).items() if n not in NOT_COLLECTED}
    collected = {name: known.get(name) for name in ours}
    assert ours == collected


@pytest.mark.parametrize("platform", [LINUX, LINUX_32BIT])
def test_what_was_not_collected_is_known_to_the_probe(platform: Platform) -> None:
    assert constants(platform).keys() >= NOT_COLLECTED


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_levels_fit_the_names(system: str, platform: Platform) -> None:
    levels = {"IP": 0, "IPV6": 41, "UDP": 17, "SO": facts(system)["SOL_SOCKET"]}
    for option in option_names(platform):
        prefix = option.name.partition("_")[0]
        if prefix == "MCAST":
            assert option.level in (0, 41)
        else:
            assert option.level == levels[prefix], option


@pytest.mark.parametrize("platform", [*PLATFORMS.values(), WINDOWS_32BIT], ids=repr)
def test_each_family_speaks_at_its_own_level(platform: Platform) -> None:
    for family, level in ((platform.ipv4, 0), (platform.ipv6, 41)):
        assert {option.level for option in option_names(family)} == {level}
        assert platform.family(family.version) is family


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_filter_modes_are_those_collected(system: str, platform: Platform) -> None:
    known = facts(system)
    assert platform.filter_modes == {
        "include": known["MCAST_INCLUDE"],
        "exclude": known["MCAST_EXCLUDE"],
    }


# --- Layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_group_req_is_padded_as_collected(system: str, platform: Platform) -> None:
    structs = DATA[system]["structs"]
    offset = structs["group_req"]["fields"]["gr_group"]["offset"]
    assert platform.group_req_padding == offset - 4
    assert platform.sockaddr_has_length == ("sin_len" in structs["sockaddr_in"]["fields"])


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_control_header_is_as_collected(system: str, platform: Platform) -> None:
    structs = DATA[system]["structs"]
    header = structs.get("cmsghdr") or structs["WSACMSGHDR"]
    assert struct.calcsize(platform.control.header) == header["size"]
    assert platform.control.alignment == header["align"]


def test_control_header_of_32_bit_windows_is_smaller() -> None:
    assert struct.calcsize(WINDOWS_32BIT.control.header) == 12
    assert WINDOWS_32BIT.control.alignment == 4
    assert WINDOWS_32BIT.group_req_padding == WINDOWS.group_req_padding


PAYLOAD_SIZES = {
    "IP_PKTINFO": {"linux": 12, "linux_ilp32": 12, "darwin": 12, "win32": 8},
    "SO_TIMESTAMPNS": {"linux": 16, "linux_ilp32": 8},
}


def collected_payload_size(system: str, row: dict[str, Any]) -> int:
    if row["enable"] in PAYLOAD_SIZES:
        return PAYLOAD_SIZES[row["enable"]][system]
    parts = row["payload"].split(" segment")[0].split(", ")
    sizes = {"i32": 4, "u32": 4, "u8": 1, "16s": 16, "timeval i64 sec": 8, "i32 usec": 4}
    sizes["pad4 (16 B)"] = 4
    return sum(sizes[part.partition(":")[2] or part] for part in parts)


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_control_messages_are_as_collected(system: str, platform: Platform) -> None:
    rows = DATA["cmsg"][system.removesuffix("_ilp32")]
    known = {(row["cmsg_level"], row["cmsg_type"]): row for row in rows}
    for ours in platform.ancillary:
        row = known[ours.level, ours.type]
        assert struct.calcsize(ours.layout) == collected_payload_size(system, row), row


@pytest.mark.parametrize("platform", [*PLATFORMS.values(), WINDOWS_32BIT], ids=repr)
def test_control_messages_are_listed_once(platform: Platform) -> None:
    keys = [(row.level, row.type) for row in platform.ancillary]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("system", "platform"), SYSTEMS)
def test_layouts_have_no_hidden_padding(system: str, platform: Platform) -> None:
    layouts = [platform.control.header, *(row.layout for row in platform.ancillary)]
    assert all(layout.startswith("=") for layout in layouts)


# --- Abilities ---------------------------------------------------------------------------------

ABILITIES = {
    "binds_to_group": (True, True, False),
    "loopback_on_receiver": (False, False, True),
    "delivers_strays_v4": (False, False, True),
    "delivers_strays_v6": (False, True, True),
    "refuses_large_buffers": (False, True, False),
    "smallest_send_buffer": (None, 65535, None),
    "doubles_receive_buffer": (True, False, False),
    "error_queue": (0x2000, None, None),
    "spurious_join_errors": ((), ("ENOMEM", "ENOEXEC"), ()),
}


@pytest.mark.parametrize("ability", ABILITIES)
def test_abilities(ability: str) -> None:
    linux, macos, windows = ABILITIES[ability]
    assert getattr(LINUX, ability) == linux
    assert getattr(LINUX_32BIT, ability) == linux
    assert getattr(MACOS, ability) == macos
    assert getattr(WINDOWS, ability) == windows
    assert getattr(WINDOWS_32BIT, ability) == windows


@pytest.mark.parametrize("platform", [*PLATFORMS.values(), WINDOWS_32BIT], ids=repr)
def test_strays_are_told_by_version(platform: Platform) -> None:
    assert platform.delivers_strays(4) == platform.delivers_strays_v4
    assert platform.delivers_strays(6) == platform.delivers_strays_v6


# --- As values ---------------------------------------------------------------------------------


def test_platforms_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        LINUX.binds_to_group = False  # type: ignore[misc]


def test_platforms_show_their_name_only() -> None:
    assert repr(LINUX) == "<Platform Linux>"


def test_platforms_are_equal_to_themselves_only() -> None:
    assert LINUX == LINUX
    assert replace(LINUX) != LINUX


@pytest.mark.parametrize("platform", [*PLATFORMS.values(), WINDOWS_32BIT], ids=repr)
def test_a_table_that_contradicts_itself_would_be_noticed(platform: Platform) -> None:
    wrong = replace(platform, send_buffer=platform.receive_buffer._replace(number=1))
    with pytest.raises(ValueError, match="SO_RCVBUF"):
        constants(wrong)


def test_lowlevel_has_what_it_promises() -> None:
    names = {"Platform", "LINUX", "LINUX_32BIT", "MACOS", "WINDOWS"}
    names |= {"SocketOption", "SocketPlan", "plan_receiver", "plan_sender"}
    assert names <= set(dir(lowlevel))


# --- Another system ----------------------------------------------------------------------------


def freebsd() -> Platform:
    """A row for a system we do not support, out of the numbers that were collected."""
    known = DATA["freebsd"]["constants"]

    def option(level: int, name: str) -> OptionName:
        return OptionName(level, known[name], name)

    def family(version: Any, level: int, prefix: str, **others: Any) -> Family:
        names = ["join_group", "leave_group", "join_source_group", "leave_source_group"]
        names += ["block_source", "unblock_source"]
        return Family(
            version=version,
            membership=MembershipOptions(
                **{name: option(level, f"MCAST_{name.upper()}") for name in names}
            ),
            multicast_interface=option(level, f"{prefix}_MULTICAST_IF"),
            loopback=option(level, f"{prefix}_MULTICAST_LOOP"),
            **others,
        )

    return Platform(
        name="FreeBSD",
        ipv4=family(
            4,
            0,
            "IP",
            number=known["AF_INET"],
            interface_form="ip_mreqn",
            hop_limit=option(0, "IP_MULTICAST_TTL"),
            traffic_class=option(0, "IP_TOS"),
            receive_destination=(option(0, "IP_RECVDSTADDR"), option(0, "IP_RECVIF")),
            receive_hop_limit=option(0, "IP_RECVTTL"),
            receive_traffic_class=OptionName(0, 68, "IP_RECVTOS"),
        ),
        ipv6=family(
            6,
            41,
            "IPV6",
            number=known["AF_INET6"],
            interface_form="index",
            hop_limit=option(41, "IPV6_MULTICAST_HOPS"),
            traffic_class=option(41, "IPV6_TCLASS"),
            receive_destination=(option(41, "IPV6_RECVPKTINFO"),),
            receive_hop_limit=option(41, "IPV6_RECVHOPLIMIT"),
            receive_traffic_class=option(41, "IPV6_RECVTCLASS"),
            v6_only=option(41, "IPV6_V6ONLY"),
        ),
        binds_to_group=True,
        loopback_on_receiver=False,
        delivers_strays_v4=True,
        delivers_strays_v6=True,
        share_port=MACOS.share_port,
        receive_buffer=MACOS.receive_buffer,
        send_buffer=MACOS.send_buffer,
        refuses_large_buffers=True,
        sockaddr_has_length=True,
        group_req_padding=4,
        filter_modes=MACOS.filter_modes,
        # CMSG_DATA is aligned as a long, the header itself is not.
        control=ControlLayout("=Iii", payload_offset=16, alignment=8),
        ancillary=(
            AncillaryFormat(0, 7, "=4s", ("destination",)),
            AncillaryFormat(41, 46, "=16sI", ("destination", "interface_index")),
        ),
    )


def test_a_new_system_is_a_new_row(eth0: Interface) -> None:
    receiver = plan_receiver(freebsd(), "232.1.1.1", 5000, eth0, sources="192.0.2.1")
    assert [str(option) for option in receiver.options] == [
        "SO_REUSEADDR=1",
        "SO_REUSEPORT=1",
        "SO_RCVBUF=4194304",
        "IP_RECVDSTADDR=1",
        "IP_RECVIF=1",
        "MCAST_JOIN_SOURCE_GROUP 232.1.1.1 from 192.0.2.1 on eth0 (2)",
    ]
    sender = plan_sender(freebsd(), "ff15::1", 5000, eth0)
    assert (sender.family, str(sender.before_bind[0])) == (28, "IPV6_V6ONLY=1")
