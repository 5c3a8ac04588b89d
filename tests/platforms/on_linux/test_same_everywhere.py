"""What an application receives is the same on all systems: what a few lines say that it should.

The kernels deliver quite different datagrams to quite different sockets. Hypothesis makes up
interfaces, groups, sources, other programs and what happens; whatever it is, the real receiver,
against the model of each system, gives the application just what `Expectation` says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st
from platforms.model_kernel import Filter, Kernel, ModelSocket, Packet
from platforms.model_machine import standing_on
from platforms.systems import SYSTEMS, System

import trio_mcast
from trio_mcast.testing import make_interface

IPAddress: TypeAlias = IPv4Address | IPv6Address

PORT = 5000
INTERFACES = {n: make_interface(f"eth{n}", index=n) for n in (2, 3, 4)}
GROUPS = [ip_address(g) for g in ("233.252.0.1", "233.252.0.2", "ff02::4d43", "ff15::4d43:1")]
SOURCES = [ip_address(f"198.51.100.{n}") for n in range(1, 15)]
SOURCES += [ip_address(f"2001:db8:1::{n}") for n in range(1, 5)]


@dataclass(frozen=True)
class Join:
    group: IPAddress
    sources: tuple[IPAddress, ...]
    interfaces: tuple[int, ...] | None


@dataclass(frozen=True)
class Leave:
    group: IPAddress


@dataclass(frozen=True)
class SetSources:
    group: IPAddress
    mode: str
    sources: tuple[IPAddress, ...]


@dataclass(frozen=True)
class OtherProgram:
    """Joins a group on the same port, for everyone, on an interface."""

    group: IPAddress
    index: int


@dataclass(frozen=True)
class Remove:
    index: int


@dataclass(frozen=True)
class Add:
    index: int


@dataclass(frozen=True)
class Arrive:
    """A datagram. Without a source, this host has sent it; without a group, it is for this host."""

    group: IPAddress | None
    version: int
    index: int
    source: IPAddress | None
    port: int


Step: TypeAlias = Join | Leave | SetSources | OtherProgram | Remove | Add


def sources_of(group: IPAddress, least: int, most: int) -> Any:
    fitting = [source for source in SOURCES if source.version == group.version]
    return st.lists(
        st.sampled_from(fitting), min_size=least, max_size=min(most, len(fitting)), unique=True
    ).map(tuple)


groups = st.sampled_from(GROUPS)
indexes = st.sampled_from(sorted(INTERFACES))
joins = groups.flatmap(
    lambda group: st.builds(
        Join,
        st.just(group),
        st.just(()) | sources_of(group, 1, 14),
        st.none() | st.lists(indexes, min_size=1, unique=True).map(tuple),
    )
)
filters = groups.flatmap(
    lambda group: (
        st.builds(SetSources, st.just(group), st.just("include"), sources_of(group, 1, 14))
        | st.builds(SetSources, st.just(group), st.just("exclude"), sources_of(group, 0, 14))
    )
)
steps = st.lists(
    joins
    | joins
    | st.builds(Leave, groups)
    | filters
    | st.builds(OtherProgram, groups, indexes)
    | st.builds(Remove, indexes)
    | st.builds(Add, indexes),
    max_size=12,
)


def make_arrivals() -> list[Arrive]:
    """Whatever can make a difference: after each step, all of these are sent."""
    arrivals = []
    for index in INTERFACES:
        for group in GROUPS:
            fitting = [source for source in SOURCES if source.version == group.version]
            for source in (None, *fitting[:2], fitting[-1]):
                arrivals.append(Arrive(group, group.version, index, source, PORT))
            arrivals.append(Arrive(group, group.version, index, fitting[0], PORT + 1))
        for version in (4, 6):
            source = next(source for source in SOURCES if source.version == version)
            arrivals.append(Arrive(None, version, index, source, PORT))
    return arrivals


ARRIVALS = make_arrivals()


@dataclass
class Expectation:
    """What an application that has joined groups on interfaces ought to receive."""

    loopback: bool
    present: set[int] = field(default_factory=lambda: set(INTERFACES))
    joined: dict[IPAddress, Join] = field(default_factory=dict)
    filters: dict[IPAddress, tuple[str, frozenset[IPAddress]]] = field(default_factory=dict)

    def join(self, join: Join) -> None:
        self.joined[join.group] = join
        mode = "include" if join.sources else "exclude"
        self.filters[join.group] = (mode, frozenset(join.sources))

    def is_joined_on(self, group: IPAddress, index: int) -> bool:
        join = self.joined.get(group)
        if join is None or index not in self.present:
            return False
        return join.interfaces is None or index in join.interfaces

    def receives(self, arrival: Arrive) -> bool:
        if arrival.group is None or arrival.port != PORT:
            return False
        if not self.is_joined_on(arrival.group, arrival.index):
            return False
        if arrival.source is None and not self.loopback:
            return False
        mode, sources = self.filters[arrival.group]
        return (own_or(arrival) in sources) == (mode == "include")


def own_or(arrival: Arrive) -> IPAddress:
    if arrival.source is not None:
        return arrival.source
    addresses = INTERFACES[arrival.index].addresses
    return next(ip_address(a.ip) for a in addresses if a.version == arrival.version)


class Application:
    """A program that receives, on a model of a system."""

    def __init__(self, kernel: Kernel, receiver: Any, expectation: Expectation) -> None:
        self.kernel = kernel
        self.receiver = receiver
        self.expectation = expectation
        self.sent = 0
        self.others: list[ModelSocket] = []

    async def do(self, step: Step) -> None:
        expectation, kernel, receiver = self.expectation, self.kernel, self.receiver
        match step:
            case Join(group, sources, interfaces):
                names = interfaces if interfaces is None else list(interfaces)
                if group in expectation.joined or not {*(names or ())} <= expectation.present:
                    return
                await receiver.join(group, sources=sources, interfaces=names)
                expectation.join(step)
            case Leave(group):
                if group in expectation.joined:
                    await receiver.leave(group)
                    del expectation.joined[group]
            case SetSources(group, mode, sources):
                if group in expectation.joined:
                    receiver.set_sources(group, sources, mode=mode)
                    expectation.filters[group] = (mode, frozenset(sources))
            case OtherProgram(group, index):
                if index in expectation.present:
                    self.others.append(join_beside(kernel, group, index))
            case Remove(index):
                if index in expectation.present:
                    expectation.present.remove(index)
                    kernel.remove_interface(index)
            case Add(index):
                if index not in expectation.present:
                    expectation.present.add(index)
                    kernel.add_interface(INTERFACES[index])
        await trio.testing.wait_all_tasks_blocked()

    async def receive_everything(self) -> None:
        """Each datagram that should come comes once, and no other comes at all."""
        expected = []
        for arrival in ARRIVALS:
            self.sent += 1
            packet = make_packet(arrival, b"%d" % self.sent)
            self.kernel.arrive(packet)
            if self.expectation.receives(arrival):
                expected.append((packet.data, arrival.group, PORT, arrival.index, packet.source))
        await trio.testing.wait_all_tasks_blocked()
        received = [
            (d.data, d.group, d.port, d.interface.index, d.source) for d in take_all(self.receiver)
        ]
        assert sorted(received, key=by_number) == expected


def make_packet(arrival: Arrive, data: bytes) -> Packet:
    sender = own_or(arrival)
    addresses = INTERFACES[arrival.index].addresses
    host = next(ip_address(a.ip) for a in addresses if a.version == arrival.version)
    return Packet(
        data,
        host if arrival.group is None else arrival.group,
        arrival.port,
        arrival.index,
        (str(sender), 40000, *(() if arrival.version == 4 else (0, 0))),
        is_own=arrival.source is None,
    )


def by_number(received: tuple[bytes, ...]) -> int:
    return int(received[0])


def take_all(receiver: Any) -> list[trio_mcast.Datagram]:
    found = []
    while True:
        try:
            found.append(receiver.receive_nowait())
        except trio.WouldBlock:
            return found


def join_beside(kernel: Kernel, group: IPAddress, index: int) -> ModelSocket:
    family = kernel.system.constants["AF_INET" if group.version == 4 else "AF_INET6"]
    other = kernel.open_socket(family, 2)
    other.options |= {"SO_REUSEADDR": 1, "SO_REUSEPORT": 1}
    other.bind(("0.0.0.0", PORT) if group.version == 4 else ("::", PORT, 0, 0))
    other.memberships[index, group.packed] = Filter()
    return other


async def live(system: System, script: list[Step], loopback: bool, bystanders: bool) -> None:
    with standing_on(system, INTERFACES.values()) as machine:
        kernel = machine.kernel
        kernel.delivers_to_bystanders = bystanders
        async with trio_mcast.open_receiver(port=PORT, loopback=loopback) as receiver:
            application = Application(kernel, receiver, Expectation(loopback))
            for step in script:
                await application.do(step)
                await application.receive_everything()
            states = {(m.group, m.interface.index): m.state for m in receiver.memberships()}
            for group in application.expectation.joined:
                for index in INTERFACES:
                    joined = application.expectation.is_joined_on(group, index)
                    assert (states.get((group, index)) == "joined") == joined
        assert kernel.sockets == application.others  # the library's own are closed
        for other in application.others:
            other.close()


@pytest.mark.parametrize("system", SYSTEMS, ids=str)
@given(script=steps, loopback=st.booleans(), bystanders=st.booleans())
@settings(max_examples=150, deadline=None)
def test_an_application_receives_what_it_has_joined_and_nothing_else(
    system: System, script: list[Step], loopback: bool, bystanders: bool
) -> None:
    trio.run(live, system, script, loopback, bystanders)
