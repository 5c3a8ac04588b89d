"""What receivers hear by on a made-up machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import trio

from .._base.datagram import Datagram, SocketAddress
from .._base.source_filter import SourceFilter
from .._machine.receiving import DATAGRAMS_PER_READ, Origin, ReceivingSocket
from .._plan.options import SocketOption
from .._plan.receiver_plan import DEFAULT_RECEIVE_BUFFER
from .._plan.socket_plan import SocketPlan


class PacketInfo(NamedTuple):
    """What a datagram can tell beside its payload."""

    hop_limit: int
    timestamp: int
    traffic_class: int


class MemoryReceiver:
    """What one receiver has open on a made-up machine."""

    def __init__(self) -> None:
        self.sockets: list[MemoryReceivingSocket] = []
        self._order: dict[tuple[IPv4Address | IPv6Address, int], int] = {}

    def add(self, sock: MemoryReceivingSocket) -> None:
        """The order is that of the first joins, however often a group is joined anew."""
        self._order.setdefault(sock.key, len(self._order))
        self.sockets.append(sock)
        self.sockets.sort(key=lambda each: self._order[each.key])

    def lose(self, gone: Collection[int]) -> None:
        """These interfaces, by their indexes, were deleted: what was joined there hears no more."""
        for sock in self.sockets:
            if sock.origin.interface.index in gone:
                sock.is_deaf = True

    def find(
        self,
        group: IPv4Address | IPv6Address | None,
        port: int | None,
        indexes: Sequence[int] | None,
    ) -> list[MemoryReceivingSocket]:
        """The sockets of the first membership that fits; None: whatever it is."""
        found = [
            sock
            for sock in self.sockets
            if group in (None, sock.origin.group)
            and port in (None, sock.origin.port)
            and (indexes is None or sock.origin.interface.index in indexes)
            and not (sock.is_retired or sock.is_deaf)
            and sock.origin.interface.is_up
        ]
        return [sock for sock in found if sock.key == found[0].key]


class MemoryReceivingSocket(ReceivingSocket):
    """What a membership hears by, on a made-up machine."""

    __slots__ = ("_arrived", "_fault", "_filter", "_receiver", "_waiting", "is_deaf")

    def __init__(self, receiver: MemoryReceiver, plan: SocketPlan, origin: Origin) -> None:
        super().__init__(plan, origin)
        assert plan.filter is not None
        self._filter: SourceFilter = plan.filter
        self._receiver = receiver
        self._arrived: deque[Datagram] = deque()
        self._fault: OSError | None = None
        self.is_deaf: bool = False
        self._waiting = trio.lowlevel.ParkingLot()
        receiver.add(self)

    @property
    def key(self) -> tuple[IPv4Address | IPv6Address, int]:
        return (self.origin.group, self.origin.interface.index)

    # What a test does

    def arrive(
        self,
        data: bytes,
        source: SocketAddress,
        info: PacketInfo,
        *,
        is_from_here: bool,
        loopback: bool = True,
    ) -> bool:
        """Let a datagram arrive, if this socket would get it. Returns whether it does."""
        if is_from_here and not (loopback and self.plan.loopback):
            return False
        wanted, origin = self.plan.packet_info, self.origin
        return self.take(
            Datagram(
                data,
                source,
                origin.group,
                origin.port,
                origin.interface,
                info.hop_limit if "hop_limit" in wanted else None,
                info.timestamp if "timestamp" in wanted else None,
                info.traffic_class if "traffic_class" in wanted else None,
            )
        )

    def take(self, datagram: Datagram) -> bool:
        """Let a datagram arrive as it is, if the source is wanted."""
        host = ip_address(datagram.source[0].partition("%")[0])
        if not self._filter.admits(host):
            return False
        self._arrived.append(datagram)
        self._waiting.unpark_all()
        return True

    def break_down(self, error: OSError) -> None:
        self._fault = error
        self._waiting.unpark_all()

    # What the library does

    def read(self, found: list[Datagram], _again: bool) -> int:
        count = min(len(self._arrived), DATAGRAMS_PER_READ)
        if not count and self._fault is not None:
            raise self._fault
        batch = [self._arrived.popleft() for _ in range(count)]
        self._take_in(found, batch, sum(len(datagram.data) for datagram in batch))
        return count

    async def wait_readable(self) -> None:
        while not self._arrived and self._fault is None:
            if self.is_closed or self.is_retired:
                raise trio.ClosedResourceError
            await self._waiting.park()

    def change_filter(self, _change: SocketOption, new: SourceFilter) -> None:
        self._filter = new

    def drop_count(self) -> int:
        return 0

    def receive_buffer(self) -> int:
        return DEFAULT_RECEIVE_BUFFER

    def may_have_unread(self) -> bool:
        return bool(self._arrived)

    def _leave(self) -> None:
        """Nobody is told."""

    def _wake(self) -> None:
        self._waiting.unpark_all()

    def _close(self) -> None:
        self._receiver.sockets.remove(self)
