"""What every receiver program has in common: arguments, counting, and telling its figures.

A program prints a JSON line when it has joined its groups, and one with its figures so far whenever
it gets the signal SIGUSR1. Who measures takes the difference of two such lines, so neither start-up
nor imports count. The program ends when its time limit is over, or when it is killed.

The loop of a program does the least that an application must do with a datagram: look at each one
and count it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import struct
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any


@dataclass(frozen=True)
class Job:
    """What to receive."""

    port: int
    groups: tuple[str, ...]
    interface: str
    receive_buffer: int | None  # bytes; None: what the program or the system takes by itself
    ticking: bool  # whether a task that sleeps shall run beside the receiving one
    packet_info: bool
    exact_losses: bool
    form: str


class Meter:
    """Counts datagrams, and tells how many there were and what they cost."""

    def __init__(self, timing: bool) -> None:
        self.datagrams = 0
        self.timing = timing
        self._delays: list[float] = []
        self._lateness: list[float] = []
        self._opening_began = 0.0
        self._memory_before = 0

    def note_delay(self, payload: bytes) -> None:
        """Note how long ago a datagram was sent. It begins with the time in nanoseconds."""
        (sent,) = struct.unpack_from("q", payload)
        self._delays.append((time.monotonic_ns() - sent) / 1e9)

    def note_lateness(self, seconds: float) -> None:
        """Note by how much a task that slept was woken too late."""
        self._lateness.append(seconds)

    def begin_opening(self) -> None:
        self._memory_before = _read_anonymous_memory()
        self._opening_began = time.perf_counter()

    def end_opening(self) -> None:
        """Everything is joined: tell so, and from now on tell figures when they are asked for."""
        took = time.perf_counter() - self._opening_began
        memory = _read_anonymous_memory() - self._memory_before
        signal.signal(signal.SIGUSR1, self._report)
        _print_json({"opening": took, "memory": memory})

    def _report(self, *_: Any) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _print_json(
            {
                "datagrams": self.datagrams,
                "user": usage.ru_utime,
                "system": usage.ru_stime,
                "time": time.monotonic(),
                "delays": _summarise(self._delays),
                "lateness": _summarise(self._lateness),
            }
        )
        self._delays.clear()
        self._lateness.clear()


def start() -> tuple[Job, Meter]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--group", type=IPv4Address, required=True, help="the first group")
    parser.add_argument("--groups", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--limit", type=int, default=60, help="seconds after which to end")
    parser.add_argument("--receive-buffer", type=int, help="bytes")
    parser.add_argument("--timing", action="store_true", help="tell how long datagrams took")
    parser.add_argument("--ticking", action="store_true", help="tell how late other tasks run")
    parser.add_argument("--packet-info", action="store_true", help="hop limit and time stamp too")
    parser.add_argument("--exact-losses", action="store_true", help="nothing merged by the kernel")
    parser.add_argument("--form", default="", help="which of several ways to receive")
    found = parser.parse_args()
    signal.alarm(found.limit)
    job = Job(
        found.port,
        tuple(str(found.group + i) for i in range(found.groups)),
        found.interface,
        found.receive_buffer,
        found.ticking,
        found.packet_info,
        found.exact_losses,
        found.form,
    )
    return job, Meter(found.timing)


def _summarise(numbers: list[float]) -> dict[str, float] | None:
    if not numbers:
        return None
    ordered = sorted(numbers)
    return {
        "count": len(ordered),
        "median": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
    }


def _read_anonymous_memory() -> int:
    """Bytes of memory that this process has written to and that no file stands behind."""
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Anonymous:"))


def _print_json(value: dict[str, Any]) -> None:
    # Not by sys.stdout, which forbids a signal handler to write while it is being flushed itself.
    os.write(1, json.dumps(value).encode() + b"\n")
