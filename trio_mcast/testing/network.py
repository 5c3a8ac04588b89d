"""Networks in memory, and receivers and senders on them."""

from __future__ import annotations

import errno
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypedDict, TypeVar, Unpack

import trio

from .._addresses.parsing import GroupLike, SourceLike, parse_group
from .._base.datagram import Datagram, SocketAddress
from .._base.interface import Interface, IPVersion
from .._base.values import check_type
from .._interfaces.selection import InterfaceSelector, InterfacesLike, Selection
from .._machine.current import machine_in_force
from .._machine.machine import Changes, Machine
from .._machine.receiving import ReceivingSockets
from .._machine.sending import Payload, SendingSocket
from .._machine.sockets import kernel_error
from .._plan.packet_info import PacketInfoName
from .._plan.socket_plan import SocketPlan
from .._receive.delivery import Overflow
from .._receive.receiver import MulticastReceiver, open_receiver
from .._send.outgoing_interfaces import OutgoingInterfaces
from .._send.sender import MulticastSender, open_sender
from .machine import (
    LARGEST_PAYLOAD,
    Fault,
    Journal,
    MemoryMachine,
    MemorySendingSocket,
    SentDatagram,
)
from .receiving import PacketInfo
from .values import complete_source, make_interface

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_PORT: Final = 5000


class ReceiverOptions(TypedDict, total=False):
    """What `trio_mcast.open_receiver` takes beside groups and port."""

    sources: SourceLike | Iterable[SourceLike]
    interfaces: InterfacesLike
    loopback: bool
    packet_info: PacketInfoName | Collection[PacketInfoName]
    overflow: Overflow
    max_buffered: int
    receive_buffer: int | None
    follow: bool
    exact_losses: bool
    max_buffered_bytes: int


class SenderOptions(TypedDict, total=False):
    """What `trio_mcast.open_sender` takes beside group and port."""

    interface: InterfaceSelector | None
    interfaces: InterfacesLike
    hop_limit: int
    loopback: bool
    traffic_class: int | None
    source: SourceLike | None
    source_port: int
    send_buffer: int | None


def _taking_options_of(real: Callable[..., Any]) -> Callable[[_F], _F]:
    """Have help() show what the options are."""

    def decorate(fake: _F) -> _F:
        own = inspect.signature(fake).parameters
        shown = {**inspect.signature(real).parameters, **own}
        del shown["options"]
        ordered = sorted(shown.values(), key=lambda p: (p.kind, p.name == "network"))
        fake.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        fake.__annotations__ = {**real.__annotations__, **fake.__annotations__}
        return fake

    return decorate


