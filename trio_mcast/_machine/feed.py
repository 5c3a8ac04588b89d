"""What happens to a machine's interfaces: one feed for all receivers and senders of a `trio.run`.

Whoever follows interfaces has a share in the feed. What is announced is read, and the interfaces
are listed, once for all shares. There is no task for it: of those who wait for their share one
waits for the announcements, and when it leaves another does. The feed is opened with the first
share and closed with the last.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeAlias

import trio

from .._base.interface import Interface
from .._interfaces.following import (
    Change,
    Event,
    EventsLost,
    GroupEnded,
    LinkTracker,
    compare_listings,
)
from .machine import Machine

# Where a system announces nothing, or nothing to us.
_POLL_SECONDS: Final = 2.0

_Feeds: TypeAlias = "dict[Hashable, InterfaceFeed]"

_feeds: Final[trio.lowlevel.RunVar[_Feeds]] = trio.lowlevel.RunVar("trio_mcast feeds")


def follow_interfaces(machine: Machine) -> FeedShare:
    """A share in the feed of a machine. From now on nothing that happens is missed. Close it.

    Raises:
      OSError: the interfaces cannot be listed
    """
    try:
        feeds = _feeds.get()
    except LookupError:
        feeds = {}
        _feeds.set(feeds)
    key = (machine, machine.place())
    feed = feeds.get(key)
    if feed is None:
        feed = InterfaceFeed(machine)
        feeds[key] = feed
    share = FeedShare(feed)
    try:
        feed.add(share)
    except BaseException:
        share.close()
        raise
    return share


class FeedShare:
    """What one receiver, one sender or one program that watches is told.

    Attributes:
      listing: the interfaces as they were when this was opened, or the last `wait` ended
    """

    def __init__(self, feed: InterfaceFeed) -> None:
        self.listing: tuple[Interface, ...] = ()
        self._feed = feed
        self._pending: Change | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        self._reading: trio.CancelScope | None = None  # while it waits for the announcements
        self._is_closed = False

    async def wait(self) -> Change:
        """Return what has happened since the last time, as soon as something has.

        Raises:
          trio.ClosedResourceError: this was closed
        """
        await trio.lowlevel.checkpoint()
        while self._pending is None:
            if self._is_closed:
                raise trio.ClosedResourceError
            # One of those who wait reads for all. A task for it would need a nursery that outlives
            # every receiver, which only a system task has, and whose failure would end the program.
            if self._feed.reader is None:
                await self._read()
            else:
                await self._waiting.park()
        change, self._pending = self._pending, None
        self.listing = change.listing
        return change

    async def _read(self) -> None:
        """Wait for the announcements and read them, for every share."""
        self._feed.reader = self
        try:
            with trio.CancelScope() as self._reading:
                await self._feed.read()
        finally:
            self._reading = self._feed.reader = None
            self._feed.wake_another()

    def look(self) -> tuple[Interface, ...]:
        """The interfaces as they are now. What `wait` returns is not affected.

        Raises:
          OSError: they cannot be listed
        """
        return self._feed.look()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._reading is not None:
                self._reading.cancel()
            self.wake()
            self._feed.remove(self)

    def tell(self, change: Change) -> None:
        before = self._pending
        self._pending = change if before is None else before.followed_by(change)
        self.wake()

    def forget(self) -> None:
        """What was told so far is in the listing."""
        self._pending = None

    def wake(self) -> bool:
        """Have it look what there is; whether it was waiting."""
        was_waiting = bool(self._waiting)
        self._waiting.unpark_all()
        return was_waiting


class InterfaceFeed:
    """Reads what is announced, and tells every share what it means.

    Attributes:
      reader: the share that waits for the announcements
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._key = (machine, machine.place())
        self.reader: FeedShare | None = None
        self._shares: dict[FeedShare, None] = {}
        self._tracker = LinkTracker()
        self._has_lost_track = False
        self._next_poll = trio.current_time() + _POLL_SECONDS
        # In this order, so that nothing is missed between the two.
        self._changes = machine.open_changes()
        try:
            self._tracker.read([] if self._changes is None else self._changes.look())
            self._listing: tuple[Interface, ...] = machine.list_interfaces()
        except BaseException:
            self._close_changes()
            raise

    def add(self, share: FeedShare) -> None:
        """Have a share told what happens from now on; its listing is up to date."""
        self._shares[share] = None
        share.listing = self.look()
        share.forget()

    def look(self) -> tuple[Interface, ...]:
        """The interfaces as they are now. Where all is announced, that is cheap."""
        self._catch_up()
        return self._listing

    def remove(self, share: FeedShare) -> None:
        self._shares.pop(share, None)
        if not self._shares and _feeds.get().get(self._key) is self:
            del _feeds.get()[self._key]
            self._close_changes()

    def _close_changes(self) -> None:
        if self._changes is not None:
            self._changes.close()

    # What happens

    async def read(self) -> None:
        """Wait until something is announced, and tell it."""
        try:
            await self._wait()
            self._catch_up()
        except OSError:  # out of descriptors, say: nothing is known until a look succeeds
            self._has_lost_track = True
            await trio.sleep(_POLL_SECONDS)

    async def _wait(self) -> None:
        if self._has_lost_track:
            await trio.lowlevel.checkpoint()
        elif self._changes is None:
            await trio.sleep_until(self._next_poll)
            self._next_poll = trio.current_time() + _POLL_SECONDS
        else:
            await self._changes.wait()

    def wake_another(self) -> None:
        """The reader has left: another share that waits is to read."""
        for share in self._shares:
            if share.wake():
                return

    def _catch_up(self) -> None:
        """Read what was announced, look what that means, and tell it."""
        changes = self._changes
        is_complete = changes is not None and changes.is_complete
        events: list[Event] = [EventsLost()] if self._has_lost_track else []
        if changes is not None:
            events += changes.read()
        if is_complete and not events:
            return
        before = self._listing
        # Groups end whenever any program on the host leaves one. That changes no interface, and a
        # listing of hundreds takes milliseconds.
        if not events or not all(isinstance(event, GroupEnded) for event in events):
            self._listing = self._machine.list_interfaces()
        if not is_complete:
            events += compare_listings(before, self._listing)
        # After the listing: what changes between the two is announced, and seen the next time.
        were_lost = any(isinstance(event, EventsLost) for event in events)
        now = changes.look() if changes is not None and were_lost else []
        self._has_lost_track = False
        change = self._tracker.read(events, self._listing, before, now)
        if change.calls_for_a_look():
            change = change.with_groups(self._machine.list_groups())
        if events or change.concerned:
            for share in list(self._shares):  # a copy: who is told may close its share
                share.tell(change)
