"""`trio-mcast memberships`"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from trio_mcast import NotSupportedError
from trio_mcast.lowlevel import MembershipChange, MembershipWatch, Snapshot, take_snapshot

from .interruption import run_until_interrupted
from .output import add_row, tell, to_json, write, write_table
from .streams import OUTPUT, output_in_background


async def memberships(
    *,
    watch: Annotated[bool, Parameter(name=("--watch", "-w"))] = False,
    json: bool = False,
) -> int:
    """List the groups that programs of this host have joined, on which interface.

    Sources are shown where a filter names them: + those that are heard,
    - those that are not. The programs are those that have a UDP socket bound
    to the group; a program may join without that, and does then not show.
    Sockets of other users have names for root only.

    Try:

        trio-mcast memberships
        trio-mcast memberships --watch

    With --json each line is an object with the keys interface, group,
    users (how many sockets), included, excluded (sources) and programs; and
    with --watch the key change: joined, left, or null for what was there.

    Args:
      watch: go on, and tell who joins and leaves, until Ctrl-C
      json: one JSON object a line
    """
    if sys.platform != "linux":
        raise NotSupportedError("only Linux tells which groups are joined")
    if not watch:
        _list(take_snapshot(), json)
        return 0
    async with output_in_background():
        with MembershipWatch() as changes:
            _list(changes.first, json, change=None)
            await run_until_interrupted(
                partial(_follow, changes, json), background=[OUTPUT.wait_until_broken]
            )
    return 0


def _list(snapshot: Snapshot, json: bool, **more: object) -> None:
    rows = _read_rows(snapshot)
    if json:
        write(to_json({**_as_json(row), **more}) for row in rows)
    else:
        write_table(_make_table(rows))


@dataclass(frozen=True)
class _Row:
    """A group on an interface."""

    interface: str
    group: str
    users: int
    included: tuple[str, ...]
    excluded: tuple[str, ...]
    programs: tuple[str, ...]


def _read_rows(snapshot: Snapshot) -> list[_Row]:
    rows = []
    for joined in snapshot.joined:
        filters = [
            row
            for row in snapshot.filtered
            if (row.group, row.interface) == (joined.group, joined.interface)
        ]
        programs = [
            f"{', '.join(map(str, bound.holders)) or f'user {bound.user}'}, port {bound.port}"
            for bound in snapshot.sockets
            if bound.address == joined.group
        ]
        rows.append(
            _Row(
                snapshot.name(joined.interface),
                joined.group,
                joined.users,
                tuple(row.source for row in filters if row.included),
                tuple(row.source for row in filters if row.excluded),
                tuple(dict.fromkeys(programs)),
            )
        )
    return rows


def _as_json(row: _Row) -> dict[str, object]:
    return {
        "interface": row.interface,
        "group": row.group,
        "users": row.users,
        "included": row.included,
        "excluded": row.excluded,
        "programs": row.programs,
    }


def _make_table(rows: Sequence[_Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Interface", style="cyan")
    table.add_column("Group")
    table.add_column("Sockets", justify="right")
    for heading in ("Sources", "Programs"):
        table.add_column(heading)
    for row in rows:
        add_row(
            table,
            row.interface,
            row.group,
            str(row.users),
            " ".join(_show_sources(row)) or "any",
            row.programs or "-",
        )
    return table


def _show_sources(row: _Row) -> Iterator[str]:
    yield from (f"+{source}" for source in row.included)
    yield from (f"-{source}" for source in row.excluded)


async def _follow(watch: MembershipWatch, json: bool) -> None:
    if not json:
        how = (
            "" if watch.is_live else " (looking twice a second, for this kernel announces nothing)"
        )
        tell(f"watching who joins and leaves{how}; Ctrl-C ends it")
    while True:
        for change in await watch.wait():
            _tell_change(change, json)
            await OUTPUT.wait_for_room()


def _tell_change(change: MembershipChange, json: bool) -> None:
    rows = (
        row
        for row in _read_rows(take_snapshot())
        if (row.interface, row.group) == (change.interface, change.group)
    )
    row = next(rows, _Row(change.interface, change.group, 0, (), (), ()))
    if json:
        write([to_json({**_as_json(row), "change": change.kind})])
    else:
        programs = f"  {'; '.join(row.programs)}" if row.programs else ""
        write([f"{change.kind:6}  {row.interface}  {row.group}{programs}"])
