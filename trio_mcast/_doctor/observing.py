"""Join groups for some seconds, and see what becomes of the datagrams."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import trio

from .._addresses.classify import classify
from .._addresses.parsing import ipv6_scope, is_ssm
from .._base.datagram import Datagram
from .._base.errors import SocketSetupError
from .._base.interface import Interface
from .._base.snapshot import Route, Snapshot, UdpSocket
from .._base.source_filter import SourceFilter
from .._machine.inspector import Capture
from .._machine.machine import Machine
from .._machine.receiving import ReceivingSocket, ReceivingSockets
from .._plan.receiver_plan import ReceiverPlanner
from .case import Question
from .evidence import Attempt, LocalRoute, Observation, Query, Stream
from .tally import Tally

_MOST_QUERIERS: Final = 32
_MOST_ROUTES: Final = 256
"""Of senders that nobody named."""


async def observe(
    machine: Machine, question: Question, snapshot: Snapshot, seconds: float
) -> Observation:
    """Join the groups wherever they may arrive, and count for some seconds."""
    inspector = machine.inspector
    with _Observer(machine, question, snapshot) as observer:
        observer.open()
        before = inspector.read_counters()
        sockets_before = inspector.list_udp_sockets()
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for sock in observer.sockets:
                    nursery.start_soon(observer.listen, sock)
                nursery.start_soon(observer.look_at_the_wire)
                await trio.sleep_forever()
        observer.read_the_rest()
        after = inspector.read_counters()
        sockets_after = inspector.list_udp_sockets()
        growth = {name: value - before.get(name, 0) for name, value in after.items()}
        return Observation(
            seconds,
            observer.port,
            {name: value for name, value in growth.items() if value},
            tuple(observer.joins),
            tuple(observer.sends),
            observer.arrived.streams(),
            observer.sightings(),
            observer.queries(),
            await observer.find_routes(),
            tuple(observer.find_local_routes()),
            tuple(_find_losses(sockets_before, sockets_after, observer.own_inodes())),
            tuple(observer.find_vanished()),
            observer.arrived.crowds(),
            observer.sighted.crowds(),
        )


def choose_port(question: Question, snapshot: Snapshot) -> int | None:
    """The port to listen at: the one that was named, else the one that goes with the group."""
    if question.port is not None:
        return question.port
    for group in question.groups:
        for bound in snapshot.sockets:
            if bound.address == group:
                return bound.port
        if (usual := classify(group).port) is not None:
            return usual
    return None


class _Observer(ExitStack):
    """The sockets, and what they have told so far."""

    def __init__(self, machine: Machine, question: Question, snapshot: Snapshot) -> None:
        super().__init__()
        self._machine = machine
        self._inspector = machine.inspector
        self._question = question
        self.port = choose_port(question, snapshot)
        self._port = self.port or self._inspector.find_free_port()
        self._planner = ReceiverPlanner.parse(
            machine.platform,
            self._port,
            loopback=True,
            packet_info="hop_limit",
            receive_buffer=None,
        )
        self._listing = {i.index: i for i in machine.list_interfaces()}
        self._capture: Capture | None = None
        self.arrived = Tally()
        self.sighted = Tally()
        self._queries: set[Query] = set()
        self.sockets: list[ReceivingSocket] = []
        self.joins: list[Attempt] = []
        self.sends: list[Attempt] = []

    def own_inodes(self) -> frozenset[int]:
        """By which the system lists the sockets of this object."""
        return frozenset(self._inspector.find_inode(sock.fileno()) for sock in self.sockets)

    @trio.lowlevel.enable_ki_protection
    def open(self) -> None:
        self._capture = self._inspector.open_capture()
        if self._capture is not None:
            self.callback(self._capture.close)
        receiving = self._machine.open_receiving_sockets()
        for group in self._question.groups:
            for interface in self._find_interfaces(group):
                self._join(receiving, ip_address(group), interface)
        for attempt in self.joins:
            if not attempt.errno:
                self._try_to_send(ip_address(attempt.group), self._listing[attempt.interface])

    def _find_interfaces(self, group: str) -> Iterator[Interface]:
        """All that a group may arrive at, and all that were named."""
        version = ip_address(group).version
        for interface in self._listing.values():
            fits = (
                interface.is_up
                and (interface.supports_multicast or interface.is_loopback)
                and interface.carries(version)
            )
            if fits or interface.index in self._question.interfaces:
                yield interface

    # Joining and sending

    def _join(
        self,
        receiving: ReceivingSockets,
        group: IPv4Address | IPv6Address,
        interface: Interface,
    ) -> None:
        named = map(ip_address, self._question.sources)
        sources = tuple(source for source in named if source.version == group.version)
        if (is_ssm(group) and not sources) or (group.version == 6 and not ipv6_scope(group)):
            return  # nobody can hear it; that is a finding of its own
        # Elsewhere everyone is heard, for else nothing could be told about the others.
        filter_ = SourceFilter.admitting(sources if is_ssm(group) else ())
        try:
            for plan in self._planner.plan(group, interface, filter_):
                sock = receiving.open(plan, self._port)
                self.callback(sock.close)
                self.sockets.append(sock)
        except SocketSetupError as error:
            self.joins.append(_attempt(group, interface, error))
        else:
            self.joins.append(Attempt(str(group), interface.index, 0))

    def _try_to_send(self, group: IPv4Address | IPv6Address, interface: Interface) -> None:
        if group.version == 6 and is_ssm(group):
            return
        try:
            if self._inspector.try_to_send(group, self._port, interface):
                self.sends.append(Attempt(str(group), interface.index, 0))
        except OSError as error:
            self.sends.append(_attempt(group, interface, error))

    # Listening

    async def listen(self, sock: ReceivingSocket) -> None:
        while True:
            await sock.wait_readable()
            self._read(sock)

    async def look_at_the_wire(self) -> None:
        while self._capture is not None:
            await trio.lowlevel.wait_readable(self._capture.socket)
            self._read_wire()

    def read_the_rest(self) -> None:
        for sock in self.sockets:
            self._read(sock)
        self._read_wire()

    def _read(self, sock: ReceivingSocket) -> None:
        datagrams: list[Datagram] = []
        try:
            sock.read(datagrams, True)
        except OSError:
            return
        origin = sock.origin
        for datagram in datagrams:
            source = str(datagram.source[0]).partition("%")[0]
            self._count(
                self.arrived,
                Stream(
                    str(origin.group),
                    origin.interface.index,
                    source,
                    self._port,
                    datagram.hop_limit,
                    1,
                ),
            )

    def _count(self, tally: Tally, stream: Stream) -> None:
        sources = self._question.sources
        is_named = not sources or stream.source in sources
        tally.add(stream, is_named and self.port in (None, stream.port))

    def _read_wire(self) -> None:
        if self._capture is None:
            return
        indexes = {interface.name: index for index, interface in self._listing.items()}
        for sighting, flaw in self._capture.read():
            index = indexes.get(sighting.interface)
            group, source = str(sighting.group), str(sighting.source)
            if index is None:
                continue
            if sighting.port is None:
                protocol = "IGMP" if sighting.group.version == 4 else "MLD"
                if not flaw and len(self._queries) < _MOST_QUERIERS:
                    self._queries.add(Query(index, source, protocol))
            elif group in self._question.groups:
                hops = sighting.hop_limit
                self._count(
                    self.sighted, Stream(group, index, source, sighting.port, hops, 1, flaw)
                )

    # What came of it

    def sightings(self) -> tuple[Stream, ...] | None:
        return None if self._capture is None else self.sighted.streams()

    def queries(self) -> tuple[Query, ...]:
        return tuple(sorted(self._queries, key=str))

    def find_vanished(self) -> Iterator[Attempt]:
        """Those of the memberships made here that the kernel does not list any more."""
        joined = self._inspector.list_joined()
        if joined is None:
            return
        listed = {(row.group, row.interface) for row in joined}
        for attempt in self.joins:
            if not attempt.errno and (attempt.group, attempt.interface) not in listed:
                yield attempt

    async def find_routes(self) -> tuple[Route, ...]:
        """What the routes say of every sender that was named or seen, while the groups are joined.

        A querier is one as well: its questions are dropped by the same rules.
        """
        joined = {(attempt.group, attempt.interface) for attempt in self.joins}
        named = {(*where, source) for where in joined for source in self._question.sources}
        seen = {
            ("224.0.0.1", query.interface, query.source)
            for query in self._queries
            if query.protocol == "IGMP"
        }
        for stream in (*self.sighted.streams(), *self.arrived.streams()):
            where = stream.group, stream.interface
            if where in joined and not stream.flaw and len(seen) < _MOST_ROUTES:
                seen.add((*where, stream.source))
        found = []
        for group, index, source in sorted(named | seen):
            await trio.lowlevel.checkpoint()
            parsed_group, parsed_source = ip_address(group), ip_address(source)
            if parsed_group.version == parsed_source.version:
                found.append(self._inspector.find_route(parsed_group, index, parsed_source))
        return tuple(found)

    def find_local_routes(self) -> Iterator[LocalRoute]:
        for group in map(ip_address, self._question.groups):
            for interface in self._listing.values():
                if isinstance(group, IPv6Address) and interface.is_loopback:
                    kind = self._inspector.find_local_route(group, interface.index)
                    if kind is not None:
                        yield LocalRoute(str(group), interface.index, kind)


def _attempt(group: IPv4Address | IPv6Address, interface: Interface, error: OSError) -> Attempt:
    return Attempt(str(group), interface.index, error.errno or -1, error.strerror or str(error))


def _find_losses(
    before: Iterable[UdpSocket], after: Iterable[UdpSocket], own: Collection[int]
) -> Iterable[UdpSocket]:
    """The sockets of programs that lost something. What the doctor's own lost is no fault."""
    earlier = {bound.inode: bound.drops for bound in before}
    for bound in after:
        lost = bound.drops - earlier.get(bound.inode, 0)
        if lost > 0 and bound.inode not in own:
            yield replace(bound, drops=lost)
