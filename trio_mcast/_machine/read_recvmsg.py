"""Reads one datagram at a time: the way on macOS and Windows, and the fall-back on Linux."""

from __future__ import annotations

import socket
import sys
from typing import Final, TypeAlias

from .._base.datagram import Datagram, SocketAddress
from .._base.errors import NotSupportedError
from .._plan.packet_info import AncillaryData, ControlMessage, read_ancillary_untrusted
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from . import winsock
from .receiving import DATAGRAMS_PER_READ, Origin
from .sockets import SystemSocket

_LARGEST_DATAGRAM: Final = 1 << 16
_CONTROL_SIZE: Final = 256

Message: TypeAlias = tuple[int, list[ControlMessage], int, SocketAddress]


class ReadBuffer:
    """What the sockets of a thread share.

    Attributes:
      platform: the numbers and layouts of ancillary data
      buffer: takes the largest datagram
    """

    def __init__(self, platform: Platform) -> None:
        self.platform: Platform = platform
        self.buffer: memoryview = memoryview(bytearray(_LARGEST_DATAGRAM))


class RecvmsgSocket(SystemSocket):
    """Reads one datagram for each system call."""

    __slots__ = ("_buffers",)

    def __init__(
        self, buffers: ReadBuffer, sock: socket.socket, plan: SocketPlan, origin: Origin
    ) -> None:
        super().__init__(buffers.platform, sock, plan, origin)
        self._buffers = buffers

    def read(self, found: list[Datagram], _again: bool) -> int:
        read_one = self._read_with_ancillary if self.origin.has_ancillary else self._read_plain
        datagrams: list[Datagram] = []
        count = 0
        for _ in range(DATAGRAMS_PER_READ):
            try:
                datagrams += read_one()
                count += 1
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if winsock.is_reset(error):
                    continue
                if not count:
                    raise
                break  # what was read goes first; the error will come again if it is real
        self._take_in(found, datagrams, sum(len(datagram.data) for datagram in datagrams))
        return count

    def _read_plain(self) -> list[Datagram]:
        buffer, origin = self._buffers.buffer, self.origin
        length, source = self._socket.recvfrom_into(buffer)
        data = bytes(buffer[:length])
        return [Datagram(data, source, origin.group, origin.port, origin.interface)]

    def _read_with_ancillary(self) -> list[Datagram]:
        message = self._receive_message()
        if message is None:
            return self._read_plain()
        buffer, origin = self._buffers.buffer, self.origin
        length, items, flags, source = message
        found = read_ancillary_untrusted(self._buffers.platform, items)
        if _is_stray(found, origin):
            return []
        segment = found.segment_size or max(length, 1)  # several may have come as one
        return [
            Datagram(
                bytes(buffer[start : min(start + segment, length)]),
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

    def _receive_message(self) -> Message | None:
        """A datagram with all that came with it: length, control messages, flags, source.

        None where that cannot be had.
        """
        if sys.platform == "win32":
            raise NotSupportedError("Python has no recvmsg on Windows")
        return self._socket.recvmsg_into([self._buffers.buffer], _CONTROL_SIZE)


def _is_stray(found: AncillaryData, origin: Origin) -> bool:
    """Whether the datagram was for another group or came in by another interface."""
    if found.destination is not None and found.destination != origin.packed_group:
        return True
    return found.interface_index not in (None, origin.interface.index)
