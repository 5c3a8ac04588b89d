"""The doctor as programs call it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

import trio

from .._os.scan import list_interfaces
from .._plan.addresses import (
    ipv6_scope,
    is_multicast,
    parse_address,
    parse_group,
    parse_port,
    parse_sources,
)
from .._plan.interfaces import ByName, InterfaceSelector, Selector, parse_selectors, require
from .evidence import Case, Question
from .findings import Finding, judge
from .snapshot import take_snapshot
from .watch import watch as watch_groups

_Address: TypeAlias = "str | IPv4Address | IPv6Address"


async def diagnose(
    group: _Address | Iterable[_Address] | None = None,
    *,
    port: int | None = None,
    interface: InterfaceSelector | Iterable[InterfaceSelector] | None = None,
    source: _Address | Iterable[_Address] | None = None,
    watch: float = 3.0,
) -> tuple[Finding, ...]:
    """Find out why nothing arrives::

        for finding in await trio_mcast.diagnose("239.1.2.3", port=5000):
            print(finding.severity, finding.summary, finding.remedy)

    Without a group it looks at this machine only. Given groups it also joins them for some seconds,
    on every interface, and watches the kernel's counters and what arrives, so as to tell which
    stage loses the datagrams: for that, somebody has to send meanwhile. It changes nothing and
    sends nothing.

    Any user may call it. Root is told more: a packet capture then says what came in, and the
    firewall's chains have names. What could not be seen is a finding of its own.

    Linux tells almost everything, macOS and Windows little more than the state of interfaces.

    Args:
      group: the groups that should arrive
      port: the port; None: the one that usually goes with the group, or any
      interface: where they should arrive, if you care: a name, an index, an address, a network
      source: who should send them, if you know; it makes the answer more exact
      watch: seconds to listen; 0: do not

    Returns:
      What was found, the most probable cause first. Without a finding of severity ``"error"``
      this machine is well.

    Raises:
      AddressError: a group or source is no address
      InterfaceNotFoundError: an interface that is named does not exist
      ValueError, TypeError: another argument is wrong
    """
    if watch < 0:
        raise ValueError(f"watch={watch!r} is below 0 seconds")
    question = parse_question(group, port, interface, source)
    await trio.lowlevel.checkpoint()
    return judge(await examine(question, watch))


async def examine(question: Question, seconds: float) -> Case:
    """Gather all the evidence."""
    snapshot = take_snapshot()
    if not question.groups or not seconds:
        return Case(question, snapshot)
    return Case(question, snapshot, await watch_groups(question, snapshot, seconds))


def parse_question(group: object, port: object, interface: object, source: object) -> Question:
    """What `diagnose` is asked. Raises: as it does."""
    parsed = [_parse_group(value) for value in _several(group)]
    zones: tuple[Selector, ...] = tuple(ByName(zone) for _, zone in parsed if zone is not None)
    selectors = (*(parse_selectors(interface) or ()), *zones)
    listing = list_interfaces()
    indexes = [i.index for selector in selectors for i in require(selector, listing)]
    return Question(
        tuple(dict.fromkeys(str(address) for address, _ in parsed)),
        None if port is None else parse_port(port),
        tuple(dict.fromkeys(indexes)),
        tuple(map(str, parse_sources(_several(source)))),
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
    if isinstance(value, Iterable) and not isinstance(
        value, (str, bytes, bytearray, IPv4Network, IPv6Network)
    ):
        return tuple(value)
    return (value,)
