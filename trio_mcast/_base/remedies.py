"""What to do about what goes wrong: one table for the doctor's findings and for errors' notes."""

from __future__ import annotations

import errno
from typing import Final, NamedTuple, TypeVar

_Error = TypeVar("_Error", bound=OSError)


class Advice(NamedTuple):
    """What to do about a cause.

    Attributes:
      remedy: commands to paste or changes to make, a line each; what is no command begins with #.
        Words in braces stand for what the finding is about
      reference: where it is explained
    """

    remedy: str
    reference: str


ADVICE: Final[dict[str, Advice]] = {
    "datagrams-arrive": Advice("", "docs/doctor.md"),
    "group-reserved": Advice(
        "# use another group: trio_mcast.random_group() makes one that is free to use",
        "RFC 5771, RFC 4291 s2.7, RFC 4607",
    ),
    "interface-down": Advice("sudo ip link set dev {interface} up", "ip-link(8)"),
    "interface-no-carrier": Advice(
        "# plug the cable in, or switch on what is at its other end; `ip link show {interface}`",
        "ip-link(8)",
    ),
    "interface-not-multicast": Advice(
        "sudo ip link set dev {interface} multicast on", "netdevice(7), IFF_MULTICAST"
    ),
    "interface-no-address": Advice(
        "sudo ip addr add ADDRESS/24 dev {interface}  # an address of that network",
        "ip-address(8)",
    ),
    "ipv6-disabled": Advice(
        "sudo sysctl -w net.ipv6.conf.{interface}.disable_ipv6=0", "ip-sysctl, disable_ipv6"
    ),
    "no-local-route-v6": Advice(
        "sudo ip -6 route add local ff00::/8 dev {interface}", "ip-route(8), type local"
    ),
    "port-held-exclusively": Advice(
        "# end that program, or let it set SO_REUSEADDR before it binds, as all must who share\n"
        "sudo ss -ulnp 'sport = :{port}'",
        "socket(7), SO_REUSEADDR",
    ),
    "membership-limit": Advice(
        "sudo sysctl -w {setting}={value}", "ip-sysctl, igmp_max_memberships, igmp_max_msf"
    ),
    "membership-lost": Advice(
        "# leave and join again in that program, or restart it. The interface was deleted or its\n"
        "# MTU below 1280 for a moment; trio_mcast.open_receiver joins again by itself",
        "docs/doctor.md",
    ),
    "wrong-interface": Advice(
        "# join on {interface}: open_receiver(..., interfaces={interface!r}), or let the sender\n"
        "# use the other network: open_sender(..., interface=...)",
        "docs/doctor.md",
    ),
    "reverse-path-filter": Advice(
        "sudo sysctl -w net.ipv4.conf.{interface}.rp_filter=2", "ip-sysctl, rp_filter; RFC 3704"
    ),
    "source-unroutable": Advice(
        "sudo ip route add {source} dev {interface}", "ip-sysctl, rp_filter; RFC 3704"
    ),
    "own-source-address": Advice(
        "sudo sysctl -w net.ipv4.conf.{interface}.accept_local=1", "ip-sysctl, accept_local"
    ),
    "firewall-drop": Advice(
        "sudo nft list ruleset  # or: sudo iptables-save\n"
        "sudo ufw allow proto udp to {group} port {port}  # where ufw is in charge\n"
        "sudo firewall-cmd --add-port={port}/udp  # where firewalld is",
        "nft(8)",
    ),
    "source-filtered": Advice(
        "# let the receiver accept {source}: sources=[{source!r}], or no sources at all",
        "RFC 3376 s2, RFC 3678",
    ),
    "port-mismatch": Advice("# receive at port {port}, or let the sender use {own}", "udp(7)"),
    "checksum-errors": Advice(
        "# the sender, its network card or something on the way breaks datagrams. Checksums that\n"
        "# the sender's card should make: sudo ethtool -K INTERFACE tx off, on the sender",
        "RFC 768; ethtool(8)",
    ),
    "receive-buffer-full": Advice(
        "sudo sysctl -w net.core.rmem_max=16777216  # and let the program ask for more buffer,\n"
        "# SO_RCVBUF (open_receiver: receive_buffer=), or read faster (receive_batch)",
        "socket(7), SO_RCVBUF",
    ),
    "no-querier": Advice(
        "# make one of the switches, or the router, of the network the querier of IGMP and MLD.\n"
        "# If this host is the switch:\n"
        "sudo ip link set dev {interface} type bridge mcast_querier 1",
        "RFC 4541 s2.1",
    ),
    "querier-dead": Advice(
        "# bring the querier back, or make another device the querier.\n"
        "# If this host is the switch:\n"
        "sudo ip link set dev {interface} type bridge mcast_querier 1",
        "RFC 4541 s2.1",
    ),
    "igmp-version-forced": Advice(
        "sudo sysctl -w {setting}=0", "ip-sysctl, force_igmp_version, force_mld_version"
    ),
    "hop-limit-one": Advice(
        "# let the sender use a higher hop limit: open_sender(..., hop_limit=16), and let the\n"
        "# routers between forward multicast (PIM), which few do unless told to",
        "RFC 1112 s6.1",
    ),
    "loopback-hop-limit": Advice(
        "# let the sender use a hop limit of 1 or more: open_sender(..., hop_limit=1)",
        "RFC 1112 s6.1",
    ),
    "container-network": Advice(
        "# docker run --network host ..., or a macvlan network: docker network create -d macvlan",
        "docs/doctor.md",
    ),
    "wsl": Advice(
        "# in %UserProfile%\\.wslconfig on Windows 11: [wsl2] networkingMode=mirrored\n"
        "# then: wsl --shutdown",
        "learn.microsoft.com/windows/wsl/networking",
    ),
    "nothing-sent": Advice(
        "# see to the sender: is it running, does it send to this group and port, by an interface\n"
        "# of this network? On its host: trio-mcast doctor {group}",
        "docs/doctor.md",
    ),
    "limited-view": Advice("sudo trio-mcast doctor", "docs/doctor.md"),
    "datagrams-lost": Advice(
        "# compare what is sent with what comes in:\n"
        "sudo tcpdump -vv -e -i any host {group}\n"
        "# and see which programs are in the way: sudo bpftool net; sudo bpftool cgroup tree;\n"
        "# sudo nft list ruleset; sudo tc filter show dev INTERFACE ingress",
        "docs/doctor.md",
    ),
}
"""By the codes of the doctor's findings. The order is that in which findings are told."""


