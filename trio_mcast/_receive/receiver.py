"""Receivers: what a program holds to hear groups."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, get_args

import trio

from .._addresses.parsing import GroupLike, SourceLike
from .._base.datagram import Datagram
from .._base.values import check_at_least, check_flag, check_int
from .._interfaces.selection import InterfacesLike
from .._machine.current import current_machine
from .._machine.nursery import open_service_nursery
from .._plan.packet_info import PacketInfoName
from .._plan.receiver_plan import ReceiverPlanner
from .delivery import Delivery, Overflow
from .join_request import JoinRequest
from .membership import ReceiverSettings
from .memberships import Memberships
from .running_receiver import RunningReceiver

DEFAULT_MAX_BUFFERED: Final = 4096
"""Datagrams that a receiver holds ready unless told otherwise."""

DEFAULT_MAX_BUFFERED_BYTES: Final = 64 * 2**20
"""Bytes of payload that a receiver holds ready unless told otherwise."""

_LARGEST_PAYLOAD: Final = 2**16

_LOOK_SECONDS: Final = 0.5
"""How often `run_receiver` looks whether anybody still receives from its channel."""


class MulticastReceiver(RunningReceiver, trio.abc.ReceiveChannel[Datagram], final=True):
    """A channel of the datagrams that arrive for some groups, on some interfaces.

    `open_receiver` makes one. Several tasks may receive at once: each datagram goes to one of them,
    and tasks that wait are served in the order in which they began to wait. The order is that of
    arrival for the datagrams of one group on one interface; between groups and interfaces there is
    none.

    Hazard: `receive` and ``async for`` are checkpoints for cancellation every time, but let other
    tasks run only once in 64 datagrams while more are there. This bends trio's rule on purpose: a
    full checkpoint costs several times as much as receiving a datagram does. A loop over
    `receive_batch` has a full checkpoint for each batch, and is the fastest way.
    """

    def __init__(self, memberships: Memberships) -> None:
        super().__init__(memberships)
        self._delivery = memberships.delivery

    async def receive(self) -> Datagram:
        """The next datagram. Waits for one if none is there.

        Raises:
          trio.ClosedResourceError: the receiver was closed
          trio.BrokenResourceError: every membership has failed for good; the cause tells why
        """
        return await self._delivery.receive()

    def __anext__(self) -> Coroutine[Any, Any, Datagram]:
        return self._delivery.receive()  # past `receive`, for the sake of speed

    def receive_nowait(self) -> Datagram:
        """The next datagram that is there already, in the receiver or in the kernel.

        Raises:
          trio.WouldBlock: none is there, or other tasks wait for the next one
          trio.ClosedResourceError, trio.BrokenResourceError: as `receive`
        """
        return self._delivery.receive_nowait()

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
        return await self._delivery.receive_batch(max)

    def batches(self) -> AsyncIterator[list[Datagram]]:
        """Batch after batch, as `receive_batch` returns them, for ``async for``."""
        return _Batches(self._delivery)

    async def aclose(self) -> None:
        """Leave every group and close. Whoever waits in `receive` gets a ClosedResourceError.

        Leaving the ``async with`` block of `open_receiver` does the same.
        """
        self._memberships.close()
        await trio.lowlevel.checkpoint()


class _Batches:
    """No async generator, so that a loop over it can be left without clean-up."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[Datagram]:
        return await self._delivery.receive_batch(None)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
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
    exact_losses: bool = False,
    max_buffered_bytes: int = DEFAULT_MAX_BUFFERED_BYTES,
) -> AsyncIterator[MulticastReceiver]:
    """Join groups, and receive what is sent to them for as long as the block lasts::

        async with trio_mcast.open_receiver("239.1.2.3", port=5000) as receiver:
            async for datagram in receiver:
                print(datagram.source, datagram.interface.name, datagram.data)

    Each group on each interface gets a socket and a task of its own, so that every datagram is
    known to be for that group and to have come in there, and so that no other program's joins
    have any influence.

    Hazard: as with a nursery, an async generator must not yield inside the block. If the generator
    is dropped, nobody can leave the block, and the program may never end.

    When nothing arrives although someone sends, the usual culprits are, in this order: the sender
    uses another interface; a firewall; reverse path filtering; a switch that snoops IGMP while no
    querier is there. See the troubleshooting section of the documentation.

    Args:
      groups: the groups to join, IPv4 and IPv6 mixed as you like, as text or `ipaddress` objects.
        None is allowed: `MulticastReceiver.join` can come later. A zone in the text
        (``"ff02::fb%eth0"``) restricts that group to that interface
      port: the UDP port, 1 to 65535. Other programs may use it too, if they share it
      sources: the senders to accept, source-specific multicast (RFC 4607): one address or several.
        They hold for every group of their own IP version. One with a zone (``"fe80::1%eth0"``) is a
        sender on that interface, and holds there only
      interfaces: where to listen. None or ``"all"``: every interface that is up, can multicast, is
        not loopback and has what the IP version needs (IPv4: an address). Otherwise one or several
        of: a name, an index, an address of the interface, a network it has an address in
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
      exact_losses: have ``dropped_by_kernel`` of the statistics count every datagram. Otherwise
        Linux may merge datagrams of one sender, and counts merged ones that it drops as one. Merged
        ones are read several times as fast, so exactness costs time where there are any: senders on
        this host, in its containers and virtual machines, and some network cards
      max_buffered_bytes: how many bytes of payload to hold ready, at least 65,536; with either this
        or `max_buffered` it is full

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
    machine = current_machine().here()
    planner = ReceiverPlanner.parse(
        machine.platform,
        port,
        loopback=loopback,
        packet_info=packet_info,
        receive_buffer=receive_buffer,
        exact_losses=exact_losses,
    )
    settings = ReceiverSettings(
        planner,
        check_flag("follow", follow),
        check_at_least("max_buffered", max_buffered, 1, "one datagram must fit"),
        check_at_least(
            "max_buffered_bytes",
            max_buffered_bytes,
            _LARGEST_PAYLOAD,
            "the largest datagram must fit",
        ),
        _waits_when_full(overflow),
    )
    requests = JoinRequest.parse_several(groups, sources, interfaces)
    planner.platform = machine.platform_to_receive()  # now that all arguments are found right
    memberships = Memberships(settings, machine)
    try:
        memberships.open(requests)
        async with open_service_nursery() as nursery:
            memberships.attach(nursery)
            try:
                yield MulticastReceiver._create(memberships)
            finally:
                # Before the nursery ends: until then another task may call `join`.
                memberships.close()
    finally:
        memberships.close()


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
    exact_losses: bool = False,
    max_buffered_bytes: int = DEFAULT_MAX_BUFFERED_BYTES,
    task_status: trio.TaskStatus[RunningReceiver] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Join groups, and feed what is sent to them into a memory channel of yours, until cancelled::

        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](16)
        async with trio.open_nursery() as nursery:
            await nursery.start(
                functools.partial(trio_mcast.run_receiver, send_channel, "239.1.2.3", port=5000)
            )
            async for batch in receive_channel:
                ...

    This is a receiver and a loop that moves its batches to the channel. `open_receiver` explains
    the arguments, the exceptions and all else. It ends early, without an error, within a second of
    the other end of the channel being closed.

    Args:
      send_channel: takes lists of datagrams. It is not closed when this ends, for it is yours
      overflow, max_buffered: what happens to datagrams while the channel is full. Lists that are in
        the channel stay there
      max_buffered_bytes: what the receiver holds; and what the lists in the channel have together,
        which are made short enough for that. A datagram is never taken apart, so a channel for very
        many lists can take more, and one without a limit has none
      task_status: ``nursery.start`` returns, when every membership has been tried, a
        `RunningReceiver`: the memberships, to look at and to change
    """
    opening = open_receiver(
        *groups,
        port=port,
        sources=sources,
        interfaces=interfaces,
        loopback=loopback,
        packet_info=packet_info,
        overflow=overflow,
        max_buffered=max_buffered,
        receive_buffer=receive_buffer,
        follow=follow,
        exact_losses=exact_losses,
        max_buffered_bytes=max_buffered_bytes,
    )
    async with opening as receiver:
        task_status.started(RunningReceiver._create(receiver._memberships))
        async with open_service_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_when_abandoned, send_channel, scope)
                most_lists = send_channel.statistics().max_buffer_size
                is_bounded = most_lists < math.inf
                most_bytes = max_buffered_bytes / (most_lists + 1) if is_bounded else math.inf
                await _forward(receiver, send_channel, most_bytes)


