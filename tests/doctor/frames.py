"""Ethernet frames made by hand, right or with something odd in them."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from namespaces.network import Card


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    return 0xFFFF - sum(struct.unpack(f"!{len(data) // 2}H", data)) % 0xFFFF


def udp(
    source: str,
    group: str,
    port: int,
    payload: bytes = b"are you well?",
    *,
    length: int | None = None,
    has_checksum: bool = True,
) -> bytes:
    length = 8 + len(payload) if length is None else length
    head = struct.pack("!HHH", 4000, port, length)
    addresses = ip_address(source).packed + ip_address(group).packed
    pseudo = addresses + struct.pack("!IHBB", length, 0, 0, socket.IPPROTO_UDP)
    sum_ = checksum(pseudo + head + bytes(2) + payload) if has_checksum else 0
    return head + struct.pack("!H", sum_) + payload


def ipv4(
    source: str,
    group: str,
    payload: bytes,
    *,
    protocol: int = socket.IPPROTO_UDP,
    offset: int = 0,
    more: bool = False,
    identity: int = 7,
    spoil: int = 0,
) -> bytes:
    fragment = more << 13 | offset // 8
    addresses = ip_address(source).packed + ip_address(group).packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), identity, fragment, 3, protocol)
    sum_ = checksum(head + bytes(2) + addresses) ^ spoil
    return head + struct.pack("!H", sum_) + addresses + payload


def ipv6(source: str, group: str, payload: bytes, *, protocol: int = socket.IPPROTO_UDP) -> bytes:
    addresses = ip_address(source).packed + ip_address(group).packed
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 3) + addresses + payload


def datagram(source: str, group: str, port: int, **of_udp: object) -> bytes:
    """A packet with a UDP datagram that is right, but for what is asked for."""
    carried = udp(source, group, port, **of_udp)  # type: ignore[arg-type]
    return ipv6(source, group, carried) if ":" in group else ipv4(source, group, carried)


def ethernet(packet: bytes, *, to: bytes | None = None, vlan: int | None = None) -> bytes:
    """A frame for a packet to a group, whose bytes may end anywhere."""
    six = packet[:1] >= b"\x60"
    to = to or (b"\x33\x33\0\0\0\1" if six else b"\x01\0\x5e\0\0\1")
    tag = b"" if vlan is None else b"\x81\0" + struct.pack("!H", vlan)
    return to + b"\x02\0\0\0\0\x99" + tag + (b"\x86\xdd" if six else b"\x08\0") + packet


def fragments(packet: bytes, size: int = 1400) -> list[bytes]:
    """The packets that an IPv4 packet, whose header is of 20 bytes, becomes on its way."""
    (source, group), whole = (str(ip_address(packet[i : i + 4])) for i in (12, 16)), packet[20:]
    return [
        ipv4(source, group, whole[i : i + size], offset=i, more=i + size < len(whole))
        for i in range(0, len(whole), size)
    ]


class FrameTalker:
    """Puts frames on the wire, one after the other and over again, as `sending` does it."""

    def __init__(self, card: Card, frames: Iterable[bytes], *, at_once: int = 1) -> None:
        self._frames = itertools.cycle(frames)
        self._at_once = at_once
        self._socket = card.host.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((card.name, 0))

    def send(self, _: bytes) -> None:
        for frame in itertools.islice(self._frames, self._at_once):
            self._socket.send(frame)
