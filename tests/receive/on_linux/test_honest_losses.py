"""A number of lost datagrams is exact or says that it is not; what is held is bounded."""

from __future__ import annotations

import socket
import struct
from functools import partial

import pytest
import trio
from namespaces.network import Card, Network, open_descriptors, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, GROUP6, everything
from patience import PATIENCE

import trio_mcast
from trio_mcast import EventStream, MembershipStatus, MulticastReceiver

UDP_SEGMENT = 103  # linux/udp.h

every_group = pytest.mark.parametrize("group", BOTH)


# --- Counting -------------------------------------------------------------------------------------


def send_merged(card: Card, group: str, port: int, count: int, *, size: int = 100) -> None:
    """Send datagrams in runs of 50, which the kernel hands over to the other end merged."""
    talker = card.talker(group, port)
    run = bytes(size * 50)
    cut = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
    destination = talker._destination
    for _ in range(count // 50):
        assert talker.socket.sendmsg([run], cut, 0, destination) == len(run)


@every_group
def test_losses_of_merged_datagrams_are_said_to_be_a_lower_bound(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    async def main(receiver: MulticastReceiver) -> None:
        assert receiver.statistics().losses_are_exact  # nothing is lost yet
        send_merged(there, group, udp_port, 5000)
        received = len(await everything(receiver))
        statistics = receiver.statistics()
        assert statistics.dropped_by_kernel
        if received + statistics.dropped_by_kernel == 5000:
            pytest.skip("this kernel merges nothing between network namespaces: 5.10 is one")
        assert received + statistics.dropped_by_kernel < 5000
        assert not statistics.losses_are_exact
        assert not statistics.memberships[0].losses_are_exact
        assert statistics.host_buffer_errors
        assert statistics.host_checksum_errors == 0

    hear(main, group, max_buffered=1, receive_buffer=100_000)


@every_group
def test_losses_can_be_counted_exactly_whoever_sends(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    async def main(receiver: MulticastReceiver) -> None:
        send_merged(there, group, udp_port, 5000)
        received = len(await everything(receiver))
        statistics = receiver.statistics()
        assert statistics.dropped_by_kernel == 5000 - received > 0
        assert statistics.losses_are_exact

    hear(main, group, max_buffered=1, receive_buffer=100_000, exact_losses=True)


@every_group
@pytest.mark.parametrize("size", [20, 200])
def test_damaged_datagrams_are_not_taken_for_a_full_buffer(
    there: Card, hear: Hear, udp_port: int, group: str, size: int
) -> None:
    """The kernel counts long ones as dropped at the socket, and short ones nowhere at it."""

    async def main(receiver: MulticastReceiver) -> None:
        send_damaged(there, group, udp_port, bytes(size))
        there.talker(group, udp_port).send(b"whole")
        assert (await receiver.receive()).data == b"whole"
        statistics = receiver.statistics()
        assert statistics.host_buffer_errors == 0
        assert statistics.host_checksum_errors == 1
        assert not statistics.losses_are_exact
        assert not statistics.memberships[0].losses_are_exact

    hear(main, group, exact_losses=True)


def send_damaged(card: Card, group: str, port: int, payload: bytes) -> None:
    talker = card.talker(group, port)  # only for how it is set up
    raw = card.host.call(
        partial(socket.socket, talker.socket.family, socket.SOCK_RAW, socket.IPPROTO_UDP)
    )
    with raw:
        if ":" in group:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, card.index)
        else:
            by_index = struct.pack("=4s4si", bytes(4), bytes(4), card.index)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by_index)
        header = struct.pack("!HHHH", 4000, port, 8 + len(payload), 0xBAD)
        raw.sendto(header + payload, (group, 0, 0, card.index) if ":" in group else (group, 0))


@every_group
def test_the_last_figures_can_be_read_after_closing(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    async def main(receiver: MulticastReceiver) -> None:
        send_merged(there, group, udp_port, 5000)
        await everything(receiver)
        before = receiver.statistics()
        await receiver.aclose()
        after = receiver.statistics()
        assert (after.datagrams_received, after.dropped_by_kernel) == (
            before.datagrams_received,
            before.dropped_by_kernel,
        )
        assert after.losses_are_exact == before.losses_are_exact is False
        assert after.host_buffer_errors == before.host_buffer_errors
        # What happens afterwards is not this receiver's any more.
        send_damaged(there, group, udp_port, bytes(200))
        assert receiver.statistics() == after

    hear(main, group, max_buffered=1, receive_buffer=100_000)


# --- Bounds ---------------------------------------------------------------------------------------


@every_group
@pytest.mark.parametrize("overflow", ["wait", "drop-oldest"])
def test_large_datagrams_do_not_take_more_memory_than_allowed(
    there: Card, hear: Hear, udp_port: int, group: str, overflow: str
) -> None:
    size, most = 8000, 100_000
    talker = there.talker(group, udp_port)
    seen = []

    async def main(receiver: MulticastReceiver) -> None:
        for n in range(60):
            talker.send(n.to_bytes(2, "big") * (size // 2))
            await trio.testing.wait_all_tasks_blocked(0.001)
            seen.append(receiver.statistics().datagrams_buffered * size)
        numbers = [int.from_bytes(d.data[:2], "big") for d in await receiver.receive_batch()]
        if overflow == "wait":
            # "wait" reads on as long as there is room for one byte.
            assert numbers == list(range(most // size + 1))
            assert max(seen) == len(numbers) * size
        else:
            assert numbers == list(range(60 - most // size, 60))
            assert max(seen) <= most
            assert receiver.statistics().dropped_by_overflow == 60 - len(numbers)

    hear(main, group, overflow=overflow, max_buffered_bytes=most)


async def test_less_than_the_largest_datagram_cannot_be_the_most() -> None:
    for value, error in [
        (65_535, ValueError),
        (0, ValueError),
        (1e9, TypeError),
        (None, TypeError),
    ]:
        with pytest.raises(error, match=f"max_buffered_bytes={value}"):
            async with trio_mcast.open_receiver(port=5000, max_buffered_bytes=value):  # type: ignore[arg-type]
                pass


def test_what_waits_in_a_channel_is_bounded_in_bytes_too(network: Network, udp_port: int) -> None:
    """A list would hold all that the receiver holds, and the channel so many of them."""
    here, there = network.pair()
    size, most, lists = 8000, 200_000, 4
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        sending, receiving = trio.open_memory_channel[list[trio_mcast.Datagram]](lists)
        async with trio.open_nursery() as nursery:
            running = await nursery.start(
                partial(
                    trio_mcast.run_receiver,
                    sending,
                    GROUP4,
                    port=udp_port,
                    interfaces="eth0",
                    max_buffered_bytes=most,
                )
            )
            sent = [n.to_bytes(2, "big") * (size // 2) for n in range(100)]
            talker.send(*sent)
            await trio.testing.wait_all_tasks_blocked(0.01)
            waiting: list[trio_mcast.Datagram] = []
            assert receiving.statistics().current_buffer_used == lists
            for _ in range(lists):
                batch = receiving.receive_nowait()
                assert len(batch) * size <= most / (lists + 1)
                waiting += batch
            while len(waiting) < len(sent):
                waiting += await receiving.receive()
            assert [datagram.data for datagram in waiting] == sent
            nursery.cancel_scope.cancel()
        statistics = running.statistics()
        assert (statistics.datagrams_received, statistics.dropped_by_overflow) == (100, 0)

    here.host.run(main)


def count_sockets() -> int:
    return sum("socket" in target for target in open_descriptors().values())


def test_a_flapping_cable_leaves_no_trail_of_sockets_behind_a_stalled_program(
    network: Network, udp_port: int
) -> None:
    here, there = network.pair()
    sent = 0

    async def main() -> None:
        nonlocal sent
        async with trio_mcast.open_receiver(
            *BOTH, port=udp_port, interfaces="eth0", max_buffered=1, exact_losses=True
        ) as receiver:
            talker = there.talker(GROUP4, udp_port)
            before = count_sockets()
            for _ in range(6):
                talker.send(*[b"%d" % n for n in range(sent, sent + 100)])
                sent += 100
                await trio.testing.wait_all_tasks_blocked(0.01)
                async with receiver.events() as events:
                    there.unplug()
                    there.plug()
                    await until_joined_anew(events)
            # One old socket of the membership that is joined anew: that of IPv4.
            assert count_sockets() == before + 1
            received = [int(d.data) for d in await everything(receiver)]
            statistics = receiver.statistics()
            assert received == sorted(received)
            assert received[-1] == sent - 1
            assert statistics.dropped_by_overflow > 0
            assert len(received) + statistics.dropped_by_overflow == sent
            assert statistics.datagrams_received == sent
            assert count_sockets() == before

    here.host.run(main)


async def until_joined_anew(events: EventStream[MembershipStatus]) -> None:
    with trio.fail_after(PATIENCE):
        async for status in events:
            if status.group.version == 4 and status.state == "joined":
                return


@pytest.mark.parametrize("same", [True, False], ids=["the same group", "always another"])
@pytest.mark.parametrize("family", [4, 6])
def test_joining_and_leaving_leaves_no_trail_of_sockets_behind_a_stalled_program(
    there: Card, hear: Hear, udp_port: int, same: bool, family: int
) -> None:
    def group(n: int) -> str:
        n = 1 if same else n
        return f"233.252.0.{n + 1}" if family == 4 else f"ff15::4d43:{n + 1:x}"

    talkers = [there.talker(group(n), udp_port) for n in range(16)]

    async def main(receiver: MulticastReceiver) -> None:
        there.talker(GROUP4, udp_port).send(*[b"x"] * 200)
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = count_sockets()
        for n in range(1, 16):
            await receiver.join(group(n), interfaces="eth0")
            talkers[n].send(*[b"%d" % n] * 20)
            await trio.testing.wait_all_tasks_blocked(0.005)
            await receiver.leave(group(n))
            assert count_sockets() <= before + 4
        received = [d.data for d in await everything(receiver)]
        statistics = receiver.statistics()
        assert len(received) + statistics.dropped_by_overflow == 200 + 15 * 20
        assert b"15" in received
        assert count_sockets() == before

    hear(main, GROUP4, max_buffered=1, exact_losses=True)


def test_what_a_left_group_had_comes_at_once_if_there_is_room(
    there: Card, hear: Hear, udp_port: int
) -> None:
    """However many groups are left together: nothing waits in sockets, and nothing is lost."""
    groups = [f"233.252.1.{n}" for n in range(1, 41)]
    talkers = [there.talker(group, udp_port) for group in groups]

    async def main(receiver: MulticastReceiver) -> None:
        before = count_sockets()
        for talker in talkers:
            talker.send(b"1", b"2")
        for group in groups:
            await receiver.leave(group)
        assert count_sockets() == before - len(groups)
        received: dict[str, list[bytes]] = {group: [] for group in groups}
        for datagram in await everything(receiver):
            received[str(datagram.group)].append(datagram.data)
        assert list(received.values()) == [[b"1", b"2"]] * len(groups)

    hear(main, *groups)


# --- What is left when an interface goes ----------------------------------------------------------


def test_what_one_group_loses_for_another_is_counted_when_the_interface_goes(
    network: Network, udp_port: int
) -> None:
    here, there = network.pair()
    first, second = there.talker(GROUP4, udp_port), there.talker(GROUP6, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            *BOTH, port=udp_port, overflow="drop-oldest", max_buffered=3, exact_losses=True
        ) as receiver:
            await trio.testing.wait_all_tasks_blocked(0.01)
            first.send(b"1", b"2", b"3")
            await trio.testing.wait_all_tasks_blocked(0.01)
            second.send(b"4", b"5", b"6")
            here.delete()
            assert [d.data for d in await everything(receiver)] == [b"4", b"5", b"6"]
            statistics = receiver.statistics()
            assert (statistics.datagrams_received, statistics.dropped_by_overflow) == (6, 3)

    here.host.run(main)


def test_the_order_stays_when_a_group_is_forgotten_and_joined_again(
    network: Network, udp_port: int
) -> None:
    """The interface is a bridge's port for a moment, while nothing is read."""
    here, there = network.pair()
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, max_buffered=1) as receiver:
            await trio.testing.wait_all_tasks_blocked(0.01)
            talker.send(*numbered(0, 200))
            await trio.testing.wait_all_tasks_blocked(0.01)
            here.host.ip("link add br0 type bridge", "link set eth0 master br0")
            await wait_until_async(lambda: not receiver.memberships(), "it is forgotten")
            here.host.ip("link set eth0 nomaster", "link set eth0 up")
            await wait_until_async(
                lambda: [m.state for m in receiver.memberships()] == ["joined"], "it is joined"
            )
            talker.send(*numbered(200, 400))
            assert [d.data for d in await everything(receiver)] == numbered(0, 400)

    here.host.run(main)


def numbered(start: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(start, end)]


def test_a_filter_that_cannot_be_changed_back_is_tried_again(
    here: Card, hear: Hear, udp_port: int
) -> None:
    # Of the group's end, which is announced as well, nothing is to be seen then.
    here.listener(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        receiver.set_sources(GROUP4, [f"10.9.0.{n}" for n in range(1, 30)])
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with receiver.events() as events:
            here.host.sysctl("net.ipv4.igmp_max_memberships", 0)
            with pytest.raises(trio_mcast.SocketSetupError):
                receiver.set_sources(GROUP4, [], mode="exclude")
            assert (await events.receive()).state == "failed"
            here.host.sysctl("net.ipv4.igmp_max_memberships", 20)
            with trio.fail_after(PATIENCE):
                assert (await events.receive()).state == "joined"

    hear(main, GROUP4)
