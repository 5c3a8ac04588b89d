"""The library on Windows' own Python: sockets, trio's completion ports, Winsock by ctypes."""

from __future__ import annotations

import ctypes
import importlib
import ipaddress
import json
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import trio.testing
from patience import LONG

import trio_mcast
from trio_mcast._machine.changes_windows import AddressListChanges
from trio_mcast._machine.feed import FeedShare, follow_interfaces
from trio_mcast._machine.read_wsarecvmsg import WinsockBuffer, WinsockSocket
from trio_mcast._machine.receiving import Origin
from trio_mcast._machine.sockets import open_planned_socket
from trio_mcast._machine.this_machine import ThisMachine
from trio_mcast._machine.winsock import SIO_UDP_CONNRESET, SIO_UDP_NETRESET, Winsock
from trio_mcast.lowlevel import WINDOWS, SocketPlan, current_platform, plan_receiver

LOOPBACK = "127.0.0.1"
GROUPS = {4: "233.252.0.1", 6: "ff15::4d43:1"}
OTHER_GROUPS = {4: "233.252.0.2", 6: "ff15::4d43:2"}
HOSTS = {4: "127.0.0.1", 6: "::1"}
both_families = pytest.mark.parametrize("version", [4, 6])

# Modules of other systems.
FOREIGN = {"netlink", "proc", "capture", "read_recvmmsg", "epoll", "listing_bsd", "listing_linux"}
FOREIGN |= {"netlink_details", "changes_netlink", "changes_route", "inspector_linux", "namespaced"}


def loopback() -> trio_mcast.Interface:
    return next(i for i in trio_mcast.list_interfaces() if i.is_loopback)


@pytest.fixture
def udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def open_receiver(*groups: str, port: int, **arguments: Any) -> Any:
    return trio_mcast.open_receiver(*groups, port=port, interfaces=LOOPBACK, **arguments)


def open_sender(group: str, port: int, **arguments: Any) -> Any:
    return trio_mcast.open_sender(group, port=port, interface=LOOPBACK, **arguments)


# --- Without sockets ---------------------------------------------------------------------------


def test_this_is_the_system_that_the_plan_knows_as_windows() -> None:
    assert current_platform() is WINDOWS


def test_every_module_can_be_imported() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(trio_mcast.__path__, "trio_mcast.")
        if module.name.rpartition(".")[2] not in FOREIGN | {"__main__"}
    ]
    assert len(names) > 50
    for name in names:
        importlib.import_module(name)


def test_the_loopback_interface_is_listed_as_it_is() -> None:
    interface = loopback()
    assert interface.is_up
    assert ipaddress.ip_address(LOOPBACK) in [a.ip for a in interface.addresses]
    assert interface.index > 0
    assert interface.mtu > 0
    assert interface.friendly_name


def test_every_interface_is_listed_once() -> None:
    indexes = [interface.index for interface in trio_mcast.list_interfaces()]
    assert len(indexes) == len(set(indexes))


# --- Receiving and sending ---------------------------------------------------------------------


@both_families
async def test_what_is_sent_is_received(version: int, udp_port: int) -> None:
    with trio.fail_after(LONG):
        async with (
            open_receiver(GROUPS[version], port=udp_port, packet_info="hop_limit") as receiver,
            open_sender(GROUPS[version], udp_port, hop_limit=7) as sender,
        ):
            await sender.send(b"one")
            await sender.send_batch([b"two", b"three", b"seven"])
            found = [await receiver.receive() for _ in range(4)]
            assert [d.data for d in found] == [b"one", b"two", b"three", b"seven"]
            for datagram in found:
                assert str(datagram.group) == GROUPS[version]
                assert datagram.interface.is_loopback
                assert datagram.source[:2] == sender.local_address[:2]
                assert datagram.hop_limit == 7
            figures = receiver.statistics()
            assert (figures.datagrams_received, figures.bytes_received) == (4, 16)
            assert figures.dropped_by_kernel is None
            assert figures.memberships[0].receive_buffer > 0


@both_families
async def test_two_receivers_on_one_port_get_their_own_group_only(
    version: int, udp_port: int
) -> None:
    with trio.fail_after(LONG):
        async with (
            open_receiver(GROUPS[version], port=udp_port) as one,
            open_receiver(OTHER_GROUPS[version], port=udp_port) as other,
            open_sender(GROUPS[version], udp_port) as sender,
        ):
            await sender.send(b"for one")
            await sender.send_to(b"for other", (OTHER_GROUPS[version], udp_port))
            await sender.send_to(b"for nobody", (HOSTS[version], udp_port))
            await sender.send(b"last")
            await sender.send_to(b"last", (OTHER_GROUPS[version], udp_port))
            for receiver, expected in ((one, b"for one"), (other, b"for other")):
                assert [(await receiver.receive()).data for _ in range(2)] == [expected, b"last"]


