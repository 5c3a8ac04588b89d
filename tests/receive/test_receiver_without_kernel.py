"""What a receiver does about sockets that cannot be opened, or that break."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio
import trio.testing

from trio_mcast.testing import MemoryNetwork, make_datagram, make_interface

GROUP = "233.252.0.1"
ETH0, ETH1 = make_interface("eth0", index=2), make_interface("eth1", index=3)


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"])
async def test_what_failed_for_want_of_something_is_tried_again_after_a_while(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    network = MemoryNetwork(ETH0)
    async with network.open_receiver(GROUP, port=5000) as receiver:
        number = getattr(errno, name)
        await network.fail(OSError(number, os.strerror(number)), interface="eth0")
        await network.set_interfaces(ETH0, ETH1)
        assert [m.state for m in receiver.memberships()] == ["failed", "joined"]
        await trio.sleep(5)
        assert [m.state for m in receiver.memberships()] == ["failed", "joined"]
        network._machine.faults.clear()  # which nothing announces
        await trio.sleep(5)
        assert [m.state for m in receiver.memberships()] == ["joined", "joined"]


async def test_what_was_refused_for_another_reason_is_not_tried_again_for_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork(ETH0)
    async with network.open_receiver(GROUP, port=5000) as receiver:
        await network.fail(OSError(errno.EPERM, "no"))
        network._machine.faults.clear()
        await trio.sleep(100)
        assert [m.state for m in receiver.memberships()] == ["failed"]


async def test_another_interface_with_the_index_of_one_that_was_named_is_not_joined() -> None:
    network = MemoryNetwork(ETH0)
    async with network.open_receiver(GROUP, port=5000, interfaces="eth0") as receiver:
        stranger = make_interface("tun0", index=ETH0.index, addresses=["203.0.113.1/24"])
        await network.set_interfaces(stranger)
        (membership,) = receiver.memberships()
        assert (membership.state, membership.interface.name) == ("waiting", "eth0")
        assert await network.send(b"", interface="tun0") == 0
        await network.set_interfaces(stranger, make_interface("eth0", index=9))
        (membership,) = receiver.memberships()
        assert (membership.state, membership.interface.index) == ("joined", 9)


async def test_a_broken_socket_that_had_been_replaced_says_nothing_about_its_membership() -> None:
    network = MemoryNetwork(ETH0)
    async with network.open_receiver(GROUP, port=5000) as receiver:
        (membership,) = receiver._memberships._by_key.values()
        sockets: Any = membership.sockets
        sockets[0].take(make_datagram(b"left over"))
        membership.open()
        sockets[0].break_down(OSError(errno.EIO, "broken"))
        await trio.testing.wait_all_tasks_blocked()
        assert sockets[0].is_closed
        assert [(m.state, m.error) for m in receiver.memberships()] == [("joined", None)]
        sockets = membership.sockets
        sockets[0].take(make_datagram(b"new"))
        assert [(await receiver.receive()).data for _ in range(2)] == [b"left over", b"new"]
