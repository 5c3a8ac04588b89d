"""Sockets made from plans, and machines whose sockets are those of the `socket` module."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

import trio

from .._base.errors import SocketSetupError
from .._base.remedies import add_remedy
from .._base.source_filter import SourceFilter
from .._base.values import check_type
from .._plan.joining import plan_leave
from .._plan.options import FALLBACK_ERRORS, SocketOption
from .._plan.platforms import Platform
from .._plan.socket_plan import SocketPlan
from .receiving import Origin, ReceivingSocket

_MEMINFO_WORDS: Final = 9  # SK_MEMINFO_VARS, linux/sock_diag.h: so many u32
_MEMINFO_DROPS: Final = 8  # SK_MEMINFO_DROPS
_MEMINFO_SIZE: Final = 4 * _MEMINFO_WORDS

# On Windows these are the numbers of Winsock, and `OSError.errno` has them (errnomodule.c).
EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""Errors of a host that has run out of something: the next attempt would only fail likewise."""

LOOK_SECONDS: Final = 0.01
"""How often to look where the event loop may wait for no more sockets: epoll_ctl(2) refuses when
the limit of watches, or of memory, is reached."""

_JOINS_TO_TRY: Final = 4

# struct sock_extended_err, linux/errqueue.h: a u32 of errno, then where it comes from
_ORIGIN: Final = 4
_ORIGIN_LOCAL: Final = b"\1"  # SO_EE_ORIGIN_LOCAL
_EXTENDED_ERROR_ROOM: Final = 128  # with the address of who reported it

OpenSocket: TypeAlias = Callable[[socket.socket, SocketPlan, Origin], ReceivingSocket]
"""Makes a receiving socket of one that was set up as planned."""


@contextmanager
def naming_step(step: str) -> Iterator[None]:
    """Have the system's refusal say what was being done, and what helps.

    Raises:
      SocketSetupError: instead of any other OSError
    """
    try:
        yield
    except SocketSetupError:
        raise
    except OSError as error:
        raise add_remedy(SocketSetupError(step, error)) from error


def kernel_error(number: int) -> OSError:
    """The error as the kernel would raise it."""
    return OSError(number, os.strerror(number))


def current_platform() -> Platform:
    """The platform table of the system that this program runs on, as far as it may use it."""
    platform = system_platform()
    if sys.platform == "linux" and not _may_bind_to_interface(platform):
        from .._plan.linux import without_binding

        return without_binding(platform)
    return platform


def system_platform() -> Platform:
    """As `current_platform`, whatever the program may do."""
    is_64bit = struct.calcsize("P") == 8
    if sys.platform == "win32":
        from .._plan.windows import WINDOWS, WINDOWS_32BIT

        return WINDOWS if is_64bit else WINDOWS_32BIT
    if sys.platform == "darwin":
        from .._plan.macos import MACOS

        return MACOS
    from .._plan.linux import LINUX, LINUX_32BIT

    return LINUX if is_64bit else LINUX_32BIT


def _may_bind_to_interface(platform: Platform) -> bool:
    """Whether Linux lets this program bind a socket to an interface.

    Before Linux 5.7 that took CAP_NET_RAW. It still does for a socket that is bound to one when it
    is made, as those of `ip vrf exec` are.
    """
    option = platform.bind_to_interface_by_name
    assert option is not None
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(option.level, option.number, b"lo")
        except PermissionError:
            return False
    return True  # or it will be told when the receiver's own socket is made


def open_planned_socket(plan: SocketPlan) -> socket.socket:
    """Make a non-blocking UDP socket as planned. When a step fails, nothing stays open.

    Args:
      plan: what `plan_receiver` or `plan_sender` returned for `current_platform`

    Raises:
      SocketSetupError: the kernel refused a step, which `.step` names
    """
    check_type("plan", plan, SocketPlan, "what plan_receiver() or plan_sender() returned")
    return carry_out(plan, system_platform(), make_udp_socket)


def make_udp_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if sys.platform == "win32":
        from .winsock import Winsock

        Winsock().silence_resets(sock)
    return sock


