"""The interfaces that a sender sends by, as they come and go."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import trio

from ._egress import Egress, EgressFigures
from ._errors import InterfaceNotFoundError, SendError, SocketSetupError
from ._follow import InterfaceFeed
from ._os.scan import default_interface
from ._plan.addresses import Group
from ._plan.datagram import SocketAddress
from ._plan.follow import Event, EventsLost, LinkGone
from ._plan.interfaces import Interface
from ._plan.plan import SocketPlan
from ._plan.remedies import add_remedy
from ._plan.selection import Selection

SendTo: TypeAlias = Callable[[bytes | bytearray | memoryview, SocketAddress], int]


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
        selection: Selection | None,
        make_plan: Callable[[Interface], SocketPlan],
        *,
        is_single: bool,
    ) -> None:
        """Nothing is opened yet.

        Args:
          selection: which interfaces to send by; None: the one of the default route
          is_single: one interface, which must be clear, or as many as there are
        """
        self.all: list[Egress] = []
        self.direct: tuple[SendTo, SocketAddress] | None = None
        self.version: int = 0
        self._group = group
        self._selection = selection
        self._is_single = is_single
        self._make_plan = make_plan
        self._feed: InterfaceFeed | None = None
        self._is_closed = False
        self._figures_of_the_past = EgressFigures()
        self._attendants: list[Callable[[Egress], None]] = []

    @trio.lowlevel.enable_ki_protection
    def open(self) -> None:
        """Open a socket for each interface. After an error, `close`.

        Raises:
          InterfaceNotFoundError: one that is named does not exist, or none fits
          ValueError: one is wanted, and several are meant
          SocketSetupError: the kernel refused one
        """
        self._feed = InterfaceFeed()
        for egress in [Egress(self._make_plan, i) for i in self._choose(self._feed.listing)]:
            egress.open()
            self._add(egress)

    def _choose(self, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
        if self._selection is None:
            chosen = _default_interface(self._group)
            self._selection = Selection.parse(chosen)  # also when the default route changes
            return (chosen,)
        found = self._selection.require(listing, self._group.version)
        if not found:
            raise InterfaceNotFoundError(f"no interface is up and fit for {self._group}")
        if self._is_single and len(found) > 1:
            names = ", ".join(interface.name for interface in found)
            raise ValueError(f"interface= means several ({names}): use interfaces=")
        return found

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
        assert self._selection is not None
        lost_all = any(isinstance(event, EventsLost) for event in events)
        gone = {event.index for event in events if isinstance(event, LinkGone)}
        present = {interface.index: interface for interface in listing}
        for egress in self.all[:]:
            index = egress.interface.index
            now = None if egress.is_absent or index in gone else present.get(index)
            if now is None or lost_all:
                still_means = partial(self._selection.still_means, egress.interface)
                now = next(filter(still_means, listing), now)
            if now is not None:
                has_lost_socket = lost_all or index in gone or now.index != index
                egress.see_interface(now, has_lost_socket=has_lost_socket)
            else:
                egress.lose_interface()
                if not self._selection.is_named:
                    self._remove(egress)
        if not self._is_single:
            known = {egress.interface.index for egress in self.all}
            for interface in self._selection.find(listing, self._group.version):
                if interface.index not in known:
                    self._try_to_add(interface)
        self._note_change()

    def _try_to_add(self, interface: Interface) -> None:
        try:
            egress = Egress(self._make_plan, interface)
            egress.open()
        except SocketSetupError:  # not usable yet: what changes about it will be announced
            return
        self._add(egress)
