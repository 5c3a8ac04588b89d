"""The machine that the program runs on, and any other whose sockets are like Python's."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from .._base.interface import Interface, IPVersion
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from .machine import Changes, Machine, UdpErrors
from .receiving import Origin, ReceivingSocket, ReceivingSockets, SocketSet
from .sending import SendingSocket, SystemSendingSocket
from .sockets import (
    EXHAUSTED,
    OpenSocket,
    carry_out,
    current_platform,
    make_udp_socket,
    naming_step,
    system_platform,
)

if TYPE_CHECKING:
    from .inspector import Inspector

_per_thread = threading.local()


class ThisMachine(Machine):
    """The operating system, by each one's own mechanisms."""

    def __init__(self, make_socket: Callable[[int], socket.socket] = make_udp_socket) -> None:
        """A view of this host; nothing is opened.

        Args:
          make_socket: makes a UDP socket of an address family
        """
        self.platform = system_platform()
        self._make_socket = make_socket

    def platform_to_receive(self) -> Platform:
        return current_platform()

    # `listing` is imported late: it takes a tenth of the time that importing the library does.

    def list_interfaces(self) -> tuple[Interface, ...]:
        from . import listing

        with naming_step("list the network interfaces"):
            return listing.list_interfaces()

    def default_interface(self, version: IPVersion) -> Interface | None:
        from . import listing

        with naming_step("list the network interfaces"):
            return listing.find_default_interface(version)

    def outgoing_interface(self, host: IPv4Address | IPv6Address) -> Interface | None:
        from . import listing

        try:
            return listing.find_outgoing_interface(host)
        except OSError:
            return None

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        if sys.platform != "linux":
            return None
        from . import proc

        try:
            return proc.read_packed_groups()
        except OSError as error:
            if error.errno in EXHAUSTED:  # that says nothing of groups: it has to be asked again
                raise
            return None  # no /proc

    def read_udp_errors(self) -> UdpErrors | None:
        if sys.platform != "linux":
            return None
        from . import proc

        return proc.read_udp_errors()

    def here(self) -> Machine:
        if sys.platform == "linux":
            from .namespaced import NamespacedMachine, find_namespace

            if (identity := find_namespace()) is not None:
                return NamespacedMachine.at(identity, self._make_socket)
        return self

    def open_changes(self) -> Changes | None:
        try:
            if sys.platform == "linux":
                from .changes_netlink import NetlinkChanges

                return NetlinkChanges()
            if sys.platform == "darwin":
                from .changes_route import RouteSocketChanges

                return RouteSocketChanges()
            if sys.platform == "win32":
                from .changes_windows import AddressListChanges

                return AddressListChanges()
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            _tell_of_polling(str(error))  # a sandbox without AF_NETLINK or AF_ROUTE
        return None

    @property
    def inspector(self) -> Inspector:
        if sys.platform == "linux":
            from .inspector_linux import LinuxInspector

            return LinuxInspector(self.list_interfaces)
        from .inspector import SystemInspector

        return SystemInspector(self.list_interfaces)

    def open_receiving_sockets(self) -> ReceivingSockets:
        return ReceivingSockets(self._open_receiving_socket, _open_socket_set)

    def _open_receiving_socket(self, plan: SocketPlan, port: int) -> ReceivingSocket:
        make = _find_way_to_read(plan.sorts_strays)
        return make(carry_out(plan, self.platform, self.make_socket), plan, Origin.of(plan, port))

    def open_sending_socket(self, plan: SocketPlan) -> SendingSocket:
        return SystemSendingSocket(plan, self.platform, self.make_socket, self.may_segment)

    def make_socket(self, family: int) -> socket.socket:
        """A UDP socket of an address family."""
        return self._make_socket(family)

    def may_segment(self, interface: Interface) -> bool:
        """Whether a datagram of a run that is lost on the way out makes itself known."""
        return _may_segment(interface)


@cache  # once for each reason
def _tell_of_polling(reason: str) -> None:
    import logging  # late, for it is rarely needed

    logging.getLogger("trio_mcast").warning(
        "This program may not listen to announcements about network interfaces (%s). They are "
        "listed every two seconds instead, so that changes are noticed late.",
        reason,
    )


def _open_socket_set() -> SocketSet | None:
    if sys.platform == "linux":
        from .epoll import EpollSet

        try:
            return EpollSet()
        except OSError:  # no descriptor left: each socket is waited for by itself then
            pass
    return None


def _find_way_to_read(sorts_strays: bool = False) -> OpenSocket:
    """The best way to read that there is here.

    Reading never yields, so all sockets of a thread share their buffers.

    Args:
      sorts_strays: the socket gets more than it was opened for
    """
    known: dict[bool, OpenSocket] = _per_thread.__dict__.setdefault("ways_to_read", {})
    if sorts_strays not in known:
        known[sorts_strays] = _choose_way_to_read(sorts_strays)
    return known[sorts_strays]


def _choose_way_to_read(sorts_strays: bool) -> OpenSocket:
    if sys.platform == "linux" and not sorts_strays:
        from . import read_recvmmsg

        if read_recvmmsg.IS_AVAILABLE:
            batches = read_recvmmsg.BatchBuffers(system_platform())
            return partial(read_recvmmsg.RecvmmsgSocket, batches)
    if sys.platform == "win32":
        from .read_wsarecvmsg import WinsockBuffer, WinsockSocket
        from .winsock import Winsock

        return partial(WinsockSocket, WinsockBuffer(system_platform(), Winsock()))
    from .read_recvmsg import ReadBuffer, RecvmsgSocket

    return partial(RecvmsgSocket, ReadBuffer(system_platform()))


if sys.platform == "linux":
    # The token bucket filter (tc-tbf(8)) takes a run of segments apart when it comes in, and
    # reports nothing as long as it had room for some of it: seen on Linux 6.18, 36 of 40 were lost
    # without a word.
    _QUEUEING_THAT_LOSES_SEGMENTS = frozenset({"tbf"})

    def _may_segment(interface: Interface) -> bool:
        from . import netlink

        queueing = {link.index: link.queueing for link in netlink.list_links()}
        return queueing.get(interface.index) not in _QUEUEING_THAT_LOSES_SEGMENTS

else:

    def _may_segment(interface: Interface) -> bool:
        """Windows has the option (UDP_SEND_MSG_SIZE), but Python has no sendmsg there."""
        return False
