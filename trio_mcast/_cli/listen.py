"""`trio-mcast listen`"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Annotated, TypeAlias

import trio
from cyclopts import Parameter

import trio_mcast
from trio_mcast import (
    Datagram,
    EventStream,
    MembershipStatus,
    MulticastReceiver,
    ReceiverStatistics,
)
from trio_mcast.lowlevel import current_platform

from .errors import UsageError, check_positive
from .groups import WantedGroup, parse_wanted_groups, show_address
from .interruption import AsyncFunction, run_until_interrupted
from .options import (
    InterfacesOption,
    PacketInfoChoice,
    PortOption,
    QuietOption,
    packet_info_names,
)
from .output import count_of, silence_streams, tell, to_json, write
from .payload import hexdump as dump, read_text, show_in_line
from .streams import ERRORS, OUTPUT, output_in_background

Formatter: TypeAlias = Callable[[Datagram, int], Iterable[str]]


async def listen(
    groups: Annotated[list[str], Parameter(name="GROUP")],
    /,
    *,
    port: PortOption,
    interface: InterfacesOption = (),
    source: Annotated[tuple[str, ...], Parameter(name=("--source", "-s"))] = (),
    no_loopback: bool = False,
    count: Annotated[int | None, Parameter(name=("--count", "-n"))] = None,
    timeout: Annotated[float | None, Parameter(name=("--timeout", "-t"))] = None,
    packet_info: tuple[PacketInfoChoice, ...] = (),
    receive_buffer: int | None = None,
    hexdump: Annotated[bool, Parameter(name=("--hexdump", "-x"))] = False,
    json: bool = False,
    quiet: QuietOption = False,
) -> int:
    """Show what arrives for some groups, a line for each datagram.

    A line has the time, the group and the interface, the sender, the size
    and the payload: as text if it is text, otherwise its first 32 bytes in
    hex. Ctrl-C ends it; what was lost, if anything, is told at the end.

    Try:

        trio-mcast listen 239.1.2.3 ff15::1:2 --port 5000
        trio-mcast listen 10.0.0.1@232.1.2.3 --port 5000 --hexdump
        trio-mcast listen 224.0.0.251%eth0 --port 5353 --count 1 --timeout 9

    With --json each line is an object with the keys time, group, port,
    interface, source, source_port, size, text (null unless the payload is
    printable UTF-8), data (all of it in hex), and hop_limit, timestamp and
    traffic_class (null unless asked for).

    Exit codes: 0 if something was received (with --timeout and --count: all
    of it), otherwise 1. 2 is wrong usage.

    Args:
      groups: [SOURCE@]GROUP[%INTERFACE], any number of them, IPv4 and IPv6.
        With SOURCE only that sender is heard, with %INTERFACE only there
      port: the UDP port; other programs may be using it, too
      interface: where to listen: a name, index, address or network; give it
        again for more. Otherwise every interface that is up but loopback
      source: hear this sender only, for groups written without SOURCE@;
        give it again for more
      no_loopback: leave out what this host sends itself
      count: stop after so many datagrams
      timeout: stop after so many seconds
      packet_info: what else to show: hop-limit, timestamp (the kernel's,
        also shown as the time), traffic-class or all; give it again for more
      receive_buffer: bytes of buffer to ask the kernel for, each group and
        interface (4 MiB)
      hexdump: show every payload in hex and ASCII, on lines of its own
      json: one JSON object a line
      quiet: no output but the exit code, errors and losses
    """
    check_positive("--count", count)
    check_positive("--timeout", timeout)
    if json and hexdump:
        raise UsageError("--json has every payload in hex already: leave --hexdump out")
    wanted = parse_wanted_groups(groups, source)
    listening = _Listening(_choose_format(json, hexdump, quiet), count, timeout, quiet)
    async with (
        output_in_background(),
        trio_mcast.open_receiver(
            port=port,
            loopback=not no_loopback,
            packet_info=packet_info_names(packet_info, current_platform()),
            receive_buffer=receive_buffer,
        ) as receiver,
    ):
        for one in wanted:
            await receiver.join(str(one.group), sources=one.sources, interfaces=interface or None)
        background: list[AsyncFunction] = [
            partial(_tell_changes, receiver, receiver.events()),
            OUTPUT.wait_until_broken,
        ]
        try:
            await run_until_interrupted(
                partial(listening.run, receiver, wanted), background=[] if quiet else background
            )
        except BrokenPipeError:  # nobody reads on, as with `| head`
            silence_streams()
        else:
            listening.sum_up(receiver.statistics(), OUTPUT.give_up())
    return listening.exit_code


class _Listening:
    """What is shown, when it ends, and what there is to say then."""

    def __init__(
        self, format_: Formatter, count: int | None, timeout: float | None, quiet: bool
    ) -> None:
        self._format = format_
        self._count = count
        self._timeout = timeout
        self._quiet = quiet
        self._started = trio.current_time()
        self._received = 0
        self._bytes = 0
        self._is_incomplete = False

    async def run(self, receiver: MulticastReceiver, wanted: list[WantedGroup]) -> None:
        """Show datagrams until there have been enough, or it has been long enough."""
        if not self._quiet:
            _tell_memberships(wanted, receiver.memberships())
        with trio.move_on_after(float("inf") if self._timeout is None else self._timeout) as scope:
            while self._count is None or self._received < self._count:
                missing = None if self._count is None else self._count - self._received
                self._show(await receiver.receive_batch(missing))
                await OUTPUT.wait_for_room()
            await OUTPUT.wait_until_written()
        self._is_incomplete = scope.cancelled_caught and self._received < (self._count or 0)

    def _show(self, batch: list[Datagram]) -> None:
        now = time.time_ns()
        self._received += len(batch)
        self._bytes += sum(len(datagram.data) for datagram in batch)
        write(line for datagram in batch for line in self._format(datagram, now))

    def sum_up(self, statistics: ReceiverStatistics, unread: int) -> None:
        """Tell how much it was and what was lost.

        Args:
          unread: lines of output that nobody read in time
        """
        losses = _describe_losses(statistics)
        if self._quiet:
            if statistics.dropped_by_kernel or statistics.host_checksum_errors:
                tell(losses)
            return
        datagrams = count_of(self._received, "datagram")
        size = count_of(self._bytes, "byte")
        seconds = trio.current_time() - self._started
        tell(f"{datagrams}, {size} in {seconds:.1f} s, {losses}")
        if unread:
            tell(f"{count_of(unread, 'line')} of the output given up, for nobody read it")
        if not self._received:
            tell(
                "if something should have arrived: does the sender use another interface? Is there "
                "a firewall, reverse path filtering, a switch that snoops without a querier?"
            )

    @property
    def exit_code(self) -> int:
        return 1 if self._is_incomplete or not self._received else 0


# --- What is said about it -----------------------------------------------------------------------


def _tell_memberships(wanted: list[WantedGroup], memberships: tuple[MembershipStatus, ...]) -> None:
    """One line for each group: where it is joined, and where that failed."""
    for one in wanted:
        group, zone = one.group.address, one.group.zone
        own = [m for m in memberships if m.group == group and _is_in_zone(m, zone)]
        senders = f" from {', '.join(map(str, one.sources))}" if one.sources else ""
        joined = ", ".join(m.interface.friendly_name for m in own if m.state == "joined")
        if joined:
            tell(f"listening to {group} port {own[0].port}{senders} on {joined}")
        elif not own:
            tell(
                f"listening to {one.group}{senders}: no interface is up and fit for "
                f"IPv{group.version} yet (loopback must be named: --interface lo)"
            )
        for membership in own:
            if membership.state != "joined":
                tell(*_describe(membership))


def _is_in_zone(membership: MembershipStatus, zone: str | None) -> bool:
    interface = membership.interface
    return zone in (None, interface.name, interface.friendly_name, str(interface.index))


async def _tell_changes(receiver: MulticastReceiver, events: EventStream[MembershipStatus]) -> None:
    """One line for each change of state; that a group was joined anew is no change."""
    states = {_place(status): status.state for status in receiver.memberships()}
    async for status in events:
        if states.get(_place(status)) != status.state:
            states[_place(status)] = status.state
            tell(*_describe(status))
            await ERRORS.wait_for_room()


def _place(membership: MembershipStatus) -> str:
    return f"{membership.group} on {membership.interface.friendly_name}"


def _describe(membership: MembershipStatus) -> Iterator[str]:
    error = membership.error
    reason = "" if error is None else f" ({error.strerror or error})"
    yield f"{_place(membership)}: {membership.state}{reason}"
    yield from (f"  {note}" for note in getattr(error, "__notes__", ()))


def _describe_losses(statistics: ReceiverStatistics) -> str:
    lost = statistics.dropped_by_kernel
    if lost is None:
        return "losses unknown on this system"
    causes = _find_causes(statistics)
    if lost == 0:
        return "; ".join(["none lost at full buffers" if causes else "none lost", *causes])
    number = f"{lost} lost" if statistics.losses_are_exact else f"at least {lost} lost"
    return f"{number}: {'; '.join(causes) or 'the kernel does not tell why'}"


def _find_causes(statistics: ReceiverStatistics) -> list[str]:
    """Why datagrams were lost, as far as the counters of this host say."""
    causes = []
    if statistics.host_buffer_errors and statistics.dropped_by_kernel:
        granted = [m.receive_buffer for m in statistics.memberships if m.receive_buffer is not None]
        size = f" of {min(granted):,} bytes" if granted else ""
        causes.append(f"the kernel's buffer{size} was full")
    if statistics.host_checksum_errors:
        damaged = count_of(statistics.host_checksum_errors, "datagram")
        causes.append(f"{damaged} came to this host damaged (wrong checksum)")
    return causes


# --- Datagrams as lines --------------------------------------------------------------------------


def _choose_format(json: bool, hexdump: bool, quiet: bool) -> Formatter:
    if quiet:
        return _format_nothing
    if json:
        return _format_json
    return _format_hexdump if hexdump else _format_line


def _format_nothing(datagram: Datagram, now: int) -> Iterator[str]:
    yield from ()


def _format_line(datagram: Datagram, now: int) -> Iterator[str]:
    yield f"{_describe_datagram(datagram, now)}  {show_in_line(datagram.data)}".rstrip()


def _format_hexdump(datagram: Datagram, now: int) -> Iterator[str]:
    yield _describe_datagram(datagram, now)
    yield from dump(datagram.data)


def _describe_datagram(datagram: Datagram, now: int) -> str:
    parts = [
        _local_time(_time_of(datagram, now)),
        f"{datagram.group}%{datagram.interface.friendly_name}",
        show_address(datagram.source),
        count_of(len(datagram.data), "byte"),
    ]
    if datagram.hop_limit is not None:
        parts.append(f"hop limit {datagram.hop_limit}")
    if datagram.traffic_class is not None:
        parts.append(f"class {datagram.traffic_class:#04x}")
    return "  ".join(parts)


def _format_json(datagram: Datagram, now: int) -> Iterator[str]:
    yield to_json(
        {
            "time": _universal_time(_time_of(datagram, now)),
            "group": datagram.group,
            "port": datagram.port,
            "interface": datagram.interface.name,
            "source": datagram.source[0],
            "source_port": datagram.source[1],
            "size": len(datagram.data),
            "text": read_text(datagram.data),
            "data": datagram.data.hex(),
            "hop_limit": datagram.hop_limit,
            "timestamp": datagram.timestamp,
            "traffic_class": datagram.traffic_class,
        }
    )


def _time_of(datagram: Datagram, now: int) -> int:
    """When the kernel got it, or else when this program did, in nanoseconds."""
    return now if datagram.timestamp is None else datagram.timestamp


@lru_cache(maxsize=1)  # the datagrams of a batch have the time in common
def _local_time(nanoseconds: int) -> str:
    return f"{_to_datetime(nanoseconds).astimezone():%H:%M:%S.%f}"


@lru_cache(maxsize=1)
def _universal_time(nanoseconds: int) -> str:
    return f"{_to_datetime(nanoseconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def _to_datetime(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
