"""One interface that a sender sends by."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from socket import socket
from typing import Final

import trio

from ._errors import SendError, SocketSetupError
from ._os.segments import SegmentedSending
from ._os.sockets import current_platform, drain_error_queue, open_planned_socket
from ._plan.addresses import IPAddress
from ._plan.datagram import SocketAddress
from ._plan.interfaces import Interface
from ._plan.plan import SocketPlan, plan_destination
from ._plan.remedies import add_remedy

# With IP_RECVERR, an ICMP message about an earlier datagram (one that was sent to a host with
# `send_to`) is reported by whatever is sent next, and has nothing to do with that.
_ERRORS_OF_EARLIER_DATAGRAMS: Final = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EPROTO}


@dataclass
class EgressFigures:
    """What was sent so far."""

    datagrams_sent: int = 0
    bytes_sent: int = 0
    send_errors: int = 0

    def add(self, other: EgressFigures) -> None:
        self.datagrams_sent += other.datagrams_sent
        self.bytes_sent += other.bytes_sent
        self.send_errors += other.send_errors


class Egress:
    """A socket that sends by one interface, and a new one when the interface has come back.

    While the interface is absent, or has no address to send from, there is no socket but the
    reason, which every attempt to send raises.
    """

    def __init__(self, make_plan: Callable[[Interface], SocketPlan], interface: Interface) -> None:
        """Plan it; nothing is opened yet."""
        self.interface = interface
        self.socket: socket | None = None
        self.figures: EgressFigures = EgressFigures()
        self.changed: trio.Event = trio.Event()
        self.is_closed: bool = False
        self.is_absent: bool = False
        self._make_plan = make_plan
        self._plan = make_plan(interface)
        self._refusal: OSError | None = None
        self._writing = trio.Lock()  # trio lets only one task wait for a socket
        assert self._plan.destination is not None
        self.address: SocketAddress = self._plan.destination

    def open(self) -> None:
        """Open the socket.

        Raises:
          SocketSetupError: the kernel refused
        """
        self.socket = open_planned_socket(self._plan)
        self._segments = SegmentedSending(current_platform(), self.interface)

    def close(self, *, for_good: bool = False) -> None:
        """Who waits for the socket is woken by a ClosedResourceError."""
        self.is_closed = for_good
        if self.socket is not None:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
            self.socket = None
        self.changed.set()
        self.changed = trio.Event()

    # Following the interface

    def see_interface(self, interface: Interface, *, has_lost_socket: bool) -> None:
        """The interface is there, perhaps again, perhaps changed: open anew if that matters."""
        self.is_absent = False
        try:
            plan = self._make_plan(interface)
        except SocketSetupError as error:  # it has no address to send from
            self.refuse(error)
            self.interface = interface
            return
        before, self._plan, self.interface = self._plan, plan, interface
        if has_lost_socket or self.socket is None or before.options != plan.options:
            self._reopen(plan)

    def refuse(self, reason: OSError) -> None:
        """Send no more, for this reason."""
        self._refusal = reason
        self.close()

    def lose_interface(self) -> None:
        """Send no more, since the interface is gone."""
        self.is_absent = True
        self.refuse(OSError(errno.ENODEV, os.strerror(errno.ENODEV)))

    def _reopen(self, plan: SocketPlan) -> None:
        """Open anew, from the port of before if it is still free: somebody may know it."""
        port = 0 if self.socket is None else self.socket.getsockname()[1]
        self.close()
        try:
            self.open()
        except SocketSetupError as error:
            self.refuse(error)
            return
        self._refusal = None
        assert self.socket is not None
        assert plan.destination is not None
        self.address = plan.destination
        if plan.bind is None and port:
            host = self.socket.getsockname()[0]
            try:
                self.socket.bind((host, port))
            except OSError:
                pass

    # Sending

    def address_of(self, group: IPAddress, port: int) -> SocketAddress:
        return plan_destination(group, port, self.interface)

    async def send(self, data: bytes | bytearray | memoryview, address: SocketAddress) -> None:
        """Send a datagram, waiting only if the kernel says so.

        Raises:
          SendError: the kernel refused, or there is no way now
        """
        while True:
            sock = self.require_socket(address)
            try:
                self.figures.bytes_sent += sock.sendto(data, address)
                self.figures.datagrams_sent += 1
                return
            except BlockingIOError:
                await self._wait_writable(sock)
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
        before = self.figures.datagrams_sent
        most = self._segments.most_at_once(len(datagrams[0]))
        for start in range(0, len(datagrams), most):
            pieces = [datagrams[start : start + most]]
            while pieces:
                piece = pieces.pop(0)
                try:
                    if len(piece) == 1:
                        await self.send(piece[0], address)
                    elif not await self._send_segments(piece, address):
                        pieces += [[datagram] for datagram in piece]
                except SendError as error:
                    if not to_the_end:
                        raise
                    refusal = refusal or error
        if refusal is not None and self.figures.datagrams_sent == before:
            raise refusal

    async def _send_segments(self, run: list[bytes], address: SocketAddress) -> bool:
        while True:
            sock = self.require_socket(address)
            try:
                if not self._segments.send(sock, run, address):
                    return False
                self.figures.datagrams_sent += len(run)
                self.figures.bytes_sent += len(run) * len(run[0])
                return True
            except BlockingIOError:
                await self._wait_writable(sock)
            except OSError as error:
                self._raise_unless_earlier(error, sock, address, len(run))

    def require_socket(self, address: SocketAddress) -> socket:
        """The socket to send by.

        Raises:
          SendError: there is none now, for the reason given
          trio.ClosedResourceError: the sender was closed
        """
        if self.socket is not None:
            return self.socket
        if self._refusal is None:
            raise trio.ClosedResourceError("this sender was closed")
        raise self._refuse_sending(self._refusal, address)

    async def _wait_writable(self, sock: socket) -> None:
        async with self._writing:
            if sock is not self.socket:
                return
            drain_error_queue(sock)
            try:
                await trio.lowlevel.wait_writable(sock)
            except trio.ClosedResourceError:  # the sender's user closed it, or the interface went
                pass

    def _raise_unless_earlier(
        self, error: OSError, sock: socket, address: SocketAddress, count: int = 1
    ) -> None:
        """Return, so that sending is tried again, if the error was another datagram's."""
        if error.errno in _ERRORS_OF_EARLIER_DATAGRAMS and drain_error_queue(sock):
            return
        raise self._refuse_sending(error, address, count) from error

    def _refuse_sending(self, error: OSError, address: SocketAddress, count: int = 1) -> SendError:
        self.figures.send_errors += count
        host = ip_address(address[0])
        group = host if host.is_multicast else None
        step = f"send to {address[0]} port {address[1]} by {self.interface.name}"
        refusal = SendError(step, error, interface=self.interface, group=group)
        return add_remedy(refusal)

    def find_local_address(self) -> SocketAddress:
        """Where datagrams come from, as receivers see it.

        An unbound socket knows its port only. Which address the kernel will choose is seen by
        connecting another one like it, which sends nothing.
        """
        sock = self.require_socket(self.address)
        own = sock.getsockname()
        if own[1] == 0:
            sock.bind(own)  # to a port of the system's choice, as the first send would
            own = sock.getsockname()
        if not ip_address(own[0]).is_unspecified:
            return own  # type: ignore[no-any-return]
        with open_planned_socket(replace(self._plan, bind=None)) as probe:
            try:
                probe.connect(self.address)
            except OSError:
                return own  # type: ignore[no-any-return]
            chosen = probe.getsockname()
        return (chosen[0], own[1], *chosen[2:])
