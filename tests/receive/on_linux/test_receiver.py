"""What arrives at a receiver, and the ways to take it."""

import functools
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import BOTH, EVERY_SCOPE, GROUP4, GROUP6, collect, everything

import trio_mcast
from trio_mcast import MulticastReceiver


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_a_datagram_tells_where_it_comes_from_and_where_it_went(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(b"hello")
        datagram = await receiver.receive()
        assert isinstance(datagram, trio_mcast.Datagram)
        assert datagram.data == b"hello"
        assert type(datagram.data) is bytes
        if group == GROUP4:
            assert datagram.source == (there.ipv4, talker.port)
        else:
            host, port, flow, scope = datagram.source
            if group.startswith("ff12"):
                assert host.partition("%")[0] == there.link_local
                assert scope == here.index
            else:
                assert (host, scope) == (there.ipv6, 0)
            assert (port, flow) == (talker.port, 0)
        assert datagram.group == ip_address(group)
        assert datagram.port == udp_port
        assert datagram.interface.name == "eth0"
        assert datagram.interface.index == here.index
        assert datagram.hop_limit is None
        assert datagram.timestamp is None
        assert datagram.traffic_class is None
        assert datagram.truncated is False

    hear(main, group)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_the_source_of_a_datagram_can_be_answered(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)
    answering = here.talker(group, udp_port).socket

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(b"question")
        answering.sendto(b"answer", (await receiver.receive()).source)
        assert talker.receive()[0] == b"answer"

    hear(main, group)


def test_groups_may_be_text_or_addresses_of_both_families(
    there: Card, hear: Hear, udp_port: int
) -> None:
    groups = (
        GROUP4,
        IPv4Address("233.252.0.2"),
        GROUP6,
        IPv6Address("ff12::4d43:2"),
        "FF15:0::4D43:0003",
    )

    async def main(receiver: MulticastReceiver) -> None:
        for group in groups:
            there.talker(str(group), udp_port).send(str(group).encode())
        datagrams = await collect(receiver, len(groups))
        assert {d.data: d.group for d in datagrams} == {
            str(group).encode(): ip_address(str(group)) for group in groups
        }
        assert await everything(receiver) == []

    hear(main, *groups)


@pytest.mark.parametrize("group", BOTH)
def test_datagrams_of_one_group_keep_their_order(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)
    sent = [b"%d" % number for number in range(200)]

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(*sent)
        assert [d.data for d in await collect(receiver, 200)] == sent

    hear(main, group)


def test_receive_waits_for_a_datagram(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):
            got: list[bytes] = []

            async def consume() -> None:
                got.append((await receiver.receive()).data)

            nursery.start_soon(consume)
            await trio.testing.wait_all_tasks_blocked()
            assert got == []
            talker.send(b"now")
        assert got == [b"now"]

    here.host.run(main)


def test_receive_nowait_raises_would_block_when_there_is_nothing(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()
        talker.send(b"one", b"two")
        assert [d.data for d in await everything(receiver)] == [b"one", b"two"]
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()

    hear(main, GROUP4)


def test_receive_nowait_looks_into_the_kernel_itself(
    here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    witness = here.listener(GROUP4, udp_port)
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        await trio.testing.wait_all_tasks_blocked()
        talker.send(b"one", b"two")
        assert [witness.receive_data(), witness.receive_data()] == [b"one", b"two"]
        with trio.testing.assert_no_checkpoints():
            got = [receiver.receive_nowait().data, receiver.receive_nowait().data]
            with pytest.raises(trio.WouldBlock):
                receiver.receive_nowait()
        assert got == [b"one", b"two"]

    hear(main, GROUP4)


def test_receive_batch_takes_what_is_there(there: Card, hear: Hear, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(*[b"%d" % number for number in range(20)])
        await wait_until_async(
            lambda: receiver.statistics().datagrams_received == 20, "all were read"
        )
        batch = await receiver.receive_batch()
        assert isinstance(batch, list)
        assert [d.data for d in batch] == [b"%d" % number for number in range(20)]

    hear(main, GROUP4)


def test_receive_batch_waits_for_one_and_takes_no_more_than_it_is_told(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        with trio.move_on_after(0.01) as scope:
            await receiver.receive_batch()
        assert scope.cancelled_caught
        talker.send(*[b"%d" % number for number in range(5)])
        got: list[bytes] = []
        while len(got) < 5:
            batch = await receiver.receive_batch(2)
            assert 1 <= len(batch) <= 2
            got += [d.data for d in batch]
        assert got == [b"%d" % number for number in range(5)]
        talker.send(b"x", b"y")
        await wait_until_async(
            lambda: receiver.statistics().datagrams_received == 7, "all were read"
        )
        assert [d.data for d in await receiver.receive_batch(max=1)] == [b"x"]
        assert (await receiver.receive()).data == b"y"

    hear(main, GROUP4)


@pytest.mark.parametrize(
    ("wrong", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.5, TypeError)]
)
def test_receive_batch_refuses_a_senseless_limit(
    network: Network, udp_port: int, wrong: object, error: type[Exception]
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            with pytest.raises(error), trio.fail_after(0.5):
                await receiver.receive_batch(wrong)

    here.host.run(main)


def test_batches_are_lists_of_what_came(there: Card, hear: Hear, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)
    sent = [b"%d" % number for number in range(150)]

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(*sent)
        got: list[bytes] = []
        batches: AsyncIterator[list[trio_mcast.Datagram]] = receiver.batches()
        async for batch in batches:
            assert isinstance(batch, list)
            assert batch
            got += [d.data for d in batch]
            if len(got) >= 150:
                break
        assert got == sent

    hear(main, GROUP4)


@pytest.mark.parametrize("group", BOTH)
def test_async_for_gives_datagrams_one_by_one(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)
    sent = [b"%d" % number for number in range(150)]

    async def main() -> None:
        got: list[bytes] = []
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            talker.send(*sent)
            async for datagram in receiver:
                got.append(datagram.data)
                if len(got) == 150:
                    break
        assert got == sent

    here.host.run(main)


@pytest.mark.parametrize("way", ["async for", "receive", "receive_batch(1)"])
def test_a_consumer_that_never_has_to_wait_lets_other_tasks_run(
    there: Card, hear: Hear, udp_port: int, way: str
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            for count in range(100, 1001, 100):
                talker.send(*[b"x"] * 100)
                await wait_until_async(
                    lambda count=count: receiver.statistics().datagrams_buffered == count,
                    "all are ready to be taken",
                )
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(other)
            match way:
                case "async for":
                    taken = 0
                    async for _ in receiver:
                        taken += 1
                        if taken == 1000:
                            break
                case "receive":
                    await collect(receiver, 1000)
                case _:
                    for _ in range(1000):
                        await receiver.receive_batch(1)
            assert turns >= 1000 // 256
            nursery.cancel_scope.cancel()

    hear(main, GROUP4, max_buffered=2000)


# --- Several consumers ----------------------------------------------------------------------------


def test_each_datagram_goes_to_one_of_several_consumers(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)
    sent = [b"%d" % number for number in range(200)]

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def consume_one_by_one() -> None:
                async for datagram in receiver:
                    got.append(datagram.data)
                    await trio.lowlevel.checkpoint()

            async def consume_batches() -> None:
                async for batch in receiver.batches():
                    got.extend(d.data for d in batch)
                    await trio.lowlevel.checkpoint()

            for consumer in (consume_one_by_one, consume_batches, consume_one_by_one):
                nursery.start_soon(consumer)
            for begin in range(0, 200, 20):
                talker.send(*sent[begin : begin + 20])
                await trio.lowlevel.checkpoint()
            await wait_until_async(lambda: len(got) >= 200, "everything was consumed")
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(got) == sorted(sent)
            nursery.cancel_scope.cancel()

    hear(main, GROUP4)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_every_waiting_consumer_gets_a_datagram_of_the_same_batch(
    there: Card, hear: Hear, udp_port: int, count: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def consume_once_and_be_busy_for_ever() -> None:
                got.append((await receiver.receive()).data)
                await trio.sleep_forever()

            for _ in range(count):
                nursery.start_soon(consume_once_and_be_busy_for_ever)
            await trio.testing.wait_all_tasks_blocked()
            sent = [b"%d" % number for number in range(count)]
            talker.send(*sent)
            await wait_until_async(lambda: len(got) == count, "every consumer has one")
            assert sorted(got) == sorted(sent)
            nursery.cancel_scope.cancel()

    hear(main, GROUP4)


def test_a_waiting_consumer_gets_the_rest_of_a_batch_whose_first_taker_is_busy(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            busy: list[bytes] = []
            idle: list[bytes] = []

            async def take_one_then_be_busy() -> None:
                async for datagram in receiver:
                    busy.append(datagram.data)
                    await trio.sleep_forever()

            async def take_all() -> None:
                async for datagram in receiver:
                    idle.append(datagram.data)

            nursery.start_soon(take_one_then_be_busy)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(take_all)
            await trio.testing.wait_all_tasks_blocked()
            talker.send(*[b"%d" % number for number in range(10)])
            await wait_until_async(lambda: len(busy + idle) == 10, "all ten were taken")
            assert len(busy) <= 1
            nursery.cancel_scope.cancel()

    hear(main, GROUP4)


@pytest.mark.parametrize("first_takes", ["receive", "receive_batch"])
def test_a_consumer_that_takes_only_part_leaves_the_rest_to_a_waiting_one(
    there: Card, hear: Hear, udp_port: int, first_takes: str
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def take_one() -> None:
                if first_takes == "receive":
                    got.append((await receiver.receive()).data)
                else:
                    got.extend(d.data for d in await receiver.receive_batch(1))
                await trio.sleep_forever()

            async def take_batch() -> None:
                got.extend(d.data for d in await receiver.receive_batch())
                await trio.sleep_forever()

            nursery.start_soon(take_one)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(take_batch)
            await trio.testing.wait_all_tasks_blocked()
            talker.send(b"a", b"b")
            await wait_until_async(lambda: len(got) == 2, "both consumers have something")
            nursery.cancel_scope.cancel()

    hear(main, GROUP4)


def test_a_datagram_goes_to_another_waiter_when_its_taker_is_cancelled_first(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def consume(scope: trio.CancelScope) -> None:
                with scope:
                    got.append((await receiver.receive()).data)

            for pause in range(6):
                got.clear()
                first, second = trio.CancelScope(), trio.CancelScope()
                nursery.start_soon(consume, first)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(consume, second)
                await trio.testing.wait_all_tasks_blocked()
                talker.send(b"%d" % pause)
                for _ in range(pause):
                    await trio.lowlevel.checkpoint()
                first.cancel()
                await wait_until_async(lambda: bool(got), "one of them has it")
                assert got == [b"%d" % pause]
                second.cancel()
                await trio.testing.wait_all_tasks_blocked()

    hear(main, GROUP4)


# --- Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "size"),
    [(GROUP4, size) for size in (0, 1, 1472, 1473, 2047, 2048, 2049, 9000, 65507)]
    + [(GROUP6, size) for size in (0, 1, 1452, 1453, 2047, 2048, 2049, 9000, 65527)],
)
@pytest.mark.parametrize("packet_info", [(), ("hop_limit", "timestamp", "traffic_class")])
def test_a_datagram_of_any_size_arrives_whole(
    there: Card, hear: Hear, udp_port: int, group: str, size: int, packet_info: tuple[str, ...]
) -> None:
    talker = there.talker(group, udp_port)
    pattern = bytes(range(251)) * (size // 251 + 1)
    data = pattern[:size]

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(b"before", data, b"after")
        before, datagram, after = await collect(receiver, 3)
        assert (before.data, after.data) == (b"before", b"after")
        assert datagram.data == data
        assert datagram.truncated is False

    hear(main, group, packet_info=packet_info)


def test_datagrams_of_mixed_sizes_do_not_spill_into_each_other(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)
    sizes = [3000, 10, 0, 5000, 2048, 2049, 1, 0, 30000, 7]
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]

    async def main(receiver: MulticastReceiver) -> None:
        for _ in range(3):
            talker.send(*sent)
            assert [d.data for d in await collect(receiver, len(sent))] == sent

    hear(main, GROUP4)


def test_a_jumbo_frame_arrives_whole(network: Network, udp_port: int) -> None:
    here, there = network.pair(mtu=9000)
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            talker.send(b"j" * 8972)
            assert (await receiver.receive()).data == b"j" * 8972

    here.host.run(main)


# --- Packet information ---------------------------------------------------------------------------


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_packet_info_tells_what_the_sender_set(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talkers = [
        there.talker(group, udp_port, hop_limit=hops, traffic_class=tos)
        for hops, tos in [(1, 0), (7, 0xB8), (64, 0x20), (255, 0xFC)]
    ]

    async def main(receiver: MulticastReceiver) -> None:
        begin = time.time_ns()
        for talker in talkers:
            talker.send(b"x")
        datagrams = await collect(receiver, 4)
        end = time.time_ns()
        assert [(d.hop_limit, d.traffic_class) for d in datagrams] == [
            (1, 0),
            (7, 0xB8),
            (64, 0x20),
            (255, 0xFC),
        ]
        for datagram in datagrams:
            assert type(datagram.timestamp) is int
            # The two clocks may be read on different processors: a millisecond is forgiven.
            # They need not ascend: Linux begins to stamp what arrives a moment after it was
            # asked to (net_enable_timestamp); what came before that gets the time of reading.
            assert begin - 1_000_000 <= datagram.timestamp <= end + 1_000_000

    hear(main, group, packet_info=("hop_limit", "timestamp", "traffic_class"))


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("asked", ["hop_limit", "timestamp", "traffic_class"])
def test_packet_info_tells_only_what_was_asked(
    there: Card, hear: Hear, udp_port: int, group: str, asked: str
) -> None:
    talker = there.talker(group, udp_port, hop_limit=9, traffic_class=0x88)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(b"x")
        datagram = await receiver.receive()
        told = {
            name
            for name in ("hop_limit", "timestamp", "traffic_class")
            if getattr(datagram, name) is not None
        }
        assert told == {asked}
        if asked == "hop_limit":
            assert datagram.hop_limit == 9
        if asked == "traffic_class":
            assert datagram.traffic_class == 0x88

    hear(main, group, packet_info=[asked])


def test_packet_info_of_a_burst_belongs_to_the_right_datagrams(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talkers = {hops: there.talker(GROUP4, udp_port, hop_limit=hops) for hops in range(1, 41)}

    async def main(receiver: MulticastReceiver) -> None:
        for _ in range(3):
            for hops, talker in talkers.items():
                talker.send(b"%d" % hops)
        for datagram in await collect(receiver, 120):
            assert datagram.hop_limit == int(datagram.data)

    hear(main, GROUP4, packet_info=["hop_limit"])


def test_packet_info_keeps_coming_after_the_kernel_has_dropped(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port, hop_limit=5)

    async def main(receiver: MulticastReceiver) -> None:
        for _ in range(3):
            talker.send(*[b"x" * 200] * 200)
            for datagram in await everything(receiver):
                assert (datagram.hop_limit, datagram.traffic_class) == (5, 0)
                assert datagram.timestamp
        assert receiver.statistics().dropped_by_kernel

    hear(main, GROUP4, packet_info=["hop_limit", "timestamp", "traffic_class"], receive_buffer=4096)


# --- Loopback of own datagrams --------------------------------------------------------------------


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_datagrams_of_this_host_arrive_unless_unwanted(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    own, other = here.talker(group, udp_port), there.talker(group, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(group, port=udp_port) as hears_all,
            trio_mcast.open_receiver(group, port=udp_port, loopback=False) as hears_others,
        ):
            own.send(b"own")
            assert (await hears_all.receive()).data == b"own"
            other.send(b"other's")
            assert (await hears_all.receive()).data == b"other's"
            assert (await hears_others.receive()).data == b"other's"
            assert await everything(hears_others) == []

    here.host.run(main)


def test_loopback_off_knows_every_address_of_this_host(
    network: Network, here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    network.link(here.host, "eth1", network.host("c"), "eth0")
    here.add_address("10.77.1.77/24")
    own = [
        here.talker(GROUP4, udp_port, source=address)
        for address in (here.ipv4, "10.77.1.77", "10.77.2.1")
    ]
    other = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        for talker in own:
            talker.send(b"own")
        other.send(b"other's")
        assert [d.data for d in await collect(receiver, 1)] == [b"other's"]
        assert await everything(receiver) == []

    hear(main, GROUP4, interfaces="eth0", loopback=False)


@pytest.mark.parametrize("group", BOTH)
def test_loopback_off_learns_addresses_that_this_host_gets_later(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    other = there.talker(group, udp_port)
    address = "fd77:0:0:1::77" if ":" in group else "10.77.1.77"

    async def main(receiver: MulticastReceiver) -> None:
        here.add_address(address + ("/64" if ":" in group else "/24"))
        await trio.testing.wait_all_tasks_blocked(0.005)  # the kernel has announced it before
        here.talker(group, udp_port, source=address).send(b"own")
        other.send(b"other's")
        assert [d.data for d in await collect(receiver, 1)] == [b"other's"]
        assert await everything(receiver) == []

    hear(main, group, loopback=False)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_the_loopback_interface_is_used_when_named(
    network: Network, udp_port: int, group: str
) -> None:
    host = network.host()
    host.let_ipv6_multicast_use_lo()
    talker = host.lo.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="lo") as receiver:
            talker.send(b"hello")
            datagram = await receiver.receive()
            assert datagram.data == b"hello"
            assert datagram.interface.name == "lo"

    host.run(main)


# --- The objects ----------------------------------------------------------------------------------


def test_datagrams_are_equal_by_value(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(GROUP6, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(GROUP6, port=udp_port) as one,
            trio_mcast.open_receiver(GROUP6, port=udp_port) as two,
        ):
            talker.send(b"same", b"different")
            first, other = await collect(one, 2)
            second, _ = await collect(two, 2)
            assert first == second
            assert first is not second
            assert hash(first) == hash(second)
            assert first != other

    here.host.run(main)


def test_a_receiver_is_a_receive_channel_that_only_the_library_makes(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            assert isinstance(receiver, trio_mcast.MulticastReceiver)
            assert isinstance(receiver, trio.abc.ReceiveChannel)

    here.host.run(main)
    with pytest.raises(TypeError):
        trio_mcast.MulticastReceiver()
    with pytest.raises(TypeError):
        type("Mine", (trio_mcast.MulticastReceiver,), {})


def test_a_receiver_without_groups_waits_for_a_join(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):
            assert receiver.memberships() == ()
            got: list[bytes] = []

            async def consume() -> None:
                got.append((await receiver.receive()).data)

            nursery.start_soon(consume)
            await trio.testing.wait_all_tasks_blocked()
            await receiver.join(GROUP4)
            talker.send(b"hello")
        assert got == [b"hello"]

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_group_that_is_left_and_joined_again_arrives_in_order(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)
    sent = [b"%d" % number for number in range(600)]

    async def main(receiver: MulticastReceiver) -> None:
        for begin in range(0, 600, 200):
            talker.send(*sent[begin : begin + 200])
            await receiver.leave(group)
            await receiver.join(group)
        got = [(await receiver.receive()).data for _ in range(600)]
        assert got == sent

    hear(main, group, max_buffered=1)


# --- run_receiver ---------------------------------------------------------------------------------


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("overflow", ["wait", "drop-oldest"])
def test_run_receiver_feeds_a_memory_channel_with_lists(
    here: Card, there: Card, udp_port: int, group: str, overflow: Any
) -> None:
    talker = there.talker(group, udp_port)
    sent = [b"%d" % number for number in range(100)]

    async def main() -> None:
        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](100)
        async with send_channel, receive_channel, trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[object]) -> None:
                await trio_mcast.run_receiver(
                    send_channel, group, port=udp_port, overflow=overflow, task_status=task_status
                )

            await nursery.start(run)
            assert here.host.has_joined(group)
            got: list[trio_mcast.Datagram] = []
            for end in (1, 2, 3, 100):
                talker.send(*sent[len(got) : end])
                while len(got) < end:
                    batch = await receive_channel.receive()
                    assert isinstance(batch, list)
                    got += batch
            assert [d.data for d in got] == sent
            assert {d.group for d in got} == {ip_address(group)}
            assert {d.interface.name for d in got} == {"eth0"}
            nursery.cancel_scope.cancel()
        await wait_until_async(lambda: not here.host.has_joined(group), "the group was left")

    here.host.run(main)


def test_run_receiver_loses_nothing_to_a_channel_without_buffer(
    here: Card, there: Card, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)
    sent = [b"%d" % number for number in range(200)]

    async def main() -> None:
        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](0)
        async with send_channel, receive_channel, trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[object]) -> None:
                await trio_mcast.run_receiver(
                    send_channel, GROUP4, port=udp_port, task_status=task_status
                )

            await nursery.start(run)
            got: list[bytes] = []
            for begin in range(0, 200, 20):
                talker.send(*sent[begin : begin + 20])
                await trio.lowlevel.checkpoint()
            while len(got) < 200:
                got += [d.data for d in await receive_channel.receive()]
            assert got == sent
            nursery.cancel_scope.cancel()

    here.host.run(main)


@pytest.mark.parametrize("overflow", ["wait", "drop-oldest"])
@pytest.mark.parametrize("is_quiet", [True, False])
def test_run_receiver_ends_soon_after_the_other_end_of_its_channel_is_closed(
    here: Card, there: Card, udp_port: int, overflow: Any, is_quiet: bool
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](1)
        async with trio.open_nursery() as nursery:
            run = functools.partial(
                trio_mcast.run_receiver, send_channel, GROUP4, port=udp_port, overflow=overflow
            )
            listener = await nursery.start(run)
            talker.send(b"one")
            assert [d.data for d in await receive_channel.receive()] == [b"one"]
            await receive_channel.aclose()
            if not is_quiet:
                talker.send(b"two")
            await wait_until_async(lambda: not nursery.child_tasks, "it ended", patience=1)
        assert not here.host.has_joined(GROUP4)
        figures = listener.statistics()
        assert figures.datagrams_received == 1 + figures.dropped_by_overflow
        send_channel.close()

    here.host.run(main)


def test_run_receiver_refuses_bad_input_at_start(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](0)
        with send_channel, receive_channel:
            with pytest.raises(trio_mcast.AddressError):
                await trio_mcast.run_receiver(send_channel, "192.0.2.1", port=udp_port)
            with pytest.raises(trio_mcast.InterfaceNotFoundError):
                await trio_mcast.run_receiver(
                    send_channel, GROUP4, port=udp_port, interfaces="nosuch"
                )

    here.host.run(main)
