"""What macOS' routing socket says when interfaces change, laid out as ``net/route.h`` has it."""

from __future__ import annotations

import ctypes
import struct

from trio_mcast._interfaces.following import LinkSeen
from trio_mcast._machine.changes_route import read_messages_untrusted

RTM_VERSION = 5
RTM_NEWADDR, RTM_DELADDR, RTM_IFINFO, RTM_NEWMADDR = 0xC, 0xD, 0xE, 0xF
RTA_NETMASK, RTA_IFP, RTA_IFA = 0x4, 0x10, 0x20
IFF_UP, IFF_RUNNING, IFF_MULTICAST = 0x1, 0x40, 0x8000
AF_LINK, IFT_ETHER = 18, 6


class IfMsghdr(ctypes.Structure):
    """struct if_msghdr; its if_data (``net/if_var.h``) has 96 bytes."""

    _fields_ = (
        ("ifm_msglen", ctypes.c_ushort),
        ("ifm_version", ctypes.c_ubyte),
        ("ifm_type", ctypes.c_ubyte),
        ("ifm_addrs", ctypes.c_int),
        ("ifm_flags", ctypes.c_int),
        ("ifm_index", ctypes.c_ushort),
        ("ifm_data", ctypes.c_uint32 * 24),
    )


class IfaMsghdr(ctypes.Structure):
    """struct ifa_msghdr, and struct ifma_msghdr but for the metric."""

    _fields_ = (
        ("ifam_msglen", ctypes.c_ushort),
        ("ifam_version", ctypes.c_ubyte),
        ("ifam_type", ctypes.c_ubyte),
        ("ifam_addrs", ctypes.c_int),
        ("ifam_flags", ctypes.c_int),
        ("ifam_index", ctypes.c_ushort),
        ("ifam_metric", ctypes.c_int),
    )


def link_address(index: int, name: bytes) -> bytes:
    """struct sockaddr_dl."""
    head = struct.pack("=BBHBBBB", 20, AF_LINK, index, IFT_ETHER, len(name), 6, 0)
    return head + (name + bytes.fromhex("0250f2000001")).ljust(12, b"\0")


def ipv4_address(host: str) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("=BBH4B8x", 16, 2, 0, *map(int, host.split(".")))


def link_message(index: int, flags: int) -> bytes:
    addresses = link_address(index, b"en0")
    size = ctypes.sizeof(IfMsghdr) + len(addresses)
    return bytes(IfMsghdr(size, RTM_VERSION, RTM_IFINFO, RTA_IFP, flags, index)) + addresses


def address_message(kind: int, index: int) -> bytes:
    addresses = ipv4_address("255.255.255.0") + link_address(index, b"en0")
    addresses += ipv4_address("192.0.2.7")
    size = ctypes.sizeof(IfaMsghdr) + len(addresses)
    asked = RTA_NETMASK | RTA_IFP | RTA_IFA
    return bytes(IfaMsghdr(size, RTM_VERSION, kind, asked, 0, index, 0)) + addresses


def test_the_layouts_have_the_sizes_of_the_header() -> None:
    assert (ctypes.sizeof(IfMsghdr), ctypes.sizeof(IfaMsghdr)) == (112, 20)


def test_a_cable_that_is_pulled_and_plugged_in_is_read_among_other_messages() -> None:
    usual = IFF_UP | IFF_MULTICAST
    data = (
        address_message(RTM_DELADDR, 4)
        + link_message(4, usual)
        + address_message(RTM_NEWMADDR, 4)
        + link_message(4, usual | IFF_RUNNING)
        + address_message(RTM_NEWADDR, 4)
    )
    assert list(read_messages_untrusted(data)) == [
        LinkSeen(4, has_carrier=False),
        LinkSeen(4, has_carrier=True),
    ]


def test_a_message_that_is_cut_does_not_hide_those_before_it() -> None:
    data = link_message(4, IFF_RUNNING)
    for length in range(13):
        found = list(read_messages_untrusted(data + data[:length]))
        assert found == [LinkSeen(4, has_carrier=True)]
