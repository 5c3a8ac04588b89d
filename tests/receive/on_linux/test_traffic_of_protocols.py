"""Traffic that is shaped as that of well-known protocols is, several at once, byte for byte.

The sizes and the rhythm are those of the protocols' descriptions; the groups and the port are the
tests' own.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
from namespaces.network import Card, Talker
from namespaces.opening import Hear
from namespaces.receiving import everything

from trio_mcast import Datagram, MulticastReceiver

SECONDS = 0.4
"""How long the traffic goes on."""


@dataclass(frozen=True, order=True)
class Sending:
    """What is sent, when, in seconds from the beginning, and to which stream's group."""

    when: float
    stream: str
    data: bytes


# --- The protocols --------------------------------------------------------------------------------


def ssdp() -> Iterator[tuple[float, bytes]]:
    """UPnP Device Architecture 2.0: searches are repeated, and a device announces all it has."""
    search = (
        b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
        b'MAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n'
    )
    for number in range(3):
        yield 0.1 * number, search
    for number in range(12):
        yield (
            0.05,
            b"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=1800\r\n"
            b"LOCATION: http://192.0.2.7:49152/description.xml\r\nNTS: ssdp:alive\r\n"
            b"SERVER: Linux/6.1 UPnP/2.0 test/1.0\r\nNT: urn:schemas-upnp-org:service:A:%d\r\n"
            b"USN: uuid:00000000-0000-0000-0000-%012d::urn:A\r\n\r\n" % (number, number),
        )


def mdns() -> Iterator[tuple[float, bytes]]:
    """RFC 6762: a question, asked again after twice the time; and long answers."""
    name = b"\x05_http\x04_tcp\x05local\0"
    for number in range(4):
        yield 0.04 * (2**number - 1), struct.pack("!6H", 0, 0, 1, 0, 0, 0) + name + b"\0\x0c\0\x01"
        answer = struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0) + name + b"\0\x0c\x80\x01\0\0\x11\x94"
        text = random.Random(number).randbytes(1200 - 100 * number)
        yield 0.04 * (2**number - 1) + 0.02, answer + struct.pack("!H", len(text)) + text


def sacn(universe: int) -> Iterator[tuple[float, bytes]]:
    """ANSI E1.31: 638 bytes for 512 channels, 44 times a second, all universes in a burst."""
    root = struct.pack("!HH12sHI16s", 16, 0, b"ASC-E1.17\0\0\0", 0x726E, 4, b"component of 16 ")
    for number in range(int(44 * SECONDS)):
        framing = struct.pack("!HI64sBHBBH", 0x7258, 2, b"desk", 100, 0, number, 0, universe)
        dmp = struct.pack("!HBBHHH", 0x720B, 2, 0xA1, 0, 1, 513)
        levels = bytes((number + channel) % 256 for channel in range(512))
        data = root + framing + dmp + b"\0" + levels
        assert len(data) == 638
        yield number / 44, data


def mpeg_over_rtp() -> Iterator[tuple[float, bytes]]:
    """RFC 2250: seven transport packets of 188 bytes in each, at 10 Mbit/s."""
    for number in range(int(SECONDS * 10e6 / 8 / 1316)):
        header = struct.pack("!BBHII", 0x80, 33, number, number * 90, 0x1234)
        packets = b"".join(
            b"\x47"
            + struct.pack("!HB", 0x100, 0x10 | (number * 7 + each) % 16)
            + bytes([each]) * 184
            for each in range(7)
        )
        assert len(packets) == 1316
        yield number * 1316 * 8 / 10e6, header + packets


def ptp() -> Iterator[tuple[float, bytes]]:
    """IEEE 1588: Sync and Delay_Req of 44 bytes, Announce of 64, 64 times a second."""
    for number in range(int(64 * SECONDS)):
        for kind, size in ((0, 44), (1, 44), (8, 44), (11, 64)):
            header = struct.pack(
                "!BBHBBHQI10sHBb", kind, 2, size, 0, 0, 0, 0, 0, b"clock", number, 0, 0
            )
            yield number / 64, header.ljust(size, b"\0")


def market_data() -> Iterator[tuple[float, bytes]]:
    """MoldUDP64: messages of 20 to 1,400 bytes, many in an instant, then a pause."""
    chance = random.Random(64)
    number = 0
    for burst in range(8):
        for _ in range(chance.randint(20, 60)):
            header = struct.pack("!10sQH", b"SESSION001", number, 1)
            number += 1
            yield burst * 0.05, header + chance.randbytes(chance.randint(0, 1380))


