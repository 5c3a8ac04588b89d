"""The interfaces that a sender sends by, as they come and go."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

import trio

from .._addresses.parsing import IPAddress
from .._base.datagram import SocketAddress
from .._base.errors import InterfaceNotFoundError, SendError, SocketSetupError
from .._base.interface import Interface
from .._base.remedies import add_remedy
from .._interfaces.following import Action, Change, Held, decide, find_new
from .._interfaces.selection import Selection
from .._machine.feed import FeedShare, follow_interfaces
from .._machine.machine import Machine
from .._machine.nursery import ServiceNursery
from .._machine.sending import Payload
from .._machine.sockets import kernel_error
from .._plan.sender_plan import SenderPlanner
from .answers import AnswerReaders
from .outgoing_interface import OutgoingInterface, SentFigures

SendTo: TypeAlias = Callable[[Payload, SocketAddress], int]


class OutgoingInterfaces:
    """Which interfaces a sender sends by, now.

    Attributes:
      all: one for each interface, in the order of the choice
      direct: if there is just one, how to send by it in the usual case
      version: changes when they do
      planner: what every socket is like
      answers: who hears what comes back
    """

    def __init__(
        self,
        machine: Machine,
        planner: SenderPlanner,
        selection: Selection | None,
        *,
        is_single: bool,
    ) -> None:
        """Nothing is opened yet.

        Args:
          selection: which interfaces to send by; None: the one of the default route
          is_single: one interface, which must be clear, or as many as there are
        """
        self.all: list[OutgoingInterface] = []
        self.direct: tuple[SendTo, SocketAddress] | None = None
        self.version: int = 0
        self._machine = machine
        self.planner: SenderPlanner = planner
        self._selection = selection
        self._is_default = selection is None
        self._is_single = is_single
        self._feed: FeedShare | None = None
        self._is_closed = False
        self._figures_of_the_past = SentFigures()
        self.answers: AnswerReaders = AnswerReaders(self.find_interface)

    @trio.lowlevel.enable_ki_protection
    def open(self) -> None:
        """Open a socket for each interface. After an error, `close`.

        Raises:
          InterfaceNotFoundError: one that is named does not exist, or none fits
          ValueError: one is wanted, and several are meant
          SocketSetupError: the kernel refused one
        """
        self._feed = follow_interfaces(self._machine)
        for interface in self._choose(self._feed.listing):
            self._add(interface)
        self._note_change()

    def _choose(self, listing: tuple[Interface, ...]) -> tuple[Interface, ...]:
        if self._selection is None:
            chosen = self._find_default_interface()
            self._selection = Selection.parse(chosen)  # also when the default route changes
            return (chosen,)
        found = self._selection.require(listing, self.planner.group.version)
        if not found:
            raise InterfaceNotFoundError(f"no interface is up and fit for {self.planner.group}")
        if self._is_single and len(found) > 1:
            names = ", ".join(interface.name for interface in found)
            raise ValueError(f"interface= means several ({names}): use interfaces=")
        return found

    def _find_default_interface(self) -> Interface:
        version = self.planner.group.version
        interface = self._machine.default_interface(version)
        if interface is None:
            raise InterfaceNotFoundError(
                f"no default route for IPv{version} tells which interface to send by: "
                "give interface="
            )
        return interface

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        self._is_closed = True
        self.answers.close()
        for outgoing in self.all[:]:
            self._remove(outgoing)
        self._note_change()
        if self._feed is not None:
            self._feed.close()

    def require_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this sender was closed")

    @property
    def listing(self) -> tuple[Interface, ...]:
        """The interfaces of the machine, as they were last seen."""
        assert self._feed is not None
        return self._feed.listing

    def find_route(self, host: IPAddress) -> Interface | None:
        """The interface that the routes to a host lead to, if that is known."""
        return self._machine.outgoing_interface(host)

    def find_interface(self, index: int | None) -> Interface | None:
        """The interface that an answer came in by, of those that are known."""
        own = (outgoing.interface for outgoing in self.all if not outgoing.is_absent)
        return next((i for i in chain(own, self.listing) if i.index == index), None)

    def figures(self) -> SentFigures:
        figures = replace(self._figures_of_the_past)
        for outgoing in self.all:
            figures.add(outgoing.figures)
        return figures

    def refuse_sending(self, step: str | None = None, number: int = errno.ENODEV) -> SendError:
        """A datagram cannot be sent; unless said otherwise, for want of any interface."""
        group = self.planner.group
        step = step or f"send to {group}: no interface is up and fit for it"
        return add_remedy(SendError(step, kernel_error(number), group=group))

    def _add(self, interface: Interface) -> None:
        assert self._selection is not None
        reason = None if self._is_default else self._selection.reason_for(interface)
        outgoing = OutgoingInterface(
            interface, reason, self.planner, self._machine.open_sending_socket
        )
        outgoing.open()
        self.all.append(outgoing)
        self.answers.see_interface(outgoing)

    def _remove(self, outgoing: OutgoingInterface) -> None:
        self.all.remove(outgoing)
        outgoing.close(for_good=True)
        self._figures_of_the_past.add(outgoing.figures)

    def _note_change(self) -> None:
        self.direct = None
        if len(self.all) == 1 and self.all[0].socket is not None:
            self.direct = (self.all[0].socket.sendto, self.all[0].address)
        self.version += 1

    # Following

    def attach(self, nursery: ServiceNursery) -> None:
        """Run the task that keeps the sockets alive, and those that read answers."""
        assert self._feed is not None
        self.answers.attach(nursery)
        nursery.start_soon(
            self._feed.follow,
            self._adapt,
            self._is_any_due,
            name="trio_mcast: follow interfaces",
        )

    def _is_any_due(self) -> bool:
        return any(outgoing.is_due for outgoing in self.all)

    def _adapt(self, change: Change) -> None:
        """Do what the rules say."""
        assert self._selection is not None
        here = {outgoing.interface.index for outgoing in self.all if not outgoing.is_absent}
        taken = {index for index in here if change.is_certain_of(index)}
        for outgoing in self.all[:]:
            if not outgoing.is_absent and change.is_certain_of(outgoing.interface.index):
                taken.discard(outgoing.interface.index)
            held = Held(
                outgoing.interface,
                self._selection,
                self.planner.group.version,
                is_absent=outgoing.is_absent,
                works=outgoing.socket is not None,
                is_due=outgoing.is_due,
                reason=outgoing.reason,
            )
            action, interface = decide(held, change, taken)
            if interface is not None:
                outgoing.see_interface(interface, must_reopen=action is Action.RENEW)
                taken.add(interface.index)
            else:
                outgoing.lose_interface()
                if action is Action.FORGET:
                    self._remove(outgoing)
        if not self._is_single:
            for interface in find_new(self._selection, self.planner.group.version, change, taken):
                try:
                    self._add(interface)
                except SocketSetupError:  # not usable yet: what changes about it will be announced
                    pass
        self._note_change()
