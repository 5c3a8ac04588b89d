"""Receivers: what a program holds to hear groups."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, get_args

import trio

from ._inbox import Inbox, Overflow
from ._listener import GroupLike, InterfacesLike, Listener, SourceLike
from ._membership import ReceiverSettings
from ._nursery import open_service_nursery
from ._plan.addresses import parse_port, parse_sources
from ._plan.datagram import Datagram
from ._plan.packet_info import PacketInfoName, parse_packet_info
from ._plan.values import check_flag, check_int, parse_buffer_size
from ._roster import Host, Roster, ThisHost
from ._subscription import Subscription

DEFAULT_MAX_BUFFERED: Final = 4096
"""Datagrams that a receiver holds ready unless told otherwise."""


class MulticastReceiver(Listener, trio.abc.ReceiveChannel[Datagram], final=True):
    """A channel of the datagrams that arrive for some groups, on some interfaces.

    `open_receiver` makes one. Several tasks may receive at once; each datagram goes to one of them.
    The order is that of arrival for the datagrams of one group on one interface; between groups and
    interfaces there is none.

    Hazard: `receive` and ``async for`` are checkpoints for cancellation every time, but let other
    tasks run only once in 64 datagrams while more are there. This bends trio's rule on purpose: a
    full checkpoint costs several times as much as receiving a datagram does. A loop over
    `receive_batch` has a full checkpoint for each batch, and is the fastest way.
    """

    def __init__(self, roster: Roster, inbox: Inbox) -> None:
        super().__init__(roster)
        self._inbox = inbox

    async def receive(self) -> Datagram:
        """The next datagram. Waits for one if none is there.

        Raises:
          trio.ClosedResourceError: the receiver was closed
          trio.BrokenResourceError: every membership has failed for good; the cause tells why
        """
        return await self._inbox.take()

    def __anext__(self) -> Coroutine[Any, Any, Datagram]:
        return self._inbox.take()  # past `receive`, for the sake of speed

    def receive_nowait(self) -> Datagram:
        """The next datagram that is there already.

        Hazard: datagrams are read from the kernel by background tasks, so a loop that only calls
        this and never awaits will not see any.

        Raises:
          trio.WouldBlock: none is there
          trio.ClosedResourceError, trio.BrokenResourceError: as `receive`
        """
        return self._inbox.take_nowait()

    async def receive_batch(self, max: int | None = None) -> list[Datagram]:
        """All datagrams that are there, at least one: waits for one if none is.

        Args:
          max: the most datagrams to return; None for no limit

        Raises:
          ValueError: `max` is below 1
          trio.ClosedResourceError, trio.BrokenResourceError: as `receive`
        """
        if max is not None and check_int("max", max) < 1:
            raise ValueError(f"max={max!r}: at least one datagram is returned")
        return await self._inbox.take_batch(max)

    def batches(self) -> AsyncIterator[list[Datagram]]:
        """Batch after batch, as `receive_batch` returns them, for ``async for``."""
        return _Batches(self._inbox)

    async def aclose(self) -> None:
        """Leave every group and close. Whoever waits in `receive` gets a ClosedResourceError.

        Leaving the ``async with`` block of `open_receiver` does the same.
        """
        self._roster.close()
        self._inbox.close()
        await trio.lowlevel.checkpoint()


class _Batches:
    """No async generator, so that a loop over it can be left without clean-up."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[Datagram]:
        return await self._inbox.take_batch(None)


class _InboxOutlet:
    """Batches go to an inbox, which limits how much is there."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox

    async def wait_for_room(self) -> None:
        await self.inbox.wait_for_room()

    def room(self) -> float:
        return self.inbox.room()

    async def put(self, batch: list[Datagram]) -> None:
        self.inbox.take_in(batch)

    def report_losses(self, count_lost: Callable[[list[Datagram]], None]) -> None:
        self.inbox.count_lost = count_lost

    def is_relief_expected(self) -> bool:
        return self.inbox.is_taker_coming

    def count_buffered(self) -> int:
        return len(self.inbox)

    def fail(self, error: BaseException) -> None:
        self.inbox.fail(error)


class _ChannelOutlet:
    """Batches go to a channel of the program's, which limits how many are there."""

    def __init__(self, channel: trio.MemorySendChannel[list[Datagram]]) -> None:
        self._channel = channel
        self._held = 0
        self._count_lost: Callable[[list[Datagram]], None] = list.clear
        self.is_over = trio.Event()

    async def wait_for_room(self) -> None:
        """It is the channel that makes `put` wait."""

    def room(self) -> float:
        return math.inf

    async def put(self, batch: list[Datagram]) -> None:
        self._held += len(batch)
        try:
            await self._channel.send(batch)
        except trio.Cancelled:
            try:
                self._channel.send_nowait(batch)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._count_lost(batch)
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.is_over.set()
            self._count_lost(batch)
        finally:
            self._held -= len(batch)

    def report_losses(self, count_lost: Callable[[list[Datagram]], None]) -> None:
        self._count_lost = count_lost

    def is_relief_expected(self) -> bool:
        return False

    def count_buffered(self) -> int:
        return self._held

    def fail(self, error: BaseException) -> None:
        self.is_over.set()


