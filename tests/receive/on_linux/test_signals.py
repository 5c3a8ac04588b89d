"""Signals come all the time, as from a profiler or a timer: nothing is lost or fails for that.

In a process of its own, for Python runs the handlers of signals in the main thread only.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from namespaces.network import Network
from namespaces.receiving import BOTH, GROUP4
from patience import LONG, PATIENCE

UNDER_SIGNALS = textwrap.dedent(
    """
    import signal, sys, time
    import trio, trio_mcast

    way, group, port, patience = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    seen = 0

    def note(_number, _frame):
        global seen
        seen += 1

    signal.signal(signal.SIGALRM, note)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)

    async def one_by_one(receiver, found):
        async for datagram in receiver:
            found.append(datagram.data)

    async def in_batches(receiver, found):
        async for batch in receiver.batches():
            found += [datagram.data for datagram in batch]

    async def send_some(sender, first):
        data = [b"%08d" % number for number in range(first, first + 40)]
        if way == "batch":
            await sender.send_batch(data)
        else:
            for each in data:
                await sender.send(each)
        return data

    async def main():
        sent, found = [], []
        async with (
            trio_mcast.open_receiver(group, port=port) as receiver,
            trio_mcast.open_sender(group, port=port, interface="eth0") as sender,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(in_batches if way == "batch" else one_by_one, receiver, found)
            while seen < 800:
                sent += await send_some(sender, len(sent))
                # Also into waiting: for what was sent, and for nothing at all.
                with trio.fail_after(patience):
                    while len(found) + receiver.statistics().dropped_by_kernel < len(sent):
                        await trio.sleep(0)
                await trio.sleep(0.002)
            figures = receiver.statistics()
            assert figures.dropped_by_overflow == 0
            assert figures.datagrams_received == len(found)
            assert figures.dropped_by_kernel == len(sent) - len(found)
            assert sender.statistics().datagrams_sent == len(sent)
            assert sender.statistics().send_errors == 0
            left = iter(sent)
            assert all(data in left for data in found), "in another order, or twice"
            nursery.cancel_scope.cancel()

    async def open_and_close():
        while seen < 400:
            async with (
                trio_mcast.open_receiver(group, port=port) as receiver,
                trio_mcast.open_sender(group, port=port, interface="eth0") as sender,
                receiver.joined("233.252.0.7"),
            ):
                await sender.send(b"hello")
                assert (await receiver.receive()).data == b"hello"
                assert {m.state for m in receiver.memberships()} == {"joined"}

    async def run():
        try:
            await (open_and_close if way == "open" else main)()
        finally:
            # Before trio ends: it closes what the interpreter tells it of signals by, and only
            # then has the interpreter stop, which complains of a signal in between.
            signal.setitimer(signal.ITIMER_REAL, 0)

    trio.run(run)
    print("fine")
    """
)


@pytest.mark.parametrize(
    ("way", "group"),
    [*((way, group) for way in ("single", "batch") for group in BOTH), ("open", GROUP4)],
)
def test_two_thousand_signals_a_second_lose_nothing(
    network: Network, udp_port: int, way: str, group: str
) -> None:
    here, _there = network.pair()
    done = here.host.call(
        lambda: subprocess.run(
            [
                *(sys.executable, "-W", "error", "-c", UNDER_SIGNALS),
                *(way, group, str(udp_port), str(PATIENCE)),
            ],
            capture_output=True,
            text=True,
            timeout=LONG,
        )
    )
    assert not done.stderr, done.stderr
    assert done.stdout == "fine\n"
