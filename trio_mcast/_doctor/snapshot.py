"""What this machine says of itself: read, never changed, by any user."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from .._os.scan import list_interfaces
from .._plan.interfaces import Interface
from .evidence import Link, Snapshot


def take_snapshot() -> Snapshot:
    """The calling thread's network namespace as it is now."""
    if sys.platform == "linux":
        return _take_on_linux()
    links = tuple(_link_from(interface) for interface in list_interfaces())
    return Snapshot(sys.platform, links)


def _link_from(interface: Interface) -> Link:
    return Link(
        interface.name,
        interface.index,
        interface.is_up,
        interface.is_loopback,
        interface.supports_multicast,
        interface.mtu,
        tuple(map(str, interface.addresses)),
        ipv6="on" if interface.has_ipv6 else "disabled",
    )


if sys.platform == "linux":
    import socket
    from dataclasses import replace

    from .._os import netlink, proc
    from .evidence import Bridge, Chain, FilteredSource, Holder, Joined, UdpSocket

    _SETTINGS = (
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

    def _take_on_linux() -> Snapshot:
        settings = {name: proc.read_setting(name.replace(".", "/")) for name in _SETTINGS}
        sockets, sees_all_holders = _read_sockets()
        return Snapshot(
            "linux",
            tuple(_read_links()),
            joined=tuple(Joined(row.group, row.interface, row.users) for row in proc.read_groups()),
            filtered=tuple(
                FilteredSource(row.group, row.interface, row.source, row.included, row.excluded)
                for row in proc.read_source_filters()
            ),
            sockets=sockets,
            settings={name: value for name, value in settings.items() if value is not None},
            chains=_read_chains(),
            container=proc.find_container(),
            wsl=proc.find_wsl(),
            can_capture=_can_capture(),
            sees_all_holders=sees_all_holders,
        )

    def _read_links() -> Iterable[Link]:
        states = {link.index: link for link in netlink.list_links()}
        details = netlink.list_link_details()
        versions = proc.read_igmp_versions()
        counters = proc.read_counters()
        for interface in list_interfaces():
            state, detail = states.get(interface.index), details.get(interface.index)
            if state is None or detail is None:  # it went or came between two looks
                continue
            conf4, conf6 = f"net/ipv4/conf/{interface.name}", f"net/ipv6/conf/{interface.name}"
            yield replace(
                _link_from(interface),
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
                bridge=_read_bridge(detail),
                floods_unknown=detail.floods_unknown,
            )

    def _read_bridge(detail: netlink.LinkDetails) -> Bridge | None:
        if detail.is_snooping is None:
            return None
        return Bridge(detail.is_snooping, bool(detail.is_querier), tuple(map(str, detail.queriers)))

    def _read_sockets() -> tuple[tuple[UdpSocket, ...], bool]:
        rows = proc.read_udp_sockets()
        holders, is_complete = proc.find_holders({row.inode for row in rows})
        sockets = tuple(
            UdpSocket(
                *row, tuple(Holder(pid, name) for pid, name in sorted(holders.get(row.inode, [])))
            )
            for row in rows
        )
        return sockets, is_complete

    def _read_chains() -> tuple[Chain, ...] | None:
        try:
            return tuple(
                Chain(c.family, c.table, c.name, c.hook, "accept" if c.accepts else "drop")
                for c in netlink.list_firewall_chains()
            )
        except OSError:  # no privilege, or no nftables in this kernel
            return None

    def _can_capture() -> bool:
        try:
            # Protocol 0: nothing is delivered to it.
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
        except OSError:
            return False
        return True
