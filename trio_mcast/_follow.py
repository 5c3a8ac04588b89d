"""Following the interfaces of this host as they come, change and go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import trio

from ._nursery import open_service_nursery
from ._os.scan import list_interfaces
from ._os.watch import open_watch
from ._plan.follow import Event, EventsLost, GroupEnded, LinkGone, compare_listings
from ._plan.interfaces import Interface
from ._plan.selection import InterfaceSelector, Selection

# Where a system announces nothing, or nothing to us.
_POLL_SECONDS: Final = 2.0


class InterfaceFeed:
    """What happens to interfaces, for one task to wait for.

    Attributes:
      first_events: how every interface was at the beginning, as if it were announced
      listing: the interfaces as they were when the last wait ended, or at the beginning
    """

    def __init__(self) -> None:
        self._has_lost_track = False
        # In this order, so that nothing is missed between the two.
        self._is_closed = False
        self._next_poll = trio.current_time() + _POLL_SECONDS
        self._watch = open_watch()
        try:
            self.first_events: list[Event] = [] if self._watch is None else self._watch.look()
            self.listing: tuple[Interface, ...] = list_interfaces()
        except BaseException:
            self.close()
            raise

    async def wait(self) -> list[Event]:
        """Return what happened, as soon as something does.

        Raises:
          trio.ClosedResourceError: the feed was closed
        """
        while True:
            try:
                if events := await self._wait_once():
                    return events
            except trio.ClosedResourceError:
                raise
            except OSError:  # out of descriptors, say: nothing is known until a look succeeds
                self._has_lost_track = True
                await trio.sleep(_POLL_SECONDS)

    async def _wait_once(self) -> list[Event]:
        if self._is_closed:
            raise trio.ClosedResourceError
        events: list[Event] = []
        watch = self._watch
        if self._has_lost_track:
            events.append(EventsLost())
        elif watch is None:
            await trio.sleep_until(self._next_poll)  # which a wait that is broken off leaves as is
            self._next_poll = trio.current_time() + _POLL_SECONDS
        else:
            await watch.wait()
            if self._is_closed:  # after the wait had ended
                raise trio.ClosedResourceError
            events += watch.read()
        if events and all(isinstance(event, GroupEnded) for event in events):
            return events  # of interfaces there is nothing new
        before, self.listing = self.listing, list_interfaces()
        self._has_lost_track = False
        if watch is None or not watch.is_complete:
            events += compare_listings(before, self.listing)
        return events

    def close(self) -> None:
        if self._watch is not None and not self._is_closed:
            self._watch.interrupt()
            self._watch.close()
        self._is_closed = True


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
    feed = InterfaceFeed()
    send_channel, receive_channel = trio.open_memory_channel[InterfaceChange](float("inf"))
    try:
        async with receive_channel, open_service_nursery() as nursery:
            nursery.start_soon(_tell_changes, feed, send_channel)
            yield receive_channel
    finally:
        feed.close()


@trio.lowlevel.enable_ki_protection
async def _tell_changes(
    feed: InterfaceFeed, send_channel: trio.MemorySendChannel[InterfaceChange]
) -> None:
    with send_channel:
        while True:
            before = feed.listing
            events = await feed.wait()
            for change in find_changes(before, feed.listing, events):
                try:
                    send_channel.send_nowait(change)
                except trio.BrokenResourceError:  # the program closed its end
                    return


def find_changes(
    before: Iterable[Interface], after: Iterable[Interface], events: Iterable[Event]
) -> list[InterfaceChange]:
    """The difference of two listings, with what was re-created in between taken apart."""
    gone = {event.index for event in events if isinstance(event, LinkGone)}
    old = {interface.index: interface for interface in before}
    new = {interface.index: interface for interface in after}
    removed = [i for index, i in old.items() if index in gone or index not in new]
    changes = [InterfaceChange("removed", interface) for interface in removed]
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
    feed = InterfaceFeed()
    try:
        while not (found := selection.find(feed.listing)):
            await feed.wait()
        return found[0]
    finally:
        feed.close()
