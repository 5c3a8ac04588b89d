"""Links and addresses on Linux: by netlink; where a sandbox refuses that, by ioctl and /proc.

The second way knows less: of IPv4 addresses only the first one of each interface. But an interface
that is named can be used then, too.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from . import netlink
from .link_state import Addresses, LinkState

assert not TYPE_CHECKING or sys.platform == "linux"

IFF_UP: Final = 0x1  # linux/if.h
IFF_LOOPBACK: Final = 0x8
IFF_MULTICAST: Final = 0x1000

# What a sandbox answers that allows no AF_NETLINK: systemd's RestrictAddressFamilies, seccomp
# profiles, Android's policy.
_REFUSALS_OF_NETLINK: Final = {errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES, errno.ENOSYS}

# Members of these hear and send nothing by themselves: the master stands for them. An interface
# can have another kind of master, a VRF, and be as good as any.
_KINDS_WITH_PORTS: Final = {"bridge", "bond", "team", "openvswitch"}

_SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
_SIOCGIFADDR: Final = 0x8915
_SIOCGIFNETMASK: Final = 0x891B
_SIOCGIFMTU: Final = 0x8921
_SIOCGIFHWADDR: Final = 0x8927
_SIOCGIFINDEX: Final = 0x8933

_NAME_SIZE: Final = 16  # IFNAMSIZ, linux/if.h
_REQUEST_SIZE: Final = 40  # struct ifreq

_NET: Final = Path("/proc/thread-self/net")  # /proc/net is that of the process's first thread


def list_links_and_addresses() -> tuple[list[LinkState], Addresses]:
    """The interfaces of this thread's network namespace, and their addresses by index.

    Raises:
      OSError: the system refuses both ways, or has run out of something
    """
    try:
        return _ask_netlink()
    except OSError as refusal:
        if refusal.errno not in _REFUSALS_OF_NETLINK:
            raise
        try:
            return _ask_without_netlink()
        except OSError:  # no /proc
            raise refusal from None


def _ask_netlink() -> tuple[list[LinkState], Addresses]:
    links = netlink.list_links()
    names = {link.index: link.name for link in links}
    return [
        LinkState(
            link.index,
            link.name,
            bool(link.flags & IFF_UP),
            bool(link.flags & IFF_LOOPBACK),
            bool(link.flags & IFF_MULTICAST),
            link.mtu,
            link.ipv6 == "on",
            master=names.get(link.master) if link.port_of in _KINDS_WITH_PORTS else None,
            mac_address=_mac_address(link.hardware_address),
            altnames=link.altnames,
        )
        for link in links
    ], netlink.list_addresses()


@trio.lowlevel.enable_ki_protection
def _ask_without_netlink() -> tuple[list[LinkState], Addresses]:
    ipv6 = _read_ipv6_addresses()
    links = []
    addresses: Addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in _read_names():
            try:
                (index,) = _ask_about(sock, name, _SIOCGIFINDEX, "=i")
                (flags,) = _ask_about(sock, name, _SIOCGIFFLAGS, "=H")
                (mtu,) = _ask_about(sock, name, _SIOCGIFMTU, "=i")
                (_kind, hardware_address) = _ask_about(sock, name, _SIOCGIFHWADDR, "=H6s")
            except OSError:  # it went between two looks
                continue
            links.append(
                LinkState(
                    index,
                    netlink.read_text(name),
                    bool(flags & IFF_UP),
                    bool(flags & IFF_LOOPBACK),
                    bool(flags & IFF_MULTICAST),
                    mtu,
                    bool(ipv6) and mtu >= netlink.LEAST_IPV6_MTU,
                    mac_address=_mac_address(hardware_address),
                )
            )
            addresses[index] = [*_find_ipv4_address(sock, name), *ipv6.get(index, ())]
    return links, addresses


def _read_names() -> list[bytes]:
    lines = (_NET / "dev").read_bytes().split(b"\n")[2:]
    return [line.partition(b":")[0].strip() for line in lines if line]


def _read_ipv6_addresses() -> dict[int, list[IPv6Interface]]:
    found: dict[int, list[IPv6Interface]] = {}
    try:
        lines = (_NET / "if_inet6").read_bytes().splitlines()
    except OSError:  # no IPv6
        return found
    for line in lines:
        address, index, prefix = line.split()[:3]
        packed = bytes.fromhex(address.decode())
        found.setdefault(int(index, 16), []).append(IPv6Interface((packed, int(prefix, 16))))
    return found


def _find_ipv4_address(sock: socket.socket, name: bytes) -> list[IPv4Interface]:
    layout = "=4x4s"  # sockaddr_in behind its family: port and address
    try:
        (address,) = _ask_about(sock, name, _SIOCGIFADDR, layout)
        (mask,) = _ask_about(sock, name, _SIOCGIFNETMASK, layout)
    except OSError:  # it has none
        return []
    return [IPv4Interface(f"{IPv4Address(address)}/{IPv4Address(mask)}")]


def _ask_about(sock: socket.socket, name: bytes, request: int, layout: str) -> tuple[Any, ...]:
    """What the system says of an interface: the fields of `ifreq` behind its name."""
    answer = fcntl.ioctl(sock, request, name.ljust(_REQUEST_SIZE, b"\0"))
    return struct.unpack_from(layout, answer, _NAME_SIZE)


def _mac_address(hardware_address: bytes) -> str | None:
    """Six bytes that are not all 0: the addresses of tunnels and of `lo` are no MAC addresses."""
    if len(hardware_address) != 6 or not any(hardware_address):
        return None
    return hardware_address.hex(":")
