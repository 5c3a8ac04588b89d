"""A flooded group and a quiet one beside it: the quiet one is heard in time, and all of it."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from contextlib import suppress

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, Talker, wait_until_async

import trio_mcast

LOUD, QUIET = "233.252.0.1", "233.252.0.2"
LOUD6, QUIET6 = "ff15::4d43:1", "ff15::4d43:2"
PAIRS = [(LOUD, QUIET), (LOUD6, QUIET6), (LOUD, QUIET6), (LOUD6, QUIET)]

# A read of one socket takes so many datagrams at most (more where the kernel merges them: those
# come in pieces of 64 too).
READ = 64

# Those that a receiver has read come before what comes later.
HELD = 256


def talker_beside(here: Card, group: str, port: int) -> Talker:
    assert here.peer is not None
    return here.peer.talker(group, port)


# --- Several tasks at one receiver ----------------------------------------------------------------


@pytest.mark.parametrize("in_batches", [True, False])
@pytest.mark.parametrize("passes_a_checkpoint", [True, False])
def test_tasks_that_wait_share_as_they_share_a_memory_channel(
    network: Network, udp_port: int, in_batches: bool, passes_a_checkpoint: bool
) -> None:
    here, _there = network.pair()
    talker = talker_beside(here, QUIET, udp_port)

    async def main() -> None:
        counts = [0] * 4
        async with (
            trio_mcast.open_receiver(QUIET, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):

            async def take(name: int) -> None:
                while True:
                    batch = await receiver.receive_batch(None if in_batches else 1)
                    counts[name] += len(batch)
                    if passes_a_checkpoint:
                        await trio.lowlevel.checkpoint()

            for name in range(4):
                nursery.start_soon(take, name)
                await trio.testing.wait_all_tasks_blocked()
            for number in range(1, 101):
                talker.send(b"")
                await wait_until_async(lambda number=number: sum(counts) == number, "it was taken")
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert counts == [25, 25, 25, 25]

    here.host.run(main)


def test_a_lone_receive_has_its_turn_beside_a_loop(network: Network, udp_port: int) -> None:
    here, _there = network.pair()
    talker = talker_beside(here, QUIET, udp_port)

    async def main() -> None:
        in_loop: list[bytes] = []
        async with (
            trio_mcast.open_receiver(QUIET, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):

            async def loop() -> None:
                async for datagram in receiver:
                    in_loop.append(datagram.data)

            nursery.start_soon(loop)
            await trio.testing.wait_all_tasks_blocked()
            talker.send(b"one")
            await wait_until_async(lambda: in_loop, "the loop has it")
            alone: list[bytes] = []

            async def receive_once() -> None:
                alone.append((await receiver.receive()).data)

            nursery.start_soon(receive_once)
            await trio.testing.wait_all_tasks_blocked()
            for data in (b"two", b"three"):
                talker.send(data)
                await wait_until_async(lambda data=data: data in in_loop + alone, "it arrives")
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert (in_loop, alone) == ([b"one", b"two"], [b"three"])

    here.host.run(main)


# --- The order of things, whatever the machine's speed --------------------------------------------


@pytest.mark.parametrize(("loud", "quiet"), PAIRS)
def test_a_quiet_group_is_read_after_a_few_reads_of_a_loud_one(
    network: Network, udp_port: int, loud: str, quiet: str
) -> None:
    """Thousands of datagrams wait at one socket when a few arrive at the other."""
    here, _there = network.pair()
    host = here.host
    loud_talker = talker_beside(here, loud, udp_port)
    quiet_talker = talker_beside(here, quiet, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            loud, quiet, port=udp_port, max_buffered=READ
        ) as receiver:
            await trio.testing.wait_all_tasks_blocked()
            witness = here.listener(quiet, udp_port)
            loud_talker.send(*[b"loud"] * 2000)
            quiet_talker.send(b"quiet")
            assert witness.receive_data() == b"quiet"
            before = 0
            while (await receiver.receive()).data != b"quiet":
                before += 1
            # One read that was under way, its like held by the kernel's merging, and the buffer.
            assert before <= 10 * READ, before

    host.run(main)


def test_every_one_of_many_quiet_groups_has_its_turn_between_the_reads_of_a_loud_one(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()
    quiet = [f"233.252.0.{n}" for n in range(2, 52)]
    loud_talker = talker_beside(here, LOUD, udp_port)
    talkers = [talker_beside(here, group, udp_port) for group in quiet]

    async def main() -> None:
        async with trio_mcast.open_receiver(
            LOUD, *quiet, port=udp_port, max_buffered=READ
        ) as receiver:
            await trio.testing.wait_all_tasks_blocked()
            witness = here.listener(quiet[-1], udp_port)
            loud_talker.send(*[b"loud"] * 3000)
            for talker in talkers:
                talker.send(b"quiet")
            assert witness.receive_data() == b"quiet"
            before, heard = 0, set()
            while len(heard) < len(quiet):
                datagram = await receiver.receive()
                if datagram.data == b"quiet":
                    heard.add(str(datagram.group))
                else:
                    before += 1
            assert heard == set(quiet)
            assert before <= 20 * READ, before

    here.host.run(main)


@pytest.mark.parametrize("way", ["one receiver", "two receivers"])
def test_other_tasks_run_between_the_reads_of_a_loud_group(
    network: Network, udp_port: int, way: str
) -> None:
    """A task that does nothing but let others run counts how often it has its turn."""
    here, _there = network.pair()
    loud_talker = talker_beside(here, LOUD, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(LOUD, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            async def consume(count: int) -> None:
                for _ in range(count):
                    await receiver.receive()

            await trio.testing.wait_all_tasks_blocked()
            loud_talker.send(*[b"loud"] * 3000)
            nursery.start_soon(count)
            if way == "one receiver":
                await consume(2500)
            else:
                async with trio.open_nursery() as consumers:
                    consumers.start_soon(consume, 1250)
                    consumers.start_soon(consume, 1250)
            assert turns >= 2500 // (8 * READ)
            nursery.cancel_scope.cancel()

    here.host.run(main)


# --- Beside a flood -------------------------------------------------------------------------------

FLOOD = textwrap.dedent(
    """
    import socket, struct, sys
    group, port, index = sys.argv[1:]
    six = ":" in group
    made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    if six:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(index))
    else:
        choice = struct.pack("=4s4si", bytes(4), bytes(4), int(index))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        made.sendto(b"loud" * 16, (group, int(port)))
    """
)


@pytest.mark.parametrize(("loud", "quiet"), PAIRS[:2])
@pytest.mark.parametrize("way", ["one receiver", "two receivers"])
def test_a_quiet_group_beside_a_flood_is_heard_after_a_few_reads_of_that(
    here: Card, there: Card, udp_port: int, loud: str, quiet: str, way: str
) -> None:
    """Another program sends as fast as it can. Of the quiet group nothing is late, or lost."""
    flood = there.host.program(
        *(sys.executable, "-c", FLOOD),
        *(loud, str(udp_port), str(there.index)),
        stdin=subprocess.PIPE,
    )
    assert flood.stdout is not None
    assert flood.stdin is not None
    assert flood.stdout.readline() == b"ready\n"
    talker = talker_beside(here, quiet, udp_port)
    count = 100

    async def main() -> None:
        loud_heard = 0
        heard_meanwhile: list[int] = []

        async def consume(receiver: trio_mcast.MulticastReceiver) -> None:
            nonlocal loud_heard
            with suppress(trio.ClosedResourceError):  # when it is over
                async for datagram in receiver:
                    if datagram.data.startswith(b"loud"):
                        loud_heard += 1
                    else:
                        heard_meanwhile.append(loud_heard - int(datagram.data))

        async def hear_more(number: int) -> None:
            until = loud_heard + number
            await wait_until_async(lambda: loud_heard >= until, "the flood goes on")

        async with trio.open_nursery() as nursery:
            if way == "one receiver":
                one = await nursery.start(_hold_open, [loud, quiet], udp_port)
                receivers = [one]
            else:
                receivers = [
                    await nursery.start(_hold_open, [group], udp_port) for group in (loud, quiet)
                ]
            for receiver in receivers:
                nursery.start_soon(consume, receiver)
            await trio.testing.wait_all_tasks_blocked()
            assert flood.stdin is not None
            flood.stdin.write(b"go\n")
            flood.stdin.flush()
            for _ in range(count):
                await hear_more(50)
                talker.send(b"%d" % loud_heard)
            await wait_until_async(
                lambda: len(heard_meanwhile) == count, "all that is quiet is heard"
            )
            statistics = [r.statistics() for r in receivers]
            nursery.cancel_scope.cancel()
        quiet_figures = [m for s in statistics for m in s.memberships if str(m.group) == quiet]
        assert [m.dropped_by_kernel for m in quiet_figures] == [0]
        heard_meanwhile.sort()
        assert heard_meanwhile[math.ceil(0.9 * count) - 1] <= HELD + 8 * READ, heard_meanwhile

    here.host.run(main)


async def _hold_open(
    groups: list[str],
    port: int,
    task_status: trio.TaskStatus[trio_mcast.MulticastReceiver] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with trio_mcast.open_receiver(*groups, port=port, max_buffered=HELD) as receiver:
        task_status.started(receiver)
        await trio.sleep_forever()
