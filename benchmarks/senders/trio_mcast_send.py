"""This library: `send` awaited for each datagram."""

from __future__ import annotations

import trio

import trio_mcast

from .meter import start


async def main() -> None:
    job = start()
    payload = bytes(job.size)
    async with trio_mcast.open_sender(job.group, port=job.port, interface=job.interface) as sender:
        for _ in job.runs():
            for _ in range(job.count):
                await sender.send(payload)


if __name__ == "__main__":
    trio.run(main)
