"""Datagrams as they come in, before firewall and routes have a say (packet(7)).

It takes CAP_NET_RAW. Interfaces are not made promiscuous: what the card does not let in stays out.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from .._base.snapshot import Sighting

assert not TYPE_CHECKING or sys.platform == "linux"

_ETH_P_ALL: Final = 3  # linux/if_ether.h; only this one is before netfilter's ingress hook
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_PROTOCOL_ICMPV6: Final = 58
_MOST_BYTES: Final = 128  # headers are all there is to see

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

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            self._attach_filter()
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

    def _drain(self) -> None:
        try:
            while True:
                self.socket.recv(1)
        except OSError:  # nothing more
            pass

    def read(self) -> list[Sighting]:
        """What has come in since the last call. It does not wait."""
        found = []
        for _ in range(256):
            try:
                data, address = self.socket.recvfrom(_MOST_BYTES)
            except OSError:  # nothing more; or an interface went down, which is no matter here
                break
            sighting = _read_packet_untrusted(address[0], data)
            if sighting is not None:
                found.append(sighting)
        return found

    def close(self) -> None:
        self.socket.close()


def _read_packet_untrusted(interface: str, data: bytes) -> Sighting | None:
    try:
        if data[0] >> 4 == 4:
            return _read_ipv4(interface, data)
        return _read_ipv6(interface, data)
    except (IndexError, struct.error):  # cut short
        return None


def _read_ipv4(interface: str, data: bytes) -> Sighting | None:
    source, group = IPv4Address(data[12:16]), IPv4Address(data[16:20])
    header = 4 * (data[0] & 0xF)
    if int.from_bytes(data[6:8], "big") & 0x1FFF:  # not the first fragment: no ports
        return None
    if data[9] == socket.IPPROTO_UDP:
        return Sighting(interface, source, group, _read_port(data, header), data[8])
    if data[9] == socket.IPPROTO_IGMP and data[header] == 0x11:  # RFC 3376 s4
        return Sighting(interface, source, group, None, data[8])
    return None


def _read_ipv6(interface: str, data: bytes) -> Sighting | None:
    source, group = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    protocol, header = data[6], 40
    if protocol == 0:  # hop-by-hop options, as MLD has
        protocol, header = data[40], 48 + 8 * data[41]
    if protocol == socket.IPPROTO_UDP:
        return Sighting(interface, source, group, _read_port(data, header), data[7])
    if protocol == _PROTOCOL_ICMPV6 and data[header] == 130:  # RFC 3810 s5
        return Sighting(interface, source, group, None, data[7])
    return None


def _read_port(data: bytes, header: int) -> int:
    port: int = struct.unpack_from("!H", data, header + 2)[0]
    return port
