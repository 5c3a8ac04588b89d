"""Sending sockets: one for each interface that a sender sends by."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, TypeAlias

import trio

from .._base.datagram import SocketAddress
from .._base.errors import NotSupportedError
from .._base.interface import Interface
from .._plan.packet_info import choose_interface, read_ancillary_untrusted
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from .sockets import carry_out, drain_error_queue, naming_step

Payload: TypeAlias = bytes | bytearray | memoryview

_MOST_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS, linux/udp.h, before Linux 6.11
_LARGEST_BUFFER: Final = 65_000  # of 65,507 (IPv4): the headers count, too

# The larger of IPv4's and IPv6's headers, with UDP's: what a segment of the MTU's size leaves out.
_HEADERS: Final = 48

# What the kernel answers if it, the interface or the route cannot: no checksum offload (EIO), an
# MTU that has shrunk or a route with a smaller one (EMSGSIZE, EINVAL), an old kernel (the others).
_CANNOT_SEGMENT: Final = {errno.EIO, errno.EMSGSIZE, errno.EINVAL, errno.ENOPROTOOPT}

_LARGEST_DATAGRAM: Final = 1 << 16
_CONTROL_SIZE: Final = 256


class SendingSocket(ABC):
    """Sends by one interface, to any group and host.

    Attributes:
      sendto: sends one datagram to an address without waiting, as the `socket` module does. Raises
        BlockingIOError if the socket's buffer is full, OSError if the system refuses
    """

    __slots__ = ("sendto",)

    def __init__(self, sendto: Callable[[Payload, SocketAddress], int]) -> None:
        self.sendto: Callable[[Payload, SocketAddress], int] = sendto

    def most_at_once(self, size: int) -> int:
        """How many datagrams of a size `send_run` takes at once; 1: it takes none."""
        return 1

    def send_run(self, datagrams: Sequence[bytes], address: SocketAddress) -> bool:
        """Send datagrams of one size, `most_at_once` at the most: all, or none.

        Returns:
          False if they have to be sent one by one, now or always

        Raises:
          BlockingIOError, OSError: as `sendto`
        """
        return False

    def send_by_interface(self, data: Payload, address: SocketAddress) -> int:
        """As `sendto`, to a host: by this socket's interface, whatever the routes say.

        Where the system has no way to say that for one datagram, the routes decide.
        """
        return self.sendto(data, address)

    @abstractmethod
    def wait_writable(self) -> Awaitable[None]:
        """Return when `sendto` may succeed. Raises ClosedResourceError if it gets closed."""

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Return when there is an answer. Raises ClosedResourceError if it gets closed."""

    @abstractmethod
    def receive(self) -> tuple[bytes, SocketAddress, int | None]:
        """What was sent to this socket's own address, by whom, and the index of the interface that
        it came in by, if that is told. It does not wait."""

    def take_errors(self) -> bool:
        """Throw away what is known about datagrams sent earlier; whether there was anything."""
        return False

    @property
    @abstractmethod
    def port(self) -> int:
        """The port that it sends from; 0 as long as that is not decided."""

    @abstractmethod
    def take_port(self, port: int) -> None:
        """Send from this port, if that is possible."""

    @abstractmethod
    def find_address(self, destination: SocketAddress) -> SocketAddress:
        """Where datagrams to a destination come from, as its receivers see it."""

    @abstractmethod
    def close(self) -> None:
        """Whoever waits for the socket is woken by a ClosedResourceError."""


