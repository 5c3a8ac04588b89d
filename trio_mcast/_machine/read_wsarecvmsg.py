"""Reads on Windows, where Python has no `recvmsg`: Winsock's own WSARecvMsg by way of ctypes.

Only that tells where a datagram was sent to and by which interface it came. It must, because a
socket there cannot be bound to a group: bound to the wildcard, it may get what is for others.
"""

from __future__ import annotations

import ctypes
import socket
from typing import Final

from .._plan.packet_info import read_control_buffer_untrusted
from .._plan.platforms import Platform
from .read_recvmsg import Message, ReadBuffer, RecvmsgSocket
from .sources import KnownSources
from .winsock import WSABUF, WSAMSG, Winsock, WSARecvMsg

_NAME_SIZE: Final = 28  # struct sockaddr_in6
_CONTROL_SIZE: Final = 256
_WSAEMSGSIZE: Final = 10040


class WinsockBuffer(ReadBuffer):
    """What the sockets of a thread share: what WSARecvMsg is told, and where it writes."""

    def __init__(self, platform: Platform, winsock: Winsock) -> None:
        super().__init__(platform)
        self._winsock = winsock
        self._functions: dict[int, WSARecvMsg | None] = {}
        self._name = ctypes.create_string_buffer(_NAME_SIZE)
        self._control = ctypes.create_string_buffer(_CONTROL_SIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self._payload = WSABUF(len(self.buffer), address)
        self._message = WSAMSG(
            name=ctypes.addressof(self._name),
            lpBuffers=ctypes.addressof(self._payload),
            dwBufferCount=1,
            Control=WSABUF(_CONTROL_SIZE, ctypes.addressof(self._control)),
        )
        self._sources = KnownSources()

    def receive(self, sock: socket.socket) -> Message | None:
        """Receive a datagram into the buffer; None if the system lacks the function.

        Raises:
          OSError: the system refused, or nothing is there
        """
        function = self._find_function(sock.family)
        if function is None:
            return None
        message = self._message
        message.namelen = _NAME_SIZE
        message.Control.len = _CONTROL_SIZE  # it was overwritten with what was filled
        message.dwFlags = 0
        length, error = function(sock.fileno(), message)
        if error and error != _WSAEMSGSIZE:  # that one came all the same, but cut
            raise self._winsock.make_error(error)
        filled = self._control.raw[: message.Control.len]
        items = read_control_buffer_untrusted(self.platform, filled)
        flags = socket.MSG_TRUNC if error else 0
        return length, items, flags, self._sources.decode(self._name.raw[: message.namelen])

    def _find_function(self, family: int) -> WSARecvMsg | None:
        try:
            return self._functions[family]
        except KeyError:
            pass
        try:
            function = self._winsock.load_wsarecvmsg(family)
        except OSError:
            function = None
        self._functions[family] = function
        return function


class WinsockSocket(RecvmsgSocket):
    """Reads one datagram for each system call, which leaves no stray unnoticed.

    Where the system does not have the function (some network filters of third parties take it
    away), datagrams are read without what it tells: strays then come through, and what was asked
    for with ``packet_info`` is None.
    """

    __slots__ = ()

    _buffers: WinsockBuffer

    def _receive_message(self) -> Message | None:
        return self._buffers.receive(self._socket)
