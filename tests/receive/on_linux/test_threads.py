"""Receivers in several threads of one process, each with a trio loop of its own."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

import trio
from namespaces.network import Card, HostTask, Network, TaskStatus, wait_until_async
from namespaces.receiving import BOTH

import trio_mcast
from trio_mcast import Datagram, MulticastReceiver

THREADS = range(4)
COUNT = 800

SHARED = BOTH
"""The groups that every thread hears."""


def own_groups(thread: int) -> list[str]:
    """The groups that one thread hears, and no other."""
    return [f"233.252.0.{100 + thread}", f"ff15::4d43:{100 + thread:x}"]


@dataclass
class Heard:
    """What the receivers of one thread got."""

    by_group: dict[str, list[bytes]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    def count(self, group: str) -> int:
        return len(self.by_group[group]) + self.lost[group]


async def hear(
    thread: int, port: int, over: threading.Event, task_status: TaskStatus
) -> tuple[Heard, Heard]:
    """One loop: a receiver for what all hear and one for its own, read in two ways."""
    shared, own = Heard(), Heard()

    async def one_by_one(receiver: MulticastReceiver) -> None:
        async for datagram in receiver:
            note(shared, [datagram])

    async def in_batches(receiver: MulticastReceiver) -> None:
        async for batch in receiver.batches():
            note(own, batch)

    def note(heard: Heard, batch: list[Datagram]) -> None:
        for datagram in batch:
            assert datagram.interface.name == "eth0"
            heard.by_group.setdefault(str(datagram.group), []).append(datagram.data)

    async def until_all_is_there(heard: Heard, receiver: MulticastReceiver) -> None:
        await wait_until_async(
            lambda: is_all_there(heard, receiver),
            f"{COUNT} of each group are there or counted as lost",
        )

    def is_all_there(heard: Heard, receiver: MulticastReceiver) -> bool:
        heard.lost = Counter()
        for membership in receiver.statistics().memberships:
            assert membership.dropped_by_kernel is not None
            heard.lost[str(membership.group)] += membership.dropped_by_kernel
        return all(heard.count(group) == COUNT for group in heard.by_group)

    groups = own_groups(thread)
    async with (
        trio_mcast.open_receiver(*SHARED, port=port) as for_shared,
        trio_mcast.open_receiver(*groups, port=port, interfaces="eth0") as for_own,
        trio.open_nursery() as nursery,
    ):
        shared.by_group = {group: [] for group in SHARED}
        own.by_group = {group: [] for group in groups}
        nursery.start_soon(one_by_one, for_shared)
        nursery.start_soon(in_batches, for_own)
        task_status.started()
        await wait_until_async(over.is_set, "the interfaces have changed enough")
        await until_all_is_there(shared, for_shared)
        await until_all_is_there(own, for_own)
        nursery.cancel_scope.cancel()
    return shared, own


def change_interfaces(here: Card, other: Card, times: int) -> None:
    """One comes and goes, the one that is listened on gets and loses an address."""
    for number in range(times):
        other.delete()
        here.add_address(f"10.99.{number}.1/24")
        other.create(with_index=other.index if number % 2 else None)
        here.host.ip(f"addr del 10.99.{number}.1/24 dev {here.name}")
        other.set("mtu 1200")


def test_four_loops_in_four_threads_hear_all_of_theirs_and_nothing_else(
    network: Network, udp_port: int
) -> None:
    host = network.host()
    here, there = network.link(host, "eth0", network.host("peer"), "eth0")
    other, _ = network.link(host, "eth1", network.host("other peer"), "eth0")
    groups = [*SHARED, *(group for thread in THREADS for group in own_groups(thread))]
    talkers = [there.talker(group, udp_port) for group in groups]
    over = threading.Event()
    tasks: list[HostTask[tuple[Heard, Heard]]] = []
    for thread in THREADS:

        async def main(*, task_status: TaskStatus, thread: int = thread) -> tuple[Heard, Heard]:
            return await hear(thread, udp_port, over, task_status)

        tasks.append(host.start(main))

    def talk() -> None:
        for number in range(COUNT):
            for talker in talkers:
                talker.send(b"%s %d" % (talker.group.encode(), number))

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        change_interfaces(here, other, times=6)
    finally:
        talking.join()
        over.set()
    for thread, task in zip(THREADS, tasks, strict=True):
        shared, own = task.result()
        assert set(shared.by_group) == set(SHARED)
        assert set(own.by_group) == set(own_groups(thread))
        for heard in (shared, own):
            for group, found in heard.by_group.items():
                sent = [b"%s %d" % (group.encode(), number) for number in range(COUNT)]
                left = iter(sent)
                # In order, none twice, none of another group.
                assert all(data in left for data in found), group
                assert len(found) + heard.lost[group] == COUNT