class SystemSendingSocket(SendingSocket):
    """A socket of the `socket` module's, or one like it, that sends.

    Runs of datagrams of one size go to the kernel as one buffer where it can cut that apart
    (UDP_SEGMENT). It routes the buffer once, and cuts it up as late as it can, perhaps in the
    network card: see Linux' Documentation/networking/segmentation-offloads and udp(7). Each
    datagram is whole on the wire, as if it had been sent alone.
    """

    __slots__ = ("_make_socket", "_may_segment", "_plan", "_platform", "_segmenting", "_socket")

    def __init__(
        self,
        plan: SocketPlan,
        platform: Platform,
        make_socket: Callable[[int], socket.socket],
        may_segment: Callable[[Interface], bool],
    ) -> None:
        """Open it.

        Args:
          make_socket: makes a UDP socket of an address family
          may_segment: whether a datagram of a run that is lost on its way out of an interface
            would make itself known

        Raises:
          SocketSetupError: the system refused a step
        """
        self._plan = plan
        self._platform = platform
        self._make_socket = make_socket
        self._may_segment = may_segment
        self._segmenting: bool | None = None if platform.send_segmented else False
        self._socket = carry_out(plan, platform, make_socket)
        super().__init__(self._socket.sendto)

    @trio.lowlevel.enable_ki_protection
    def most_at_once(self, size: int) -> int:
        interface = self._plan.interface
        assert interface is not None
        if self._segmenting is None:  # asked late, since most programs never send in batches
            try:
                self._segmenting = self._may_segment(interface)
            except OSError:  # out of descriptors, say: ask again the next time
                return 1
        # A datagram above the MTU travels in fragments, and what is to be segmented cannot be.
        if not self._segmenting or not 0 < size <= interface.mtu - _HEADERS:
            return 1
        return min(_MOST_SEGMENTS, _LARGEST_BUFFER // size)

    def send_run(self, datagrams: Sequence[bytes], address: SocketAddress) -> bool:
        assert self._platform.send_segmented is not None
        if sys.platform == "win32":
            raise NotSupportedError("Python has no sendmsg on Windows")
        level, number, _name = self._platform.send_segmented
        ancillary = [(level, number, struct.pack("=H", len(datagrams[0])))]
        try:
            self._socket.sendmsg([b"".join(datagrams)], ancillary, 0, address)
        except OSError as error:
            if error.errno not in _CANNOT_SEGMENT:
                raise
            # EMSGSIZE is about this size: shorter ones may still go. The others are about the way,
            # and to try again would cost a system call each time.
            if error.errno != errno.EMSGSIZE:
                self._segmenting = False
            return False
        return True

    def wait_writable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_writable(self._socket)  # noqa: ASYNC105 # a frame saved

    def wait_readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._socket)  # noqa: ASYNC105

    def send_by_interface(self, data: Payload, address: SocketAddress) -> int:
        if sys.platform == "win32":  # Python has no sendmsg there
            return self._socket.sendto(data, address)
        assert self._plan.interface is not None
        message = choose_interface(
            self._platform, 6 if len(address) == 4 else 4, self._plan.interface.index
        )
        bound = None if self._plan.bind is None else ip_address(self._plan.bind[0])
        if bound is not None and bound.version == 4:
            # Or the socket's own address would not count: ipi_spec_dst of struct in_pktinfo.
            level, kind, payload = message
            message = (level, kind, payload[:4] + bound.packed + payload[8:])
        return self._socket.sendmsg([data], [message], 0, address)

    def receive(self) -> tuple[bytes, SocketAddress, int | None]:
        if sys.platform == "win32":  # Python has no recvmsg there
            return (*self._socket.recvfrom(_LARGEST_DATAGRAM), None)
        data, messages, _flags, source = self._socket.recvmsg(_LARGEST_DATAGRAM, _CONTROL_SIZE)
        index = read_ancillary_untrusted(self._platform, messages).interface_index
        return data, source, index

    def take_errors(self) -> bool:
        return drain_error_queue(self._socket, self._platform)

    @property
    def port(self) -> int:
        found: int = self._socket.getsockname()[1]
        return found

    def take_port(self, port: int) -> None:
        try:
            self._socket.bind((self._socket.getsockname()[0], port))
        except OSError:
            pass

    @trio.lowlevel.enable_ki_protection
    def find_address(self, destination: SocketAddress) -> SocketAddress:
        """An unbound socket knows its port only.

        Which address the kernel will choose is seen by connecting another one like it, which sends
        nothing.
        """
        own: SocketAddress = self._socket.getsockname()
        if own[1] == 0:
            with naming_step("bind to a port of the system's choice"):  # as the first send would
                self._socket.bind(own)
            own = self._socket.getsockname()
        if not ip_address(own[0]).is_unspecified:
            return own
        with carry_out(replace(self._plan, bind=None), self._platform, self._make_socket) as probe:
            try:
                probe.connect(destination)
            except OSError:
                return own
            chosen = probe.getsockname()
        return (chosen[0], own[1], *chosen[2:])

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
