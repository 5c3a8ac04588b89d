"""What rtnetlink and nftables tell beyond what listing and following need: for the doctor.

Numbers are from ``linux/if_link.h``, ``linux/if_bridge.h`` and ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from .._base.snapshot import Bridge, Chain
from . import netlink

assert not TYPE_CHECKING or sys.platform == "linux"

IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_BR_MCAST_SNOOPING: Final = 23
IFLA_BR_MCAST_QUERIER: Final = 25
IFLA_BR_MCAST_QUERIER_STATE: Final = 47
IFLA_BRPORT_MCAST_FLOOD: Final = 27
BRIDGE_QUERIER_IP_ADDRESS: Final = 1  # linux/if_bridge.h
BRIDGE_QUERIER_IPV6_ADDRESS: Final = 5

_NETLINK_NETFILTER: Final = 12  # linux/netlink.h

# linux/netfilter/nfnetlink.h, nf_tables.h; their numbers are in network order
NFT_GETCHAIN: Final = 10 << 8 | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3
NFTA_CHAIN_HOOK: Final = 4
NFTA_CHAIN_POLICY: Final = 5
NFTA_HOOK_HOOKNUM: Final = 1


@dataclass(frozen=True)
class LinkDetails:
    """What RTM_NEWLINK tells of what an interface is for others.

    Attributes:
      kind: of a virtual one: ``veth``, ``bridge``...; otherwise empty
      master: the index of the bridge or bond that it belongs to
      floods_unknown: of a bridge port: groups that nobody has joined are sent out by it
      bridge: of a bridge; the kernel tells who asks for memberships since 5.16
    """

    kind: str
    master: int | None
    floods_unknown: bool | None
    bridge: Bridge | None


def list_link_details() -> dict[int, LinkDetails]:
    """Every interface of this thread's network namespace, by its index."""
    found = {}
    request = netlink.LINK_HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for message in netlink.dump(netlink.RTM_GETLINK, request):
        _family, _type, index, _flags, _change = netlink.LINK_HEADER.unpack_from(message.body)
        found[index] = _read_details(
            netlink.read_attributes(message.body[netlink.LINK_HEADER.size :])
        )
    return found


def _read_details(attributes: dict[int, bytes]) -> LinkDetails:
    info = netlink.read_attributes(attributes.get(netlink.IFLA_LINKINFO, b""))
    kind = netlink.read_text(info.get(IFLA_INFO_KIND))
    bridge = netlink.read_attributes(info.get(IFLA_INFO_DATA, b"")) if kind == "bridge" else {}
    port = netlink.read_attributes(info.get(IFLA_INFO_SLAVE_DATA, b""))
    if info.get(netlink.IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") != b"bridge":
        port = {}
    return LinkDetails(
        kind,
        netlink.read_number(attributes.get(netlink.IFLA_MASTER)),
        _flag(port.get(IFLA_BRPORT_MCAST_FLOOD)),
        _read_bridge(bridge),
    )


def _read_bridge(bridge: dict[int, bytes]) -> Bridge | None:
    if IFLA_BR_MCAST_SNOOPING not in bridge:
        return None
    querier = netlink.read_attributes(bridge.get(IFLA_BR_MCAST_QUERIER_STATE, b""))
    addresses: list[IPv4Address | IPv6Address] = []
    if BRIDGE_QUERIER_IP_ADDRESS in querier:
        addresses.append(IPv4Address(querier[BRIDGE_QUERIER_IP_ADDRESS]))
    if BRIDGE_QUERIER_IPV6_ADDRESS in querier:
        addresses.append(IPv6Address(querier[BRIDGE_QUERIER_IPV6_ADDRESS]))
    return Bridge(
        any(bridge[IFLA_BR_MCAST_SNOOPING]),
        any(bridge.get(IFLA_BR_MCAST_QUERIER, b"")),
        tuple(map(str, addresses)),
    )


def _flag(value: bytes | None) -> bool | None:
    return None if value is None else any(value)


def list_firewall_chains() -> tuple[Chain, ...]:
    """The chains of nftables that see packets by themselves, iptables-nft's among them.

    Raises:
      OSError: it needs CAP_NET_ADMIN, or the kernel has no nftables
    """
    families = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
    hooks = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
    found = []
    for message in netlink.dump(NFT_GETCHAIN, bytes(4), _NETLINK_NETFILTER):
        attributes = netlink.read_attributes(message.body[4:])  # behind nfgenmsg
        hook = netlink.read_attributes(attributes.get(NFTA_CHAIN_HOOK, b""))
        number = int.from_bytes(hook.get(NFTA_HOOK_HOOKNUM, b"\xff"), "big")
        family = families.get(message.body[0])
        if family is None or number >= len(hooks):
            continue
        found.append(
            Chain(
                family,
                netlink.read_text(attributes.get(NFTA_CHAIN_TABLE)),
                netlink.read_text(attributes.get(NFTA_CHAIN_NAME)),
                "ingress" if family == "netdev" and number == 0 else hooks[number],
                "accept" if any(attributes.get(NFTA_CHAIN_POLICY, b"\1")) else "drop",
            )
        )
    return tuple(found)
