"""What is measured: traffic and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .hosts import Link
from .programs import PATIENCE

MIB: Final = 1 << 20

SAME_BUFFER: Final = 4 * MIB
"""The kernel buffer that every receiver gets where CPU time is compared: the one that this library
asks for by itself."""


@dataclass(frozen=True)
class Traffic:
    """What is sent to receivers.

    Attributes:
      size: bytes of a datagram
      groups: how many groups get datagrams, each in turn
      rate: datagrams per second; 0: as fast as the sender can
      burst: how many datagrams are sent at a time
      segments: how many of them are handed to the kernel as one, which it splits (UDP_SEGMENT) for
        receivers that do not ask for merged datagrams (UDP_GRO)
    """

    size: int = 64
    groups: int = 1
    rate: int = 0
    burst: int = 64
    segments: int = 1


@dataclass(frozen=True)
class Scenario:
    """Rows that are measured in turn, under the same conditions.

    Attributes:
      key: its short name, for `--only` and in the JSON file
      title: what the table is headed with
      rows: the keys of the rows
      columns: the figures that the table shows; see `table.COLUMNS`
    """

    key: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Receiving(Scenario):
    """Receivers under traffic.

    Attributes:
      seconds: how long each run lasts in the long form
      receive_buffer: bytes; None: what each program takes by itself
      timing: measure how long datagrams take to the application
      ticking: measure how late other tasks run
      limit: the most datagrams of a run; None: as many as the time allows
      stopped: hold the receiver until all datagrams of a run are in its queue
    """

    traffic: Traffic
    seconds: float = 0.5
    link: Link = "lo"
    receive_buffer: int | None = SAME_BUFFER
    timing: bool = False
    ticking: bool = False
    limit: int | None = None
    stopped: bool = False


@dataclass(frozen=True)
class Idling(Scenario):
    """Receivers of many groups that nobody sends to."""

    groups: int
    seconds: float = 2.0


@dataclass(frozen=True)
class Sending(Scenario):
    """Senders as fast as they can, into a cable at whose other end nobody listens."""

    size: int
    count: int = 100_000


_PYTHON: Final = (
    "python",
    "expert-sync",
    "expert-async",
    "asyncio",
    "uvloop",
    "anyio",
    "trio-socket",
)
_OURS: Final = ("each", "batch", "batches", "packet-info")
_EVERY: Final = ("c-recvmmsg", "c-recvfrom", *_PYTHON, *_OURS)
_MANY_GROUPS: Final = (
    "c-recvmmsg",
    "python",
    "expert-async",
    "asyncio",
    "uvloop",
    "trio-socket",
    "each",
    "batch",
)
_TICKING: Final = (
    "expert-async",
    "asyncio",
    "uvloop",
    "anyio",
    "trio-socket",
    "each",
    "batch",
    "batches",
)
_SENDERS: Final = (
    "c-sendmmsg",
    "c-segment",
    "python",
    "expert",
    "asyncio",
    "trio-socket",
    "send",
    "send-batch",
)
_LOAD: Final = ("cpu", "rate", "loss", "busy")
_DELAY: Final = ("delay-median", "delay-p99", "cpu")


def _backlog(size: int, count: int) -> Receiving:
    return Receiving(
        f"backlog-{size}",
        f"Backlog: {count:,} datagrams of {size} bytes that are all there already, one group",
        (*_EVERY[:2], "c-packet-info", *_EVERY[2:], "channel") if size == 64 else _EVERY,
        ("cpu", "loss"),
        Traffic(size),
        seconds=PATIENCE,
        limit=count,
        stopped=True,
    )


def _flood(size: int) -> Receiving:
    return Receiving(
        f"flood-{size}",
        f"Flood: {size}-byte datagrams to one group, as fast as the sender can",
        _EVERY,
        _LOAD,
        Traffic(size),
    )


def _merged(size: int, segments: int) -> Receiving:
    return Receiving(
        f"merged-{size}",
        f"Merged: {size}-byte datagrams, {segments} handed to the kernel as one (UDP_SEGMENT)",
        (
            "c-recvmmsg",
            "c-gro",
            "python",
            "expert-async",
            "uvloop",
            "trio-socket",
            "each",
            "batch",
            "exact",
        ),
        _LOAD,
        Traffic(size, burst=4, segments=segments),
    )


def _bursts(size: int) -> Receiving:
    return Receiving(
        f"bursts-{size}",
        f"Bursts: 50 datagrams of {size} bytes at a time, 20,000 a second",
        _EVERY,
        _LOAD,
        Traffic(size, rate=20_000, burst=50),
    )


def _groups(count: int) -> Receiving:
    return Receiving(
        f"groups-{count}",
        f"Groups: the bursts of 64 bytes, to {count:,} groups in turn",
        _MANY_GROUPS,
        _LOAD,
        Traffic(groups=count, rate=20_000, burst=50),
    )


GROUP_COUNTS: Final = {1: "bursts-64", 10: "groups-10", 100: "groups-100", 500: "groups-500"}
"""The scenarios that differ only in the number of groups."""

SCENARIOS: Final[tuple[Scenario, ...]] = (
    _backlog(64, 10_000),
    _backlog(512, 5_000),
    _backlog(1400, 3_000),
    _flood(64),
    _flood(512),
    _flood(1400),
    _merged(64, 16),
    _merged(1400, 16),
    _bursts(64),
    _bursts(512),
    _bursts(1400),
    Receiving(
        "steady-64",
        "Steady: 64-byte datagrams one by one, 20,000 a second",
        _EVERY,
        _LOAD,
        Traffic(rate=20_000, burst=1),
    ),
    Receiving(
        "cable-64",
        "Cable: the flood of 64-byte datagrams from another host, by a veth pair",
        _EVERY,
        _LOAD,
        Traffic(),
        link="veth",
    ),
    _groups(10),
    _groups(100),
    _groups(500),
    Receiving(
        "delay",
        "Delay from sending to the application: 64-byte datagrams one by one, 500 a second",
        _EVERY,
        _DELAY,
        Traffic(rate=500, burst=1),
        seconds=1.0,
        timing=True,
    ),
    Receiving(
        "overrun",
        "Overrun: 1,000 datagrams of 1,400 bytes at once, default settings",
        _EVERY,
        ("loss", "cpu"),
        Traffic(1400, burst=1000),
        receive_buffer=None,
        limit=1000,
    ),
    Receiving(
        "fairness",
        "Fairness: how late a task is that sleeps 1 ms in a loop, beside a flooded receiver",
        _TICKING,
        ("lateness-median", "lateness-p99", "rate"),
        Traffic(),
        ticking=True,
    ),
    Idling(
        "idle-1000",
        "Idle: 1,000 memberships that hear nothing",
        ("c-recvmmsg", "expert-sync", "expert-async", "asyncio", "uvloop", "trio-socket", "each"),
        ("opening", "memory", "idle"),
        groups=1000,
    ),
    Sending(
        "send-64",
        "Sending: 64-byte datagrams into a cable",
        _SENDERS,
        ("cpu", "rate"),
        size=64,
    ),
    Sending(
        "send-1400",
        "Sending: 1,400-byte datagrams into a cable",
        _SENDERS,
        ("cpu", "rate"),
        size=1400,
    ),
)

QUICK: Final = frozenset(
    {
        "backlog-64",
        "flood-64",
        "merged-64",
        "bursts-64",
        "groups-100",
        "delay",
        "overrun",
        "fairness",
        "idle-1000",
        "send-64",
    }
)
"""The scenarios of the short form."""
