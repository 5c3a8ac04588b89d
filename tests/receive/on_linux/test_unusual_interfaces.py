"""Interfaces that are ports of others, or have names that one does not expect."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from namespaces.network import Card, wait_until_async
from namespaces.receiving import BOTH, GROUP4
from patience import SOON

import trio_mcast

each_group = pytest.mark.parametrize("group", BOTH)


def make_bridge(card: Card) -> None:
    card.host.ip(
        "link add br0 type bridge",
        f"link set {card.name} master br0",
        "addr add 10.88.0.1/24 dev br0",
        "addr add fd88::1/64 dev br0 nodad",
        "link set br0 up",
    )


@each_group
def test_the_bridge_stands_for_its_ports(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    make_bridge(here)
    listener = there.listener(group, udp_port)

    async def main() -> None:
        ports = {i.name: i.master for i in trio_mcast.list_interfaces()}
        assert (ports["eth0"], ports["br0"]) == ("br0", None)
        async with (
            trio_mcast.open_receiver(group, port=udp_port) as receiver,
            trio_mcast.open_sender(group, port=udp_port, interfaces="all") as sender,
        ):
            assert [m.interface.name for m in receiver.memberships()] == ["br0"]
            assert [i.name for i in sender.interfaces] == ["br0"]
            await sender.send(b"once")
            await sender.send(b"end")
        assert [listener.receive_data() for _ in range(2)] == [b"once", b"end"]

    here.host.run(main)


@each_group
def test_one_that_becomes_a_port_is_joined_no_more_unless_it_was_named(
    here: Card, udp_port: int, group: str
) -> None:
    async def main() -> None:
        async with (
            trio_mcast.open_receiver(group, port=udp_port) as every,
            trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0") as named,
        ):
            make_bridge(here)

            def joined_by_the_bridge() -> bool:
                return [m.interface.name for m in every.memberships()] == ["br0"]

            await wait_until_async(joined_by_the_bridge, "the bridge to take its place")
            assert [m.state for m in named.memberships()] == ["joined"]

    here.host.run(main)


@pytest.mark.parametrize("name", ["enp3s0f0np0", "a-name-that-is-longer-than-fifteen"])
def test_an_alternative_name_names_it(here: Card, there: Card, udp_port: int, name: str) -> None:
    here.host.ip(f"link property add dev eth0 altname {name}")
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces=name) as receiver:
            talker.send(b"hello")
            with trio.fail_after(SOON):
                datagram = await receiver.receive()
            assert datagram.interface.name == "eth0"
            assert datagram.interface.altnames == (name,)

    here.host.run(main)


@pytest.mark.parametrize("name", ["a\x1cb", "a\x85b", b"a\xffb"], ids=ascii)
@each_group
def test_another_interface_may_be_called_as_it_likes(
    here: Card, there: Card, udp_port: int, group: str, name: str | bytes
) -> None:
    talker = there.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            here.host.call(_create, name)
            await trio.testing.wait_all_tasks_blocked(0.01)
            talker.send(b"hello")
            with trio.fail_after(SOON):
                assert (await receiver.receive()).data == b"hello"
            assert {m.state for m in receiver.memberships()} == {"joined"}
            interfaces = [i.name.encode(errors="surrogateescape") for i in list_interfaces()]
            assert (name if isinstance(name, bytes) else name.encode()) in interfaces

    list_interfaces = trio_mcast.list_interfaces
    here.host.run(main)


def _create(name: str | bytes) -> None:
    import subprocess

    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "other"], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    subprocess.run(["ip", "addr", "add", "10.99.0.1/24", "dev", name], check=True)
