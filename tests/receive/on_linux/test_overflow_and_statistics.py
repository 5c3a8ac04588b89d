"""Every datagram is counted: taken by the program, still buffered, or lost, and where."""

from ipaddress import ip_address

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, GROUP6, collect, everything

import trio_mcast
from trio_mcast import MulticastReceiver

BATCH = 64
"""The most that is read from one socket at a time."""


def numbered(count: int, size: int = 16) -> list[bytes]:
    return [b"%0*d" % (size, number) for number in range(count)]


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("receive_buffer", [None, 4096, 100_000])
def test_waiting_overflow_counts_what_the_kernel_drops(
    there: Card, hear: Hear, udp_port: int, group: str, receive_buffer: int | None
) -> None:
    talker = there.talker(group, udp_port)
    sent = numbered(2000, 200)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(*sent)
        await trio.testing.wait_all_tasks_blocked(0.005)
        statistics = receiver.statistics()
        assert statistics.datagrams_buffered <= 10 + BATCH
        got = [d.data for d in await everything(receiver)]
        statistics = receiver.statistics()
        assert statistics.dropped_by_overflow == 0
        assert statistics.dropped_by_kernel == 2000 - len(got)
        assert statistics.datagrams_received == len(got)
        assert statistics.datagrams_buffered == 0
        assert got == sorted(got)  # the oldest stay: the kernel refuses newcomers
        assert got[:4] == sent[:4]
        if receive_buffer == 4096:
            assert statistics.dropped_by_kernel > 1000

    hear(main, group, overflow="wait", max_buffered=10, receive_buffer=receive_buffer)


@pytest.mark.parametrize("group", BOTH)
def test_waiting_overflow_goes_on_reading_once_there_is_room(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)
    sent = numbered(300)

    async def main(receiver: MulticastReceiver) -> None:
        for begin in range(0, 300, 100):
            talker.send(*sent[begin : begin + 100])
            await trio.testing.wait_all_tasks_blocked()
            assert receiver.statistics().datagrams_buffered <= 1 + BATCH
            got = [d.data for d in await collect(receiver, 100)]
            assert got == sent[begin : begin + 100]

    hear(main, group, overflow="wait", max_buffered=1)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("max_buffered", [1, 10, 64, 65, 100])
def test_drop_oldest_keeps_exactly_the_newest(
    there: Card, hear: Hear, udp_port: int, group: str, max_buffered: int
) -> None:
    talker = there.talker(group, udp_port)
    sent = numbered(250)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(*sent)
        await wait_until_async(
            lambda: (
                receiver.statistics().datagrams_buffered + receiver.statistics().dropped_by_overflow
                == 250
            ),
            "all were read",
        )
        statistics = receiver.statistics()
        assert statistics.datagrams_buffered == max_buffered
        assert statistics.dropped_by_overflow == 250 - max_buffered
        assert statistics.dropped_by_kernel == 0
        assert [d.data for d in await receiver.receive_batch()] == sent[-max_buffered:]
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()
        assert receiver.statistics().datagrams_buffered == 0

    hear(main, group, overflow="drop-oldest", max_buffered=max_buffered, receive_buffer=1_000_000)


