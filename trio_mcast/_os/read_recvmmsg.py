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
import struct
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from .._plan.datagram import Datagram, SocketAddress
from .._plan.packet_info import (
    AncillaryColumns,
    read_ancillary_untrusted,
    read_control_batch_untrusted,
)
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

# Of merged datagrams, up to 64 each: with these, other tasks run as late as with the others.
_MERGED_PER_READ: Final = 8

# After a batch of one, so many datagrams are read singly before a batch is tried again.
_SINGLE_READS: Final = 4
_NEVER_SEEN: Final = (None, 0)

_T = TypeVar("_T")


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
            4: self._lay_out(name_size=16),
            16: self._lay_out(name_size=28),
        }  # by the length of a packed address: `socket.family` is slow
        # How often to read singly, by descriptor; its number may be another socket's next time.
        self._single_reads_left: dict[int, tuple[Origin, int]] = {}
        self._messages_per_read = n
        self._sources: dict[bytes, SocketAddress] = {}

    def _lay_out(self, name_size: int) -> _Layout:
        n = DATAGRAMS_PER_READ
        headers = (_mmsghdr * n)()
        names, controls = _address_of(self._names), _address_of(self._controls)
        for i in range(n):
            header = headers[i].msg_hdr
            header.msg_name = names + i * name_size
            header.msg_namelen = name_size
            header.msg_iov = ctypes.addressof(self._vectors[i])
            header.msg_iovlen = 1
            header.msg_control = controls + i * _CONTROL_SIZE
            header.msg_controllen = _CONTROL_SIZE
        words = memoryview(headers).cast("B").cast("I")
        return _Layout(headers, words, ctypes.addressof(headers), bytes(headers), name_size)

    def read(self, sock: socket.socket, origin: Origin) -> Batch:
        """Read what is there, up to `DATAGRAMS_PER_READ` datagrams, without waiting.

        Where the kernel hands over merged datagrams it can be some hundred more.

        Raises:
          OSError: the kernel refused, other than for there being nothing
        """
        descriptor = sock.fileno()
        seen, left = self._single_reads_left.get(descriptor, _NEVER_SEEN)
        if left and seen is origin:
            self._single_reads_left[descriptor] = (origin, left - 1)
            return self._read_single(sock, origin)
        assert _recvmmsg is not None
        layout = self._layouts[len(origin.packed_group)]
        count = _recvmmsg(descriptor, layout.address, self._messages_per_read, _MSG_DONTWAIT, None)
        if count <= 0:
            return _read_nothing()
        if count == 1 or left:
            self._single_reads_left[descriptor] = (origin, _SINGLE_READS if count == 1 else 0)
        words = layout.words
        end = count * _HEADER_WORDS
        lengths = words[_LENGTH_WORD:end:_HEADER_WORDS].tolist()
        control_lengths = words[_CONTROL_LENGTH_WORD:end:_HEADER_WORDS].tolist()
        ctypes.memmove(layout.address, layout.pristine, count * _HEADER_SIZE)
        sources = self._read_sources(layout.name_size, count)
        ancillary = _NO_ANCILLARY
        if any(control_lengths):
            controls = self._controls[: count * _CONTROL_SIZE]
            ancillary = read_control_batch_untrusted(
                self._platform, controls, _CONTROL_SIZE, control_lengths
            )
            if ancillary.segment_size is not _ABSENT and any(ancillary.segment_size):
                return self._read_merged(lengths, sources, ancillary, origin)
        self._messages_per_read = DATAGRAMS_PER_READ
        data = self._read_payloads(lengths)
        return Batch(_make_datagrams(data, sources, ancillary, origin), sum(lengths))

    def _read_payloads(self, lengths: list[int]) -> Sequence[bytes]:
        length, count, payloads = lengths[0], len(lengths), self._payloads
        if lengths.count(length) == count:  # as a stream has it: then one call takes them all
            return _compile(f"{length}s{_SLOT_STRIDE - length}x" * count).unpack_from(payloads)
        return [
            payloads[start : start + length]
            for start, length in zip(self._offsets, lengths, strict=False)
        ]

    def _read_single(self, sock: socket.socket, origin: Origin) -> Batch:
        """For sockets that get a datagram now and then, the plain call is four times as fast."""
        try:
            data, messages, _flags, source = sock.recvmsg(_SLOT_SIZE, _CONTROL_SIZE)
        except (BlockingIOError, InterruptedError):
            return Batch([], 0)
        if not messages:
            fields = (data, source, *origin[:3], None, None, None, False)
            return Batch([tuple.__new__(Datagram, fields)], len(data))
        found = read_ancillary_untrusted(self._platform, messages)
        size = found.segment_size or len(data) or 1
        pieces = [data[start : start + size] for start in range(0, len(data) or 1, size)]
        ancillary = AncillaryColumns(
            hop_limit=repeat(found.hop_limit),
            timestamp=repeat(found.timestamp),
            traffic_class=repeat(found.traffic_class),
        )
        return Batch(_make_datagrams(pieces, repeat(source), ancillary, origin), len(data))

    def _read_merged(
        self,
        lengths: list[int],
        sources: Iterable[SocketAddress],
        ancillary: AncillaryColumns,
        origin: Origin,
    ) -> Batch:
        """Take apart what the kernel has merged, which it does with one sender's at a time.

        From now on, fewer are read at once: one of these can be 64 datagrams.
        """
        self._messages_per_read = _MERGED_PER_READ
        data: list[bytes] = []
        counts = []
        sizes = ancillary.segment_size
        for start, length, size in zip(self._offsets, lengths, sizes, strict=False):
            pieces = self._split(start, length, size or length)
            data += pieces
            counts.append(len(pieces))
        found = AncillaryColumns(
            hop_limit=_repeat_each(ancillary.hop_limit, counts),
            timestamp=_repeat_each(ancillary.timestamp, counts),
            traffic_class=_repeat_each(ancillary.traffic_class, counts),
        )
        return Batch(
            _make_datagrams(data, _repeat_each(sources, counts), found, origin), sum(lengths)
        )

    def _split(self, start: int, length: int, size: int) -> Sequence[bytes]:
        """One payload of so many bytes each; the last may be shorter."""
        whole, rest = divmod(length, size) if size else (0, 0)
        layout = f"{size}s" * whole + (f"{rest}s" if rest else "")
        return _compile(layout or "0s").unpack_from(self._payloads, start)

    def _read_sources(self, name_size: int, count: int) -> Iterable[SocketAddress]:
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


_NO_ANCILLARY: Final = AncillaryColumns()
_ABSENT: Final = _NO_ANCILLARY.segment_size

_compile = lru_cache(maxsize=256)(struct.Struct)


def _make_datagrams(
    data: Sequence[bytes],
    sources: Iterable[SocketAddress],
    ancillary: AncillaryColumns,
    origin: Origin,
) -> list[Datagram]:
    columns = (
        data,
        sources,
        repeat(origin.group),
        repeat(origin.port),
        repeat(origin.interface),
        ancillary.hop_limit,
        ancillary.timestamp,
        ancillary.traffic_class,
        repeat(False),
    )
    # tuple.__new__ makes a NamedTuple in half the time that calling the class takes.
    return list(map(tuple.__new__, repeat(Datagram), zip(*columns, strict=False)))


def _repeat_each(column: Iterable[_T], counts: list[int]) -> Iterable[_T]:
    return chain.from_iterable(map(repeat, column, counts))


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
