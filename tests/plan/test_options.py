"""What is packed is read back by structures that were declared independently, as the headers do."""

import ctypes
import errno
import struct
import sys
from dataclasses import FrozenInstanceError
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_mcast._addresses.parsing import IPAddress
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import (
    FALLBACK_ERRORS,
    SocketOption,
    int_option,
    named_option,
    pack_group_filter,
    pack_group_req,
    pack_group_source_req,
    pack_index,
    pack_index_as_address,
    pack_int,
    pack_ip_mreq,
    pack_ip_mreqn,
    pack_ipv6_mreq,
    pack_name,
    pack_sockaddr,
)
from trio_mcast._plan.platforms import OptionName, Platform
from trio_mcast._plan.windows import WINDOWS

# Where 64 bits are aligned to 32, as on i386, ctypes cannot lay out structures of other processors.
ALIGNS_LIKE_OTHERS = ctypes.alignment(ctypes.c_uint64) == 8

PLATFORMS = [LINUX, LINUX_32BIT, MACOS, WINDOWS] if ALIGNS_LIKE_OTHERS else [LINUX_32BIT, MACOS]
AF_INET6 = {LINUX: 10, LINUX_32BIT: 10, MACOS: 30, WINDOWS: 23}

BYTES_4 = ctypes.c_uint8 * 4
BYTES_16 = ctypes.c_uint8 * 16


# --- The structures, once per layout, with the compiler's own padding --------------------------


def _structure(fields: list[tuple[str, Any]], pack: int = 0) -> type[ctypes.Structure]:
    body: dict[str, Any] = {"_fields_": fields}
    if pack:
        body |= {"_pack_": pack, "_layout_": "ms"}
    return type("structure", (ctypes.Structure,), body)


# Head of a sockaddr: sa_family, or sa_len and sa_family.
PLAIN_HEAD = [("family", ctypes.c_uint16)]
BSD_HEAD = [("length", ctypes.c_uint8), ("family", ctypes.c_uint8)]


def _sockaddr_in(head: list[tuple[str, Any]]) -> type[ctypes.Structure]:
    zero = ctypes.c_uint8 * 8
    return _structure([*head, ("port", ctypes.c_uint16), ("address", BYTES_4), ("zero", zero)])


def _sockaddr_in6(head: list[tuple[str, Any]]) -> type[ctypes.Structure]:
    return _structure(
        [
            *head,
            ("port", ctypes.c_uint16),
            ("flow_info", ctypes.c_uint32),
            ("address", BYTES_16),
            ("scope_id", ctypes.c_uint32),
        ]
    )


def _storage(head: list[tuple[str, Any]], word: Any) -> type[ctypes.Union]:
    """struct sockaddr_storage: 128 bytes, aligned as its widest word."""
    fields = [
        ("v4", _sockaddr_in(head)),
        ("v6", _sockaddr_in6(head)),
        ("aligning", word),
        ("whole", ctypes.c_uint8 * 128),
    ]
    return type("storage", (ctypes.Union,), {"_fields_": fields})


class Layout:
    """The structures of one system, as its headers declare them."""

    def __init__(self, head: list[tuple[str, Any]], word: Any, pack: int = 0) -> None:
        self._pack = pack
        self._storage = storage = _storage(head, word)
        self._head = [("index", ctypes.c_uint32), ("group", storage)]
        self.sockaddr_in = _sockaddr_in(head)
        self.sockaddr_in6 = _sockaddr_in6(head)
        self.group_req = _structure(self._head, pack)
        self.group_source_req = _structure([*self._head, ("source", storage)], pack)

    def group_filter(self, sources: int) -> type[ctypes.Structure]:
        rest = [("mode", ctypes.c_uint32), ("count", ctypes.c_uint32)]
        return _structure([*self._head, *rest, ("sources", self._storage * sources)], self._pack)


LAYOUTS = {
    LINUX: Layout(PLAIN_HEAD, ctypes.c_uint64),
    LINUX_32BIT: Layout(PLAIN_HEAD, ctypes.c_uint32),
    MACOS: Layout(BSD_HEAD, ctypes.c_uint64, pack=4),
    WINDOWS: Layout(PLAIN_HEAD, ctypes.c_uint64),
}

IpMreq = _structure([("group", BYTES_4), ("interface", BYTES_4)])
IpMreqn = _structure([("group", BYTES_4), ("address", BYTES_4), ("index", ctypes.c_int)])
Ipv6Mreq = _structure([("group", BYTES_16), ("index", ctypes.c_uint32)])
LINUX_MREQ_SOURCE = _structure([("group", BYTES_4), ("interface", BYTES_4), ("source", BYTES_4)])
OTHER_MREQ_SOURCE = _structure([("group", BYTES_4), ("source", BYTES_4), ("interface", BYTES_4)])


def read(structure: type[Any], packed: bytes) -> Any:
    assert len(packed) == ctypes.sizeof(structure)
    return structure.from_buffer_copy(packed)


def assert_is(platform: Platform, storage: Any, address: IPAddress) -> None:
    """The storage holds the address and zeros, nothing else."""
    if address.version == 4:
        found, size, family = storage.v4, 16, 2
    else:
        found, size, family = storage.v6, 28, AF_INET6[platform]
        assert (found.flow_info, found.scope_id) == (0, 0)
    assert bytes(found.address) == address.packed
    assert (found.family, found.port) == (family, 0)
    if platform is MACOS:
        assert found.length == size
    assert not any(storage.whole[size:])


