"""Measuring: programs run in turn, A B C A B C, so that all see the same weather.

All programs of a scenario are started first; those whose turn it is not sleep. CPU time is what the
kernel charges to the process of the receiver or sender, from before a run of traffic until all of
it is dealt with. It does not contain what the kernel does for a datagram before it is in the
receiver's queue: that happens on the sender's processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from .hosts import LONGEST, Hosts, Link
from .programs import PATIENCE, Launcher, Program, ProgramError
from .results import Results
from .rows import Row
from .scenarios import Idling, Receiving, Scenario, Sending

FIRST_GROUP: Final = "239.192.0.1"  # RFC 2365: administratively scoped, of local use
FIRST_PORT: Final = 5000

_SETTLING: Final = 0.02  # seconds without a datagram after which none is expected any more

Figures: TypeAlias = dict[str, float]
Runs: TypeAlias = dict[str, Callable[[], Figures]]


@dataclass(frozen=True)
class Effort:
    """How much time to spend.

    Attributes:
      rounds: how often each row is measured
      scale: what the length of each run is multiplied with
    """

    rounds: int
    scale: float


@dataclass(frozen=True)
class Bench:
    """Where to measure, how long, and where the figures go."""

    hosts: Hosts
    launcher: Launcher
    effort: Effort
    results: Results

    def measure(self, scenario: Scenario, rows: list[Row]) -> None:
        """Measure these rows of a scenario, in turn."""
        with ExitStack() as stack:
            match scenario:
                case Receiving():
                    runs = self._prepare_receiving(scenario, rows, stack)
                case Sending():
                    runs = self._prepare_sending(scenario, rows, stack)
                case Idling():
                    runs = {row.key: partial(self._run_idle, scenario, row) for row in rows}
                case _:
                    raise TypeError(f"{scenario!r} is no scenario")
            if isinstance(scenario, Idling):  # each run starts a program: fewer, and none is warmer
                rounds = (self.effort.rounds + 1) // 2
            else:
                self._take_turn(scenario, runs)
                rounds = self.effort.rounds
            for _ in range(rounds):
                for key, figures in self._take_turn(scenario, runs).items():
                    self.results.add(scenario.key, key, figures)

    def _take_turn(self, scenario: Scenario, runs: Runs) -> dict[str, Figures]:
        """Each row once; those that fail are left out from then on."""
        found = {}
        for key, run in list(runs.items()):
            try:
                found[key] = run()
            except ProgramError as error:
                self.results.skipped[f"{scenario.key}: {key}"] = str(error)
                del runs[key]
        return found

    def _prepare_receiving(self, scenario: Receiving, rows: list[Row], stack: ExitStack) -> Runs:
        traffic = scenario.traffic
        host, interface = self.hosts.sending(scenario.link)
        arguments = {
            **_where(interface, traffic.groups),
            "--size": traffic.size,
            "--rate": traffic.rate,
            "--burst": traffic.burst,
            "--segments": traffic.segments,
            "--seconds": scenario.seconds * self.effort.scale,
        }
        if scenario.limit is not None:
            arguments["--count"] = scenario.limit
        sender = stack.enter_context(self.launcher.traffic(host, _write(arguments)))
        flags = [
            *(["--timing"] if scenario.timing else []),
            *(["--ticking"] if scenario.ticking else []),
        ]
        if scenario.receive_buffer is not None:
            flags += ["--receive-buffer", str(scenario.receive_buffer)]
        runs: Runs = {}
        for port, row in enumerate(rows, FIRST_PORT):
            receiver = self._start_receiver(row, port, traffic.groups, scenario.link, flags)
            runs[row.key] = partial(
                _run_receiver, stack.enter_context(receiver), sender, port, stopped=scenario.stopped
            )
        return runs

    def _start_receiver(
        self, row: Row, port: int, groups: int, link: Link, flags: list[str]
    ) -> AbstractContextManager[Program]:
        host, interface = self.hosts.receiving(link)
        arguments = _write({"--port": port, **_where(interface, groups)})
        arguments += [*flags, *row.arguments]
        return self.launcher.receiver(host, row.program, arguments, row.checkout)

    def _run_idle(self, scenario: Idling, row: Row) -> Figures:
        with self._start_receiver(row, FIRST_PORT, scenario.groups, "lo", []) as receiver:
            opened = receiver.wait_until_open()
            time.sleep(0.1)
            earlier = receiver.ask_for_figures()
            before = receiver.ask_for_figures()
            time.sleep(scenario.seconds * self.effort.scale)
            after = receiver.ask_for_figures()
        answering = _cpu(earlier, before)  # what an answer costs itself
        return {
            "opening": opened["opening"] / scenario.groups,
            "memory": opened["memory"] / scenario.groups,
            "idle": max(0.0, _cpu(before, after) - answering) / (after["time"] - before["time"]),
        }

    def _prepare_sending(self, scenario: Sending, rows: list[Row], stack: ExitStack) -> Runs:
        host, interface = self.hosts.sending("veth")
        count = int(scenario.count * self.effort.scale)
        runs: Runs = {}
        for row in rows:
            arguments = {**_where(interface, None), "--size": scenario.size, "--count": count}
            if row.is_c:
                arguments["--seconds"] = PATIENCE
            words = [*_write(arguments), *row.arguments]
            sender = self.launcher.sender(host, row.program, words, row.checkout)
            runs[row.key] = partial(_run_sender, stack.enter_context(sender))
        return runs


def _where(interface: str, groups: int | None) -> dict[str, object]:
    """Arguments that all programs have."""
    where: dict[str, object] = {
        "--group": FIRST_GROUP,
        "--interface": interface,
        "--limit": LONGEST,
    }
    return where if groups is None else {**where, "--groups": groups}


def _write(arguments: dict[str, object]) -> list[str]:
    return [str(word) for pair in arguments.items() for word in pair]


def _run_receiver(receiver: Program, sender: Program, port: int, *, stopped: bool) -> Figures:
    receiver.wait_until_open()
    waiting = receiver.read_waiting_time()
    before = receiver.ask_for_figures()
    if stopped:
        receiver.stop()
    sender.tell(str(port))
    sent = sender.read_line()
    if stopped:
        receiver.go_on()
    during = receiver.ask_for_figures()
    after = _wait_until_settled(receiver, during)
    received = after["datagrams"] - before["datagrams"]
    if not received:
        raise ProgramError("nothing was received")
    figures = {
        "cpu": _cpu(before, after) / received * 1e6,
        "rate": (during["datagrams"] - before["datagrams"]) / sent["seconds"],
        "sent": sent["datagrams"] / sent["seconds"],
        "loss": 1 - received / sent["datagrams"],
        "busy": _cpu(before, during) / (during["time"] - before["time"]),
        "waiting": (receiver.read_waiting_time() - waiting) / (after["time"] - before["time"]),
    }
    for name, key in (("delays", "delay"), ("lateness", "lateness")):
        if during[name] is not None:
            figures[f"{key}-median"] = during[name]["median"]
            figures[f"{key}-p99"] = during[name]["p99"]
    return figures


def _wait_until_settled(receiver: Program, figures: dict[str, Any]) -> dict[str, Any]:
    while True:
        time.sleep(_SETTLING)
        later = receiver.ask_for_figures()
        if later["datagrams"] == figures["datagrams"]:
            return later
        figures = later


def _run_sender(sender: Program) -> Figures:
    sender.tell(str(FIRST_PORT))
    figures = sender.read_line()
    cpu = figures["user"] + figures["system"]
    return {
        "cpu": cpu / figures["datagrams"] * 1e6,
        "rate": figures["datagrams"] / figures["seconds"],
    }


def _cpu(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Seconds of processor time between two answers."""
    return float(after["user"] + after["system"] - before["user"] - before["system"])
