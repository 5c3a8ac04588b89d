"""What the kernel tells in netlink messages: recorded ones, garbage, and beside `ip`."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, strategies as st

if sys.platform != "linux":
    pytest.skip("netlink is Linux'", allow_module_level=True)

from trio_mcast._interfaces.following import AddressSeen, LinkGone, LinkSeen
from trio_mcast._machine import netlink
from trio_mcast._machine.changes_netlink import _read_events
from trio_mcast._machine.netlink import (
    Link,
    Message,
    find_outgoing_interface,
    list_links,
    read_address,
    read_attributes,
    read_link,
    read_messages,
)
from trio_mcast._plan.options import pack_name

# What Linux 6.18 announced when veth1 (index 7) and its peer veth2 (8) were made and switched on,
# veth1 got an IPv4 address, then an MTU too small for IPv6, and was deleted.
RECORDED = zlib.decompress(
    bytes.fromhex(
        "78daed9bcd6a135114c7fff74e2699c46a53a9280a7ea0f8818bb6b188d45a13ab5bd1955dba3045105a85b4"
        "1b37b374e1a2e00b146a70537c86e0da07e8c2071017ae2cb831e339772e7432cc4493b669329c13d233f7eb"
        "cc9d99737fe7f432d9718132a2a2e0d15f4d950149090ed6eb8d9715aaf3701cdf1dc0a5111aac27cc08178b"
        "467bc8e19bcbba8287a67c8b6cb03e67dbcf5b7dcfea0bc68e87ebb6df0d7bfe39abef5b5db5fa2e7e0705d2"
        "f3b6ff036be7a29dcf255bbe4cbd594fd9f2b429e7cdac583fb2f3be6674895a3f2fef7ef8d4e0636dae9bed"
        "7fc56964455ea070e8e718c34dbaa7da1c97711245baafec3be133704d7d91eefecaeaea6b3e9e76cee23df5"
        "7f679e4ed4033bbf88e8fd4a991e39fb705cd8fea62ed13cc3334dd27cd90766df7a58aa86637ed96b636f64"
        "3f8fcf93bd66737ccfbe3f5784ff54818b4b7a6f9d45c73cff913e5795306f95d29e747ffc9fb7bbb61bc985"
        "8aaf95e71fef37ab1c5c85482f324f3edeef6a9b4c18e91a22035770e29fe37358f073a8f93b095c2f24707d"
        "26e35c5fdf6a6e3cfb225c3f4cae7b23caf58f4de1ba4836b8ee94435f48e3ba235c17aef7c1f531c3f5376b"
        "f5b5ba705db82e5c1f20d73dc375d5c1f5ca88705d59ae6bcb7525fb3043c3f5c288725df66144b2c2f5c5b2"
        "b2cc4be67a5eb82e5ccf2ed77de1ba703d8bfb3071aecf649cebb20f23fb30695c977d189151e3fa13630b98"
        "aa39af161e03fa8c6f2cb37fb7a09547beccba93ef1e7c332e6f191804ecfffc3de838c1ed1227244e489c90"
        "382171e268e3c4a9487da9dafa5330f615da7e58d7d86a066da25e525ce04fcb9cfb98f1df3b4efafb3ab52e"
        "71420f699c808d134e2c4e688913471e27108b131b18ae387110fbabf175336aef2ff7ba6e647f75f0eb46f6"
        "5725bf92fc6a70f99517cbafb69777833651ef7ff2abb8bdfdfe5fbf4deb6122255febe7fd6ac9d724ee748b"
        "3bd1f7ab7394aff5b296927c350bbff1921c297bbefa17fc59cbac"
    )
)
NEWLINK_VETH = RECORDED[:1496]

on_this_network = pytest.mark.skipif(shutil.which("ip") is None, reason="`ip` is not installed")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link_body(*attributes: bytes, index: int = 7, flags: int = 0, family: int = 0) -> bytes:
    return struct.pack("=BxHiII", family, 1, index, flags, 0) + b"".join(attributes)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


# --- Taking apart ------------------------------------------------------------------------------


def test_recorded_announcements_of_links_are_read() -> None:
    links = [
        (kind, link.index, link.name, link.mtu, link.has_carrier, link.carrier_changes)
        for kind, body, _flags in read_messages(RECORDED)
        if kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK) and (link := read_link(body))
    ]
    new, gone = netlink.RTM_NEWLINK, netlink.RTM_DELLINK
    assert links == [
        (new, 8, "veth2", 1500, False, 1),
        (new, 7, "veth1", 1500, False, 1),
        (new, 7, "veth1", 1500, False, 1),
        (new, 8, "veth2", 1500, True, 2),
        (new, 8, "veth2", 1500, True, 2),
        (new, 7, "veth1", 1500, True, 2),
        (new, 7, "veth1", 1000, True, 2),
        (new, 7, "veth1", 1000, False, 3),
        (new, 8, "veth2", 1500, False, 3),
        (gone, 7, "veth1", 1000, False, 3),
        (gone, 8, "veth2", 1500, False, 3),
    ]


def test_recorded_announcements_of_addresses_are_read() -> None:
    addresses = [
        (kind, read_address(body))
        for kind, body, _flags in read_messages(RECORDED)
        if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR)
    ]
    new, gone = netlink.RTM_NEWADDR, netlink.RTM_DELADDR
    assert addresses == [(new, (4, 7)), (gone, (6, 7)), (gone, (6, 8)), (gone, (4, 7))]


def test_recorded_announcements_become_events() -> None:
    """A link whose MTU gets too small for IPv6 is announced while IPv6 has still a state for it."""
    events = list(_read_events(RECORDED))
    seen = [event for event in events if isinstance(event, LinkSeen)]
    assert len({(event.index, event.identity) for event in seen}) == 2, "one address each"
    assert all(len(event.identity or "") == 6 for event in seen)
    assert [replace(e, identity=None) if e in seen else e for e in events] == [
        LinkSeen(8, False, 1),
        LinkSeen(7, False, 1),
        LinkSeen(7, False, 1),
        LinkSeen(8, True, 2),
        LinkSeen(8, True, 2),
        LinkSeen(7, True, 2),
        AddressSeen(7, 4),
        LinkSeen(7, True, 2, lost_ipv6=True),
        AddressSeen(7, 6),
        LinkSeen(7, False, 3, lost_ipv6=True),
        LinkSeen(8, False, 3),
        AddressSeen(8, 6),
        AddressSeen(7, 4),
        LinkGone(7),
        LinkGone(8),
    ]


def test_each_message_of_a_datagram_is_read_in_order() -> None:
    bodies = [b"", b"x", b"four", b"fives"]
    data = b"".join(message(kind, body) for kind, body in enumerate(bodies))
    assert list(read_messages(data)) == [Message(kind, body) for kind, body in enumerate(bodies)]


def test_attributes_are_told_by_number_without_their_flags() -> None:
    nested, in_network_order = 0x8000, 0x4000  # NLA_F_NESTED, NLA_F_NET_BYTEORDER
    data = (
        attribute(3, b"abc") + attribute(26 | nested, b"") + attribute(9 | in_network_order, b"x")
    )
    assert read_attributes(data) == {3: b"abc", 26: b"", 9: b"x"}


@pytest.mark.parametrize("length", [0, 1, 3])
def test_an_impossible_length_ends_the_reading(length: int) -> None:
    data = attribute(1, b"good") + struct.pack("=HH", length, 2) + attribute(3, b"lost")
    assert read_attributes(data) == {1: b"good"}
    header = struct.pack("=IHHII", length, 2, 0, 0, 0)
    assert list(read_messages(message(1, b"") + header + message(3, b""))) == [Message(1, b"")]


@given(st.binary(max_size=300))
def test_any_bytes_can_be_taken_apart(data: bytes) -> None:
    messages = list(read_messages(data))
    assert len(messages) <= len(data) // 16
    assert sum(len(body) for _kind, body, _flags in messages) <= len(data)
    attributes = read_attributes(data)
    assert len(attributes) <= len(data) // 4
    assert all(value in data for value in attributes.values())


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=20)), max_size=8))
def test_what_was_put_together_is_taken_apart(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in parts)
    assert read_attributes(data) == dict(parts)


mutations = st.lists(
    st.tuples(st.integers(32, len(NEWLINK_VETH) - 1), st.integers(0, 255)), max_size=8
)


@given(mutations, st.integers(32, len(NEWLINK_VETH)))
def test_a_damaged_announcement_is_still_about_its_interface(
    mutations: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(NEWLINK_VETH)
    for position, value in mutations:
        data[position] = value
    link = read_link(bytes(data[16:length]))
    assert link is not None
    assert link.index == 8


# --- What it means -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET6, 7])  # 7: AF_BRIDGE, linux/socket.h
def test_a_message_about_something_else_than_the_interface_is_none(family: int) -> None:
    assert read_link(link_body(family=family)) is None


def inet6(*attributes: bytes) -> bytes:
    return attribute(netlink.IFLA_AF_SPEC, attribute(socket.AF_INET6, b"".join(attributes)))


def settings(disable_ipv6: int) -> bytes:
    values = [1] * 60
    values[netlink.DEVCONF_DISABLE_IPV6] = disable_ipv6
    return attribute(netlink.IFLA_INET6_CONF, struct.pack("=60i", *values))


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ([], "absent"),
        ([attribute(netlink.IFLA_AF_SPEC, attribute(socket.AF_INET, b""))], "absent"),
        ([inet6()], "on"),
        ([inet6(settings(0))], "on"),
        ([inet6(settings(1))], "disabled"),
    ],
)
def test_the_state_of_ipv6_is_read(attributes: list[bytes], state: str) -> None:
    link = read_link(link_body(*attributes))
    assert link is not None
    assert link.ipv6 == state


@pytest.mark.parametrize(("flags", "has_carrier"), [(0, False), (0x10000, True), (0x1, False)])
def test_the_carrier_is_a_flag(flags: int, has_carrier: bool) -> None:
    link = read_link(link_body(flags=flags))
    assert link is not None
    assert link.has_carrier is has_carrier


def test_what_is_not_told_is_empty_or_none() -> None:
    assert read_link(link_body(index=3)) == Link(3, "", 0, 0, False, None, "absent", "", b"")


def test_a_name_may_be_any_bytes_and_comes_back_as_it_was() -> None:
    raw = b"\xff\xfe\xe9"
    link = read_link(link_body(attribute(netlink.IFLA_IFNAME, raw + b"\0")))
    assert link is not None
    assert pack_name(link.name) == raw + b"\0"


@pytest.mark.parametrize(
    ("family", "expected"), [(socket.AF_INET, (4, 9)), (socket.AF_INET6, (6, 9)), (7, None)]
)
def test_an_announced_address_is_told_by_version_and_interface(family: int, expected: Any) -> None:
    assert read_address(struct.pack("=BBBBI", family, 24, 0, 0, 9)) == expected


# --- Asking the kernel -------------------------------------------------------------------------


def ip_links() -> list[dict[str, Any]]:
    answer = subprocess.run(
        ["ip", "-json", "-details", "link"], check=True, capture_output=True, text=True
    )
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return [link for link in found if link]


@on_this_network
def test_links_are_what_ip_shows() -> None:
    ours = {
        (link.index, link.name): (
            link.mtu,
            bool(link.flags & 0x1),
            bool(link.flags & 0x8),
            bool(link.flags & 0x1000),
            link.has_carrier,
            link.queueing,
        )
        for link in list_links()
    }
    theirs = {
        (link["ifindex"], link["ifname"]): (
            link["mtu"],
            "UP" in link["flags"],
            "LOOPBACK" in link["flags"],
            "MULTICAST" in link["flags"],
            "LOWER_UP" in link["flags"],
            link["qdisc"],
        )
        for link in ip_links()
    }
    assert ours == theirs


def test_this_host_is_reached_by_the_loopback_interface() -> None:
    assert find_outgoing_interface(ip_address("127.0.0.1")) == socket.if_nametoindex("lo")


class Kernel:
    """Answers what a test says."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = iter(answers)
        self.asked: list[bytes] = []
        self.is_closed = False

    def __call__(self, *_arguments: Any) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.is_closed = True

    def send(self, data: bytes) -> None:
        self.asked.append(data)

    def recv(self, _size: int) -> bytes:
        return next(self._answers)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def answer(*answers: bytes) -> Kernel:
        kernel = Kernel(*answers)
        monkeypatch.setattr(socket, "socket", kernel)
        return kernel

    yield answer
    monkeypatch.undo()


