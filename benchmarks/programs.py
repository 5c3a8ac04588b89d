"""Running the programs that are measured."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .hosts import Host

CHECKOUT: Final = Path(__file__).parents[1]
"""Where the programs are that are measured, and the library: here."""

_SOURCES: Final = Path(__file__).parent / "c"

_QUIET_MALLOC: Final = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_TOP_PAD_": str(1 << 24),
}
"""For every Python program: asyncio allocates 256 KiB for each datagram, which glibc may or may not
return to the system each time (mallopt(3)). Its figures would jump by a factor of four."""

PATIENCE: Final = 20.0
"""Seconds within which a program must answer."""


class ProgramError(Exception):
    """A program ended, or did not answer."""


def find_compiler() -> str | None:
    return shutil.which("cc")


def compile_programs(folder: Path) -> None:
    """Compile the C programs into a folder."""
    compiler = find_compiler()
    assert compiler is not None
    for name in ("receive", "send"):
        source = _SOURCES / f"{name}.c"
        subprocess.run([compiler, "-O2", "-o", folder / name, source], check=True)


class Program:
    """A program that runs, and prints JSON lines."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, processor: int) -> None:
        self._process = process
        self._name = name
        self._processor = processor
        self._unread = b""
        self._opened: dict[str, Any] | None = None

    def wait_until_open(self) -> dict[str, Any]:
        """What a receiver tells when it has joined; from then on it stays on its processor."""
        if self._opened is None:
            self._opened = self.read_line()
            self.stay_on_processor()
        return self._opened

    def stay_on_processor(self) -> None:
        os.sched_setaffinity(self._process.pid, {self._processor})

    def ask_for_figures(self) -> dict[str, Any]:
        """What a receiver has received so far, and what that cost."""
        self._process.send_signal(signal.SIGUSR1)
        return self.read_line()

    def read_waiting_time(self) -> float:
        """Seconds for which it could have run but others had the processor (schedstat, proc(5))."""
        words = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()
        return int(words[1]) / 1e9

    def stop(self) -> None:
        """Hold it where it is."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def read_line(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next line it prints.

        Raises:
          ProgramError: there is none
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([descriptor], [], [], patience)[0]:
                raise ProgramError(f"{self._name} does not answer")
            if not (read := os.read(descriptor, 1 << 16)):
                raise ProgramError(f"{self._name} ended ({self._process.wait()})")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Launcher:
    """Starts programs on a host: receivers for one processor, senders for another."""

    def __init__(self, compiled: Path | None) -> None:
        self._compiled = compiled
        processors = sorted(os.sched_getaffinity(0))
        self._receiving_processor = processors[-1]
        self._sending_processor = processors[0]

    @contextmanager
    def receiver(
        self, host: Host, program: str, arguments: Sequence[str], checkout: Path = CHECKOUT
    ) -> Iterator[Program]:
        command = self._find_command("receivers", program)
        processor = self._receiving_processor
        with self._start(host, processor, command, arguments, checkout) as running:
            yield running

    @contextmanager
    def sender(
        self, host: Host, program: str, arguments: Sequence[str], checkout: Path = CHECKOUT
    ) -> Iterator[Program]:
        command = self._find_command("senders", program)
        processor = self._sending_processor
        with self._start(host, processor, command, arguments, checkout) as running:
            running.stay_on_processor()
            yield running

    @contextmanager
    def traffic(self, host: Host, arguments: Sequence[str]) -> Iterator[Program]:
        """What sends to receivers: in C if possible, for Python is too slow a sender."""
        with self.sender(
            host, "send" if self._compiled else "python_traffic", arguments
        ) as running:
            yield running

    def _find_command(self, folder: str, program: str) -> list[str]:
        if program in ("receive", "send"):
            assert self._compiled is not None
            return [str(self._compiled / program)]
        return [sys.executable, "-m", f"benchmarks.{folder}.{program}"]

    @contextmanager
    def _start(
        self,
        host: Host,
        processor: int,
        command: list[str],
        arguments: Sequence[str],
        checkout: Path,
    ) -> Iterator[Program]:
        process = subprocess.Popen(
            [*host.prefix, *command, *arguments],
            cwd=checkout,
            env={**os.environ, **_QUIET_MALLOC},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            name = " ".join([Path(command[0]).name, *command[1:], *arguments])
            yield Program(process, name, processor)
        finally:
            process.kill()
            process.communicate()
