"""Reads one datagram at a time: the way on macOS and Windows, and the fall-back on Linux."""

from __future__ import annotations

import socket
import sys
from typing import Final, TypeAlias

from .._errors import NotSupportedError
from .._plan.datagram import Datagram, SocketAddress
from .._plan.packet_info import AncillaryData, ControlMessage, read_ancillary_untrusted
from .._plan.platforms import Platform
from . import winsock
from .reading import DATAGRAMS_PER_READ, Batch, Origin

_LARGEST_DATAGRAM: Final = 1 << 16
_CONTROL_SIZE: Final = 256

Message: TypeAlias = tuple[int, list[ControlMessage], int, SocketAddress]


class PortableReader:
    """Reads one datagram for each system call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._buffer = memoryview(bytearray(_LARGEST_DATAGRAM))

    def read(self, sock: socket.socket, origin: Origin) -> Batch:
        """Read what is there, up to `DATAGRAMS_PER_READ` datagrams, without waiting.

        Raises:
          OSError: the kernel refused, other than for there being nothing
        """
        read_one = self._read_with_ancillary if origin.has_ancillary else self._read_plain
        datagrams: list[Datagram] = []
        for _ in range(DATAGRAMS_PER_READ):
            try:
                found = read_one(sock, origin)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if winsock.is_reset(error):
                    continue
                if not datagrams:
                    raise
                break  # what was read goes first; the error will come again if it is real
            datagrams += found
        return Batch(datagrams, sum(len(datagram.data) for datagram in datagrams))

    def _read_plain(self, sock: socket.socket, origin: Origin) -> list[Datagram]:
        length, source = sock.recvfrom_into(self._buffer)
        data = bytes(self._buffer[:length])
        return [Datagram(data, source, origin.group, origin.port, origin.interface)]

    def _read_with_ancillary(self, sock: socket.socket, origin: Origin) -> list[Datagram]:
        message = self._receive_message(sock)
        if message is None:
            return self._read_plain(sock, origin)
        length, items, flags, source = message
        found = read_ancillary_untrusted(self._platform, items)
        if _is_stray(found, origin):
            return []
        segment = found.segment_size or max(length, 1)  # several may have come as one
        return [
            Datagram(
                bytes(self._buffer[start : min(start + segment, length)]),
                source,
                origin.group,
                origin.port,
                origin.interface,
                found.hop_limit,
                found.timestamp,
                found.traffic_class,
                bool(flags & socket.MSG_TRUNC),
            )
            for start in range(0, length or 1, segment)
        ]

    def _receive_message(self, sock: socket.socket) -> Message | None:
        """A datagram with all that came with it: length, control messages, flags, source.

        None where that cannot be had.
        """
        if sys.platform == "win32":
            raise NotSupportedError("Python has no recvmsg on Windows")
        return sock.recvmsg_into([self._buffer], _CONTROL_SIZE)


def _is_stray(found: AncillaryData, origin: Origin) -> bool:
    """Whether the datagram was for another group or came in by another interface."""
    if found.destination is not None and found.destination != origin.packed_group:
        return True
    return found.interface_index not in (None, origin.interface.index)