DONE = message(netlink.NLMSG_DONE, bytes(4))


def test_an_answer_in_several_datagrams_is_read_to_its_end(answering: Any) -> None:
    links = [message(netlink.RTM_NEWLINK, link_body(index=n)) for n in range(1, 6)]
    other = message(netlink.RTM_NEWADDR, bytes(8))
    kernel = answering(links[0] + links[1], links[2], other + links[3] + links[4] + DONE)
    assert [link.index for link in list_links()] == [1, 2, 3, 4, 5]
    assert kernel.is_closed


def test_what_is_about_the_port_of_a_bridge_is_no_interface(answering: Any) -> None:
    answering(message(netlink.RTM_NEWLINK, link_body(family=7)) + DONE)
    assert list_links() == []


def test_a_refusal_of_the_kernel_is_an_error(answering: Any) -> None:
    refusal = struct.pack("=i", -errno.EPERM) + bytes(16)
    kernel = answering(message(netlink.NLMSG_ERROR, refusal))
    with pytest.raises(PermissionError):
        list_links()
    assert kernel.is_closed
    answering(message(netlink.NLMSG_ERROR, refusal))
    with pytest.raises(PermissionError):
        find_outgoing_interface(ip_address("192.0.2.1"))


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL])
def test_no_route_is_no_interface(answering: Any, number: int) -> None:
    answering(message(netlink.NLMSG_ERROR, struct.pack("=i", -number) + bytes(16)))
    assert find_outgoing_interface(ip_address("192.0.2.1")) is None
