"""What leaves through a sender, as an independent socket at the other end of the cable sees it."""

import errno
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest
import trio
import trio.testing
from namespaces.network import Card, Host, Network
from namespaces.opening import Hear
from namespaces.receiving import BOTH, EVERY_SCOPE, GROUP4, GROUP6, collect, everything
from patience import SOON

import trio_mcast
from trio_mcast import MulticastReceiver, MulticastSender


@pytest.mark.parametrize("group", [*EVERY_SCOPE, "232.1.2.3", "ff3e::4d43:1"])
def test_a_datagram_is_sent_to_the_group(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"hello")
            heard = listener.receive()
            assert (heard.data, heard.group) == (b"hello", group)
            if group.startswith("ff12"):
                assert heard.source == here.link_local
            else:
                assert heard.source == (here.ipv6 if ":" in group else here.ipv4)
            assert heard.hop_limit == 1
            assert heard.traffic_class == 0

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_the_group_may_be_an_address_object(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            ip_address(group), port=udp_port, interface="eth0"
        ) as sender:
            await sender.send(b"hello")
            assert listener.receive_data() == b"hello"

    here.host.run(main)


def test_a_zone_in_the_group_chooses_the_interface(
    network: Network, here: Card, there: Card, udp_port: int
) -> None:
    _, there = network.link(here.host, "eth1", network.host("c"), "eth0")
    listener = there.listener("ff12::4d43:1", udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender("ff12::4d43:1%eth1", port=udp_port) as sender:
            await sender.send(b"hello")
            assert listener.receive_data() == b"hello"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_batch_is_sent_in_order(here: Card, there: Card, udp_port: int, group: str) -> None:
    listener = there.listener(group, udp_port)
    sent = [b"%d" % number for number in range(100)]

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send_batch(sent)
            assert [listener.receive_data() for _ in sent] == sent
            await sender.send_batch([])
            await sender.send_batch([b"after"])
            assert listener.receive_data() == b"after"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_batch_of_mixed_sizes_arrives_datagram_by_datagram(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)
    sizes = [100] * 70 + [50, 100, 100, 0, 1400, 1400, 1400, 20, 3000, 0, 0, 1]
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send_batch(sent)
            assert [listener.receive_data() for _ in sent] == sent
            assert sender.statistics().datagrams_sent == len(sent)
            assert sender.statistics().bytes_sent == sum(sizes)

    here.host.run(main)


@pytest.mark.parametrize(
    ("group", "size"),
    [(GROUP4, size) for size in (0, 1, 1472, 9000, 65507)]
    + [(GROUP6, size) for size in (0, 1, 1452, 9000, 65527)],
)
def test_a_datagram_of_any_size_leaves_whole(
    here: Card, there: Card, udp_port: int, group: str, size: int
) -> None:
    listener = there.listener(group, udp_port)
    data = (bytes(range(251)) * 262)[:size]

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(data)
            assert listener.receive_data() == data
            await sender.send_batch([data, data])
            assert [listener.receive_data(), listener.receive_data()] == [data, data]

    here.host.run(main)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_anything_with_bytes_in_it_can_be_sent(
    here: Card, there: Card, udp_port: int, wrap: type
) -> None:
    listener = there.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            await sender.send(wrap(b"hello"))
            assert listener.receive_data() == b"hello"

    here.host.run(main)


def test_text_cannot_be_sent(here: Card, there: Card, udp_port: int) -> None:
    listener = there.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            with pytest.raises(TypeError):
                await sender.send("text")
            with pytest.raises(TypeError):
                await sender.send_batch(["text"])
            await sender.send(b"bytes")
            assert listener.receive_data() == b"bytes"

    here.host.run(main)


# --- send_to --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "other"), [(GROUP4, "233.252.0.2"), (GROUP6, "ff15::2"), (GROUP6, "ff12::2")]
)
def test_send_to_reaches_another_group_and_port(
    here: Card, there: Card, udp_port: int, group: str, other: str
) -> None:
    other_port = udp_port - 1
    listener, other_listener = there.listener(group, udp_port), there.listener(other, other_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send_to(b"other", (other, other_port))
            assert other_listener.receive_data() == b"other"
            await sender.send(b"own")
            assert listener.receive_data() == b"own"
            assert sender.statistics().datagrams_sent == 2

    here.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_send_to_answers_the_source_of_a_datagram(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    talker = there.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            talker.send(b"question")
            datagram = await receiver.receive()
            await sender.send_to(b"answer", datagram.source)
            data, address = talker.receive()
            assert data == b"answer"
            assert address.partition("%")[0] in (here.ipv4, here.ipv6, here.link_local)

    hear(main, group)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize(
    "wrong",
    [
        ("nonsense", 5000),
        ("233.252.0.1", -1),
        ("ff15::1", 65536),
        ("233.252.0.1",),
        "233.252.0.1",
        None,
    ],
)
def test_send_to_refuses_what_is_no_address(
    here: Card, there: Card, udp_port: int, group: str, wrong: object
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            with pytest.raises((ValueError, TypeError)):
                await sender.send_to(b"x", wrong)
            await sender.send(b"still works")
            assert listener.receive_data() == b"still works"

    here.host.run(main)


def test_send_to_refuses_an_address_of_the_other_family(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            with pytest.raises(ValueError, match=GROUP6):
                await sender.send_to(b"x", (GROUP6, udp_port))
        async with trio_mcast.open_sender(GROUP6, port=udp_port, interface="eth0") as sender:
            with pytest.raises(ValueError, match=GROUP4):
                await sender.send_to(b"x", (GROUP4, udp_port))

    here.host.run(main)


# --- Interfaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", EVERY_SCOPE)
@pytest.mark.parametrize("choice", ["eth0", "eth1"])
def test_the_chosen_interface_is_used_without_any_route(
    network: Network, udp_port: int, group: str, choice: str
) -> None:
    here, there0 = network.pair()
    here1, there1 = network.link(here.host, "eth1", network.host("c"), "eth0")
    listeners = {"eth0": there0.listener(group, udp_port), "eth1": there1.listener(group, udp_port)}
    indexes = {"eth0": here.index, "eth1": here1.index}

    async def main() -> None:
        for interface in (choice, indexes[choice]):
            async with trio_mcast.open_sender(group, port=udp_port, interface=interface) as sender:
                await sender.send(b"hello")
                assert listeners.pop(choice).receive_data() == b"hello"
                (other,) = listeners.values()
                other.socket.setblocking(False)
                with pytest.raises(BlockingIOError):
                    other.receive()
            break

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_every_kind_of_selector_chooses_the_interface(
    network: Network, here: Card, udp_port: int, group: str
) -> None:
    here1, there1 = network.link(here.host, "eth1", network.host("c"), "eth0")
    listener = there1.listener(group, udp_port)

    async def main() -> None:
        (listed,) = (i for i in trio_mcast.list_interfaces() if i.name == "eth1")
        selectors = [
            "eth1",
            here1.index,
            here1.ipv4,
            here1.ipv6,
            ip_address(here1.ipv4),
            "10.77.2.0/24",
            "fd77:0:0:2::/64",
            listed,
        ]
        for number, selector in enumerate(selectors):
            async with trio_mcast.open_sender(group, port=udp_port, interface=selector) as sender:
                await sender.send(b"%d" % number)
                assert listener.receive_data() == b"%d" % number

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("interfaces", [["eth0", "eth2"], "all"])
def test_a_copy_leaves_by_each_of_several_interfaces(
    network: Network, udp_port: int, group: str, interfaces: list[str] | str
) -> None:
    host = network.host()
    listeners = {}
    for name in ("eth0", "eth1", "eth2"):
        _, there = network.link(host, name, network.host(f"peer of {name}"), "eth0")
        listeners[name] = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interfaces=interfaces) as sender:
            await sender.send(b"one")
            await sender.send_batch([b"two", b"three"])
            await sender.send_to(b"four", (group, udp_port))
        for name, listener in listeners.items():
            if interfaces == "all" or name in interfaces:
                assert [listener.receive_data() for _ in range(4)] == [
                    b"one",
                    b"two",
                    b"three",
                    b"four",
                ]
            listener.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.receive()

    host.run(main)


def test_a_default_route_chooses_the_interface(network: Network, here: Card, udp_port: int) -> None:
    _, there1 = network.link(here.host, "eth1", network.host("c"), "eth0")
    here.host.ip(f"route add default via {there1.ipv4}")
    here.host.ip(f"-6 route add default via {there1.ipv6}")
    listeners = [there1.listener(group, udp_port) for group in BOTH]

    async def main() -> None:
        for group, listener in zip(BOTH, listeners, strict=True):
            async with trio_mcast.open_sender(group, port=udp_port) as sender:
                await sender.send(b"by default")
                assert listener.receive_data() == b"by default"

    here.host.run(main)


def test_an_interface_without_an_ipv4_address_is_refused_for_ipv4(
    network: Network, udp_port: int
) -> None:
    """The kernel would borrow another interface's address, or send from 0.0.0.0 to nobody."""
    here, there = network.pair(ipv4=False)
    network.link(here.host, "eth1", network.host("c"), "eth0")
    listener6 = there.listener(GROUP6, udp_port)

    async def main() -> None:
        with pytest.raises(trio_mcast.MulticastError, match="eth0"):
            async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0"):
                pytest.fail("it opened")
        async with trio_mcast.open_sender(GROUP6, port=udp_port, interface="eth0") as sender:
            await sender.send(b"IPv6 is no problem")
            assert listener6.receive_data() == b"IPv6 is no problem"

    here.host.run(main)


def test_all_interfaces_are_those_that_can_send_to_the_group(
    network: Network, udp_port: int
) -> None:
    """Not the loopback interface, none that is down, none without what the family needs."""
    host = network.host()
    good_here, good_there = network.link(host, "good", network.host("1"), "eth0")
    down, _ = network.link(host, "off", network.host("2"), "eth0")
    down.down()
    _, only6 = network.link(host, "only6", network.host("3"), "eth0", ipv4=False)
    _, only4 = network.link(host, "only4", network.host("4"), "eth0", ipv6=False)
    assert good_here.host is host

    async def main() -> None:
        for group, also in ((GROUP4, only4), (GROUP6, only6)):
            listeners = [card.listener(group, udp_port) for card in (good_there, also)]
            async with trio_mcast.open_sender(group, port=udp_port, interfaces="all") as sender:
                await sender.send(b"to all")
                assert [listener.receive_data() for listener in listeners] == [b"to all"] * 2
                assert sender.statistics().datagrams_sent == 2
                assert sender.statistics().send_errors == 0

    host.run(main)


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("hop_limit", [1, 2, 64, 255])
def test_the_hop_limit_is_the_receivers_to_see(
    there: Card, hear: Hear, udp_port: int, group: str, hop_limit: int
) -> None:
    listener = there.listener(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", hop_limit=hop_limit
        ) as sender:
            await sender.send(b"x")
            assert listener.receive().hop_limit == hop_limit
            assert (await receiver.receive()).hop_limit == hop_limit

    hear(main, group, packet_info=["hop_limit"])


@pytest.mark.parametrize("group", BOTH)
def test_hop_limit_0_stays_on_this_host(
    here: Card, there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)
    marker = here.talker(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", hop_limit=0
        ) as sender:
            await sender.send(b"not abroad")
            assert (await receiver.receive()).data == b"not abroad"
            marker.send(b"abroad")
            assert listener.receive_data() == b"abroad"

    hear(main, group)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_loopback_decides_whether_this_host_hears_it(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        for loopback in (False, True):
            async with trio_mcast.open_sender(
                group, port=udp_port, interface="eth0", loopback=loopback
            ) as sender:
                await sender.send(b"loopback %d" % loopback)
                assert listener.receive_data() == b"loopback %d" % loopback
        assert [d.data for d in await collect(receiver, 1)] == [b"loopback 1"]
        assert await everything(receiver) == []

    hear(main, group)


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("traffic_class", [0, 0x20, 0xB8, 0xFC])
def test_the_traffic_class_is_the_receivers_to_see(
    here: Card, there: Card, udp_port: int, group: str, traffic_class: int
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", traffic_class=traffic_class
        ) as sender:
            await sender.send(b"x")
            assert listener.receive().traffic_class == traffic_class
            await sender.send_batch([b"x"] * 3)
            assert [listener.receive().traffic_class for _ in range(3)] == [traffic_class] * 3

    here.host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_the_source_address_and_port_can_be_chosen(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    source = "fd77:0:0:1::77" if ":" in group else "10.77.1.77"
    here.add_address(source + ("/64" if ":" in group else "/24"))
    listener = there.listener(group, udp_port)
    source_port = udp_port - 1

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", source=source, source_port=source_port
        ) as sender:
            assert sender.local_address[:2] == (source, source_port)
            await sender.send(b"x")
            heard = listener.receive()
            assert (heard.source, heard.source_port) == (source, source_port)

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_the_source_may_be_an_address_object_without_a_port(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    source = ip_address("fd77:0:0:1::77" if ":" in group else "10.77.1.77")
    here.add_address(f"{source}/{64 if source.version == 6 else 24}")
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", source=source
        ) as sender:
            await sender.send(b"x")
            heard = listener.receive()
            assert heard.source == str(source)
            assert sender.local_address[1] == heard.source_port

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_source_that_is_not_here_is_refused(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    source = there.ipv6 if ":" in group else there.ipv4

    async def main() -> None:
        with pytest.raises((trio_mcast.MulticastError, OSError, ValueError)) as caught:
            async with trio_mcast.open_sender(
                group, port=udp_port, interface="eth0", source=source
            ):
                pytest.fail("it opened")
        assert source in str(caught.value)

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_two_senders_share_a_source_port(
    there: Card, hear: Hear, udp_port: int, group: str
) -> None:
    """Also with a receiver on that very port, as protocols like mDNS want it."""
    listener = there.listener(group, udp_port)
    options = {"port": udp_port, "interface": "eth0", "source_port": udp_port}

    async def main(receiver: MulticastReceiver) -> None:
        async with (
            trio_mcast.open_sender(group, **options) as one,
            trio_mcast.open_sender(group, **options) as two,
        ):
            for sender in (one, two):
                await sender.send(b"x")
                assert listener.receive().source_port == udp_port
            assert len(await collect(receiver, 2)) == 2

    hear(main, group)


@pytest.mark.parametrize("group", BOTH)
def test_the_local_address_is_where_answers_go(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"x")
            assert listener.receive().source_port == sender.local_address[1]

    here.host.run(main)


def test_a_sender_is_a_send_channel_that_only_the_library_makes(
    network: Network, udp_port: int
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            assert isinstance(sender, trio_mcast.MulticastSender)
            assert isinstance(sender, trio.abc.SendChannel)

    here.host.run(main)
    with pytest.raises(TypeError):
        trio_mcast.MulticastSender()
    with pytest.raises(TypeError):
        type("Mine", (trio_mcast.MulticastSender,), {})


def test_several_tasks_may_send_at_once(here: Card, there: Card, udp_port: int) -> None:
    listener = there.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(sender.send, b"%d" % number)
                nursery.start_soon(sender.send_batch, [b"10", b"11"])
            heard = {int(listener.receive_data()) for _ in range(12)}
            assert heard == set(range(12))

    here.host.run(main)


def test_a_task_that_sends_and_sends_lets_others_run(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with (
            trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender,
            trio.open_nursery() as nursery,
        ):
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(other)
            for _ in range(1024):
                await sender.send(b"x")
            nursery.cancel_scope.cancel()
        assert turns >= 4

    here.host.run(main)


# --- Statistics and errors ------------------------------------------------------------------------


def test_statistics_count_what_was_sent(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            statistics = sender.statistics()
            assert isinstance(statistics, trio_mcast.SenderStatistics)
            assert (statistics.datagrams_sent, statistics.bytes_sent) == (0, 0)
            await sender.send(b"12345")
            await sender.send_batch([b"", b"123"])
            await sender.send_to(b"1", (GROUP4, udp_port))
            statistics = sender.statistics()
            assert (statistics.datagrams_sent, statistics.bytes_sent) == (4, 9)
            assert statistics.send_errors == 0

    here.host.run(main)


@pytest.mark.parametrize(("group", "largest"), [(GROUP4, 65507), (GROUP6, 65527)])
def test_a_datagram_that_is_too_large_is_a_send_error(
    here: Card, there: Card, udp_port: int, group: str, largest: int
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            with pytest.raises(trio_mcast.SendError) as caught:
                await sender.send(bytes(largest + 1))
            assert isinstance(caught.value, OSError)
            assert isinstance(caught.value, trio_mcast.MulticastError)
            assert caught.value.errno == errno.EMSGSIZE
            assert caught.value.interface.name == "eth0"
            assert caught.value.group == ip_address(group)
            assert caught.value.step
            assert sender.statistics().send_errors == 1
            assert sender.statistics().datagrams_sent == 0
            await sender.send(b"still works")
            assert listener.receive_data() == b"still works"

    here.host.run(main)


def test_a_batch_stops_at_the_datagram_that_is_refused(
    here: Card, there: Card, udp_port: int
) -> None:
    listener = there.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            with pytest.raises(trio_mcast.SendError):
                await sender.send_batch([b"one", bytes(65508), b"three"])
            await sender.send(b"marker")
            assert listener.receive_data() == b"one"
            heard = listener.receive_data()
            statistics = sender.statistics()
            if heard == b"three":  # going on past the refused one would be as good
                assert listener.receive_data() == b"marker"
                assert statistics.datagrams_sent == 3
            else:
                assert heard == b"marker"
                assert statistics.datagrams_sent == 2
            assert statistics.send_errors == 1

    here.host.run(main)


def test_a_send_error_names_the_group_that_was_sent_to(
    here: Card, there: Card, udp_port: int
) -> None:
    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            for address, group in (("233.252.0.2", "233.252.0.2"), (there.ipv4, None)):
                with pytest.raises(trio_mcast.SendError) as caught:
                    await sender.send_to(bytes(65508), (address, udp_port))
                assert address in str(caught.value)
                assert caught.value.group == (group and ip_address(group))

    here.host.run(main)


def test_several_interfaces_of_which_one_refuses_are_no_error(
    network: Network, udp_port: int
) -> None:
    host, good, _bad = host_with_a_good_and_a_bad_interface(network)
    listener = good.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            GROUP4, port=udp_port, interfaces=["good", "bad"]
        ) as sender:
            host.ip("link set bad down")
            await sender.send(b"x")
            assert listener.receive_data() == b"x"
            assert sender.statistics().datagrams_sent == 1
            assert sender.statistics().send_errors == 1
            host.ip("link set good down")
            with pytest.raises(trio_mcast.SendError):
                await sender.send(b"x")
            assert sender.statistics().send_errors == 3

    host.run(main)


def test_every_copy_of_a_batch_is_counted_as_sent_or_refused(
    network: Network, udp_port: int
) -> None:
    host, good, _bad = host_with_a_good_and_a_bad_interface(network)
    listener = good.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(
            GROUP4, port=udp_port, interfaces=["good", "bad"]
        ) as sender:
            host.ip("link set bad down")
            await sender.send_batch([b"x"] * 10)
            assert [listener.receive_data() for _ in range(10)] == [b"x"] * 10
            assert sender.statistics().datagrams_sent == 10
            assert sender.statistics().send_errors == 10

    host.run(main)


def test_a_batch_goes_on_after_one_interface_has_refused_one_datagram(
    network: Network, udp_port: int
) -> None:
    """A refusal by one of several interfaces is no error, so it must not cost the rest silently."""
    host, good, bad = host_with_a_good_and_a_bad_interface(network)
    here = bad.peer
    assert here is not None
    drop_large(here, 500)
    listeners = [card.listener(GROUP4, udp_port) for card in (good, bad)]
    sent = [b"a", b"b", bytes(600), b"c", b"d"]

    async def main() -> None:
        async with trio_mcast.open_sender(
            GROUP4, port=udp_port, interfaces=["good", "bad"]
        ) as sender:
            await sender.send_batch(sent)
            assert sender.statistics().datagrams_sent == 9
            assert sender.statistics().send_errors == 1
            await sender.send_batch([bytes([n]) * 600 for n in range(10)])
            assert sender.statistics().send_errors == 11

    host.run(main)
    assert [listeners[0].receive_data() for _ in range(5)] == sent
    assert [listeners[1].receive_data() for _ in range(4)] == [b"a", b"b", b"c", b"d"]


def host_with_a_good_and_a_bad_interface(network: Network) -> tuple[Host, Card, Card]:
    """A host with interfaces `good` and `bad`, and the cards at the other ends of their cables."""
    host = network.host("middle")
    _, good = network.link(host, "good", network.host("1"), "eth0")
    _, bad = network.link(host, "bad", network.host("2"), "eth0")
    return host, good, bad


def drop_large(card: Card, size: int) -> None:
    """Let the firewall refuse datagrams of more than a size that leave by a card."""
    rule = f"add rule ip t o oifname {card.name} udp length > {size} drop"
    try:
        card.host.command(
            "nft", "add table ip t; add chain ip t o { type filter hook output priority 0; }"
        )
        card.host.command("nft", rule)
    except (FileNotFoundError, AssertionError) as error:
        pytest.skip(f"nft does not work here: {error}")


@pytest.mark.parametrize("group", BOTH)
def test_an_interface_that_is_switched_off_is_a_send_error(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"before")
            here.down()
            with pytest.raises(trio_mcast.SendError) as caught:
                await sender.send(b"lost")
            assert caught.value.errno in (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
            assert sender.statistics().send_errors == 1
            here.up()
            await sender.send(b"after")
            assert [listener.receive_data(), listener.receive_data()] == [b"before", b"after"]

    here.host.run(main)


def test_a_firewall_that_rejects_is_a_send_error(network: Network, udp_port: int) -> None:
    here, _there = network.pair()
    try:
        here.host.command(
            "nft", "add table ip t; add chain ip t o { type filter hook output priority 0; }"
        )
        here.host.command("nft", "add rule ip t o ip daddr 233.252.0.0/24 drop")
    except (FileNotFoundError, AssertionError) as error:
        pytest.skip(f"nft does not work here: {error}")

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            with pytest.raises(trio_mcast.SendError) as caught:
                await sender.send(b"x")
            assert caught.value.errno == errno.EPERM

    here.host.run(main)


def test_an_icmp_error_about_an_answer_does_not_hit_the_next_datagram(
    here: Card, there: Card, udp_port: int
) -> None:
    """Nobody listens where the answer goes; the kernel would tell it to whatever is sent next."""
    for group, address in ((GROUP4, there.ipv4), (GROUP6, there.ipv6)):
        listener = there.listener(group, udp_port)
        closed_port = udp_port - 1

        async def main(group=group, address=address, listener=listener, port=closed_port) -> None:
            async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
                for number in range(5):
                    await sender.send_to(b"to nobody", (address, port))
                    await sender.send(b"%d" % number)
                    assert listener.receive_data() == b"%d" % number
                assert sender.statistics().datagrams_sent == 10
                assert sender.statistics().send_errors == 0

        here.host.run(main)


ICMP_REASONS = [
    *((GROUP4, f"icmp type {reason}") for reason in (
        *("net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable"),
        *("net-prohibited", "host-prohibited", "admin-prohibited"),
    )),
    *((GROUP6, f"icmpv6 type {reason}") for reason in (
        *("no-route", "admin-prohibited", "addr-unreachable", "port-unreachable"),
    )),
]  # fmt: skip


@pytest.mark.skipif(shutil.which("nft") is None, reason="the program `nft` is not installed")
@pytest.mark.parametrize(("group", "reason"), ICMP_REASONS)
def test_whatever_icmp_says_of_one_datagram_the_next_is_sent(
    here: Card, there: Card, udp_port: int, group: str, reason: str
) -> None:
    there.host.command(
        *("nft", "-f", "-"),
        input="table inet t { chain c { type filter hook input priority 0;"
        f" udp dport {udp_port - 1} reject with {reason}\n}}\n}}\n",
    )
    there.host.sysctl("net.ipv4.icmp_ratelimit", 0)
    there.host.sysctl("net.ipv6.icmp.ratelimit", 0)
    listener = there.listener(group, udp_port)
    refusing = there.ipv4 if group == GROUP4 else there.ipv6

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            for number in range(3):
                await sender.send_to(b"to nobody", (refusing, udp_port - 1))
                await sender.send(b"%d" % number)
                assert listener.receive_data() == b"%d" % number
                await sender.send_to(b"to nobody", (refusing, udp_port - 1))
                await sender.send_batch([b"x", b"y"])
                assert [listener.receive_data() for _ in range(2)] == [b"x", b"y"]
            assert sender.statistics().send_errors == 0

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_refusal_of_the_kernel_is_not_taken_for_icmp(
    here: Card, udp_port: int, group: str
) -> None:
    """Both are in the queue of errors."""

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            with trio.fail_after(SOON), pytest.raises(trio_mcast.SendError) as caught:
                await sender.send(bytes(65_530))
            assert caught.value.errno == errno.EMSGSIZE

    here.host.run(main)


# --- Slow networks --------------------------------------------------------------------------------


def slow_down(card: Card, rate: str, limit: int) -> None:
    """Let an interface send no faster than a rate, with a queue of so many bytes before it."""
    shape = f"root tbf rate {rate} burst 2000 limit {limit}"
    try:
        card.host.command("tc", "qdisc", "replace", "dev", card.name, *shape.split())
    except (FileNotFoundError, AssertionError) as error:
        pytest.skip(f"traffic cannot be shaped here: {error}")


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("way", ["send", "send_batch"])
def test_a_full_send_buffer_makes_the_sender_wait_while_others_run(
    here: Card, there: Card, udp_port: int, group: str, way: str
) -> None:
    listener = there.listener(group, udp_port)
    slow_down(here, "2mbit", 1_000_000)
    sent = [b"%04d" % number * 250 for number in range(30)]

    async def main() -> None:
        async with (
            trio_mcast.open_sender(
                group, port=udp_port, interface="eth0", send_buffer=5000, loopback=False
            ) as sender,
            trio.open_nursery() as nursery,
        ):
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await trio.sleep(0.001)

            nursery.start_soon(other)
            if way == "send":
                for data in sent:
                    await sender.send(data)
            else:
                await sender.send_batch(sent)
            assert sender.statistics().datagrams_sent == 30
            assert turns > 10
            nursery.cancel_scope.cancel()

    here.host.run(main)
    assert [listener.receive_data() for _ in sent] == sent


def test_several_tasks_may_wait_for_a_full_send_buffer(
    here: Card, there: Card, udp_port: int
) -> None:
    listener = there.listener(GROUP4, udp_port)
    slow_down(here, "2mbit", 1_000_000)
    sent = [b"%04d" % number * 250 for number in range(20)]

    async def main() -> None:
        async with trio_mcast.open_sender(
            GROUP4, port=udp_port, interface="eth0", send_buffer=5000
        ) as sender:
            async with trio.open_nursery() as nursery:
                for data in sent:
                    nursery.start_soon(sender.send, data)
            assert sender.statistics().datagrams_sent == 20

    here.host.run(main)
    assert sorted(listener.receive_data() for _ in sent) == sent


def test_a_send_that_is_cancelled_while_it_waits_has_not_happened(
    here: Card, there: Card, udp_port: int
) -> None:
    listener = there.listener(GROUP4, udp_port)
    slow_down(here, "8kbit", 1_000_000)

    async def main() -> int:
        async with trio_mcast.open_sender(
            GROUP4, port=udp_port, interface="eth0", send_buffer=5000
        ) as sender:
            with trio.move_on_after(0.05) as scope:
                for _ in range(100):
                    await sender.send(bytes(1000))
            assert scope.cancelled_caught
            return sender.statistics().datagrams_sent

    sent = here.host.run(main)
    assert 0 < sent < 100
    slow_down(here, "1gbit", 1_000_000)
    here.talker(GROUP4, udp_port).send(b"marker")
    heard = [listener.receive_data() for _ in range(sent + 1)]
    assert heard == [bytes(1000)] * sent + [b"marker"]


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("way", ["send", "send_batch"])
def test_a_full_queue_of_the_interface_is_an_error_not_a_silent_loss(
    here: Card, there: Card, udp_port: int, group: str, way: str
) -> None:
    listener = there.listener(group, udp_port)
    slow_down(here, "8kbit", 5000)

    async def send_many(sender: trio_mcast.MulticastSender) -> None:
        if way == "send_batch":
            await sender.send_batch([bytes(1000)] * 100)
        else:
            for _ in range(100):
                await sender.send(bytes(1000))

    async def main() -> int:
        async with trio_mcast.open_sender(
            group, port=udp_port, interface="eth0", loopback=False
        ) as sender:
            with pytest.raises(trio_mcast.SendError) as caught:
                await send_many(sender)
            assert caught.value.errno == errno.ENOBUFS
            assert sender.statistics().send_errors == 1
            return sender.statistics().datagrams_sent

    sent = here.host.run(main)
    assert 0 < sent < 10
    slow_down(here, "1gbit", 1_000_000)
    here.talker(group, udp_port).send(b"marker")
    heard = [listener.receive_data() for _ in range(sent + 1)]
    assert heard == [bytes(1000)] * sent + [b"marker"]


@pytest.mark.parametrize("group", BOTH)
def test_the_loopback_interface_carries_a_sender_when_named(
    network: Network, udp_port: int, group: str
) -> None:
    host = network.host()
    host.let_ipv6_multicast_use_lo()
    listener = host.lo.listener(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="lo") as sender:
            await sender.send(b"hello")
            assert listener.receive_data() == b"hello"

    host.run(main)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_sender_and_receiver_meet_across_a_cable(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    async def listen(*, task_status: trio.TaskStatus[None]) -> list[trio_mcast.Datagram]:
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            task_status.started()
            return await collect(receiver, 100)

    async def talk() -> tuple[object, ...]:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            for number in range(50):
                await sender.send(b"%d" % number)
            await sender.send_batch([b"%d" % number for number in range(50, 100)])
            return sender.local_address

    listening = there.host.start(listen)
    local_address = here.host.run(talk)
    datagrams = listening.result()
    assert [int(d.data) for d in datagrams] == list(range(100))
    assert {d.source[1] for d in datagrams} == {local_address[1]}


def test_a_sender_does_not_disturb_the_sockets_module(network: Network, udp_port: int) -> None:
    """Nothing is patched, no default timeout is set."""
    here, _there = network.pair()
    before = socket.socket, socket.getdefaulttimeout()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            await sender.send(b"x")
            assert (socket.socket, socket.getdefaulttimeout()) == before

    here.host.run(main)


@pytest.mark.parametrize(
    ("group", "is_joined_here", "leaves"),
    [
        ("233.252.0.1", True, False),
        ("233.252.0.1", False, True),  # the hazard that open_sender's documentation names
        ("ff15::4d43:1", True, False),
        ("ff15::4d43:1", False, True),
        ("ff11::4d43:1", False, False),
    ],
)
def test_hop_limit_0_stays_on_this_host_as_far_as_the_kernel_keeps_it_there(
    here: Card, there: Card, udp_port: int, group: str, is_joined_here: bool, leaves: bool
) -> None:
    beyond = there.listener(group, udp_port)
    if is_joined_here:
        here.listener(group, udp_port)

    async def main() -> None:
        for hop_limit, data in ((0, b"for this host"), (1, b"for the link")):
            async with trio_mcast.open_sender(
                group, port=udp_port, interface="eth0", hop_limit=hop_limit
            ) as sender:
                await sender.send(data)

    here.host.run(main)
    if group.startswith("ff11"):  # not even the second one leaves
        here.talker("233.252.0.9", udp_port).send(b"marker")
        marked = there.listener("233.252.0.9", udp_port)
        here.talker("233.252.0.9", udp_port).send(b"marker")
        assert marked.receive_data() == b"marker"
        beyond.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            beyond.socket.recv(100)
    elif leaves:
        assert beyond.receive_data() == b"for this host"
    else:
        assert beyond.receive_data() == b"for the link"


# --- No port is free ------------------------------------------------------------------------------


async def ask_for_address(sender: MulticastSender) -> None:
    print(sender.local_address)


NEEDING_A_PORT: dict[str, Callable[[MulticastSender], Awaitable[None]]] = {
    "send": lambda sender: sender.send(b"x"),
    "send_batch": lambda sender: sender.send_batch([b"x"] * 3),
    "local_address": ask_for_address,
}


@contextmanager
def one_port_for_all() -> Iterator[None]:
    """The only port that this host would give is taken, for both IP versions."""
    with ExitStack() as stack:
        for family in (socket.AF_INET, socket.AF_INET6):
            holder = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if family == socket.AF_INET6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holder.bind(("", 40000))
        yield


@pytest.mark.parametrize("group", BOTH)
@pytest.mark.parametrize("way", NEEDING_A_PORT)
def test_without_a_port_that_is_free_it_is_an_error_at_once(
    here: Card, udp_port: int, group: str, way: str
) -> None:
    """Linux says EAGAIN then, and that the socket is writable."""
    here.host.sysctl("net.ipv4.ip_local_port_range", "40000 40000")

    async def main() -> None:
        with one_port_for_all():
            async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
                with trio.fail_after(SOON), pytest.raises(trio_mcast.MulticastError) as caught:
                    await NEEDING_A_PORT[way](sender)
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.EADDRINUSE
        assert "ip_local_port_range" in caught.value.__notes__[0]
        errors = sender.statistics().send_errors
        assert errors == (0 if way == "local_address" else 1 if way != "send_batch" else 3)

    here.host.run(main)
