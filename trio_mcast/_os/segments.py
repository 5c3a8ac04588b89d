"""Runs of equal datagrams, sent by one system call where the kernel cuts them apart (UDP_SEGMENT).

The kernel takes up to 64 datagrams as one buffer, routes it once, and cuts it up as late as it can,
perhaps in the network card: see Linux' Documentation/networking/segmentation-offloads and udp(7).
Each datagram is whole on the wire, as if it had been sent alone.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

from .._errors import NotSupportedError
from .._plan.datagram import SocketAddress
from .._plan.interfaces import Interface
from .._plan.platforms import Platform

_MOST_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS, linux/udp.h, before Linux 6.11
_LARGEST_BUFFER: Final = 65_000  # of 65,507 (IPv4): the headers count, too

# The larger of IPv4's and IPv6's headers, with UDP's: what a segment of the MTU's size leaves out.
_HEADERS: Final = 48

# The token bucket filter (tc-tbf(8)) takes a run apart when it comes in, and reports nothing as
# long as it had room for some of it: seen on Linux 6.18, 36 of 40 were lost without a word.
_QUEUEING_THAT_LOSES_SEGMENTS: Final = frozenset({"tbf"})

# What the kernel answers if it, the interface or the route cannot: no checksum offload (EIO), an
# MTU that has shrunk or a route with a smaller one (EMSGSIZE, EINVAL), an old kernel (the others).
_CANNOT_SEGMENT: Final = {errno.EIO, errno.EMSGSIZE, errno.EINVAL, errno.ENOPROTOOPT}


class SegmentedSending:
    """Sends runs of datagrams of one size, by few system calls where that works."""

    def __init__(self, platform: Platform, interface: Interface) -> None:
        option = platform.send_segmented
        self._option = option if option and _is_safe(interface) else None
        self._largest_segment = interface.mtu - _HEADERS

    def most_at_once(self, size: int) -> int:
        """How many datagrams of a size can go into one call; 1 if only single ones can."""
        if self._option is None or not 0 < size <= self._largest_segment:
            return 1
        return min(_MOST_SEGMENTS, _LARGEST_BUFFER // size)

    def send(self, sock: socket.socket, datagrams: Sequence[bytes], address: SocketAddress) -> bool:
        """Send datagrams of one size, `most_at_once` at the most: all, or none.

        Returns:
          False if they have to be sent one by one, now or (the kernel cannot) always

        Raises:
          BlockingIOError, OSError: as `sendto`
        """
        assert self._option is not None
        if sys.platform == "win32":
            raise NotSupportedError("Python has no sendmsg on Windows")
        level, number, _name = self._option
        ancillary = [(level, number, struct.pack("=H", len(datagrams[0])))]
        try:
            sock.sendmsg([b"".join(datagrams)], ancillary, 0, address)
        except OSError as error:
            if error.errno not in _CANNOT_SEGMENT:
                raise
            if error.errno != errno.EMSGSIZE:
                self._option = None
            return False
        return True


if sys.platform == "linux":
    from . import netlink

    def _is_safe(interface: Interface) -> bool:
        """Whether a datagram of a run that is lost on the way out makes itself known."""
        queueing = {link.index: link.queueing for link in netlink.list_links()}
        return queueing.get(interface.index) not in _QUEUEING_THAT_LOSES_SEGMENTS

else:

    def _is_safe(interface: Interface) -> bool:
        """Windows has the option (UDP_SEND_MSG_SIZE), but Python has no sendmsg there."""
        return False
