"""What all ways of reading datagrams have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from .._plan.datagram import Datagram
from .._plan.interfaces import Interface
from .._plan.plan import SocketPlan

DATAGRAMS_PER_READ: Final = 64
"""So many datagrams at most before other sockets have their turn."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a socket's membership says of every datagram that comes by it."""

    group: IPv4Address | IPv6Address
    port: int
    interface: Interface
    packed_group: bytes
    has_ancillary: bool  # whether the plan asked the kernel for any
    rest: tuple[Any, ...] = field(init=False, repr=False, compare=False)
    """What stands in a `Datagram` after data and source, if the kernel tells no more of it."""

    def __post_init__(self) -> None:
        rest = Datagram(b"", (), self.group, self.port, self.interface)[2:]
        object.__setattr__(self, "rest", rest)

    @classmethod
    def of(cls, plan: SocketPlan, port: int) -> Origin:
        assert plan.group is not None
        assert plan.interface is not None
        return cls(
            plan.group,
            port,
            plan.interface,
            plan.group.packed,
            bool(plan.packet_info) or plan.sorts_strays or plan.merges_datagrams,
        )


class Reader(ABC):
    """Makes datagrams of what arrives at one socket.

    Attributes:
      origin: what they get from their membership. It can be exchanged
      unwanted_sources: addresses of senders whose datagrams are dropped
      datagrams_read: how many there were so far, without those dropped
      bytes_read: their payloads taken together
    """

    __slots__ = ("bytes_read", "datagrams_read", "origin", "unwanted_sources")

    def __init__(self, origin: Origin) -> None:
        self.origin: Origin = origin
        self.unwanted_sources: frozenset[str] = frozenset()
        self.datagrams_read: int = 0
        self.bytes_read: int = 0

    @abstractmethod
    def read(self, found: list[Datagram], again: bool, /) -> int:
        """Read some of what is there, without waiting.

        Args:
          found: where the datagrams are appended, `DATAGRAMS_PER_READ` or fewer; some hundred more
            where the kernel hands over merged ones
          again: whether there was something the last time, and that was just now

        Returns:
          How many there were, wanted or not

        Raises:
          OSError: the kernel refused, other than for there being nothing
        """

    def _take_in(self, found: list[Datagram], datagrams: Sequence[Datagram], size: int) -> None:
        if unwanted := self.unwanted_sources:
            datagrams = [d for d in datagrams if d.source[0] not in unwanted]
            size = sum(len(d.data) for d in datagrams)
        self.datagrams_read += len(datagrams)
        self.bytes_read += size
        found += datagrams
