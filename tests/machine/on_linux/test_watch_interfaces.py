"""Being told of interfaces: `watch_interfaces` and `wait_for_interface`."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import trio
import trio.testing
from namespaces.network import Network, open_descriptors, wait_until
from patience import SOON

import trio_mcast
from trio_mcast import InterfaceChange


async def next_changes(changes: trio.MemoryReceiveChannel[InterfaceChange]) -> list[str]:
    """All changes that there are now, as "kind name"."""
    await trio.testing.wait_all_tasks_blocked(0.005)
    found = []
    while True:
        try:
            change = changes.receive_nowait()
        except trio.WouldBlock:
            return found
        found.append(f"{change.kind} {change.interface.name}")


def test_an_interface_comes_changes_and_goes(network: Network) -> None:
    home, other = network.host("a"), network.host("b")

    async def main() -> None:
        async with trio_mcast.watch_interfaces() as changes:
            assert await next_changes(changes) == []
            here, _there = network.link(home, "eth0", other, "eth0")
            assert (await next_changes(changes))[0] == "added eth0"
            here.set("mtu 1400")
            with trio.fail_after(SOON):
                change = await changes.receive()
            assert change.kind == "changed"
            assert change.previous is not None
            assert (change.previous.mtu, change.interface.mtu) == (1500, 1400)
            assert await next_changes(changes) == []
            here.delete()
            with trio.fail_after(SOON):
                change = await changes.receive()
            assert (change.kind, change.previous) == ("removed", None)
            assert change.interface.name == "eth0"
            assert change.interface.mtu == 1400
            assert await next_changes(changes) == []

    home.run(main)


def test_every_kind_of_change_is_told_with_how_it_was_before(network: Network) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.watch_interfaces() as changes:

            async def change() -> tuple[trio_mcast.Interface, trio_mcast.Interface]:
                """The state before and after a run of changes, which must be changes of eth0."""
                await trio.testing.wait_all_tasks_blocked(0.005)
                told = [changes.receive_nowait()]
                try:
                    while True:
                        told.append(changes.receive_nowait())
                except trio.WouldBlock:
                    pass
                assert {c.kind for c in told} == {"changed"}
                for earlier, later in pairwise(told):
                    assert later.previous == earlier.interface
                assert told[0].previous is not None
                return told[0].previous, told[-1].interface

            here.add_address("10.99.0.1/24")
            before, after = await change()
            assert [str(a) for a in after.addresses if a not in before.addresses] == [
                "10.99.0.1/24"
            ]
            here.down()
            before, after = await change()
            assert (before.is_up, after.is_up) == (True, False)
            here.set("name lan0")
            here.name = "lan0"
            before, after = await change()
            assert (before.name, after.name) == ("eth0", "lan0")
            assert before.index == after.index
            here.up()
            before, after = await change()
            assert (before.is_up, after.is_up) == (False, True)
            here.host.sysctl("net.ipv6.conf.lan0.disable_ipv6", 1)
            before, after = await change()
            assert (before.has_ipv6, after.has_ipv6) == (True, False)

    here.host.run(main)


def test_an_interface_that_was_re_created_and_looks_the_same_is_removed_and_added(
    network: Network,
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        (before,) = (i for i in trio_mcast.list_interfaces() if i.name == "eth0")
        async with trio_mcast.watch_interfaces() as changes:
            here.delete()
            here.create(with_index=here.index)
            with trio.fail_after(SOON):
                told = [await changes.receive(), await changes.receive()]
            assert [change.kind for change in told] == ["removed", "added"]
            assert told[0].interface == told[1].interface == before
            assert await next_changes(changes) == []

    here.host.run(main)


def test_changes_are_missed_neither_before_the_first_look_nor_while_nobody_looks(
    network: Network,
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.watch_interfaces() as changes:
            network.link(here.host, "eth1", network.host("c"), "eth0")
            known = {i.name for i in trio_mcast.list_interfaces()}
            here.delete()
            await trio.testing.wait_all_tasks_blocked(0.005)
            network.link(here.host, "eth2", network.host("d"), "eth0")
            told = await next_changes(changes)
            assert "eth1" in known
            assert [t for t in told if not t.startswith("changed")] == [
                "removed eth0",
                "added eth1",
                "added eth2",
            ]

    here.host.run(main)


def test_a_move_to_another_host_is_told_on_both(network: Network) -> None:
    here, _there = network.pair()
    old, new = here.host, network.host("new")
    told: dict[str, list[str]] = {}

    async def watch(name: str, task_status: trio.TaskStatus[None]) -> None:
        told[name] = []
        async with trio_mcast.watch_interfaces() as changes:
            task_status.started()
            async for change in changes:
                told[name].append(f"{change.kind} {change.interface.name}")

    old.start(watch, "old")
    new.start(watch, "new")
    here.move_to(new)
    wait_until(lambda: told["old"] == ["removed eth0"], "the old host has told")
    wait_until(lambda: told["new"][:1] == ["added eth0"], "the new host has told")


def test_after_lost_announcements_the_difference_is_told(network: Network) -> None:
    here, _there = network.pair()

    def lost() -> int:
        head, *rows = here.host.read("netlink").splitlines()
        return sum(int(row.split()[head.split().index("Drops")]) for row in rows)

    async def main() -> None:
        async with trio_mcast.watch_interfaces() as changes:
            while not lost():
                here.host.ip(
                    *["addr add 10.98.0.1/24 dev lo", "addr del 10.98.0.1/24 dev lo"] * 400
                )
            here.delete()
            network.link(here.host, "eth1", network.host("c"), "eth0")
            told = await next_changes(changes)
            assert [t for t in told if not t.startswith("changed")] == [
                "removed eth0",
                "added eth1",
            ]

    here.host.run(main)


def test_closing_the_channel_ends_the_watch_and_leaves_nothing(network: Network) -> None:
    here, _there = network.pair()

    async def main() -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        before = open_descriptors()
        for _ in range(3):
            async with trio_mcast.watch_interfaces() as changes:
                await changes.aclose()
                here.set("mtu 1400")
                here.set("mtu 1500")
                await trio.testing.wait_all_tasks_blocked(0.005)
                with pytest.raises(trio.ClosedResourceError):
                    await changes.receive()
        assert open_descriptors() == before
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    here.host.run(main)


def test_an_exception_leaves_a_watch_as_itself(network: Network) -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with trio_mcast.watch_interfaces():
                raise KeyError("mine")

    network.host().run(main)


# --- Waiting for one ------------------------------------------------------------------------------


def test_an_interface_that_exists_is_returned_at_once(network: Network) -> None:
    here, _there = network.pair()

    async def main() -> None:
        with trio.fail_after(SOON):
            found = await trio_mcast.wait_for_interface("eth0")
        assert found in trio_mcast.list_interfaces()
        assert found.index == here.index

    here.host.run(main)


@pytest.mark.parametrize("selector", ["eth0", "10.77.1.1", "10.77.1.0/24", "fd77:0:0:1::1", 42])
def test_an_interface_is_waited_for_by_all_that_identifies_it(
    network: Network, selector: str | int
) -> None:
    home, other = network.host("a"), network.host("b")

    async def main() -> None:
        found: list[trio_mcast.Interface] = []

        async def wait() -> None:
            found.append(await trio_mcast.wait_for_interface(selector))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert not found
            home.ip("link add eth0 index 42 type veth peer name eth1")
            home.ip("addr add 10.77.1.1/24 dev eth0")
            home.ip("addr add fd77:0:0:1::1/64 dev eth0 nodad")
            nursery.cancel_scope.deadline = trio.current_time() + SOON
        assert [i.name for i in found] == ["eth0"]
        assert found[0].index == 42

    assert other is not home
    home.run(main)


def test_waiting_for_an_interface_can_be_cancelled_and_leaves_nothing(network: Network) -> None:
    async def main() -> None:
        before = open_descriptors()
        with trio.move_on_after(0.05) as scope:
            await trio_mcast.wait_for_interface("nosuch")
        assert scope.cancelled_caught
        assert open_descriptors() == before

    network.host().run(main)


def test_a_receiver_is_opened_as_soon_as_its_interface_is_there(
    network: Network, udp_port: int
) -> None:
    """The way to open for a named interface that does not exist yet."""
    home, other = network.host("a"), network.host("b")

    async def main(task_status: trio.TaskStatus[None]) -> bytes:
        task_status.started()
        interface = await trio_mcast.wait_for_interface("eth0")
        async with trio_mcast.open_receiver(
            "233.252.0.1", port=udp_port, interfaces=interface
        ) as receiver:
            return (await receiver.receive()).data

    task = home.start(main)
    _here, there = network.link(home, "eth0", other, "eth0")
    wait_until(lambda: home.has_joined("233.252.0.1"), "the group is joined")
    there.talker("233.252.0.1", udp_port).send(b"hello")
    assert task.result() == b"hello"


def test_nothing_is_done_while_nothing_happens(network: Network) -> None:
    """No step of any task but this one's, in the whole of a quarter of a second."""
    here, _there = network.pair()

    class Steps(trio.abc.Instrument):
        def __init__(self) -> None:
            self.names: list[str] = []

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.names.append(task.name)

    async def main() -> None:
        async with trio_mcast.watch_interfaces(), trio.open_nursery() as nursery:
            nursery.start_soon(trio_mcast.wait_for_interface, "nosuch")
            await trio.testing.wait_all_tasks_blocked(0.01)
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            began = time.thread_time()
            await trio.sleep(0.25)
            assert len(steps.names) == 1, steps.names
            assert time.thread_time() - began < 0.05
            nursery.cancel_scope.cancel()

    here.host.run(main)
