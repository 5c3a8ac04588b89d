"""What a capture makes of frames: anybody may send any bytes."""

from __future__ import annotations

import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from doctor.frames import datagram, fragments, ipv4, ipv6, udp
from hypothesis import example, given, strategies as st

if sys.platform != "linux":
    pytest.skip("packet sockets are Linux'", allow_module_level=True)

from trio_mcast._base.snapshot import Sighting
from trio_mcast._machine.capture import Envelope, read_frame_untrusted
from trio_mcast._machine.inspector import Frame

GROUP4, SOURCE4 = "233.252.0.1", "10.77.1.2"
GROUP6, SOURCE6 = "ff15::4d43:1", "fd77:0:0:1::2"
PORT = 5000

IGMP_QUERY = ipv4(SOURCE4, "224.0.0.1", b"\x11" + bytes(7), protocol=socket.IPPROTO_IGMP)
MLD_QUERY = ipv6(
    "fe80::1", "ff02::1", bytes((58, 0, 5, 2, 0, 0, 1, 0, 130)) + bytes(23), protocol=0
)
WITH_OPTIONS = ipv6(
    SOURCE6,
    GROUP6,
    bytes((60, 0, 1, 4, 0, 0, 0, 0))
    + bytes((17, 0, 1, 4, 0, 0, 0, 0))
    + udp(SOURCE6, GROUP6, PORT),
    protocol=0,
)
FIRST_FRAGMENT6 = ipv6(
    SOURCE6,
    GROUP6,
    bytes((17, 0, 0, 1, 0, 0, 0, 7)) + udp(SOURCE6, GROUP6, PORT, bytes(2000))[:80],
    protocol=44,
)
LATER_FRAGMENT6 = ipv6(
    SOURCE6, GROUP6, bytes((17, 0, 0, 0x51, 0, 0, 0, 7)) + bytes(80), protocol=44
)
DATAGRAM4, DATAGRAM6 = datagram(SOURCE4, GROUP4, PORT), datagram(SOURCE6, GROUP6, PORT)
FRAGMENTS4 = fragments(datagram(SOURCE4, GROUP4, PORT, payload=bytes(4000)))

REAL = [
    *(DATAGRAM4, DATAGRAM6, IGMP_QUERY, MLD_QUERY, WITH_OPTIONS),
    *(FIRST_FRAGMENT6, LATER_FRAGMENT6, *FRAGMENTS4),
]


def read(data: bytes, **envelope: Any) -> Frame | None:
    """What is made of a packet, of which a capture keeps the first bytes."""
    return read_frame_untrusted("eth0", data[:128], Envelope(**{"length": len(data)} | envelope))


def flaw_of(data: bytes, **envelope: Any) -> str:
    frame = read(data, **envelope)
    assert frame is not None
    return frame.flaw


# --- Whatever comes -------------------------------------------------------------------------------

