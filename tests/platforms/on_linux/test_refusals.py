"""Opening, joining, reading and sending on the models of all systems when something is refused."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
import trio
import trio.testing
from patience import LONG
from platforms.model_kernel import Kernel, Packet
from platforms.model_machine import standing_on
from platforms.systems import LINUX_SYSTEM, MACOS_SYSTEM, WINDOWS_SYSTEM, System

import trio_mcast
from trio_mcast import SendError, SocketSetupError
from trio_mcast.testing import make_interface

ETH0, ETH1 = make_interface("eth0", index=2), make_interface("eth1", index=3)
LOOPBACK = make_interface("lo", index=1, addresses=["127.0.0.1/8", "::1/128"], is_loopback=True)
GROUP, GROUP_V6 = "233.252.0.1", "ff15::4d43:1"
both_groups = pytest.mark.parametrize("group", [GROUP, GROUP_V6])


def packet(group: str = GROUP, data: bytes = b"data", **changes: Any) -> Packet:
    source = ("198.51.100.1", 40000) if ":" not in group else ("2001:db8:1::1", 40000, 0, 0)
    return Packet(data, ip_address(group), 5000, 2, source, **changes)


@asynccontextmanager
async def receiver_on(kernel: Kernel, *groups: str, **arguments: Any) -> Any:
    async with trio_mcast.open_receiver(*groups, port=5000, **arguments) as receiver:
        await trio.testing.wait_all_tasks_blocked()
        yield receiver
    assert kernel.sockets == []


# --- Opening -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["socket", "SO_REUSEADDR", "bind", "MCAST_JOIN_GROUP"])
async def test_a_refusal_keeps_its_number_and_leaves_nothing_open(
    system: System, step: str
) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        kernel.faults[step] = ["EADDRNOTAVAIL"]
        with pytest.raises(SocketSetupError) as caught:
            async with trio_mcast.open_receiver(GROUP, port=5000):
                pass
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert caught.value.__notes__
        assert kernel.sockets == []


async def test_an_interface_that_refuses_fails_alone(system: System) -> None:
    with standing_on(system, [ETH0, ETH1]) as machine:
        kernel = machine.kernel
        kernel.faults["MCAST_JOIN_GROUP"] = ["EADDRNOTAVAIL"]
        async with receiver_on(kernel, GROUP) as receiver:
            failed, joined = receiver.memberships()
            assert (failed.state, joined.state) == ("failed", "joined")
            assert failed.error.errno == errno.EADDRNOTAVAIL


async def test_running_out_of_descriptors_is_raised_at_once(system: System) -> None:
    with standing_on(system, [ETH0, ETH1]) as machine:
        kernel = machine.kernel
        kernel.faults["IP_MULTICAST_LOOP" if system.name == "win32" else "bind"] = ["EMFILE"]
        with pytest.raises(SocketSetupError) as caught:
            async with trio_mcast.open_receiver(GROUP, port=5000):
                pass
        assert caught.value.errno == errno.EMFILE
        assert kernel.sockets == []


@both_groups
async def test_what_leaves_has_left_and_what_is_closed_is_closed(
    system: System, group: str
) -> None:
    with standing_on(system, [ETH0, ETH1]) as machine:
        kernel = machine.kernel
        async with receiver_on(kernel, group) as receiver:
            assert sorted(key[0] for s in kernel.sockets for key in s.memberships) == [2, 3]
            await receiver.leave(group, interfaces="eth0")
            assert [key[0] for s in kernel.sockets for key in s.memberships] == [3]


@both_groups
async def test_another_program_may_share_the_port_and_one_that_does_not_is_told(
    system: System, group: str
) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        wildcard = ("0.0.0.0", 5000) if ":" not in group else ("::", 5000, 0, 0)
        family = system.constants["AF_INET" if len(wildcard) == 2 else "AF_INET6"]
        other = kernel.open_socket(family, 2)
        other.options |= {"SO_REUSEADDR": 1, "SO_REUSEPORT": 1}
        other.bind(wildcard)
        async with trio_mcast.open_receiver(group, port=5000):
            pass
        other.options.clear()
        with pytest.raises(SocketSetupError) as caught:
            async with trio_mcast.open_receiver(group, port=5000):
                pass
        assert caught.value.errno == errno.EADDRINUSE
        other.close()


# --- macOS -------------------------------------------------------------------------------------


@both_groups
@pytest.mark.parametrize("error", ["ENOMEM", "ENOEXEC"])
async def test_macos_is_asked_again_when_it_refuses_a_join_for_no_reason(
    group: str, error: str
) -> None:
    with standing_on(MACOS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        kernel.faults["MCAST_JOIN_GROUP"] = [error, error]
        async with receiver_on(kernel, group) as receiver:
            assert [m.state for m in receiver.memberships()] == ["joined"]


async def test_macos_is_not_asked_for_ever() -> None:
    with standing_on(MACOS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        kernel.faults["MCAST_JOIN_GROUP"] = ["ENOMEM"] * 100
        with pytest.raises(SocketSetupError):
            async with trio_mcast.open_receiver(GROUP, port=5000):
                pass
        assert kernel.sockets == []


@pytest.mark.parametrize("system", [LINUX_SYSTEM, WINDOWS_SYSTEM], ids=str)
async def test_other_systems_mean_it_when_they_refuse(system: System) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        kernel.faults["MCAST_JOIN_GROUP"] = ["ENOMEM"]
        with pytest.raises(SocketSetupError):
            async with trio_mcast.open_receiver(GROUP, port=5000):
                pass
        assert kernel.sockets == []


async def test_a_group_that_macos_delivers_to_everyone_is_told_by_its_interface() -> None:
    with standing_on(MACOS_SYSTEM, [ETH0, ETH1]) as machine:
        kernel = machine.kernel
        async with receiver_on(kernel, "224.0.0.1") as receiver:
            kernel.arrive(packet("224.0.0.1"))
            await trio.testing.wait_all_tasks_blocked()
            assert [d.interface.name for d in await receiver.receive_batch()] == ["eth0"]


# --- Windows -----------------------------------------------------------------------------------


@both_groups
async def test_windows_is_bound_to_the_wildcard_before_it_joins(group: str) -> None:
    with standing_on(WINDOWS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        async with receiver_on(kernel, group):
            steps = [step for _number, step, _value in kernel.log]
            assert steps.index("bind") < steps.index("MCAST_JOIN_GROUP")
            (bound,) = [value for _number, step, value in kernel.log if step == "bind"]
            assert ip_address(bound[0]).is_unspecified


@both_groups
async def test_without_the_newer_options_windows_is_asked_by_the_older_ones(group: str) -> None:
    with standing_on(WINDOWS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        kernel.faults["MCAST_JOIN_GROUP"] = ["ENOPROTOOPT"]
        async with receiver_on(kernel, group) as receiver:
            kernel.arrive(packet(group))
            await trio.testing.wait_all_tasks_blocked()
            assert len(await receiver.receive_batch()) == 1
            kernel.faults["MCAST_LEAVE_GROUP"] = ["ENOPROTOOPT"]
            await receiver.leave(group)


async def test_icmp_errors_are_switched_off() -> None:
    with standing_on(WINDOWS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        async with receiver_on(kernel, GROUP):
            for error in ("ECONNRESET", "ENETRESET"):
                kernel.report_unreachable(error)
            assert [len(sock.queue) for sock in kernel.sockets] == [0]


@pytest.mark.parametrize("error", ["ECONNRESET", "ENETRESET"])
async def test_icmp_errors_that_come_all_the_same_are_survived(error: str) -> None:
    with standing_on(WINDOWS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        machine.winsock.refuses.add("control")
        async with receiver_on(kernel, GROUP) as receiver:
            kernel.report_unreachable(error)
            kernel.arrive(packet())
            await trio.testing.wait_all_tasks_blocked()
            assert [d.data for d in await receiver.receive_batch()] == [b"data"]
            assert [m.state for m in receiver.memberships()] == ["joined"]


async def test_without_wsarecvmsg_datagrams_are_read_plainly() -> None:
    with standing_on(WINDOWS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        machine.winsock.refuses.add("load_wsarecvmsg")
        async with receiver_on(kernel, GROUP, packet_info="hop_limit") as receiver:
            kernel.arrive(packet())
            await trio.testing.wait_all_tasks_blocked()
            (datagram,) = await receiver.receive_batch()
            assert (datagram.data, datagram.hop_limit) == (b"data", None)


async def test_another_error_of_reading_is_the_membership_s_state() -> None:
    with standing_on(WINDOWS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        async with receiver_on(kernel, GROUP) as receiver:
            kernel.sockets[0].put("ENOBUFS")
            await trio.testing.wait_all_tasks_blocked()
            assert [m.state for m in receiver.memberships()] == ["failed"]


# --- What comes with a datagram ----------------------------------------------------------------


@both_groups
async def test_hop_limit_and_traffic_class_come_with_the_datagram(
    system: System, group: str
) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        wanted = ("hop_limit", "traffic_class")
        async with receiver_on(kernel, group, packet_info=wanted) as receiver:
            kernel.arrive(packet(group, hop_limit=7, traffic_class=0xB8))
            await trio.testing.wait_all_tasks_blocked()
            (datagram,) = await receiver.receive_batch()
            assert (datagram.hop_limit, datagram.traffic_class) == (7, 0xB8)


@both_groups
@pytest.mark.parametrize("size", [0, 1, 1472, 65507])
async def test_datagrams_of_any_size_are_whole(system: System, group: str, size: int) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        async with receiver_on(kernel, group) as receiver:
            kernel.arrive(packet(group, bytes(size)))
            await trio.testing.wait_all_tasks_blocked()
            (datagram,) = await receiver.receive_batch()
            assert (len(datagram.data), datagram.truncated) == (size, False)


# --- Sending -----------------------------------------------------------------------------------


@both_groups
async def test_what_is_sent_leaves_by_the_interface_with_all_that_was_asked_for(
    system: System, group: str
) -> None:
    with standing_on(system, [ETH0, ETH1]) as machine:
        kernel = machine.kernel
        async with trio_mcast.open_sender(
            group, port=5000, interface="eth1", hop_limit=9, loopback=False, traffic_class=0xB8
        ) as sender:
            await sender.send(b"one")
            await sender.send_batch([b"two", b"three", b"seven"])
        assert [sent.packet.data for sent in kernel.sent] == [b"one", b"two", b"three", b"seven"]
        for sent in kernel.sent:
            assert sent.packet.index == 3
            assert (sent.packet.hop_limit, sent.packet.traffic_class) == (9, 0xB8)
            assert not sent.loopback
        assert kernel.sockets == []


@both_groups
async def test_the_largest_datagram_can_be_sent_and_a_larger_one_is_refused(
    system: System, group: str
) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        async with trio_mcast.open_sender(group, port=5000, interface="eth0") as sender:
            await sender.send(bytes(65507))  # macOS refuses above 9216 unless told otherwise
            with pytest.raises(SendError) as caught:
                await sender.send(bytes(65508))
        assert caught.value.errno == errno.EMSGSIZE
        assert len(kernel.sent) == 1


async def test_a_sender_hears_of_its_datagram_on_its_own_host(system: System) -> None:
    with standing_on(system, [ETH0]) as machine:
        kernel = machine.kernel
        async with (
            receiver_on(kernel, GROUP) as receiver,
            trio_mcast.open_sender(GROUP, port=5000, interface="eth0") as sender,
        ):
            await sender.send(b"hello")
            with trio.fail_after(LONG):
                assert (await receiver.receive()).source == sender.local_address


async def test_macos_refusal_to_send_on_the_local_network_is_explained() -> None:
    with standing_on(MACOS_SYSTEM, [ETH0]) as machine:
        kernel = machine.kernel
        async with trio_mcast.open_sender(GROUP, port=5000, interface="eth0") as sender:
            kernel.faults["sendto"] = ["EHOSTUNREACH", "EHOSTUNREACH"]
            with pytest.raises(SendError) as caught:
                await sender.send(b"data")
        assert caught.value.errno == errno.EHOSTUNREACH
        assert "Local Network" in caught.value.__notes__[0]


async def test_sending_to_nobody_on_windows_loopback_is_refused_with_an_explanation() -> None:
    with standing_on(WINDOWS_SYSTEM, [LOOPBACK]) as machine:
        kernel = machine.kernel
        async with trio_mcast.open_sender(GROUP, port=5000, interface="lo") as sender:
            with pytest.raises(SendError) as caught:
                await sender.send(b"data")
            assert caught.value.errno == errno.ENETUNREACH
            assert "has joined the group" in caught.value.__notes__[0]
            async with receiver_on_loopback():
                await sender.send(b"data")
        assert [sent.packet.data for sent in kernel.sent] == [b"data"]


@asynccontextmanager
async def receiver_on_loopback() -> Any:
    async with trio_mcast.open_receiver(GROUP, port=5000, interfaces="lo") as receiver:
        yield receiver
