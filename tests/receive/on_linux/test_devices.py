"""Interfaces that are no cables: VLANs, bonds, VRFs, tunnels. `nox -s kernels` has them all."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
import trio
from namespaces.devices import add_device, add_link, need_program
from namespaces.network import Card, Host, Network, wait_until, wait_until_async
from namespaces.receiving import BOTH, GROUP4, collect, everything
from patience import LONG, PATIENCE, SOON

import trio_mcast

each_group = pytest.mark.parametrize("group", BOTH)


async def hears(receiver: trio_mcast.MulticastReceiver, data: bytes) -> trio_mcast.Datagram:
    """The next datagram, which must be this one."""
    with trio.fail_after(PATIENCE):
        datagram = await receiver.receive()
    assert datagram.data == data
    return datagram


# --- VLANs ----------------------------------------------------------------------------------------


def add_vlan(card: Card, number: int) -> Card:
    """A VLAN named ``eth0.5``, with addresses of its own."""
    own = 1 if card.ipv4.endswith(".1") else 2
    return add_device(
        card.host,
        f"vlan{number}",
        f"vlan id {number}",
        above=card,
        ipv4=f"10.88.{number}.{own}",
        ipv6=f"fd88:0:0:{number:x}::{own}",
    )


@each_group
def test_a_group_on_a_vlan_and_the_same_on_the_bare_device_are_two(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    five, six = add_vlan(here, 5), add_vlan(here, 6)
    there_on_five, there_on_six = add_vlan(there, 5), add_vlan(there, 6)

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces=["eth0", "vlan5"]
        ) as receiver:
            there_on_six.talker(group, udp_port).send(b"for nobody")
            there_on_five.talker(group, udp_port).send(b"tagged")
            assert (await hears(receiver, b"tagged")).interface.name == "vlan5"
            there.talker(group, udp_port).send(b"bare")
            assert (await hears(receiver, b"bare")).interface.name == "eth0"
            assert await everything(receiver) == []
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            names = {membership.interface.name for membership in receiver.memberships()}
            assert names >= {"eth0", five.name, six.name}

    here.host.run(main)


@each_group
def test_what_is_sent_by_a_vlan_is_tagged_and_comes_there_alone(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    add_vlan(here, 5)
    listeners = {"eth0": there, "vlan5": add_vlan(there, 5), "vlan6": add_vlan(there, 6)}
    sockets = {name: card.listener(group, udp_port) for name, card in listeners.items()}

    async def main() -> None:
        for name in ("vlan5", "eth0"):
            async with trio_mcast.open_sender(group, port=udp_port, interface=name) as sender:
                await sender.send(name.encode())
        assert sockets["vlan5"].receive_data() == b"vlan5"
        assert sockets["eth0"].receive_data() == b"eth0"
        sockets["vlan6"].socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            sockets["vlan6"].receive()

    here.host.run(main)


@each_group
def test_a_vlan_is_followed_when_what_it_sends_through_goes_down(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    add_vlan(here, 5)
    talker = add_vlan(there, 5).talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="vlan5") as receiver:
            here.host.ip("link set eth0 down")

            def state() -> str:
                return receiver.memberships()[0].state

            await wait_until_async(lambda: state() == "waiting", "the VLAN is down, too")
            here.host.ip("link set eth0 up", "link set vlan5 up")
            await wait_until_async(lambda: state() == "joined", "it is heard again")
            wait_until(there._is_running, "the cable carries again")
            talker.send(b"after")
            await hears(receiver, b"after")

    here.host.run(main)


# --- Several cables as one ------------------------------------------------------------------------


def bundle(network: Network, kind: str) -> tuple[Host, Card, Card]:
    """A host with two cables to one switch, which are one for it. Returns it, that, and another's.

    The switch forwards to those alone who have joined, and forgets a port that loses its carrier.
    """
    switch = network.switch(snooping=True, querier=True)
    host, other = network.host("bundled"), network.host("other")
    for name in ("eth0", "eth1"):
        switch.plug(host, name, ipv4=False, ipv6=False)
    talker = switch.plug(other)
    host.ip("link set eth0 down", "link set eth1 down")
    card = Card(host, "all0", "10.77.1.200", "fd77:0:0:1::200")
    if kind == "team":
        need_program("teamd", "libteam-utils")
        add_device(host, "probe0", "team").delete()
        runner = '{"runner": {"name": "activebackup"}, "link_watch": {"name": "ethtool"}}'
        host.program("teamd", "--team-dev", card.name, "--config", runner)
        wait_until(lambda: card.name in host.ip("-br link"), "teamd has made the interface")
    else:
        add_link(host, card.name, "bond mode active-backup miimon 20")
    host.ip("link set eth0 master all0", "link set eth1 master all0")
    host.ip("link set eth0 up", "link set eth1 up")
    card.configure()
    card.wait_until_ready()
    return host, card, talker


@pytest.mark.parametrize("kind", ["bond", "team"])
@each_group
def test_what_is_lost_when_the_cable_fails_is_no_more_than_was_on_it(
    network: Network, udp_port: int, kind: str, group: str
) -> None:
    """The other cable takes over, and nothing is lost that has come as far as this host."""
    host, _card, other = bundle(network, kind)
    talker = other.talker(group, udp_port)
    numbers = itertools.count()

    async def main() -> None:
        heard: list[int] = []

        async def listen(receiver: trio_mcast.MulticastReceiver) -> None:
            async for datagram in receiver:
                assert datagram.interface.name == "all0"
                heard.append(int(datagram.data))

        async def talk_until_heard() -> int:
            """Returns the first number that was heard of those sent from now on."""
            first = next(numbers)
            with trio.fail_after(LONG):
                while not heard or heard[-1] < first:
                    talker.send(b"%d" % next(numbers))
                    await trio.sleep(0.002)
            return min(number for number in heard if number >= first)

        async with (
            trio_mcast.open_receiver(group, port=udp_port) as receiver,
            trio.open_nursery() as nursery,
        ):
            assert [m.interface.name for m in receiver.memberships()] == ["all0"]
            nursery.start_soon(listen, receiver)
            await talk_until_heard()
            active = find_active(host, kind)
            before = next(numbers)
            host.ip(f"link set {active} down")
            after = await talk_until_heard()
            assert find_active(host, kind) != active
            # Later ones come all, in order and once: what is missing is one gap.
            last = next(numbers) - 1
            await wait_until_async(lambda: heard[-1] == last, "the last one is heard")
            assert [number for number in heard if number >= after] == list(range(after, last + 1))
            assert heard == sorted(set(heard))
            assert [m.state for m in receiver.memberships()] == ["joined"]
            statistics = receiver.statistics()
            assert statistics.datagrams_received == len(heard)
            assert statistics.dropped_by_kernel == statistics.dropped_by_overflow == 0
            assert before < after
            nursery.cancel_scope.cancel()

    host.run(main)


def find_active(host: Host, kind: str) -> str:
    """Which of the two cables is in use."""
    if kind == "team":
        return host.command(
            "teamdctl", "all0", "state", "item", "get", "runner.active_port"
        ).strip()
    (line,) = (line for line in host.read("bonding/all0").splitlines() if "Currently" in line)
    return line.rpartition(" ")[2]


@pytest.mark.parametrize("kind", ["bond", "team"])
def test_one_of_several_cables_that_are_one_is_neither_heard_nor_sent_by(
    network: Network, udp_port: int, kind: str
) -> None:
    host, _card, other = bundle(network, kind)
    listener = other.listener(GROUP4, udp_port)

    async def main() -> None:
        masters = {i.name: i.master for i in trio_mcast.list_interfaces()}
        assert masters == {"lo": None, "eth0": "all0", "eth1": "all0", "all0": None}
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interfaces="all") as sender:
            assert [interface.name for interface in sender.interfaces] == ["all0"]
            await sender.send(b"once")
            await sender.send(b"end")
        assert [listener.receive_data() for _ in range(2)] == [b"once", b"end"]

    host.run(main)


# --- Virtual routing (VRF) ------------------------------------------------------------------------


def add_vrf(card: Card) -> None:
    """Have an interface belong to a VRF named red."""
    card.host.ip(f"-6 addr del {card.ipv6}/64 dev {card.name}")  # which it loses by that
    add_device(card.host, "red", "vrf table 10")
    card.host.ip(f"link set {card.name} master red")
    card.configure()
    card.wait_until_ready()


@each_group
def test_an_interface_in_a_vrf_is_as_good_as_any(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    add_vrf(here)
    talker = there.talker(group, udp_port)

    async def main() -> None:
        assert {i.name: i.master for i in trio_mcast.list_interfaces()}["eth0"] is None
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            assert "eth0" in [m.interface.name for m in receiver.memberships()]
            talker.send(b"hello")
            assert (await hears(receiver, b"hello")).interface.name == "eth0"
            assert await everything(receiver) == []
        listener = there.listener(group, udp_port)
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"answer")
        assert listener.receive_data() == b"answer"

    here.host.run(main)


@each_group
def test_one_that_goes_into_a_vrf_and_out_of_it_is_followed(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as receiver:
            add_vrf(here)
            talker.send(b"inside")
            await hears(receiver, b"inside")
            here.host.ip("link set eth0 nomaster")
            here.configure()
            here.wait_until_ready()
            talker.send(b"outside")
            await hears(receiver, b"outside")

    here.host.run(main)


@each_group
def test_a_program_in_a_vrf_whose_sockets_are_bound_to_it(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    """As `ip vrf exec` has it: every socket is bound to the VRF as soon as it is made.

    From such a socket Linux sends to IPv6 groups only what names its interface in a control
    message. IPV6_MULTICAST_IF does not count, as its twin for IPv4 does.
    """
    from trio_mcast._machine.current import machine_in_force
    from trio_mcast._machine.this_machine import ThisMachine

    add_vrf(here)
    talker = there.talker(group, udp_port)

    def make_socket(family: int) -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"red")
        return made

    async def main() -> None:
        with machine_in_force(ThisMachine(make_socket)):
            async with trio_mcast.open_receiver(
                group, port=udp_port, interfaces="eth0"
            ) as receiver:
                talker.send(b"hello")
                await hears(receiver, b"hello")
            listener = there.listener(group, udp_port)
            async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
                if group == GROUP4:
                    await sender.send(b"answer")
                    assert listener.receive_data() == b"answer"
                else:
                    with pytest.raises(trio_mcast.SendError, match="unreachable"):
                        await sender.send(b"answer")

    here.host.run(main)


def test_a_default_route_of_a_vrf_is_not_the_hosts(here: Card, udp_port: int) -> None:
    add_vrf(here)
    here.host.ip("route add default via 10.77.1.2 dev eth0 table 10")

    async def main() -> None:
        with pytest.raises(trio_mcast.InterfaceNotFoundError, match="give interface="):
            async with trio_mcast.open_sender(GROUP4, port=udp_port):
                pass

    here.host.run(main)


# --- Interfaces above and beside others -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["macvlan mode bridge", "ipvlan mode l2"])
@each_group
def test_an_interface_above_another_hears_and_sends(
    here: Card, there: Card, udp_port: int, kind: str, group: str
) -> None:
    add_device(here.host, "sub0", kind, above=here, ipv4="10.77.1.77", ipv6="fd77:0:0:1::77")
    talker = there.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, interfaces="sub0") as receiver:
            talker.send(b"hello")
            assert (await hears(receiver, b"hello")).interface.name == "sub0"
            assert await everything(receiver) == []
        listener = there.listener(group, udp_port)
        async with trio_mcast.open_sender(group, port=udp_port, interface="sub0") as sender:
            await sender.send(b"answer")
        assert listener.receive_data() == b"answer"

    here.host.run(main)


@each_group
def test_both_hear_the_same_if_both_are_meant(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    add_device(
        here.host,
        "sub0",
        "macvlan mode bridge",
        above=here,
        ipv4="10.77.1.77",
        ipv6="fd77:0:0:1::77",
    )
    talker = there.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            talker.send(b"hello")
            heard = await collect(receiver, 2)
            assert sorted(d.interface.name for d in heard) == ["eth0", "sub0"]
            assert await everything(receiver) == []

    here.host.run(main)


@each_group
def test_a_dummy_is_heard_if_it_is_named(network: Network, udp_port: int, group: str) -> None:
    """It has no MULTICAST flag, and what is sent there comes back from nowhere but this host."""
    host = network.host()
    add_device(host, "dummy0", "dummy", ipv4="10.88.0.1", ipv6="fd88::1")

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(group, port=udp_port, interfaces="dummy0") as receiver,
            trio_mcast.open_sender(group, port=udp_port, interface="dummy0") as sender,
        ):
            await sender.send(b"hello")
            assert (await hears(receiver, b"hello")).interface.name == "dummy0"
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            assert "dummy0" not in [m.interface.name for m in receiver.memberships()]

    host.run(main)


# --- Tunnels --------------------------------------------------------------------------------------


@contextmanager
def open_tun(host: Host) -> Iterator[int]:
    """A tunnel named tun0, and the descriptor by which the program at its end has it."""
    import fcntl

    tunsetiff, iff_tun, iff_no_pi = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
    request = struct.pack("=16sH22x", b"tun0", iff_tun | iff_no_pi)
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"/dev/net/tun cannot be used: {error}")
    try:
        host.call(fcntl.ioctl, descriptor, tunsetiff, request)
        host.ip("addr add 10.99.0.1/24 dev tun0", "link set tun0 up")
        yield descriptor
    finally:
        os.close(descriptor)


def ipv4_packet(source: str, group: str, port: int, data: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram, which leaves its checksum out."""
    udp = struct.pack(">HHHH", 5000, port, 8 + len(data), 0) + data
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 1, socket.IPPROTO_UDP, 0)
    header += ip_address(source).packed + ip_address(group).packed
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", 0xFFFF - total) + header[12:] + udp


