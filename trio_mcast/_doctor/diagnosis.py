"""From a question to all the evidence about it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from numbers import Real

import trio

from .._addresses.parsing import (
    GroupLike,
    SourceLike,
    ipv6_scope,
    is_multicast,
    parse_address,
    parse_group,
    parse_port,
    parse_sources,
)
from .._base.snapshot import Snapshot
from .._base.values import are_several
from .._interfaces.selection import InterfacesLike, Selection, without_zone, zone_of
from .._machine.current import current_machine
from .case import Case, Question
from .observing import observe


def take_snapshot() -> Snapshot:
    """What this host says of its interfaces, groups, sockets and settings at this moment.

    Linux tells almost everything to any user, other systems the interfaces only.
    """
    return current_machine().inspector.take_snapshot()


async def examine(question: Question, seconds: float = 3.0) -> Case:
    """Gather all the evidence: look at this machine, and listen to the groups, if there are any.

    Args:
      question: as `parse_question` makes it
      seconds: how long to listen; 0: do not

    Raises:
      ValueError: less than 0 seconds, or no end
      TypeError: no number
    """
    seconds = parse_seconds(seconds)
    await trio.lowlevel.checkpoint()
    machine = current_machine()
    snapshot = machine.inspector.take_snapshot()
    if not question.groups or not seconds:
        return Case(question, snapshot)
    return Case(question, snapshot, await observe(machine, question, snapshot, seconds))


def parse_seconds(value: object) -> float:
    """How long to listen, checked. Raises: as `examine`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a number of seconds")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{reprlib.repr(value)} seconds: give 0 or more, but not without end")
    return seconds


def parse_question(
    group: GroupLike | Iterable[GroupLike] | None = None,
    *,
    port: int | None = None,
    interface: InterfacesLike = None,
    source: SourceLike | Iterable[SourceLike] | None = None,
) -> Question:
    """What `diagnose` is asked, checked. Args and Raises: as there."""
    parsed = [_parse_group(value) for value in _several(group)]
    port = None if port is None else parse_port(port)
    sources = parse_sources(_several(source))
    zones = [*(zone for _, zone in parsed), *map(zone_of, sources)]
    selections = [Selection.parse(interface), *map(Selection().in_zone, zones)]
    listing = current_machine().list_interfaces()
    indexes = [i.index for s in selections if s.is_named for i in s.require(listing)]
    return Question(
        tuple(dict.fromkeys(str(address) for address, _ in parsed)),
        port,
        tuple(dict.fromkeys(indexes)),
        tuple(str(without_zone(source)) for source in sources),
    )


def _parse_group(value: object) -> tuple[IPv4Address | IPv6Address, str | None]:
    """As `parse_group`, but groups that nobody can receive are findings, not errors."""
    address, zone = parse_address(value)
    if not is_multicast(address) or address.version == 4 or ipv6_scope(address):
        parse_group(value)
    return address, zone


def _several(value: object) -> tuple[object, ...]:
    if value is None:
        return ()
    if are_several(value):
        return tuple(value)
    return (value,)
