"""What is compared: ways of receiving, and ways of sending."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from .programs import CHECKOUT

Kind = Literal["limit", "other", "ours"]


@dataclass(frozen=True)
class Row:
    """A program with its arguments.

    Attributes:
      key: its short name, for `--rows` and in the JSON file
      title: its name in tables and plots
      kind: "limit" is C, which Python can come close to
      program: "receive" or "send" are the C programs, others modules of this package
      arguments: what the program gets besides the task
      needs: the package that it measures, if that may be missing
      can_tick: whether other tasks can run beside it
      checkout: where the program and the library are
    """

    key: str
    title: str
    kind: Kind
    program: str
    arguments: tuple[str, ...] = ()
    needs: str | None = None
    can_tick: bool = False
    checkout: Path = CHECKOUT

    @property
    def is_c(self) -> bool:
        return self.program in ("receive", "send")

    def find_obstacle(self, has_compiler: bool) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self.is_c and not has_compiler:
            return "there is no C compiler (cc)"
        if self.needs is not None and importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        return None


def with_rows_of(rows: list[Row], checkout: Path) -> list[Row]:
    """The rows, and behind each of this library's the same of another checkout, say an older one.

    Its key ends in ``-there``.
    """
    found = []
    for row in rows:
        found.append(row)
        if row.kind == "ours":
            there = replace(row, key=f"{row.key}-there", title=f"  {row.title}, there")
            found.append(replace(there, checkout=checkout.resolve()))
    return found


def _ours(key: str, title: str, *arguments: str) -> Row:
    return Row(key, title, "ours", "trio_mcast_receiver", arguments, can_tick=True)


RECEIVERS: Final = (
    Row("c-recvmmsg", "C recvmmsg", "limit", "receive"),
    Row("c-gro", "C recvmmsg, UDP_GRO", "limit", "receive", ("--gro",)),
    Row("c-packet-info", "C recvmmsg, packet info", "limit", "receive", ("--packet-info",)),
    Row("c-recvfrom", "C recvfrom", "limit", "receive", ("--one-by-one",)),
    Row("python", "Python recvfrom, blocking", "other", "python_recvfrom"),
    Row(
        "expert-sync",
        "multicast_expert, blocking",
        "other",
        "multicast_expert_sync",
        needs="multicast_expert",
    ),
    Row(
        "expert-async",
        "multicast_expert, asyncio",
        "other",
        "multicast_expert_asyncio",
        needs="multicast_expert",
        can_tick=True,
    ),
    Row("asyncio", "asyncio protocol", "other", "asyncio_protocol", can_tick=True),
    Row(
        "uvloop",
        "uvloop protocol",
        "other",
        "asyncio_protocol",
        ("--form", "uvloop"),
        needs="uvloop",
        can_tick=True,
    ),
    Row("anyio", "anyio on trio", "other", "anyio_on_trio", needs="anyio", can_tick=True),
    Row("trio-socket", "trio.socket", "other", "trio_socket", can_tick=True),
    _ours("each", "trio_mcast, async for", "--form", "each"),
    _ours("batch", "trio_mcast, receive_batch", "--form", "batch"),
    _ours("batches", "trio_mcast, batches", "--form", "batches"),
    _ours("channel", "trio_mcast, run_receiver", "--form", "channel"),
    _ours("exact", "trio_mcast, exact losses", "--form", "batch", "--exact-losses"),
    _ours("packet-info", "trio_mcast, with packet info", "--form", "batch", "--packet-info"),
)

SENDERS: Final = (
    Row("c-sendmmsg", "C sendmmsg", "limit", "send"),
    Row("c-segment", "C sendmmsg, UDP_SEGMENT", "limit", "send", ("--segments", "16")),
    Row("python", "Python sendto, blocking", "other", "python_sendto"),
    Row(
        "expert",
        "multicast_expert",
        "other",
        "multicast_expert_sendto",
        needs="multicast_expert",
    ),
    Row("asyncio", "asyncio transport", "other", "asyncio_sendto"),
    Row("trio-socket", "trio.socket", "other", "trio_socket_sendto"),
    Row("send", "trio_mcast, send", "ours", "trio_mcast_send"),
    Row("send-batch", "trio_mcast, send_batch", "ours", "trio_mcast_send_batch"),
)
