"""The machine that receivers, senders and the doctor stand on: the only way to a system.

`ThisMachine` is the one that the program runs on. `trio_mcast.testing` makes others up, and the
tests have models of three kernels. Which one is in force is the context's affair: see `current`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Protocol

from .._base.interface import Interface, IPVersion
from .._interfaces.following import Event
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from .inspector import Inspector
from .receiving import ReceivingSockets
from .sending import SendingSocket


class Changes(Protocol):
    """Announcements of what changes about a machine's interfaces."""

    is_complete: bool
    """Whether everything that matters is announced. If not, compare listings as well."""

    async def wait(self) -> None:
        """Return when something was announced since the last `read`, or might have been.

        Raises:
          trio.ClosedResourceError: this was closed
          OSError: nothing is known of what is announced, for now
        """

    def look(self) -> list[Event]:
        """How every interface is now, as if it were announced."""

    def read(self) -> list[Event]:
        """What was announced since the last call, in order. It does not wait.

        It may be called while a task waits.
        """

    def interrupt(self) -> None:
        """Before closing: whoever waits gets a ClosedResourceError."""

    def close(self) -> None: ...


class Machine(ABC):
    """A host with interfaces and sockets.

    Attributes:
      platform: what it calls things, and what it can do
    """

    platform: Platform

    # Interfaces

    @abstractmethod
    def list_interfaces(self) -> tuple[Interface, ...]:
        """The interfaces as they are now, in the order of their indexes."""

    def default_interface(self, version: IPVersion) -> Interface | None:
        """The interface that a default route leads to; None if there is no such route."""
        return None

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        """The groups that anyone on the host has joined: (interface index, packed group).

        None where the system does not say.
        """
        return None

    def place(self) -> Hashable:
        """What tells this from where the same thread may be later: Linux' network namespace."""
        return None

    def open_changes(self) -> Changes | None:
        """None where there are no announcements, or none that may be listened to."""
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