@pytest.mark.parametrize("group", BOTH)
def test_drop_oldest_and_the_kernel_together_account_for_every_datagram(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        taken = 0
        for round_ in range(1, 6):
            talker.send(*numbered(400, 100))
            await trio.testing.wait_all_tasks_blocked(0.005)
            taken += len(await receiver.receive_batch(3))
            statistics = receiver.statistics()
            assert statistics.dropped_by_kernel
            assert statistics.dropped_by_overflow
            assert (
                taken
                + statistics.datagrams_buffered
                + statistics.dropped_by_kernel
                + statistics.dropped_by_overflow
                == 400 * round_
            )

    hear(main, group, overflow="drop-oldest", max_buffered=7, receive_buffer=8192)


def test_drop_oldest_drops_the_oldest_of_all_memberships_together(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talkers = [there.talker(group, udp_port) for group in (GROUP4, GROUP6)]

    async def main(receiver: MulticastReceiver) -> None:
        for number in range(10):
            for talker in talkers:
                talker.send(b"%d" % number)
                await trio.testing.wait_all_tasks_blocked(0.001)
        batch = await receiver.receive_batch()
        assert [d.data for d in batch] == [b"8", b"8", b"9", b"9"]
        assert receiver.statistics().dropped_by_overflow == 16
        assert sum(m.dropped_by_overflow for m in receiver.statistics().memberships) == 16

    hear(main, GROUP4, GROUP6, overflow="drop-oldest", max_buffered=4)


def test_drop_oldest_serves_a_waiting_consumer_first(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def consume() -> None:
                async for datagram in receiver:
                    got.append(datagram.data)

            nursery.start_soon(consume)
            for number in range(20):
                talker.send(b"%d" % number)
                await trio.testing.wait_all_tasks_blocked()
            assert got == [b"%d" % number for number in range(20)]
            assert receiver.statistics().dropped_by_overflow == 0
            nursery.cancel_scope.cancel()

    hear(main, GROUP4, overflow="drop-oldest", max_buffered=1)


# --- Statistics -----------------------------------------------------------------------------------


def test_statistics_begin_at_nothing(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            statistics = receiver.statistics()
            assert isinstance(statistics, trio_mcast.ReceiverStatistics)
            assert statistics.datagrams_received == 0
            assert statistics.bytes_received == 0
            assert statistics.datagrams_buffered == 0
            assert statistics.dropped_by_kernel == 0
            assert statistics.dropped_by_overflow == 0
            assert len(statistics.memberships) == 1

    here.host.run(main)


def test_statistics_are_kept_for_each_membership_and_for_all(
    network: Network, udp_port: int
) -> None:
    host = network.host()
    talkers = {}
    for name in ("eth0", "eth1"):
        _, there = network.link(host, name, network.host(f"peer of {name}"), "eth0")
        for group in BOTH:
            talkers[ip_address(group), name] = there.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(*BOTH, port=udp_port) as receiver:
            for count, talker in enumerate(talkers.values(), start=1):
                talker.send(*[b"x" * 10 * count] * count)
            assert len(await collect(receiver, 1 + 2 + 3 + 4)) == 10
            statistics = receiver.statistics()
            assert statistics.datagrams_received == 10
            assert statistics.bytes_received == 10 + 40 + 90 + 160
            each = {(m.group, m.interface.name): m for m in statistics.memberships}
            assert each.keys() == talkers.keys()
            for count, membership in enumerate((each[key] for key in talkers), start=1):
                assert membership.datagrams_received == count
                assert membership.bytes_received == 10 * count * count
                assert membership.dropped_by_kernel == 0
                assert membership.dropped_by_overflow == 0

    host.run(main)


def test_the_receive_buffer_that_was_granted_is_told(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def granted(**options: int) -> int:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, **options) as receiver:
            return receiver.statistics().memberships[0].receive_buffer

    async def main() -> None:
        small, large = await granted(receive_buffer=8192), await granted(receive_buffer=50_000)
        assert 8192 <= small <= 16384  # Linux tells twice what was asked, see socket(7)
        assert 50_000 <= large <= 100_000
        assert await granted() >= 100_000  # by default as much as a burst needs, if allowed

    here.host.run(main)


def test_what_was_lost_stays_counted_after_leaving(there: Card, hear: Hear, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(*numbered(500, 200))
        got = len(await everything(receiver))
        lost = receiver.statistics().dropped_by_kernel
        assert got + lost == 500
        assert lost > 0
        await receiver.leave(GROUP4)
        statistics = receiver.statistics()
        assert statistics.dropped_by_kernel == lost
        assert statistics.datagrams_received == got
        assert [str(m.group) for m in statistics.memberships] == [GROUP6]
        await receiver.join(GROUP4)
        talker.send(b"again")
        assert (await receiver.receive()).data == b"again"
        statistics = receiver.statistics()
        assert statistics.dropped_by_kernel == lost
        assert statistics.datagrams_received == got + 1

    hear(main, GROUP4, GROUP6, receive_buffer=4096, max_buffered=1)


def test_every_datagram_is_accounted_for_under_several_memberships(
    there: Card, hear: Hear, udp_port: int
) -> None:
    groups = [f"233.252.0.{number}" for number in range(1, 11)]
    talkers = [there.talker(group, udp_port) for group in groups]

    async def main(receiver: MulticastReceiver) -> None:
        taken = 0
        for _ in range(4):
            for talker in talkers:
                talker.send(*numbered(50, 300))
            await trio.lowlevel.checkpoint()
            taken += len(await receiver.receive_batch())
        taken += len(await everything(receiver))
        statistics = receiver.statistics()
        assert taken == statistics.datagrams_received
        assert statistics.dropped_by_kernel > 0
        assert taken + statistics.dropped_by_kernel == 4 * 10 * 50
        assert (
            sum(m.dropped_by_kernel for m in statistics.memberships) == statistics.dropped_by_kernel
        )

    hear(main, *groups, receive_buffer=4096, max_buffered=20)


def test_statistics_are_a_picture_that_does_not_change(
    there: Card, hear: Hear, udp_port: int
) -> None:
    async def main(receiver: MulticastReceiver) -> None:
        before = receiver.statistics()
        there.talker(GROUP4, udp_port).send(b"x")
        await receiver.receive()
        assert before.datagrams_received == 0
        assert receiver.statistics().datagrams_received == 1
        with pytest.raises(AttributeError):
            before.datagrams_received = 5

    hear(main, GROUP4)