def test_a_tunnel_hears_and_sends(network: Network, udp_port: int) -> None:
    host = network.host()

    async def main() -> None:
        with open_tun(host) as wire:
            async with (
                trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="tun0") as receiver,
                trio_mcast.open_sender(
                    GROUP4, port=udp_port, interface="tun0", loopback=False
                ) as sender,
            ):
                os.write(wire, ipv4_packet("10.99.0.2", GROUP4, udp_port, b"hello"))
                assert (await hears(receiver, b"hello")).source[0] == "10.99.0.2"
                await sender.send(b"answer")
                packet = b""
                with trio.fail_after(SOON):
                    while not packet.endswith(b"answer"):  # IGMP reports come first
                        await trio.lowlevel.wait_readable(wire)
                        packet = os.read(wire, 2000)
                assert packet[16:20] == ip_address(GROUP4).packed

    host.run(main)


@each_group
def test_wireguard_hears_and_sends_what_the_peers_may(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    """It has no MULTICAST flag, so it has to be named, and peers need the groups as allowed IPs."""
    need_program("wg", "wireguard-tools")
    keys = {}
    ends = ((here, 1), (there, 2))
    cards = {}
    for card, number in ends:
        cards[card] = add_device(card.host, "wg0", "wireguard", ipv4=f"10.99.0.{number}", ipv6="")
        card.host.sysctl("net.ipv6.conf.wg0.disable_ipv6", 0)
        card.host.ip(f"addr add fd99::{number}/64 dev wg0 nodad")
        private = card.host.command("wg", "genkey").strip()
        public = card.host.command("wg", "pubkey", input=private).strip()
        keys[card] = (private, public)
    for card, peer in ((here, there), (there, here)):
        settings = (
            f"[Interface]\nPrivateKey = {keys[card][0]}\nListenPort = 51820\n"
            f"[Peer]\nPublicKey = {keys[peer][1]}\nEndpoint = {peer.ipv4}:51820\n"
            "AllowedIPs = 10.99.0.0/24, fd99::/64, 224.0.0.0/4, ff00::/8\n"
        )
        card.host.command("wg", "setconf", "wg0", "/dev/stdin", input=settings)
    talker = cards[there].talker(group, udp_port)

    async def main() -> None:
        wg0 = next(i for i in trio_mcast.list_interfaces() if i.name == "wg0")
        assert not wg0.supports_multicast
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            assert "wg0" not in [m.interface.name for m in receiver.memberships()]
        async with (
            trio_mcast.open_receiver(group, port=udp_port, interfaces="wg0") as receiver,
            trio_mcast.open_sender(group, port=udp_port, interface="wg0", loopback=False) as sender,
        ):
            talker.send(b"hello")
            assert (await hears(receiver, b"hello")).interface.name == "wg0"
            listener = cards[there].listener(group, udp_port)
            await sender.send(b"answer")
            assert listener.receive_data() == b"answer"

    here.host.run(main)


@each_group
def test_wireguard_without_a_peer_for_the_group_is_a_clear_error(
    here: Card, udp_port: int, group: str
) -> None:
    add_device(here.host, "wg0", "wireguard", ipv4="10.99.0.1", ipv6="")
    here.host.sysctl("net.ipv6.conf.wg0.disable_ipv6", 0)
    here.host.ip("addr add fd99::1/64 dev wg0 nodad")

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="wg0", loopback=False
        ) as sender:
            with pytest.raises(trio_mcast.SendError, match="wg0"):
                await sender.send(b"hello")

    here.host.run(main)


