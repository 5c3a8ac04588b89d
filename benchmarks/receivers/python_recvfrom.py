"""A loop around the socket module's blocking `recvfrom`."""

from .meter import start
from .plain import LARGEST, open_shared_socket


def main() -> None:
    job, meter = start()
    meter.begin_opening()
    sock = open_shared_socket(job)
    meter.end_opening()
    while True:
        data, _source = sock.recvfrom(LARGEST)
        meter.datagrams += 1
        if meter.timing:
            meter.note_delay(data)


if __name__ == "__main__":
    main()
