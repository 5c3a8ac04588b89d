"""Batched reads on Linux: one recvmmsg(2) system call fetches up to 64 datagrams.

The kernel writes into memory that was laid out once: for each datagram a slot for its payload, its
sender's address and its ancillary data. Taking a batch out of there is then a handful of operations
over whole columns instead of a dozen for each datagram, which is what makes Python fast here.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import sys
from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

from .._plan.datagram import Datagram, SocketAddress
from .._plan.packet_info import read_control_batch_untrusted
from .._plan.platforms import Platform
from .reading import DATAGRAMS_PER_READ, Batch, Origin

assert not TYPE_CHECKING or sys.platform == "linux"

_MSG_DONTWAIT: Final = 0x40

# A slot takes the largest UDP datagram whole. They stand a little more than 64 KiB apart, so that
# their beginnings do not compete for the same lines of the processor's caches; pages that nobody
# wrote to cost nothing.
_SLOT_SIZE: Final = 1 << 16
_SLOT_STRIDE: Final = _SLOT_SIZE + mmap.PAGESIZE + 64
_CONTROL_SIZE: Final = 256
_KNOWN_SOURCES_LIMIT: Final = 1024


class _iovec(ctypes.Structure):
    _fields_ = (("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t))


class _msghdr(ctypes.Structure):
    _fields_ = (
        ("msg_name", ctypes.c_void_p),
        ("msg_namelen", ctypes.c_uint32),
        ("msg_iov", ctypes.c_void_p),
        ("msg_iovlen", ctypes.c_size_t),
        ("msg_control", ctypes.c_void_p),
        ("msg_controllen", ctypes.c_size_t),
        ("msg_flags", ctypes.c_int),
    )


class _mmsghdr(ctypes.Structure):
    _fields_ = (("msg_hdr", _msghdr), ("msg_len", ctypes.c_uint))


_WORD: Final = ctypes.sizeof(ctypes.c_uint)
_HEADER_SIZE: Final = ctypes.sizeof(_mmsghdr)
_HEADER_WORDS: Final = _HEADER_SIZE // _WORD
_LENGTH_WORD: Final = _mmsghdr.msg_len.offset // _WORD
_CONTROL_LENGTH_WORD: Final = _msghdr.msg_controllen.offset // _WORD


def _load_recvmmsg() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):  # a libc without it, or no dynamic linking
        return None
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    return function


_recvmmsg = _load_recvmmsg()

IS_AVAILABLE: Final = _recvmmsg is not None


class _Layout(NamedTuple):
    """An array of message headers that points into the shared memory."""

    headers: ctypes.Array[_mmsghdr]
    words: memoryview  # the headers again, as numbers
    address: int
    pristine: bytes  # the headers as they were: the kernel overwrites the lengths
    name_size: int


class RecvmmsgReader:
    """Reads sockets of one thread, one after the other, all with the same memory."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        n = DATAGRAMS_PER_READ
        self._payloads = mmap.mmap(-1, n * _SLOT_STRIDE)
        self._names = mmap.mmap(-1, n * 32)
        self._controls = mmap.mmap(-1, n * _CONTROL_SIZE)
        self._offsets = range(0, n * _SLOT_STRIDE, _SLOT_STRIDE)
        self._vectors = (_iovec * n)()
        base = _address_of(self._payloads)
        for i, vector in enumerate(self._vectors):
            vector.iov_base = base + i * _SLOT_STRIDE
            vector.iov_len = _SLOT_SIZE
        # The kernel writes back the size of each address, so a layout serves one family.
        self._layouts = {
            (family, with_control): self._lay_out(name_size, with_control)
            for family, name_size in ((socket.AF_INET, 16), (socket.AF_INET6, 28))
            for with_control in (False, True)
        }
        self._sources: dict[bytes, SocketAddress] = {}

    def _lay_out(self, name_size: int, with_control: bool) -> _Layout:
        n = DATAGRAMS_PER_READ
        headers = (_mmsghdr * n)()
        names, controls = _address_of(self._names), _address_of(self._controls)
        for i in range(n):
            header = headers[i].msg_hdr
            header.msg_name = names + i * name_size
            header.msg_namelen = name_size
            header.msg_iov = ctypes.addressof(self._vectors[i])
            header.msg_iovlen = 1
            if with_control:
                header.msg_control = controls + i * _CONTROL_SIZE
                header.msg_controllen = _CONTROL_SIZE
        words = memoryview(headers).cast("B").cast("I")
        return _Layout(headers, words, ctypes.addressof(headers), bytes(headers), name_size)

    def read(self, sock: socket.socket, origin: Origin) -> Batch:
        """Read what is there, up to `DATAGRAMS_PER_READ` datagrams, without waiting.

        Raises:
          OSError: the kernel refused, other than for there being nothing
        """
        assert _recvmmsg is not None
        layout = self._layouts[sock.family, origin.has_ancillary]
        count = _recvmmsg(sock.fileno(), layout.address, DATAGRAMS_PER_READ, _MSG_DONTWAIT, None)
        if count <= 0:
            return _read_nothing()
        words = layout.words
        lengths = words[_LENGTH_WORD : count * _HEADER_WORDS : _HEADER_WORDS].tolist()
        payloads = self._payloads
        data = [
            payloads[start : start + length]
            for start, length in zip(self._offsets, lengths, strict=False)
        ]
        columns = (
            data,
            self._read_sources(layout.name_size, count),
            repeat(origin.group),
            repeat(origin.port),
            repeat(origin.interface),
            *(self._read_ancillary(layout, count) if origin.has_ancillary else _NO_ANCILLARY),
            repeat(False),
        )
        # tuple.__new__ makes a NamedTuple in half the time that calling the class takes.
        datagrams = list(map(tuple.__new__, repeat(Datagram), zip(*columns, strict=False)))
        return Batch(datagrams, sum(lengths))

    def _read_sources(
        self, name_size: int, count: int
    ) -> repeat[SocketAddress] | list[SocketAddress]:
        names = self._names[: count * name_size]
        first = names[:name_size]
        if names == first * count:  # most batches come from one sender
            return repeat(self._read_source(first))
        return [
            self._read_source(names[start : start + name_size])
            for start in range(0, count * name_size, name_size)
        ]

    def _read_source(self, name: bytes) -> SocketAddress:
        """Decode a sockaddr_in or sockaddr_in6 as the `socket` module does. Senders recur."""
        source = self._sources.get(name)
        if source is None:
            if len(self._sources) >= _KNOWN_SOURCES_LIMIT:
                self._sources.clear()
            source = self._sources[name] = _decode_source(name)
        return source

    def _read_ancillary(self, layout: _Layout, count: int) -> tuple[Iterable[int | None], ...]:
        words = layout.words
        lengths = words[_CONTROL_LENGTH_WORD : count * _HEADER_WORDS : _HEADER_WORDS].tolist()
        controls = self._controls[: count * _CONTROL_SIZE]
        found = read_control_batch_untrusted(self._platform, controls, _CONTROL_SIZE, lengths)
        ctypes.memmove(layout.address, layout.pristine, count * _HEADER_SIZE)
        return found.hop_limit, found.timestamp, found.traffic_class


_NO_ANCILLARY: Final = (repeat(None), repeat(None), repeat(None))


def _read_nothing() -> Batch:
    number = ctypes.get_errno()
    if number in (errno.EAGAIN, errno.EINTR):
        return Batch([], 0)
    raise OSError(number, os.strerror(number))


def _decode_source(name: bytes) -> SocketAddress:
    port = int.from_bytes(name[2:4], "big")
    if len(name) == 16:
        return (socket.inet_ntop(socket.AF_INET, name[4:8]), port)
    host = socket.inet_ntop(socket.AF_INET6, name[8:24])
    flow = int.from_bytes(name[4:8], "big")
    return (host, port, flow, int.from_bytes(name[24:28], sys.byteorder))


def _address_of(memory: mmap.mmap) -> int:
    # The reference that from_buffer holds would forbid closing the map, which nobody does.
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
