"""Uses of the whole public interface, read by type checkers only (mypy, pyright)."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Literal, assert_type

import trio

import trio_mcast
from trio_mcast import Finding, lowlevel, testing

State = Literal["joined", "waiting", "failed"]
Mode = Literal["include", "exclude"]


async def receiving() -> None:
    async with trio_mcast.open_receiver("239.1.2.3", port=5000) as receiver:
        assert_type(receiver, trio_mcast.MulticastReceiver)
        async for datagram in receiver:
            assert_type(datagram, trio_mcast.Datagram)
        assert_type(await receiver.receive(), trio_mcast.Datagram)
        assert_type(receiver.receive_nowait(), trio_mcast.Datagram)
        assert_type(await receiver.receive_batch(), list[trio_mcast.Datagram])
        assert_type(await receiver.receive_batch(max=5), list[trio_mcast.Datagram])
        assert_type(receiver.batches(), AsyncIterator[list[trio_mcast.Datagram]])
        async for batch in receiver.batches():
            assert_type(batch, list[trio_mcast.Datagram])
        await receiver.aclose()

        channel: trio.abc.ReceiveChannel[trio_mcast.Datagram] = receiver
        listener: trio_mcast.RunningReceiver = receiver
        del channel, listener


async def receiving_with_every_argument() -> None:
    async with trio_mcast.open_receiver(
        "239.1.2.3",
        ip_address("ff15::1"),
        IPv4Address("239.1.2.4"),
        port=5000,
        sources=["192.0.2.1", ip_address("2001:db8::1")],
        interfaces=["eth0", 2, ip_network("192.0.2.0/24"), trio_mcast.list_interfaces()[0]],
        loopback=False,
        packet_info=["hop_limit", "timestamp", "traffic_class"],
        overflow="drop-oldest",
        max_buffered=100,
        receive_buffer=1 << 20,
        follow=False,
    ):
        pass
    async with trio_mcast.open_receiver(
        port=5000,
        sources="192.0.2.1",
        interfaces=IPv6Network("2001:db8::/64"),
        packet_info="hop_limit",
        receive_buffer=None,
    ):
        pass


async def wrong_arguments() -> None:
    trio_mcast.open_receiver("239.1.2.3")  # type: ignore[call-arg] # no port
    trio_mcast.open_receiver(239, port=5000)  # type: ignore[arg-type]
    trio_mcast.open_receiver(port=5000, overflow="drop")  # type: ignore[arg-type]
    trio_mcast.open_receiver(port=5000, packet_info="ttl")  # type: ignore[arg-type]
    trio_mcast.open_receiver(port=5000, interfaces=1.5)  # type: ignore[arg-type]


async def memberships(receiver: trio_mcast.MulticastReceiver) -> None:
    await receiver.join("239.1.2.3", sources="192.0.2.1", interfaces="eth0")
    async with receiver.joined("239.1.2.4", sources=[], interfaces=["eth0"]):
        pass
    receiver.set_sources("239.1.2.3", ["192.0.2.1"])
    receiver.set_sources("239.1.2.3", [], mode="exclude", interfaces=["eth0"])
    receiver.add_source("239.1.2.3", "192.0.2.2")
    receiver.remove_source("239.1.2.3", ip_address("192.0.2.2"), interfaces=2)
    receiver.block_source("239.1.2.3", "192.0.2.2")
    receiver.unblock_source("239.1.2.3", "192.0.2.2")
    await receiver.leave("239.1.2.3", interfaces="eth0")

    statuses = receiver.memberships()
    assert_type(statuses, tuple[trio_mcast.MembershipStatus, ...])
    status = statuses[0]
    assert_type(status.group, IPv4Address | IPv6Address)
    assert_type(status.port, int)
    assert_type(status.interface, trio_mcast.Interface)
    assert_type(status.sources, tuple[IPv4Address | IPv6Address, ...])
    assert_type(status.mode, Mode)
    assert_type(status.state, State)
    assert_type(status.error, OSError | None)

    events = receiver.events()
    assert_type(events, trio_mcast.EventStream[trio_mcast.MembershipStatus])
    async for event in events:
        assert_type(event, trio_mcast.MembershipStatus)

    statistics = receiver.statistics()
    assert_type(statistics, trio_mcast.ReceiverStatistics)
    assert_type(statistics.datagrams_received, int)
    assert_type(statistics.bytes_received, int)
    assert_type(statistics.datagrams_buffered, int)
    assert_type(statistics.dropped_by_kernel, int | None)
    assert_type(statistics.dropped_by_overflow, int)
    assert_type(statistics.memberships, tuple[trio_mcast.MembershipStatistics, ...])
    assert_type(statistics.memberships[0].receive_buffer, int | None)


async def running() -> None:
    send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](16)
    async with trio.open_nursery() as nursery:
        listener: trio_mcast.RunningReceiver = await nursery.start(
            functools.partial(trio_mcast.run_receiver, send_channel, "239.1.2.3", port=5000)
        )
        assert_type(listener.memberships(), tuple[trio_mcast.MembershipStatus, ...])
        async for batch in receive_channel:
            assert_type(batch, list[trio_mcast.Datagram])


def a_datagram(datagram: trio_mcast.Datagram) -> None:
    assert_type(datagram.data, bytes)
    assert_type(datagram.source, tuple[Any, ...])
    assert_type(datagram.group, IPv4Address | IPv6Address)
    assert_type(datagram.port, int)
    assert_type(datagram.interface, trio_mcast.Interface)
    assert_type(datagram.hop_limit, int | None)
    assert_type(datagram.timestamp, int | None)
    assert_type(datagram.traffic_class, int | None)
    assert_type(datagram.truncated, bool)


async def sending(datagram: trio_mcast.Datagram) -> None:
    async with trio_mcast.open_sender(
        "239.1.2.3",
        port=5000,
        interfaces="all",
        hop_limit=8,
        loopback=False,
        traffic_class=0xB8,
        source=ip_address("192.0.2.1"),
        source_port=5001,
        send_buffer=1 << 20,
    ) as sender:
        assert_type(sender, trio_mcast.MulticastSender)
        await sender.send(b"bytes")
        await sender.send(bytearray(b"bytes"))
        await sender.send(memoryview(b"bytes"))
        await sender.send("text")  # type: ignore[arg-type]
        await sender.send_batch([b"one", b"two"])
        await sender.send_batch(bytes(n) for n in range(5))
        await sender.send_to(b"answer", datagram.source)
        await sender.send_to(b"other", ("239.1.2.4", 5001))
        assert_type(sender.local_address, tuple[Any, ...])
        assert_type(sender.interfaces, tuple[trio_mcast.Interface, ...])
        statistics = sender.statistics()
        assert_type(statistics, trio_mcast.SenderStatistics)
        assert_type(statistics.datagrams_sent, int)
        assert_type(statistics.bytes_sent, int)
        assert_type(statistics.send_errors, int)
        async with sender.open_answers(max_buffered=10) as answers:
            async for answer in answers:
                assert_type(answer, trio_mcast.Answer)
                assert_type(answer.data, bytes)
        channel: trio.abc.SendChannel[bytes] = sender
        await channel.aclose()
    async with trio_mcast.open_sender("ff15::1", port=5000, interface="eth0"):
        pass


async def interfaces() -> None:
    listing = trio_mcast.list_interfaces()
    assert_type(listing, tuple[trio_mcast.Interface, ...])
    assert_type(trio_mcast.default_interface(), trio_mcast.Interface | None)
    assert_type(trio_mcast.default_interface(6), trio_mcast.Interface | None)
    interface = await trio_mcast.wait_for_interface("eth0")
    assert_type(interface, trio_mcast.Interface)
    assert_type(interface.name, str)
    assert_type(interface.index, int)
    assert_type(interface.friendly_name, str)
    assert_type(interface.addresses, tuple[IPv4Interface | IPv6Interface, ...])
    assert_type(interface.is_up, bool)
    assert_type(interface.is_loopback, bool)
    assert_type(interface.supports_multicast, bool)
    assert_type(interface.mtu, int)
    interface.mtu = 1  # type: ignore[misc]
    async with trio_mcast.watch_interfaces() as changes:
        async for change in changes:
            assert_type(change, trio_mcast.InterfaceChange)
            assert_type(change.kind, Literal["added", "removed", "changed"])
            assert_type(change.interface, trio_mcast.Interface)
            assert_type(change.previous, trio_mcast.Interface | None)


def addresses() -> None:
    classification = trio_mcast.classify("239.1.2.3")
    assert_type(classification, trio_mcast.Classification)
    assert_type(classification.is_multicast, bool)
    trio_mcast.glop_block(64496)
    trio_mcast.unicast_prefix_groups("2001:db8::/32")
    trio_mcast.embedded_rp_groups("2001:db8::1")
    assert_type(trio_mcast.ethernet_address("239.1.2.3"), str)
    trio_mcast.random_group()

    assert_type(trio_mcast.ethernet_aliases("239.1.2.3"), tuple[IPv4Address, ...])
    assert_type(trio_mcast.sacn_group(1), IPv4Address)
    assert_type(trio_mcast.link_scoped_groups("fe80::1"), IPv6Network)
    assert_type(trio_mcast.ipv4_embedded_group("ff3e::/96", "239.1.2.3"), IPv6Address)
    assert_type(trio_mcast.solicited_node_group("2001:db8::1"), IPv6Address)
    assert_type(trio_mcast.scope_relative_group("239.255.0.0/16", 5), IPv4Address)
    assert_type(classification.describe_use(), str | None)
    assert_type(classification.describe_reach(), str | None)
    assert_type(classification.describe_blocks(), tuple[str, ...])
    assert_type(classification.describe_problems(), tuple[str, ...])


def types(
    group: trio_mcast.GroupLike,
    source: trio_mcast.SourceLike,
    selector: trio_mcast.InterfaceSelector,
    selectors: trio_mcast.InterfacesLike,
    names: list[trio_mcast.PacketInfoName],
    overflow: trio_mcast.Overflow,
) -> None:
    trio_mcast.open_receiver(
        group, port=5000, sources=source, interfaces=selectors, packet_info=names, overflow=overflow
    )
    trio_mcast.open_sender(group, port=5000, interface=selector, source=source)
    payload: trio_mcast.Payload = b""
    address: trio_mcast.SocketAddress = ("192.0.2.1", 5000)
    mode: trio_mcast.FilterMode = "include"
    state: trio_mcast.MembershipState = "joined"
    older: type[trio_mcast.Listener] = trio_mcast.RunningReceiver
    del payload, address, mode, state, older
    assert_type(trio_mcast.__version__, str)


async def finding_faults() -> None:
    findings = await trio_mcast.diagnose("239.1.2.3", port=5000, interface="eth0", watch=1.0)
    assert_type(findings, tuple[trio_mcast.Finding, ...])
    assert_type(findings[0].severity, Literal["error", "warning", "info"])
    assert_type(findings[0].evidence, tuple[str, ...])
    question = lowlevel.parse_question(["239.1.2.3"], port=5000, source="192.0.2.1")
    assert_type(question, lowlevel.Question)
    case = await lowlevel.examine(question, 1.0)
    assert_type(case, lowlevel.Case)
    assert_type(lowlevel.judge(lowlevel.Case.from_json(case.to_json())), tuple[Finding, ...])
    assert_type(lowlevel.take_snapshot(), lowlevel.Snapshot)
    with lowlevel.MembershipWatch() as watch:
        assert_type(await watch.wait(), list[lowlevel.MembershipChange])


def errors(error: trio_mcast.SocketSetupError | trio_mcast.SendError) -> None:
    assert_type(error.step, str)
    assert_type(error.interface, trio_mcast.Interface | None)
    assert_type(error.group, IPv4Address | IPv6Address | None)
    base: trio_mcast.MulticastError = error
    unsupported: type[trio_mcast.MulticastError] = trio_mcast.NotSupportedError
    of_the_system: OSError = error
    of_a_value: ValueError = trio_mcast.AddressError("text")
    of_a_lookup: LookupError = trio_mcast.InterfaceNotFoundError("text")
    del base, unsupported, of_the_system, of_a_value, of_a_lookup


def low_level(interface: trio_mcast.Interface) -> None:
    group = lowlevel.parse_group("239.1.2.3%eth0")
    assert_type(group, lowlevel.Group)
    assert_type(group.zone, str | None)
    assert_type(lowlevel.parse_sources("192.0.2.1"), tuple[IPv4Address | IPv6Address, ...])
    assert_type(lowlevel.find_interfaces("eth0", version=4), tuple[trio_mcast.Interface, ...])
    for platform in (
        lowlevel.LINUX,
        lowlevel.LINUX_32BIT,
        lowlevel.MACOS,
        lowlevel.WINDOWS,
        lowlevel.current_platform(),
    ):
        assert_type(platform, lowlevel.Platform)
        plan = lowlevel.plan_receiver(
            platform,
            "239.1.2.3",
            5000,
            interface,
            sources=["192.0.2.1"],
            loopback=False,
            packet_info="hop_limit",
            receive_buffer=None,
        )
        assert_type(plan, lowlevel.SocketPlan)
        assert_type(plan.family, int)
        assert_type(plan.bind, tuple[Any, ...] | None)
        assert_type(plan.before_bind, tuple[lowlevel.SocketOption, ...])
        assert_type(plan.after_bind, tuple[lowlevel.SocketOption, ...])
        assert_type(plan.options, tuple[lowlevel.SocketOption, ...])
        option = plan.options[0]
        assert_type(option.level, int)
        assert_type(option.option, int)
        assert_type(option.value, bytes)
        assert_type(option.label, str)
        lowlevel.plan_sender(
            platform,
            "239.1.2.3",
            5000,
            interface,
            hop_limit=1,
            loopback=True,
            traffic_class=None,
            source=None,
            source_port=0,
            send_buffer=None,
        )
        lowlevel.open_planned_socket(plan).close()


OpenReceiver = Callable[..., AbstractAsyncContextManager[trio_mcast.MulticastReceiver]]


async def fakes() -> None:
    interface = testing.make_interface("eth1", index=3, addresses=["192.0.2.3/24"], mtu=9000)
    assert_type(interface, trio_mcast.Interface)
    datagram = testing.make_datagram(b"x", source="192.0.2.1", interface=interface)
    assert_type(datagram, trio_mcast.Datagram)

    async with testing.open_fake_receiver("239.1.2.3") as (receiver, network):
        assert_type(receiver, trio_mcast.MulticastReceiver)
        assert_type(network, testing.MemoryNetwork)
        assert_type(await network.send(b"a", b"b", source=("192.0.2.1", 7)), int)
        assert_type(await network.deliver([datagram]), int)
        await network.fail(OSError(), group="239.1.2.3", interface="eth0")
        await network.recover()
        await network.set_interfaces(interface)
        assert_type(network.interfaces, tuple[trio_mcast.Interface, ...])

    network = testing.MemoryNetwork(interface)
    with network.active():
        pass
    async with testing.open_fake_sender("239.1.2.3", network=network) as sender:
        assert_type(sender, testing.FakeSender)
        assert_type(sender.sent, list[testing.SentDatagram])
        assert_type(sender.sent[0].data, bytes)
        sender.error = OSError()
        sender.put_answer(b"answer", "192.0.2.1")
        channel: trio.abc.SendChannel[bytes] = sender
        del channel
    opener: OpenReceiver = network.open_receiver
    opener = trio_mcast.open_receiver
    del opener
