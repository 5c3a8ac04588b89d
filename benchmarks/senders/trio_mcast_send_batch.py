"""This library: `send_batch` awaited for every 64 datagrams."""

from __future__ import annotations

import trio

import trio_mcast

from .meter import start

BATCH = 64


async def main() -> None:
    job = start()
    payload = bytes(job.size)
    whole, rest = divmod(job.count, BATCH)
    async with trio_mcast.open_sender(job.group, port=job.port, interface=job.interface) as sender:
        for _ in job.runs():
            for _ in range(whole):
                await sender.send_batch([payload] * BATCH)
            await sender.send_batch([payload] * rest)


if __name__ == "__main__":
    trio.run(main)