@asynccontextmanager
async def open_receiver(
    *groups: GroupLike,
    port: int,
    sources: SourceLike | Iterable[SourceLike] = (),
    interfaces: InterfacesLike = None,
    loopback: bool = True,
    packet_info: PacketInfoName | Collection[PacketInfoName] = (),
    overflow: Overflow = "wait",
    max_buffered: int = DEFAULT_MAX_BUFFERED,
    receive_buffer: int | None = None,
    follow: bool = True,
) -> AsyncIterator[MulticastReceiver]:
    """Join groups, and receive what is sent to them for as long as the block lasts::

        async with trio_mcast.open_receiver("239.1.2.3", port=5000) as receiver:
            async for datagram in receiver:
                print(datagram.source, datagram.interface.name, datagram.data)

    Each group on each interface gets a socket and a task of its own, so that every datagram is
    known to be for that group and to have come in there, and so that no other program's joins
    have any influence.

    When nothing arrives although someone sends, the usual culprits are, in this order: the sender
    uses another interface; a firewall; reverse path filtering; a switch that snoops IGMP while no
    querier is there. See the troubleshooting section of the documentation.

    Args:
      groups: the groups to join, IPv4 and IPv6 mixed as you like, as text or `ipaddress` objects.
        None is allowed: `MulticastReceiver.join` can come later. A zone in the text
        (``"ff02::fb%eth0"``) restricts that group to that interface
      port: the UDP port, 1 to 65535. Other programs may use it too, if they share it
      sources: the senders to accept, source-specific multicast (RFC 4607): one address or several.
        They hold for every group of their own IP version
      interfaces: where to listen. None: every interface that is up, can multicast, is not loopback
        and has what the IP version needs (IPv4: an address). Otherwise one or several of: a name,
        an index, an address of the interface, a network it has an address in
        (``"192.168.1.0/24"``), an `Interface`. What is named is taken as it is
      loopback: whether to hear what this host itself sends, too
      packet_info: what else to tell of each datagram: any of ``"hop_limit"``, ``"timestamp"``,
        ``"traffic_class"``. They cost time, so they are asked for
      overflow: what to do when the program does not keep up. ``"wait"``: stop reading; the kernel's
        buffer fills, and then the kernel drops new datagrams. ``"drop-oldest"``: keep the newest
        ones. `MulticastReceiver.statistics` counts what is lost either way
      max_buffered: how many datagrams to hold ready for the program. "wait" may hold what one read
        brings more
      receive_buffer: bytes of buffer to ask the kernel for, at each socket; None asks for 4 MiB.
        The kernel may grant less, which the statistics tell
      follow: join again by itself when an interface goes and comes back, and on interfaces that
        appear later

    Yields:
      The `MulticastReceiver`. All memberships have been tried: `MulticastReceiver.memberships`
      shows them. An exception raised in the block leaves it as it is, not in an exception group.

    Raises:
      AddressError: a group or source is none, a group of the source-specific ranges (232.0.0.0/8,
        ff3x::/32) has no source, or the sources are all of another IP version than a group
      ValueError, TypeError: another argument is wrong
      InterfaceNotFoundError: an interface that is named does not exist; or, without ``follow``, no
        interface fits
      SocketSetupError: every interface refused, or the system ran out of something (descriptors,
        memory). If only some refuse, that is their membership's state
    """
    inbox = make_inbox(max_buffered, overflow)
    settings = parse_settings(port, loopback, packet_info, receive_buffer, follow)
    subscriptions = parse_subscriptions(groups, sources, interfaces)
    async with serve(ThisHost(), settings, inbox, subscriptions) as receiver:
        yield receiver


