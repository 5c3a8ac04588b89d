"""Whatever a program and its senders do, and when: each datagram is taken once or counted once.

A seed makes a schedule up: groups, buffers, ways to receive, cancellations, bursts, joins and
leaves. What was sent must then be what was taken, given up for newer ones, or dropped by the
kernel, to the datagram, for each group on each interface.
"""

from __future__ import annotations

import functools
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, Talker, wait_until_async
from namespaces.receiving import everything

import trio_mcast
from trio_mcast import Datagram, MulticastReceiver, ReceiverStatistics, RunningReceiver

SEEDS = [1, 2, 3, 4, 5, 6, 7, 8]
COUNT = 15_000

UDP_SEGMENT = 103  # linux/udp.h
MOST_SEGMENTS = 64

STEADY = ["233.252.0.1", "ff15::4d43:1", "233.252.0.2", "ff12::4d43:2", "233.252.0.3"]
"""Groups that a receiver has from the beginning to the end."""

FLEETING = ["233.252.0.101", "ff15::4d43:101", "233.252.0.102"]
"""Groups that are joined and left all the time."""

Stream: TypeAlias = tuple[str, str]
"""A group on an interface: within one the order is kept."""


class Consumer:
    """A task that takes datagrams, and is cancelled now and then."""

    def __init__(self, seed: int, way: str) -> None:
        self._random = random.Random(seed)
        self._way = way
        self.taken: dict[Stream, list[int]] = {}

    def note(self, *datagrams: Datagram) -> None:
        for datagram in datagrams:
            stream = (str(datagram.group), datagram.interface.name)
            (number,) = struct.unpack_from("=I", datagram.data)
            self.taken.setdefault(stream, []).append(number)

    async def consume(self, receiver: MulticastReceiver) -> None:
        await self._again_and_again(lambda: self._take(receiver))

    async def consume_channel(self, channel: trio.MemoryReceiveChannel[list[Datagram]]) -> None:
        async def take() -> None:
            async for batch in channel:
                self.note(*batch)
                await self._dawdle()

        await self._again_and_again(take)

    async def _again_and_again(self, take: Callable[[], Awaitable[None]]) -> None:
        while True:
            with trio.move_on_after(self._random.choice([0, 0, 0.0003, 0.002, 0.02])):
                await take()
            await trio.lowlevel.checkpoint()

    async def _dawdle(self) -> None:
        # Not while it has something in its hands: what it is cancelled with then is its own loss.
        if not self._random.randrange(20):
            await trio.sleep(0.001)

    async def _take(self, receiver: MulticastReceiver) -> None:
        match self._way:
            case "receive":
                while True:
                    self.note(await receiver.receive())
                    await self._dawdle()
            case "async for":
                async for datagram in receiver:
                    self.note(datagram)
            case "receive_batch":
                while True:
                    self.note(*await receiver.receive_batch())
                    await self._dawdle()
            case "receive_batch(max)":
                while True:
                    self.note(*await receiver.receive_batch(self._random.randint(1, 90)))
                    await self._dawdle()
            case "batches":
                async for batch in receiver.batches():
                    self.note(*batch)
            case "receive_nowait":
                try:
                    while True:
                        self.note(receiver.receive_nowait())
                except trio.WouldBlock:
                    await self._dawdle()


WAYS = [
    *("receive", "async for", "receive_batch"),
    *("receive_batch(max)", "batches", "receive_nowait"),
]


