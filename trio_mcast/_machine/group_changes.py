"""Announcements of joins and leaves on Linux 6.15 and later: rtnetlink groups, for any user."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Final

assert not TYPE_CHECKING or sys.platform == "linux"

_SOL_NETLINK: Final = 270  # linux/socket.h
_NETLINK_ADD_MEMBERSHIP: Final = 1  # linux/netlink.h
_RTNLGRP_IPV4_MCADDR: Final = 37  # linux/rtnetlink.h
_RTNLGRP_IPV6_MCADDR: Final = 38


class GroupWatch:
    """A socket that is readable when a group was joined or left.

    Raises:
      OSError: this kernel does not announce it
    """

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self.socket.setblocking(False)
            self.socket.bind((0, 0))
            for group in (_RTNLGRP_IPV4_MCADDR, _RTNLGRP_IPV6_MCADDR):
                self.socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except BaseException:
            self.socket.close()
            raise

    def drain(self) -> None:
        """Take off what was announced; look at the tables for what it was."""
        try:
            while True:
                self.socket.recv(1 << 16)
        except OSError:  # nothing more; or too much at once, which is no matter
            pass

    def close(self) -> None:
        self.socket.close()
