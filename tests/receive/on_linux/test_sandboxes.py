"""Where a sandbox, an old kernel or an emulator refuses a system call, the rest works."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, Talker
from namespaces.receiving import (
    BOTH,
    EVERY_SCOPE,
    GROUP4,
    GROUP6,
    SOURCE_SPECIFIC,
    collect,
    everything,
)
from namespaces.sandbox import refuse_call
from patience import SOON

import trio_mcast
from trio_mcast import Interface, SocketSetupError
from trio_mcast._machine import this_machine

EPOLL_CTL_ADD = 1  # sys/epoll.h
SO_BINDTOIFINDEX = 62  # asm-generic/socket.h

REFUSALS = [errno.ENOSYS, errno.EPERM]
each_refusal = pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
each_group = pytest.mark.parametrize("group", BOTH)


def in_some_order(listing: tuple[Interface, ...]) -> list[Interface]:
    """/proc has IPv6 addresses in another order than netlink."""
    return [replace(i, addresses=tuple(sorted(i.addresses, key=str))) for i in listing]


@each_refusal
@each_group
def test_without_recvmmsg_datagrams_are_read_one_by_one(
    here: Card, there: Card, udp_port: int, group: str, number: int
) -> None:
    talker = there.talker(group, udp_port)
    sent = [b"%d" % i for i in range(60)]

    async def main() -> None:
        refuse_call("recvmmsg", number)
        async with trio_mcast.open_receiver(group, port=udp_port) as receiver:
            for data in sent:
                talker.send(data)
            with trio.fail_after(SOON):
                assert [d.data for d in await collect(receiver, 60)] == sent

    here.host.run(main)


@each_refusal
def test_recvmmsg_may_be_refused_while_a_receiver_is_open(
    here: Card, there: Card, udp_port: int, number: int
) -> None:
    talker = there.talker(GROUP4, udp_port)
    sent = [b"%d" % i for i in range(60)]

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            for _ in range(2):
                for data in sent:
                    talker.send(data)
                with trio.fail_after(SOON):
                    assert [d.data for d in await collect(receiver, 60)] == sent
                refuse_call("recvmmsg", number)

    here.host.run(main)


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.EPERM], ids=errno.errorcode.get)
def test_without_ipv6_multicast_all_ipv6_is_heard(
    here: Card, there: Card, udp_port: int, number: int
) -> None:
    """As before Linux 4.20. Python itself asks for no such option."""
    talker = there.talker(GROUP6, udp_port)

    async def main() -> None:
        refuse_call("setsockopt", number, arg1=socket.IPPROTO_IPV6, arg2=29)
        async with trio_mcast.open_receiver(GROUP6, port=udp_port) as receiver:
            talker.send(b"hello")
            with trio.fail_after(SOON):
                assert (await receiver.receive()).data == b"hello"

    here.host.run(main)


def refuse_binding() -> None:
    """As before Linux 5.7 for ordinary users: no socket may be bound to an interface."""
    for option in (socket.SO_BINDTODEVICE, SO_BINDTOIFINDEX):
        refuse_call("setsockopt", errno.EPERM, arg1=socket.SOL_SOCKET, arg2=option)


@pytest.mark.parametrize("group", EVERY_SCOPE)
def test_without_binding_interfaces_are_told_apart_all_the_same(
    network: Network, udp_port: int, group: str
) -> None:
    """Here, another socket has joined on the other interface, from which Linux delivers as well."""
    here, there = network.pair()
    beside, beyond = network.link(here.host, "eth1", network.host("c"), "eth0")
    beside.listener(group, udp_port)

    async def main() -> None:
        refuse_binding()
        one = trio_mcast.open_receiver(group, port=udp_port, interfaces="eth0")
        both = trio_mcast.open_receiver(group, port=udp_port, interfaces=["eth0", "eth1"])
        async with one as one_receiver, both as both_receiver:
            beyond.talker(group, udp_port).send(b"by eth1")
            there.talker(group, udp_port).send(b"by eth0")
            heard = {d.data: d.interface.name for d in await collect(both_receiver, 2)}
            assert heard == {b"by eth1": "eth1", b"by eth0": "eth0"}
            assert [d.data for d in await everything(one_receiver)] == [b"by eth0"]
            assert await everything(both_receiver) == []

    here.host.run(main)


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
def test_without_binding_sources_are_told_apart_all_the_same(
    network: Network, udp_port: int, group: str
) -> None:
    here, there = network.pair()
    wanted = there.ipv6 if ":" in group else there.ipv4
    other = (wanted.rpartition(":")[0] + ":99") if ":" in group else "10.77.1.99"
    there.add_address(f"{other}/{64 if ':' in group else 24}")

    async def main() -> None:
        refuse_binding()
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0", sources=[wanted]
        ) as receiver:
            there.talker(group, udp_port, source=other).send(b"unwanted")
            there.talker(group, udp_port, source=wanted).send(b"wanted")
            assert (await receiver.receive()).data == b"wanted"
            assert await everything(receiver) == []

    here.host.run(main)


def test_without_so_meminfo_losses_are_not_known(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        refuse_call("getsockopt", errno.ENOPROTOOPT, arg1=socket.SOL_SOCKET, arg2=55)
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            talker.send(b"hello")
            assert (await receiver.receive()).data == b"hello"
            assert receiver.statistics().dropped_by_kernel is None
            talker.send(b"unread")
            await receiver.leave(GROUP4)

    here.host.run(main)


@pytest.mark.parametrize(
    "number", [errno.EAFNOSUPPORT, errno.EACCES, errno.EPERM], ids=errno.errorcode.get
)
@pytest.mark.parametrize("interfaces", ["eth0", None], ids=["named", "every interface"])
@each_group
def test_without_netlink_interfaces_are_found_by_other_means(
    here: Card, there: Card, udp_port: int, group: str, interfaces: str | None, number: int
) -> None:
    talker = there.talker(group, udp_port)
    listener = there.listener(group, udp_port)

    async def main() -> None:
        by_netlink = in_some_order(trio_mcast.list_interfaces())
        refuse_call("socket", number, arg0=socket.AF_NETLINK)
        assert in_some_order(trio_mcast.list_interfaces()) == by_netlink
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces=interfaces, loopback=False
        ) as receiver:
            talker.send(b"hello")
            with trio.fail_after(SOON):
                assert (await receiver.receive()).data == b"hello"
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"from here")
        assert listener.receive_data() == b"hello"
        assert listener.receive_data() == b"from here"

    here.host.run(main)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize("late", [True, False], ids=["while open", "before opening"])
@each_group
def test_where_the_event_loop_may_wait_for_no_more_sockets_everything_works_a_little_later(
    here: Card, there: Card, udp_port: int, group: str, late: bool, number: int
) -> None:
    """The limit of watches is one for all programs of a user (epoll(7): max_user_watches)."""
    talker, listener = there.talker(group, udp_port), there.listener(group, udp_port)
    sent = [b"%d" % i for i in range(100)]

    async def main() -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)  # trio's own tasks wait by now
        if not late:
            refuse_call("epoll_ctl", number, arg1=EPOLL_CTL_ADD)
        async with (
            trio_mcast.open_receiver(group, port=udp_port) as receiver,
            trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender,
            sender.open_answers() as answers,
        ):
            if late:
                await trio.testing.wait_all_tasks_blocked(0.01)
                refuse_call("epoll_ctl", number, arg1=EPOLL_CTL_ADD)
            talker.send(*sent[:50])
            with trio.fail_after(SOON):
                assert [d.data for d in await collect(receiver, 50)] == sent[:50]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(talk_after_a_moment, talker, sent[50:])
                    assert [d.data for d in await collect(receiver, 50)] == sent[50:]
                await receiver.leave(group)
                await receiver.join(group)
                talker.send(b"again")
                assert (await receiver.receive()).data == b"again"
                await sender.send(b"who?")
                question = listener.receive()
                while question.data != b"who?":
                    question = listener.receive()
                listener.socket.sendto(b"me", (question.source, question.source_port))
                assert (await answers.receive()).data == b"me"

    here.host.run(main)
    assert not here.host.has_joined(group)


async def talk_after_a_moment(talker: Talker, payloads: list[bytes]) -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)
    talker.send(*payloads)


def test_without_announcements_a_receiver_and_a_sender_work_and_say_so_once(
    here: Card, there: Card, udp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    talker, listener = there.talker(GROUP4, udp_port), there.listener(GROUP4, udp_port)
    this_machine._tell_of_polling.cache_clear()

    async def main() -> None:
        refuse_call("socket", errno.EAFNOSUPPORT, arg0=socket.AF_NETLINK)
        for _ in range(2):
            async with (
                trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as receiver,
                trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender,
            ):
                talker.send(b"hello")
                with trio.fail_after(SOON):
                    assert (await receiver.receive()).data == b"hello"
                await sender.send(b"answer")
                while listener.receive_data() != b"answer":
                    pass

    with caplog.at_level("WARNING", "trio_mcast"):
        here.host.run(main)
    (record,) = caplog.records
    assert "every two seconds" in record.message
    assert record.name == "trio_mcast"


@pytest.mark.parametrize("opening", [trio_mcast.open_receiver, trio_mcast.open_sender])
def test_a_lack_of_descriptors_is_not_taken_for_a_sandbox(
    here: Card, udp_port: int, opening: Any
) -> None:
    async def main() -> None:
        refuse_call("socket", errno.EMFILE, arg0=socket.AF_NETLINK)
        with pytest.raises(SocketSetupError) as caught:
            async with opening(GROUP4, port=udp_port):
                pass
        assert caught.value.errno == errno.EMFILE
        assert caught.value.__notes__

    here.host.run(main)
