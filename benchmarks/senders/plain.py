"""A socket as a program without a multicast library makes it."""

from __future__ import annotations

import socket
import struct


def open_socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    by = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(interface))  # ip_mreqn
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
    return sock
