"""`trio-mcast demo`"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal

import trio

import trio_mcast
from trio_mcast import Interface, MulticastError, list_interfaces, random_group

from .groups import show_address
from .output import tell, to_json, write

_WORDS = ("one", "two", "three")
_PATIENCE = 0.3


async def demo(*, json: bool = False) -> int:
    """Send to a group, hear it, and show both: does multicast work here?

    Nothing leaves this host and no privilege is needed. IPv4 goes through
    the loopback interface. So does IPv6 where it can; elsewhere through
    another interface, with hop limit 0.

    Try:

        trio-mcast demo

    Exit codes: 0 if what was sent arrived, otherwise 1.

    Args:
      json: one JSON object for each IP version, with the keys version,
        works, interface, group, port, sent, received (a list of objects
        with source, text and microseconds) and error
    """
    loopback = [interface for interface in list_interfaces() if interface.is_loopback]
    if not any(interface.is_up for interface in loopback):
        return _tell_no_loopback(loopback)
    runs = [await _try_version(4), await _try_version(6)]
    if json:
        write(to_json(run.as_json()) for run in runs)
    else:
        write(line for run in runs for line in run.describe())
    works = any(run.works for run in runs)
    if works and not json:
        write(_what_next())
    return 0 if works else 1


@dataclass(frozen=True)
class _Heard:
    """A datagram that came back."""

    source: tuple[Any, ...]
    text: str
    microseconds: int


@dataclass(frozen=True)
class _Run:
    """What became of one IP version, on the last interface that was tried."""

    version: Literal[4, 6]
    interface: Interface | None = None
    group: IPv4Address | IPv6Address | None = None
    port: int | None = None
    heard: tuple[_Heard, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        return len(self.heard) == len(_WORDS)

    def describe(self) -> Iterator[str]:
        """For people."""
        if self.error is not None:
            yield f"IPv{self.version} does not work here: {self.error}"
            yield from (f"  {note}" for note in self.notes)
            return
        yield f"IPv{self.version}: group {self.group}, port {self.port}, interface {self.interface}"
        for word, heard in zip(_WORDS, self.heard, strict=True):
            received = f"received {heard.text!r} from {show_address(heard.source)}"
            yield f"  sent {word!r}, {received} after {heard.microseconds} us"

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "version": self.version,
            "works": self.works,
            "interface": self.interface and self.interface.name,
            "group": self.group and str(self.group),
            "port": self.port,
            "sent": _WORDS,
            "received": [
                {
                    "source": show_address(heard.source),
                    "text": heard.text,
                    "microseconds": heard.microseconds,
                }
                for heard in self.heard
            ],
            "error": self.error,
        }


async def _try_version(version: Literal[4, 6]) -> _Run:
    """Try the loopback interface, then others; if none works, tell of the first."""
    failure = None
    for interface in _candidates(version):
        run = await _try_interface(version, interface)
        if run.works:
            return run
        failure = failure or run
    return failure or _Run(version, error=f"no interface that is up has IPv{version}")


def _candidates(version: Literal[4, 6]) -> list[Interface]:
    usable = [i for i in list_interfaces() if i.is_up and i.carries(version)]
    loopback = [i for i in usable if i.is_loopback]
    others = [i for i in usable if i.supports_multicast and not i.is_loopback]
    return [*loopback[:1], *others[:2]]


async def _try_interface(version: Literal[4, 6], interface: Interface) -> _Run:
    # Interface-local for IPv6: other hosts are not even told of the join.
    group = random_group(version, scope=1 if version == 6 else "local")
    port = random.randrange(49152, 65536)
    run = _Run(version, interface, group, port)
    heard: list[_Heard] = []
    try:
        with trio.move_on_after(_PATIENCE):
            async with (
                trio_mcast.open_receiver(group, port=port, interfaces=interface) as receiver,
                trio_mcast.open_sender(
                    group, port=port, interface=interface, hop_limit=0
                ) as sender,
            ):
                for word in _WORDS:
                    started = trio.current_time()
                    await sender.send(word.encode())
                    datagram = await receiver.receive()
                    delay = round((trio.current_time() - started) * 1e6)
                    heard.append(_Heard(datagram.source, datagram.data.decode(), delay))
    except MulticastError as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        return replace(run, error=text, notes=tuple(getattr(error, "__notes__", ())))
    if len(heard) < len(_WORDS):
        return replace(run, error=f"nothing that is sent to {group} by {interface} arrives")
    return replace(run, heard=tuple(heard))


def _tell_no_loopback(loopback: list[Interface]) -> int:
    if not loopback:
        tell("trio-mcast: this host has no loopback interface")
    for interface in loopback:
        tell(
            f"trio-mcast: the loopback interface {interface} is down",
            f"  switch it on (Linux: ip link set {interface} up) and try again",
        )
    return 1


def _what_next() -> Iterator[str]:
    alone = all(i.is_loopback or not i.is_up for i in list_interfaces())
    by = " --interface lo" if alone else ""
    yield ""
    yield "Try, in two terminals:"
    yield f"  trio-mcast listen 239.1.2.3 --port 5000{by}"
    yield f"  trio-mcast send 239.1.2.3 hello --port 5000{by}"
