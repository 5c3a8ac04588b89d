"""The choice among the ways of reading datagrams."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from socket import socket
from typing import TypeAlias

from .reading import Origin, Reader
from .sockets import current_platform

OpenReader: TypeAlias = Callable[[socket, Origin], Reader]

_per_thread = threading.local()


def reader_for_this_thread() -> OpenReader:
    """The best reader that there is here, to be opened for each socket.

    Reading never yields, so all readers of a thread share their buffers.
    """
    found: OpenReader | None = getattr(_per_thread, "reader", None)
    if found is None:
        found = _per_thread.reader = _choose()
    return found


def _choose() -> OpenReader:
    if sys.platform == "linux":
        from . import read_recvmmsg

        if read_recvmmsg.IS_AVAILABLE:
            batches = read_recvmmsg.BatchMemory(current_platform())
            return partial(read_recvmmsg.RecvmmsgReader, batches)
    if sys.platform == "win32":
        from .read_wsarecvmsg import WinsockMemory, WinsockReader

        return partial(WinsockReader, WinsockMemory(current_platform()))
    from .read_recvmsg import Memory, PortableReader

    return partial(PortableReader, Memory(current_platform()))
