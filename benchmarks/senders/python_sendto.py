"""A loop around the socket module's blocking `sendto`."""

from .meter import start
from .plain import open_socket


def main() -> None:
    job = start()
    sock = open_socket(job.interface)
    payload = bytes(job.size)
    address = (job.group, job.port)
    for _ in job.runs():
        for _ in range(job.count):
            sock.sendto(payload, address)


if __name__ == "__main__":
    main()
