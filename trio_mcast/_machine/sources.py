"""Socket addresses of senders, as the kernel writes them."""

from __future__ import annotations

import socket
import sys
from typing import Final

from .._base.datagram import SocketAddress

_LIMIT: Final = 1024
_SIZE_OF_IPV4: Final = 16  # struct sockaddr_in; sockaddr_in6 has 28


class KnownSources:
    """Decodes a sockaddr_in or sockaddr_in6 as the `socket` module does. Senders recur."""

    def __init__(self) -> None:
        self._known: dict[bytes, SocketAddress] = {}

    def decode(self, name: bytes) -> SocketAddress:
        source = self._known.get(name)
        if source is None:
            if len(self._known) >= _LIMIT:
                self._known.clear()
            source = self._known[name] = _decode(name)
        return source


def _decode(name: bytes) -> SocketAddress:
    port = int.from_bytes(name[2:4], "big")
    if len(name) == _SIZE_OF_IPV4:
        return (socket.inet_ntop(socket.AF_INET, name[4:8]), port)
    host = socket.inet_ntop(socket.AF_INET6, name[8:24])
    flow = int.from_bytes(name[4:8], "big")
    return (host, port, flow, int.from_bytes(name[24:28], sys.byteorder))
