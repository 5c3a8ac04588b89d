"""The datagram transport of asyncio. Its `sendto` cannot be awaited, so nothing else runs here."""

from __future__ import annotations

import asyncio

from .meter import start
from .plain import open_socket


async def main() -> None:
    job = start()
    sock = open_socket(job.interface)
    sock.setblocking(False)
    transport, _protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=sock
    )
    payload = bytes(job.size)
    address = (job.group, job.port)
    for _ in job.runs():
        for _ in range(job.count):
            transport.sendto(payload, address)


if __name__ == "__main__":
    asyncio.run(main())
