"""What all ways of reading datagrams have in common, and the choice among them."""

from __future__ import annotations

import sys
import threading
from ipaddress import IPv4Address, IPv6Address
from socket import socket
from typing import Final, NamedTuple, Protocol

from .._plan.datagram import Datagram
from .._plan.interfaces import Interface
from .._plan.plan import SocketPlan
from .sockets import current_platform

DATAGRAMS_PER_READ: Final = 64
"""So many datagrams at most before other sockets and other tasks have their turn.

Under a flood, other tasks then run a tenth of a millisecond late; four times as many would make it
0.6 ms, and without a limit they would starve.
"""


class Origin(NamedTuple):
    """What a socket's membership says of every datagram that comes by it."""

    group: IPv4Address | IPv6Address
    port: int
    interface: Interface
    packed_group: bytes
    has_ancillary: bool  # whether the plan asked the kernel for any

    @classmethod
    def of(cls, plan: SocketPlan, port: int) -> Origin:
        assert plan.group is not None
        assert plan.interface is not None
        return cls(
            plan.group,
            port,
            plan.interface,
            plan.group.packed,
            bool(plan.packet_info) or plan.sorts_strays or plan.merges_datagrams,
        )


class Batch(NamedTuple):
    datagrams: list[Datagram]
    payload_bytes: int


class Reader(Protocol):
    """Reads sockets of one thread, one after the other."""

    def read(self, sock: socket, origin: Origin, /) -> Batch:
        """Read what is there, up to `DATAGRAMS_PER_READ` datagrams, without waiting.

        Raises:
          OSError: the kernel refused, other than for there being nothing
        """


_per_thread = threading.local()


def reader_for_this_thread() -> Reader:
    """The thread's reader. Reading never yields, so one set of buffers serves every socket."""
    reader: Reader | None = getattr(_per_thread, "reader", None)
    if reader is None:
        reader = _per_thread.reader = _make_reader()
    return reader


def _make_reader() -> Reader:
    if sys.platform == "linux":
        from . import read_recvmmsg

        if read_recvmmsg.IS_AVAILABLE:
            return read_recvmmsg.RecvmmsgReader(current_platform())
    if sys.platform == "win32":
        from .read_wsarecvmsg import WinsockReader

        return WinsockReader(current_platform())
    from .read_recvmsg import PortableReader

    return PortableReader(current_platform())
