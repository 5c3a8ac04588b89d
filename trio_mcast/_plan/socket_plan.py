"""What to ask of the operating system for one socket, as a value.

The order is part of a plan: all options, then bind, then join. An option that is set after bind
lets stray datagrams in before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from .._addresses.parsing import IPAddress, ipv6_scope
from .._base.datagram import SocketAddress
from .._base.interface import Interface
from .._base.source_filter import SourceFilter
from .._base.values import check_type
from .options import SocketOption, int_option
from .packet_info import PacketInfoName
from .platforms import Family, OptionName, Platform

WILDCARD: Final = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True, slots=True)
class SocketPlan:
    """How to set up one UDP socket.

    Attributes:
      family: AF_INET or AF_INET6, as the platform numbers it
      before_bind: options to set first, in this order
      bind: the address to bind to, as the `socket` module writes it; None: leave it to the system
      after_bind: options to set then, in this order
      if_address_in_use: if bind finds the address in use: set these, and try once more
      after_second_bind: and when that has succeeded, set these before `after_bind`
      group: the group that it is for
      interface: the interface that it is for
      packet_info: what to tell of each datagram
      sorts_strays: the system delivers more than was asked for. Drop what has another destination
        than `group` or came by another interface; the control messages tell
      merges_datagrams: several datagrams of one sender may come as one, and a control message then
        says so. Take them apart
      drops_own: the system has no option to keep away what this host sends. Drop what has one of
        its addresses as source
      drops_sources: the same for senders that the program does not want, beyond those that the
        kernel was told to keep away
      filter: the senders that a receiver's socket is to hear, as the options tell the kernel
      loopback: whether this host is to hear what it sends itself, as far as this socket goes
      hop_limit, traffic_class: what a sender's datagrams carry
      destination: where a sender sends to, as the `socket` module writes it
    """

    family: int
    before_bind: tuple[SocketOption, ...]
    bind: SocketAddress | None
    after_bind: tuple[SocketOption, ...]
    if_address_in_use: tuple[SocketOption, ...] = ()
    after_second_bind: tuple[SocketOption, ...] = ()
    group: IPAddress | None = None
    interface: Interface | None = None
    packet_info: frozenset[PacketInfoName] = frozenset()
    sorts_strays: bool = False
    merges_datagrams: bool = False
    drops_own: bool = False
    drops_sources: frozenset[IPAddress] = frozenset()
    filter: SourceFilter | None = None
    loopback: bool = True
    hop_limit: int | None = None
    traffic_class: int | None = None
    destination: SocketAddress | None = None

    @property
    def options(self) -> tuple[SocketOption, ...]:
        """Every option that is set when nothing goes wrong, in order."""
        return self.before_bind + self.after_bind


class Target(NamedTuple):
    """A group on an interface, and the system that a socket is planned for.

    Attributes:
      text: the group as text, which takes a while to make
    """

    platform: Platform
    family: Family
    group: IPAddress
    text: str
    interface: Interface

    @classmethod
    def of(cls, platform: Platform, group: IPAddress, interface: Interface) -> Target:
        return cls(platform, platform.family(group.version), group, str(group), interface)

    def __str__(self) -> str:
        return f"{self.text} on {show(self.interface)}"


def show(interface: Interface) -> str:
    return f"{interface.friendly_name} ({interface.index})"


def check_interface(interface: object) -> Interface:
    return check_type("interface", interface, Interface, "one of those of list_interfaces()")


def check_platform(platform: object) -> Platform:
    return check_type("platform", platform, Platform, "LINUX, MACOS, WINDOWS or current_platform()")


# --- Options that sockets of both kinds may have -------------------------------------------------


def ones(names: tuple[OptionName, ...]) -> tuple[SocketOption, ...]:
    return tuple(int_option(name, 1) for name in names)


def share_port_if_in_use(
    platform: Platform,
) -> tuple[tuple[SocketOption, ...], tuple[SocketOption, ...]]:
    """What to set if binding failed, since the address is in use; and after binding a second time.

    Once bound, SO_REUSEPORT has done its work and is taken back, for what it does to delivery (see
    `LINUX.share_port`). Seen on Linux 6.18: two sockets with a source each, bound in this way
    beside a third that has only SO_REUSEPORT, got each other's datagrams in 21 of 50 rounds with
    the option left on, in none with it taken back.
    """
    in_use = platform.share_port_if_in_use
    return ones(in_use), tuple(int_option(name, 0) for name in in_use)


def keep_to_memberships(family: Family, *, is_bound: bool) -> tuple[SocketOption, ...]:
    """Keep away what only others have joined.

    For IPv6 on Linux it does not tell interfaces apart, so it cannot stand alone. Linux before 4.20
    has no such option for IPv6, and QEMU's emulation of Linux for none.

    Args:
      is_bound: the socket is bound to its group and its interface, so that it can do without: then,
        if its membership was lost, it may hear by somebody else's
    """
    if family.multicast_all is None:
        return ()
    return (int_option(family.multicast_all, 0, optional=is_bound or family.version == 6),)


def v6_only(family: Family) -> tuple[SocketOption, ...]:
    return () if family.v6_only is None else (int_option(family.v6_only, 1),)


def scope_id(group: IPAddress, interface: Interface) -> int:
    """The interface's index for groups that each interface has for itself (scopes 1 and 2).

    Linux needs it to bind to those, and pays no attention to it for other scopes (seen on 6.18 with
    scopes 4, 5, 8 and E): there it is 0, so as not to look like a choice.
    """
    return interface.index if ipv6_scope(group) in (1, 2) else 0
