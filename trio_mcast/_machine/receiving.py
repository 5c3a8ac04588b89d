"""Receiving sockets, as every machine has them: one for each group on each interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

import trio

from .._base.datagram import Datagram
from .._base.interface import Interface
from .._base.source_filter import SourceFilter
from .._plan.options import SocketOption
from .._plan.socket_plan import SocketPlan

DATAGRAMS_PER_READ: Final = 64
"""So many datagrams at most before other sockets have their turn."""

_NOBODY: Final[frozenset[str]] = frozenset()


class Origin(NamedTuple):
    """What a socket's membership says of every datagram that comes by it.

    Attributes:
      has_ancillary: whether the plan asked the kernel for any
      rest: what stands in a `Datagram` after data and source, if the kernel tells no more of it
    """

    group: IPv4Address | IPv6Address
    port: int
    interface: Interface
    packed_group: bytes
    has_ancillary: bool
    rest: tuple[Any, ...]

    @classmethod
    def make(
        cls,
        group: IPv4Address | IPv6Address,
        port: int,
        interface: Interface,
        *,
        has_ancillary: bool = False,
    ) -> Origin:
        rest = Datagram(b"", (), group, port, interface)[2:]
        return cls(group, port, interface, group.packed, has_ancillary, rest)

    @classmethod
    def of(cls, plan: SocketPlan, port: int) -> Origin:
        assert plan.group is not None
        assert plan.interface is not None
        has_ancillary = bool(plan.packet_info) or plan.sorts_strays or plan.merges_datagrams
        return cls.make(plan.group, port, plan.interface, has_ancillary=has_ancillary)

    def on(self, interface: Interface) -> Origin:
        """The same for an interface that is seen to have changed."""
        return self.make(self.group, self.port, interface, has_ancillary=self.has_ancillary)


class ReceivingSocket(ABC):
    """Hears one group on one interface, and makes datagrams of what arrives.

    One that has retired has left the group and hears nothing new, but has yet to be read.

    Attributes:
      plan: what it was made from
      origin: what datagrams get from their membership. It can be exchanged
      unwanted_sources: addresses of senders whose datagrams are dropped
      datagrams_read: how many there were so far, without those dropped
      bytes_read: their payloads taken together
      is_retired, is_closed: see above
      over: set when it has retired or was closed
      socket_set: the set that it is in, if it is
    """

    __slots__ = (
        *("bytes_read", "datagrams_read", "is_closed", "is_retired", "origin", "over", "plan"),
        *("socket_set", "unwanted_sources"),
    )

    def __init__(self, plan: SocketPlan, origin: Origin) -> None:
        self.plan: SocketPlan = plan
        self.origin: Origin = origin
        self.unwanted_sources: frozenset[str] = _NOBODY
        self.datagrams_read: int = 0
        self.bytes_read: int = 0
        self.is_retired: bool = False
        self.is_closed: bool = False
        self.over: trio.Event = trio.Event()
        self.socket_set: SocketSet | None = None

    # Reading

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

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Return when there is something to read.

        Raises:
          trio.ClosedResourceError: it was closed, or has retired
        """

    def fileno(self) -> int:
        """The descriptor, for machines that can wait for many; -1 on others."""
        return -1

    # What else can be done with it

    @abstractmethod
    def change_filter(self, change: SocketOption, new: SourceFilter) -> None:
        """Hear others than before, by an option that `plan_filter_change` made.

        Raises:
          OSError: the kernel refused; the old filter stands
        """

    def drop_count(self) -> int | None:
        """How many datagrams the kernel had to drop here; None where it does not tell."""
        return None

    @abstractmethod
    def receive_buffer(self) -> int | None:
        """The bytes of buffer that the kernel granted; None where it does not tell."""

    def may_have_unread(self) -> bool:
        """Whether something has arrived that was not read, as far as that can be told."""
        return True

    # The end

    def retire(self) -> None:
        """Leave, but keep what has arrived. Whoever waits for the socket gets to see to it."""
        self._leave()
        self.is_retired = True
        self.over.set()
        self._wake()

    def close(self) -> None:
        if self.socket_set is not None:
            # Before it is closed: where a child process has a copy, closing does not do that.
            self.socket_set.remove(self)
        if not self.is_retired:
            # For the same reason: the child's copy would keep the group joined.
            self._leave()
        self.is_closed = True
        self.over.set()
        self._wake()
        self._close()

    @abstractmethod
    def _leave(self) -> None:
        """Leave the group."""

    @abstractmethod
    def _wake(self) -> None:
        """Wake whoever is in `wait_readable`."""

    @abstractmethod
    def _close(self) -> None: ...


class SocketSet(ABC):
    """Sockets that one task can wait for together, on systems that have a descriptor for many.

    Waiting is one registration with the event loop, however many sockets there are, and one
    wake-up, however many of them have become readable.

    Another task can wait for an alarm, which goes off when a socket is readable, but only while it
    is armed. So that task is not woken for each datagram, and need not be woken in order to be told
    whether it shall be: arming and disarming costs less than a tenth of a wake-up.
    """

    @abstractmethod
    def add(self, sock: ReceivingSocket) -> int:
        """Wait for this one, too, until it is closed or removed.

        Returns:
          The number by which `ready` names it

        Raises:
          OSError: there is no room for one more
        """

    @abstractmethod
    def remove(self, sock: ReceivingSocket) -> None:
        """Of an open socket; one that was removed before does no harm."""

    @abstractmethod
    def ready(self) -> Sequence[int]:
        """Those that are readable, or some of them: then others are next, for they take turns."""

    @abstractmethod
    def wait(self) -> Awaitable[None]:
        """Return when a socket is readable. Raises ClosedResourceError if interrupted."""

    @abstractmethod
    def interrupt(self) -> None:
        """Wake whoever is in `wait`."""

    @abstractmethod
    def arm(self) -> bool:
        """Have the alarm go off as soon as a socket is readable, and until `disarm`.

        Returns:
          False if the system refuses: then what arrives waits in the kernel until somebody reads
        """

    @abstractmethod
    def disarm(self) -> None: ...

    @abstractmethod
    def wait_for_alarm(self) -> Awaitable[None]:
        """Return when the alarm has gone off. Raises ClosedResourceError if the set is closed."""

    @abstractmethod
    def close(self) -> None: ...


@dataclass(frozen=True)
class ReceivingSockets:
    """What a machine gives one receiver.

    Attributes:
      open: opens a socket for a plan and a port. Raises SocketSetupError if the system refuses
      open_set: opens what many can be waited for by; None where each has to be by itself
    """

    open: Callable[[SocketPlan, int], ReceivingSocket]
    open_set: Callable[[], SocketSet | None] = lambda: None
