"""multicast_expert's asyncio receiver: one socket for all groups."""

import asyncio
import socket

import multicast_expert

from .asyncio_ticking import tick
from .meter import start
from .plain import ask_for_buffer


async def main() -> None:
    job, meter = start()
    meter.begin_opening()
    async with asyncio.TaskGroup() as tasks:
        with multicast_expert.AsyncMcastRxSocket(
            socket.AF_INET, job.groups, job.port, iface=job.interface
        ) as receiver:
            if job.receive_buffer is not None:
                ask_for_buffer(receiver.sockets[0], job.receive_buffer)
            if job.ticking:
                tasks.create_task(tick(meter))
            meter.end_opening()
            while True:
                data, _source = await receiver.recvfrom()
                meter.datagrams += 1
                if meter.timing:
                    meter.note_delay(data)


if __name__ == "__main__":
    asyncio.run(main())
