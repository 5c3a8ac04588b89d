"""What happens to a machine's interfaces: one feed for all receivers and senders of a `trio.run`.

Whoever follows interfaces has a share in the feed. What is announced is read, and the interfaces
are listed, once for all shares. There is no task for it: of those who wait for their share one, the
reader, waits for the announcements, and when it leaves another does. The feed is opened with the
first share and closed with the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Set
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
from .sockets import naming_step

# How often to look where a system announces nothing, or nothing to us; and where it says nothing of
# groups, whether those that are held are still there, which takes 2 milliseconds for 1,000.
_POLL_SECONDS: Final = 2.0

# Who adapts to a change closes sockets, by which groups of others may end (`following`, rule 2).
_SOON_SECONDS: Final = 0.1

_STEP: Final = "list the network interfaces"

# What failed because something had run out, nothing announces when there is enough again.
_RETRY_SECONDS: Final = 1.0

_Feeds: TypeAlias = "dict[Machine, InterfaceFeed]"

_feeds: Final[trio.lowlevel.RunVar[_Feeds]] = trio.lowlevel.RunVar("trio_mcast feeds")


HeldGroups: TypeAlias = "Callable[[], Set[tuple[int, bytes]]]"
"""Tells which groups are held, and where: (interface index, packed address)."""


def follow_interfaces(machine: Machine, held_groups: HeldGroups | None = None) -> FeedShare:
    """A share in the feed of a machine. From now on nothing that happens is missed. Close it.

    Args:
      held_groups: tells which groups are held. None: never any

    Raises:
      SocketSetupError: the interfaces cannot be listed
    """
    try:
        feeds = _feeds.get()
    except LookupError:
        feeds = {}
        _feeds.set(feeds)
    feed = feeds.get(machine)
    if feed is None:
        feed = feeds[machine] = InterfaceFeed(machine)
    try:
        return feed.open_share(held_groups)
    except BaseException:
        feed.close_if_unused()
        raise


class FeedShare:
    """What one receiver, one sender or one program that watches is told.

    Attributes:
      listing: the interfaces as they were when this was opened, or when a change was last taken
      held_groups: tells which groups are held; None: never any
    """

    def __init__(self, feed: InterfaceFeed, held_groups: HeldGroups | None) -> None:
        self.listing: tuple[Interface, ...] = ()
        self.held_groups: HeldGroups | None = held_groups
        self._feed = feed
        self._pending: Change | None = None
        self._parked = trio.lowlevel.ParkingLot()  # while another share reads
        self._reading: trio.CancelScope | None = None  # while this one does
        self._following: trio.CancelScope | None = None
        self._is_closed = False

    async def wait(self) -> Change:
        """Return what has happened since the last change was taken, as soon as something has.

        Raises:
          trio.ClosedResourceError: this was closed
        """
        await trio.lowlevel.checkpoint()
        feed = self._feed
        try:
            while True:
                # Asked first: what was told just before it was closed concerns it no more.
                if self._is_closed:
                    raise trio.ClosedResourceError
                if (change := self._take()) is not None:
                    return change
                # One of those who wait reads for all. A task for it would need a nursery that
                # outlives every receiver, which only a system task has, and whose failure would
                # end the program.
                if feed.has_reader:
                    await self._parked.park()
                    continue
                feed.has_reader = True
                try:
                    with trio.CancelScope() as self._reading:
                        await feed.read()
                finally:
                    self._reading = None
                    feed.has_reader = False
        finally:
            # Whichever way it leaves: it may have been the reader, or woken in order to become it.
            feed.find_reader()

    @trio.lowlevel.enable_ki_protection
    async def follow(self, adapt: Callable[[Change], None], is_due: Callable[[], bool]) -> None:
        """Adapt to every change, until this is closed. For tasks that must not fail.

        Args:
          adapt: is told of a change, and raises nothing
          is_due: whether something failed of which nothing announces that it may work again. Then
            `adapt` is called after a while although nothing has changed
        """
        while not self._is_closed:
            change = Change(self.listing)
            with trio.move_on_after(_RETRY_SECONDS if is_due() else math.inf) as self._following:
                try:
                    change = await self.wait()
                except trio.ClosedResourceError:
                    return
            # It may have been closed at the very moment of trying again.
            if not self._is_closed:
                adapt(change)

    def retry_soon(self) -> None:
        """Have `is_due` asked again: it may be so now."""
        if self._following is not None:
            soon = trio.current_time() + _RETRY_SECONDS
            self._following.deadline = min(self._following.deadline, soon)

    @property
    def trouble(self) -> OSError | None:
        """Why it is not known what has happened; None: it is known."""
        return self._feed.trouble

    def has_news(self, is_polled: bool) -> bool:
        """Whether something may have happened to which nobody has adapted yet.

        Who is about to read a socket asks this: the system may have woken him and the task that
        adapts for the same reason.

        Args:
          is_polled: what the event loop knows is enough. Otherwise the system has to be asked
        """
        if self._pending is not None:
            return True
        if not is_polled:
            return self._feed.may_have_news()
        reader = self._feed.waiting
        if reader is not None:  # as it is nearly always
            return reader.custom_sleep_data is None
        return not self._feed.is_blind

    def catch_up(self) -> Change | None:
        """See at once what has happened since the last change was taken; None: nothing.

        Raises:
          SocketSetupError: the interfaces cannot be listed
        """
        self._feed.catch_up()
        return self._take()

    def _take(self) -> Change | None:
        change, self._pending = self._pending, None
        if change is not None:
            self.listing = change.listing
        return change

    def tell(self, change: Change) -> None:
        before = self._pending
        self._pending = change if before is None else before.followed_by(change)
        self.wake()

    def become_reader(self) -> bool:
        """Have it read for all, if it waits; whether it does."""
        waits = bool(self._parked)
        self.wake()
        return waits

    def wake(self) -> None:
        """Have it look what there is. What it reads may have been read by somebody else."""
        self._parked.unpark_all()
        if self._reading is not None:
            self._reading.cancel()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._feed.remove(self)
            self.wake()


class InterfaceFeed:
    """Reads what is announced, and tells every share what it means.

    Attributes:
      has_reader: one of the shares waits for the announcements
      waiting: the task that does, while it does. Trio clears its `custom_sleep_data` at the moment
        of waking it, so that others know before it runs, and without a system call
      trouble: why it could not be seen, the last time, what has happened
    """

    def __init__(self, machine: Machine) -> None:
        """Open it. Raises SocketSetupError if the interfaces cannot be listed."""
        self._machine = machine
        self.has_reader: bool = False
        self.trouble: OSError | None = None
        self.waiting: trio.lowlevel.Task | None = None
        self._unfinished: Change | None = None
        self._shares: dict[FeedShare, None] = {}
        self._tracker = LinkTracker()
        self._has_lost_track = False  # nothing is known until a look succeeds
        self._next_poll = trio.current_time() + _POLL_SECONDS
        self._waiting_until = trio.CancelScope()
        self._lists_groups: bool | None = None  # not known
        # In this order, so that nothing is missed between the two.
        with naming_step("listen to changes of the network interfaces"):
            self._changes = machine.open_changes()
        try:
            with naming_step(_STEP):
                self._tracker.read([] if self._changes is None else self._changes.look())
            self._listing: tuple[Interface, ...] = machine.list_interfaces()
        except BaseException:
            self._close_changes()
            raise

    def open_share(self, held_groups: HeldGroups | None) -> FeedShare:
        """A share whose listing is up to date, and which is told what happens from now on."""
        self.catch_up()
        share = FeedShare(self, held_groups)
        share.listing = self._listing
        self._shares[share] = None
        self._waiting_until.deadline = self._next_look()
        return share

    def remove(self, share: FeedShare) -> None:
        self._shares.pop(share, None)
        self.close_if_unused()

    def close_if_unused(self) -> None:
        if not self._shares and _feeds.get().get(self._machine) is self:
            del _feeds.get()[self._machine]
            self._close_changes()

    def _close_changes(self) -> None:
        if self._changes is not None:
            self._changes.close()

    def find_reader(self) -> None:
        """If nobody reads, have one do it of those who wait, if any."""
        if not self.has_reader:
            for share in self._shares:
                if share.become_reader():
                    return

    # What happens

    async def read(self) -> None:
        """Wait until something is announced, and tell it."""
        try:
            # What is there already is seen before waiting. So while it waits and was not woken, all
            # has been seen that happened before the event loop last asked the system (`has_news`).
            change = self._find_change() if self.announces_everything else None
            if change is None:
                await self._wait()
                change = self._find_change()
            self._tell(change)
        except OSError as error:  # out of descriptors, say
            self._lose_track(error)
            await trio.sleep(_POLL_SECONDS)

    async def _wait(self) -> None:
        if self._has_lost_track:
            await trio.lowlevel.checkpoint()
        elif self._changes is None:
            await trio.sleep_until(self._next_look())
        else:
            self.waiting = trio.lowlevel.current_task()
            self.waiting.custom_sleep_data = self
            try:
                with trio.CancelScope(deadline=self._next_look()) as self._waiting_until:
                    await self._changes.wait()
            finally:
                self.waiting = None

    def _next_look(self) -> float:
        """When to look although nothing was announced."""
        if self._changes is None or self._looks_for_groups:
            return self._next_poll
        return math.inf

    @property
    def _looks_for_groups(self) -> bool:
        is_told = self._changes is not None and self._changes.announces_groups
        is_asked = self._lists_groups is not False and not is_told
        return is_asked and any(share.held_groups is not None for share in self._shares)

    def _find_ended(self) -> Iterable[GroupEnded]:
        """The groups that somebody holds and the system lists no more, if it announces no end."""
        if not self._looks_for_groups:
            return ()
        try:
            groups = self._machine.list_groups()
        except OSError:  # out of descriptors: nothing is known to have ended
            return ()
        self._lists_groups = groups is not None or bool(self._lists_groups)
        if groups is None:
            return ()
        held = set[tuple[int, bytes]]()
        for share in self._shares:
            if share.held_groups is not None:
                held |= share.held_groups()
        return [GroupEnded(index, group) for index, group in held - groups]

    @property
    def is_blind(self) -> bool:
        """Whether nothing is announced, or nothing can be seen at the moment."""
        return self._changes is None or self._has_lost_track

    def may_have_news(self) -> bool:
        """Whether something is announced by now, where everything is."""
        changes = self._changes
        return changes is not None and changes.is_complete and changes.may_have_news()

    def catch_up(self) -> None:
        """Read what was announced, look what that means, and tell it.

        Where all is announced, that is cheap as long as nothing is.

        Raises:
          SocketSetupError: the interfaces cannot be listed. What was announced is not lost by that:
            the next time everything is looked at
        """
        try:
            with naming_step(_STEP):
                self._tell(self._find_change())
        except OSError as error:
            self._lose_track(error)
            for share in self._shares:  # the reader waits for announcements that were just read
                share.wake()
            raise

    def _lose_track(self, trouble: OSError) -> None:
        self._has_lost_track = True
        self.trouble = trouble

    def _tell(self, change: Change | None) -> None:
        if change is not None:
            for share in self._shares:
                share.tell(change)

    @property
    def announces_everything(self) -> bool:
        return self._changes is not None and self._changes.is_complete

    def _find_change(self) -> Change | None:
        changes = self._changes
        is_complete = self.announces_everything
        events: list[Event] = [EventsLost()] if self._has_lost_track else []
        if changes is not None:
            events += changes.read()
        is_due = trio.current_time() >= self._next_look()
        if is_due or events or not is_complete:
            events += self._find_ended()
        if is_due or events:
            self._next_poll = trio.current_time() + (_SOON_SECONDS if events else _POLL_SECONDS)
        if is_complete and not events:
            return None
        before = self._listing
        # Groups end whenever any program on the host leaves one. That changes no interface, and a
        # listing of hundreds takes milliseconds.
        if not is_complete or not all(isinstance(event, GroupEnded) for event in events):
            self._listing = self._machine.list_interfaces()
        if not is_complete:
            events += compare_listings(before, self._listing)
        # After the listing: what changes between the two is announced, and seen the next time.
        were_lost = any(isinstance(event, EventsLost) for event in events)
        now = changes.look() if changes is not None and were_lost else []
        self._has_lost_track = False
        self.trouble = None
        change = self._tracker.read(events, self._listing, before, now)
        if self._unfinished is not None:
            change = self._unfinished.followed_by(change)
        if change.calls_for_a_look():
            self._unfinished = change  # or what was announced is lost if this fails
            change = change.with_groups(self._machine.list_groups())
        self._unfinished = None
        return change if events or change.concerned else None
