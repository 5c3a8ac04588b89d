"""Many groups, many changes, long lives: nothing is left behind, nothing is done for nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, open_descriptors, wait_until_async
from namespaces.receiving import BOTH, GROUP4, everything
from patience import LONG, SOON

import trio_mcast
from trio_mcast import MulticastReceiver


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)


def run_long(card: Card, main: Callable[[], Awaitable[None]], seconds: float) -> None:
    """`Host.run` for what takes longer than tests usually may."""

    async def limited() -> None:
        with trio.fail_after(seconds):
            await main()

    card.host.call(trio.run, limited)


def some_groups(count: int) -> list[str]:
    """As many IPv4 as IPv6 ones."""
    return [
        f"233.252.{n // 400}.{n // 2 % 200}" if n % 2 else f"ff15::4d43:{n:x}"
        for n in range(1, count + 1)
    ]


def joined_groups(card: Card) -> int:
    """How many groups the kernel has on an interface, those that it needs for itself included."""
    return len(card.host.groups(card.name))


def list_own_objects() -> Counter[str]:
    """The living objects of the library and of trio, by type."""
    gc.collect()
    return Counter(
        f"{type(thing).__module__}.{type(thing).__name__}"
        for thing in gc.get_objects()
        if type(thing).__module__.startswith(("trio_mcast", "trio."))
    )


def count_blocks() -> int:
    """The pieces of memory that the interpreter has in use: a measure of objects of all kinds."""
    gc.collect()  # which empties the interpreter's lists of spare objects, too
    return sys.getallocatedblocks()


# --- Many groups ----------------------------------------------------------------------------------


def test_60_groups_on_3_interfaces_open_in_no_time_with_default_settings(
    network: Network, udp_port: int
) -> None:
    host = network.host()
    cards = [network.link(host, f"eth{n}", network.host(f"peer{n}"), "eth0")[0] for n in range(3)]
    groups = some_groups(60)

    async def main() -> None:
        began = time.perf_counter()
        async with trio_mcast.open_receiver(*groups, port=udp_port) as receiver:
            assert time.perf_counter() - began < 2.0  # some 10 ms; a loaded machine is forgiven
            memberships = receiver.memberships()
            assert len(memberships) == 180
            assert {m.state for m in memberships} == {"joined"}
            for card in cards:
                assert {m.group for m in memberships} <= host.groups(card.name)
                assert card.peer is not None
                for group in groups[:2]:
                    card.peer.talker(group, udp_port).send(card.name.encode())
            heard = Counter(d.data for d in await everything(receiver))
            assert heard == {card.name.encode(): 2 for card in cards}

    host.run(main)


def test_60_groups_on_3_interfaces_come_back_together(network: Network, udp_port: int) -> None:
    host = network.host()
    cards = [network.link(host, f"eth{n}", network.host(f"peer{n}"), "eth0")[0] for n in range(3)]
    groups = some_groups(60)

    async def main() -> None:
        async with trio_mcast.open_receiver(*groups, port=udp_port) as receiver:
            for card in cards:
                card.delete()
                card.create(with_index=card.index)
            wanted = {m.group for m in receiver.memberships()}
            await wait_until_async(
                lambda: all(wanted <= host.groups(card.name) for card in cards),
                "all groups are joined again",
                patience=SOON,
            )
            assert len(receiver.memberships()) == 180
            assert {m.state for m in receiver.memberships()} == {"joined"}

    host.run(main)


A_THOUSAND_GROUPS = textwrap.dedent(
    """
    import resource, sys
    import trio, trio_mcast

    groups = [f"233.252.{n // 250}.{n % 250 + 1}" for n in range(500)]
    groups += [f"ff15::4d43:{n:x}" for n in range(500)]
    port = int(sys.argv[1])

    async def main():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        try:
            async with trio_mcast.open_receiver(*groups, port=port):
                raise AssertionError("it opened")
        except trio_mcast.SocketSetupError as error:
            print("refused:", error, *error.__notes__)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
            async with trio_mcast.open_receiver(*groups, port=port) as receiver:
                print("opened:", {m.state for m in receiver.memberships()})
        except trio_mcast.SocketSetupError as error:
            assert hard < 1100, error
            print("opened: {'joined'}")

    trio.run(main)
    """
)


def test_1000_groups_work_or_fail_with_an_error_that_names_the_limit(
    network: Network, udp_port: int
) -> None:
    """In a process of its own, for the limit on descriptors is the process's."""
    here, _there = network.pair()
    done = here.host.call(
        lambda: subprocess.run(
            [sys.executable, "-c", A_THOUSAND_GROUPS, str(udp_port)],
            capture_output=True,
            text=True,
            timeout=LONG,
        )
    )
    assert not done.stderr, done.stderr
    refused, opened = done.stdout.splitlines()
    assert "Too many open files" in refused
    assert "ulimit -n" in refused
    assert opened == "opened: {'joined'}"


def test_a_lack_of_memory_for_options_names_its_limit(network: Network, udp_port: int) -> None:
    here, _there = network.pair()
    try:
        here.host.sysctl("net.core.optmem_max", 16)
    except OSError:
        pytest.skip("net.core.optmem_max is the whole machine's before Linux 6.7")

    async def main() -> None:
        with pytest.raises(trio_mcast.SocketSetupError) as caught:
            async with trio_mcast.open_receiver(GROUP4, port=udp_port, sources="10.77.1.2"):
                pytest.fail("it opened")
        assert "optmem_max" in "".join(caught.value.__notes__)

    here.host.run(main)


# --- Many changes ---------------------------------------------------------------------------------


