"""The fakes for users' tests behave as the real things do, and show what a test did to them."""

from __future__ import annotations

import errno
import inspect
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
import trio

import trio_mcast
from trio_mcast import testing
from trio_mcast.testing import (
    FakeSender,
    MemoryNetwork,
    make_datagram,
    make_interface,
    open_fake_receiver,
    open_fake_sender,
)

GROUP4 = "233.252.0.1"
GROUP6 = "ff15::4d43:1"
BOTH = [GROUP4, GROUP6]
ETH0, ETH1 = make_interface("eth0", index=2), make_interface("eth1", index=3)


def payloads(batch: list[trio_mcast.Datagram]) -> list[bytes]:
    return [datagram.data for datagram in batch]


# --- Values ------------------------------------------------------------------------------------


def test_values_made_alike_are_equal_and_unlike_ones_are_not() -> None:
    assert make_interface() == make_interface()
    assert make_interface() != make_interface(index=3)
    assert make_datagram(b"x") == make_datagram(b"x")
    assert make_datagram(b"x") != make_datagram(b"y")


@pytest.mark.parametrize("group", BOTH)
def test_a_datagram_has_what_it_was_given_and_sensible_values_otherwise(group: str) -> None:
    datagram = make_datagram(b"x", group=group)
    assert datagram.group == ip_address(group)
    assert (datagram.data, datagram.port, datagram.interface) == (b"x", 5000, make_interface())
    assert ip_address(datagram.source[0]).version == datagram.group.version
    assert len(datagram.source) == (2 if datagram.group.version == 4 else 4)
    assert datagram[5:] == (None, None, None, False)
    given = make_datagram(
        b"",
        group=group,
        port=7,
        source=("h", 1),
        interface=ETH1,
        hop_limit=1,
        timestamp=2,
        traffic_class=3,
        truncated=True,
    )
    assert given[1:] == (("h", 1), ip_address(group), 7, ETH1, 1, 2, 3, True)


def test_a_link_local_source_has_its_interface_as_scope() -> None:
    assert make_datagram(group=GROUP6, source="fe80::9", interface=ETH1).source[3] == 3


@pytest.mark.parametrize("version", [4, 6])
def test_an_interface_is_fit_for_both_ip_versions_unless_told_otherwise(version: Any) -> None:
    assert make_interface().carries(version)
    assert not make_interface(addresses=[]).carries(version)


# --- Receiving ---------------------------------------------------------------------------------


@pytest.mark.parametrize("group", BOTH)
async def test_what_a_test_sends_is_there_at_once(group: str) -> None:
    async with open_fake_receiver(group, port=7) as (receiver, network):
        assert isinstance(receiver, trio_mcast.MulticastReceiver)
        assert await network.send(b"a", b"b") == 2
        first = receiver.receive_nowait()
        assert first == make_datagram(b"a", group=group, port=7)
        assert (await receiver.receive()).data == b"b"
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()
        statistics = receiver.statistics()
        assert (statistics.datagrams_received, statistics.bytes_received) == (2, 2)
        assert (statistics.dropped_by_kernel, statistics.dropped_by_overflow) == (0, 0)


async def test_whole_datagrams_arrive_as_they_are() -> None:
    async with open_fake_receiver(GROUP4) as (receiver, network):
        sent = [make_datagram(b"%d" % n, hop_limit=n, truncated=True) for n in range(200)]
        strays = [
            make_datagram(group="233.252.0.2"),
            make_datagram(port=7),
            make_datagram(interface=ETH1),
        ]
        assert await network.deliver(sent + strays) == 200
        assert await receiver.receive_batch() == sent


async def test_groups_ports_and_interfaces_are_kept_apart() -> None:
    network = MemoryNetwork(ETH0, ETH1)
    async with (
        network.open_receiver(GROUP4, port=7, interfaces="eth1") as one,
        network.open_receiver(GROUP4, GROUP6, port=8) as other,
    ):
        assert await network.send(b"all", group=GROUP4) == 2
        assert await network.send(b"port", group=GROUP4, port=8) == 1
        assert await network.send(b"interface", group=GROUP4, interface="eth0") == 1
        assert await network.send(b"group", group=GROUP6) == 1
        assert await network.send(b"nobody", group="233.252.0.2") == 0
        assert payloads(await one.receive_batch()) == [b"all"]
        got = await other.receive_batch()
        assert payloads(got) == [b"all", b"port", b"interface", b"group"]
        assert {datagram.interface for datagram in got} == {ETH0}


