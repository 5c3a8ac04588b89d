"""Programs under test: real processes, whose lines are waited for while they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from patience import LONG

if TYPE_CHECKING:
    from namespaces.network import Host

"""Seconds after which a test that waits has failed."""

PROGRAM = (sys.executable, "-m", "trio_mcast")


def environment(**changes: str) -> dict[str, str]:
    """Ours, with every warning an error, and nothing in it that changes what output looks like."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM")
    }
    return {**kept, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1", **changes}


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of standard output."""
        return self.out.splitlines()


class Running:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._changed = threading.Condition()
        self._text = {"out": b"", "err": b""}
        streams = {"out": process.stdout, "err": process.stderr}
        self._open = {name for name, stream in streams.items() if stream is not None}
        self._threads = [
            threading.Thread(target=self._collect, args=(name, stream), daemon=True)
            for name, stream in streams.items()
            if stream is not None
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, name: str, stream: IO[bytes]) -> None:
        while data := os.read(stream.fileno(), 65536):
            with self._changed:
                self._text[name] += data
                self._changed.notify_all()
        with self._changed:
            self._open.discard(name)
            self._changed.notify_all()

    def wait_for(self, text: str, where: str = "out") -> None:
        """Until it has written the text, to standard output or, with "err", standard error."""
        with self._changed:
            self._changed.wait_for(
                lambda: text.encode() in self._text[where] or where not in self._open, LONG
            )
            assert text.encode() in self._text[where], f"no {text!r} in {self._text}"

    def write(self, data: bytes) -> None:
        """To its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def catches_sigterm(self) -> bool:
        """Whether it has taken over SIGTERM, which Python leaves alone (Linux)."""
        with open(f"/proc/{self.process.pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))

    def interrupt(self) -> Finished:
        """Press Ctrl-C, and wait for its end."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def finish(self) -> Finished:
        """Close its standard input, and wait for its end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        code = self.process.wait(LONG)
        for thread in self._threads:
            thread.join(LONG)
        return Finished(code, self._text["out"].decode(), self._text["err"].decode())

    def kill(self) -> None:
        self.process.kill()
        self.finish()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(*argv: str, host: Host | None = None, **options: Any) -> Iterator[Running]:
    """Start a program, on a test host or, without one, here; kill it when the block ends."""
    options = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": environment(),
    } | options
    if host is None:
        process = subprocess.Popen(argv, **options)
    else:
        process = host.call(lambda: subprocess.Popen(argv, **options))
    program = Running(process)
    try:
        yield program
    finally:
        program.kill()


def run(*argv: str, host: Host | None = None, input: bytes = b"", **options: Any) -> Finished:
    """Run a program to its end."""
    with running(*argv, host=host, **options) as program:
        try:
            program.write(input)
        except BrokenPipeError:
            pass
        return program.finish()


def cli(*arguments: str, host: Host | None = None, input: bytes = b"", **options: Any) -> Finished:
    """Run `trio-mcast` to its end."""
    return run(*PROGRAM, *arguments, host=host, input=input, **options)


@contextmanager
def listening(*arguments: str, host: Host | None = None, **options: Any) -> Iterator[Running]:
    """`trio-mcast listen`, with all groups joined."""
    with running(*PROGRAM, "listen", *arguments, host=host, **options) as program:
        program.wait_for("listening to", "err")
        yield program