def test_500_joins_and_leaves_leave_nothing_behind(network: Network, udp_port: int) -> None:
    here, _there = network.pair()
    groups = some_groups(10)

    async def main() -> None:
        async with trio_mcast.open_receiver(port=udp_port) as receiver:

            async def join_and_leave(times: int) -> None:
                for n in range(times):
                    group = groups[n % len(groups)]
                    if n % 3 == 0:
                        async with receiver.joined(group, interfaces="eth0"):
                            pass
                    elif n % 3 == 1:
                        await receiver.join(group)
                        await receiver.leave(group)
                    else:
                        await receiver.join(group, sources=["10.77.1.2", "fd77::2"])
                        await receiver.leave(group, interfaces="eth0")
                        with pytest.raises(trio_mcast.MulticastError):
                            await receiver.leave(group, interfaces="eth0")
                        await receiver.join(group, interfaces="eth0")
                        await receiver.leave(group)
                await settle()

            await join_and_leave(30)
            before = (
                open_descriptors(),
                here.host.groups("eth0"),
                trio.lowlevel.current_statistics().tasks_living,
            )
            objects = list_own_objects()
            await join_and_leave(500)
            assert before == (
                open_descriptors(),
                here.host.groups("eth0"),
                trio.lowlevel.current_statistics().tasks_living,
            )
            assert receiver.memberships() == ()
            assert not list_own_objects() - objects

    run_long(here, main, 30)


def test_200_re_creations_of_an_interface_are_all_followed(network: Network, udp_port: int) -> None:
    """Linux takes 20 memberships for a socket, and counts those of interfaces that are gone.

    Some 6 s, for the kernel takes 25 ms to delete and make an interface.
    """
    here, _there = network.pair()
    here.host.sysctl("net.ipv4.igmp_max_memberships", 2)

    async def main() -> None:
        async with trio_mcast.open_receiver(*BOTH, port=udp_port, interfaces="eth0") as receiver:
            before = len(open_descriptors())
            for number in range(200):
                here.delete()
                if number % 2:
                    await settle()
                here.create(with_index=here.index if number % 3 else None)
                await wait_until_async(
                    lambda: all(here.host.has_joined(group) for group in BOTH),
                    f"joined again after re-creation {number}",
                    patience=SOON,
                )
                await settle()
                assert [m.state for m in receiver.memberships()] == ["joined", "joined"]
                assert here.peer is not None
                for group in BOTH:
                    here.peer.talker(group, udp_port).send(b"%d" % number)
                    here.host.network.sockets.pop().close()
                for _ in BOTH:
                    with trio.fail_after(SOON):
                        assert (await receiver.receive()).data == b"%d" % number
            assert len(open_descriptors()) == before

    run_long(here, main, 60)


def test_churn_lets_nothing_grow(network: Network, udp_port: int) -> None:
    """Faults, joins, changes of filters and traffic, round after round, for some 4 s."""
    here, _there = network.pair()

    async def one_round(receiver: MulticastReceiver, number: int) -> None:
        here.delete()
        await settle()
        here.create(with_index=here.index if number % 2 else None)
        await settle()
        here.down()
        here.set("mtu 1200")
        await settle()
        here.set("mtu 1500")
        here.up()
        await settle()
        for group in BOTH:
            sources = ["10.77.1.2"] if group == GROUP4 else ["fd77:0:0:1::2"]
            receiver.set_sources(group, sources)
            receiver.set_sources(group, sources, mode="exclude")
            receiver.set_sources(group, [], mode="exclude")
            assert here.peer is not None
            here.peer.talker(group, udp_port, source_port=udp_port).send(b"hello")
            here.host.network.sockets.pop().close()
        async with receiver.joined("233.252.0.7", interfaces="eth0"):
            await settle()
        assert [d.data for d in await everything(receiver)] == [b"hello", b"hello"]
        assert [m.state for m in receiver.memberships()] == ["joined", "joined"]

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(*BOTH, port=udp_port) as receiver,
            trio_mcast.open_sender(GROUP4, port=udp_port, interfaces="all"),
        ):
            for number in range(10):
                await one_round(receiver, number)
            await settle()
            before = (len(open_descriptors()), trio.lowlevel.current_statistics().tasks_living)
            objects, blocks = list_own_objects(), count_blocks()
            for number in range(30):
                await one_round(receiver, number)
            await settle()
            assert not list_own_objects() - objects
            after = (len(open_descriptors()), trio.lowlevel.current_statistics().tasks_living)
            assert after == before
            # A round makes some 2,000 things, of which none may stay. The interpreter's own
            # caches take a few.
            assert count_blocks() - blocks < 30 * 30

    run_long(here, main, 60)


# --- Nothing to do --------------------------------------------------------------------------------


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)


def test_100_memberships_cost_nothing_while_nothing_happens(
    network: Network, udp_port: int
) -> None:
    """An idle second in which no task is run but the one that waits for its end."""
    here, _there = network.pair()

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(*some_groups(100), port=udp_port) as receiver,
            trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0"),
        ):
            assert len(receiver.memberships()) == 100
            receiver.events()
            await trio.testing.wait_all_tasks_blocked(0.05)
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            began = time.thread_time()
            await trio.sleep(1)
            used = time.thread_time() - began
            trio.lowlevel.remove_instrument(steps)
            assert len(steps.names) == 1, Counter(steps.names)
            assert used < 0.02

    here.host.run(main)


def test_memberships_that_wait_cost_nothing_either(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(
            *some_groups(100), port=udp_port, interfaces="eth0"
        ) as receiver:
            here.delete()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert {m.state for m in receiver.memberships()} == {"waiting"}
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            await trio.sleep(0.25)
            trio.lowlevel.remove_instrument(steps)
            assert len(steps.names) == 1, Counter(steps.names)

    here.host.run(main)
