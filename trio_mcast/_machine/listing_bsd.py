"""Flags and MTU of interfaces by the ioctls of BSD systems (``net/if.h``, ``sys/sockio.h``)."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from .link_state import LinkState

assert not TYPE_CHECKING or sys.platform == "darwin"

# _IOWR('i', 17, struct ifreq) and _IOWR('i', 51, struct ifreq), where ifreq has 32 bytes.
SIOCGIFFLAGS: Final = 0xC0206911
SIOCGIFMTU: Final = 0xC0206933
IFF_UP, IFF_LOOPBACK, IFF_MULTICAST = 0x1, 0x8, 0x8000


def list_links() -> list[LinkState]:
    links = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for index, name in socket.if_nameindex():
            request = struct.pack("=16s16x", name.encode())
            try:
                (flags,) = struct.unpack_from("=H", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)
                (mtu,) = struct.unpack_from("=i", fcntl.ioctl(sock, SIOCGIFMTU, request), 16)
            except OSError:  # it went between two looks
                continue
            links.append(
                LinkState(
                    index,
                    name,
                    bool(flags & IFF_UP),
                    bool(flags & IFF_LOOPBACK),
                    bool(flags & IFF_MULTICAST),
                    mtu,
                )
            )
    return links
