"""The stages at which a host loses datagrams: routes, firewall, checksums, buffers."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from ..._addresses.parsing import is_multicast
from ..._base.snapshot import Chain, Link, Route, UdpSocket
from ..case import Case
from ..evidence import Stream
from ..finding import Finding, Severity, make_finding
from ..losses import ENOUGH, Losses, count_losses


def _refused_routes(case: Case) -> list[tuple[Route, Link]]:
    """Senders that the routes do not let in, where that makes the difference.

    One that was seen coming in counts by itself; one that was only named, if nothing of the group
    arrives, and it is dropped, or no interface that was chosen would let it in.
    """
    observation = case.observed
    seen = {(s.group, s.interface, s.source) for s in observation.sightings or () if not s.flaw}
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
            loss = _find_loss(case, group)
            if loss is not None and loss.is_by_firewall:
                yield _firewall(case, group, loss.hook, loss.clue, "error", loss.evidence)


class _Loss(NamedTuple):
    """Datagrams that came in and did not arrive, for no reason that the kernel tells.

    Attributes:
      hook: the place in the kernel where they were lost, by the name that firewalls have for it
      is_by_firewall: something is there that drops datagrams
    """

    hook: str
    clue: str
    evidence: tuple[str, ...]
    is_by_firewall: bool


def _find_loss(case: Case, group: str) -> _Loss | None:
    losses = count_losses(case.observed.counters, ip_address(group).version)
    if case.observed.sightings is not None:
        return _find_loss_of_seen(case, group, losses)
    # Without a capture it is not known of which groups the losses are. For IPv4 nothing but a
    # firewall is between the two counters; IPv6 counts what is for groups that nobody joined, too.
    if losses.in_input >= ENOUGH:
        is_joined = ip_address(group).version == 4
        clue = "datagrams for groups came in and were not delivered"
        if not is_joined:
            clue += ": a firewall dropped them, or nobody has joined those groups"
        return _Loss("input", clue, losses.evidence, is_joined)
    if losses.before_routing >= ENOUGH and not any(
        route.group == group for route, _ in _refused_routes(case)
    ):
        clue = (
            "datagrams came in and were dropped before the routes had a say: by a firewall, or "
            "since they were for groups that nobody joined, or came from an address of this "
            "host (root sees which)"
        )
        return _Loss("prerouting", clue, losses.evidence, False)
    return None


def _find_loss_of_seen(case: Case, group: str, losses: Losses) -> _Loss | None:
    observation = case.observed
    wanted = [
        stream
        for stream in case.sightings_of(group)
        if case.is_wanted(stream) and stream.port == observation.port
    ]
    # Routes are asked for where the group is joined, and not for senders without number.
    asked = {(r.group, r.interface, r.source) for r in observation.routes}
    accepted = asked - {(r.group, r.interface, r.source) for r, _ in _refused_routes(case)}
    lost = [s for s in wanted if (s.group, s.interface, s.source) in accepted]
    if not lost:
        return None
    # What became of those that are not listed is taken to be what became of the others.
    crowd = case.count_wanted(group, observation.more_sightings)
    count = sum(stream.count for stream in lost) + crowd * len(lost) // len(wanted)
    if losses.bad_checksums * 2 >= count:
        return None
    hook = "ingress"
    if losses.in_input * 2 >= count:
        hook = "input"
    elif losses.before_routing * 2 >= count:
        hook = "prerouting"
    seen = next(case.show_streams(lost, "seen on the wire:"))
    chains = _chains_at(case, hook, ip_address(group).version)
    # Whoever may not see the chains has the counters: nothing else drops in input.
    is_by_firewall = hook == "input" if chains is None else bool(chains)
    return _Loss(hook, f"{seen}; none was delivered", losses.evidence, is_by_firewall)


def _chains_at(case: Case, hook: str, version: int) -> list[Chain] | None:
    if case.snapshot.chains is None:
        return None
    families = (
        "inet",
        "netdev",
        "bridge",
        *(("ip", "iptables") if version == 4 else ("ip6", "ip6tables")),
    )
    return [c for c in case.snapshot.chains if c.hook == hook and c.family in families]


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
    chains = _chains_at(case, hook, version)
    remedy, seen = None, [clue, *evidence]
    if chains is None:
        seen.append("the rules themselves are only for root to see")
    else:
        seen += map(_show_chain, chains)
        if chains and hook != "ingress":
            remedy = "\n".join(_let_pass(chain, group, port) for chain in chains)
    if hook == "ingress":
        remedy = "sudo nft list ruleset  # chains of family netdev"
    return make_finding(
        "firewall-drop",
        severity,
        f"the firewall drops {group}" + (f" port {port}" if port else "") + f" in {hook}",
        seen,
        remedy,
        group=group,
        port=port or "PORT",
    )


def _show_chain(chain: Chain) -> str:
    if chain.family in ("iptables", "ip6tables"):
        return f"{chain.family} (legacy): the table {chain.table} has the chain {chain.name}"
    return f"nftables: the chain {chain} (policy {chain.policy})"


def _let_pass(chain: Chain, group: str, port: int | None) -> str:
    if chain.family in ("iptables", "ip6tables"):
        match = f"-d {group} -p udp" + (f" --dport {port}" if port else "")
        return f"sudo {chain.family}-legacy -t {chain.table} -I {chain.name} {match} -j ACCEPT"
    protocol = "ip6" if ":" in group else "ip"
    match = f"{protocol} daddr {group}" + (f" udp dport {port}" if port else "")
    return f"sudo nft insert rule {chain} {match} accept"


def find_lost(case: Case) -> Iterator[Finding]:
    """What comes in and does not arrive, where the frames themselves tell why, or nothing does."""
    for group in case.unheard():
        yield from _find_flaws(case, group)
        yield from _find_unjoined(case, group)
    for version in (4, 6):
        for group in case.unheard(version)[:1]:
            loss = _find_loss(case, group)
            if loss is None or loss.is_by_firewall:
                continue
            cause = _missing_fragments(case, version) or "why is not known"
            is_seen = case.observed.sightings is not None
            what = f"{group} is" if is_seen else f"datagrams, perhaps to {group}, are"
            yield make_finding(
                "datagrams-lost",
                "error" if is_seen else "warning",
                f"{what} lost between the wire and the socket: {cause}",
                [loss.clue, *loss.evidence, *_show_complaints(case)],
                group=group,
            )


def _find_flaws(case: Case, group: str) -> Iterator[Finding]:
    streams: dict[tuple[int, str], list[Stream]] = {}
    for stream in case.observed.sightings or ():
        is_meant = stream.group == group and case.observed.port in (None, stream.port)
        if stream.flaw and is_meant and case.is_wanted(stream):
            streams.setdefault((stream.interface, stream.flaw), []).append(stream)
    for (interface, flaw), flawed in streams.items():
        name = case.snapshot.name(interface)
        yield make_finding(
            "datagrams-lost",
            "error",
            f"{group} comes in on {name}, and this host does not take it: {flaw}",
            case.show_streams(flawed, "seen on the wire:"),
            f"# see to the sender, and to what is between. What comes in:\n"
            f"sudo tcpdump -vv -e -i {name} host {group}",
        )


def _find_unjoined(case: Case, group: str) -> Iterator[Finding]:
    """What comes in where it cannot be joined; where joining failed, that is a finding already."""
    observation = case.observed
    tried = {attempt.interface for attempt in observation.joins if attempt.group == group}
    streams: dict[int, list[Stream]] = {}
    for stream in case.sightings_of(group):
        is_meant = case.is_wanted(stream) and observation.port in (None, stream.port)
        if is_meant and stream.interface not in tried:
            streams.setdefault(stream.interface, []).append(stream)
    for interface, seen in streams.items():
        name = case.snapshot.name(interface)
        yield make_finding(
            "datagrams-lost",
            "error",
            f"{group} comes in on {name}, where it cannot be joined: the interface is not up, or "
            f"not fit for multicast of IPv{ip_address(group).version}",
            case.show_streams(seen, "seen on the wire:"),
            f"# `trio-mcast interfaces` shows what {name} lacks; or let the sender use another",
        )


def _missing_fragments(case: Case, version: int) -> str:
    prefix = "Ip." if version == 4 else "Ip6"
    fragments = case.observed.counters.get(f"{prefix}ReasmReqds", 0)
    whole = case.observed.counters.get(f"{prefix}ReasmOKs", 0)
    if fragments < ENOUGH or whole:
        return ""
    return f"{fragments} fragments came in, and of no datagram all of them"


def _show_complaints(case: Case) -> Iterator[str]:
    """The counters that grow when something is wrong, whatever it is."""
    words = ("Error", "Drop", "Discard", "Fail", "Reasm", "Filter", "Truncated", "NoRoutes")
    for name, grown in case.observed.counters.items():
        if "%" not in name and any(word in name for word in words):
            yield f"{name.replace('.', ' ')} grew by {grown}"


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