async def test_source_filters_hold() -> None:
    async with open_fake_receiver("232.1.1.1", sources="192.0.2.1") as (receiver, network):
        assert await network.send(b"", source="192.0.2.9") == 0
        assert await network.send(b"", source=("192.0.2.1", 9)) == 1
        receiver.add_source("232.1.1.1", "192.0.2.9")
        assert await network.send(b"", source="192.0.2.9") == 1
    async with open_fake_receiver(GROUP4) as (receiver, network):
        receiver.block_source(GROUP4, "192.0.2.9")
        assert await network.send(b"", source="192.0.2.9") == 0
        assert await network.send(b"", source="192.0.2.8") == 1


@pytest.mark.parametrize("loopback", [True, False])
async def test_what_the_host_itself_sends_arrives_if_wanted(loopback: bool) -> None:
    async with open_fake_receiver(GROUP4, loopback=loopback) as (_receiver, network):
        assert await network.send(b"", source="192.0.2.2") == loopback
        assert await network.send(b"", source="192.0.2.3") == 1


async def test_packet_info_comes_if_asked_for() -> None:
    async with open_fake_receiver(GROUP4, packet_info="hop_limit") as (receiver, network):
        await network.send(b"", hop_limit=9, timestamp=8, traffic_class=7)
        assert receiver.receive_nowait()[5:8] == (9, None, None)


async def test_joining_and_leaving_works_on_values() -> None:
    async with open_fake_receiver(port=7) as (receiver, network):
        assert await network.send(b"") == 0
        async with receiver.joined(GROUP6):
            assert await network.send(b"in") == 1
            with pytest.raises(trio_mcast.MulticastError, match="joined"):
                await receiver.join(GROUP6)
        assert await network.send(b"out") == 0
        assert receiver.memberships() == ()
        assert (await receiver.receive()).data == b"in"


async def test_the_oldest_datagrams_are_dropped_on_demand() -> None:
    async with open_fake_receiver(GROUP4, overflow="drop-oldest", max_buffered=3) as (
        receiver,
        network,
    ):
        await network.send(*(b"%d" % n for n in range(10)))
        assert payloads(await receiver.receive_batch()) == [b"7", b"8", b"9"]
        assert receiver.statistics().dropped_by_overflow == 7


async def test_waiting_overflow_loses_nothing() -> None:
    async with open_fake_receiver(GROUP4, max_buffered=1) as (receiver, network):
        sent = [b"%d" % n for n in range(300)]
        await network.send(*sent)
        assert receiver.statistics().datagrams_buffered <= 1 + 64
        assert [(await receiver.receive()).data for _ in sent] == sent


@pytest.mark.parametrize("arguments", [{"port": 0}, {"overflow": "x"}, {"interfaces": "eth9"}])
async def test_wrong_arguments_are_refused_as_by_the_real_one(arguments: Any) -> None:
    with pytest.raises((ValueError, LookupError)):
        async with open_fake_receiver(GROUP4, **arguments):
            pass


# --- What goes wrong ---------------------------------------------------------------------------


async def test_a_failed_membership_says_so_and_recovers() -> None:
    async with open_fake_receiver(GROUP4, GROUP6) as (receiver, network):
        await network.send(b"before")
        error = OSError(errno.EIO, "out of order")
        await network.fail(error, group=GROUP4)
        failed, joined = receiver.memberships()
        assert (failed.state, failed.error) == ("failed", error)
        assert joined.state == "joined"
        assert await network.send(b"", group=GROUP4) == 0
        with pytest.raises(trio_mcast.SocketSetupError, match="out of order") as caught:
            async with network.open_receiver(GROUP4, port=5000):
                pass
        assert (caught.value.errno, caught.value.group) == (errno.EIO, ip_address(GROUP4))
        await network.recover()
        assert [m.state for m in receiver.memberships()] == ["joined", "joined"]
        assert await network.send(b"after") == 1
        assert payloads(await receiver.receive_batch()) == [b"before", b"after"]


async def test_a_receiver_that_does_not_follow_breaks_when_everything_failed() -> None:
    async with open_fake_receiver(GROUP4, follow=False) as (receiver, network):
        await network.fail(interface="eth0")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await receiver.receive()
        assert isinstance(caught.value.__cause__, OSError)


async def test_receivers_follow_interfaces() -> None:
    async with open_fake_receiver(GROUP4) as (receiver, network):
        events = receiver.events()
        await network.set_interfaces(ETH0, ETH1)
        assert [m.interface for m in receiver.memberships()] == [ETH0, ETH1]
        assert (await events.receive()).interface == ETH1
        await network.set_interfaces(ETH1)
        assert [m.interface for m in receiver.memberships()] == [ETH1]
        await network.set_interfaces()
        assert receiver.memberships() == ()
        await network.set_interfaces(replace(ETH1, is_up=False))
        assert receiver.memberships() == ()
        await network.set_interfaces(ETH1)
        assert await network.send(b"again") == 1


