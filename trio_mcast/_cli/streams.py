"""Standard output and standard error, written to without holding up the event loop.

A reader that does not read makes a write wait, perhaps for ever. Inside `output_in_background` it
is a thread that waits; elsewhere it is the program itself, and Ctrl-C ends that.

Both write to the descriptor itself, not through Python's buffer: a thread that is held up would
keep the lock of that buffer, and Python takes it once more at its end. Nor is the descriptor made
non-blocking, for other programs may share it.
"""

from __future__ import annotations

import errno
import io
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import trio

_StreamName: TypeAlias = Literal["stdout", "stderr"]

_GRACE = 0.25
_MOST_IN_LINE = 1 << 18  # characters
_MOST_AT_ONCE = 4096  # PIPE_BUF, linux/limits.h: what pipe(7) takes in one piece
_LINE_END = "\r\n" if sys.platform == "win32" else "\n"


class OutputStream:
    """A standard stream to write text to.

    In the background, text stands in line until a thread takes all that is there. So its order is
    kept, and the thread costs little, however short the texts are.
    """

    def __init__(self, name: _StreamName) -> None:
        self._name = name
        self._background: trio.CancelScope | None = None
        self._line: list[str] = []
        self._unwritten = 0
        self._lines_taken = 0  # by the event loop
        self._lines_written = 0  # by the thread
        self._is_given_up = False
        self._error: OSError | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def write(self, text: str) -> None:
        """Write at once or, in the background, soon.

        Raises:
          OSError: the system refuses it; in the background this is for those who wait
        """
        if self._background is None:
            _write(self._name, text)
        elif self._error is None:
            self._line.append(text)
            self._unwritten += len(text)
            self._lines_taken += text.count("\n")
            self._changed.unpark_all()

    async def wait_for_room(self) -> None:
        """Wait while too much is in line. Whoever writes without end has to, each time.

        Raises:
          OSError: the system refuses what was written
        """
        await self.settle(_MOST_IN_LINE)
        self._raise_if_refused()

    async def wait_until_written(self) -> None:
        """Wait until nothing is in line.

        Raises:
          OSError: the system refuses what was written
        """
        await self.settle()
        self._raise_if_refused()

    async def give_grace(self) -> None:
        """As `wait_until_written`, but for a moment only: the program is to end.

        Raises:
          OSError: the system refuses what was written
        """
        with trio.move_on_after(_GRACE, shield=True):
            await self.settle()
        self._raise_if_refused()

    def give_up(self) -> int:
        """Write no more of what is in line; how many lines that are. Whole lines were written."""
        self._is_given_up = True
        return 0 if self._background is None else self._lines_taken - self._lines_written

    async def settle(self, most: int = 0) -> None:
        """Wait until no more than that is in line, or nothing can be written."""
        while self._unwritten > most and self._error is None:
            await self._changed.park()

    def _raise_if_refused(self) -> None:
        if self._error is not None:
            raise self._error

    async def wait_until_broken(self) -> NoReturn:
        """Wait until nothing can be written any more, even if nothing is.

        Raises:
          OSError: why; BrokenPipeError: the reader has gone
        """
        if self._is_pipe():
            # Nothing ever comes out at this end. What ends the wait is that no reader is left,
            # which is reported whatever one waits for.
            await trio.lowlevel.wait_readable(getattr(sys, self._name).fileno())
            raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")
        while self._error is None:
            await self._changed.park()
        raise self._error

    def start_background(self) -> None:
        """Have a thread write from now on, except to a file, for that would only take time."""
        self._line.clear()
        self._unwritten = self._lines_taken = self._lines_written = 0
        self._is_given_up = False
        self._error = None
        if self._is_file():
            return
        self._background = trio.CancelScope()
        # In no nursery, which would wrap the exceptions of the program in groups.
        trio.lowlevel.spawn_system_task(self._write_in_background, self._background)

    def end_background(self) -> None:
        """Give up what is still in line."""
        if self._background is not None:
            self._background.cancel()
        self._background = None

    def _is_file(self) -> bool:
        """Or a device like /dev/null: nothing that makes a write wait."""
        link = self._find_link()
        if link is None:
            return False
        return link.is_file() or (link.is_char_device() and not getattr(sys, self._name).isatty())

    def _is_pipe(self) -> bool:
        """Whether it is a pipe, and for writing only."""
        link = self._find_link()
        return link is not None and link.is_fifo() and not link.lstat().st_mode & stat.S_IRUSR

    def _find_link(self) -> Path | None:
        """What Linux has for open files: a link to each, with the mode it was opened in."""
        try:
            link = Path(f"/proc/self/fd/{getattr(sys, self._name).fileno()}")
        except OSError:  # something in its place that has no descriptor
            return None
        return link if link.is_symlink() else None

    async def _write_in_background(self, scope: trio.CancelScope) -> None:
        with scope:
            while self._error is None:
                while not self._line:
                    await self._changed.park()
                text = "".join(self._line)
                self._line.clear()
                try:
                    # A thread that is held up is left behind; trio's keep no program from ending.
                    await trio.to_thread.run_sync(self._write_lines, text, abandon_on_cancel=True)
                except OSError as error:
                    self._error = error
                except RuntimeError:  # no thread can be started: the limit of processes
                    try:
                        self._write_lines(text)
                    except OSError as error:
                        self._error = error
                self._unwritten -= len(text)
                self._changed.unpark_all()

    def _write_lines(self, text: str) -> None:
        """In pieces that a pipe takes whole or not at all, so that giving up cuts no line."""
        start = 0
        while start < len(text) and not self._is_given_up:
            end = text.rfind("\n", start, start + _MOST_AT_ONCE) + 1
            if not end:  # a line that is longer
                end = text.find("\n", start) + 1 or len(text)
            _write(self._name, text[start:end])
            self._lines_written += text.count("\n", start, end)
            start = end


OUTPUT = OutputStream("stdout")
ERRORS = OutputStream("stderr")


@asynccontextmanager
async def output_in_background() -> AsyncIterator[None]:
    """Inside, nobody who does not read holds up the event loop.

    At the end, what is in line still gets a moment to get out.
    """
    for stream in (OUTPUT, ERRORS):
        stream.start_background()
    try:
        yield
    finally:
        with trio.move_on_after(_GRACE, shield=True):
            for stream in (OUTPUT, ERRORS):
                await stream.settle()
        for stream in (OUTPUT, ERRORS):
            stream.end_background()


def _write(name: _StreamName, text: str) -> None:
    try:
        _write_all(name, text)
    except OSError:
        if name == "stdout":
            raise
        # There is nobody to tell that standard error does not work.


def _write_all(name: _StreamName, text: str) -> None:
    stream = getattr(sys, name)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.RawIOBase):  # something in its place, as in tests
        stream.write(text)
        stream.flush()
        return
    encoded = text.replace("\n", _LINE_END).encode(stream.encoding, "backslashreplace")
    data = memoryview(encoded)
    while data:
        written = raw.write(data)
        if written is None:  # full, and another program has made it non-blocking
            time.sleep(0.01)
        else:
            data = data[written:]
