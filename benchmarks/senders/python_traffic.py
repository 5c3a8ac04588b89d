"""Traffic for the receivers where no C compiler is: as `c/send.c`, with its arguments, but slower.

It cannot let the kernel split datagrams, so `--segments` only makes the bursts that much larger.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import struct
import sys
import time
from ipaddress import IPv4Address
from itertools import cycle
from socket import socket

from .plain import open_socket


def run(arguments: argparse.Namespace, sock: socket, port: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    addresses = cycle([(str(arguments.group + i), port) for i in range(arguments.groups)])
    padding = bytes(max(arguments.size - 8, 0))
    burst = arguments.burst * arguments.segments
    began = following = time.monotonic()
    sent = 0
    while time.monotonic() < began + arguments.seconds and sent < arguments.count:
        if arguments.rate:
            time.sleep(max(0.0, following - time.monotonic() - 80e-6))
            while time.monotonic() < following:
                pass
            following += burst / arguments.rate
        payload = (struct.pack("q", time.monotonic_ns()) + padding)[: arguments.size]
        for _ in range(burst):
            sock.sendto(payload, next(addresses))
        sent += burst
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "datagrams": sent,
        "seconds": took,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", type=IPv4Address, required=True)
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--burst", type=int, default=64)
    parser.add_argument("--segments", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--count", type=int, default=sys.maxsize)
    arguments = parser.parse_args()
    signal.alarm(arguments.limit)
    sock = open_socket(arguments.interface)
    for line in sys.stdin:
        run(arguments, sock, int(line))


if __name__ == "__main__":
    main()