# --- Names and addresses --------------------------------------------------------------------------


@each_group
def test_an_interface_with_two_hundred_addresses(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    here.host.ip(
        *(f"addr add 10.66.{n // 100}.{n % 100 + 1}/24 dev eth0" for n in range(100)),
        *(f"addr add fd66::{n + 1:x}/64 dev eth0 nodad" for n in range(100)),
    )
    talker = there.talker(group, udp_port)

    async def main() -> None:
        eth0 = next(i for i in trio_mcast.list_interfaces() if i.name == "eth0")
        assert len(eth0.addresses) == 203
        for address in ("10.66.0.100", "fd66::64"):
            async with trio_mcast.open_receiver(
                group, port=udp_port, interfaces=address
            ) as receiver:
                talker.send(address.encode())
                await hears(receiver, address.encode())

    here.host.run(main)


@each_group
def test_a_name_of_fifteen_characters(network: Network, udp_port: int, group: str) -> None:
    name = "fifteen-letters"
    here, there = network.link(network.host("a"), name, network.host("b"), "eth0")
    talker = there.talker(group, udp_port)

    async def main() -> None:
        zone = f"{group}%{name}"
        async with trio_mcast.open_receiver(zone, port=udp_port) as receiver:
            talker.send(b"hello")
            assert (await hears(receiver, b"hello")).interface.name == name
        listener = there.listener(group, udp_port)
        async with trio_mcast.open_sender(group, port=udp_port, interface=name) as sender:
            await sender.send(b"answer")
        assert listener.receive_data() == b"answer"

    here.host.run(main)
