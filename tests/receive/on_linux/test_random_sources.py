"""A neighbour that makes its addresses up: a different one in each frame."""

from __future__ import annotations

import gc
import random
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
import trio
from namespaces.network import Card
from namespaces.receiving import BOTH
from patience import LONG

import trio_mcast
from trio_mcast import Datagram, MulticastReceiver

COUNT = 50_000
WARM = 5_000
"""After so many, everything that is remembered is full."""

AT_ONCE = 250
"""As many as the kernel's queues surely take while nobody reads."""

MAY_GROW = 10_000
"""Pieces of memory. A thousand sources that are remembered take some 5,000, and are forgotten all
at once; what remembers every source takes 200,000."""


def checksum(*parts: bytes) -> int:
    """RFC 1071: the sum of 16-bit words is the rest that a number leaves when divided."""
    return 0xFFFF - int.from_bytes(b"".join(parts), "big") % 0xFFFF


class Forger:
    """Sends frames to a group that say that they come from anywhere."""

    def __init__(self, card: Card, group: str, port: int) -> None:
        self._random = random.Random(group)
        self._group = ip_address(group).packed
        self._port = port
        self._socket = card.host.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((card.name, 0))
        card.host.network.sockets.append(self._socket)
        addresses = trio_mcast.ethernet_address(group) + card.mac
        kind = b"\x08\x00" if len(self._group) == 4 else b"\x86\xdd"
        self._ethernet = bytes.fromhex(addresses.replace(":", "")) + kind

    def send(self, count: int) -> None:
        """Each has its source in its payload, too."""
        for _ in range(count):
            source = self._make_up_source()
            source_port = self._random.randint(1, 0xFFFF)
            data = struct.pack("!H", source_port) + source
            data += bytes(self._random.randint(0, 200))
            self._socket.send(self._ethernet + self._make_packet(source, source_port, data))

    def _make_up_source(self) -> bytes:
        if len(self._group) == 4:
            return bytes([self._random.randint(11, 99)]) + self._random.randbytes(3)
        return b"\x20\x01" + self._random.randbytes(14)

    def _make_packet(self, source: bytes, source_port: int, data: bytes) -> bytes:
        size = 8 + len(data)
        udp = struct.pack("!HHHH", source_port, self._port, size, 0)
        if len(source) == 4:  # where no checksum is needed for UDP
            ip = struct.pack("!BBHIBBH", 0x45, 0, 20 + size, 0, 1, socket.IPPROTO_UDP, 0)
            ip = ip[:10] + struct.pack("!H", checksum(ip, source, self._group)) + ip[12:]
        else:
            ip = struct.pack("!IHBB", 6 << 28, size, socket.IPPROTO_UDP, 1)
            pseudo = struct.pack("!IHBB", size, 0, 0, socket.IPPROTO_UDP)
            padding = bytes(len(data) % 2)
            found = checksum(source, self._group, pseudo, udp, data, padding)
            udp = udp[:6] + struct.pack("!H", found)
        return ip + source + self._group + udp + data


def check(datagram: Datagram) -> None:
    """What is remembered of one source is not told of another."""
    packed = datagram.data[2 : 2 + len(datagram.group.packed)]
    expected = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    assert datagram.source[:2] == (str(expected), *struct.unpack_from("!H", datagram.data))


def blocks_in_use() -> int:
    """The interpreter's own count: steadier than the process's size, and cheap."""
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("group", BOTH)
def test_as_many_sources_as_there_are_datagrams_let_nothing_grow(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    for name in ("all", "eth0"):  # or the kernel drops what it has no route back to
        here.host.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)
    forger = Forger(there, group, udp_port)

    async def receive_some(receiver: MulticastReceiver, count: int) -> None:
        for _ in range(count // AT_ONCE):
            forger.send(AT_ONCE)
            missing = AT_ONCE
            while missing:
                batch = await receiver.receive_batch(missing)
                missing -= len(batch)
                for datagram in batch:
                    check(datagram)

    async def main() -> None:
        with trio.fail_after(LONG):
            async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
                await receive_some(receiver, WARM)
                before = blocks_in_use()
                await receive_some(receiver, COUNT - WARM)
                assert blocks_in_use() - before < MAY_GROW
                assert receiver.statistics().dropped_by_kernel == 0

    here.host.call(trio.run, main)
