"""Who joins and leaves, as it happens (Linux)."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import trio

from .._base.snapshot import Snapshot
from .._machine.current import current_machine

_POLL_SECONDS: Final = 0.5


class MembershipChange(NamedTuple):
    """Somebody on this host has joined or left a group.

    Attributes:
      kind: ``"joined"`` or ``"left"``
      interface: the name of the interface
      group: the group, as text
    """

    kind: Literal["joined", "left"]
    interface: str
    group: str


class MembershipWatch:
    """Announcements of the kernel, where it makes any; else looks, again and again.

    Attributes:
      is_live: the kernel announces joins (Linux 6.15 and later do)
      first: how it was at the beginning; the changes are those since
    """

    def __init__(self) -> None:
        # In this order, so that nothing is missed between the two.
        self._machine = current_machine()
        self._announced = self._machine.open_changes()
        self.is_live: bool = self._announced is not None and self._announced.announces_groups
        self.first: Snapshot = self._machine.inspector.take_snapshot()
        self._known = {(row.interface, row.group) for row in self.first.joined}
        self._names = {link.index: link.name for link in self.first.links}

    def __enter__(self) -> MembershipWatch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._announced is not None:
            self._announced.close()

    async def wait(self) -> list[MembershipChange]:
        """Return who has joined or left, as soon as somebody has."""
        while True:
            if self._announced is not None and self.is_live:
                await self._announced.wait()
                self._announced.read()
            else:
                await trio.sleep(_POLL_SECONDS)
            # What was announced may be over already, and lost is what came too fast: so the table
            # is what counts, and the announcement tells when to look.
            before, self._known = self._known, self._look()
            gone, new = sorted(before - self._known), sorted(self._known - before)
            if gone or new:
                return [
                    *(MembershipChange("left", self._name(index), group) for index, group in gone),
                    *(MembershipChange("joined", self._name(index), group) for index, group in new),
                ]

    def _look(self) -> set[tuple[int, str]]:
        # Names are kept, for those of interfaces that are gone.
        self._names |= {i.index: i.name for i in self._machine.list_interfaces()}
        joined = self._machine.inspector.list_joined()
        return {(row.interface, row.group) for row in joined or ()}

    def _name(self, index: int) -> str:
        return self._names.get(index, str(index))
