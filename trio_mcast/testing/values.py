"""Interfaces and datagrams, of which a test says only what matters to it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Final

from .._addresses.parsing import GroupLike, SourceLike, parse_group, parse_port
from .._base.datagram import Datagram, SocketAddress
from .._base.interface import Interface
from .._base.values import are_several

FIRST_PORT: Final = 40000


def make_interface(
    name: str = "eth0",
    *,
    index: int = 2,
    addresses: Iterable[str] | None = None,
    friendly_name: str | None = None,
    is_up: bool = True,
    is_loopback: bool = False,
    supports_multicast: bool = True,
    mtu: int = 1500,
    has_ipv6: bool | None = None,
) -> Interface:
    """An `Interface` as one is found on most hosts; say only what matters for your test.

    Args:
      index: must differ from those of other interfaces on the same host
      addresses: with their networks, ``"192.0.2.2/24"``; None: one for each IP version, of the
        networks for documentation, with the index as their last part
      has_ipv6: None: if there is an IPv6 address
    """
    if addresses is not None and not are_several(addresses):
        raise TypeError(f'addresses={addresses!r}: give several texts, each like "192.0.2.2/24"')
    if addresses is None:
        addresses = (f"192.0.2.{index % 256}/24", f"2001:db8::{index:x}/64", f"fe80::{index:x}/64")
    return Interface(
        name=name,
        index=index,
        friendly_name=name if friendly_name is None else friendly_name,
        addresses=tuple(ip_interface(address) for address in addresses),
        is_up=is_up,
        is_loopback=is_loopback,
        supports_multicast=supports_multicast,
        mtu=mtu,
        has_ipv6=has_ipv6,
    )


def make_datagram(
    data: bytes = b"",
    *,
    group: GroupLike = "233.252.0.1",
    port: int = 5000,
    source: SourceLike | SocketAddress | None = None,
    interface: Interface | None = None,
    hop_limit: int | None = None,
    timestamp: int | None = None,
    traffic_class: int | None = None,
    truncated: bool = False,
) -> Datagram:
    """A `Datagram` as a receiver gives it; say only what matters for your test.

    Args:
      source: an address as the `socket` module writes it, or the host alone; None: some host
      interface: None: what `make_interface` makes
    """
    parsed = parse_group(group).address
    interface = make_interface() if interface is None else interface
    return Datagram(
        data,
        complete_source(source, parsed, interface),
        parsed,
        parse_port(port),
        interface,
        hop_limit,
        timestamp,
        traffic_class,
        truncated,
    )


def complete_source(
    source: SourceLike | SocketAddress | None,
    group: IPv4Address | IPv6Address,
    interface: Interface,
) -> SocketAddress:
    """A source as the `socket` module writes it; that of some host elsewhere, if there is none."""
    if isinstance(source, tuple):
        return source
    if source is None:
        source = "198.51.100.1" if group.version == 4 else "2001:db8:1::1"
    return write_address(ip_address(source), FIRST_PORT, interface)


def write_address(
    host: IPv4Address | IPv6Address, port: int, interface: Interface
) -> SocketAddress:
    """An address as the `socket` module writes it."""
    if host.version == 4:
        return (str(host), port)
    return (str(host), port, 0, interface.index if host.is_link_local else 0)