async def test_a_named_interface_is_waited_for() -> None:
    network = MemoryNetwork(ETH0, ETH1)
    async with network.open_receiver(GROUP4, port=7, interfaces="eth0") as receiver:
        await network.set_interfaces(ETH1)
        assert [m.state for m in receiver.memberships()] == ["waiting"]
        await network.set_interfaces(ETH1, replace(ETH0, index=9))
        (membership,) = receiver.memberships()
        assert (membership.state, membership.interface.index) == ("joined", 9)


async def test_closing_ends_everything() -> None:
    async with open_fake_receiver(GROUP4) as (receiver, network):
        await receiver.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await receiver.receive()
        assert await network.send(b"") == 0
    assert await network.send(b"") == 0


async def test_an_exception_leaves_the_block_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with open_fake_receiver(GROUP4), open_fake_sender(GROUP4):
            raise KeyError


# --- Sending -----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", BOTH)
async def test_a_sender_remembers_what_it_sent_and_receivers_hear_it(group: str) -> None:
    async with (
        open_fake_receiver(group, packet_info="hop_limit") as (receiver, network),
        open_fake_sender(group, network=network, hop_limit=9) as sender,
    ):
        await sender.send(b"one")
        await sender.send_batch([bytearray(b"two"), memoryview(b"three")])
        assert [sent.data for sent in sender.sent] == [b"one", b"two", b"three"]
        assert {sent.address[:2] for sent in sender.sent} == {(group, 5000)}
        got = await receiver.receive_batch()
        assert payloads(got) == [b"one", b"two", b"three"]
        assert {datagram.source for datagram in got} == {sender.local_address}
        assert {datagram.hop_limit for datagram in got} == {9}
        assert sender.statistics() == trio_mcast.SenderStatistics(3, 11, 0)
        assert sender.interfaces == (make_interface(),)


async def test_a_sender_out_of_several_interfaces_sends_a_copy_by_each() -> None:
    network = MemoryNetwork(ETH0, ETH1)
    async with (
        network.open_receiver(GROUP4, port=7) as receiver,
        network.open_sender(GROUP4, port=7, interfaces="all") as everywhere,
        network.open_sender(GROUP4, port=7, interface="eth1") as there,
        network.open_sender(GROUP4, port=7) as default,
        network.open_sender(f"{GROUP4}%eth1", port=7) as zoned,
    ):
        await everywhere.send(b"all")
        await there.send(b"there")
        await default.send(b"default")
        await zoned.send(b"zoned")
        got = {(d.data, d.interface.name, d.source[0]) for d in await receiver.receive_batch()}
        assert got == {
            (b"all", "eth0", "192.0.2.2"),
            (b"all", "eth1", "192.0.2.3"),
            (b"there", "eth1", "192.0.2.3"),
            (b"default", "eth0", "192.0.2.2"),
            (b"zoned", "eth1", "192.0.2.3"),
        }


async def test_a_sender_reaches_other_groups_and_other_senders() -> None:
    async with (
        open_fake_receiver("233.252.0.9", port=7) as (receiver, network),
        open_fake_sender(GROUP4, network=network) as asking,
        open_fake_sender(GROUP4, network=network) as answering,
        asking.open_answers() as answers,
    ):
        await asking.send_to(b"other group", ("233.252.0.9", 7))
        assert receiver.receive_nowait().data == b"other group"
        await answering.send_to(b"answer", asking.local_address)
        answer = answers.receive_nowait()
        assert (answer.data, answer.source) == (b"answer", answering.local_address)
        asking.put_answer(b"from elsewhere", "198.51.100.7")
        assert (await answers.receive()).source[0] == "198.51.100.7"
        for wrong in (("ff15::1", 7), ("example.org", 7)):
            with pytest.raises(trio_mcast.AddressError):
                await asking.send_to(b"", wrong)


@pytest.mark.parametrize("own", [True, False])
async def test_a_sender_without_loopback_is_not_heard_on_its_own_host(own: bool) -> None:
    async with (
        open_fake_receiver(GROUP4) as (receiver, network),
        open_fake_sender(GROUP4, network=network, loopback=own) as sender,
    ):
        await sender.send(b"")
        assert receiver.statistics().datagrams_received == own
        assert len(sender.sent) == 1


async def test_sending_fails_when_a_test_says_so() -> None:
    async with open_fake_sender(GROUP4) as sender:
        sender.error = OSError(errno.ENOBUFS, "full")
        with pytest.raises(trio_mcast.SendError, match="full") as caught:
            await sender.send(b"")
        assert caught.value.errno == errno.ENOBUFS
        assert caught.value.interface == make_interface()
        assert sender.statistics() == trio_mcast.SenderStatistics(0, 0, 1)


async def test_a_closed_sender_refuses_but_shows_what_it_sent() -> None:
    async with open_fake_sender(GROUP4) as sender:
        await sender.send(b"last")
        await sender.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await sender.send(b"")
        with pytest.raises(trio.ClosedResourceError):
            _ = sender.local_address
    assert sender.sent[0].data == b"last"


