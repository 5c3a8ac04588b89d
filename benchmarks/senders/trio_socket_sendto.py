"""Trio's own socket: `sendto` awaited for each datagram."""

from __future__ import annotations

import trio

from .meter import start
from .plain import open_socket


async def main() -> None:
    job = start()
    sock = trio.socket.from_stdlib_socket(open_socket(job.interface))
    payload = bytes(job.size)
    address = (job.group, job.port)
    for _ in job.runs():
        for _ in range(job.count):
            await sock.sendto(payload, address)


if __name__ == "__main__":
    trio.run(main)