_NOTES: Final = {
    "EMFILE": (
        "The program has as many files open as it may. Every group on every interface takes one "
        "socket: raise the limit (`ulimit -n 4096`, or LimitNOFILE= for a service), or name fewer "
        "groups or interfaces.",
        "",
    ),
    "ENFILE": ("The whole system has as many files open as it may (sysctl fs.file-max).", ""),
    "ENOBUFS": (
        "A limit of the kernel is reached: sysctl net.ipv4.igmp_max_memberships (groups a socket), "
        "net.ipv4.igmp_max_msf or net.ipv6.mld_max_msf (sources a group), net.core.optmem_max "
        "(memory for options); when sending, a full send buffer or queue.",
        "membership-limit",
    ),
    "ENOMEM": (
        "The kernel has no memory for it; for groups, sysctl net.core.optmem_max sets the limit.",
        "membership-limit",
    ),
    "EADDRINUSE": (
        "A program that does not share the port holds it. To share it, every program must set "
        "SO_REUSEADDR before it binds. `ss -ulnp` shows who holds which port. If no port was "
        "named, none is left of those that the system gives (Linux: sysctl "
        "net.ipv4.ip_local_port_range).",
        "port-held-exclusively",
    ),
    "EADDRNOTAVAIL": (
        "The interface does not have the address, or cannot carry multicast. Or the IPv6 address "
        "is tentative: duplicate address detection takes a second or two after the interface came "
        "up (`ip -6 address show tentative`).",
        "interface-no-address",
    ),
    "ENODEV": (
        "The interface is gone, or does not run this version of IP: "
        "`trio-mcast interfaces` shows what there is.",
        "ipv6-disabled",
    ),
    "ENETUNREACH": (
        "No route leads there. The interface may be down or without an address; IPv6 groups on "
        f"Linux' loopback need `{ADVICE['no-local-route-v6'].remedy.format(interface='lo')}`. "
        "On Windows it is also what sending by the loopback interface meets until a program on "
        "this host has joined the group.",
        "no-local-route-v6",
    ),
    "ENETDOWN": (
        f"The interface is down: `{ADVICE['interface-down'].remedy.format(interface='NAME')}`.",
        "interface-down",
    ),
    "EHOSTUNREACH": (
        "On macOS 15 and later the program may lack the permission for the local network "
        "(System Settings, Privacy & Security, Local Network).",
        "",
    ),
    "EPERM": (
        "A firewall or a sandbox forbids it. `sudo nft list ruleset` shows the firewall's rules.",
        "firewall-drop",
    ),
    "EACCES": (
        "A port below 1024 needs a privilege (CAP_NET_BIND_SERVICE), or a route forbids it.",
        "",
    ),
    "EMSGSIZE": (
        "The datagram is larger than UDP allows (65,507 bytes of payload over IPv4, 65,527 over "
        "IPv6) or than the send buffer takes (`send_buffer=`).",
        "",
    ),
}
"""By the name of the error: what to do, and the code of the doctor's finding that says more."""

_BY_NUMBER: Final = {getattr(errno, name): note for name, note in _NOTES.items()}


def add_remedy(error: _Error) -> _Error:
    """The same error, with a note on what to do about it where something is known."""
    if (note := _BY_NUMBER.get(error.errno or 0)) is not None:
        text, code = note
        more = f" `trio-mcast doctor GROUP --port PORT` looks into it ({code})." if code else ""
        error.add_note(text + more)
    return error