class Schedule:
    """What a seed makes up, and what comes of it."""

    def __init__(self, seed: int, cards: list[Card], port: int) -> None:
        self._seed = seed
        self._random = chance = random.Random(seed)
        self._port = port
        self._groups = chance.sample(STEADY, chance.choice([1, 2, 5]))
        # Every other one, so that a short list of seeds has all of it.
        self._runs_to_channel = seed % 4 == 0
        self._sends_segments = bool(seed // 2 % 2)
        self._sends_beside = bool(seed % 3)
        self._options: dict[str, Any] = {
            "port": port,
            "overflow": ("wait", "drop-oldest")[seed % 2],
            "max_buffered": chance.choice([1, 3, 64, 200, 4096]),
            "receive_buffer": chance.choice([4000, 20_000, 100_000]),
            "packet_info": chance.choice([(), ("hop_limit",), ("timestamp", "traffic_class")]),
            "exact_losses": True,
        }
        self.consumers = [
            Consumer(100 * seed + number, chance.choice(WAYS))
            for number in range(chance.choice([1, 1, 3]))
        ]
        self.sent: Counter[Stream] = Counter()
        self._talkers: dict[Stream, Talker] = {}
        for card in cards:
            assert card.peer is not None
            for group in [*self._groups, *FLEETING]:
                self._talkers[group, card.name] = card.peer.talker(group, port)
        self.is_all_sent = False

    # Sending

    def _send_some(self) -> None:
        chance = self._random
        stream = chance.choice(list(self._talkers))
        talker, first = self._talkers[stream], self.sent[stream]
        burst = chance.choice([1, 1, 5, 60, 300])
        numbers = [struct.pack("=I", number) for number in range(first, first + burst)]
        # Before they are sent, for the receiver may have them before this goes on.
        self.sent[stream] += burst
        if self._sends_segments and chance.random() < 0.5:
            size = chance.choice([4, 20, 1000])
            self._send_segments(talker, [number.ljust(size, b"\0") for number in numbers])
        else:
            talker.send(*[number + bytes(chance.choice([0, 12, 1300])) for number in numbers])

    def _send_segments(self, talker: Talker, datagrams: list[bytes]) -> None:
        size = len(datagrams[0])
        segments = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        for start in range(0, len(datagrams), MOST_SEGMENTS):
            data = b"".join(datagrams[start : start + MOST_SEGMENTS])
            talker.socket.sendmsg([data], segments, 0, (talker.group, self._port))

    def _send_all_beside(self) -> None:
        while sum(self.sent.values()) < COUNT:
            self._send_some()
            if not self._random.randrange(4):
                time.sleep(0.001)
        self.is_all_sent = True

    async def _send_all(self) -> None:
        while sum(self.sent.values()) < COUNT:
            self._send_some()
            if not self._random.randrange(2):
                await trio.sleep(self._random.choice([0, 0.0005]))
        self.is_all_sent = True

    # Joining and leaving

    async def _storm(self, receiver: RunningReceiver) -> None:
        chance = random.Random(self._seed)
        joined: set[str] = set()
        while True:
            group = chance.choice(FLEETING)
            if group in joined:
                await receiver.leave(group)
            else:
                await receiver.join(group)
            joined ^= {group}
            await trio.sleep(chance.choice([0, 0.0005]))

    # The whole

    async def run(self) -> ReceiverStatistics:
        """Let it happen, until each datagram is taken or counted. Returns the last figures."""
        if self._runs_to_channel:
            return await self._run_with_channel()
        async with trio_mcast.open_receiver(*self._groups, **self._options) as receiver:
            async with trio.open_nursery() as nursery:
                for consumer in self.consumers:
                    nursery.start_soon(consumer.consume, receiver)
                await self._let_happen(receiver)
                nursery.cancel_scope.cancel()
            self.consumers[0].note(*await everything(receiver))
            return receiver.statistics()

    async def _run_with_channel(self) -> ReceiverStatistics:
        room = 0 if self._seed % 8 == 0 else 3
        send_channel, receive_channel = trio.open_memory_channel[list[Datagram]](room)
        async with trio.open_nursery() as running:
            run = functools.partial(
                trio_mcast.run_receiver, send_channel, *self._groups, **self._options
            )
            receiver: RunningReceiver = await running.start(run)
            async with trio.open_nursery() as nursery:
                for consumer in self.consumers:
                    nursery.start_soon(consumer.consume_channel, receive_channel)
                await self._let_happen(receiver)
                nursery.cancel_scope.cancel()
            await wait_until_async(
                lambda: self._take_from_channel(receive_channel, receiver), "nothing is on its way"
            )
            # One more, which nobody takes: the channel gets it at the end, or it is counted.
            self._send_one()
            await self._until_read(receiver)
            await trio.testing.wait_all_tasks_blocked()
            running.cancel_scope.cancel()
        self._take_from_channel(receive_channel, receiver)
        return receiver.statistics()

    def _send_one(self) -> None:
        stream = (self._groups[0], "eth0")
        self._talkers[stream].send(struct.pack("=I", self.sent[stream]))
        self.sent[stream] += 1

    def _take_from_channel(
        self, channel: trio.MemoryReceiveChannel[list[Datagram]], receiver: RunningReceiver
    ) -> bool:
        """Take all that is there. Whether that is all there is."""
        try:
            while True:
                self.consumers[0].note(*channel.receive_nowait())
        except trio.WouldBlock:
            statistics = receiver.statistics()
            count = sum(self.taken().values()) + statistics.dropped_by_overflow
            return count == statistics.datagrams_received

    async def _let_happen(self, receiver: RunningReceiver) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._storm, receiver)
            if self._sends_beside:
                beside = threading.Thread(target=self._send_all_beside)
                beside.start()
                try:
                    await wait_until_async(lambda: self.is_all_sent, "all is sent")
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(beside.join)
            else:
                await self._send_all()
            nursery.cancel_scope.cancel()
        await self._until_read(receiver)

    async def _until_read(self, receiver: RunningReceiver) -> None:
        await wait_until_async(
            lambda: all(
                self._is_accounted_for(membership)
                for membership in receiver.statistics().memberships
            ),
            "all is read",
        )

    def _is_accounted_for(self, membership: trio_mcast.MembershipStatistics) -> bool:
        stream = (str(membership.group), membership.interface.name)
        if stream[0] in FLEETING:
            return True
        assert membership.dropped_by_kernel is not None
        return membership.datagrams_received + membership.dropped_by_kernel >= self.sent[stream]

    def taken(self) -> Counter[Stream]:
        found: Counter[Stream] = Counter()
        for consumer in self.consumers:
            found.update({stream: len(numbers) for stream, numbers in consumer.taken.items()})
        return found


@pytest.mark.parametrize("seed", SEEDS)
def test_each_datagram_is_taken_or_counted_once(network: Network, udp_port: int, seed: int) -> None:
    host = network.host()
    cards = [network.link(host, f"eth{n}", network.host(f"peer{n}"), "eth0")[0] for n in range(2)]
    schedule = Schedule(seed, cards, udp_port)
    statistics = host.run(schedule.run)

    taken = schedule.taken()
    for membership in statistics.memberships:
        stream = (str(membership.group), membership.interface.name)
        if stream[0] in STEADY:
            assert membership.dropped_by_kernel is not None
            lost = membership.dropped_by_kernel + membership.dropped_by_overflow
            assert taken[stream] + lost == schedule.sent[stream], stream
    # Of groups that came and went nobody knows what was sent while they were gone.
    assert statistics.datagrams_buffered == 0
    assert sum(taken.values()) + statistics.dropped_by_overflow == statistics.datagrams_received
    seen: set[tuple[Stream, int]] = set()
    for consumer in schedule.consumers:
        for stream, numbers in consumer.taken.items():
            assert numbers == sorted(numbers), stream
            numbered = {(stream, number) for number in numbers}
            assert len(numbered) == len(numbers)
            assert not numbered & seen, "taken by two"
            seen |= numbered
