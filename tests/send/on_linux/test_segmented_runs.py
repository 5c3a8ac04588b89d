"""Runs of equal datagrams, which the kernel cuts apart and merges again (UDP_SEGMENT, UDP_GRO)."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterable

import pytest
from namespaces.network import Card, Talker
from namespaces.opening import Hear
from namespaces.receiving import BOTH, everything

import trio_mcast
from trio_mcast import Datagram, MulticastReceiver, PacketInfoName

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h

MTU = 1500
HEADERS = 48  # of IPv6 and UDP, the larger ones
MOST_SEGMENTS = 64
LARGEST_BUFFER = 65_000  # that the library gives to the kernel at once

EVERYTHING: tuple[PacketInfoName, ...] = ("hop_limit", "timestamp", "traffic_class")


def pattern(*sizes: int) -> list[bytes]:
    """Datagrams of these sizes, no two alike where their size allows it."""
    numbers = itertools.count()
    return [(b"%d." % next(numbers) * (size // 2 + 1))[:size] for size in sizes]


def mixed() -> Iterable[int]:
    """Runs and single ones in turn, and runs that differ by a byte."""
    for length in (1, 2, 63, 1, 64, 1, 65, 3):
        yield from [100] * length
        yield 101
        yield 0
        yield from [99] * 2


# By the names that the tests have then.
RUNS: dict[str, list[int]] = {
    "64": [100] * MOST_SEGMENTS,
    "64, the last shorter": [100] * (MOST_SEGMENTS - 1) + [99],
    "65": [100] * (MOST_SEGMENTS + 1),
    "3 times 64 and one": [200] * (3 * MOST_SEGMENTS + 1),
    "as large as can be segmented": [MTU - HEADERS] * 100,
    "a byte larger": [MTU - HEADERS + 1] * 50,
    "as many bytes as go at once": [LARGEST_BUFFER // MOST_SEGMENTS] * 130,
    "a byte too many for 64": [LARGEST_BUFFER // MOST_SEGMENTS + 1] * 130,
    "one byte": [1] * 200,
    "empty": [0] * 70,
    "empty between": [50] * 10 + [0] + [50] * 10 + [0, 0] + [50],
    "mixed": list(mixed()),
    "longer and longer": list(range(200)),
}


def check_infos(found: list[Datagram], infos: tuple[PacketInfoName, ...]) -> None:
    """Each tells what was asked for, also one that travelled in the middle of a run."""
    wanted = (7, 0xB8) if infos else (None, None)
    assert {(d.hop_limit, d.traffic_class) for d in found} == {wanted}
    assert {d.timestamp is not None for d in found} == {bool(infos)}
    assert not any(d.truncated for d in found)
    assert len({d.source for d in found}) == 1


@pytest.mark.parametrize("infos", [(), EVERYTHING], ids=["", "packet_info"])
@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("run", RUNS)
def test_a_run_arrives_whole_and_in_order(
    there: Card,
    hear: Hear,
    udp_port: int,
    run: str,
    group: str,
    infos: tuple[PacketInfoName, ...],
) -> None:
    sent = pattern(*RUNS[run])

    async def send() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", hop_limit=7, traffic_class=0xB8
        ) as sender:
            await sender.send_batch(sent)
            assert sender.statistics().datagrams_sent == len(sent)

    async def main(receiver: MulticastReceiver) -> None:
        there.host.run(send)
        found: list[Datagram] = []
        while len(found) < len(sent):
            found += await receiver.receive_batch()
        assert [d.data for d in found] == sent
        check_infos(found, infos)
        assert await everything(receiver) == []
        assert receiver.statistics().datagrams_received == len(sent)
        assert receiver.statistics().bytes_received == sum(map(len, sent))

    hear(main, group, packet_info=infos)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize(
    ("size", "count", "buffers"),
    [
        (100, MOST_SEGMENTS, [MOST_SEGMENTS]),
        (100, MOST_SEGMENTS + 1, [MOST_SEGMENTS, 1]),
        (1, MOST_SEGMENTS, [MOST_SEGMENTS]),
        (MTU - HEADERS, 44, [44]),
        (MTU - HEADERS + 1, 3, [1, 1, 1]),  # which IPv6 could send in fragments only
        (LARGEST_BUFFER // MOST_SEGMENTS, MOST_SEGMENTS, [MOST_SEGMENTS]),
        (LARGEST_BUFFER // MOST_SEGMENTS + 1, MOST_SEGMENTS, [MOST_SEGMENTS - 1, 1]),
        (0, 3, [1, 1, 1]),
    ],
)
def test_a_run_leaves_in_as_few_buffers_as_can_be(
    here: Card, there: Card, udp_port: int, group: str, size: int, count: int, buffers: list[int]
) -> None:
    """A socket that has the kernel merge is given them as they were sent."""
    listener = there.listener(group, udp_port)
    listener.socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sent = pattern(*[size] * count)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send_batch(sent)

    here.host.run(main)
    heard = [listener.receive_data() for _ in buffers]
    if len(heard[0]) == size < size * buffers[0]:
        pytest.skip("this kernel merges nothing between network namespaces: 5.10 is one")
    assert [len(data) for data in heard] == [size * each for each in buffers]
    assert b"".join(heard) == b"".join(sent)


def send_segmented(talker: Talker, port: int, data: bytes, size: int) -> None:
    """What another program may do: one call, and segments of any number up to 64."""
    segments = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
    try:
        talker.socket.sendmsg([data], segments, 0, (talker.group, port))
    except OSError as error:
        pytest.skip(f"this kernel cuts no datagrams apart: {error}")


@pytest.mark.parametrize("infos", [(), EVERYTHING], ids=["", "packet_info"])
@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize(
    ("size", "total"),
    [
        (100, 100 * MOST_SEGMENTS),
        (100, 100 * MOST_SEGMENTS - 1),
        (100, 100 * (MOST_SEGMENTS - 1) + 1),
        (1, MOST_SEGMENTS),
        (MTU - HEADERS, (MTU - HEADERS) * 44),
        (MTU - HEADERS, (MTU - HEADERS) * 43 + 1),
        (1000, 1000),  # one segment is none
        (1000, 999),
    ],
)
def test_what_others_send_in_segments_is_taken_apart(
    there: Card,
    hear: Hear,
    udp_port: int,
    size: int,
    total: int,
    group: str,
    infos: tuple[PacketInfoName, ...],
) -> None:
    """In one call the last may be shorter, which the library itself does not make use of."""
    talker = there.talker(group, udp_port, hop_limit=7, traffic_class=0xB8)
    data = bytes(itertools.islice(itertools.cycle(range(251)), total))
    pieces = [data[start : start + size] for start in range(0, total, size)]

    async def main(receiver: MulticastReceiver) -> None:
        for _ in range(3):  # read singly at first, then in batches
            talker.send(b"before")
            send_segmented(talker, udp_port, data, size)
            talker.send(b"", b"after")
            found: list[Datagram] = []
            while len(found) < len(pieces) + 3:
                found.append(await receiver.receive())
            assert [d.data for d in found] == [b"before", *pieces, b"", b"after"]
            check_infos(found, infos)
        assert await everything(receiver) == []

    hear(main, group, packet_info=infos)
