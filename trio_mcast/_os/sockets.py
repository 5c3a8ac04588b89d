"""Sockets made from plans, and what an open one can tell about itself."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Final

from .._errors import SocketSetupError
from .._plan.options import FALLBACK_ERRORS, SocketOption
from .._plan.plan import SocketPlan
from .._plan.platforms import LINUX, LINUX_32BIT, MACOS, WINDOWS, WINDOWS_32BIT, Platform
from .._plan.remedies import add_remedy
from . import winsock

_SO_MEMINFO: Final = 55  # linux asm-generic/socket.h
_MEMINFO_DROPS: Final = 8  # SK_MEMINFO_DROPS, linux/sock_diag.h: of nine u32
_MSG_ERRQUEUE: Final = 0x2000  # linux/socket.h

# On Windows these are the numbers of Winsock, and `OSError.errno` has them (errnomodule.c).
EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""Errors of a host that has run out of something: the next attempt would only fail likewise."""

# Seen on macOS by others: OpenJDK and swift-nio met the first (a queue of IGMP is full for a
# moment), libuv the second (macOS 13 and later). The next attempt has succeeded.
_SPURIOUS_REFUSALS: Final = {errno.ENOMEM, errno.ENOEXEC}
_JOINS_TO_TRY: Final = 3


def current_platform() -> Platform:
    """The platform table of the system that this program runs on."""
    is_64bit = struct.calcsize("P") == 8
    if sys.platform == "win32":
        return WINDOWS if is_64bit else WINDOWS_32BIT
    if sys.platform == "darwin":
        return MACOS
    return LINUX if is_64bit else LINUX_32BIT


def open_planned_socket(plan: SocketPlan) -> socket.socket:
    """Make a non-blocking UDP socket as planned. When a step fails, nothing stays open.

    Args:
      plan: what `plan_receiver` or `plan_sender` returned for `current_platform`

    Raises:
      SocketSetupError: the kernel refused a step, which `.step` names
    """
    step = "open a UDP socket"
    sock = None
    try:
        sock = socket.socket(plan.family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if sys.platform == "win32":
            winsock.silence_resets(sock)
        for option in plan.before_bind:
            step = option.label
            set_option(sock, option)
        if plan.bind is not None:
            step = f"bind to {plan.bind[0]} port {plan.bind[1]}"
            _bind(sock, plan)
        for option in plan.after_bind:
            step = option.label
            _join(sock, option)
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError):
            refusal = SocketSetupError(step, error, interface=plan.interface, group=plan.group)
            raise add_remedy(refusal) from error
        raise
    return sock


def set_option(sock: socket.socket, option: SocketOption) -> None:
    """Set an option, or the one that stands in for it where the system does not know it.

    Raises:
      OSError: the kernel refused, and the plan does not say that it may
    """
    try:
        sock.setsockopt(option.level, option.option, option.value)
    except OSError as error:
        if option.fallback is not None and error.errno in FALLBACK_ERRORS:
            try:
                set_option(sock, option.fallback)
            except OSError:
                raise error from None  # the refusal of what was really wanted
        elif not option.optional:
            raise


def _bind(sock: socket.socket, plan: SocketPlan) -> None:
    assert plan.bind is not None
    try:
        sock.bind(plan.bind)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not plan.if_address_in_use:
            raise
        for option in plan.if_address_in_use:
            set_option(sock, option)
        sock.bind(plan.bind)
        for option in plan.after_second_bind:
            set_option(sock, option)


def may_have_unread(sock: socket.socket) -> bool:
    """Whether something has arrived that was not read; True where the system does not tell."""
    if sys.platform != "linux":
        return True
    queued = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4)  # SK_MEMINFO_RMEM_ALLOC
    return any(queued)


def _join(sock: socket.socket, option: SocketOption) -> None:
    """Set an option that joins, or joins a source. macOS refuses that for no reason at times."""
    for _ in range(_JOINS_TO_TRY if sys.platform == "darwin" else 0):
        try:
            set_option(sock, option)
            return
        except OSError as error:
            if error.errno not in _SPURIOUS_REFUSALS:
                raise
    set_option(sock, option)


def read_drop_count(sock: socket.socket) -> int | None:
    """How many datagrams the kernel had to drop at this socket; None where it does not tell."""
    if sys.platform != "linux":
        return None
    words = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    return int.from_bytes(words[4 * _MEMINFO_DROPS :][:4], sys.byteorder)


def read_receive_buffer(sock: socket.socket) -> int:
    """The receive buffer's size in bytes. Linux answers twice what it granted (socket(7))."""
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return size // 2 if sys.platform == "linux" else size


def drain_error_queue(sock: socket.socket) -> bool:
    """Throw away the ICMP errors that IP_RECVERR queues: they make a socket look ready.

    Returns:
      Whether there was any
    """
    if sys.platform != "linux":
        return False
    found = False
    try:
        while True:
            sock.recvmsg(0, 0, _MSG_ERRQUEUE)
            found = True
    except OSError:
        return found