async def _forward(
    receiver: MulticastReceiver,
    channel: trio.MemorySendChannel[list[Datagram]],
    most_bytes: float,
) -> None:
    """Move batches on for as long as both ends want it. None is lost without being counted.

    Args:
      most_bytes: what one list may have, unless it is a single datagram
    """
    while True:
        try:
            batch = await receiver.receive_batch()
        except trio.BrokenResourceError:  # it failed for good, which the memberships show
            return
        parts = deque(_split(batch, most_bytes))
        try:
            while parts:
                await channel.send(parts[0])
                parts.popleft()
        except trio.Cancelled:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                while parts:
                    channel.send_nowait(parts[0])
                    parts.popleft()
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            for part in parts:
                receiver._memberships.count_lost(part)


def _split(batch: list[Datagram], most_bytes: float) -> Iterator[list[Datagram]]:
    """The batch in parts of at most so many bytes, each of one datagram at least."""
    if len(batch) * _LARGEST_PAYLOAD <= most_bytes:  # as it is most of the time
        yield batch
        return
    part: list[Datagram] = []
    size = 0
    for datagram in batch:
        size += len(datagram.data)
        if part and size > most_bytes:
            yield part
            part, size = [], len(datagram.data)
        part.append(datagram)
    yield part


async def _cancel_when_abandoned(
    channel: trio.MemorySendChannel[list[Datagram]], scope: trio.CancelScope
) -> None:
    """Trio tells nobody that the last receiving end was closed, but for who sends."""
    while channel.statistics().open_receive_channels:  # noqa: ASYNC110 # there is no event for it
        await trio.sleep(_LOOK_SECONDS)
    scope.cancel()


def _waits_when_full(overflow: object) -> bool:
    if overflow not in get_args(Overflow):
        raise ValueError(f'overflow={overflow!r} is neither "wait" nor "drop-oldest"')
    return overflow == "wait"
