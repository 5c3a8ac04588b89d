"""What every sender program has in common: arguments, runs, and telling what they cost.

For each line on its standard input a program sends a run of datagrams as fast as it can, and prints
a JSON line when it has done so. It ends with its standard input, or when its time limit is over.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True)
class Job:
    """What to send."""

    group: str
    port: int
    interface: str
    size: int
    count: int

    def runs(self) -> Iterator[None]:
        """Wait for the order to send, and tell afterwards what it cost; again and again."""
        for _ in iter(sys.stdin.readline, ""):
            before = resource.getrusage(resource.RUSAGE_SELF)
            began = time.perf_counter()
            yield
            took = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_SELF)
            figures = {
                "datagrams": self.count,
                "seconds": took,
                "user": after.ru_utime - before.ru_utime,
                "system": after.ru_stime - before.ru_stime,
            }
            sys.stdout.write(json.dumps(figures) + "\n")
            sys.stdout.flush()


def start() -> Job:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--group", type=IPv4Address, required=True)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--limit", type=int, default=60, help="seconds after which to end")
    parser.add_argument("--size", type=int, default=64, help="bytes of a datagram")
    parser.add_argument("--count", type=int, default=1000, help="datagrams of a run")
    found = parser.parse_args()
    signal.alarm(found.limit)
    return Job(str(found.group), found.port, found.interface, found.size, found.count)
