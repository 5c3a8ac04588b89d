"""What is asked of the kernel about a datagram, and how its answers are read."""

import struct
from itertools import accumulate, islice
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_mcast import NotSupportedError
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.packet_info import (
    PACKET_INFO,
    AncillaryData,
    packet_info_options,
    parse_packet_info,
    read_ancillary_untrusted,
    read_control_batch_untrusted,
    read_control_buffer_untrusted,
)
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.windows import WINDOWS, WINDOWS_32BIT

PLATFORMS = [LINUX, LINUX_32BIT, MACOS, WINDOWS, WINDOWS_32BIT]
SOL_SOCKET = {LINUX: 1, LINUX_32BIT: 1, MACOS: 0xFFFF}

platforms = st.sampled_from(PLATFORMS)


# --- Names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((), set()),
        ("hop_limit", {"hop_limit"}),
        (["timestamp", "hop_limit", "timestamp"], {"hop_limit", "timestamp"}),
        (frozenset(PACKET_INFO), {"hop_limit", "timestamp", "traffic_class"}),
        ((name for name in ["traffic_class"]), {"traffic_class"}),
    ],
)
def test_names_are_parsed(value: object, expected: set[str]) -> None:
    assert parse_packet_info(value) == expected


@pytest.mark.parametrize("value", ["ttl", ["hop_limit", "ttl"], [""]])
def test_an_unknown_name_is_told_what_there_is(value: object) -> None:
    with pytest.raises(ValueError, match="unknown; there are: hop_limit, timestamp, traffic_class"):
        parse_packet_info(value)


@pytest.mark.parametrize("value", [None, 3, True, [3], b"hop_limit", [None]])
def test_something_else_than_names_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        parse_packet_info(value)


# --- Asking ------------------------------------------------------------------------------------


def asked(platform: Platform, version: Any, *names: Any, destination: bool = False) -> list[str]:
    options = packet_info_options(platform, version, names, destination=destination)
    assert all(option.value == struct.pack("=i", 1) for option in options)
    return [f"{option.level}:{option.option} {option.label}" for option in options]


def test_nothing_is_asked_for_by_default() -> None:
    for platform in PLATFORMS:
        assert asked(platform, 4) == asked(platform, 6) == []


def test_linux_is_asked() -> None:
    assert asked(LINUX, 4, *PACKET_INFO, destination=True) == [
        "0:8 IP_PKTINFO=1",
        "0:12 IP_RECVTTL=1",
        "0:13 IP_RECVTOS=1",
        "1:35 SO_TIMESTAMPNS=1",
    ]
    assert asked(LINUX, 6, *PACKET_INFO, destination=True) == [
        "41:49 IPV6_RECVPKTINFO=1",
        "41:51 IPV6_RECVHOPLIMIT=1",
        "41:66 IPV6_RECVTCLASS=1",
        "1:35 SO_TIMESTAMPNS=1",
    ]


def test_macos_is_asked() -> None:
    assert asked(MACOS, 4, *PACKET_INFO, destination=True) == [
        "0:26 IP_PKTINFO=1",
        "0:24 IP_RECVTTL=1",
        "0:27 IP_RECVTOS=1",
        "65535:1024 SO_TIMESTAMP=1",
    ]
    assert asked(MACOS, 6, *PACKET_INFO, destination=True) == [
        "41:61 IPV6_RECVPKTINFO=1",
        "41:37 IPV6_RECVHOPLIMIT=1",
        "41:35 IPV6_RECVTCLASS=1",
        "65535:1024 SO_TIMESTAMP=1",
    ]


