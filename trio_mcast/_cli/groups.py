"""Groups, interfaces and addresses as people type and read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import trio_mcast
from trio_mcast import AddressError
from trio_mcast.lowlevel import Group, parse_group, parse_sources

from .errors import UsageError


def parse_group_spec(text: str) -> tuple[Group, tuple[str, ...]]:
    """A group as people type it: `[SOURCE[,SOURCE...]@]GROUP[%INTERFACE]`.

    Raises:
      AddressError: a part that cannot be meant, or a source of the other IP version
    """
    try:
        before, after = _split_off_sources(text)
        group = parse_group(after)
        if before is None:
            return group, ()
        sources = parse_sources(before.split(","))
    except AddressError:
        if (remedy := _rewrite(text)) is not None:
            raise AddressError(f"{text!r} is not how a group is written: {remedy}") from None
        raise
    for source in sources:
        if source.version != group.version:
            raise AddressError(
                f"{text!r} mixes IP versions: {source} cannot send to {group.address}"
            )
    return group, tuple(map(str, sources))


def _split_off_sources(text: str) -> tuple[str | None, str]:
    """What is before the @, if there is one, and behind it. Names of interfaces may have an @."""
    parts = text.split("@")
    for number in range(1, len(parts)):
        before, after = "@".join(parts[:number]), "@".join(parts[number:])
        if _is_address(after.partition("%")[0]):
            return before, after
    if "@" not in text.partition("%")[0]:
        return None, text
    before, _, after = text.partition("@")  # one of them is wrong
    return before, after


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_ELSEWHERE = re.compile(
    r"(?:\w+://)?(?P<sources>[^@]+@)?@?\[?(?P<group>[^][@]+?)\]?(?::(?P<port>\d+))?(?P<zone>%[^]]+)?"
)


def _rewrite(text: str) -> str | None:
    """How to write what other programs take: GROUP:PORT, [GROUP]:PORT, udp://@GROUP:PORT."""
    match = _ELSEWHERE.fullmatch(text)
    if match is None or not _is_address(match["group"].partition("%")[0]):
        return None
    group = f"{match['sources'] or ''}{match['group']}{match['zone'] or ''}"
    if group == text:  # it is written well, and wrong
        return None
    return f"write {group}" + (f" and --port {match['port']}" if match["port"] else "")


@dataclass(frozen=True)
class WantedGroup:
    """A group to join, and the sources to accept; none: everyone."""

    group: Group
    sources: tuple[str, ...]


def parse_wanted_groups(specs: Iterable[str], sources: Sequence[str]) -> list[WantedGroup]:
    """What `[SOURCE@]GROUP[%INTERFACE]...` and `--source` together ask for.

    A group named twice with a source each wants both. `--source` is for the groups without one of
    their own.
    """
    wanted: dict[Group, tuple[str, ...]] = {}
    for spec in specs:
        group, own = parse_group_spec(spec)
        chosen = own or tuple(sources)
        if not chosen and trio_mcast.classify(group.address).is_ssm:
            raise UsageError(
                f"{group} is for source-specific multicast and needs the address of a sender: "
                f"write SOURCE@{group}, or add --source"
            )
        if group in wanted and bool(wanted[group]) != bool(chosen):
            raise UsageError(f"{group} is named both with and without a source")
        wanted[group] = tuple(dict.fromkeys((*wanted.get(group, ()), *chosen)))
    return [WantedGroup(group, chosen) for group, chosen in wanted.items()]


def show_address(address: tuple[Any, ...]) -> str:
    """A socket address: ``10.0.0.1:5000``, ``[fe80::1%eth0]:5000``."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
