"""At which stage datagrams are lost, as the kernel's counters tell (seen with Linux 6.18).

What comes in is counted as received; what is for a group that is joined, as a multicast packet,
once the routes have had their say and before the firewall's input hook; what is left after that, as
delivered. So:

====================================  ====================================================
dropped by                            counted
====================================  ====================================================
a netdev ingress hook                 nothing
firewall, prerouting                  received
reverse path filtering                received, IPReversePathFilter
a source of this host, or 0.0.0.0     received
a group that nobody joined            received (IPv6: received and multicast)
firewall, input                       received and multicast
no socket at the port                 received, multicast, delivered and Udp IgnoredMulti
====================================  ====================================================

The counters are the whole host's, so other traffic has to be taken off, as far as that is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ENOUGH: Final = 3
"""Fewer datagrams may be the chatter of the network itself: IGMP, MLD, neighbour discovery."""


@dataclass(frozen=True)
class Losses:
    """How many datagrams were lost at which stage.

    Attributes:
      before_routing: received and dropped, for no reason that is counted
      in_input: for groups, and not delivered
      by_reverse_path: by reverse path filtering
      without_socket: for groups that are joined, at a port where nobody listens
    """

    before_routing: int
    in_input: int
    by_reverse_path: int
    without_socket: int
    bad_checksums: int
    evidence: tuple[str, ...]

    def is_suspicious(self) -> bool:
        """Whether datagrams were lost that may have been the ones wanted."""
        return (
            self.before_routing + self.in_input >= ENOUGH
            or self.by_reverse_path >= ENOUGH
            or self.without_socket >= ENOUGH
            or self.bad_checksums > 0
        )


_KEPT: Final = {
    4: ("Ip.InDelivers", "Ip.ForwDatagrams", "Ip.InHdrErrors", "Ip.InAddrErrors", "Ip.InDiscards"),
    6: (
        "Ip6InDelivers",
        "Ip6OutForwDatagrams",
        "Ip6InHdrErrors",
        "Ip6InAddrErrors",
        "Ip6InDiscards",
        "Ip6InNoRoutes",
    ),
}
"""What becomes of a received packet other than to be lost unaccounted."""


def count_losses(counters: dict[str, int], version: int) -> Losses:
    """The losses, of the growth of the counters."""

    def grown(name: str) -> int:
        return counters.get(name, 0)

    prefix = "Ip." if version == 4 else "Ip6"
    multicast = grown("IpExt.InMcastPkts" if version == 4 else "Ip6InMcastPkts")
    received, delivered = grown(f"{prefix}InReceives"), grown(f"{prefix}InDelivers")
    filtered = grown("TcpExt.IPReversePathFilter") if version == 4 else 0
    # Fragments: those of one datagram are received each, and delivered once.
    reassembled = grown(f"{prefix}ReasmReqds") - grown(f"{prefix}ReasmOKs")
    lost = received - filtered - sum(grown(name) for name in _KEPT[version]) - reassembled
    # Most unicast is TCP, which is counted; the rest makes `in_input` smaller, not larger.
    unicast = grown("Tcp.InSegs") + grown("Icmp.InMsgs") if version == 4 else 0
    in_input = min(max(multicast - max(delivered - unicast, 0), 0), max(lost, 0))
    return Losses(
        max(lost - in_input, 0),
        in_input,
        filtered,
        grown("Udp.IgnoredMulti" if version == 4 else "Udp6IgnoredMulti"),
        grown("Udp.InCsumErrors" if version == 4 else "Udp6InCsumErrors"),
        (
            f"counters of IPv{version}: {received} received, of them {multicast} for groups "
            f"joined; {delivered} delivered",
        ),
    )
