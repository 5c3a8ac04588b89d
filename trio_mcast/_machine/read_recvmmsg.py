"""Batched reads on Linux: one recvmmsg(2) system call fetches up to 64 datagrams.

The kernel writes into memory that was laid out once: for each datagram a slot for its payload, its
sender's address and its ancillary data. Taking a batch out of there is then a handful of operations
over whole columns instead of a dozen for each datagram, which is what makes Python fast here.
"""

from __future__ import annotations

import ctypes
import errno
import math
import mmap
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from .._base.datagram import Datagram, SocketAddress
from .._plan.packet_info import (
    AncillaryColumns,
    ControlMessage,
    read_ancillary_untrusted,
    read_control_batch_untrusted,
)
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from .receiving import DATAGRAMS_PER_READ, Origin
from .sockets import SystemSocket
from .sources import KnownSources

assert not TYPE_CHECKING or sys.platform == "linux"

_MSG_DONTWAIT: Final = 0x40

# A slot takes the largest UDP datagram whole. They stand a little more than 64 KiB apart, so that
# their beginnings do not compete for the same lines of the processor's caches; pages that nobody
# wrote to cost nothing.
_SLOT_SIZE: Final = 1 << 16
_SLOT_STRIDE: Final = _SLOT_SIZE + mmap.PAGESIZE + 64
_CONTROL_SIZE: Final = 256

# Of merged datagrams, up to 64 each: with these, other tasks run as late as with the others.
_MERGED_PER_READ: Final = 8

# What pays for many only: it takes long to set up.
_FEW: Final = 12

# What a sandbox (seccomp) or an emulator answers to a system call that it does not let through.
_REFUSALS_OF_CALL: Final = {errno.ENOSYS, errno.EPERM, errno.EACCES}

# A socket that once held no more than one is read singly, until it has been found so many times in
# a row to hold another one right after a read.
_SINGLE_READS: Final = 2

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
        # With `argtypes` a call would take twice as long.
        return ctypes.CDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):  # a libc without it, or no dynamic linking
        return None


_recvmmsg = _load_recvmmsg()

IS_AVAILABLE: Final = _recvmmsg is not None


class _Layout(NamedTuple):
    """An array of message headers that points into the shared memory."""

    headers: ctypes._CArgObject  # what the kernel is told where they are
    octets: memoryview  # the headers again, as bytes
    words: memoryview  # and as numbers
    pristine: memoryview  # as they were: the kernel overwrites the lengths
    name_size: int


class BatchBuffers:
    """What the kernel writes batches into, and the way out of there. For the sockets of a thread.

    Attributes:
      platform: the numbers and layouts of ancillary data
      single_reads: how often a socket that holds little is read singly before it is read in batches
    """

    def __init__(self, platform: Platform) -> None:
        self.platform: Platform = platform
        self.single_reads: float = _SINGLE_READS
        n = DATAGRAMS_PER_READ
        self._payloads = _map_memory(n * _SLOT_STRIDE)
        self._names = _map_memory(n * 32)
        self._controls = _map_memory(n * _CONTROL_SIZE)
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
        self._messages_per_read = n
        self._sources = KnownSources()

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
        octets = memoryview(headers).cast("B")
        pristine = memoryview(bytes(octets))
        return _Layout(ctypes.byref(headers), octets, octets.cast("I"), pristine, name_size)

    def read(self, descriptor: int, origin: Origin) -> tuple[list[Datagram], int]:
        """Read a batch from a socket: the datagrams, and the bytes of their payloads.

        Raises:
          OSError: the kernel refused, other than for there being nothing
        """
        assert _recvmmsg is not None
        layout = self._layouts[len(origin.packed_group)]
        count = _recvmmsg(descriptor, layout.headers, self._messages_per_read, _MSG_DONTWAIT, None)
        if count <= 0:
            return _read_nothing()
        words = layout.words
        end = count * _HEADER_WORDS
        lengths = words[_LENGTH_WORD:end:_HEADER_WORDS].tolist()
        control_lengths = words[_CONTROL_LENGTH_WORD:end:_HEADER_WORDS].tolist()
        size = count * _HEADER_SIZE
        layout.octets[:size] = layout.pristine[:size]
        sources = self._read_sources(layout.name_size, count)
        ancillary = _NO_ANCILLARY
        if any(control_lengths):
            controls = self._controls[: count * _CONTROL_SIZE]
            ancillary = read_control_batch_untrusted(
                self.platform, controls, _CONTROL_SIZE, control_lengths
            )
            if ancillary.segment_size is not _ABSENT and any(ancillary.segment_size):
                return self._read_merged(lengths, sources, ancillary, origin)
        self._messages_per_read = DATAGRAMS_PER_READ
        data = self._read_payloads(lengths)
        return _make_datagrams(data, sources, ancillary, origin), sum(lengths)

    def _read_payloads(self, lengths: list[int]) -> Sequence[bytes]:
        length, count, payloads = lengths[0], len(lengths), self._payloads
        if lengths.count(length) == count:  # as a stream has it: then one call takes them all
            return _compile(f"{length}s{_SLOT_STRIDE - length}x" * count).unpack_from(payloads)
        return [
            payloads[start : start + length]
            for start, length in zip(self._offsets, lengths, strict=False)
        ]

    def _read_merged(
        self,
        lengths: list[int],
        sources: Iterable[SocketAddress],
        ancillary: AncillaryColumns,
        origin: Origin,
    ) -> tuple[list[Datagram], int]:
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
        return _make_datagrams(data, _repeat_each(sources, counts), found, origin), sum(lengths)

    def _split(self, start: int, length: int, size: int) -> Sequence[bytes]:
        """One payload of so many bytes each; the last may be shorter."""
        whole, rest = divmod(length, size) if size else (0, 0)
        layout = f"{size}s" * whole + (f"{rest}s" if rest else "")
        return _compile(layout or "0s").unpack_from(self._payloads, start)

    def _read_sources(self, name_size: int, count: int) -> Iterable[SocketAddress]:
        names = self._names[: count * name_size]
        first = names[:name_size]
        if names == first * count:  # most batches come from one sender
            return repeat(self._sources.decode(first))
        return [
            self._sources.decode(names[start : start + name_size])
            for start in range(0, count * name_size, name_size)
        ]


