"""Where `send_to` sends: from addresses as programs write them to interfaces and sockets."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple, TypeAlias

from .._addresses.parsing import (
    IPAddress,
    check_sendable,
    is_multicast,
    parse_address,
    parse_group,
    parse_port,
)
from .._base.datagram import SocketAddress
from .._base.errors import AddressError
from .._base.interface import Interface
from .._interfaces.selection import ByIndex, Selection
from .outgoing_interface import OutgoingInterface
from .outgoing_interfaces import OutgoingInterfaces

_KNOWN_ADDRESSES_LIMIT: Final = 256


class Way(NamedTuple):
    """One datagram to be sent.

    Attributes:
      address: as a socket of the interface takes it
      keeps_to_interface: a host is sent to by the interface, whatever the routes say
    """

    outgoing: OutgoingInterface
    address: SocketAddress
    keeps_to_interface: bool = False


Destination: TypeAlias = list[Way]
"""A way for each copy; none if no interface is there."""


class Destinations:
    """Finds the ways to an address. They are remembered until something about interfaces changes.

    A zone decides: what has one leaves by that interface. Otherwise a group is sent to out of every
    interface of the sender, and a host once, as the routes say. But of two cards in one network
    these always take the same. So if they lead to one by which the sender does not send, and it has
    one in the same network, it sends by that, whatever the routes say.
    """

    def __init__(self, outgoing: OutgoingInterfaces) -> None:
        self._outgoing = outgoing
        self._known: dict[tuple[Any, ...], Destination] = {}
        self._known_for = outgoing.version

    def find(self, address: SocketAddress) -> Destination:
        """The ways to an address.

        Raises:
          AddressError: it is none, not of the sender's IP version, or by an interface by which the
            sender does not send
          InterfaceNotFoundError: its zone names no interface
          TypeError, ValueError: it is no tuple, or has a port out of range
          SendError: nobody has such an address, though datagrams may come from it
        """
        if self._known_for != self._outgoing.version:
            self._known.clear()
            self._known_for = self._outgoing.version
        if not isinstance(address, (tuple, list)):
            raise TypeError(f"{address!r} is not an address: give (host, port)")
        key = tuple(address)
        destination = self._known.get(key)
        if destination is None:
            destination = self._parse(key)
            if len(self._known) >= _KNOWN_ADDRESSES_LIMIT:
                self._known.clear()
            self._known[key] = destination
        return destination

    def _parse(self, address: tuple[Any, ...]) -> Destination:
        if not 2 <= len(address) <= 4:
            raise AddressError(f"{address!r} is not an address: give (host, port)")
        try:
            host, zone = parse_address(address[0])
        except AddressError as error:
            raise AddressError(f"{error}; names are not looked up") from None
        port = parse_port(address[1], zero_allowed=True)
        version = self._outgoing.planner.group.version
        if host.version != version:
            raise AddressError(f"{host} is not of IP version {version}, as this sender")
        index = self._find_zone(zone, address[3] if len(address) == 4 else 0)
        if port == 0 or int(host) == 0:
            raise self._outgoing.refuse_sending(
                f"send to {host} port {port}, which nobody can have", errno.EDESTADDRREQ
            )
        if is_multicast(host):
            return self._find_ways_to_group(host, port, index)
        way = self._find_way_to_host(host, port, index)
        return [] if way is None else [way]

    def _find_zone(self, zone: str | None, scope: int) -> int | None:
        """The index of the interface that an address is restricted to."""
        if scope:  # the zone beside it, if there is one, was made from it
            return scope
        if zone is None:
            return None
        return Selection().in_zone(zone).require(self._outgoing.listing)[0].index

    def _find_ways_to_group(self, group: IPAddress, port: int, index: int | None) -> Destination:
        check_sendable(parse_group(group).address)
        every = self._outgoing.all
        if index is not None and every:
            every = [one for one in every if _is_at(one, index)]
            if not every:
                raise self._not_by(group, index)
        return [Way(one, one.address_of(group, port)) for one in every]

    def _find_way_to_host(self, host: IPAddress, port: int, index: int | None) -> Way | None:
        # One that is absent at the moment is a way only if there is no other.
        every = sorted(self._outgoing.all, key=lambda o: o.socket is None or not o.interface.is_up)
        if not every:
            return None
        is_own = any(host == a.ip for i in self._outgoing.listing for a in i.addresses)
        if index is not None:
            chosen = next((one for one in every if _is_at(one, index)), None)
        else:
            chosen = None if is_own else self._find_beside(every, host)
        one = chosen or every[0]
        if isinstance(host, IPv6Address) and host.is_link_local:
            # The kernel goes by the scope, whatever interface the socket is for.
            return Way(one, (str(host), port, 0, index or one.interface.index))
        if index is not None and chosen is None and not is_own:
            raise self._not_by(host, index)
        address = (str(host), port) if isinstance(host, IPv4Address) else (str(host), port, 0, 0)
        return Way(one, address, keeps_to_interface=chosen is not None and not is_own)

    def _find_beside(
        self, every: list[OutgoingInterface], host: IPAddress
    ) -> OutgoingInterface | None:
        """The interface to keep to; None: the routes lead to one of the sender's, or elsewhere."""
        route = self._outgoing.find_route(host)
        if route is None:
            return None
        by_route = next((one for one in every if _is_at(one, route.index)), None)
        length = _prefix_length(route, host)
        for one in [by_route] if by_route else every:
            is_usable = one.socket is not None and one.interface.is_up
            if is_usable and 0 <= length == _prefix_length(one.interface, host):
                return one
        return None

    def _not_by(self, host: IPAddress, index: int) -> AddressError:
        found = Selection((ByIndex(index),)).find(self._outgoing.listing)
        name = found[0].name if found else f"the interface with index {index}"
        return AddressError(
            f"{host} is to be reached by {name}, by which this sender does not send"
        )


def _prefix_length(interface: Interface, host: IPAddress) -> int:
    """That of the smallest network of an interface that has the host; -1: it is in none."""
    networks = (a.network for a in interface.addresses if a.version == host.version)
    return max((network.prefixlen for network in networks if host in network), default=-1)


def _is_at(one: OutgoingInterface, index: int) -> bool:
    """Whether it is the interface with that index: one that is absent has none."""
    return one.interface.index == index and not one.is_absent
