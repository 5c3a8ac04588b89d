"""`trio-mcast send`"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

import trio_mcast
from trio_mcast import MulticastSender, SendError, default_interface

from .byte_input import ByteInput
from .errors import UsageError, check_positive
from .groups import parse_group_spec, show_address
from .interruption import run_until_interrupted
from .options import HopLimitOption, InterfacesOption, PortOption, QuietOption
from .output import count_of, tell
from .streams import output_in_background


async def send(
    group: Annotated[str, Parameter(name="GROUP")],
    message: Annotated[str | None, Parameter(name="MESSAGE")] = None,
    /,
    *,
    port: PortOption,
    interface: InterfacesOption = (),
    count: Annotated[int | None, Parameter(name=("--count", "-n"))] = None,
    interval: float = 0.0,
    file: Annotated[Path | None, Parameter(name=("--file", "-f"))] = None,
    binary: Annotated[bool, Parameter(name=("--binary", "-b"))] = False,
    size: int = 1400,
    hop_limit: HopLimitOption = 1,
    no_loopback: bool = False,
    traffic_class: int | None = None,
    source: Annotated[str | None, Parameter(name=("--source", "-s"))] = None,
    source_port: int = 0,
    quiet: QuietOption = False,
) -> int:
    """Send to a group: a message, or standard input, each line a datagram.

    Ctrl-C ends it.

    Try:

        trio-mcast send 239.1.2.3 hello --port 5000
        trio-mcast send ff02::1:2%eth0 tick --port 5000 --count 9 --interval 1
        journalctl --follow | trio-mcast send 239.1.2.3 --port 5000
        trio-mcast send 239.1.2.3 --port 5000 --binary --size 1316 <film.ts

    Exit codes: 0 if something was sent, 1 if nothing was or the system
    refused, 2 wrong usage.

    Args:
      group: [SOURCE@]GROUP[%INTERFACE]; SOURCE is the address to send from,
        one of this host's
      message: the payload. Without it, standard input is sent
      port: the UDP port to send to
      interface: the interface to send by: a name, index, address or network;
        give it again for a copy by each, or "all". Otherwise the one with
        the default route
      count: how often to send MESSAGE; 0: until Ctrl-C (1)
      interval: seconds from one datagram to the next (0)
      file: send a file, not standard input
      binary: send the input as it is, in datagrams of --size bytes
      size: bytes in a datagram of --binary (1400)
      hop_limit: how many routers may pass it on, plus one (1); 0 stays on
        this host
      no_loopback: do not let programs on this host hear it
      traffic_class: the byte with DSCP and ECN, 0 to 255, also as 0xb8
      source: the address to send from
      source_port: the port to send from
      quiet: tell only what goes wrong
    """
    wanted, sources = parse_group_spec(group)
    senders = [*sources, *([] if source is None else [source])]
    if len(senders) > 1:
        raise UsageError(f"datagrams have one source, not several: {', '.join(senders)}")
    if not interface and wanted.zone is None and default_interface(wanted.version) is None:
        raise UsageError(
            f"no default route tells by which interface to send to {wanted}: "
            "add --interface NAME, or --interface all"
        )
    payloads = _choose_payloads(message, count, file, binary, size)
    if interval != 0:
        check_positive("--interval", interval)
    async with (
        output_in_background(),
        trio_mcast.open_sender(
            str(wanted),
            port=port,
            interfaces=_parse_interfaces(interface),
            hop_limit=hop_limit,
            loopback=not no_loopback,
            traffic_class=traffic_class,
            source=senders[0] if senders else None,
            source_port=source_port,
        ) as sender,
    ):
        refusal = None
        try:
            await run_until_interrupted(partial(_send_all, sender, payloads, interval))
        except SendError as error:
            refusal = error
        has_sent = sender.statistics().datagrams_sent > 0
        if not quiet and (has_sent or refusal is None):
            tell(_sum_up(sender, f"{wanted.address} port {port}"))
        if refusal is not None:
            raise refusal
        return 0 if has_sent else 1


async def _send_all(
    sender: MulticastSender, payloads: AsyncIterator[bytes], interval: float
) -> None:
    due = trio.current_time()
    async for payload in payloads:
        if interval:
            await trio.sleep_until(due)
            # A timer that fires late is made up for, but not a pause of the input.
            if trio.current_time() - due > interval:
                due = trio.current_time()
            due += interval
        await sender.send(payload)


def _parse_interfaces(names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    if "all" in names:
        if len(names) > 1:
            raise UsageError("--interface all means every one: name no others")
        return "all"
    return names or None


# --- What to send --------------------------------------------------------------------------------


def _choose_payloads(
    message: str | None, count: int | None, file: Path | None, binary: bool, size: int
) -> AsyncIterator[bytes]:
    check_positive("--size", size)
    if message is not None:
        if file is not None or binary:
            raise UsageError("MESSAGE is all there is to send: leave --file and --binary out")
        if count is not None and count < 0:
            raise UsageError(f"--count {count} is below 0")
        return _repeat(os.fsencode(message), 1 if count is None else count)
    if count is not None:
        raise UsageError(f"--count {count} repeats a MESSAGE, and there is none")
    try:
        source = ByteInput(file)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    if source.is_terminal:
        tell("every line you type is sent as a datagram; the end of the input (Ctrl-D) ends it")
    return _read_pieces(source, size) if binary else _read_lines(source)


async def _repeat(message: bytes, count: int) -> AsyncIterator[bytes]:
    sent = 0
    while count == 0 or sent < count:
        yield message
        sent += 1


async def _read_lines(source: ByteInput) -> AsyncIterator[bytes]:
    while (line := await source.read_line()) is not None:
        yield line


async def _read_pieces(source: ByteInput, size: int) -> AsyncIterator[bytes]:
    while (piece := await source.read_piece(size)) is not None:
        yield piece


def _sum_up(sender: MulticastSender, target: str) -> str:
    statistics = sender.statistics()
    exits = ", ".join(interface.friendly_name for interface in sender.interfaces)
    sent = count_of(statistics.datagrams_sent, "datagram")
    text = (
        f"sent {sent}, {count_of(statistics.bytes_sent, 'byte')} to {target} by {exits} "
        f"from {show_address(sender.local_address)}"
    )
    refused = statistics.send_errors
    return f"{text}; {count_of(refused, 'datagram')} refused" if refused else text