platforms = st.sampled_from(PLATFORMS)
indexes = st.integers(1, 2**31 - 1)
ipv4 = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
ipv6 = st.builds(IPv6Address, st.integers(0, 2**128 - 1))
pairs = st.tuples(ipv4, ipv4) | st.tuples(ipv6, ipv6)
filters = st.tuples(ipv4, st.lists(ipv4, max_size=12)) | st.tuples(
    ipv6, st.lists(ipv6, max_size=12)
)


# --- Round trips -------------------------------------------------------------------------------


@given(platforms, ipv4 | ipv6)
def test_sockaddr(platform: Platform, address: IPAddress) -> None:
    layout = LAYOUTS[platform]
    structure = layout.sockaddr_in if address.version == 4 else layout.sockaddr_in6
    found = read(structure, pack_sockaddr(platform, address))
    assert bytes(found.address) == address.packed
    assert found.port == 0


@given(platforms, indexes, ipv4 | ipv6)
def test_group_req(platform: Platform, index: int, group: IPAddress) -> None:
    found = read(LAYOUTS[platform].group_req, pack_group_req(platform, index, group))
    assert found.index == index
    assert_is(platform, found.group, group)


@given(platforms, indexes, pairs)
def test_group_source_req(
    platform: Platform, index: int, pair: tuple[IPAddress, IPAddress]
) -> None:
    packed = pack_group_source_req(platform, index, *pair)
    found = read(LAYOUTS[platform].group_source_req, packed)
    assert found.index == index
    assert_is(platform, found.group, pair[0])
    assert_is(platform, found.source, pair[1])


@given(platforms, indexes, filters, st.sampled_from(["include", "exclude"]))
def test_group_filter(
    platform: Platform, index: int, listed: tuple[IPAddress, list[IPAddress]], mode: Any
) -> None:
    group, sources = listed
    packed = pack_group_filter(platform, index, group, mode, sources)
    found = read(LAYOUTS[platform].group_filter(len(sources)), packed)
    assert found.index == index
    assert_is(platform, found.group, group)
    assert found.mode == platform.filter_modes[mode]
    assert found.count == len(sources)
    for storage, source in zip(found.sources, sources, strict=True):
        assert_is(platform, storage, source)


@given(ipv4, ipv4)
def test_ip_mreq(group: IPv4Address, address: IPv4Address) -> None:
    found = read(IpMreq, pack_ip_mreq(group, address.packed))
    assert (bytes(found.group), bytes(found.interface)) == (group.packed, address.packed)


@given(indexes, st.none() | ipv4, st.none() | ipv4)
def test_ip_mreqn(index: int, group: IPv4Address | None, address: IPv4Address | None) -> None:
    found = read(IpMreqn, pack_ip_mreqn(index, group=group, address=address))
    assert found.index == index
    assert bytes(found.group) == (group.packed if group else bytes(4))
    assert bytes(found.address) == (address.packed if address else bytes(4))


@given(ipv6, indexes)
def test_ipv6_mreq(group: IPv6Address, index: int) -> None:
    found = read(Ipv6Mreq, pack_ipv6_mreq(group, index))
    assert (bytes(found.group), found.index) == (group.packed, index)


@given(st.integers(-(2**31), 2**31 - 1))
def test_int(value: int) -> None:
    assert int.from_bytes(pack_int(value), sys.byteorder, signed=True) == value


@given(indexes)
def test_index(index: int) -> None:
    assert int.from_bytes(pack_index(index), sys.byteorder) == index


@given(st.integers(1, 0xFFFFFF))
def test_index_as_address(index: int) -> None:
    assert IPv4Address(pack_index_as_address(index)) == IPv4Address(index)


def test_index_as_address_has_room_for_three_bytes() -> None:
    with pytest.raises(ValueError, match="16777216"):
        pack_index_as_address(0x1000000)


def test_name_is_terminated() -> None:
    assert pack_name("eth0") == b"eth0\0"


def test_int_out_of_range_is_refused() -> None:
    with pytest.raises(struct.error):
        pack_int(2**31)


# --- Options -----------------------------------------------------------------------------------


MULTICAST_ALL = OptionName(0, 49, "IP_MULTICAST_ALL")


def test_int_option_is_labelled_as_an_assignment() -> None:
    option = int_option(MULTICAST_ALL, 0)
    assert option == SocketOption(0, 49, bytes(4), "IP_MULTICAST_ALL=0")
    assert str(option) == "IP_MULTICAST_ALL=0"


def test_options_are_required_unless_they_say_otherwise() -> None:
    option = int_option(MULTICAST_ALL, 0)
    assert (option.optional, option.fallback) == (False, None)


def test_option_has_a_fallback() -> None:
    second = int_option(MULTICAST_ALL, 0)
    first = named_option(MULTICAST_ALL, b"", " x", optional=True, fallback=second)
    assert (first.optional, first.fallback) == (True, second)


def test_options_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        int_option(MULTICAST_ALL, 0).level = 1  # type: ignore[misc]


def test_fallbacks_are_for_what_a_system_does_not_know() -> None:
    assert frozenset({errno.ENOPROTOOPT, errno.EINVAL}) == FALLBACK_ERRORS