@asynccontextmanager
async def serve(
    host: Host, settings: ReceiverSettings, inbox: Inbox, subscriptions: list[Subscription]
) -> AsyncIterator[MulticastReceiver]:
    """A receiver on a host, once all it was told is known to make sense."""
    roster = Roster(settings, _InboxOutlet(inbox), host)
    try:
        roster.open(subscriptions)
        inbox.source = roster.pump
        async with open_service_nursery() as nursery:
            roster.attach(nursery)
            yield MulticastReceiver._create(roster, inbox)
    finally:
        roster.close()
        inbox.close()


async def run_receiver(
    send_channel: trio.MemorySendChannel[list[Datagram]],
    *groups: GroupLike,
    port: int,
    sources: SourceLike | Iterable[SourceLike] = (),
    interfaces: InterfacesLike = None,
    loopback: bool = True,
    packet_info: PacketInfoName | Collection[PacketInfoName] = (),
    overflow: Overflow = "wait",
    max_buffered: int = DEFAULT_MAX_BUFFERED,
    receive_buffer: int | None = None,
    follow: bool = True,
    task_status: trio.TaskStatus[Listener] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Join groups, and feed what is sent to them into a memory channel of yours, until cancelled::

        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](16)
        async with trio.open_nursery() as nursery:
            await nursery.start(
                functools.partial(trio_mcast.run_receiver, send_channel, "239.1.2.3", port=5000)
            )
            async for batch in receive_channel:
                ...

    `open_receiver` explains the arguments, the exceptions and all else. It ends early, without an
    error, when the other end of the channel is closed.

    Args:
      send_channel: takes lists of datagrams. It is not closed when this ends, for it is yours
      overflow: with ``"wait"`` the channel's own capacity counts, in lists. With ``"drop-oldest"``
        up to `max_buffered` datagrams are held back for as long as the channel is full, the newest;
        lists that are in the channel stay
      task_status: ``nursery.start`` returns, when every membership has been tried, a `Listener`:
        the memberships, to look at and to change
    """
    inbox = make_inbox(max_buffered, overflow)
    settings = parse_settings(port, loopback, packet_info, receive_buffer, follow)
    subscriptions = parse_subscriptions(groups, sources, interfaces)
    channel = _ChannelOutlet(send_channel)
    outlet = channel if overflow == "wait" else _InboxOutlet(inbox)
    roster = Roster(settings, outlet, ThisHost())
    try:
        roster.open(subscriptions)
        async with open_service_nursery() as nursery:
            roster.attach(nursery)
            if outlet is not channel:
                nursery.start_soon(_forward, inbox, channel)
            task_status.started(Listener._create(roster))
            await channel.is_over.wait()
    finally:
        roster.close()


async def _forward(inbox: Inbox, channel: _ChannelOutlet) -> None:
    """Move batches on for as long as both ends want it."""
    while not channel.is_over.is_set():
        try:
            batch = await inbox.take_batch(None)
        except trio.BrokenResourceError:
            channel.is_over.set()
            return
        await channel.put(batch)


def make_inbox(max_buffered: int, overflow: Overflow) -> Inbox:
    if overflow not in get_args(Overflow):
        raise ValueError(f'overflow={overflow!r} is neither "wait" nor "drop-oldest"')
    if check_int("max_buffered", max_buffered) < 1:
        raise ValueError(f"max_buffered={max_buffered!r}: at least one datagram must fit")
    return Inbox(max_buffered, overflow)


def parse_settings(
    port: int,
    loopback: bool,
    packet_info: PacketInfoName | Collection[PacketInfoName],
    receive_buffer: int | None,
    follow: bool,
) -> ReceiverSettings:
    return ReceiverSettings(
        parse_port(port),
        check_flag("loopback", loopback),
        parse_packet_info(packet_info),
        parse_buffer_size("receive_buffer", receive_buffer),
        check_flag("follow", follow),
    )


def parse_subscriptions(
    groups: Iterable[GroupLike],
    sources: SourceLike | Iterable[SourceLike],
    interfaces: InterfacesLike,
) -> list[Subscription]:
    parsed = parse_sources(sources)
    return [Subscription.parse(group, parsed, interfaces) for group in groups]
