"""A datagram protocol of asyncio for each group, on asyncio's own event loop or on uvloop."""

from __future__ import annotations

import asyncio
from typing import Any

from .asyncio_ticking import tick
from .meter import Job, Meter, start
from .plain import open_group_socket


class Protocol(asyncio.DatagramProtocol):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def datagram_received(self, data: bytes, _source: tuple[Any, ...]) -> None:
        self._meter.datagrams += 1
        if self._meter.timing:
            self._meter.note_delay(data)


async def main(job: Job, meter: Meter) -> None:
    loop = asyncio.get_running_loop()
    meter.begin_opening()
    for group in job.groups:
        sock = open_group_socket(job, group)
        sock.setblocking(False)
        await loop.create_datagram_endpoint(lambda: Protocol(meter), sock=sock)
    meter.end_opening()
    if job.ticking:
        await tick(meter)
    await asyncio.Event().wait()


def run() -> None:
    job, meter = start()
    if job.form == "uvloop":
        import uvloop

        uvloop.run(main(job, meter))
    else:
        asyncio.run(main(job, meter))


if __name__ == "__main__":
    run()
