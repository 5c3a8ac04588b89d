"""Whatever anybody sends, the doctor goes on, in time, and blames nobody without a reason."""

from __future__ import annotations

import random
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from doctor.consulting import BOTH, GROUP4, GROUP6, codes, consult, errors, sending, the, warnings
from doctor.frames import FrameTalker, datagram, ethernet, fragments, ipv4, udp
from namespaces.network import Card, Host, Network, wait_until

import trio_mcast
from trio_mcast import Finding
from trio_mcast._base.snapshot import Route
from trio_mcast._machine.inspector_linux import LinuxInspector

SOURCE4, SOURCE6 = "10.77.1.9", "fd77:0:0:1::9"
for_both = pytest.mark.parametrize("group", BOTH)


def text_of(findings: tuple[Finding, ...]) -> str:
    return "\n".join(
        line for f in findings for line in (f.code, f.summary, *f.evidence, f.remedy, f.reference)
    )


# --- Any bytes ------------------------------------------------------------------------------------


@for_both
def test_frames_that_are_cut_or_lie_do_not_end_the_doctor(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    source = SOURCE4 if group == GROUP4 else SOURCE6
    whole = datagram(source, group, udp_port)
    cut = [whole[:end] for end in range(1, len(whole))]
    lies = [
        whole[:at] + bytes([value]) + whole[at + 1 :]
        for at in range(12 if group == GROUP4 else 8)
        for value in (0, 1, 0x41, 0x4F, 0x6F, 0xFF)
    ]
    hostile = FrameTalker(there, map(ethernet, cut + lies), at_once=40)
    with sending(hostile, there.talker(group, udp_port)):  # type: ignore[arg-type]
        found = consult(here.host, "root", group, port=udp_port)
    assert errors(found) == []
    assert "datagrams-arrive" in codes(found)


# --- Any number -----------------------------------------------------------------------------------


def random_sources(group: str, port: int, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(4000):
        if group == GROUP4:
            source = f"11.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
        else:
            source = f"2001:db8::{chance.randrange(1 << 16):x}:{chance.randrange(1 << 16):x}"
        yield ethernet(datagram(source, group, port))


@contextmanager
def noticing_routes_asked_for(notice: Callable[[], None]) -> Iterator[None]:
    find_route = LinuxInspector.find_route

    def noticed(*arguments: Any) -> Route:
        notice()
        return find_route(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinuxInspector, "find_route", noticed)
        yield


def nothing(_: Card) -> None: ...


def filter_strictly(here: Card) -> None:
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 1)


@pytest.mark.parametrize(
    ("group", "make", "right_port"),
    [
        (GROUP4, nothing, True),
        (GROUP6, nothing, True),
        (GROUP4, nothing, False),
        (GROUP4, filter_strictly, True),
    ],
)
def test_random_sources_cost_neither_time_nor_text(
    here: Card,
    there: Card,
    udp_port: int,
    group: str,
    make: Callable[[Card], None],
    right_port: bool,
) -> None:
    """As many as the wire takes. How many routes are asked for is what would take the time."""
    make(here)
    port = udp_port if right_port else udp_port - 1
    asked = 0

    async def main() -> tuple[Finding, ...]:
        nonlocal asked

        def count() -> None:
            nonlocal asked
            asked += 1

        with noticing_routes_asked_for(count):
            return await trio_mcast.diagnose(group, port=udp_port, watch=0.5)

    flood = FrameTalker(there, list(random_sources(group, port, 1)), at_once=60)
    with sending(flood):  # type: ignore[arg-type]
        found = here.host.run(main)
    assert 0 < asked <= 256
    assert len(text_of(found)) < 100_000
    if make is filter_strictly:
        assert set(errors(found)) == {"source-unroutable"}
        assert "more findings like this" in text_of(found)
    elif right_port:
        assert errors(found) == []
        heard = the("datagrams-arrive", found)
        assert "from senders beyond the first" in heard.evidence[0]
    else:
        assert errors(found) == ["port-mismatch"]


def test_who_was_named_is_heard_among_random_sources(
    here: Card, there: Card, udp_port: int
) -> None:
    flood = FrameTalker(there, list(random_sources(GROUP4, udp_port, 2)), at_once=60)
    with sending(flood):  # type: ignore[arg-type]
        found = consult(here.host, "root", GROUP4, port=udp_port, source=there.ipv4)
        assert errors(found) == ["source-filtered"]
        with sending(there.talker(GROUP4, udp_port)):
            found = consult(here.host, "root", GROUP4, port=udp_port, source=there.ipv4)
    assert errors(found) == []
    assert f"from {there.ipv4} " in the("datagrams-arrive", found).evidence[0]


def test_random_queriers_are_bounded_as_well(here: Card, there: Card, udp_port: int) -> None:
    query = struct.pack("!BBH4sBBH", 0x11, 100, 0xEC1E, bytes(4), 0, 125, 0)
    queriers = [
        ethernet(ipv4(f"11.0.{i >> 8}.{i & 255}", "224.0.0.1", query, protocol=2))
        for i in range(1, 2000)
    ]
    filter_strictly(here)
    with sending(FrameTalker(there, queriers, at_once=60)):  # type: ignore[arg-type]
        found = consult(here.host, "root", GROUP4, port=udp_port)
    assert "source-unroutable" in errors(found)
    assert len(text_of(found)) < 100_000


def test_the_doctor_can_be_interrupted_while_it_asks_for_routes(
    here: Card, there: Card, udp_port: int
) -> None:
    """Names of senders are the asker's own, so their number is not limited."""
    names = [f"11.0.{i >> 8}.{i & 255}" for i in range(1, 2000)]
    asked = 0

    async def main() -> None:
        def interrupt() -> None:
            nonlocal asked
            asked += 1
            scope.cancel()

        with noticing_routes_asked_for(interrupt), trio.CancelScope() as scope:
            await trio_mcast.diagnose(GROUP4, port=udp_port, source=names, watch=0.01)

    here.host.run(main)
    assert asked == 1


# --- No firewall where there is none --------------------------------------------------------------


def cut_in_fragments(port: int) -> list[bytes]:
    """Of each datagram the second fragment is missing."""
    whole = ipv4(SOURCE4, GROUP4, udp(SOURCE4, GROUP4, port, bytes(4000)))
    return [ethernet(fragment) for fragment in fragments(whole)[::2]]


def of4(port: int, **of_udp: Any) -> bytes:
    return datagram(SOURCE4, GROUP4, port, **of_udp)


@pytest.mark.parametrize(
    ("group", "make", "word"),
    [
        (GROUP4, lambda port: [ethernet(of4(port), vlan=5)], "VLAN 5"),
        (GROUP4, lambda port: [ethernet(of4(port), to=b"\x02\0\0\0\0\x55")], "another host"),
        (
            GROUP4,
            lambda port: [ethernet(ipv4(SOURCE4, GROUP4, udp(SOURCE4, GROUP4, port), spoil=1))],
            "checksum of its IP header",
        ),
        (GROUP4, lambda port: [ethernet(of4(port, length=30))], "UDP header"),
        (
            GROUP6,
            lambda port: [ethernet(datagram(SOURCE6, GROUP6, port, has_checksum=False))],
            "no UDP checksum",
        ),
        (GROUP4, cut_in_fragments, "fragments came in"),
        (GROUP4, lambda port: [ethernet(datagram("239.9.9.9", GROUP4, port))], "239.9.9.9"),
        (GROUP6, lambda port: [ethernet(datagram("::1", GROUP6, port))], "::1"),
    ],
)
def test_what_the_kernel_drops_by_itself_is_not_laid_at_a_firewalls_door(
    here: Card,
    there: Card,
    udp_port: int,
    group: str,
    make: Callable[[int], list[bytes]],
    word: str,
) -> None:
    with sending(FrameTalker(there, make(udp_port))):  # type: ignore[arg-type]
        found = consult(here.host, "root", group, port=udp_port)
    assert errors(found) == ["datagrams-lost"]
    assert word in the("datagrams-lost", found).summary
    assert "nothing-sent" not in codes(found)


@for_both
def test_where_no_rule_is_to_be_seen_the_cause_is_not_known(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    """An IPsec policy is none of what the doctor knows of."""
    anyone = "0.0.0.0/0" if group == GROUP4 else "::/0"
    try:
        here.host.ip(f"xfrm policy add dir in src {anyone} dst {group} proto udp action block")
    except AssertionError as error:
        pytest.skip(f"this kernel has no such policies: {error}")
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, "root", group, port=udp_port)
    assert "firewall-drop" not in codes(found)
    lost = the("datagrams-lost", found)
    assert lost.severity == "error"
    assert "not known" in lost.summary
    assert "tcpdump" in lost.remedy
    assert any(line.startswith("seen on the wire: ") for line in lost.evidence)


def test_what_comes_in_where_it_cannot_be_joined_is_no_firewall_s_fault(
    network: Network, here: Card, there: Card, udp_port: int
) -> None:
    _, sender = network.link(here.host, "eth1", there.host, "eth1")
    here.host.sysctl("net.ipv6.conf.eth1.disable_ipv6", 1)
    with sending(sender.talker(GROUP6, udp_port)):
        found = consult(here.host, "root", GROUP6, port=udp_port)
    assert errors(found) == ["datagrams-lost"]
    assert "on eth1, where it cannot be joined" in the("datagrams-lost", found).summary


@pytest.mark.parametrize(
    ("group", "program"), [(GROUP4, "iptables-legacy"), (GROUP6, "ip6tables-legacy")]
)
def test_a_firewall_of_before_nftables_is_seen(
    here: Card, there: Card, udp_port: int, group: str, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    try:
        rule = f"{program} -A INPUT -p udp --dport {udp_port} -j DROP"
        here.host.command(*rule.split())
    except AssertionError as error:
        pytest.skip(f"this kernel has no such tables: {error}")
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, "root", group, port=udp_port)
        assert errors(found) == ["firewall-drop"]
        here.host.command(*the("firewall-drop", found).remedy.split()[1:])
        assert errors(consult(here.host, "root", group, port=udp_port)) == []


# --- What looks odd and is right ------------------------------------------------------------------


@for_both
@pytest.mark.parametrize("size", [0, 1473, 20_000])
def test_datagrams_of_any_size_have_no_flaw(
    here: Card, there: Card, udp_port: int, group: str, size: int
) -> None:
    with sending(Sized(there, group, udp_port, size)):  # type: ignore[arg-type]
        found = consult(here.host, "root", group, port=udp_port)
    assert errors(found) == warnings(found) == []


class Sized:
    """Sends datagrams of one size, or many in one (UDP_SEGMENT), merged while on their way."""

    def __init__(self, card: Card, group: str, port: int, size: int) -> None:
        self._talker = card.talker(group, port)
        self._size = size
        if size > 10_000:
            udp_segment = 103  # linux/udp.h
            self._talker.socket.setsockopt(socket.IPPROTO_UDP, udp_segment, 1000)

    def send(self, _: bytes) -> None:
        self._talker.send(bytes(self._size))


@for_both
def test_an_interface_that_takes_a_vlan_hears_it(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    add_vlan(here.host, "10.77.5.1/24", "fd77:0:0:5::1/64")
    source = "10.77.5.9" if group == GROUP4 else "fd77:0:0:5::9"
    with sending(FrameTalker(there, [ethernet(datagram(source, group, udp_port), vlan=5)])):  # type: ignore[arg-type]
        found = consult(here.host, "root", group, port=udp_port)
        assert errors(found) == []
        assert "on eth0.5" in the("datagrams-arrive", found).summary
        found = consult(here.host, "root", group, port=udp_port, interface="eth0")
    assert "wrong-interface" in errors(found)
    assert "arrives on eth0.5, " in the("wrong-interface", found).summary


def add_vlan(host: Host, *addresses: str) -> None:
    try:
        host.ip("link add link eth0 name eth0.5 type vlan id 5", "link set eth0.5 up")
    except AssertionError as error:
        pytest.skip(f"this kernel has no VLANs: {error}")
    host.ip(*(f"addr add {a} dev eth0.5" + " nodad" * (":" in a) for a in addresses))
    wait_until(lambda: "tentative" not in host.ip("addr show dev eth0.5"), "eth0.5 is ready")
