"""The interfaces that a sender sends by, as they come and go."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import trio

from ._egress import Egress, EgressFigures
from ._errors import InterfaceNotFoundError, SendError, SocketSetupError
from ._follow import InterfaceFeed
from ._os.scan import default_interface
from ._plan.addresses import Group
from ._plan.datagram import SocketAddress
from ._plan.follow import Event, EventsLost, LinkGone
from ._plan.interfaces import ByName, Interface, Selector, find, require, select
from ._plan.plan import SocketPlan
from ._plan.remedies import add_remedy

SendTo: TypeAlias = Callable[[bytes | bytearray | memoryview, SocketAddress], int]


@dataclass(frozen=True)
class Choice:
    """Which interfaces a program wants to send by.

    Attributes:
      selectors: what it named. None: the one of the default route, or every fitting one
      zone: what the group's zone says besides
      is_single: one interface, which must be clear, or as many as there are
    """

    selectors: tuple[Selector, ...] | None
    zone: Selector | None
    is_single: bool

    def resolve(self, group: Group, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
        """The interfaces to begin with.

        Raises:
          InterfaceNotFoundError: one that is named does not exist, or none fits
          ValueError: one is wanted, and several are meant
        """
        if self.zone is not None:
            listing = require(self.zone, listing)
        for selector in self.selectors or ():
            require(selector, listing)
        if self.selectors is None and self.is_single:
            return (_default_interface(group),)
        found = self.find(group, listing)
        if not found:
            raise InterfaceNotFoundError(f"no interface is up and fit for {group}")
        if self.is_single and len(found) > 1:
            names = ", ".join(interface.name for interface in found)
            raise ValueError(f"interface= means several ({names}): use interfaces=")
        return found

    def find(self, group: Group, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
        if self.zone is not None:
            listing = find(self.zone, listing)
        return select(self.selectors, group.version, listing)


def _default_interface(group: Group) -> Interface:
    interface = default_interface(group.version)
    if interface is None:
        raise InterfaceNotFoundError(
            f"no default route for IPv{group.version} tells which interface to send by: "
            "give interface="
        )
    return interface


class Exits:
    """Which interfaces a sender sends by, now.

    Attributes:
      all: one for each interface, in the order of the choice
      direct: if there is just one, how to send by it in the usual case
      version: changes when they do
    """

    def __init__(
        self,
        group: Group,
        choice: Choice,
        make_plan: Callable[[Interface], SocketPlan],
    ) -> None:
        self.all: list[Egress] = []
        self.direct: tuple[SendTo, SocketAddress] | None = None
        self.version: int = 0
        self._group = group
        self._choice = choice
        self._make_plan = make_plan
        self._feed: InterfaceFeed | None = None
        self._is_closed = False
        self._figures_of_the_past = EgressFigures()
        self._attendants: list[Callable[[Egress], None]] = []

    @trio.lowlevel.enable_ki_protection
    def open(self) -> None:
        """Open a socket for each interface. After an error, `close`.

        Raises: as `Choice.resolve`, and
          SocketSetupError: the kernel refused one
        """
        self._feed = InterfaceFeed()
        interfaces = self._choice.resolve(self._group, self._feed.listing)
        for egress in [Egress(self._make_plan, i) for i in interfaces]:
            egress.open()
            self._add(egress)

    def close(self) -> None:
        self._is_closed = True
        for egress in self.all[:]:
            self._remove(egress)
        if self._feed is not None:
            self._feed.close()

    def require_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this sender was closed")

    def group_destination(self) -> list[tuple[Egress, SocketAddress]]:
        return [(egress, egress.address) for egress in self.all]

    def figures(self) -> EgressFigures:
        figures = replace(self._figures_of_the_past)
        for egress in self.all:
            figures.add(egress.figures)
        return figures

    def refuse_sending(self) -> SendError:
        """Why nothing can be sent while there is no interface at all."""
        reason = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        step = f"send to {self._group}: no interface is up and fit for it"
        return add_remedy(SendError(step, reason, group=self._group.address))

    @contextmanager
    def attended(self, attend: Callable[[Egress], None]) -> Iterator[None]:
        """Call this for each interface, also for those that turn up in the block."""
        self._attendants.append(attend)
        try:
            for egress in self.all:
                attend(egress)
            yield
        finally:
            self._attendants.remove(attend)

    def _add(self, egress: Egress) -> None:
        self.all.append(egress)
        self._note_change()
        for attend in self._attendants:
            attend(egress)

    def _remove(self, egress: Egress) -> None:
        self.all.remove(egress)
        egress.close(for_good=True)
        self._figures_of_the_past.add(egress.figures)
        self._note_change()

    def _note_change(self) -> None:
        self.direct = None
        if len(self.all) == 1 and self.all[0].socket is not None:
            self.direct = (self.all[0].socket.sendto, self.all[0].address)
        self.version += 1

    # Following

    @trio.lowlevel.enable_ki_protection
    async def follow(self) -> None:
        """The task that keeps the sockets alive. It never raises."""
        assert self._feed is not None
        while True:
            try:
                events = await self._feed.wait()
            except trio.ClosedResourceError:
                return
            self._adapt(events, self._feed.listing)

    def _adapt(self, events: list[Event], listing: tuple[Interface, ...]) -> None:
        lost_all = any(isinstance(event, EventsLost) for event in events)
        gone = {event.index for event in events if isinstance(event, LinkGone)}
        present = {interface.index: interface for interface in listing}
        for egress in self.all[:]:
            index = egress.interface.index
            now = None if egress.is_absent or index in gone else present.get(index)
            if now is None or lost_all:
                now = self._find_again(egress.interface, listing) or now
            if now is not None:
                has_lost_socket = lost_all or index in gone or now.index != index
                egress.see_interface(now, has_lost_socket=has_lost_socket)
            else:
                egress.lose_interface()
                if self._choice.selectors is None and not self._choice.is_single:
                    self._remove(egress)
        if not self._choice.is_single:
            known = {egress.interface.index for egress in self.all}
            for interface in self._choice.find(self._group, listing):
                if interface.index not in known:
                    self._try_to_add(interface)
        self._note_change()

    def _find_again(self, before: Interface, listing: tuple[Interface, ...]) -> Interface | None:
        """The interface that the program means now by what meant the other one before."""
        selectors = self._choice.selectors or (ByName(before.name),)
        for interface in listing:
            if any(s.matches(before) and s.matches(interface) for s in selectors):
                return interface
        return None

    def _try_to_add(self, interface: Interface) -> None:
        try:
            egress = Egress(self._make_plan, interface)
            egress.open()
        except SocketSetupError:  # not usable yet: what changes about it will be announced
            return
        self._add(egress)