class RecvmmsgSocket(SystemSocket):
    """Reads in batches, but singly from a socket that gets a datagram now and then.

    For one datagram the plain call takes a third of the time that a batch of one does.
    """

    __slots__ = ("_buffers", "_receive_one", "_single_reads_left")

    def __init__(
        self, buffers: BatchBuffers, sock: socket.socket, plan: SocketPlan, origin: Origin
    ) -> None:
        super().__init__(buffers.platform, sock, plan, origin)
        self._buffers = buffers
        self._receive_one = sock.recvmsg
        self._single_reads_left = buffers.single_reads

    def read(self, found: list[Datagram], again: bool) -> int:
        if not self._single_reads_left:
            try:
                datagrams, size = self._buffers.read(self._socket.fileno(), self.origin)
            except OSError as error:
                if error.errno not in _REFUSALS_OF_CALL:
                    raise
                # Found here and not when the library is imported, for a program may shut itself in
                # at any time. The plain call is let through, or Python itself would not work.
                self._buffers.single_reads = math.inf
            else:
                count = len(datagrams)
                if count == 1:
                    self._single_reads_left = self._buffers.single_reads
                self._take_in(found, datagrams, size)
                return count
        try:
            data, messages, _flags, source = self._receive_one(_SLOT_SIZE, _CONTROL_SIZE)
        except (BlockingIOError, InterruptedError):
            return 0
        self._single_reads_left = (
            self._single_reads_left - 1 if again else self._buffers.single_reads
        )
        if messages or self.unwanted_sources:
            datagrams = self._take_apart(data, messages, source)
            self._take_in(found, datagrams, len(data))
            return len(datagrams)
        whole = (data, source) + self.origin.rest  # noqa: RUF005 # half the time
        found.append(_new(Datagram, whole))
        self.datagrams_read += 1
        self.bytes_read += len(data)
        return 1

    def _take_apart(
        self, data: bytes, messages: list[ControlMessage], source: SocketAddress
    ) -> list[Datagram]:
        """What one call gave: one datagram, or several that were merged."""
        found = read_ancillary_untrusted(self._buffers.platform, messages)
        size = found.segment_size or len(data) or 1
        pieces = [data[start : start + size] for start in range(0, len(data) or 1, size)]
        ancillary = AncillaryColumns(
            hop_limit=repeat(found.hop_limit),
            timestamp=repeat(found.timestamp),
            traffic_class=repeat(found.traffic_class),
        )
        return _make_datagrams(pieces, repeat(source), ancillary, self.origin)


_NO_ANCILLARY: Final = AncillaryColumns()
_ABSENT: Final = _NO_ANCILLARY.segment_size

_compile = lru_cache(maxsize=256)(struct.Struct)

# Makes a NamedTuple in half the time that calling the class takes.
_new = tuple.__new__


def _make_datagrams(
    data: Sequence[bytes],
    sources: Iterable[SocketAddress],
    ancillary: AncillaryColumns,
    origin: Origin,
) -> list[Datagram]:
    if ancillary is _NO_ANCILLARY and len(data) <= _FEW:
        return [_new(Datagram, pair + origin.rest) for pair in zip(data, sources, strict=False)]
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
    return list(map(_new, repeat(Datagram), zip(*columns, strict=False)))


def _repeat_each(column: Iterable[_T], counts: list[int]) -> Iterable[_T]:
    return chain.from_iterable(map(repeat, column, counts))


def _read_nothing() -> tuple[list[Datagram], int]:
    number = ctypes.get_errno()
    if number in (errno.EAGAIN, errno.EINTR):
        return [], 0
    raise OSError(number, os.strerror(number))


def _map_memory(size: int) -> mmap.mmap:
    # Private, for Python's default is to share it with child processes: after os.fork() parent and
    # child would read each other's datagrams.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _address_of(memory: mmap.mmap) -> int:
    # The reference that from_buffer holds would forbid closing the map, which nobody does.
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
