"""multicast_expert's blocking receiver: one socket for all groups."""

import socket
from typing import cast

import multicast_expert

from .meter import start
from .plain import ask_for_buffer


def main() -> None:
    job, meter = start()
    meter.begin_opening()
    with multicast_expert.McastRxSocket(
        socket.AF_INET, job.groups, job.port, iface=job.interface
    ) as receiver:
        if job.receive_buffer is not None:
            ask_for_buffer(receiver.sockets[0], job.receive_buffer)
        meter.end_opening()
        while True:
            # It returns None when a time limit is over, and there is none here.
            data, _source = cast("tuple[bytes, object]", receiver.recvfrom())
            meter.datagrams += 1
            if meter.timing:
                meter.note_delay(data)


if __name__ == "__main__":
    main()