@both_families
async def test_what_has_left_hears_nothing_more(version: int, udp_port: int) -> None:
    with trio.fail_after(LONG):
        groups = GROUPS[version], OTHER_GROUPS[version]
        async with (
            open_receiver(*groups, port=udp_port) as receiver,
            open_sender(GROUPS[version], udp_port) as sender,
        ):
            await receiver.leave(GROUPS[version])
            await sender.send(b"too late")
            await sender.send_to(b"in time", (OTHER_GROUPS[version], udp_port))
            assert (await receiver.receive()).data == b"in time"
            assert len(receiver.memberships()) == 1


@both_families
@pytest.mark.parametrize("size", [0, 1, 65507])
async def test_datagrams_of_any_size_arrive_whole(version: int, size: int, udp_port: int) -> None:
    with trio.fail_after(LONG):
        async with (
            open_receiver(GROUPS[version], port=udp_port) as receiver,
            open_sender(GROUPS[version], udp_port) as sender,
        ):
            await sender.send(bytes(size))
            datagram = await receiver.receive()
            assert (len(datagram.data), datagram.truncated) == (size, False)


async def test_a_datagram_that_is_too_large_is_refused_with_windows_number(udp_port: int) -> None:
    async with open_sender(GROUPS[4], udp_port) as sender:
        with pytest.raises(trio_mcast.SendError) as caught:
            await sender.send(bytes(65508))
    assert caught.value.winerror == 10040
    assert caught.value.__notes__


async def test_a_receiver_that_waits_can_be_cancelled_and_used_again(udp_port: int) -> None:
    with trio.fail_after(LONG):
        async with (
            open_receiver(GROUPS[4], port=udp_port) as receiver,
            open_sender(GROUPS[4], udp_port) as sender,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiver.receive)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            await sender.send(b"after")
            assert (await receiver.receive()).data == b"after"


async def test_a_receiver_can_be_closed_while_somebody_waits(udp_port: int) -> None:
    with trio.fail_after(LONG):
        async with open_receiver(GROUPS[4], port=udp_port) as receiver:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await receiver.receive()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await receiver.aclose()


async def test_the_newest_are_kept_when_the_program_is_slow(udp_port: int) -> None:
    with trio.fail_after(LONG):
        arguments = {"overflow": "drop-oldest", "max_buffered": 3}
        async with (
            open_receiver(GROUPS[4], port=udp_port, **arguments) as receiver,
            open_sender(GROUPS[4], udp_port) as sender,
        ):
            for n in range(10):
                await sender.send(b"%d" % n)
            while receiver.statistics().datagrams_received < 10:
                await trio.testing.wait_all_tasks_blocked()
            assert [d.data for d in await receiver.receive_batch()] == [b"7", b"8", b"9"]
            assert receiver.statistics().dropped_by_overflow == 7


async def test_answers_come_back_to_the_sender(udp_port: int) -> None:
    with trio.fail_after(LONG):
        async with (
            open_receiver(GROUPS[4], port=udp_port) as receiver,
            open_sender(GROUPS[4], udp_port) as asking,
            open_sender(GROUPS[4], udp_port) as answering,
            asking.open_answers() as answers,
        ):
            await asking.send(b"who is there?")
            await answering.send_to(b"I", (await receiver.receive()).source)
            assert (await answers.receive()).data == b"I"


async def test_a_host_that_did_not_listen_does_no_harm_to_the_sender(udp_port: int) -> None:
    with trio.fail_after(LONG):
        async with (
            open_receiver(GROUPS[4], port=udp_port) as receiver,
            open_sender(GROUPS[4], udp_port) as asking,
            asking.open_answers() as answers,
        ):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind((LOOPBACK, 0))
                address = gone.getsockname()
            await asking.send_to(b"nobody there", address)
            await asking.send(b"hello")
            datagram = await receiver.receive()
            await asking.send_to(b"to myself", datagram.source)
            assert (await answers.receive()).data == b"to myself"


# --- Winsock -----------------------------------------------------------------------------------


def plan(version: int, port: int) -> SocketPlan:
    return plan_receiver(WINDOWS, GROUPS[version], port, loopback())


@contextmanager
def planned_socket(version: int, port: int) -> Iterator[tuple[socket.socket, WinsockSocket]]:
    planned = plan(version, port)
    buffers = WinsockBuffer(WINDOWS, Winsock())
    with open_planned_socket(planned) as sock:
        yield sock, WinsockSocket(buffers, sock, planned, Origin.of(planned, port))


