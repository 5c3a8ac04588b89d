"""What tests of plans write out by hand: addresses and structures as bytes, calls as tuples.

The numbers in them are those of little-endian processors. On others `test_options` compares with
ctypes all the same.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from trio_mcast._base.interface import Interface
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import SocketOption
from trio_mcast._plan.windows import WINDOWS

if sys.byteorder != "little":
    pytest.skip("the bytes are those of little-endian processors", allow_module_level=True)

PLATFORMS = [LINUX, LINUX_32BIT, MACOS, WINDOWS]

ETH0 = Interface(
    name="eth0",
    index=2,
    friendly_name="eth0",
    addresses=(ip_interface("192.0.2.10/24"), ip_interface("fe80::1/64")),
    is_up=True,
    is_loopback=False,
    supports_multicast=True,
    mtu=1500,
)
ETHERNET = replace(ETH0, name="{4D36E972-E325}", friendly_name="Ethernet 2", index=12)
NO_IPV4 = replace(ETH0, addresses=(ip_interface("fe80::1/64"),))

# A call of setsockopt: level, option, value in hexadecimal, label.
Call = tuple[int, int, str, str]

ONE = "01000000"
ZERO = "00000000"
FOUR_MIB = "00004000"


def storage(sockaddr: str) -> str:
    """A sockaddr in its 128 bytes."""
    return sockaddr.replace(" ", "").ljust(256, "0")


GROUP4 = "239.1.2.3"
SSM4 = "232.1.2.3"
GROUP6 = "ff15::1234"
SSM6 = "ff35::8000:1"

INDEX = "02000000"
PAD = "00000000"
LE_GROUP4 = storage("0200 0000 ef010203")
LE_SSM4 = storage("0200 0000 e8010203")
LE_SOURCE4 = storage("0200 0000 c6336407")  # 198.51.100.7
LE_OTHER4 = storage("0200 0000 c6336408")
BSD_GROUP4 = storage("1002 0000 ef010203")
BSD_SSM4 = storage("1002 0000 e8010203")
BSD_SOURCE4 = storage("1002 0000 c6336407")
BSD_OTHER4 = storage("1002 0000 c6336408")

IP6_GROUP = "ff15" + 24 * "0" + "1234"
IP6_SSM = "ff35" + 20 * "0" + "80000001"
IP6_SOURCE = "20010db8" + 23 * "0" + "7"


def v6(head: str, address: str) -> str:
    return storage(f"{head} 0000 00000000 {address} 00000000")


SOURCES4 = ["198.51.100.7", "198.51.100.8"]
SOURCE6 = "2001:db8::7"


def calls(options: tuple[SocketOption, ...]) -> list[Call]:
    return [(o.level, o.option, o.value.hex(), o.label) for o in options]


def labels(options: tuple[SocketOption, ...]) -> list[str]:
    return [option.label for option in options]