class MemoryNetwork:
    """A host with made-up interfaces, and a network on which nothing is lost::

        network = MemoryNetwork()
        async with network.open_receiver("239.1.2.3", port=5000) as receiver:
            async with network.open_sender("239.1.2.3", port=5000) as sender:
                await sender.send(b"hello")
                print(await receiver.receive(), sender.sent)

    `open_receiver` and `open_sender` take what their namesakes in `trio_mcast` take. Within
    `active()` every function of `trio_mcast` is on this host, so a program that opens its receivers
    and senders itself can be tested as it is.

    What a test does to the network (`send`, `deliver`, `fail`, `recover`, `set_interfaces`) has
    reached every receiver when the call returns: `MulticastReceiver.receive_nowait`, `memberships`
    and `statistics` then show it.
    """

    def __init__(self, *interfaces: Interface) -> None:
        """Without interfaces it has one, as `make_interface` makes it."""
        self._machine = MemoryMachine(interfaces or (make_interface(),))

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces there are now. The first that fits has the default route."""
        return self._machine.interfaces

    def active(self) -> AbstractContextManager[None]:
        """Have everything that is opened in the block, and in tasks started there, on this host::

        with network.active():
            await my_program.main()
        """
        return machine_in_force(self._machine)

    @_taking_options_of(open_receiver)
    @asynccontextmanager
    async def open_receiver(
        self, *groups: GroupLike, port: int, **options: Unpack[ReceiverOptions]
    ) -> AsyncIterator[MulticastReceiver]:
        """As `trio_mcast.open_receiver`, on this host."""
        async with AsyncExitStack() as stack:
            with self.active():
                opening = open_receiver(*groups, port=port, **options)
                receiver = await stack.enter_async_context(opening)
            yield receiver

    @_taking_options_of(open_sender)
    @asynccontextmanager
    async def open_sender(
        self, group: GroupLike, *, port: int, **options: Unpack[SenderOptions]
    ) -> AsyncIterator[FakeSender]:
        """As `trio_mcast.open_sender`, on this host.

        Yields:
          A `FakeSender`: a `MulticastSender` that remembers what it sent
        """
        machine = _RecordingMachine(self._machine)
        async with AsyncExitStack() as stack:
            with machine_in_force(machine):
                opening = open_sender(group, port=port, **options)
                sender = await stack.enter_async_context(opening)
            yield FakeSender._create(sender._outgoing, machine.journal)

    # What arrives

    async def send(
        self,
        *payloads: bytes,
        group: GroupLike | None = None,
        port: int | None = None,
        source: SourceLike | SocketAddress | None = None,
        interface: InterfaceSelector | None = None,
        hop_limit: int = 1,
        timestamp: int = 0,
        traffic_class: int = 0,
    ) -> int:
        """Let datagrams arrive, at every receiver that has joined and wants to hear the source.

        Args:
          payloads: one for each datagram
          group: None: the group that was joined first
          port: None: whatever port a receiver listens on
          source: who sends: an address as the `socket` module writes it, or the host alone; None:
            some host elsewhere
          interface: where they come in; None: for each receiver, where it joined the group first
          hop_limit, timestamp, traffic_class: for receivers that ask for `packet_info`

        Returns:
          How many datagrams reached receivers, all receivers together. 0: nobody hears the group.

        Raises:
          InterfaceNotFoundError: there is no such interface
          ValueError: a payload is larger than a datagram can be, or `source` is of another IP
            version than the group
        """
        info = PacketInfo(hop_limit, timestamp, traffic_class)
        wanted = None if group is None else parse_group(group).address
        indexes = None
        if interface is not None:
            found = Selection.parse_one(interface).require(self.interfaces)
            indexes = [each.index for each in found]
        reached = 0
        for receiver in self._machine.receivers:
            for payload in payloads:
                for sock in receiver.find(wanted, port, indexes):
                    sender = complete_source(source, sock.origin.group, sock.origin.interface)
                    _require_possible(payload, sender, sock.origin.group)
                    own = self._machine.is_own(sender[0])
                    reached += sock.arrive(bytes(payload), sender, info, is_from_here=own)
        await _let_tasks_run()
        return reached

    async def deliver(self, datagrams: Iterable[Datagram]) -> int:
        """Let datagrams arrive as they are, at every receiver of their group, interface and port.

        Returns: as `send`
        """
        reached = 0
        for datagram in datagrams:
            place = (datagram.group, datagram.port, (datagram.interface.index,))
            for receiver in self._machine.receivers:
                reached += sum(sock.take(datagram) for sock in receiver.find(*place))
        await _let_tasks_run()
        return reached

    # What goes wrong

    async def fail(
        self,
        error: OSError | None = None,
        *,
        group: GroupLike | None = None,
        interface: InterfaceSelector | None = None,
    ) -> None:
        """Break the memberships of a group, on an interface, and refuse to join there again.

        Their state is then "failed". Without ``follow``, a receiver of which every membership has
        failed raises `trio.BrokenResourceError`.

        Args:
          error: what the kernel says; None: ENODEV
          group: None: every group
          interface: None: every interface
        """
        selection = None if interface is None else Selection.parse_one(interface)
        self._machine.break_down(
            Fault(
                error or kernel_error(errno.ENODEV),
                None if group is None else parse_group(group).address,
                None if selection is None else selection.require(self.interfaces),
            )
        )
        await _let_tasks_run()

    async def recover(self) -> None:
        """Undo every `fail`. Receivers that follow join again."""
        self._machine.faults.clear()
        self._machine.announce_everything()
        await _let_tasks_run()

    async def set_interfaces(self, *interfaces: Interface) -> None:
        """Have these interfaces from now on, and others no longer. Receivers that follow do so.

        `dataclasses.replace` makes an interface that differs in something.
        """
        self._machine.set_interfaces(interfaces)
        await _let_tasks_run()


def _require_possible(
    payload: bytes, source: SocketAddress, group: IPv4Address | IPv6Address
) -> None:
    if ip_address(source[0]).version != group.version:
        raise ValueError(f"source {source[0]} is not of IP version {group.version}, as {group}")
    if len(payload) > (largest := LARGEST_PAYLOAD[group.version]):
        raise ValueError(f"a payload of {len(payload)} bytes: {group} takes {largest} at most")


async def _let_tasks_run() -> None:
    """From an announcement to a datagram at a waiting task it is five steps of tasks, at most.

    The feed reads it, a receiver follows, a socket's task begins, reads, and the program's task
    runs.
    """
    for _ in range(6):
        await trio.lowlevel.checkpoint()


class _RecordingMachine(Machine):
    """A made-up machine as one sender sees it, whose datagrams are remembered."""

    def __init__(self, machine: MemoryMachine) -> None:
        self.platform = machine.platform
        self.journal: Journal = Journal()
        self._machine = machine

    def list_interfaces(self) -> tuple[Interface, ...]:
        return self._machine.list_interfaces()

    def default_interface(self, version: IPVersion) -> Interface | None:
        return self._machine.default_interface(version)

    def open_changes(self) -> Changes:
        return self._machine.open_changes()

    def open_receiving_sockets(self) -> ReceivingSockets:
        return self._machine.open_receiving_sockets()

    def open_sending_socket(self, plan: SocketPlan) -> SendingSocket:
        return self._machine.open_recorded_socket(plan, self.journal)


@_taking_options_of(open_receiver)
@asynccontextmanager
async def open_fake_receiver(
    *groups: GroupLike,
    port: int = DEFAULT_PORT,
    network: MemoryNetwork | None = None,
    **options: Unpack[ReceiverOptions],
) -> AsyncIterator[tuple[MulticastReceiver, MemoryNetwork]]:
    """A receiver that needs no network, and the network that it believes to be on::

        async with open_fake_receiver("239.1.2.3") as (receiver, network):
            await network.send(b"first", b"second", source="192.0.2.77")
            assert [d.data for d in await receiver.receive_batch()] == [b"first", b"second"]

            await network.fail()
            assert receiver.memberships()[0].state == "failed"

    Args: as `trio_mcast.open_receiver`, and
      network: what it is on; None: one of its own, with one interface
    """
    network = _check_network(network)
    async with network.open_receiver(*groups, port=port, **options) as receiver:
        yield receiver, network


def _check_network(network: MemoryNetwork | None) -> MemoryNetwork:
    if network is None:
        return MemoryNetwork()
    return check_type("network", network, MemoryNetwork, "a MemoryNetwork, or None")


class FakeSender(MulticastSender):
    """A `MulticastSender` on a made-up host. `open_fake_sender` makes one.

    When a call that sends returns, receivers on the same network have the datagrams.

    Attributes:
      sent: what was sent, in order
      error: if a test sets it, every attempt to send fails with a `SendError` made from it
    """

    def __init__(self, outgoing: OutgoingInterfaces, journal: Journal) -> None:
        super().__init__(outgoing)
        self._journal = journal

    @property
    def sent(self) -> list[SentDatagram]:
        """What was sent, in order; after closing, too."""
        return self._journal.sent

    @property
    def error(self) -> OSError | None:
        """If a test sets it, every attempt to send fails with a `SendError` made from it."""
        return self._journal.error

    @error.setter
    def error(self, error: OSError | None) -> None:
        self._journal.error = error

    async def send(self, value: Payload) -> None:
        """As `MulticastSender.send`."""
        await super().send(value)
        await _let_tasks_run()

    async def send_batch(self, datagrams: Iterable[Payload]) -> None:
        """As `MulticastSender.send_batch`."""
        await super().send_batch(datagrams)
        await _let_tasks_run()

    async def send_to(self, data: Payload, address: SocketAddress) -> None:
        """As `MulticastSender.send_to`. A host is reached if it is another `FakeSender`."""
        await super().send_to(data, address)
        await _let_tasks_run()

    def put_answer(self, data: bytes, source: SourceLike | SocketAddress | None = None) -> None:
        """Let an answer come, as a host elsewhere would send it.

        Args:
          source: who answers: an address as the `socket` module writes it, or the host alone; None:
            some host elsewhere

        Raises:
          trio.ClosedResourceError: the sender was closed
          SendError: there is no interface now
        """
        self._outgoing.require_open()
        if not self._outgoing.all:
            raise self._outgoing.refuse_sending()
        first = self._outgoing.all[0]
        sock = first.require_socket(first.address)
        assert isinstance(sock, MemorySendingSocket)
        sock.answer(data, complete_source(source, self._outgoing.planner.group, first.interface))


@_taking_options_of(open_sender)
@asynccontextmanager
async def open_fake_sender(
    group: GroupLike,
    *,
    port: int = DEFAULT_PORT,
    network: MemoryNetwork | None = None,
    **options: Unpack[SenderOptions],
) -> AsyncIterator[FakeSender]:
    """A sender that remembers what a program sends by it::

        async with open_fake_sender("239.1.2.3") as sender:
            await my_program.announce(sender)
            assert [sent.data for sent in sender.sent] == [b"I am here"]

    Args: as `trio_mcast.open_sender`, and
      network: what it is on, where fake receivers may hear it; None: one of its own
    """
    network = _check_network(network)
    async with network.open_sender(group, port=port, **options) as sender:
        yield sender
