"""This machine in one of Linux' network namespaces: that in which something was opened.

A thread can go to another namespace (setns(2)). What it opened before stays where it was, but a new
socket, a listing of interfaces, a table of /proc are those of the namespace where the thread is
then. A receiver would follow the interfaces of a network that it has nothing to do with, and a
sender send into it.

So for a new socket or a look the thread goes back for a moment, within one call, and returns. Like
going away, that needs privilege: CAP_SYS_ADMIN, and CAP_NET_ADMIN to find the way. Without it the
library refuses to act.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakSet, WeakValueDictionary

from .._base.interface import Interface, IPVersion
from . import changes_netlink
from .machine import Changes, UdpErrors
from .sockets import naming_step
from .this_machine import ThisMachine

assert not TYPE_CHECKING or sys.platform == "linux"

Identity: TypeAlias = tuple[int, int]
"""The device and the inode of a namespace."""

_OWN: Final = "/proc/thread-self/ns/net"
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_SIOCGSKNS: Final = 0x894C  # linux/sockios.h: the namespace of a socket, since Linux 4.10

_SO_NETNS_COOKIE: Final = 71  # asm-generic/socket.h: tells namespaces apart, since Linux 5.14
_COOKIE_SIZE: Final = 8

_ENOUGH_SOCKETS: Final = 8

_per_thread: Final = threading.local()


def find_namespace() -> Identity | None:
    """The namespace that the thread is in; None if that is not known."""
    try:
        found = os.stat(_OWN)
    except OSError:  # no /proc
        return None
    return (found.st_dev, found.st_ino)


class NamespacedMachine(ThisMachine):
    """This machine in one namespace, wherever the thread is."""

    @classmethod
    def at(cls, identity: Identity, make_socket: Callable[[int], socket.socket]) -> ThisMachine:
        """The one for a namespace that the thread is in. All who open something there share it."""
        known: WeakValueDictionary[object, NamespacedMachine]
        known = _per_thread.__dict__.setdefault("machines", WeakValueDictionary())
        key = (identity, make_socket)
        machine = known.get(key)
        if machine is None:
            machine = known[key] = cls(identity, make_socket)
        return machine

    def __init__(self, identity: Identity, make_socket: Callable[[int], socket.socket]) -> None:
        super().__init__(make_socket)
        self._identity = identity
        self._cookie: bytes | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()  # opened there: they lead back

    def list_interfaces(self) -> tuple[Interface, ...]:
        with self._being_there():
            return super().list_interfaces()

    def default_interface(self, version: IPVersion) -> Interface | None:
        with self._being_there():
            return super().default_interface(version)

    def outgoing_interface(self, host: IPv4Address | IPv6Address) -> Interface | None:
        try:
            with self._being_there():
                return super().outgoing_interface(host)
        except OSError:  # then it is not known
            return None

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        with self._being_there():
            return super().list_groups()

    def read_udp_errors(self) -> UdpErrors | None:
        try:
            with self._being_there():
                return super().read_udp_errors()
        except OSError:  # then it is not known, as on other systems
            return None

    def open_changes(self) -> Changes | None:
        with self._being_there():
            changes = super().open_changes()
        if isinstance(changes, changes_netlink.NetlinkChanges):
            changes.while_looking = self._being_there
            self._remember(changes.socket)
        return changes

    def make_socket(self, family: int) -> socket.socket:
        # A receiver may have thousands of sockets, and to look where the thread is takes as long as
        # to make one. So it is made, and asked itself.
        sock = super().make_socket(family)
        if not self._is_there(sock):
            sock.close()
            with self._being_there():
                sock = super().make_socket(family)
        self._remember(sock)
        return sock

    def _is_there(self, sock: socket.socket) -> bool:
        try:
            cookie = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE_SIZE)
        except OSError:  # an older kernel
            cookie = None
        if cookie is not None and cookie == self._cookie:
            return True
        is_there = find_namespace() in (None, self._identity)
        if is_there:
            self._cookie = cookie
        return is_there

    def _remember(self, sock: socket.socket) -> None:
        if len(self._sockets) < _ENOUGH_SOCKETS:
            self._sockets.add(sock)

    def may_segment(self, interface: Interface) -> bool:
        with self._being_there():
            return super().may_segment(interface)

    @contextmanager
    def _being_there(self) -> Iterator[None]:
        """Have the thread in the namespace for a moment, in which it must not yield.

        Raises:
          SocketSetupError: it may not go there
        """
        if find_namespace() in (None, self._identity):
            yield
            return
        with naming_step("return to the network namespace where this was opened"):
            away = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._enter_by_a_socket()
            except BaseException:
                os.close(away)
                raise
        try:
            yield
        finally:
            try:
                _enter(away)
            finally:
                os.close(away)

    def _enter_by_a_socket(self) -> None:
        sock = next((sock for sock in self._sockets if sock.fileno() >= 0), None)
        if sock is None:
            raise OSError(errno.ENOENT, "no socket is open there that would lead back")
        there = fcntl.ioctl(sock, _SIOCGSKNS)
        try:
            _enter(there)
        finally:
            os.close(there)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):  # `os.setns` is there from Python 3.12 on
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
