"""Standard input and files, read without holding up the event loop."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

_READ_SIZE = 1 << 16


class ByteInput:
    """Lines or pieces of standard input or of a file.

    Reads happen in a thread that is given up when Ctrl-C comes, for nobody can interrupt one that
    waits for a terminal. They go to the descriptor itself: such a thread would keep the lock of a
    buffered file for ever, and Python, which takes it once more at its end, would crash.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = open(  # noqa: SIM115 - closed where it ends
            sys.stdin.fileno() if path is None else path,
            "rb",
            buffering=0,
            closefd=path is not None,
        )
        self._buffer = bytearray()
        self._has_ended = False

    @property
    def is_terminal(self) -> bool:
        return self._file.isatty()

    async def read_line(self) -> bytes | None:
        """The next line without its end, or None when there are no more.

        What is longer than any datagram is not read to its end: it comes in pieces, too large to
        be sent.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if self._has_ended or searched > _READ_SIZE:
                return self._take(searched) or None
            await self._fill()
        return self._take(end + 1).removesuffix(b"\n").removesuffix(b"\r")

    async def read_piece(self, size: int) -> bytes | None:
        """The next so many bytes, fewer at the end, or None when there are no more."""
        while len(self._buffer) < size and not self._has_ended:
            await self._fill()
        return self._take(size) or None

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _fill(self) -> None:
        data = await trio.to_thread.run_sync(self._file.read, _READ_SIZE, abandon_on_cancel=True)
        self._buffer += data
        if not data:
            self._has_ended = True
            self._file.close()
