"""What a receiver or sender tells about itself: frozen values, a picture of one moment."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias

from .interface import Interface
from .source_filter import FilterMode

MembershipState: TypeAlias = Literal["joined", "waiting", "failed"]


@dataclass(frozen=True)
class MembershipStatus:
    """One group on one interface.

    Attributes:
      group: the group
      port: the port
      interface: the interface as it was last seen
      sources: the senders that the filter names
      mode: ``"include"``: only they are heard; ``"exclude"``: all but they (RFC 3678). Any-source
        multicast is "exclude" without sources
      state: ``"joined"``: the kernel has it. ``"waiting"``: the interface is absent or not usable
        now, and the membership comes back with it. ``"failed"``: the kernel refused
      error: why it failed, or what was last refused while waiting. Of a membership that is joined:
        why it is not known how its interface is now
    """

    group: IPv4Address | IPv6Address
    port: int
    interface: Interface
    sources: tuple[IPv4Address | IPv6Address, ...]
    mode: FilterMode
    state: MembershipState
    error: OSError | None = None


@dataclass(frozen=True)
class MembershipStatistics:
    """The figures of one group on one interface, since it was first joined.

    Attributes:
      group: the group
      interface: the interface
      datagrams_received: datagrams read from the kernel
      bytes_received: the bytes of their payloads
      dropped_by_kernel: datagrams that found its socket's buffer full, or were damaged. None where
        the system cannot tell
      dropped_by_overflow: datagrams that were given up for newer ones
      losses_are_exact: whether ``dropped_by_kernel`` is all that was lost in this host's kernel. If
        not, it may be more: see `ReceiverStatistics`
      receive_buffer: the bytes of buffer that the kernel granted; None while there is no socket.
        If it is less than you asked for, an administrator can raise the limit (on Linux
        ``sysctl net.core.rmem_max``)
    """

    group: IPv4Address | IPv6Address
    interface: Interface
    datagrams_received: int
    bytes_received: int
    dropped_by_kernel: int | None
    dropped_by_overflow: int
    losses_are_exact: bool
    receive_buffer: int | None


@dataclass(frozen=True)
class ReceiverStatistics:
    """The figures of a receiver since it was opened, memberships that were left included.

    If ``losses_are_exact``, every datagram that reached a socket of the receiver is in one of two
    numbers, ``datagrams_received`` or ``dropped_by_kernel``; and every one received was either
    handed to the program, or is buffered, or was dropped by overflow.

    Attributes:
      datagrams_received: datagrams read from the kernel
      bytes_received: the bytes of their payloads
      datagrams_buffered: datagrams read but not yet handed to the program. If it stays near
        ``max_buffered``, the program does not keep up
      dropped_by_kernel: datagrams that found a socket's buffer full. If it grows, receive in
        batches, or ask for a larger ``receive_buffer``. Linux counts here, too, what was damaged
        on the way and longer than some 68 bytes. None where the system cannot tell
      dropped_by_overflow: datagrams given up for newer ones (``overflow="drop-oldest"``), or read
        and then undeliverable because the channel they were meant for was given up; and what a
        socket still had, of a group that was left or an interface that was lost, when there was no
        room for it for too long
      losses_are_exact: False if ``dropped_by_kernel`` may be too small, by a factor of up to 64:
        Linux counts datagrams that it has merged as one (see ``exact_losses`` of `open_receiver`),
        and short ones that were damaged not at all. False where it is None
      host_buffer_errors: UDP datagrams that found a full buffer on this host since the receiver was
        opened, whichever program they were for; merged ones count as one. If it is 0, no buffer was
        full. None where the system does not tell
      host_checksum_errors: UDP datagrams with a wrong checksum that came to this host since then,
        whichever program they were for. None where the system does not tell
      memberships: the same for each group on each interface that is a membership now
    """

    datagrams_received: int
    bytes_received: int
    datagrams_buffered: int
    dropped_by_kernel: int | None
    dropped_by_overflow: int
    losses_are_exact: bool
    host_buffer_errors: int | None
    host_checksum_errors: int | None
    memberships: tuple[MembershipStatistics, ...]


@dataclass(frozen=True)
class SenderStatistics:
    """The figures of a sender since it was opened. A datagram sent out of two interfaces is two.

    Attributes:
      datagrams_sent: datagrams that the kernel took
      bytes_sent: the bytes of their payloads
      send_errors: datagrams that it refused
    """

    datagrams_sent: int
    bytes_sent: int
    send_errors: int
