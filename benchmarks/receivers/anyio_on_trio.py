"""anyio's UDP sockets on its trio backend, a task for each group."""

from __future__ import annotations

import socket

import anyio
import anyio.abc

from .meter import Meter, start
from .plain import open_group_socket
from .trio_ticking import tick


async def receive(sock: socket.socket, meter: Meter) -> None:
    async with await anyio.abc.UDPSocket.from_socket(sock) as udp:
        async for data, _source in udp:
            meter.datagrams += 1
            if meter.timing:
                meter.note_delay(data)


async def main() -> None:
    job, meter = start()
    meter.begin_opening()
    async with anyio.create_task_group() as tasks:
        for group in job.groups:
            tasks.start_soon(receive, open_group_socket(job, group), meter)
        if job.ticking:
            tasks.start_soon(tick, meter)
        await anyio.wait_all_tasks_blocked()
        meter.end_opening()


if __name__ == "__main__":
    anyio.run(main, backend="trio")
