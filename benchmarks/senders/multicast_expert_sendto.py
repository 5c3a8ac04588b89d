"""multicast_expert's sender."""

import socket

import multicast_expert

from .meter import start


def main() -> None:
    job = start()
    payload = bytes(job.size)
    address = (job.group, job.port)
    with multicast_expert.McastTxSocket(
        socket.AF_INET, [job.group], iface=job.interface, enable_external_loopback=True
    ) as sender:
        for _ in job.runs():
            for _ in range(job.count):
                sender.sendto(payload, address)


if __name__ == "__main__":
    main()
