"""Trio's own sockets, a task for each group that awaits `recvfrom` for each datagram."""

from __future__ import annotations

import trio
import trio.testing

from .meter import Meter, start
from .plain import LARGEST, open_group_socket
from .trio_ticking import tick


async def receive(sock: trio.socket.SocketType, meter: Meter) -> None:
    while True:
        data, _source = await sock.recvfrom(LARGEST)
        meter.datagrams += 1
        if meter.timing:
            meter.note_delay(data)


async def main() -> None:
    job, meter = start()
    meter.begin_opening()
    async with trio.open_nursery() as nursery:
        for group in job.groups:
            sock = trio.socket.from_stdlib_socket(open_group_socket(job, group))
            nursery.start_soon(receive, sock, meter)
        if job.ticking:
            nursery.start_soon(tick, meter)
        await trio.testing.wait_all_tasks_blocked()
        meter.end_opening()


if __name__ == "__main__":
    trio.run(main)
