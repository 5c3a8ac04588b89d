"""The interfaces of this host, by each system's own mechanism.

Addresses are from ifaddr, but on Linux: there names may be bytes that it cannot decode, and the
listing that gives the links tells addresses as well.
"""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

import trio

from .._base.interface import Interface, IPVersion
from .link_state import Addresses, LinkState

# A look-up of the route to these sends nothing. They are public addresses (of well-known name
# servers), so that only a default route, or halves of one, leads there.
_FAR_AWAY: Final[dict[int, IPv4Address | IPv6Address]] = {
    4: IPv4Address("9.9.9.9"),
    6: IPv6Address("2620:fe::fe"),
}


def list_interfaces() -> tuple[Interface, ...]:
    """Of the calling thread's network namespace.

    Raises:
      OSError: the system refuses, or has run out of something
    """
    links, addresses = list_links_and_addresses()
    return tuple(
        Interface(
            name=link.name,
            index=link.index,
            friendly_name=link.friendly_name or link.name,
            addresses=tuple(addresses.get(link.index, ())),
            is_up=link.is_up,
            is_loopback=link.is_loopback,
            supports_multicast=link.supports_multicast,
            mtu=link.mtu,
            has_ipv6=link.has_ipv6,
            master=link.master,
            mac_address=link.mac_address,
            altnames=link.altnames,
        )
        for link in sorted(links, key=lambda link: link.index)
    )


def find_default_interface(version: IPVersion) -> Interface | None:
    """The interface that a default route leads to. Nothing is sent to find out."""
    return find_outgoing_interface(_FAR_AWAY[version])


def find_outgoing_interface(destination: IPv4Address | IPv6Address) -> Interface | None:
    """The interface that the routes lead to. Nothing is sent to find out."""
    listing = list_interfaces()
    index = _find_outgoing_interface(destination, listing)
    return next((interface for interface in listing if interface.index == index), None)


if sys.platform == "linux":
    from . import netlink
    from .listing_linux import list_links_and_addresses

    def _find_outgoing_interface(
        destination: IPv4Address | IPv6Address, listing: tuple[Interface, ...]
    ) -> int | None:
        try:
            return netlink.find_outgoing_interface(destination)
        except OSError:  # a sandbox
            return _try_connecting(destination, listing)

else:
    if sys.platform == "win32":
        from .listing_windows import list_links
    else:
        from .listing_bsd import list_links

    def list_links_and_addresses() -> tuple[list[LinkState], Addresses]:
        return list_links(), list_addresses()

    def _find_outgoing_interface(
        destination: IPv4Address | IPv6Address, listing: tuple[Interface, ...]
    ) -> int | None:
        return _try_connecting(destination, listing)


def list_addresses() -> Addresses:
    """The addresses of every interface, by its index, as ifaddr finds them."""
    import ifaddr  # late: its import costs more than that of the rest of this package

    addresses: Addresses = {}
    for adapter in ifaddr.get_adapters():
        if adapter.index is None:  # it went between two looks
            continue
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0]
            kind = IPv4Interface if ip.is_IPv4 else IPv6Interface
            addresses.setdefault(adapter.index, []).append(kind(f"{address}/{ip.network_prefix}"))
    return addresses


@trio.lowlevel.enable_ki_protection
def _try_connecting(
    destination: IPv4Address | IPv6Address, listing: tuple[Interface, ...]
) -> int | None:
    """Connect a socket, which sends nothing, and see which address it got."""
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((str(destination), 9))
        except OSError:
            return None
        own = sock.getsockname()[0]
    for interface in listing:
        if any(str(address.ip) == own for address in interface.addresses):
            return interface.index
    return None
