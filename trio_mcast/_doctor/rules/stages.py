"""The stages at which a host loses datagrams: routes, firewall, checksums, buffers."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from ..._addresses.parsing import is_multicast
from ..._base.snapshot import Link, Route, UdpSocket
from ..case import Case
from ..finding import Finding, Severity, make_finding
from ..losses import ENOUGH, count_losses


def _refused_routes(case: Case) -> list[tuple[Route, Link]]:
    """Senders that the routes do not let in, where that makes the difference.

    One that was seen coming in counts by itself; one that was only named, if nothing of the group
    arrives, and it is dropped, or no interface that was chosen would let it in.
    """
    observation = case.observed
    seen = {(s.group, s.interface, s.source) for s in observation.sightings or ()}
    seen |= {("224.0.0.1", query.interface, query.source) for query in observation.queries}
    is_filtering = observation.counters.get("TcpExt.IPReversePathFilter", 0) >= ENOUGH
    chosen = {link.index for link in case.chosen()}
    arrived = {(s.group, s.interface, s.source) for s in observation.arrivals}
    accepted = {
        (route.group, route.source)
        for route in observation.routes
        if route.refusal == 0 and route.interface in chosen
    }
    found = []
    for route in observation.routes:
        link = case.snapshot.link(route.interface)
        # What loops back inside the host was routed when it was sent, and is not asked again.
        if not route.refusal or link is None or link.is_loopback:
            continue
        if (route.group, route.interface, route.source) in arrived:
            continue
        is_seen = (route.group, route.interface, route.source) in seen
        is_named = (
            route.interface in chosen
            and route.source in case.question.sources
            and (is_filtering or (route.group, route.source) not in accepted)
            and route.group in case.unheard(4)
        )
        if is_seen or is_named:
            found.append((route, link))
    return found


def _severity_of_refusal(case: Case, route: Route) -> Severity:
    """A sender that is refused among others who are heard is not what was asked about."""
    if route.group in case.question.groups and case.is_heard(route.group):
        return "warning"
    return "error"


def _show_filter(case: Case, link: Link) -> str:
    return (
        f"sysctl: net.ipv4.conf.all.rp_filter = {case.setting('net.ipv4.conf.all.rp_filter')}, "
        f"net.ipv4.conf.{link.name}.rp_filter = {link.rp_filter}; the larger one counts"
    )


def find_reverse_path(case: Case) -> Iterator[Finding]:
    for route, link in _refused_routes(case):
        strength = case.reverse_path_filter(link)
        if not strength or route.outgoing in (None, route.interface):
            continue
        if case.is_own(route.source) or ip_address(route.source).is_unspecified:
            continue
        back = case.snapshot.name(route.outgoing or 0)
        what = (
            f"queries of the querier {route.source}: memberships run out after minutes"
            if route.group == "224.0.0.1"
            else f"datagrams of {route.source}"
        )
        yield make_finding(
            "reverse-path-filter",
            _severity_of_refusal(case, route),
            f"{link.name} drops {what}, since the route back leads by {back}",
            [
                _show_filter(case, link),
                f"netlink: the route to {route.source} leads by {back}",
                *_show_reverse_path_counter(case),
            ],
            interface=link.name,
        )
    blamed = _blamed_by_counter(case)
    if any(case.reverse_path_filter(link) == 1 for link in blamed):
        names = " or ".join(link.name for link in blamed)
        yield make_finding(
            "reverse-path-filter",
            "error",
            f"{names} drops datagrams whose sender would be answered by another interface",
            [
                *(_show_filter(case, link) for link in blamed),
                *_show_reverse_path_counter(case),
            ],
            interface=blamed[0].name if len(blamed) == 1 else "all",
        )


def _blamed_by_counter(case: Case) -> list[Link]:
    """The interfaces whose filter may have dropped, where no sender is known who was."""
    observation = case.observed
    if (
        not case.maybe_lost(4)
        or observation.counters.get("TcpExt.IPReversePathFilter", 0) < ENOUGH
        or any(case.reverse_path_filter(link) for _, link in _refused_routes(case))
    ):
        return []
    return [
        link
        for link in case.chosen()
        if case.reverse_path_filter(link) and link.can_carry(4) and link.supports_multicast
    ]


def _show_reverse_path_counter(case: Case) -> Iterator[str]:
    counters = case.observed.counters
    if grown := counters.get("TcpExt.IPReversePathFilter"):
        yield f"TcpExt IPReversePathFilter grew by {grown}"


def find_unroutable(case: Case) -> Iterator[Finding]:
    for route, link in _refused_routes(case):
        if ip_address(route.source).is_unspecified and route.group != "224.0.0.1":
            yield make_finding(
                "source-unroutable",
                _severity_of_refusal(case, route),
                f"{route.group} comes from 0.0.0.0 on {link.name}: the sender has no IPv4 address, "
                "and no system takes that",
                [f"netlink: the kernel refuses {route.source} on {link.name}"],
                "# give the sender's interface an address; on its host:\n"
                "sudo ip addr add ADDRESS/24 dev INTERFACE",
            )
        elif route.outgoing is None and case.reverse_path_filter(link):
            yield make_finding(
                "source-unroutable",
                _severity_of_refusal(case, route),
                f"{link.name} drops what comes from {route.source}: no route leads back there",
                [
                    _show_filter(case, link),
                    f"netlink: no route to {route.source}",
                    *_show_reverse_path_counter(case),
                ],
                source=route.source,
                interface=link.name,
            )
    blamed = _blamed_by_counter(case)
    if blamed and all(case.reverse_path_filter(link) == 2 for link in blamed):
        off = " ".join(f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", blamed[0].name))
        yield make_finding(
            "source-unroutable",
            "error",
            f"{' or '.join(link.name for link in blamed)} drops datagrams of a sender to whom no "
            "route leads",
            [
                *(_show_filter(case, link) for link in blamed),
                *_show_reverse_path_counter(case),
            ],
            f"sudo ip route add SENDER dev {blamed[0].name}\n"
            f"# or no filtering: sudo sysctl -w {off}",
        )


def find_own_source(case: Case) -> Iterator[Finding]:
    for route, link in _refused_routes(case):
        accepts = link.accept_local or case.setting("net.ipv4.conf.all.accept_local")
        if case.is_own(route.source) and not accepts:
            yield make_finding(
                "own-source-address",
                _severity_of_refusal(case, route),
                f"{link.name} drops what comes from {route.source}, an address of this host",
                [
                    f"netlink: the kernel refuses {route.source} on {link.name}",
                    f"sysctl: net.ipv4.conf.{link.name}.accept_local = {link.accept_local}",
                ],
                interface=link.name,
            )


def find_firewall(case: Case) -> Iterator[Finding]:
    observation = case.observed
    for attempt in observation.sends:
        if attempt.errno == errno.EPERM:
            yield _firewall(case, attempt.group, "output", f"sending: {attempt.error}", "error")
            break
    for version in (4, 6):
        for group in case.unheard(version)[:1]:
            yield from _find_incoming_firewall(case, group)


def _find_incoming_firewall(case: Case, group: str) -> Iterator[Finding]:
    observation = case.observed
    losses = count_losses(observation.counters, ip_address(group).version)
    refused = {(r.group, r.interface, r.source) for r, _ in _refused_routes(case)}
    if observation.sightings is not None:
        lost = [
            stream
            for stream in observation.sightings
            if stream.group == group
            and case.is_wanted(stream)
            and stream.port == observation.port
            and (stream.group, stream.interface, stream.source) not in refused
        ]
        count = sum(stream.count for stream in lost)
        if not count or losses.bad_checksums * 2 >= count:
            return
        hook = "ingress"
        if losses.in_input * 2 >= count:
            hook = "input"
        elif losses.before_routing * 2 >= count:
            hook = "prerouting"
        seen = next(case.show_streams(lost, "seen on the wire:"))
        yield _firewall(case, group, hook, f"{seen}; none was delivered", "error", losses.evidence)
        return
    if losses.in_input >= ENOUGH:
        clue = "datagrams for groups came in and were not delivered"
        yield _firewall(case, group, "input", clue, "error", losses.evidence)
    elif losses.before_routing >= ENOUGH and not refused:
        sure = any(
            r.group == group and r.refusal == 0 and r.source in case.question.sources
            for r in observation.routes
        )
        clue = "datagrams came in, and nothing but a firewall is left to have dropped them"
        if not sure:
            clue = (
                "datagrams came in and were dropped before the routes had a say: by a firewall, or "
                "since they were for groups that nobody joined, or came from an address of this "
                "host (name the sender with --source to be sure)"
            )
        yield _firewall(
            case, group, "prerouting", clue, "error" if sure else "warning", losses.evidence
        )


def _firewall(
    case: Case,
    group: str,
    hook: str,
    clue: str,
    severity: Severity,
    evidence: Iterable[str] = (),
) -> Finding:
    version = ip_address(group).version
    port = case.observed.port
    remedy, seen = None, [clue, *evidence]
    if case.snapshot.chains is None:
        seen.append("the rules themselves are only for root to see")
    else:
        families = ("inet", "ip" if version == 4 else "ip6", "netdev", "bridge")
        chains = [c for c in case.snapshot.chains if c.hook == hook and c.family in families]
        seen += [f"nftables: the chain {chain} (policy {chain.policy})" for chain in chains]
        protocol = "ip" if version == 4 else "ip6"
        match = f"{protocol} daddr {group}" + (f" udp dport {port}" if port else "")
        if chains and hook != "ingress":
            remedy = "\n".join(f"sudo nft insert rule {chain} {match} accept" for chain in chains)
    if hook == "ingress":
        remedy = (
            "sudo nft list ruleset  # chains of family netdev\n"
            "sudo tc filter show dev INTERFACE ingress  # and programs of XDP: ip link show"
        )
    certainty = "drops" if severity == "error" else "may drop"
    return make_finding(
        "firewall-drop",
        severity,
        f"the firewall {certainty} {group}" + (f" port {port}" if port else "") + f" in {hook}",
        seen,
        remedy,
        group=group,
        port=port or "PORT",
    )


def find_checksums(case: Case) -> Iterator[Finding]:
    counters = case.observed.counters
    for version in case.versions():
        name = "Udp.InCsumErrors" if version == 4 else "Udp6InCsumErrors"
        if bad := counters.get(name, 0):
            yield make_finding(
                "checksum-errors",
                "error" if case.maybe_lost(version) else "warning",
                f"{bad} datagrams had a wrong checksum, and were dropped",
                [f"{name.replace('.', ' ')} grew by {bad}"],
            )


def find_buffer_full(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is not None:
        for bound in observation.losses:
            concerned = bound.port == observation.port
            yield make_finding(
                "receive-buffer-full",
                "error" if concerned else "warning",
                f"{_who(case, bound)} does not read fast enough: {bound.drops} datagrams were "
                f"dropped in {observation.seconds:g} s",
                [
                    f"/proc/net/udp: the drops of the socket grew by {bound.drops}",
                    f"sysctl: net.core.rmem_max = {case.setting('net.core.rmem_max')}",
                ],
            )
        return
    for bound in case.snapshot.sockets:
        if bound.drops and is_multicast(ip_address(bound.address)):
            yield make_finding(
                "receive-buffer-full",
                "warning",
                f"{bound} has lost {bound.drops} datagrams since it was opened",
                [f"/proc/net/udp: drops {bound.drops}"],
            )


def _who(case: Case, bound: UdpSocket) -> UdpSocket:
    """The socket with its holders, where the snapshot has seen them."""
    return next((other for other in case.snapshot.sockets if other.inode == bound.inode), bound)