@pytest.mark.parametrize(
    "arguments", [{"port": 0}, {"hop_limit": 256}, {"interface": "eth9"}, {"source": "::1"}]
)
async def test_wrong_arguments_of_a_sender_are_refused_as_by_the_real_one(arguments: Any) -> None:
    with pytest.raises((ValueError, LookupError)):
        async with open_fake_sender(GROUP4, **arguments):
            pass


# --- The fakes against the real things ---------------------------------------------------------


def parameters(function: Any, *, without: tuple[str, ...] = ("self",)) -> dict[str, Any]:
    found = inspect.signature(function).parameters
    return {name: (p.kind, p.default) for name, p in found.items() if name not in without}


@pytest.mark.parametrize("name", ["open_receiver", "open_sender"])
def test_a_network_opens_with_the_arguments_of_the_real_functions(name: str) -> None:
    real = parameters(getattr(trio_mcast, name))
    assert parameters(getattr(MemoryNetwork, name)) == real
    shortcut = getattr(testing, name.replace("open_", "open_fake_"))
    fake = parameters(shortcut, without=("network",))
    assert fake.pop("port")[1] == 5000
    del real["port"]
    assert fake == real


def test_a_fake_sender_has_what_a_real_one_has() -> None:
    real = {name for name in vars(trio_mcast.MulticastSender) if not name.startswith("_")}
    assert real <= set(dir(FakeSender))
    for name in real:
        function = getattr(trio_mcast.MulticastSender, name)
        if callable(function):
            assert parameters(getattr(FakeSender, name)) == parameters(function)


async def test_a_program_that_opens_its_own_receivers_can_be_given_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = MemoryNetwork()
    monkeypatch.setattr(trio_mcast, "open_receiver", network.open_receiver)
    monkeypatch.setattr(trio_mcast, "open_sender", network.open_sender)
    async with (
        trio_mcast.open_receiver(GROUP4, port=7) as receiver,
        trio_mcast.open_sender(GROUP4, port=7) as sender,
    ):
        await sender.send(b"hello")
        assert (await receiver.receive()).data == b"hello"


# --- What no host has, and no network carries ----------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [make_interface("eth1", index=2), make_interface("eth0", index=3)],
    ids=["index", "name"],
)
async def test_two_interfaces_have_different_names_and_indexes(other: trio_mcast.Interface) -> None:
    with pytest.raises(ValueError, match="two interfaces"):
        MemoryNetwork(make_interface(), other)
    network = MemoryNetwork()
    with pytest.raises(ValueError, match="two interfaces"):
        await network.set_interfaces(make_interface(), other)
    assert network.interfaces == (make_interface(),)


@pytest.mark.parametrize(
    ("group", "source", "size"),
    [
        ("233.252.0.1", "2001:db8::1", 1),
        ("ff15::4d43:1", "192.0.2.77", 1),
        ("233.252.0.1", None, 65_508),
        ("ff15::4d43:1", None, 65_528),
    ],
)
async def test_what_no_network_carries_cannot_arrive(
    group: str, source: str | None, size: int
) -> None:
    async with open_fake_receiver(group) as (receiver, network):
        with pytest.raises(ValueError, match=group):
            await network.send(bytes(size), source=source)
        with pytest.raises(trio_mcast.InterfaceNotFoundError, match="etho"):
            await network.send(b"x", interface="etho")
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()


@pytest.mark.parametrize(
    ("group", "source"), [("233.252.0.1", "203.0.113.9"), ("ff15::4d43:1", "2001:db8::99")]
)
async def test_a_sender_cannot_have_an_address_of_another_host(group: str, source: str) -> None:
    with pytest.raises(trio_mcast.SocketSetupError, match="bind") as caught:
        async with open_fake_sender(group, source=source):
            pass
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("group", ["233.252.0.1", "ff15::4d43:1"])
async def test_without_following_a_deleted_interface_is_heard_no_more(group: str) -> None:
    async with open_fake_receiver(group, follow=False) as (receiver, network):
        await network.set_interfaces()
        await network.set_interfaces(make_interface())
        assert await network.send(b"x", group=group) == 0
        assert [m.state for m in receiver.memberships()] == ["waiting"]


async def test_other_senders_do_not_disturb_an_answer() -> None:
    only6 = make_interface("eth1", index=3, addresses=["2001:db8::3/64", "fe80::3/64"])
    network = MemoryNetwork(make_interface(), only6)
    async with (
        network.open_sender("ff15::4d43:1", port=5000, interface="eth1"),
        network.open_sender("233.252.0.1", port=5000, interface="eth0") as sender,
    ):
        await sender.send_to(b"x", ("192.0.2.2", 5000))
        assert sender.statistics().send_errors == 0
