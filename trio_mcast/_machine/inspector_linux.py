"""What Linux says of itself, to any user unless said otherwise."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

import trio

from .._base.interface import Interface
from .._base.snapshot import Chain, Joined, Link, Route, Snapshot, UdpSocket
from . import capture, netlink, netlink_details, proc
from .inspector import Capture, SystemInspector, link_from

assert not TYPE_CHECKING or sys.platform == "linux"

_SETTINGS: Final = (
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.accept_local",
    "net.ipv4.conf.all.force_igmp_version",
    "net.ipv6.conf.all.force_mld_version",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv4.igmp_max_memberships",
    "net.ipv4.igmp_max_msf",
    "net.ipv6.mld_max_msf",
    "net.core.rmem_max",
    "net.core.optmem_max",
)


# Of those that filter; nat never drops (iptables(8)).
_LEGACY_HOOKS: Final = {
    "filter": ("input", "output"),
    "mangle": ("prerouting", "input", "output"),
    "raw": ("prerouting", "output"),
    "security": ("input", "output"),
}


class LinuxInspector(SystemInspector):
    """Of the calling thread's network namespace."""

    def take_snapshot(self) -> Snapshot:
        settings = {name: proc.read_setting(name.replace(".", "/")) for name in _SETTINGS}
        sockets, sees_all_holders = self._read_sockets()
        return Snapshot(
            "linux",
            tuple(self._read_links()),
            joined=self.list_joined() or (),
            filtered=proc.read_source_filters(),
            sockets=sockets,
            settings={name: value for name, value in settings.items() if value is not None},
            chains=_read_chains(),
            container=proc.find_container(),
            wsl=proc.find_wsl(),
            can_capture=_can_capture(),
            sees_all_holders=sees_all_holders,
        )

    def _read_links(self) -> Iterable[Link]:
        states = {link.index: link for link in netlink.list_links()}
        details = netlink_details.list_link_details()
        versions = proc.read_igmp_versions()
        counters = proc.read_counters()
        for interface in self._list_interfaces():
            state, detail = states.get(interface.index), details.get(interface.index)
            if state is None or detail is None:  # it went or came between two looks
                continue
            conf4, conf6 = f"net/ipv4/conf/{interface.name}", f"net/ipv6/conf/{interface.name}"
            yield replace(
                link_from(interface),
                has_carrier=state.has_carrier,
                ipv6=state.ipv6,
                kind=detail.kind,
                master=detail.master,
                rp_filter=proc.read_setting(f"{conf4}/rp_filter"),
                accept_local=proc.read_setting(f"{conf4}/accept_local"),
                force_igmp_version=proc.read_setting(f"{conf4}/force_igmp_version"),
                force_mld_version=proc.read_setting(f"{conf6}/force_mld_version"),
                igmp_version=versions.get(interface.index),
                mld_queries=counters.get(f"Icmp6InGroupMembQueries%{interface.name}"),
                bridge=detail.bridge,
                floods_unknown=detail.floods_unknown,
            )

    def _read_sockets(self) -> tuple[tuple[UdpSocket, ...], bool]:
        rows = proc.read_udp_sockets()
        holders, is_complete = proc.find_holders({row.inode for row in rows})
        sockets = tuple(
            replace(row, holders=tuple(sorted(holders.get(row.inode, ())))) for row in rows
        )
        return sockets, is_complete

    def read_counters(self) -> dict[str, int]:
        return proc.read_counters()

    def list_udp_sockets(self) -> tuple[UdpSocket, ...]:
        return proc.read_udp_sockets()

    def find_inode(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_ino

    def list_joined(self) -> tuple[Joined, ...] | None:
        try:
            return proc.read_groups()
        except OSError:  # no /proc
            return None

    def find_route(
        self, group: IPv4Address | IPv6Address, index: int, source: IPv4Address | IPv6Address
    ) -> Route:
        refusal: int | None = None
        if group.version == 4:  # for IPv6 the kernel does not answer this
            try:
                netlink.find_route(group, source=source, incoming=index)
                refusal = 0
            except OSError as error:
                refusal = error.errno
        try:
            back = netlink.find_route(source)
        except OSError:
            return Route(str(group), index, str(source), refusal, None, "")
        gateway = str(back.gateway or "")
        return Route(str(group), index, str(source), refusal, back.outgoing, gateway)

    def find_local_route(self, group: IPv6Address, index: int) -> str | None:
        try:
            route = netlink.find_route(group, outgoing=index)
        except OSError:
            return "none"
        return "local" if route.type == netlink.RTN_LOCAL else "other"

    @trio.lowlevel.enable_ki_protection
    def try_to_send(
        self, group: IPv4Address | IPv6Address, port: int, interface: Interface
    ) -> bool:
        """Without a datagram reaching anyone.

        With hop limit 0 an IPv4 datagram passes the firewall's output hook and, without
        loopback, ends there. IPv6 does send it out in that case (seen with Linux 6.18). With
        loopback it ends as well, but is delivered first: so it goes to a port that is nobody's,
        and only where the group is joined, for everyone.
        """
        if interface.is_loopback:  # which knows no hop limit
            return False
        six = group.version == 6
        family = socket.AF_INET6 if six else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            if six:
                index = interface.index
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 0)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                sock.sendto(b"", (str(group), self.find_free_port(), 0, index))
            else:
                mreqn = bytes(8) + interface.index.to_bytes(4, sys.byteorder)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
                sock.sendto(b"", (str(group), port))
        return True

    def open_capture(self) -> Capture | None:
        try:
            return capture.PacketCapture()
        except OSError:
            return None


def _read_chains() -> tuple[Chain, ...] | None:
    try:
        return netlink_details.list_firewall_chains() + tuple(_read_legacy_chains())
    except OSError:  # no privilege, or no nftables in this kernel
        return None


@trio.lowlevel.enable_ki_protection
def _read_legacy_chains() -> Iterator[Chain]:
    """The chains of iptables as it was before nftables, which does not show them.

    Only which tables there are can be read; each has its chains from the beginning.
    """
    for family, file in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        try:
            with open(f"/proc/thread-self/net/{file}") as names:
                tables = names.read().split()
        except OSError:  # no such tables in this kernel
            continue
        for table in tables:
            for hook in _LEGACY_HOOKS.get(table, ()):
                yield Chain(family, table, hook.upper(), hook, "")


def _can_capture() -> bool:
    try:
        # Protocol 0: nothing is delivered to it.
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except OSError:
        return False
    return True
