"""Receivers and senders in trio's guest mode, where another loop is the host of trio's."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio
from namespaces.network import Card, open_descriptors, wait_until_async
from namespaces.receiving import BOTH, GROUP4, GROUP6
from patience import LONG

import trio_mcast
from trio_mcast import MulticastReceiver, MulticastSender

COUNT = 2000
BATCH = 50  # the smallest buffer that the kernel grants by default takes them all


Main: TypeAlias = Callable[[], Awaitable[None]]


def run_on_a_queue(main: Main) -> None:
    """The smallest host: it calls what it is given, one after the other."""
    calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    outcomes: list[Any] = []
    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=calls.put, done_callback=outcomes.append
    )
    while not outcomes:
        calls.get(timeout=LONG)()
    outcomes[0].unwrap()


def run_on_asyncio(main: Main) -> None:
    async def host() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        (await done).unwrap()

    asyncio.run(host())


on_each_host = pytest.mark.parametrize("run", [run_on_a_queue, run_on_asyncio])


def run_as_guest(here: Card, run: Callable[[Main], None], main: Main) -> None:
    """Run it here, and see that nothing is left."""

    async def in_time() -> None:
        with trio.fail_after(LONG):
            await main()

    def run_and_look() -> None:
        # What a host sends to itself comes in order if one processor sends it: seen on Linux 5.10.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        before = open_descriptors()
        run(in_time)
        assert open_descriptors() == before

    here.host.call(run_and_look)
    for group in BOTH:
        assert not here.host.has_joined(group)


async def until_read(receiver: MulticastReceiver, count: int) -> None:
    await wait_until_async(
        lambda: receiver.statistics().datagrams_received == count, f"{count} were read"
    )


async def receive_one_by_one(receiver: MulticastReceiver) -> list[bytes]:
    return [(await receiver.receive()).data for _ in range(COUNT)]


async def receive_batches(receiver: MulticastReceiver) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < COUNT:
        found += [datagram.data for datagram in await receiver.receive_batch()]
    return found


@on_each_host
@pytest.mark.parametrize("receive", [receive_one_by_one, receive_batches])
def test_a_guest_sends_and_receives_thousands(
    here: Card,
    udp_port: int,
    run: Callable[[Main], None],
    receive: Callable[[MulticastReceiver], Awaitable[list[bytes]]],
) -> None:
    sent = [b"%06d" % number for number in range(COUNT)]

    async def send(sender: MulticastSender, receiver: MulticastReceiver) -> None:
        for begin in range(0, COUNT, BATCH):
            batch = sent[begin : begin + BATCH]
            if begin % (2 * BATCH):
                for data in batch:
                    await sender.send(data)
            else:
                await sender.send_batch(batch)
            await until_read(receiver, begin + BATCH)

    async def main() -> None:
        for group in BOTH:
            async with (
                trio_mcast.open_receiver(group, port=udp_port) as receiver,
                trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(send, sender, receiver)
                assert await receive(receiver) == sent
                assert sender.statistics().datagrams_sent == COUNT

    run_as_guest(here, run, main)


@on_each_host
def test_a_guest_is_read_for_while_it_is_away(
    here: Card, there: Card, udp_port: int, run: Callable[[Main], None]
) -> None:
    """An alarm that the host's loop knows nothing of wakes the background task."""
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            for end in range(20, 201, 20):
                talker.send(*[b"%d" % number for number in range(end - 20, end)])
                await until_read(receiver, end)
            assert receiver.statistics().datagrams_buffered == 200
            found = [datagram.data for datagram in await receiver.receive_batch()]
            assert found == [b"%d" % number for number in range(200)]

    run_as_guest(here, run, main)


@on_each_host
def test_a_guest_that_is_cancelled_leaves_nothing(
    here: Card, there: Card, udp_port: int, run: Callable[[Main], None]
) -> None:
    """As its host does it, from outside: while one waits, one listens to a channel, one sends."""
    talker = there.talker(GROUP6, udp_port)

    async def receive(receiver: MulticastReceiver) -> None:
        async for _ in receiver:
            pass

    async def send(sender: MulticastSender) -> None:
        while True:
            await sender.send(b"x")

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:
            send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](1)
            async with (
                trio_mcast.open_receiver(GROUP6, port=udp_port) as receiver,
                trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender,
                trio.open_nursery() as nursery,
                send_channel,
                receive_channel,
            ):
                nursery.start_soon(receive, receiver)
                nursery.start_soon(send, sender)
                nursery.start_soon(run_to_channel, send_channel)
                talker.send(b"hello")
                await until_read(receiver, 1)
                await trio.to_thread.run_sync(lambda: token.run_sync_soon(scope.cancel))
                await trio.sleep_forever()
        assert scope.cancelled_caught

    async def run_to_channel(channel: trio.MemorySendChannel[list[trio_mcast.Datagram]]) -> None:
        await trio_mcast.run_receiver(channel, GROUP4, port=udp_port)

    run_as_guest(here, run, main)
