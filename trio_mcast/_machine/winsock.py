"""Calls of Winsock that Python's `socket` module does not make (``mswsock.h``, ``mstcpip.h``)."""

from __future__ import annotations

import ctypes
import socket
import sys
from collections.abc import Callable
from typing import Final, TypeAlias

from .._base.errors import NotSupportedError

SIO_GET_EXTENSION_FUNCTION_POINTER: Final = 0xC8000006
SIO_ADDRESS_LIST_CHANGE: Final = 0x28000017
SIO_UDP_CONNRESET: Final = 0x9800000C
SIO_UDP_NETRESET: Final = 0x9800000F

# f689d7c8-6f1f-436b-8a53-e54fe351c322 as struct GUID: three little-endian numbers, then bytes.
WSAID_WSARECVMSG: Final = bytes.fromhex("c8d789f61f6f6b438a53e54fe351c322")

_FALSE: Final = bytes(4)  # BOOL


class WSABUF(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint32), ("buf", ctypes.c_void_p))


class WSAMSG(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_int32),
        ("lpBuffers", ctypes.c_void_p),
        ("dwBufferCount", ctypes.c_uint32),
        ("Control", WSABUF),
        ("dwFlags", ctypes.c_uint32),
    )


class OVERLAPPED(ctypes.Structure):
    _fields_ = (
        ("Internal", ctypes.c_size_t),
        ("InternalHigh", ctypes.c_size_t),
        ("Offset", ctypes.c_uint32),
        ("OffsetHigh", ctypes.c_uint32),
        ("hEvent", ctypes.c_void_p),
    )


WSARecvMsg: TypeAlias = Callable[[int, WSAMSG], tuple[int, int]]
"""Receives a datagram into a message's buffers: (length, error number of Winsock or 0)."""


class Winsock:
    """The calls. Only Windows has them; a test puts a model in their place."""

    def silence_resets(self, sock: socket.socket) -> None:
        """Have ICMP errors about datagrams sent earlier not reported by reading.

        Otherwise reading fails once for each with WSAECONNRESET (port unreachable) or WSAENETRESET
        (hop limit exceeded). Where the system refuses, reading passes over these errors.
        """
        for code in (SIO_UDP_CONNRESET, SIO_UDP_NETRESET):
            try:
                self.control(sock, code, _FALSE)
            except OSError:
                pass

    if sys.platform == "win32":

        def control(
            self, sock: socket.socket, code: int, request: bytes = b"", answer_size: int = 0
        ) -> bytes:
            """WSAIoctl, which gives an answer at once.

            Raises:
              OSError: Winsock refused
            """
            answer = ctypes.create_string_buffer(answer_size)
            length = ctypes.c_uint32()
            if _ioctl(
                sock.fileno(), code, request, len(request), answer, answer_size, length, None, None
            ):
                raise ctypes.WinError(ctypes.get_last_error())
            return answer.raw[: length.value]

        def control_overlapped(
            self, sock: socket.socket, code: int, overlapped: OVERLAPPED
        ) -> None:
            """WSAIoctl, which completes later. The structure must be kept until then.

            Raises:
              OSError: Winsock refused
            """
            length = ctypes.c_uint32()
            address = ctypes.addressof(overlapped)
            if _ioctl(sock.fileno(), code, None, 0, None, 0, length, address, None):
                error = ctypes.get_last_error()
                if error != _WSA_IO_PENDING:
                    raise ctypes.WinError(error)

        def load_wsarecvmsg(self, family: int) -> WSARecvMsg:
            """The function, which has no name in any library but must be asked for.

            Raises:
              OSError: the system's provider for UDP, or what somebody put above it, has none
            """
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                size = ctypes.sizeof(ctypes.c_void_p)
                code = SIO_GET_EXTENSION_FUNCTION_POINTER
                answer = self.control(sock, code, WSAID_WSARECVMSG, size)
            prototype = ctypes.WINFUNCTYPE(
                ctypes.c_int,
                ctypes.c_size_t,
                ctypes.POINTER(WSAMSG),
                ctypes.POINTER(ctypes.c_uint32),
                ctypes.c_void_p,
                ctypes.c_void_p,
                use_last_error=True,
            )
            function = prototype(int.from_bytes(answer, sys.byteorder))
            length = ctypes.c_uint32()

            def receive(handle: int, message: WSAMSG) -> tuple[int, int]:
                failed = function(handle, message, length, None, None)
                return length.value, ctypes.get_last_error() if failed else 0

            return receive

        def make_error(self, number: int) -> OSError:
            """The exception that the `socket` module would raise."""
            return ctypes.WinError(number)

    else:

        def control(
            self, sock: socket.socket, code: int, request: bytes = b"", answer_size: int = 0
        ) -> bytes:
            raise NotSupportedError("there is no Winsock on this system")

        def control_overlapped(
            self, sock: socket.socket, code: int, overlapped: OVERLAPPED
        ) -> None:
            raise NotSupportedError("there is no Winsock on this system")

        def load_wsarecvmsg(self, family: int) -> WSARecvMsg:
            raise NotSupportedError("there is no Winsock on this system")

        def make_error(self, number: int) -> OSError:
            return OSError(number, f"Winsock error {number}")


if sys.platform == "win32":
    _ws2_32: Final = ctypes.WinDLL("ws2_32", use_last_error=True)
    _ioctl: Final = _ws2_32.WSAIoctl
    _ioctl.argtypes = (
        ctypes.c_size_t,  # SOCKET
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_uint32,
        ctypes.POINTER(ctypes.c_uint32),
        ctypes.c_void_p,  # OVERLAPPED
        ctypes.c_void_p,
    )
    _WSA_IO_PENDING: Final = 997


def is_reset(error: OSError) -> bool:
    """Whether this is about a datagram that was sent earlier, and no failure of reading."""
    return getattr(error, "winerror", None) == 10052 or isinstance(error, ConnectionResetError)
