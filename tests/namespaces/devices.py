"""Interfaces and queues that not every kernel has; where one is missing, the test skips."""

from __future__ import annotations

import shutil

import pytest
from namespaces.network import Card, Host

# What the kernel says of a kind that it does not have, by netlink and by tc(8).
_UNKNOWN = ("Unknown device type", "not supported", "kind is unknown", "No such file or directory")


def add_link(host: Host, name: str, kind: str, *, above: Card | None = None) -> None:
    """Make an interface, and leave it as it is then.

    Args:
      kind: as ip-link(8) calls it, with its own options: ``"vlan id 5"``
      above: the interface that it sends through
    """
    link = f"link {above.name} " if above else ""
    _try(host, "ip", f"link add {link}name {name} type {kind}")


def add_device(
    host: Host, name: str, kind: str, *, above: Card | None = None, ipv4: str = "", ipv6: str = ""
) -> Card:
    """As `add_link`, and switch it on.

    Args:
      ipv4: its address, whose network has 24 bits
      ipv6: the same, 64 bits
    """
    add_link(host, name, kind, above=above)
    card = Card(host, name, ipv4, ipv6)
    card.configure()
    if ipv6:
        card.wait_until_ready()
    return card


def set_queue(card: Card, queue: str) -> None:
    """Have what an interface sends wait in another queue, as tc(8) calls it."""
    _try(card.host, "tc", f"qdisc replace dev {card.name} root {queue}")


def set_offloads(card: Card, features: str) -> None:
    """As ethtool(8) calls them: ``"gro on gso off"``."""
    if shutil.which("ethtool") is None:
        pytest.skip("the program `ethtool` is not installed")
    card.host.command("ethtool", "-K", card.name, *features.split())


def need_program(name: str, package: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"the program `{name}` (Debian: {package}) is not installed")


def _try(host: Host, program: str, arguments: str) -> None:
    try:
        host.command(program, *arguments.split())
    except AssertionError as refusal:
        if any(word in str(refusal) for word in _UNKNOWN):
            pytest.skip(f"this kernel does not have it: {program} {arguments}")
        raise
