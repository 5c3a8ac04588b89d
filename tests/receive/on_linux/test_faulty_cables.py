"""Networks that lose, repeat, delay and reorder (tc-netem(8)): what is heard is what came."""

from __future__ import annotations

import pytest
import trio
from namespaces.devices import set_offloads, set_queue
from namespaces.network import Card, wait_until_async
from namespaces.receiving import BOTH, everything
from patience import LONG

import trio_mcast

COUNT = 2000
WITNESSED = 150  # so many the buffer of a plain socket can hold
END = 999_999

each_group = pytest.mark.parametrize("group", BOTH)


async def hear_all(
    here: Card,
    there: Card,
    port: int,
    group: str,
    *,
    count: int,
    expected: int | None,
) -> tuple[list[int], trio_mcast.ReceiverStatistics]:
    """What is heard of numbered datagrams, and what the receiver counts.

    Args:
      count: how many are sent
      expected: how many come; None: some, in the order of sending
    """
    talker = there.talker(group, port)
    heard: list[int] = []

    async def consume(receiver: trio_mcast.MulticastReceiver) -> None:
        async for datagram in receiver:
            heard.append(int(datagram.data))

    async with trio_mcast.open_receiver(
        group, port=port, interfaces="eth0", receive_buffer=8 << 20
    ) as receiver:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume, receiver)
            for number in range(count):
                talker.send(b"%d" % number)
                if not number % 50:
                    await trio.lowlevel.checkpoint()

            def is_all_there() -> bool:
                if expected is not None:
                    return len(heard) >= expected
                talker.send(b"%d" % END)
                return END in heard

            await wait_until_async(is_all_there, "all that was sent has come", patience=LONG)
            nursery.cancel_scope.cancel()
        heard += [int(datagram.data) for datagram in await everything(receiver)]
        return heard, receiver.statistics()


def assert_nothing_else_lost(heard: list[int], statistics: trio_mcast.ReceiverStatistics) -> None:
    assert statistics.datagrams_received == len(heard)
    assert statistics.dropped_by_kernel == statistics.dropped_by_overflow == 0


@each_group
def test_what_the_network_loses_is_all_that_is_missing(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    set_queue(there, "netem loss 20% limit 10000")
    witness = here.listener(group, udp_port)

    async def main() -> None:
        heard, statistics = await hear_all(
            here, there, udp_port, group, count=WITNESSED, expected=None
        )
        assert heard == [int(witness.receive_data()) for _ in heard]
        missing = WITNESSED - len(set(heard) - {END})
        assert 0 < missing < WITNESSED / 2
        assert_nothing_else_lost(heard, statistics)

    here.host.run(main)


@each_group
def test_what_the_network_repeats_is_heard_twice(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    set_queue(there, "netem duplicate 100% limit 10000")

    async def main() -> None:
        heard, statistics = await hear_all(
            here, there, udp_port, group, count=COUNT, expected=2 * COUNT
        )
        assert heard == [number for number in range(COUNT) for _ in range(2)]
        assert_nothing_else_lost(heard, statistics)

    here.host.run(main)


@each_group
def test_what_the_network_reorders_is_heard_in_the_order_of_its_coming(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    set_queue(there, "netem delay 20ms reorder 25% limit 10000")
    witness = here.listener(group, udp_port)

    async def main() -> None:
        heard, statistics = await hear_all(
            here, there, udp_port, group, count=WITNESSED, expected=WITNESSED
        )
        assert heard == [int(witness.receive_data()) for _ in range(WITNESSED)]
        assert heard != sorted(heard)
        assert sorted(heard) == list(range(WITNESSED))
        assert_nothing_else_lost(heard, statistics)

    here.host.run(main)


@each_group
def test_what_the_network_delays_has_the_time_of_its_coming(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    set_queue(there, "netem delay 100ms")
    talker = there.talker(group, udp_port)

    async def main() -> None:
        import time

        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0", packet_info="timestamp"
        ) as receiver:
            sent = time.time_ns()
            talker.send(b"late")
            timestamp = (await receiver.receive()).timestamp
            assert timestamp is not None
            assert 90_000_000 < timestamp - sent <= time.time_ns() - sent

    here.host.run(main)


@pytest.mark.parametrize("offloads", ["gro on", "gro off"])
@pytest.mark.parametrize("segments", ["gso on tx-udp-segmentation on", "gso off"])
@each_group
def test_merged_or_not_each_datagram_is_heard_once(
    here: Card, there: Card, udp_port: int, group: str, offloads: str, segments: str
) -> None:
    set_offloads(here, offloads)
    set_offloads(there, segments)
    sent = [b"%06d" % number * 100 for number in range(COUNT)]

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(
                group, port=udp_port, interfaces="eth0", receive_buffer=32 << 20
            ) as receiver,
            trio_mcast.open_receiver(
                group,
                port=udp_port,
                interfaces="eth0",
                receive_buffer=32 << 20,
                packet_info="timestamp",
            ) as singly,
        ):

            async def talk() -> None:
                async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
                    for start in range(0, COUNT, 50):
                        await sender.send_batch(sent[start : start + 50])

            task = there.host.start_soon(talk)
            with trio.fail_after(LONG):
                assert [(await receiver.receive()).data for _ in sent] == sent
                assert [(await singly.receive()).data for _ in sent] == sent
            await trio.to_thread.run_sync(task.result)
            assert await everything(receiver) == await everything(singly) == []
            assert receiver.statistics().dropped_by_kernel == 0

    here.host.run(main)


@pytest.mark.parametrize("queue", ["fq", "fq_codel", "pfifo limit 1000", "netem limit 1000"])
@each_group
def test_runs_of_datagrams_come_through_every_queue_or_the_sender_is_told(
    here: Card, there: Card, udp_port: int, group: str, queue: str
) -> None:
    set_queue(here, queue)
    listener = there.listener(group, udp_port)
    sent = [b"%04d" % number * 250 for number in range(200)]

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", loopback=False
        ) as sender:
            await sender.send_batch(sent)
            for data in sent:
                assert listener.receive_data() == data
            assert sender.statistics().datagrams_sent == len(sent)

    here.host.run(main)