def beats() -> Iterator[tuple[float, bytes]]:
    """To be heard at all: nothing is said, or now and then a byte."""
    for number in range(100):
        yield number * SECONDS / 100, b"" if number % 10 else b"%d" % (number // 10)


def jumbos() -> Iterator[tuple[float, bytes]]:
    """More than the MTU of 1,500: they come in 7 fragments each."""
    for number in range(10):
        yield number * 0.03, random.Random(number).randbytes(9000)


def largest() -> Iterator[tuple[float, bytes]]:
    """The most that UDP over IPv4 takes, in 45 fragments."""
    for number in range(4):
        yield number * 0.08, random.Random(number).randbytes(65_507)


STREAMS: dict[str, tuple[str, Callable[[], Iterator[tuple[float, bytes]]]]] = {
    "SSDP": ("233.252.0.1", ssdp),
    "mDNS": ("233.252.0.2", mdns),
    "mDNS over IPv6": ("ff12::4d43:2", mdns),
    "sACN 1": ("233.252.0.3", lambda: sacn(1)),
    "sACN 2": ("233.252.0.4", lambda: sacn(2)),
    "sACN 3": ("233.252.0.5", lambda: sacn(3)),
    "sACN 4 over IPv6": ("ff15::4d43:5", lambda: sacn(4)),
    "MPEG": ("233.252.0.6", mpeg_over_rtp),
    "PTP": ("233.252.0.7", ptp),
    "PTP over IPv6": ("ff12::4d43:7", ptp),
    "market data": ("233.252.0.8", market_data),
    "beats": ("233.252.0.9", beats),
    "beats over IPv6": ("ff15::4d43:9", beats),
    "jumbos": ("233.252.0.10", jumbos),
    "jumbos over IPv6": ("ff15::4d43:a", jumbos),
    "the largest": ("233.252.0.11", largest),
}


# --- Hearing them ---------------------------------------------------------------------------------


def replay(sendings: list[Sending], talkers: dict[str, Talker]) -> None:
    began = time.monotonic()
    for sending in sendings:
        if (pause := began + sending.when - time.monotonic()) > 0:
            time.sleep(pause)
        talkers[sending.stream].send(sending.data)


async def receive(receiver: MulticastReceiver, count: int) -> list[Datagram]:
    return [await receiver.receive() for _ in range(count)]


async def receive_batch(receiver: MulticastReceiver, count: int) -> list[Datagram]:
    found: list[Datagram] = []
    while len(found) < count:
        found += await receiver.receive_batch(count - len(found))
    return found


async def batches(receiver: MulticastReceiver, count: int) -> list[Datagram]:
    found: list[Datagram] = []
    async for batch in receiver.batches():
        found += batch
        if len(found) >= count:
            break
    return found


@pytest.mark.parametrize("way", [receive, receive_batch, batches])
def test_all_protocols_at_once_are_heard_byte_for_byte(
    there: Card,
    hear: Hear,
    udp_port: int,
    way: Callable[[MulticastReceiver, int], Awaitable[list[Datagram]]],
) -> None:
    groups = {name: group for name, (group, _) in STREAMS.items()}
    talkers = {name: there.talker(group, udp_port) for name, group in groups.items()}
    # Equal times stay in the streams' own order.
    sendings = sorted(
        (Sending(when, name, data) for name, (_, make) in STREAMS.items() for when, data in make()),
        key=lambda sending: sending.when,
    )
    sent: dict[str, list[bytes]] = {group: [] for group in groups.values()}
    for sending in sendings:
        sent[groups[sending.stream]].append(sending.data)

    async def main(receiver: MulticastReceiver) -> None:
        replaying = threading.Thread(target=replay, args=(sendings, talkers))
        replaying.start()
        try:
            found = await way(receiver, len(sendings))
        finally:
            replaying.join()
        heard: dict[str, list[bytes]] = {group: [] for group in groups.values()}
        ports = {groups[name]: talker.port for name, talker in talkers.items()}
        for datagram in found:
            group = str(datagram.group)
            heard[group].append(datagram.data)
            assert datagram.source[1] == ports[group]
            assert not datagram.truncated
        for name, group in groups.items():
            assert heard[group] == sent[group], name
        assert await everything(receiver) == []
        statistics = receiver.statistics()
        assert statistics.bytes_received == sum(len(sending.data) for sending in sendings)
        assert (statistics.dropped_by_kernel, statistics.dropped_by_overflow) == (0, 0)

    hear(main, *groups.values())
