"""Join groups for some seconds, and see what becomes of the datagrams."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import trio

from .._errors import SocketSetupError
from .._os.readers import reader_for_this_thread
from .._os.reading import Origin, Reader
from .._os.scan import list_interfaces
from .._os.sockets import current_platform, open_planned_socket
from .._plan.addresses import ipv6_scope, is_ssm
from .._plan.classification import classify
from .._plan.datagram import Datagram
from .._plan.filters import SourceFilter
from .._plan.interfaces import Interface
from .._plan.plan import SocketPlan, plan_membership
from .evidence import (
    Attempt,
    LocalRoute,
    Observation,
    Query,
    Question,
    Route,
    Snapshot,
    Stream,
    UdpSocket,
)

_StreamKey = tuple[str, int, str, int, "int | None"]


async def watch(question: Question, snapshot: Snapshot, seconds: float) -> Observation:
    """Join the groups wherever they may arrive, and count for some seconds."""
    watch = _Watch(question, snapshot)
    with watch:
        watch.open()
        before = _read_counters()
        losses_before = _read_losses()
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for sock, origin in watch.ears:
                    nursery.start_soon(watch.listen, sock, origin)
                nursery.start_soon(watch.look_at_the_wire)
                await trio.sleep_forever()
        watch.read_the_rest()
        growth = {name: value - before.get(name, 0) for name, value in _read_counters().items()}
        return Observation(
            seconds,
            watch.port,
            {name: value for name, value in growth.items() if value},
            tuple(watch.joins),
            tuple(watch.sends),
            watch.arrivals(),
            watch.sightings(),
            watch.queries(),
            tuple(watch.find_routes()),
            tuple(watch.find_local_routes()),
            tuple(_find_losses(losses_before, _read_losses())),
            tuple(watch.find_vanished()),
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


class _Watch(ExitStack):
    """The sockets, and what they have told so far."""

    def __init__(self, question: Question, snapshot: Snapshot) -> None:
        super().__init__()
        self._question = question
        self._snapshot = snapshot
        self.port = choose_port(question, snapshot)
        self._port = self.port or _find_free_port()
        self._listing = {i.index: i for i in list_interfaces()}
        self._capture: Any = None
        self._arrived: Counter[_StreamKey] = Counter()
        self._sighted: Counter[_StreamKey] = Counter()
        self._queries: set[Query] = set()
        self.ears: list[tuple[socket.socket, Reader]] = []
        self.joins: list[Attempt] = []
        self.sends: list[Attempt] = []

    def open(self) -> None:
        if sys.platform == "linux":
            from .._os.capture import Capture

            try:
                self._capture = Capture()
                self.callback(self._capture.close)
            except OSError:
                pass
        for group in self._question.groups:
            for interface in self._find_interfaces(group):
                self._join(group, interface)
        for attempt in self.joins:
            interface = self._listing[attempt.interface]
            if not attempt.errno and sys.platform == "linux":
                self._try_to_send(attempt.group, interface)

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

    def _join(self, group: str, interface: Interface) -> None:
        address = ip_address(group)
        sources = tuple(
            source
            for source in map(ip_address, self._question.sources)
            if source.version == address.version
        )
        if (is_ssm(address) and not sources) or (address.version == 6 and not ipv6_scope(address)):
            return  # nobody can hear it; that is a finding of its own
        # Elsewhere everyone is heard, for else nothing could be told about the others.
        plans = plan_membership(
            current_platform(),
            group,
            self._port,
            interface,
            SourceFilter.admitting(sources if is_ssm(address) else ()),
            packet_info=("hop_limit",),
        )
        try:
            for plan in plans:
                self._open(plan)
        except SocketSetupError as error:
            self.joins.append(
                Attempt(group, interface.index, error.errno or -1, error.strerror or str(error))
            )
        else:
            self.joins.append(Attempt(group, interface.index, 0))

    def _open(self, plan: SocketPlan) -> None:
        sock = open_planned_socket(plan)
        self.callback(sock.close)
        open_reader = reader_for_this_thread()
        self.ears.append((sock, open_reader(sock, Origin.of(plan, self._port))))

    def _try_to_send(self, group: str, interface: Interface) -> None:
        """See whether sending is forbidden, without a datagram leaving the host or reaching anyone.

        With hop limit 0 an IPv4 datagram passes the firewall's output hook and, without loopback,
        ends there. IPv6 does send it out in that case (seen with Linux 6.18). With loopback it ends
        as well, but is delivered first: so it goes to a port that is nobody's, and only where the
        group is joined, for everyone.
        """
        address = ip_address(group)
        six = address.version == 6
        if six and (interface.is_loopback or is_ssm(address)):
            return
        family = socket.AF_INET6 if six else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            try:
                sock.setblocking(False)
                if six:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 0)
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
                    index = interface.index
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                    sock.sendto(b"", (group, _find_free_port(), 0, index))
                elif not interface.is_loopback:  # which knows no hop limit
                    mreqn = bytes(8) + interface.index.to_bytes(4, sys.byteorder)
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
                    sock.sendto(b"", (group, self._port))
            except OSError as error:
                self.sends.append(
                    Attempt(group, interface.index, error.errno or -1, error.strerror or str(error))
                )
            else:
                self.sends.append(Attempt(group, interface.index, 0))

    # Listening

    async def listen(self, sock: socket.socket, reader: Reader) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            self._read(reader)

    async def look_at_the_wire(self) -> None:
        while self._capture is not None:
            await trio.lowlevel.wait_readable(self._capture.socket)
            self._read_wire()

    def read_the_rest(self) -> None:
        for _sock, reader in self.ears:
            self._read(reader)
        if self._capture is not None:
            self._read_wire()

    def _read(self, reader: Reader) -> None:
        datagrams: list[Datagram] = []
        try:
            reader.read(datagrams, True)
        except OSError:
            return
        origin = reader.origin
        for datagram in datagrams:
            source = str(datagram.source[0]).partition("%")[0]
            key = str(origin.group), origin.interface.index, source, self._port, datagram.hop_limit
            self._arrived[key] += 1

    def _read_wire(self) -> None:
        indexes = {interface.name: index for index, interface in self._listing.items()}
        for sighting in self._capture.read():
            index = indexes.get(sighting.interface)
            group, source = str(sighting.group), str(sighting.source)
            if index is None:
                continue
            if sighting.port is None:
                protocol = "IGMP" if sighting.group.version == 4 else "MLD"
                self._queries.add(Query(index, source, protocol))
            elif group in self._question.groups:
                self._sighted[group, index, source, sighting.port, sighting.hop_limit] += 1

    # What came of it

    def arrivals(self) -> tuple[Stream, ...]:
        return tuple(Stream(*key, count) for key, count in self._arrived.items())

    def sightings(self) -> tuple[Stream, ...] | None:
        if self._capture is None:
            return None
        return tuple(Stream(*key, count) for key, count in self._sighted.items())

    def queries(self) -> tuple[Query, ...]:
        return tuple(sorted(self._queries, key=str))

    def find_vanished(self) -> Iterator[Attempt]:
        """Those of the memberships made here that the kernel does not list any more."""
        if sys.platform != "linux":
            return
        from .._os import proc

        listed = {(row.group, row.interface) for row in proc.read_groups()}
        for attempt in self.joins:
            if not attempt.errno and (attempt.group, attempt.interface) not in listed:
                yield attempt

    def find_routes(self) -> Iterator[Route]:
        """What the routes say of every sender that was named or seen, while the groups are joined.

        A querier is one as well: its questions are dropped by the same rules.
        """
        if sys.platform != "linux":
            return
        named = set(self._question.sources)
        asked = set()
        for attempt in self.joins:
            here = {
                key[2]
                for key in (*self._sighted, *self._arrived)
                if key[:2] == (attempt.group, attempt.interface)
            }
            asked |= {(attempt.group, attempt.interface, source) for source in named | here}
        for query in self._queries:
            if query.protocol == "IGMP":
                asked.add(("224.0.0.1", query.interface, query.source))
        for group, index, source in sorted(asked):
            if ip_address(group).version == ip_address(source).version:
                yield _ask_for_route(group, index, source)

    def find_local_routes(self) -> Iterator[LocalRoute]:
        if sys.platform != "linux":
            return
        from .._os import netlink

        for group in self._question.groups:
            address = ip_address(group)
            for interface in self._listing.values():
                if address.version == 6 and interface.is_loopback:
                    try:
                        route = netlink.find_route(address, outgoing=interface.index)
                        kind = "local" if route.type == netlink.RTN_LOCAL else "other"
                    except OSError:
                        kind = "none"
                    yield LocalRoute(group, interface.index, kind)


def _ask_for_route(group: str, index: int, source: str) -> Route:
    if sys.platform != "linux":
        return Route(group, index, source, None, None, "")
    from .._os import netlink

    refusal: int | None = None
    if ip_address(group).version == 4:  # for IPv6 the kernel does not answer this
        try:
            netlink.find_route(ip_address(group), source=ip_address(source), incoming=index)
            refusal = 0
        except OSError as error:
            refusal = error.errno
    try:
        back = netlink.find_route(ip_address(source))
    except OSError:
        return Route(group, index, source, refusal, None, "")
    return Route(group, index, source, refusal, back.outgoing, str(back.gateway or ""))


def _find_free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        return port


def _read_counters() -> dict[str, int]:
    if sys.platform != "linux":
        return {}
    from .._os import proc

    return proc.read_counters()


def _read_losses() -> dict[int, tuple[Any, ...]]:
    """The sockets of this host, by their inode."""
    if sys.platform != "linux":
        return {}
    from .._os import proc

    return {row.inode: row for row in proc.read_udp_sockets()}


def _find_losses(
    before: dict[int, tuple[Any, ...]], after: dict[int, tuple[Any, ...]]
) -> Iterable[UdpSocket]:
    for inode, row in after.items():
        earlier = before.get(inode)
        bound = UdpSocket(*row)
        lost = bound.drops - (0 if earlier is None else UdpSocket(*earlier).drops)
        if lost > 0:
            yield replace(bound, drops=lost)
