"""One interface that a sender sends by, for as long as it is to."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import trio

from .._addresses.parsing import IPAddress
from .._base.datagram import SocketAddress
from .._base.errors import SendError, SocketSetupError
from .._base.interface import Interface
from .._base.remedies import add_remedy
from .._interfaces.selection import Selection
from .._machine.sending import Payload, SendingSocket
from .._machine.sockets import EXHAUSTED, LOOK_SECONDS, kernel_error
from .._plan.sender_plan import SenderPlanner, plan_destination
from .._plan.socket_plan import SocketPlan

_MOST_TO_DISCARD: Final = 10_000
"""Answers: more than any usual buffer holds."""


@dataclass
class SentFigures:
    """What was sent so far."""

    datagrams_sent: int = 0
    bytes_sent: int = 0
    send_errors: int = 0

    def add(self, other: SentFigures) -> None:
        self.datagrams_sent += other.datagrams_sent
        self.bytes_sent += other.bytes_sent
        self.send_errors += other.send_errors


class OutgoingInterface:
    """One interface to send by: a socket, and a new one when the interface has come back.

    While the interface is absent, or has no address to send from, there is no socket but the
    reason, which every attempt to send raises.
    """

    def __init__(
        self,
        interface: Interface,
        reason: Selection | None,
        planner: SenderPlanner,
        open_socket: Callable[[SocketPlan], SendingSocket],
    ) -> None:
        """Plan it; nothing is opened yet.

        Args:
          reason: as `Held` has it
        """
        self.interface: Interface = interface
        self.reason: Selection | None = reason
        self.socket: SendingSocket | None = None
        self.figures: SentFigures = SentFigures()
        self.changed: trio.Event = trio.Event()
        self.is_closed: bool = False
        self.is_absent: bool = False
        self.has_reader: bool = False
        self._planner = planner
        self._open_socket = open_socket
        self._plan = planner.plan(interface)
        self._refusal: OSError | None = None
        self._last_port = 0
        self._writing = trio.Lock()  # trio lets only one task wait for a socket

    @property
    def address(self) -> SocketAddress:
        """The sender's group and port, as they are sent to by this interface."""
        assert self._plan.destination is not None
        return self._plan.destination

    def open(self) -> None:
        """Open the socket.

        Raises:
          SocketSetupError: the kernel refused
        """
        self.socket = self._open_socket(self._plan)

    def close(self, *, for_good: bool = False) -> None:
        """Whoever waits for the socket is woken by a ClosedResourceError."""
        self.is_closed = for_good
        if self.socket is not None:
            self._last_port = self.socket.port
            self.socket.close()
            self.socket = None
        self.changed.set()
        self.changed = trio.Event()

    # Following the interface

    @property
    def is_due(self) -> bool:
        """It failed for want of something of which nothing announces that there is enough again."""
        return self._refusal is not None and self._refusal.errno in EXHAUSTED

    def see_interface(self, interface: Interface, *, must_reopen: bool) -> None:
        """The interface is there, perhaps again, perhaps changed: open anew if that matters."""
        self.is_absent = False
        try:
            plan = self._planner.plan(interface)
        except SocketSetupError as error:  # it has no address to send from
            self._refuse_for_now(error)
            self.interface = interface
            return
        before, self._plan, self.interface = self._plan, plan, interface
        # An option may hold what has changed: an address of the interface that has to be named.
        if must_reopen or self.socket is None or before.options != plan.options:
            self._reopen(plan)

    def lose_interface(self) -> None:
        """Send no more, since the interface is gone."""
        self.is_absent = True
        self._refuse_for_now(kernel_error(errno.ENODEV))

    def _refuse_for_now(self, reason: OSError) -> None:
        self._refusal = reason
        self.close()

    def _reopen(self, plan: SocketPlan) -> None:
        """Open anew, from the port of before if it is still free: somebody may know it."""
        self.close()
        try:
            self.open()
        except SocketSetupError as error:
            self._refuse_for_now(error)
            return
        self._refusal = None
        if plan.bind is None and self._last_port and self.socket is not None:
            self.socket.take_port(self._last_port)

    # Sending

    def address_of(self, group: IPAddress, port: int) -> SocketAddress:
        return plan_destination(group, port, self.interface)

    async def send(
        self, data: Payload, address: SocketAddress, *, keeps_to_interface: bool = False
    ) -> None:
        """Send a datagram, waiting only if the kernel says so.

        Args:
          keeps_to_interface: a host is sent to by this interface, whatever the routes say

        Raises:
          SendError: the kernel refused, or there is no way now
        """
        while True:
            sock = self.require_socket(address)
            try:
                send = sock.send_by_interface if keeps_to_interface else sock.sendto
                self.figures.bytes_sent += send(data, address)
                self.figures.datagrams_sent += 1
                return
            except BlockingIOError:
                await self._wait_writable(sock, address)
            except OSError as error:
                self._raise_unless_earlier(error, sock, address)

    async def send_run(
        self, datagrams: list[bytes], address: SocketAddress, *, to_the_end: bool
    ) -> None:
        """Send datagrams of one size, in as few system calls as the kernel allows.

        Args:
          to_the_end: try every one, even after some were refused

        Raises:
          SendError: as `send`. Without `to_the_end` what comes after the one refused was not tried;
            with it, none was sent
        """
        refusal: SendError | None = None
        has_sent = False
        # What the kernel takes as one buffer it sends whole or not at all, so a piece is the
        # smallest part that can fail. One that cannot be sent so is sent datagram by datagram.
        most = self.require_socket(address, len(datagrams)).most_at_once(len(datagrams[0]))
        for start in range(0, len(datagrams), most):
            pieces = [datagrams[start : start + most]]
            while pieces:
                piece = pieces.pop(0)
                try:
                    if len(piece) == 1:
                        await self.send(piece[0], address)
                        has_sent = True
                    elif await self._send_at_once(piece, address):
                        has_sent = True
                    else:
                        pieces += [[datagram] for datagram in piece]
                except SendError as error:
                    if not to_the_end:
                        raise
                    refusal = refusal or error
        if refusal is not None and not has_sent:
            raise refusal

    async def _send_at_once(self, run: list[bytes], address: SocketAddress) -> bool:
        while True:
            sock = self.require_socket(address)
            try:
                if not sock.send_run(run, address):
                    return False
                self.figures.datagrams_sent += len(run)
                self.figures.bytes_sent += len(run) * len(run[0])
                return True
            except BlockingIOError:
                await self._wait_writable(sock, address, len(run))
            except OSError as error:
                self._raise_unless_earlier(error, sock, address, len(run))

    def require_socket(self, address: SocketAddress, count: int = 1) -> SendingSocket:
        """The socket to send so many datagrams by.

        Raises:
          SendError: there is none now, for the reason given
          trio.ClosedResourceError: the sender was closed
        """
        if self.socket is not None:
            return self.socket
        if self._refusal is None:
            raise trio.ClosedResourceError("this sender was closed")
        raise self._refuse_sending(self._refusal, address, count)

    async def _wait_writable(
        self, sock: SendingSocket, address: SocketAddress, count: int = 1
    ) -> None:
        # Linux says EAGAIN also to a socket that needs a port when none is left of those that it
        # gives, and yet calls it writable: waiting would turn in a circle.
        if not sock.port:
            raise self._refuse_sending(kernel_error(errno.EADDRINUSE), address, count)
        async with self._writing:
            # Another task may have waited before, and the socket been exchanged meanwhile.
            if sock is not self.socket:
                return
            # A queued error makes a socket look writable: waiting would turn in a circle.
            sock.take_errors()
            try:
                await sock.wait_writable()
            except trio.ClosedResourceError:  # the sender's user closed it, or the interface went
                pass
            except OSError:
                await trio.sleep(LOOK_SECONDS)

    def _raise_unless_earlier(
        self, error: OSError, sock: SendingSocket, address: SocketAddress, count: int = 1
    ) -> None:
        """Return, so that sending is tried again, if the error was another datagram's.

        With IP_RECVERR, an ICMP message about an earlier datagram (one that was sent to a host with
        `send_to`) is reported by whatever is sent next, and has nothing to do with that. Its number
        may be almost any, so the queue of errors tells.
        """
        if sock.take_errors():
            return
        raise self._refuse_sending(error, address, count) from error

    def _refuse_sending(self, error: OSError, address: SocketAddress, count: int = 1) -> SendError:
        self.figures.send_errors += count
        host = ip_address(address[0])
        group = host if host.is_multicast else None
        step = f"send to {address[0]} port {address[1]} by {self.interface.name}"
        refusal = SendError(step, error, interface=self.interface, group=group)
        return add_remedy(refusal)

    def discard_answers(self) -> None:
        """Throw away what has come to this address and port and was not read."""
        if self.socket is None:
            return
        for _ in range(_MOST_TO_DISCARD):  # or a flood would hold it up for ever
            try:
                self.socket.receive()
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about something sent
                if not self.socket.take_errors():
                    return

    def find_local_address(self) -> SocketAddress:
        """Where datagrams come from, as receivers see it."""
        return self.require_socket(self.address).find_address(self.address)