def carry_out(
    plan: SocketPlan, platform: Platform, make_socket: Callable[[int], socket.socket]
) -> socket.socket:
    """As `open_planned_socket`, on a system and with sockets that need not be this machine's."""
    step = "open a UDP socket"
    sock = None
    try:
        sock = make_socket(plan.family)
        sock.setblocking(False)
        for option in plan.before_bind:
            step = option.label
            set_option(sock, option)
        if plan.bind is not None:
            step = f"bind to {plan.bind[0]} port {plan.bind[1]}"
            _bind(sock, plan)
        for option in plan.after_bind:
            step = option.label
            _join(sock, option, platform)
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError) and not isinstance(error, SocketSetupError):
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


def _join(sock: socket.socket, option: SocketOption, platform: Platform) -> None:
    """Set an option that joins, or joins a source; again if the refusal may mean nothing."""
    for _ in range(_JOINS_TO_TRY - 1 if platform.spurious_join_errors else 0):
        try:
            set_option(sock, option)
            return
        except OSError as error:
            if errno.errorcode.get(error.errno or 0) not in platform.spurious_join_errors:
                raise
    set_option(sock, option)


class SystemSocket(ReceivingSocket):
    """A socket of the `socket` module's, or one like it, that receives."""

    __slots__ = ("_platform", "_socket")

    def __init__(
        self, platform: Platform, sock: socket.socket, plan: SocketPlan, origin: Origin
    ) -> None:
        super().__init__(plan, origin)
        self._platform = platform
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait_readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._socket)  # noqa: ASYNC105 # a frame saved

    def change_filter(self, change: SocketOption, _new: SourceFilter) -> None:
        set_option(self._socket, change)

    def drop_count(self) -> int | None:
        return read_drop_count(self._socket, self._platform)

    def receive_buffer(self) -> int | None:
        return read_receive_buffer(self._socket, self._platform)

    def may_have_unread(self) -> bool:
        return may_have_unread(self._socket, self._platform)

    def _leave(self) -> None:
        assert self.plan.group is not None
        assert self.plan.interface is not None
        try:
            set_option(
                self._socket, plan_leave(self._platform, self.plan.group, self.plan.interface)
            )
        except OSError:  # the kernel has dropped the membership before: no harm
            pass

    def _wake(self) -> None:
        trio.lowlevel.notify_closing(self._socket)

    def _close(self) -> None:
        self._socket.close()


def may_have_unread(sock: socket.socket, platform: Platform) -> bool:
    """Whether something has arrived that was not read; True where the system does not tell."""
    words = _read_queue_figures(sock, platform)
    return words is None or any(words[:4])  # SK_MEMINFO_RMEM_ALLOC


def read_drop_count(sock: socket.socket, platform: Platform) -> int | None:
    """How many datagrams the kernel had to drop at this socket; None where it does not tell."""
    words = _read_queue_figures(sock, platform)
    if words is None:
        return None
    return int.from_bytes(words[4 * _MEMINFO_DROPS :][:4], sys.byteorder)


def _read_queue_figures(sock: socket.socket, platform: Platform) -> bytes | None:
    if platform.queue_figures is None:
        return None
    level, number, _name = platform.queue_figures
    try:
        figures = sock.getsockopt(level, number, _MEMINFO_SIZE)
    except OSError:  # Linux before 4.12; gVisor and other sandboxes
        return None
    # QEMU's emulation of Linux answers every option of this level with a single number.
    return figures if len(figures) == _MEMINFO_SIZE else None


def read_receive_buffer(sock: socket.socket, platform: Platform) -> int | None:
    """The receive buffer's size in bytes, as it was granted; None if the system does not tell."""
    level, number, _name = platform.receive_buffer
    try:
        size = sock.getsockopt(level, number)
    except OSError:  # a sandbox
        return None
    return size // 2 if platform.doubles_receive_buffer else size


def drain_error_queue(sock: socket.socket, platform: Platform) -> bool:
    """Throw away the ICMP errors that IP_RECVERR queues: they make a socket look ready.

    Returns:
      Whether there was any from elsewhere. The kernel queues its own refusals too, EMSGSIZE say,
      and those are about the datagram that was just refused
    """
    if platform.error_queue is None or sys.platform == "win32":  # where Python has no recvmsg
        return False
    found = False
    try:
        while True:
            _data, messages, _flags, _address = sock.recvmsg(
                0, _EXTENDED_ERROR_ROOM, platform.error_queue
            )
            for _level, _kind, extended_error in messages:
                found |= extended_error[_ORIGIN : _ORIGIN + 1] not in (b"", _ORIGIN_LOCAL)
    except OSError:
        return found
