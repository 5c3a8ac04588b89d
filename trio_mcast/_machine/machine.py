"""The machine that receivers, senders and the doctor stand on: the only way to a system.

`ThisMachine` is the one that the program runs on. `trio_mcast.testing` makes others up, and the
tests have models of three kernels. Which one is in force is the context's affair: see `current`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from .._base.interface import Interface, IPVersion
from .._interfaces.following import Event
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from .receiving import ReceivingSockets
from .sending import SendingSocket

if TYPE_CHECKING:  # what only the doctor needs
    from .inspector import Inspector


class Changes(ABC):
    """Announcements of what changes about a machine's interfaces.

    Attributes:
      is_complete: everything that matters is announced. If not, compare listings as well
      announces_groups: so is the end of every group, and `wait` returns when somebody joins one.
        If not, ask the machine which groups there are
    """

    is_complete: bool = False
    announces_groups: bool = False

    @abstractmethod
    async def wait(self) -> None:
        """Return when something was announced since the last `read`, or might have been.

        Raises:
          trio.ClosedResourceError: this was closed
          OSError: nothing is known of what is announced, for now
        """

    def look(self) -> list[Event]:
        """How every interface is now, as if it were announced; nothing where that tells no more
        than a listing."""
        return []

    def may_have_news(self) -> bool:
        """Whether `read` may tell something. It is asked often, and answers sooner than `read`."""
        return True

    @abstractmethod
    def read(self) -> list[Event]:
        """What was announced since the last call, in order. It does not wait.

        It may be called while a task waits.
        """

    @abstractmethod
    def close(self) -> None:
        """Whoever waits gets a ClosedResourceError."""


class UdpErrors(NamedTuple):
    """How many UDP datagrams a host had to drop, ever, for whichever program they were.

    Attributes:
      buffer: for want of room at a socket
      checksum: for a wrong checksum, at each socket that would have had a copy
    """

    buffer: int
    checksum: int

    def since(self, before: UdpErrors) -> UdpErrors:
        return UdpErrors(self.buffer - before.buffer, self.checksum - before.checksum)


class Machine(ABC):
    """A host with interfaces and sockets.

    Attributes:
      platform: what it calls things, and what it can do
    """

    platform: Platform

    def platform_to_receive(self) -> Platform:
        """The same, less what this program may not do. It may take a socket to find that out."""
        return self.platform

    # Interfaces

    @abstractmethod
    def list_interfaces(self) -> tuple[Interface, ...]:
        """The interfaces as they are now, in the order of their indexes."""

    def default_interface(self, version: IPVersion) -> Interface | None:
        """The interface that a default route leads to; None if there is no such route."""
        return None

    def outgoing_interface(self, host: IPv4Address | IPv6Address) -> Interface | None:
        """The interface that the routes to a host lead to; None if there is none, or it is not
        known."""
        return None

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        """The groups that anyone on the host has joined: (interface index, packed group).

        None where the system does not say.

        Raises:
          OSError: it has run out of something, and cannot say now
        """
        return None

    def read_udp_errors(self) -> UdpErrors | None:
        """None where the system does not say."""
        return None

    def here(self) -> Machine:
        """The machine as it is where the calling thread is now.

        Whatever is asked of it later is asked there, wherever the thread is then: see `namespaced`.
        """
        return self

    def open_changes(self) -> Changes | None:
        """None where there are no announcements, or none that may be listened to.

        Raises:
          OSError: the system has run out of something
        """
        return None

    @property
    def inspector(self) -> Inspector:
        """What the doctor asks."""
        return Inspector(self.list_interfaces)

    # Sockets

    @abstractmethod
    def open_receiving_sockets(self) -> ReceivingSockets:
        """For one receiver: how to open its sockets, and what to wait for them by."""

    @abstractmethod
    def open_sending_socket(self, plan: SocketPlan) -> SendingSocket:
        """A socket to send by.

        Raises:
          SocketSetupError: the system refused a step
        """
