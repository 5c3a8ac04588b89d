"""Groups, interfaces and addresses as people type and read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    before, at, after = text.rpartition("@")
    group = parse_group(after)
    if not at:
        return group, ()
    sources = parse_sources(before.split(","))
    for source in sources:
        if source.version != group.version:
            raise AddressError(
                f"{text!r} mixes IP versions: {source} cannot send to {group.address}"
            )
    return group, tuple(map(str, sources))


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
