"""Every byte vector that compiled C programs printed, or headers spell out, is what we pack."""

import json
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import (
    pack_group_req,
    pack_group_source_req,
    pack_index_as_address,
    pack_ip_mreq,
    pack_ip_mreqn,
    pack_ipv6_mreq,
)
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.windows import WINDOWS

if sys.byteorder != "little":
    pytest.skip("the vectors are those of little-endian processors", allow_module_level=True)

DATA = json.loads((Path(__file__).parents[1] / "data" / "constants.json").read_text())
INPUTS = DATA["test_vectors"]["inputs"]

PLATFORMS = {
    "linux_lp64": LINUX,
    "linux_ilp32": LINUX_32BIT,
    "darwin": MACOS,
    "win32": WINDOWS,
}

GROUP4 = IPv4Address(INPUTS["group4"])
SOURCE4 = IPv4Address(INPUTS["source4"])
ADDRESS4 = IPv4Address(INPUTS["ifaddr4"]).packed
GROUP6 = IPv6Address(INPUTS["group6"])
SOURCE6 = IPv6Address(INPUTS["source6"])
INDEX = INPUTS["ifindex"]

PACKERS: dict[str, Callable[[Platform], bytes]] = {
    "ip_mreq": lambda p: pack_ip_mreq(GROUP4, ADDRESS4),
    "ip_mreq_by_index": lambda p: pack_ip_mreq(GROUP4, pack_index_as_address(INDEX)),
    "ip_mreqn_ifindex": lambda p: pack_ip_mreqn(INDEX, group=GROUP4),
    "ip_mreqn_multicast_if": lambda p: pack_ip_mreqn(INDEX),
    "ipv6_mreq": lambda p: pack_ipv6_mreq(GROUP6, INDEX),
    "group_req_v4": lambda p: pack_group_req(p, INDEX, GROUP4),
    "group_req_v6": lambda p: pack_group_req(p, INDEX, GROUP6),
    "group_source_req_v4": lambda p: pack_group_source_req(p, INDEX, GROUP4, SOURCE4),
    "group_source_req_v6": lambda p: pack_group_source_req(p, INDEX, GROUP6, SOURCE6),
    "IP_MULTICAST_IF_by_index": lambda p: pack_index_as_address(INDEX),
    "IP_MULTICAST_IF_by_index_4byte": lambda p: pack_index_as_address(INDEX),
}

# Joins with a source go by MCAST_JOIN_SOURCE_GROUP, which takes the interface by its index.
NOT_USED = {"ip_mreq_source", "ip_mreq_source_by_index"}

VECTORS = [
    pytest.param(platform, name, expected, id=f"{system}-{name}")
    for system, platform in PLATFORMS.items()
    for name, expected in DATA["test_vectors"][system].items()
    if name not in NOT_USED
]


@pytest.mark.parametrize(("platform", "name", "expected"), VECTORS)
def test_packs_the_vector(platform: Platform, name: str, expected: str) -> None:
    assert PACKERS[name](platform).hex() == expected


def test_every_system_with_vectors_is_tried() -> None:
    assert set(DATA["test_vectors"]) == {"inputs", *PLATFORMS}
