"""What to do about an error of the kernel, as notes on the exception."""

from __future__ import annotations

import errno
from typing import Final, TypeVar

_Error = TypeVar("_Error", bound=OSError)

_REMEDIES: Final = {
    "EMFILE": (
        "The program has as many files open as it may. Every group on every interface takes one "
        "socket: raise the limit (`ulimit -n 4096`, or LimitNOFILE= for a service), or name fewer "
        "groups or interfaces."
    ),
    "ENFILE": "The whole system has as many files open as it may (sysctl fs.file-max).",
    "ENOBUFS": (
        "A limit of the kernel is reached: sysctl net.ipv4.igmp_max_memberships (groups a socket), "
        "net.ipv4.igmp_max_msf or net.ipv6.mld_max_msf (sources a group), net.core.optmem_max "
        "(memory for options); when sending, a full send buffer or queue."
    ),
    "ENOMEM": (
        "The kernel has no memory for it; for groups, sysctl net.core.optmem_max sets the limit."
    ),
    "EADDRINUSE": (
        "A program that does not share the port holds it. To share it, every program must set "
        "SO_REUSEADDR before it binds. `ss -ulnp` shows who holds which port."
    ),
    "EADDRNOTAVAIL": "The interface does not have the address, or cannot carry multicast.",
    "ENODEV": (
        "The interface is gone, or does not run this version of IP: "
        "`trio-mcast interfaces` shows what there is."
    ),
    "ENETUNREACH": (
        "No route leads there. The interface may be down or without an address; IPv6 groups on "
        "Linux' loopback need `ip -6 route add local ff00::/8 dev lo`."
    ),
    "ENETDOWN": "The interface is down.",
    "EHOSTUNREACH": (
        "On macOS 15 and later the program may lack the permission for the local network "
        "(System Settings, Privacy & Security, Local Network)."
    ),
    "EPERM": (
        "A firewall forbids it, or the system wants a privilege for it (binding a socket to an "
        "interface is free for everyone since Linux 5.7)."
    ),
    "EACCES": "A port below 1024 needs a privilege (CAP_NET_BIND_SERVICE), or a route forbids it.",
    "EMSGSIZE": (
        "The datagram is larger than UDP allows (65,507 bytes of payload over IPv4, 65,527 over "
        "IPv6) or than the send buffer takes (`send_buffer=`)."
    ),
}

_BY_NUMBER: Final = {getattr(errno, name): text for name, text in _REMEDIES.items()}


def add_remedy(error: _Error) -> _Error:
    """The same error, with a note on what to do about it where something is known."""
    if (note := _BY_NUMBER.get(error.errno or 0)) is not None:
        error.add_note(note)
    return error
