"""Socket options as values, and the bytes that the kernels want in them.

Layouts are spelled out field by field with their padding, so that any system's bytes can be made
on any other. Integers are in the host's order (``=``), as the kernel reads them; addresses and
ports in the network's. Where systems differ, the `Platform` says how.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from .._addresses.parsing import IPAddress
from .._base.interface import IPVersion
from .._base.source_filter import FilterMode
from .platforms import OptionName, Platform

_STORAGE_SIZE: Final = 128  # struct sockaddr_storage, on every system

FALLBACK_ERRORS: Final = frozenset({errno.ENOPROTOOPT, errno.EINVAL})
"""What a system answers to an option, or a form of it, that it does not know."""


@dataclass(frozen=True, slots=True)
class SocketOption:
    """One call of setsockopt.

    Attributes:
      level: the protocol level
      option: the number at that level
      value: the bytes
      label: the same for people: ``IP_MULTICAST_ALL=0``, ``MCAST_JOIN_GROUP 239.1.2.3 on eth0 (2)``
      optional: the kernel may refuse it, and nothing is lost but what the option was to gain
      fallback: what to try if the system does not know the option (`FALLBACK_ERRORS`). If that is
        refused too, the first refusal is the one to report
    """

    level: int
    option: int
    value: bytes
    label: str
    optional: bool = False
    fallback: SocketOption | None = None

    def __str__(self) -> str:
        return self.label


def named_option(
    name: OptionName,
    value: bytes,
    subject: str,
    *,
    optional: bool = False,
    fallback: SocketOption | None = None,
) -> SocketOption:
    """A packed option. The label is the header's name followed by `subject`."""
    return SocketOption(name.level, name.number, value, f"{name.name}{subject}", optional, fallback)


@lru_cache(maxsize=256)  # most options of all plans are the same ones
def int_option(name: OptionName, value: int, *, optional: bool = False) -> SocketOption:
    """An option whose value is an int."""
    return named_option(name, pack_int(value), f"={value:d}", optional=optional)


def pack_int(value: int) -> bytes:
    return struct.pack("=i", value)


def pack_index(index: int) -> bytes:
    """An interface's index in the host's order."""
    return struct.pack("=I", index)


def pack_index_as_address(index: int) -> bytes:
    """An interface's index in the place of one of its IPv4 addresses: 0.0.0.N, network order.

    Windows and macOS read an address in 0.0.0.0/8 so.

    Raises:
      ValueError: the index does not fit in the three bytes
    """
    if index > 0xFFFFFF:
        raise ValueError(f"interface index {index} does not fit into an address 0.x.x.x")
    return struct.pack("!I", index)


def pack_name(name: str) -> bytes:
    """An interface's name, terminated. On Linux it may be any bytes, as those of a file may."""
    return name.encode(errors="surrogateescape") + b"\0"


def pack_sockaddr(platform: Platform, address: IPAddress) -> bytes:
    """struct sockaddr_in or sockaddr_in6, its port, flow info and scope id being 0."""
    after = bytes(8 if address.version == 4 else 4)  # sin_zero; sin6_scope_id
    return _pack_before_address(platform, address.version) + address.packed + after


@lru_cache
def _pack_before_address(platform: Platform, version: IPVersion) -> bytes:
    """What stands before the address: family, port and, for IPv6, flow info."""
    family, size = platform.family(version).number, 16 if version == 4 else 28
    if platform.sockaddr_has_length:
        head = struct.pack("=BB", size, family)
    else:
        head = struct.pack("=H", family)
    return head + bytes(2 if version == 4 else 6)


def _pack_storage(platform: Platform, address: IPAddress) -> bytes:
    return pack_sockaddr(platform, address).ljust(_STORAGE_SIZE, b"\0")


def pack_ip_mreq(group: IPv4Address, interface: bytes) -> bytes:
    """struct ip_mreq. `interface` is a packed address, or an index as an address."""
    return struct.pack("=4s4s", group.packed, interface)


def pack_ip_mreqn(
    index: int, *, group: IPv4Address | None = None, address: IPv4Address | None = None
) -> bytes:
    """struct ip_mreqn. In IP_MULTICAST_IF it has no group; `address` is the source to send from."""
    return struct.pack(
        "=4s4si",
        group.packed if group else bytes(4),
        address.packed if address else bytes(4),
        index,
    )


def pack_ipv6_mreq(group: IPv6Address, index: int) -> bytes:
    """struct ipv6_mreq."""
    return struct.pack("=16sI", group.packed, index)


def pack_group_req(platform: Platform, index: int, group: IPAddress) -> bytes:
    """struct group_req (RFC 3678)."""
    return _pack_group_head(platform, index, group)


def pack_group_source_req(
    platform: Platform, index: int, group: IPAddress, source: IPAddress
) -> bytes:
    """struct group_source_req (RFC 3678)."""
    return _pack_group_head(platform, index, group) + _pack_storage(platform, source)


def pack_group_filter(
    platform: Platform, index: int, group: IPAddress, mode: FilterMode, sources: Iterable[IPAddress]
) -> bytes:
    """struct group_filter (RFC 3678), as long as its sources need: GROUP_FILTER_SIZE(n)."""
    listed = [_pack_storage(platform, source) for source in sources]
    return (
        _pack_group_head(platform, index, group)
        + struct.pack("=II", platform.filter_modes[mode], len(listed))
        + b"".join(listed)
    )


def _pack_group_head(platform: Platform, index: int, group: IPAddress) -> bytes:
    """Index and group, with which all three structures begin."""
    return _pack_index_and_padding(platform, index) + _pack_storage(platform, group)


@lru_cache(maxsize=256)  # the same for each of a thousand groups
def _pack_index_and_padding(platform: Platform, index: int) -> bytes:
    return pack_index(index) + bytes(platform.group_req_padding)
