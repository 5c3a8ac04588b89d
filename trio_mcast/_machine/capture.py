"""Datagrams as they come in, before firewall and routes have a say (packet(7)).

It takes CAP_NET_RAW. Interfaces are not made promiscuous: what the card does not let in stays out.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from .._base.snapshot import Sighting
from .inspector import Frame

assert not TYPE_CHECKING or sys.platform == "linux"

_ETH_P_ALL: Final = 3  # linux/if_ether.h; only this one is before netfilter's ingress hook
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_MOST_BYTES: Final = 128  # headers are all there is to see
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_BROADCAST: Final = IPv4Address("255.255.255.255")
_FRAMES_PER_READ: Final = 256

# linux/if_packet.h: what comes beside a frame
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_AUXDATA: Final = 8
_AUXDATA: Final = struct.Struct("=IIIHHHH")  # tpacket_auxdata: status, length, ..., VLAN tag, ...
_CHECKSUM_NOT_READY: Final = 1 << 3  # TP_STATUS_CSUMNOTREADY
_VLAN_VALID: Final = 1 << 4  # TP_STATUS_VLAN_VALID
_OTHER_HOST: Final = 3  # PACKET_OTHERHOST
_LOOPBACK: Final = 772  # ARPHRD_LOOPBACK in linux/if_arp.h

_PROTOCOL_FRAGMENT: Final = 44
_PROTOCOL_ICMPV6: Final = 58
_EXTENSIONS: Final = (0, 43, 60)  # hop-by-hop options, routing, destination options

# Classic BPF (linux/bpf_common.h): code, jump if true, jump if false, operand. A packet begins with
# its IP header. Taken is what comes in (not PACKET_OUTGOING 4, PACKET_LOOPBACK 5) and goes to a
# group, so that no other traffic costs anything.
_LD_WORD, _LD_BYTE, _AND, _JUMP_IF_ABOVE, _JUMP_IF, _RETURN = 0x20, 0x30, 0x54, 0x25, 0x15, 0x06
_PACKET_TYPE: Final = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_FILTER: Final = (
    (_LD_WORD, 0, 0, _PACKET_TYPE),
    (_JUMP_IF_ABOVE, 9, 0, 3),
    (_LD_BYTE, 0, 0, 0),
    (_AND, 0, 0, 0xF0),
    (_JUMP_IF, 0, 3, 0x40),
    (_LD_BYTE, 0, 0, 16),
    (_AND, 0, 0, 0xF0),
    (_JUMP_IF, 4, 3, 0xE0),
    (_JUMP_IF, 0, 2, 0x60),
    (_LD_BYTE, 0, 0, 24),
    (_JUMP_IF, 1, 0, 0xFF),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _MOST_BYTES),
)


class PacketCapture:
    """A socket that is readable when something came in.

    Raises:
      OSError: this user may not
    """

    @trio.lowlevel.enable_ki_protection
    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            self._attach_filter()
            self._ask_for_auxiliary_data()
            self._drain()  # of what got in before the filter was there
        except BaseException:
            self.socket.close()
            raise

    def _attach_filter(self) -> None:
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER)
        buffer = ctypes.create_string_buffer(code)
        # sock_fprog: count, padding, pointer
        program = struct.pack("@HP", len(_FILTER), ctypes.addressof(buffer))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def _ask_for_auxiliary_data(self) -> None:
        try:
            self.socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        except OSError:  # an emulator: it goes without
            pass

    def _drain(self) -> None:
        try:
            while True:
                self.socket.recv(1)
        except OSError:  # nothing more
            pass

    def read(self) -> list[Frame]:
        """Some of what has come in since the last call. It does not wait."""
        found = []
        space = socket.CMSG_SPACE(_AUXDATA.size)
        for _ in range(_FRAMES_PER_READ):
            try:
                data, ancillary, _flags, address = self.socket.recvmsg(_MOST_BYTES, space)
            except OSError:  # nothing more; or an interface went down, which is no matter here
                break
            interface, _protocol, kind, hardware, *_ = address
            envelope = _read_envelope(ancillary, kind == _OTHER_HOST, hardware == _LOOPBACK)
            frame = read_frame_untrusted(interface, data, envelope)
            if frame is not None:
                found.append(frame)
        return found

    def close(self) -> None:
        self.socket.close()


class Envelope(NamedTuple):
    """What the kernel tells of a frame beside its bytes.

    Attributes:
      length: from the IP header on, before it was cut to what is read here; None: not known
      vlan: the VLAN it is tagged with; 0: none
      has_checksum: False: the card would have made it, but the frame never left this machine
    """

    length: int | None = None
    vlan: int = 0
    is_for_other_host: bool = False
    is_looped: bool = False
    has_checksum: bool = True


def _read_envelope(
    ancillary: list[tuple[int, int, bytes]], is_for_other_host: bool, is_looped: bool
) -> Envelope:
    for level, kind, value in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(value) >= _AUXDATA.size:
            status, length, _, _, _, tag, _ = _AUXDATA.unpack_from(value)
            vlan = tag & 0xFFF if status & _VLAN_VALID else 0
            has_checksum = not status & _CHECKSUM_NOT_READY
            return Envelope(length, vlan, is_for_other_host, is_looped, has_checksum)
    return Envelope(None, 0, is_for_other_host, is_looped)


class _Packet(NamedTuple):
    """What matters of an IP header, and where what it carries begins and ends.

    Attributes:
      end: None: not known, as of a jumbogram
      flaw: what is wrong with the header
    """

    source: IPv4Address | IPv6Address
    group: IPv4Address | IPv6Address
    hop_limit: int
    protocol: int
    start: int
    end: int | None
    is_fragment: bool
    flaw: str


def read_frame_untrusted(interface: str, data: bytes, envelope: Envelope) -> Frame | None:
    """What a frame is; None if it is none of what is looked for, or too short to tell."""
    try:
        version = data[0] >> 4
        packet = _read_ipv4(data) if version == 4 else _read_ipv6(data) if version == 6 else None
        if packet is None:
            return None
        start, port = packet.start, None
        flaw = _find_flaw(packet, envelope)
        if packet.protocol == socket.IPPROTO_UDP:
            _, port, length, checksum = struct.unpack_from("!HHHH", data, start)
            flaw = flaw or _find_flaw_of_udp(packet, length, checksum, envelope)
        elif (packet.protocol, data[start]) not in _QUERIES:
            return None
    except (IndexError, struct.error):  # cut short
        return None
    sighting = Sighting(interface, packet.source, packet.group, port, packet.hop_limit)
    return Frame(sighting, flaw)


_QUERIES: Final = (
    (socket.IPPROTO_IGMP, 0x11),  # RFC 3376 s4
    (_PROTOCOL_ICMPV6, 130),  # RFC 3810 s5
)


def _read_ipv4(data: bytes) -> _Packet | None:
    _, _, length, _, fragment, hop_limit, protocol, _, source, group = _IPV4.unpack_from(data)
    start = 4 * (data[0] & 0xF)
    if start < _IPV4.size or fragment & 0x1FFF:  # not the first fragment: no ports
        return None
    flaw = "" if _sums_up(data[:start]) else "the checksum of its IP header is wrong"
    is_fragment = bool(fragment & 0x2000)
    addresses = IPv4Address(source), IPv4Address(group)
    return _Packet(*addresses, hop_limit, protocol, start, length, is_fragment, flaw)


def _read_ipv6(data: bytes) -> _Packet | None:
    _, length, protocol, hop_limit, source, group = _IPV6.unpack_from(data)
    start, is_fragment = _IPV6.size, False
    while protocol in _EXTENSIONS or protocol == _PROTOCOL_FRAGMENT:
        following, size = data[start], 8 + 8 * data[start + 1]
        if protocol == _PROTOCOL_FRAGMENT:
            size = 8
            (fragment,) = struct.unpack_from("!H", data, start + 2)
            if fragment & 0xFFF8:
                return None
            is_fragment = is_fragment or bool(fragment & 1)
        protocol, start = following, start + size
    end = _IPV6.size + length if length else None
    addresses = IPv6Address(source), IPv6Address(group)
    return _Packet(*addresses, hop_limit, protocol, start, end, is_fragment, "")


def _find_flaw(packet: _Packet, envelope: Envelope) -> str:
    """Why this host takes no such packet, as far as the frame itself tells; empty: it may."""
    source = packet.source
    if envelope.vlan:
        return f"it is tagged with VLAN {envelope.vlan}"
    if envelope.is_for_other_host:
        return "it is sent to the Ethernet address of another host"
    if packet.flaw:
        return packet.flaw
    if packet.end is not None and envelope.length is not None and packet.end > envelope.length:
        return "its IP header tells a length that it does not have"
    is_broadcast = source == _BROADCAST
    is_foreign_loopback = source.version == 6 and source.is_loopback and not envelope.is_looped
    if source.is_multicast or is_broadcast or is_foreign_loopback:
        return f"{source} is no address to send from"
    return ""


def _find_flaw_of_udp(packet: _Packet, length: int, checksum: int, envelope: Envelope) -> str:
    is_ipv6 = packet.source.version == 6
    room = None if packet.end is None or packet.is_fragment else packet.end - packet.start
    is_any_length = is_ipv6 and not length  # Linux takes it for that of all there is
    if room is not None and not is_any_length and not 8 <= length <= room:
        return "its UDP header tells a length that it does not have"
    if not checksum and is_ipv6 and envelope.has_checksum:
        return "it has no UDP checksum, which IPv6 needs"
    return ""


def _sums_up(header: bytes) -> bool:
    """Whether the checksum of an IPv4 header is right (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    return total % 0xFFFF == 0