envelopes = st.builds(
    Envelope,
    length=st.none() | st.integers(0, 70_000),
    vlan=st.integers(0, 4095),
    is_for_other_host=st.booleans(),
    is_looped=st.booleans(),
    has_checksum=st.booleans(),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real packet, with some bytes changed and cut off anywhere."""
    data = bytearray(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, min(len(data), 64) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(data=st.binary(max_size=128) | mutated(), envelope=envelopes)
@example(data=b"\x45" + bytes(15) + b"\xef\0", envelope=Envelope())
@example(data=b"\x60" + bytes(23) + b"\xff" + bytes(5), envelope=Envelope())
def test_no_frame_is_too_odd_to_be_read(data: bytes, envelope: Envelope) -> None:
    frame = read_frame_untrusted("eth0", data, envelope)
    assert frame is None or 0 <= frame.sighting.hop_limit <= 255


@pytest.mark.parametrize("packet", REAL)
def test_a_frame_that_ends_too_early_is_passed_over_or_flawed(packet: bytes) -> None:
    for end in range(len(packet[:128])):
        frame = read(packet[:end])
        assert frame is None or frame.flaw


# --- What is right --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "source", "group", "port"),
    [
        (DATAGRAM4, SOURCE4, GROUP4, PORT),
        (DATAGRAM6, SOURCE6, GROUP6, PORT),
        (WITH_OPTIONS, SOURCE6, GROUP6, PORT),
        (FIRST_FRAGMENT6, SOURCE6, GROUP6, PORT),
        (FRAGMENTS4[0], SOURCE4, GROUP4, PORT),
        (IGMP_QUERY, SOURCE4, "224.0.0.1", None),
        (MLD_QUERY, "fe80::1", "ff02::1", None),
    ],
)
def test_datagrams_and_queries_are_seen(
    packet: bytes, source: str, group: str, port: int | None
) -> None:
    kind = IPv6Address if ":" in group else IPv4Address
    assert read(packet) == (Sighting("eth0", kind(source), kind(group), port, 3), "")


@pytest.mark.parametrize("packet", [LATER_FRAGMENT6, *FRAGMENTS4[1:]])
def test_later_fragments_have_no_port_and_are_passed_over(packet: bytes) -> None:
    assert read(packet) is None


def test_what_the_kernel_does_not_tell_of_a_frame_is_no_flaw() -> None:
    assert flaw_of(DATAGRAM4, length=None) == flaw_of(DATAGRAM6, length=None) == ""


def test_a_jumbogram_is_not_taken_for_a_lie_about_its_length() -> None:
    assert flaw_of(DATAGRAM6[:4] + bytes(2) + DATAGRAM6[6:]) == ""


def test_ipv6_datagrams_without_a_length_are_taken_by_linux() -> None:
    assert flaw_of(datagram(SOURCE6, GROUP6, PORT, length=0)) == ""
    assert "UDP header" in flaw_of(datagram(SOURCE4, GROUP4, PORT, length=0))


def test_padding_of_short_frames_is_no_flaw() -> None:
    assert flaw_of(DATAGRAM4 + bytes(9)) == ""


def test_on_loopback_datagrams_may_come_from_there_without_a_checksum() -> None:
    own = datagram("::1", GROUP6, PORT, has_checksum=False)
    assert flaw_of(own, is_looped=True, has_checksum=False) == ""


# --- What is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "envelope", "word"),
    [
        (DATAGRAM4, {"vlan": 5}, "VLAN 5"),
        (DATAGRAM4, {"is_for_other_host": True}, "another host"),
        (ipv4(SOURCE4, GROUP4, udp(SOURCE4, GROUP4, PORT), spoil=1), {}, "checksum of its IP"),
        (DATAGRAM4, {"length": 40}, "IP header"),
        (DATAGRAM6, {"length": 60}, "IP header"),
        (datagram(SOURCE4, GROUP4, PORT, length=30), {}, "UDP header"),
        (datagram(SOURCE6, GROUP6, PORT, length=7), {}, "UDP header"),
        (datagram(SOURCE6, GROUP6, PORT, has_checksum=False), {}, "no UDP checksum"),
        (datagram("239.9.9.9", GROUP4, PORT), {}, "239.9.9.9"),
        (datagram("255.255.255.255", GROUP4, PORT), {}, "255.255.255.255"),
        (datagram("ff02::1", GROUP6, PORT), {}, "ff02::1"),
        (datagram("::1", GROUP6, PORT), {}, "::1"),
    ],
)
def test_what_keeps_a_host_from_taking_a_frame_is_seen(
    packet: bytes, envelope: dict[str, Any], word: str
) -> None:
    assert word in flaw_of(packet, **envelope)


def test_ipv4_may_go_without_a_udp_checksum() -> None:
    assert flaw_of(datagram(SOURCE4, GROUP4, PORT, has_checksum=False)) == ""


def test_a_header_shorter_than_a_header_is_no_packet() -> None:
    assert read(struct.pack("!B", 0x44) + DATAGRAM4[1:]) is None
