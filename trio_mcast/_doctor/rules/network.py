"""The network around: queriers, routers, containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..case import Case
from ..finding import Finding, make_finding

# RFC 3376 s8.5: for so long a network may be without a query and still have its querier.
_QUERIER_PRESENT_SECONDS: Final = 255


def find_no_querier(case: Case) -> Iterator[Finding]:
    for link in case.snapshot.links:
        bridge = link.bridge
        if bridge is None or not bridge.is_snooping or bridge.is_querier or bridge.queriers:
            continue
        if link.mld_queries:  # there was one: `querier-dead`
            continue
        ports = [port for port in case.snapshot.links if port.master == link.index]
        dry = [port.name for port in ports if port.floods_unknown is False]
        yield make_finding(
            "no-querier",
            "error" if dry else "info",
            f"the bridge {link.name} snoops, but nobody asks who has joined what: "
            + (
                f"{', '.join(dry)} gets no groups"
                if dry
                else "it floods groups for now, and will forget members if a querier comes and goes"
            ),
            [
                f"netlink: {link.name}: mcast_snooping 1, mcast_querier 0, no other querier",
                *(f"netlink: {name}: mcast_flood off" for name in dry),
            ],
            interface=link.name,
        )
    yield from _find_quiet_network(case)


def _find_quiet_network(case: Case) -> Iterator[Finding]:
    """From the side of a host behind a switch."""
    if not case.silent() or case.observed.queries:
        return
    for link in case.chosen():
        if link.mld_queries == 0 and link.is_up and link.bridge is None:
            yield make_finding(
                "no-querier",
                "info",
                f"no query was ever heard on {link.name}: if its switch snoops, it needs a querier",
                [
                    f"/proc/net/dev_snmp6/{link.name}: Icmp6InGroupMembQueries 0 "
                    "(queries of IGMP are not counted by Linux)"
                ],
                "# make the router or one of the switches the IGMP and MLD querier, or switch\n"
                "# snooping off",
            )


def find_querier_dead(case: Case) -> Iterator[Finding]:
    for link in case.snapshot.links:
        bridge = link.bridge
        if bridge is None:
            continue
        if bridge.is_snooping and not bridge.is_querier and not bridge.queriers:
            if not link.mld_queries:
                continue
            yield make_finding(
                "querier-dead",
                "error",
                f"the querier behind the bridge {link.name} has fallen silent: groups stop when "
                "memberships run out",
                [
                    f"/proc/net/dev_snmp6/{link.name}: {link.mld_queries} queries were heard",
                    f"netlink: {link.name} knows no querier now",
                ],
                interface=link.name,
            )
    observation = case.observed
    if observation.seconds < _QUERIER_PRESENT_SECONDS:
        return
    for link in case.chosen():
        name = f"Icmp6InGroupMembQueries%{link.name}"
        if link.mld_queries and not observation.counters.get(name) and link.bridge is None:
            yield make_finding(
                "querier-dead",
                "warning",
                f"the querier on the network of {link.name} has fallen silent",
                [
                    f"/proc/net/dev_snmp6/{link.name}: {link.mld_queries} queries were heard, none "
                    f"in the last {observation.seconds:g} s"
                ],
                "# bring the querier of the network back, or make another device the querier",
            )


def find_hop_limit_one(case: Case) -> Iterator[Finding]:
    observation = case.observed
    unheard = case.silent()
    chosen = {link.index for link in case.chosen()}
    told = set()
    for route in observation.routes:
        wanted = route.source in case.question.sources and route.group in unheard
        if not wanted or not route.gateway or route.interface not in chosen:
            continue
        if (route.group, route.source) in told:
            continue
        told.add((route.group, route.source))
        yield make_finding(
            "hop-limit-one",
            "warning",
            f"{route.source} is beyond the router {route.gateway}: what it sends with a hop limit "
            "of 1, the default everywhere, ends there",
            [f"netlink: the route to {route.source} leads over {route.gateway}"],
        )


def find_loopback_hop_limit(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = [
            stream
            for stream in case.arrivals_of(group)
            if stream.hop_limit == 0 and case.is_own(stream.source)
        ]
        if streams:
            yield make_finding(
                "loopback-hop-limit",
                "warning",
                f"{group} is sent on this host with a hop limit of 0: no other host hears it",
                case.show_streams(streams, "received"),
            )


def find_container(case: Case) -> Iterator[Finding]:
    kind = case.snapshot.container
    if kind:
        is_virtual = any(link.kind == "veth" for link in case.chosen())
        yield make_finding(
            "container-network",
            "warning" if case.silent() and is_virtual else "info",
            f"this is a container ({kind}): unless it has the host's network, groups reach other "
            "containers of the same network at most, never the networks of the host",
            [
                *(f"netlink: {i.name} is of kind {i.kind}" for i in case.chosen() if i.kind),
                "/.dockerenv, /run/.containerenv, /proc/self/cgroup, KUBERNETES_SERVICE_HOST",
            ],
        )


def find_wsl(case: Case) -> Iterator[Finding]:
    version = case.snapshot.wsl
    if version:
        yield make_finding(
            "wsl",
            "warning" if case.silent() else "info",
            f"this is WSL {version}: "
            + (
                "unless its network is mirrored, groups stay between Windows and WSL"
                if version == 2
                else "it knows few multicast options; use WSL 2, or Python for Windows"
            ),
            ["/proc/sys/kernel/osrelease names Microsoft"],
            None if version == 2 else "wsl --set-version DISTRIBUTION 2",
        )
