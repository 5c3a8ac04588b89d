"""A program that interrupts itself by Ctrl-C, at one line of the library after the other.

    python interrupting.py GROUP PORT MOST OPERATION...

It does each operation again and again. Each time, a trace function sends SIGINT at another line of
the library's code: at all of them, or at so many that are drawn. Afterwards what is open and what
is joined must be as before.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import trio

import trio_mcast
from trio_mcast import Datagram, MulticastReceiver, MulticastSender

LIBRARY = os.path.dirname(trio_mcast.__file__)


class Tracer:
    """Counts the lines of the library that are run, and interrupts at one of them."""

    def __init__(self, at: int = 0) -> None:
        self.count = 0
        self.where = ""
        self._at = at

    def __call__(self, frame: FrameType, _event: str, _arg: object) -> Any:
        return self._see if frame.f_code.co_filename.startswith(LIBRARY) else None

    def _see(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self._at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self._see


class Operations:
    """What can be interrupted. A method that takes a receiver and a sender is given open ones."""

    def __init__(self, group: str, port: int) -> None:
        self._group = group
        self._port = port
        self._other = "233.252.0.7" if "." in group else "ff15::4d43:7"
        self._source = "10.77.1.%d" if "." in group else "fd77::%d"

    def _open(self) -> Any:
        return trio_mcast.open_receiver(self._group, port=self._port)

    def _open_sender(self) -> Any:
        return trio_mcast.open_sender(self._group, port=self._port, interface="eth0")

    def find(self, name: str) -> Callable[[Tracer], Awaitable[None]]:
        if name in ("opening", "ending", "running"):
            whole: Callable[[Tracer], Awaitable[None]] = getattr(self, name)
            return whole
        operation = getattr(self, name)

        async def while_open(tracer: Tracer) -> None:
            async with self._open() as receiver, self._open_sender() as sender:
                sys.settrace(tracer)
                await operation(receiver, sender)
                sys.settrace(None)

        return while_open

    async def opening(self, tracer: Tracer) -> None:
        sys.settrace(tracer)
        async with self._open(), self._open_sender():
            sys.settrace(None)

    async def ending(self, tracer: Tracer) -> None:
        async with self._open(), self._open_sender():
            sys.settrace(tracer)
        sys.settrace(None)

    async def running(self, tracer: Tracer) -> None:
        async def run(task_status: trio.TaskStatus[Any]) -> None:
            await trio_mcast.run_receiver(
                sends, self._group, port=self._port, task_status=task_status
            )

        sends, receives = trio.open_memory_channel[list[Datagram]](1)
        async with sends, receives, self._open_sender() as sender, trio.open_nursery() as nursery:
            await nursery.start(run)
            sys.settrace(tracer)
            await sender.send(b"1")
            await receives.receive()
            sys.settrace(None)
            nursery.cancel_scope.cancel()

    async def closing(self, receiver: MulticastReceiver, _sender: MulticastSender) -> None:
        await receiver.aclose()

    async def closing_sender(self, _receiver: MulticastReceiver, sender: MulticastSender) -> None:
        await sender.aclose()

    async def joining(self, receiver: MulticastReceiver, _sender: MulticastSender) -> None:
        await receiver.join(self._other)

    async def leaving(self, receiver: MulticastReceiver, _sender: MulticastSender) -> None:
        await receiver.leave(self._group)

    async def joining_for_a_block(
        self, receiver: MulticastReceiver, _sender: MulticastSender
    ) -> None:
        async with receiver.joined(self._other):
            await trio.lowlevel.checkpoint()

    async def changing_sources(self, receiver: MulticastReceiver, _sender: MulticastSender) -> None:
        receiver.block_source(self._group, self._source % 1)
        receiver.unblock_source(self._group, self._source % 1)
        # More than the kernel takes for one socket: to several, and back to one.
        many = [self._source % number for number in range(1, 21 if "." in self._group else 71)]
        receiver.set_sources(self._group, many)
        receiver.set_sources(self._group, many[:1])

    async def receiving(self, receiver: MulticastReceiver, sender: MulticastSender) -> None:
        await sender.send(b"1")
        await receiver.receive()
        await sender.send(b"2")
        async for _ in receiver:
            break

    async def receiving_batches(self, receiver: MulticastReceiver, sender: MulticastSender) -> None:
        for _ in range(3):
            for number in range(3):
                await sender.send(b"%d" % number)
            await receiver.receive_batch()

    async def sending(self, _receiver: MulticastReceiver, sender: MulticastSender) -> None:
        await sender.send(b"1")
        await sender.send_to(b"2", (self._other, self._port))

    async def finding_the_address(
        self, _receiver: MulticastReceiver, sender: MulticastSender
    ) -> None:
        assert sender.local_address[1]

    async def sending_batches(self, _receiver: MulticastReceiver, sender: MulticastSender) -> None:
        await sender.send_batch([b"1"] * 3 + [b"", b"22", b"22"])


def what_is_held() -> dict[str, str]:
    """What this process has open, and what this host has joined."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed the folder
            pass
    with open("/proc/thread-self/net/igmp") as file:
        found |= {f"IPv4 group {line.split()[0]}": "joined" for line in file if line[0] == "\t"}
    with open("/proc/thread-self/net/igmp6") as file:
        found |= {f"IPv6 group {' '.join(line.split()[1:3])}": "joined" for line in file}
    return found


def was_interrupted(main: Callable[[Tracer], Awaitable[None]], tracer: Tracer) -> bool:
    interrupted = False
    try:
        trio.run(main, tracer)
    except* KeyboardInterrupt:
        interrupted = True
    finally:
        sys.settrace(None)
    return interrupted


def interrupt(operations: Operations, name: str, most: int) -> None:
    operation = operations.find(name)
    was_interrupted(operation, Tracer())  # then what is made once for all is there
    was_interrupted(operation, counting := Tracer())
    instants = list(range(1, counting.count + 1))
    if most < len(instants):
        instants = random.Random(name).sample(instants, most)
    before = what_is_held()
    count = 0
    for at in instants:
        tracer = Tracer(at)
        try:
            count += was_interrupted(operation, tracer)
            after = what_is_held()
            assert after == before, f"left: {sorted(after.items() - before.items())}"
        except BaseException as error:
            error.add_note(f"{name}, interrupted at line {at} of {counting.count}, {tracer.where}")
            raise
    # Those that came last may find less to interrupt: how many lines background tasks run varies.
    assert count > len(instants) / 2, f"{name}: {count} of {len(instants)} were interrupted"


if __name__ == "__main__":
    for name in sys.argv[4:]:
        interrupt(Operations(sys.argv[1], int(sys.argv[2])), name, int(sys.argv[3]))
    print("fine")
