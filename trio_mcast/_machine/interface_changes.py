"""Following the interfaces of this host as they come, change and go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import trio

from .._base.interface import Interface
from .._interfaces.following import Change
from .._interfaces.selection import InterfaceSelector, Selection
from .current import current_machine
from .feed import FeedShare, follow_interfaces
from .nursery import open_service_nursery


@dataclass(frozen=True)
class InterfaceChange:
    """Something that happened to an interface.

    Attributes:
      kind: ``"added"``, ``"removed"`` or ``"changed"``: its name, addresses, state or MTU
      interface: as it is now, or as it was when it was last seen
      previous: as it was before a change
    """

    kind: Literal["added", "removed", "changed"]
    interface: Interface
    previous: Interface | None = None


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def watch_interfaces() -> AsyncIterator[trio.MemoryReceiveChannel[InterfaceChange]]:
    """Be told when an interface of this host comes, changes or goes, while the block lasts::

        async with trio_mcast.watch_interfaces() as changes:
            async for change in changes:
                print(change.kind, change.interface.name)

    Nothing is missed between entering the block and looking: call `list_interfaces` inside the
    block, and the changes tell all that comes after. An interface that was deleted and created
    again is "removed" and "added", also when nothing about it is different.

    Linux, macOS and Windows announce changes; elsewhere, and where nobody may listen to the
    announcements, they are noticed within two seconds.
    """
    feed = follow_interfaces(current_machine().here())
    send_channel, receive_channel = trio.open_memory_channel[InterfaceChange](float("inf"))
    try:
        async with receive_channel, open_service_nursery() as nursery:
            nursery.start_soon(_tell_changes, feed, send_channel)
            yield receive_channel
    finally:
        feed.close()


@trio.lowlevel.enable_ki_protection
async def _tell_changes(
    feed: FeedShare, send_channel: trio.MemorySendChannel[InterfaceChange]
) -> None:
    with send_channel:
        while True:
            before = feed.listing
            for change in find_changes(before, await feed.wait()):
                try:
                    send_channel.send_nowait(change)
                except trio.BrokenResourceError:  # the program closed its end
                    return


def find_changes(before: Iterable[Interface], change: Change) -> list[InterfaceChange]:
    """The difference of two listings, with what was re-created in between taken apart."""
    old = {interface.index: interface for interface in before}
    new = change.present
    gone = {index for index in old if index in change.dropped or index not in new}
    changes = [InterfaceChange("removed", old[index]) for index in old if index in gone]
    for index, interface in new.items():
        previous = old.get(index)
        if previous is None or index in gone:
            changes.append(InterfaceChange("added", interface))
        elif previous != interface:
            changes.append(InterfaceChange("changed", interface, previous))
    return changes


async def wait_for_interface(name: InterfaceSelector) -> Interface:
    """Wait until an interface exists, and return it. It need not be up yet.

    Args:
      name: its name; an index, an address, a network or an `Interface` do as well. If several fit,
        the first is returned
    """
    selection = Selection.parse_one(name)
    await trio.lowlevel.checkpoint()
    feed = follow_interfaces(current_machine().here())
    try:
        while not (found := selection.find(feed.listing)):
            await feed.wait()
        return found[0]
    finally:
        feed.close()