def test_windows_is_asked() -> None:
    assert asked(WINDOWS, 4, "hop_limit", "traffic_class", destination=True) == [
        "0:19 IP_PKTINFO=1",
        "0:21 IP_RECVTTL=1",
        "0:40 IP_RECVTOS=1",
    ]
    assert asked(WINDOWS, 6, "hop_limit", "traffic_class", destination=True) == [
        "41:19 IPV6_PKTINFO=1",
        "41:21 IPV6_HOPLIMIT=1",
        "41:40 IPV6_RECVTCLASS=1",
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_what_a_system_cannot_tell_is_refused(version: Any) -> None:
    with pytest.raises(NotSupportedError, match="Windows does not tell the timestamp"):
        packet_info_options(WINDOWS, version, ["timestamp"])


# --- Reading what socket.recvmsg gives ---------------------------------------------------------

GROUP4 = bytes([239, 1, 2, 3])
GROUP6 = bytes.fromhex("ff15" + "00" * 13 + "07")
BOTH_LINUXES = [LINUX, LINUX_32BIT]

MESSAGES: list[tuple[list[Platform], int, int, bytes, dict[str, object]]] = [
    # systems, level, type, payload, what it says
    (
        BOTH_LINUXES,
        0,
        8,
        struct.pack("=i", 7) + bytes([10, 0, 0, 1]) + GROUP4,
        {"destination": GROUP4, "interface_index": 7},
    ),
    (BOTH_LINUXES, 0, 2, struct.pack("=I", 0x40), {"hop_limit": 64}),
    (BOTH_LINUXES, 0, 1, b"\xb8", {"traffic_class": 0xB8}),
    (
        BOTH_LINUXES,
        41,
        50,
        GROUP6 + struct.pack("=I", 0x07),
        {"destination": GROUP6, "interface_index": 7},
    ),
    (BOTH_LINUXES, 41, 52, struct.pack("=I", 0xFF), {"hop_limit": 255}),
    (BOTH_LINUXES, 41, 67, struct.pack("=I", 0xB8), {"traffic_class": 0xB8}),
    (BOTH_LINUXES, 17, 104, struct.pack("=I", 0x40), {"segment_size": 64}),
    (
        [LINUX],
        1,
        35,
        struct.pack("=qq", 1_763_834_000, 123_456_789),
        {"timestamp": 1_763_834_000_123_456_789},
    ),
    (
        [LINUX_32BIT],
        1,
        35,
        struct.pack("=II", 1_763_834_000, 123_456_789),
        {"timestamp": 1_763_834_000_123_456_789},
    ),
    (
        [LINUX_32BIT],
        1,
        35,
        struct.pack("=ii", -(2**31), 5),
        {"timestamp": 2**31 * 10**9 + 5},
    ),
    (
        [MACOS],
        0,
        26,
        struct.pack("=I", 7) + bytes(4) + GROUP4,
        {"destination": GROUP4, "interface_index": 7},
    ),
    ([MACOS], 0, 24, b"\x40", {"hop_limit": 64}),
    ([MACOS], 0, 27, b"\xb8", {"traffic_class": 0xB8}),
    (
        [MACOS],
        41,
        46,
        GROUP6 + struct.pack("=I", 0x07),
        {"destination": GROUP6, "interface_index": 7},
    ),
    ([MACOS], 41, 47, struct.pack("=I", 0x40), {"hop_limit": 64}),
    ([MACOS], 41, 36, struct.pack("=I", 0xB8), {"traffic_class": 0xB8}),
    (
        [MACOS],
        0xFFFF,
        2,
        struct.pack("=qi4x", 1_763_834_000, 123_456),
        {"timestamp": 1_763_834_000_123_456_000},
    ),
    (
        [WINDOWS],
        0,
        19,
        GROUP4 + struct.pack("=I", 0x07),
        {"destination": GROUP4, "interface_index": 7},
    ),
    ([WINDOWS], 0, 4, struct.pack("=I", 0x40), {"hop_limit": 64}),
    ([WINDOWS], 0, 3, struct.pack("=I", 0xB8), {"traffic_class": 0xB8}),
    (
        [WINDOWS],
        41,
        19,
        GROUP6 + struct.pack("=I", 0x07),
        {"destination": GROUP6, "interface_index": 7},
    ),
    ([WINDOWS], 41, 21, struct.pack("=I", 0x40), {"hop_limit": 64}),
    ([WINDOWS], 41, 39, struct.pack("=I", 0xB8), {"traffic_class": 0xB8}),
    ([WINDOWS], 17, 3, struct.pack("=I", 0x40), {"segment_size": 64}),
]
CASES = [
    pytest.param(platform, level, kind, payload, said, id=f"{platform.name} {level}:{kind}")
    for listed, level, kind, payload, said in MESSAGES
    for platform in listed
]


@pytest.mark.parametrize(("platform", "level", "kind", "payload", "said"), CASES)
def test_a_message_is_read(
    platform: Platform, level: int, kind: int, payload: bytes, said: dict[str, Any]
) -> None:
    found = read_ancillary_untrusted(platform, [(level, kind, payload)])
    assert found == AncillaryData(**said)


@pytest.mark.parametrize(("platform", "level", "kind", "payload", "said"), CASES)
def test_a_message_of_another_length_is_passed_over(
    platform: Platform, level: int, kind: int, payload: bytes, said: dict[str, Any]
) -> None:
    for wrong in (b"", payload[:-1], payload + b"\0"):
        assert read_ancillary_untrusted(platform, [(level, kind, wrong)]) == AncillaryData()


def test_every_message_in_the_tables_is_tried() -> None:
    tried = {(p, level, kind) for listed, level, kind, *_ in MESSAGES for p in listed}
    assert tried == {(p, row.level, row.type) for p in PLATFORMS[:-1] for row in p.ancillary}


def test_several_messages_come_together() -> None:
    found = read_ancillary_untrusted(
        LINUX,
        [
            (1, 35, struct.pack("=qq", 1, 2)),
            (0, 2, struct.pack("=I", 0x01)),
            (0, 999, b"unknown"),
            (0, 1, b"\0"),
        ],
    )
    assert found == AncillaryData(hop_limit=1, timestamp=1_000_000_002, traffic_class=0)


def test_no_messages_say_nothing() -> None:
    found = read_ancillary_untrusted(MACOS, [])
    assert type(found) is AncillaryData
    assert found == (None, None, None, None, None, None)


numbers = st.integers(-(2**31), 2**31 - 1)
known_headers = st.sampled_from([(r.level, r.type) for p in PLATFORMS for r in p.ancillary])
messages = st.tuples(known_headers | st.tuples(numbers, numbers), st.binary(max_size=40)).map(
    lambda pair: (*pair[0], pair[1])
)


@given(platforms, st.lists(messages))
def test_any_messages_are_survived(platform: Platform, items: list[tuple[int, int, bytes]]) -> None:
    assert isinstance(read_ancillary_untrusted(platform, items), AncillaryData)


# --- Reading a raw control buffer --------------------------------------------------------------

# header, where the payload begins, alignment: independently of the tables
WIRE = {
    LINUX: ("=Qii", 16, 8),
    LINUX_32BIT: ("=Iii", 12, 4),
    MACOS: ("=Iii", 12, 4),
    WINDOWS: ("=Qii", 16, 8),
    WINDOWS_32BIT: ("=Iii", 12, 4),
}


def fill_control_buffer(platform: Platform, items: list[tuple[int, int, bytes]]) -> bytes:
    """As the kernel does it: header, payload, padding, and again."""
    header, offset, alignment = WIRE[platform]
    filled = b""
    for level, kind, payload in items:
        head = struct.pack(header, offset + len(payload), level, kind).ljust(offset, b"\0")
        filled += head + payload
        filled += bytes(-len(filled) % alignment)
    return filled


@given(platforms, st.lists(messages))
def test_messages_are_taken_out_of_a_buffer(
    platform: Platform, items: list[tuple[int, int, bytes]]
) -> None:
    filled = fill_control_buffer(platform, items)
    assert read_control_buffer_untrusted(platform, filled) == items
    assert read_control_buffer_untrusted(platform, memoryview(filled)) == items
    assert read_control_buffer_untrusted(platform, bytearray(filled)) == items


@given(platforms, st.lists(messages), st.integers(0, 100))
def test_zeros_behind_the_messages_are_nothing(
    platform: Platform, items: list[tuple[int, int, bytes]], zeros: int
) -> None:
    filled = fill_control_buffer(platform, items) + bytes(zeros)
    assert read_control_buffer_untrusted(platform, filled) == items


@given(platforms, st.lists(messages, min_size=1), st.data())
def test_a_buffer_cut_short_gives_the_whole_messages_before_the_cut(
    platform: Platform, items: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    filled = fill_control_buffer(platform, items)
    cut = data.draw(st.integers(0, len(filled)))
    _, offset, alignment = WIRE[platform]
    padded = [len(p) + offset + -(len(p) + offset) % alignment for *_, p in items]
    starts = [0, *accumulate(padded)]
    whole = [
        item
        for item, start in zip(items, starts, strict=False)
        if start + offset + len(item[2]) <= cut
    ]
    assert read_control_buffer_untrusted(platform, filled[:cut]) == whole


@given(platforms, st.binary(max_size=300))
def test_any_buffer_is_survived(platform: Platform, data: bytes) -> None:
    for _, _, payload in read_control_buffer_untrusted(platform, data):
        assert isinstance(payload, bytes)


@pytest.mark.parametrize("platform", PLATFORMS, ids=repr)
def test_a_length_that_cannot_be_ends_the_reading(platform: Platform) -> None:
    header, offset, _ = WIRE[platform]
    for length in (0, 1, offset - 1, offset + 65, 2**31, 2**32 - 1):
        data = struct.pack(header, length, 0, 2).ljust(offset, b"\0") + bytes(64)
        assert read_control_buffer_untrusted(platform, data) == []


# --- Reading many raw control buffers at once --------------------------------------------------

STRIDE = 320


def read_batch(platform: Platform, buffers: list[bytes]) -> list[AncillaryData]:
    """The columns as rows again."""
    data = b"".join(buffer.ljust(STRIDE, b"\0") for buffer in buffers)
    lengths = [len(buffer) for buffer in buffers]
    columns = read_control_batch_untrusted(platform, memoryview(data), STRIDE, lengths)
    rows = zip(*columns, strict=False)
    return [AncillaryData(*row) for row in islice(rows, len(buffers))]


def read_singly(platform: Platform, buffers: list[bytes]) -> list[AncillaryData]:
    return [
        read_ancillary_untrusted(platform, read_control_buffer_untrusted(platform, buffer))
        for buffer in buffers
    ]


@st.composite
def alike_buffers(draw: st.DrawFn) -> tuple[Platform, list[bytes]]:
    """Buffers with the same messages in the same order, and all sorts of payloads."""
    platform = draw(platforms)
    rows = [(r.level, r.type, struct.calcsize(r.layout)) for r in platform.ancillary]
    unknown = st.tuples(numbers, numbers, st.integers(0, 30))
    shape = draw(st.lists(st.sampled_from(rows) | unknown, max_size=5))
    buffers = [
        fill_control_buffer(
            platform,
            [(level, kind, draw(st.binary(min_size=n, max_size=n))) for level, kind, n in shape],
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    return platform, buffers


@given(alike_buffers())
def test_alike_buffers_say_together_what_they_say_singly(
    case: tuple[Platform, list[bytes]],
) -> None:
    assert read_batch(*case) == read_singly(*case)


some_messages = st.lists(messages, max_size=3)


@given(platforms, st.lists(some_messages | st.just([(0, 2, struct.pack("=I", 0x40))]), max_size=6))
def test_different_buffers_say_together_what_they_say_singly(
    platform: Platform, batch: list[list[tuple[int, int, bytes]]]
) -> None:
    buffers = [fill_control_buffer(platform, items) for items in batch]
    assert read_batch(platform, buffers) == read_singly(platform, buffers)


@given(
    platforms,
    st.integers(0, 60).flatmap(lambda n: st.lists(st.binary(min_size=n, max_size=n), max_size=5)),
)
def test_any_batch_is_survived(platform: Platform, buffers: list[bytes]) -> None:
    assert read_batch(platform, buffers) == read_singly(platform, buffers)


def test_buffers_of_one_length_may_still_differ() -> None:
    hop_limit, other = (0, 2, struct.pack("=I", 0x40)), (0, 99, struct.pack("=I", 0x40))
    alike, different = ([hop_limit] * 4, [hop_limit, other, hop_limit, other])
    for items in (alike, different, alike, [other] * 4, alike):
        buffers = [fill_control_buffer(LINUX, [item]) for item in items]
        said = [AncillaryData(hop_limit=64 if item is hop_limit else None) for item in items]
        assert read_batch(LINUX, buffers) == said


def test_a_batch_keeps_its_time_and_order() -> None:
    buffers = [
        fill_control_buffer(
            MACOS, [(0xFFFF, 2, struct.pack("=qi4x", second, 7)), (0, 24, bytes([second]))]
        )
        for second in range(64)
    ]
    assert read_batch(MACOS, buffers) == [
        AncillaryData(hop_limit=second, timestamp=second * 10**9 + 7_000) for second in range(64)
    ]


def test_a_batch_of_silent_buffers_says_nothing() -> None:
    assert read_batch(LINUX, []) == []
    assert read_batch(LINUX, [b""] * 5) == [AncillaryData()] * 5