@pytest.mark.parametrize("version", [4, 6])
async def test_datagrams_are_read_by_wsarecvmsg(version: int, udp_port: int) -> None:
    sockets = ThisMachine().open_receiving_sockets()
    receiving = sockets.open(plan(version, udp_port), udp_port)
    try:
        assert isinstance(receiving, WinsockSocket)
        assert receiving._buffers._find_function(receiving._socket.family) is not None
    finally:
        receiving.close()


def test_reports_of_closed_ports_can_be_switched_off() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert Winsock().control(sock, SIO_UDP_CONNRESET, bytes(4)) == b""


@pytest.mark.skipif(hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"), reason="not in Wine 8")
def test_reports_of_exceeded_hop_limits_can_be_switched_off() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert Winsock().control(sock, SIO_UDP_NETRESET, bytes(4)) == b""


def test_an_unknown_ioctl_is_an_error_with_windows_number() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError) as caught,
    ):
        Winsock().control(sock, 0x98FF00FF, bytes(4))
    assert caught.value.winerror in (10022, 10045)


def test_reading_an_empty_socket_gives_nothing(udp_port: int) -> None:
    with planned_socket(4, udp_port) as (_sock, receiving):
        assert not receiving.read([], False)


def test_a_closed_port_that_was_sent_to_is_no_error_of_reading(udp_port: int) -> None:
    with planned_socket(4, udp_port) as (sock, receiving):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind((LOOPBACK, 0))
            address = gone.getsockname()
        for _ in range(3):
            sock.sendto(b"", address)
            assert not receiving.read([], False)


@pytest.mark.parametrize("number", [10054, 10052])
def test_resets_that_come_all_the_same_are_passed_over(number: int, udp_port: int) -> None:
    answers = [(0, number), (0, number), (0, 10035)]
    with planned_socket(4, udp_port) as (_sock, receiving):
        receiving._buffers._functions[socket.AF_INET] = lambda _handle, _message: answers.pop(0)
        assert not receiving.read([], False)
    assert answers == []


def test_an_error_of_winsock_is_the_exception_that_sockets_raise(udp_port: int) -> None:
    with planned_socket(4, udp_port) as (_sock, receiving):
        receiving._buffers._functions[socket.AF_INET] = lambda _handle, _message: (0, 10055)
        with pytest.raises(OSError) as caught:
            receiving.read([], False)
    assert caught.value.winerror == 10055


async def test_an_address_that_comes_is_announced() -> None:
    request = os.environ.get("TRIO_MCAST_ADDRESS_REQUEST")
    if request is None:
        pytest.skip("nobody here gives this host another address when asked")
    with trio.fail_after(LONG):
        feed = follow_interfaces(ThisMachine())
        assert isinstance(feed._feed._changes, AddressListChanges)
        try:
            await trio.Path(request).touch()
            while "192.0.2.77" not in str(feed.listing):
                await feed.wait()
        finally:
            feed.close()


async def wait_for_ever(feed: FeedShare) -> None:
    while True:
        await feed.wait()


async def test_a_feed_can_be_closed_while_somebody_waits() -> None:
    with trio.fail_after(LONG):
        feed = follow_interfaces(ThisMachine())

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await wait_for_ever(feed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            feed.close()


async def test_waiting_for_changes_can_be_cancelled_and_begun_again() -> None:
    with trio.fail_after(LONG):
        feed = follow_interfaces(ThisMachine())
        try:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(feed.wait)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()
        finally:
            feed.close()


# --- The command line --------------------------------------------------------------------------


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "trio_mcast", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(*arguments: str, code: int = 0) -> str:
    program = start(*arguments)
    out, err = program.communicate(timeout=LONG)
    assert program.returncode == code, err.decode()
    return out.decode()


def test_demo_sends_to_itself() -> None:
    assert "hello" in run("demo").lower() or "received" in run("demo").lower()


def test_interfaces_are_printed() -> None:
    lines = [json.loads(line) for line in run("interfaces", "--json").splitlines()]
    assert LOOPBACK in str(lines)


def test_a_plan_is_printed() -> None:
    out = run("plan", GROUPS[4], "5000", "--platform", "windows")
    assert "MCAST_JOIN_GROUP" in out


def test_listen_prints_what_send_sends(udp_port: int) -> None:
    port = str(udp_port)
    listener = start("listen", GROUPS[4], "--port", port, "--interface", LOOPBACK, "--count", "1")
    try:
        assert listener.stderr is not None
        while b"listening to" not in (line := listener.stderr.readline()):
            assert line, "it ended early"
        run("send", GROUPS[4], "hello", "--port", port, "--interface", LOOPBACK)
        out, err = listener.communicate(timeout=LONG)
        assert listener.returncode == 0, err.decode()
        assert b"hello" in out
    finally:
        listener.kill()
        listener.communicate()


def test_wrong_usage_has_its_exit_code() -> None:
    run("listen", "192.0.2.1", "--port", "5000", code=2)
