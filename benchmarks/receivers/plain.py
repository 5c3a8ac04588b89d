"""Sockets as a program without a multicast library makes them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Final

from .meter import Job

LARGEST: Final = 65535
"""Bytes to have ready for a datagram: the largest there is, as the size is not known before."""

_IP_MULTICAST_ALL: Final = 49  # linux/in.h
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h


def open_shared_socket(job: Job) -> socket.socket:
    """One socket for all groups of a job. It cannot tell which of them a datagram was for."""
    if len(job.groups) == 1:
        return open_group_socket(job, job.groups[0])
    return _open_socket(job, "", job.groups)


def open_group_socket(job: Job, group: str) -> socket.socket:
    """A socket for one group."""
    return _open_socket(job, group, (group,))


def _open_socket(job: Job, address: str, groups: Iterable[str]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
    if job.receive_buffer is not None:
        ask_for_buffer(sock, job.receive_buffer)
    sock.bind((address, job.port))
    index = socket.if_nametoindex(job.interface)
    for group in groups:
        join = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)  # ip_mreqn
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, join)
    return sock


def ask_for_buffer(sock: socket.socket, size: int) -> None:
    """Set the receive buffer, past the system's limit where that is allowed."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
