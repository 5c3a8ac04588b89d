"""The rules: evidence in, findings out. Nothing here looks at the machine.

There is a function for each code, in `RULES`. Each judges for itself, so that two faults give two
findings. A cause that keeps every datagram of what was asked away is an error; one that may be the
cause, or does harm some day, a warning; what is only worth knowing is an info.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Final, TypeAlias

from .._addresses.classification import classify
from .._addresses.parsing import is_multicast, is_ssm
from .._addresses.registry import PROBLEMS, USES
from .._base.remedies import ADVICE
from .._base.snapshot import Link, Route, UdpSocket
from .evidence import Case, Observation, Stream
from .finding import Finding, Severity
from .losses import count_losses

_SEVERITIES: Final = ("error", "warning", "info")

# Fewer may be the chatter of the network itself (IGMP, MLD, neighbour discovery).
_ENOUGH: Final = 3

# RFC 3376 s8.5: for so long a network may be without a query and still have its querier.
_QUERIER_PRESENT_SECONDS: Final = 255


Rule: TypeAlias = Callable[[Case], Iterable[Finding]]


def judge(case: Case) -> tuple[Finding, ...]:
    """Everything that the rules find, the most probable cause first."""
    found = [finding for code in ADVICE for finding in RULES[code](case)]
    found.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return tuple(dict.fromkeys(found))


def _finding(
    code: str,
    severity: Severity,
    summary: str,
    evidence: Iterable[str],
    remedy: str | None = None,
    **words: object,
) -> Finding:
    advice = ADVICE[code]
    text = advice.remedy.format(**words) if remedy is None else remedy
    seen = tuple(dict.fromkeys(evidence))
    return Finding(code, severity, summary, seen, text, advice.reference)


# --- What the rules ask of a case -----------------------------------------------------------------


def _versions(case: Case) -> set[int]:
    """The IP versions that matter: those of the groups, or both."""
    return {ip_address(group).version for group in case.question.groups} or {4, 6}


def _groups(case: Case, version: int) -> list[str]:
    return [group for group in case.question.groups if ip_address(group).version == version]


def _can_carry(link: Link, version: int) -> bool:
    if not link.is_up or link.has_carrier is False:
        return False
    if version == 6:
        return link.ipv6 != "disabled" and link.ipv6 != "absent"
    return bool(link.addresses_of(4))


def _chosen(case: Case) -> list[Link]:
    """The interfaces that were named; or all that a receiver would take by itself, or nearly so."""
    named = case.question.interfaces
    return [
        link
        for link in case.snapshot.links
        if (link.index in named if named else not link.is_loopback and link.master is None)
    ]


def _is_named(case: Case, link: Link) -> bool:
    return link.index in case.question.interfaces


def _is_crucial(case: Case, link: Link, version: int) -> bool:
    """Whether all depends on the interface: it was named, or no other works."""
    return _is_named(case, link) or not any(
        _can_carry(other, version) and other.supports_multicast for other in _chosen(case)
    )


def _is_wanted(case: Case, stream: Stream) -> bool:
    """Whether it is what was asked for: the group where it was asked for, from who was named."""
    sources = case.question.sources
    return stream.interface in {link.index for link in _chosen(case)} and (
        not sources or stream.source in sources
    )


def _arrivals(case: Case, group: str) -> list[Stream]:
    if case.observation is None:
        return []
    return [stream for stream in case.observation.arrivals if stream.group == group]


def _is_heard(case: Case, group: str) -> bool:
    """Whether the group arrives as it was asked for."""
    return any(_is_wanted(case, stream) for stream in _come(case, group))


def _come(case: Case, group: str) -> list[Stream]:
    """What was received; or seen, where no port was named at which to receive."""
    observation = case.observation
    if observation is not None and observation.port is None:
        return [s for s in observation.sightings or () if s.group == group]
    return _arrivals(case, group)


def _unheard(case: Case, version: int | None = None) -> list[str]:
    """The groups that were listened for, and of which nothing wanted arrived."""
    if case.observation is None:
        return []
    joined = {attempt.group for attempt in case.observation.joins if not attempt.errno}
    return [
        group
        for group in case.question.groups
        if group in joined
        and not _is_heard(case, group)
        and version in (None, ip_address(group).version)
    ]


def _is_own(case: Case, address: str) -> bool:
    version = ip_address(address).version
    return any(address in link.addresses_of(version) for link in case.snapshot.links)


def _setting(case: Case, name: str) -> int:
    return case.snapshot.settings.get(name, 0)


def _filter_in_force(case: Case, link: Link | None) -> int:
    """Reverse path filtering: the larger setting counts, so loose (2) beats strict (1)."""
    own = 0 if link is None else link.rp_filter or 0
    return max(_setting(case, "net.ipv4.conf.all.rp_filter"), own)


def _show_filter(case: Case, link: Link) -> str:
    return (
        f"sysctl: net.ipv4.conf.all.rp_filter = {_setting(case, 'net.ipv4.conf.all.rp_filter')}, "
        f"net.ipv4.conf.{link.name}.rp_filter = {link.rp_filter}; the larger one counts"
    )


def _show_streams(case: Case, streams: Iterable[Stream], what: str) -> Iterator[str]:
    for stream in streams:
        hops = "" if stream.hop_limit is None else f", hop limit {stream.hop_limit}"
        yield (
            f"{what} {stream.count} from {stream.source} to {stream.group} port {stream.port} on "
            f"{case.snapshot.name(stream.interface)}{hops}"
        )


def _who(case: Case, bound: UdpSocket) -> UdpSocket:
    """The socket with its holders, where the snapshot has seen them."""
    return next((other for other in case.snapshot.sockets if other.inode == bound.inode), bound)


def _refused_routes(case: Case) -> list[tuple[Route, Link]]:
    """Senders that the routes do not let in, where that makes the difference.

    One that was seen coming in counts by itself; one that was only named, if nothing of the group
    arrives, and it is dropped, or no interface that was chosen would let it in.
    """
    observation = case.observation
    if observation is None:
        return []
    seen = {(s.group, s.interface, s.source) for s in observation.sightings or ()}
    seen |= {("224.0.0.1", query.interface, query.source) for query in observation.queries}
    is_filtering = observation.counters.get("TcpExt.IPReversePathFilter", 0) >= _ENOUGH
    chosen = {link.index for link in _chosen(case)}
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
            and route.group in _unheard(case, 4)
        )
        if is_seen or is_named:
            found.append((route, link))
    return found


def _severity_of_refusal(case: Case, route: Route) -> Severity:
    """A sender that is refused among others who are heard is not what was asked about."""
    if route.group in case.question.groups and _is_heard(case, route.group):
        return "warning"
    return "error"


def _silent(case: Case) -> list[str]:
    """The groups of which nothing at all has come, to be lost or not."""
    observation = case.observation
    if observation is None:
        return []
    arrived = {stream.group for stream in observation.arrivals}
    silent = [g for g in _unheard(case) if g not in arrived and g not in _maybe_lost(case)]
    return [g for g in silent if observation.port is not None or not _has_come(observation, g)]


def _maybe_lost(case: Case, version: int | None = None) -> list[str]:
    """The groups that were not heard, and of which datagrams may have come in and been lost.

    A capture knows. The counters are the whole host's: other groups make them grow as well.
    """
    observation = case.observation
    if observation is None:
        return []
    unheard = _unheard(case, version)
    if observation.sightings is not None:
        seen = {stream.group for stream in observation.sightings}
        return [group for group in unheard if group in seen]
    return [
        group
        for group in unheard
        if count_losses(observation.counters, ip_address(group).version).is_suspicious(_ENOUGH)
    ]


def _has_come(observation: Observation, group: str) -> bool:
    """Whether datagrams for joined groups were delivered: to a port that was not named, perhaps."""
    name = "IpExt.InMcastPkts" if ip_address(group).version == 4 else "Ip6InMcastPkts"
    return observation.sightings is None and observation.counters.get(name, 0) >= _ENOUGH


# --- The group and the port -----------------------------------------------------------------------


def _find_group_reserved(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        address = ip_address(group)
        facts = classify(address)
        evidence = [f"`trio-mcast classify {group}`"]
        if not is_multicast(address):
            yield _finding("group-reserved", "error", f"{group} is not a group", evidence)
        elif facts.originate_allowed is False:
            yield _finding(
                "group-reserved", "error", f"{group}: {PROBLEMS['scope-reserved-0']}", evidence
            )
        elif is_ssm(address) and not case.question.sources:
            yield _finding(
                "group-reserved",
                "error",
                f"{group} is for source-specific multicast: it must be joined with a source",
                evidence,
                f"# name the sender: open_receiver({group!r}, sources=[SENDER]), or here:\n"
                f"trio-mcast doctor SENDER@{group}",
            )
        elif facts.is_reserved:
            assert facts.use is not None
            yield _finding("group-reserved", "warning", f"{group}: {USES[facts.use]}", evidence)
        elif facts.mac_floods_like_local_control:
            yield _finding(
                "group-reserved",
                "warning",
                f"{group} shares its Ethernet address {facts.mac} with one of 224.0.0.0/24: "
                "switches send it everywhere",
                evidence,
            )
        for problem in facts.problems or ():
            if problem != "scope-reserved-0":
                summary = f"{group}: {PROBLEMS[problem]}"
                yield _finding("group-reserved", "warning", summary, evidence)


def _find_port_held(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None or observation.port is None:
        return
    refused = [a for a in observation.joins if a.errno == errno.EADDRINUSE]
    for group in dict.fromkeys(attempt.group for attempt in refused):
        anywhere = ("0.0.0.0", "::", group)
        holders = [
            bound
            for bound in case.snapshot.sockets
            if bound.port == observation.port and bound.address in anywhere
        ]
        who = ", ".join(map(str, holders)) or "a program that does not show"
        hidden = any(not bound.holders for bound in holders)
        yield _finding(
            "port-held-exclusively",
            "error",
            f"port {observation.port} is held, and not shared, by {who}",
            [
                next(attempt.error for attempt in refused if attempt.group == group),
                "the table of sockets: /proc/net/udp, /proc/net/udp6",
                *(["which program it is, only root sees"] if hidden else []),
            ],
            port=observation.port,
        )


def _find_port_mismatch(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    for group in case.question.groups:
        if _is_heard(case, group):
            yield from _find_listener_elsewhere(case, observation, group)
    for group in _unheard(case):
        seen = [stream for stream in observation.sightings or () if stream.group == group]
        ports = sorted({stream.port for stream in seen})
        name = "Udp.IgnoredMulti" if ip_address(group).version == 4 else "Udp6IgnoredMulti"
        ignored = observation.counters.get(name, 0)
        if ports and observation.port not in ports:
            yield _finding(
                "port-mismatch",
                "error",
                f"{group} arrives at port {', '.join(map(str, ports))}, not at {observation.port}",
                _show_streams(case, seen, "seen"),
                port=" or ".join(map(str, ports)),
                own=observation.port,
            )
        elif observation.sightings is None and ignored >= _ENOUGH:
            port = observation.port
            where = f"another port than {port}" if port else "some port"
            yield _finding(
                "port-mismatch",
                "error" if port else "warning",
                f"{group}, or another group that is joined, arrives at {where}, where nobody "
                "listens",
                [f"{name.replace('.', ' ')} grew by {ignored}"],
                "# at which port is for root to see:\n"
                f"sudo trio-mcast doctor {group}" + (f" --port {port}" if port else ""),
            )


def _find_listener_elsewhere(case: Case, observation: Observation, group: str) -> Iterator[Finding]:
    """It arrives here, but programs that are bound to the group listen at other ports only."""
    bound = [s for s in case.snapshot.sockets if s.address == group]
    if bound and observation.port and all(s.port != observation.port for s in bound):
        ports = ", ".join(str(s.port) for s in bound)
        yield _finding(
            "port-mismatch",
            "error",
            f"{group} arrives at port {observation.port}, but is listened to at {ports}",
            [f"listening: {s}" for s in bound],
            port=observation.port,
            own=ports,
        )


# --- The interfaces -------------------------------------------------------------------------------


def _find_interface_down(case: Case) -> Iterator[Finding]:
    for link in _chosen(case):
        crucial = any(_is_crucial(case, link, version) for version in _versions(case))
        if not link.is_up and (crucial or link.addresses):
            yield _finding(
                "interface-down",
                "error" if crucial else "info",
                f"{link.name} is switched off",
                [f"netlink: {link.name} has no IFF_UP"],
                interface=link.name,
            )


def _find_no_carrier(case: Case) -> Iterator[Finding]:
    for link in _chosen(case):
        crucial = any(_is_crucial(case, link, version) for version in _versions(case))
        if link.is_up and link.has_carrier is False and (crucial or link.addresses):
            yield _finding(
                "interface-no-carrier",
                "error" if crucial else "info",
                f"{link.name} has no carrier: nothing is at the other end of the cable",
                [f"netlink: {link.name} has IFF_UP but no IFF_LOWER_UP"],
                interface=link.name,
            )


def _find_not_multicast(case: Case) -> Iterator[Finding]:
    for link in _chosen(case):
        if link.is_up and not link.supports_multicast and not link.is_loopback:
            crucial = any(_is_crucial(case, link, version) for version in _versions(case))
            yield _finding(
                "interface-not-multicast",
                "error" if crucial else "info",
                f"{link.name} is not set to carry multicast",
                [f"netlink: {link.name} has no IFF_MULTICAST"],
                interface=link.name,
            )


def _find_no_address(case: Case) -> Iterator[Finding]:
    if 4 not in _versions(case):
        return
    for link in _chosen(case):
        if link.is_up and link.supports_multicast and not link.addresses_of(4):
            crucial = _is_crucial(case, link, 4) and bool(case.question.groups)
            yield _finding(
                "interface-no-address",
                "error" if crucial else "info",
                f"{link.name} has no IPv4 address: receivers pass it over, and what is sent by it "
                "has another's address or none",
                [f"netlink: the addresses of {link.name}: {', '.join(link.addresses) or 'none'}"],
                interface=link.name,
            )


def _find_ipv6_disabled(case: Case) -> Iterator[Finding]:
    if 6 not in _versions(case):
        return
    for link in _chosen(case):
        if link.ipv6 not in ("disabled", "absent"):
            continue
        crucial = _is_crucial(case, link, 6) and bool(case.question.groups)
        severity: Severity = "error" if crucial else "info"
        if link.ipv6 == "absent" and link.mtu < 1280:
            yield _finding(
                "ipv6-disabled",
                severity,
                f"{link.name} has an MTU of {link.mtu}: IPv6 needs 1280, and is off there",
                [f"netlink: the MTU of {link.name} is {link.mtu}"],
                f"sudo ip link set dev {link.name} mtu 1500",
            )
        else:
            yield _finding(
                "ipv6-disabled",
                severity,
                f"IPv6 is switched off on {link.name}",
                [f"netlink: IPv6 on {link.name} is {link.ipv6}"],
                interface=link.name,
            )


def _find_no_local_route(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    chosen = {link.index for link in _chosen(case)}
    for route in observation.local_routes:
        if route.kind == "local" or route.interface not in chosen:
            continue
        name = case.snapshot.name(route.interface)
        what = (
            "no route leads there: sending fails with ENETUNREACH"
            if route.kind == "none"
            else "the route is not of type local: what is sent vanishes"
        )
        remedy = None
        if route.kind != "none":
            remedy = (
                f"sudo ip -6 route flush root ff00::/8 dev {name} table local\n"
                f"{ADVICE['no-local-route-v6'].remedy.format(interface=name)}"
            )
        yield _finding(
            "no-local-route-v6",
            "error",
            f"IPv6 groups do not work on {name}: {what}",
            [f"netlink: the route to {route.group} by {name}: {route.kind}"],
            remedy,
            interface=name,
        )


def _find_wrong_interface(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    for group in case.question.groups:
        streams = [
            stream
            for stream in (*_arrivals(case, group), *(observation.sightings or ()))
            if stream.group == group
        ]
        where = {stream.interface for stream in streams}
        wanted = set(case.question.interfaces) or {
            row.interface for row in case.snapshot.joined if row.group == group
        }
        if not where or not wanted or where & wanted:
            continue
        names = " and ".join(case.snapshot.name(index) for index in sorted(where))
        wanted_names = " and ".join(case.snapshot.name(index) for index in sorted(wanted))
        how = "you listen" if case.question.interfaces else "programs of this host have joined it"
        yield _finding(
            "wrong-interface",
            "error",
            f"{group} arrives on {names}, but {how} on {wanted_names}",
            _show_streams(case, streams, "seen"),
            interface=names,
        )


# --- Memberships ----------------------------------------------------------------------------------


def _find_membership_limit(case: Case) -> Iterator[Finding]:
    yield from _find_too_many_groups(case)
    observation = case.observation
    for attempt in () if observation is None else observation.joins:
        if attempt.errno not in (errno.ENOBUFS, errno.ENOMEM):
            continue
        version = ip_address(attempt.group).version
        setting = "net.ipv4.igmp_max_memberships" if version == 4 else "net.core.optmem_max"
        if version == 4 and len(case.question.sources) > _setting(case, "net.ipv4.igmp_max_msf"):
            setting = "net.ipv4.igmp_max_msf"
        value = case.snapshot.settings.get(setting)
        yield _finding(
            "membership-limit",
            "error",
            f"the kernel lets no program join {attempt.group}: a limit is reached",
            [f"{attempt.error}", f"sysctl: {setting} = {value}"],
            setting=setting,
            value=max(2 * (value or 0), 20 if version == 4 else 131072),
        )
        return


def _find_too_many_groups(case: Case) -> Iterator[Finding]:
    name = "net.ipv4.igmp_max_memberships"
    limit = case.snapshot.settings.get(name)
    if limit is None:
        return
    places = sum(1 for link in _chosen(case) if _can_carry(link, 4))
    needed = len(_groups(case, 4)) * max(places, 1)
    if needed > limit > 0:
        yield _finding(
            "membership-limit",
            "warning",
            f"a program that uses one socket for all can join {limit} times, and you name "
            f"{len(_groups(case, 4))} groups on {places} interfaces (trio_mcast is not concerned)",
            [f"sysctl: {name} = {limit}"],
            setting=name,
            value=2 * needed,
        )


def _find_membership_lost(case: Case) -> Iterator[Finding]:
    joined = {row.group for row in case.snapshot.joined}
    for bound in case.snapshot.sockets:
        if not is_multicast(ip_address(bound.address)) or bound.address in joined:
            continue
        concerned = bound.address in (case.question.groups or (bound.address,))
        yield _finding(
            "membership-lost",
            "error" if concerned else "warning",
            f"{bound.address} is joined nowhere, though {bound} waits for it",
            [
                f"{'/proc/net/udp' if bound.version == 4 else '/proc/net/udp6'}: a socket is bound "
                f"to {bound.address} port {bound.port}",
                f"{'/proc/net/igmp' if bound.version == 4 else '/proc/net/igmp6'}: the group is "
                "not listed",
            ],
        )
    for attempt in () if case.observation is None else case.observation.vanished:
        yield _finding(
            "membership-lost",
            "error",
            f"{attempt.group} did not stay joined on {case.snapshot.name(attempt.interface)}",
            ["/proc/net/igmp, igmp6: the doctor's own membership is not listed any more"],
        )


def _find_igmp_forced(case: Case) -> Iterator[Finding]:
    needs_sources = bool(case.question.sources) or any(
        is_ssm(ip_address(group)) for group in case.question.groups
    )
    severity: Severity = "error" if needs_sources else "warning"
    meaning = "sources cannot be asked for" if needs_sources else "source-specific joins fail"
    for version, kind, latest in ((4, "igmp", 3), (6, "mld", 2)):
        if version not in _versions(case):
            continue
        name = f"net.ipv{version}.conf.{{}}.force_{kind}_version"
        for link in _chosen(case):
            own = link.force_igmp_version if version == 4 else link.force_mld_version
            setting, forced = name.format(link.name), own or 0
            if everywhere := _setting(case, name.format("all")):
                setting, forced = name.format("all"), everywhere
            if 0 < forced < latest:
                yield _finding(
                    "igmp-version-forced",
                    severity,
                    f"{link.name} is made to speak {kind.upper()}v{forced}: {meaning}, and a "
                    f"network of {kind.upper()}v{latest} falls back to it",
                    [f"sysctl: {setting} = {forced}"],
                    setting=setting,
                )
            elif version == 4 and not forced and (link.igmp_version or 3) < 3:
                yield _finding(
                    "igmp-version-forced",
                    "warning" if needs_sources else "info",
                    f"a querier on the network of {link.name} makes all speak IGMPv"
                    f"{link.igmp_version}: the switches hear nothing of sources",
                    [f"/proc/net/igmp: the querier of {link.name} is V{link.igmp_version}"],
                    "# let the querier of the network (a router or switch) speak IGMPv3",
                )


def _find_source_filtered(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    for group in case.question.groups:
        streams = _arrivals(case, group)
        if is_ssm(ip_address(group)):
            streams = streams + [s for s in observation.sightings or () if s.group == group]
        senders = sorted({stream.source for stream in streams})
        if senders and case.question.sources and not set(senders) & set(case.question.sources):
            yield _finding(
                "source-filtered",
                "error",
                f"{group} is sent by {', '.join(senders)}, not by "
                f"{', '.join(case.question.sources)}: a receiver with that source hears nothing",
                _show_streams(case, streams, "seen"),
                source=senders[0],
            )
            continue
        rows = [row for row in case.snapshot.filtered if row.group == group]
        included = {row.source for row in rows if row.included}
        excluded = {row.source for row in rows if row.excluded}
        unheard = [s for s in senders if s in excluded or (included and s not in included)]
        if unheard and len(unheard) == len(senders):
            yield _finding(
                "source-filtered",
                "error",
                f"{group} is sent by {', '.join(senders)}, which programs of this host that have "
                "joined it filter out",
                [
                    f"/proc/net/mcfilter: {row.source} on {case.snapshot.name(row.interface)}: "
                    f"included by {row.included}, excluded by {row.excluded}"
                    for row in rows
                ],
                source=unheard[0],
            )


# --- The stages that lose datagrams ---------------------------------------------------------------


def _find_reverse_path(case: Case) -> Iterator[Finding]:
    for route, link in _refused_routes(case):
        strength = _filter_in_force(case, link)
        if not strength or route.outgoing in (None, route.interface):
            continue
        if _is_own(case, route.source) or ip_address(route.source).is_unspecified:
            continue
        back = case.snapshot.name(route.outgoing or 0)
        what = (
            f"queries of the querier {route.source}: memberships run out after minutes"
            if route.group == "224.0.0.1"
            else f"datagrams of {route.source}"
        )
        yield _finding(
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
    if any(_filter_in_force(case, link) == 1 for link in blamed):
        names = " or ".join(link.name for link in blamed)
        yield _finding(
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
    observation = case.observation
    if (
        observation is None
        or not _maybe_lost(case, 4)
        or observation.counters.get("TcpExt.IPReversePathFilter", 0) < _ENOUGH
        or any(_filter_in_force(case, link) for _, link in _refused_routes(case))
    ):
        return []
    return [
        link
        for link in _chosen(case)
        if _filter_in_force(case, link) and _can_carry(link, 4) and link.supports_multicast
    ]


def _show_reverse_path_counter(case: Case) -> Iterator[str]:
    counters = {} if case.observation is None else case.observation.counters
    if grown := counters.get("TcpExt.IPReversePathFilter"):
        yield f"TcpExt IPReversePathFilter grew by {grown}"


def _find_unroutable(case: Case) -> Iterator[Finding]:
    for route, link in _refused_routes(case):
        if ip_address(route.source).is_unspecified and route.group != "224.0.0.1":
            yield _finding(
                "source-unroutable",
                _severity_of_refusal(case, route),
                f"{route.group} comes from 0.0.0.0 on {link.name}: the sender has no IPv4 address, "
                "and no system takes that",
                [f"netlink: the kernel refuses {route.source} on {link.name}"],
                "# give the sender's interface an address; on its host:\n"
                "sudo ip addr add ADDRESS/24 dev INTERFACE",
            )
        elif route.outgoing is None and _filter_in_force(case, link):
            yield _finding(
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
    if blamed and all(_filter_in_force(case, link) == 2 for link in blamed):
        off = " ".join(f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", blamed[0].name))
        yield _finding(
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


def _find_own_source(case: Case) -> Iterator[Finding]:
    for route, link in _refused_routes(case):
        accepts = link.accept_local or _setting(case, "net.ipv4.conf.all.accept_local")
        if _is_own(case, route.source) and not accepts:
            yield _finding(
                "own-source-address",
                _severity_of_refusal(case, route),
                f"{link.name} drops what comes from {route.source}, an address of this host",
                [
                    f"netlink: the kernel refuses {route.source} on {link.name}",
                    f"sysctl: net.ipv4.conf.{link.name}.accept_local = {link.accept_local}",
                ],
                interface=link.name,
            )


def _find_firewall(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    for attempt in observation.sends:
        if attempt.errno == errno.EPERM:
            yield _firewall(case, attempt.group, "output", f"sending: {attempt.error}", "error")
            break
    for version in (4, 6):
        for group in _unheard(case, version)[:1]:
            yield from _find_incoming_firewall(case, observation, group)


def _find_incoming_firewall(case: Case, observation: Observation, group: str) -> Iterator[Finding]:
    losses = count_losses(observation.counters, ip_address(group).version)
    refused = {(r.group, r.interface, r.source) for r, _ in _refused_routes(case)}
    if observation.sightings is not None:
        lost = [
            stream
            for stream in observation.sightings
            if stream.group == group
            and _is_wanted(case, stream)
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
        seen = next(_show_streams(case, lost, "seen on the wire:"))
        yield _firewall(case, group, hook, f"{seen}; none was delivered", "error", losses.evidence)
        return
    if losses.in_input >= _ENOUGH:
        clue = "datagrams for groups came in and were not delivered"
        yield _firewall(case, group, "input", clue, "error", losses.evidence)
    elif losses.before_routing >= _ENOUGH and not refused:
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
    port = case.observation.port if case.observation is not None else None
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
    return _finding(
        "firewall-drop",
        severity,
        f"the firewall {certainty} {group}" + (f" port {port}" if port else "") + f" in {hook}",
        seen,
        remedy,
        group=group,
        port=port or "PORT",
    )


def _find_checksums(case: Case) -> Iterator[Finding]:
    counters = {} if case.observation is None else case.observation.counters
    for version in _versions(case):
        name = "Udp.InCsumErrors" if version == 4 else "Udp6InCsumErrors"
        if bad := counters.get(name, 0):
            yield _finding(
                "checksum-errors",
                "error" if _maybe_lost(case, version) else "warning",
                f"{bad} datagrams had a wrong checksum, and were dropped",
                [f"{name.replace('.', ' ')} grew by {bad}"],
            )


def _find_buffer_full(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is not None:
        for bound in observation.losses:
            concerned = bound.port == observation.port
            yield _finding(
                "receive-buffer-full",
                "error" if concerned else "warning",
                f"{_who(case, bound)} does not read fast enough: {bound.drops} datagrams were "
                f"dropped in {observation.seconds:g} s",
                [
                    f"/proc/net/udp: the drops of the socket grew by {bound.drops}",
                    f"sysctl: net.core.rmem_max = {_setting(case, 'net.core.rmem_max')}",
                ],
            )
        return
    for bound in case.snapshot.sockets:
        if bound.drops and is_multicast(ip_address(bound.address)):
            yield _finding(
                "receive-buffer-full",
                "warning",
                f"{bound} has lost {bound.drops} datagrams since it was opened",
                [f"/proc/net/udp: drops {bound.drops}"],
            )


# --- The network around ---------------------------------------------------------------------------


def _find_no_querier(case: Case) -> Iterator[Finding]:
    for link in case.snapshot.links:
        bridge = link.bridge
        if bridge is None or not bridge.is_snooping or bridge.is_querier or bridge.queriers:
            continue
        if link.mld_queries:  # there was one: `querier-dead`
            continue
        ports = [port for port in case.snapshot.links if port.master == link.index]
        dry = [port.name for port in ports if port.floods_unknown is False]
        yield _finding(
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
    if case.observation is None or not _silent(case) or case.observation.queries:
        return
    for link in _chosen(case):
        if link.mld_queries == 0 and link.is_up and link.bridge is None:
            yield _finding(
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


def _find_querier_dead(case: Case) -> Iterator[Finding]:
    for link in case.snapshot.links:
        bridge = link.bridge
        if bridge is None:
            continue
        if bridge.is_snooping and not bridge.is_querier and not bridge.queriers:
            if not link.mld_queries:
                continue
            yield _finding(
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
    observation = case.observation
    if observation is None or observation.seconds < _QUERIER_PRESENT_SECONDS:
        return
    for link in _chosen(case):
        name = f"Icmp6InGroupMembQueries%{link.name}"
        if link.mld_queries and not observation.counters.get(name) and link.bridge is None:
            yield _finding(
                "querier-dead",
                "warning",
                f"the querier on the network of {link.name} has fallen silent",
                [
                    f"/proc/net/dev_snmp6/{link.name}: {link.mld_queries} queries were heard, none "
                    f"in the last {observation.seconds:g} s"
                ],
                "# bring the querier of the network back, or make another device the querier",
            )


def _find_hop_limit_one(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    unheard = _silent(case)
    chosen = {link.index for link in _chosen(case)}
    told = set()
    for route in observation.routes:
        wanted = route.source in case.question.sources and route.group in unheard
        if not wanted or not route.gateway or route.interface not in chosen:
            continue
        if (route.group, route.source) in told:
            continue
        told.add((route.group, route.source))
        yield _finding(
            "hop-limit-one",
            "warning",
            f"{route.source} is beyond the router {route.gateway}: what it sends with a hop limit "
            "of 1, the default everywhere, ends there",
            [f"netlink: the route to {route.source} leads over {route.gateway}"],
        )


def _find_loopback_hop_limit(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = [
            stream
            for stream in _arrivals(case, group)
            if stream.hop_limit == 0 and _is_own(case, stream.source)
        ]
        if streams:
            yield _finding(
                "loopback-hop-limit",
                "warning",
                f"{group} is sent on this host with a hop limit of 0: no other host hears it",
                _show_streams(case, streams, "received"),
            )


def _find_container(case: Case) -> Iterator[Finding]:
    kind = case.snapshot.container
    if kind:
        is_virtual = any(link.kind == "veth" for link in _chosen(case))
        yield _finding(
            "container-network",
            "warning" if _silent(case) and is_virtual else "info",
            f"this is a container ({kind}): unless it has the host's network, groups reach other "
            "containers of the same network at most, never the networks of the host",
            [
                *(f"netlink: {i.name} is of kind {i.kind}" for i in _chosen(case) if i.kind),
                "/.dockerenv, /run/.containerenv, /proc/self/cgroup, KUBERNETES_SERVICE_HOST",
            ],
        )


def _find_wsl(case: Case) -> Iterator[Finding]:
    version = case.snapshot.wsl
    if version:
        yield _finding(
            "wsl",
            "warning" if _silent(case) else "info",
            f"this is WSL {version}: "
            + (
                "unless its network is mirrored, groups stay between Windows and WSL"
                if version == 2
                else "it knows few multicast options; use WSL 2, or Python for Windows"
            ),
            ["/proc/sys/kernel/osrelease names Microsoft"],
            None if version == 2 else "wsl --set-version DISTRIBUTION 2",
        )


# --- What is well ---------------------------------------------------------------------------------


def _find_nothing_sent(case: Case) -> Iterator[Finding]:
    observation = case.observation
    if observation is None:
        return
    for group in _silent(case):
        version = ip_address(group).version
        joined = {a.interface for a in observation.joins if a.group == group and not a.errno}
        working = [
            link.name
            for link in _chosen(case)
            if link.index in joined and (_can_carry(link, version) or link.is_loopback)
        ]
        if not working:
            continue
        port = "" if observation.port is None else f" port {observation.port}"
        yield _finding(
            "nothing-sent",
            "warning",
            f"nothing that was sent to {group}{port} has reached this host in "
            f"{observation.seconds:g} s; it is joined on {', '.join(working)}, and nothing was "
            "lost here",
            [
                "no datagram arrived, and none of the kernel's counters of losses grew",
                *(["nothing was seen on the wire either"] if observation.sightings == () else []),
            ],
            group=group,
        )


def _find_arrivals(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = [stream for stream in _come(case, group) if _is_wanted(case, stream)]
        if streams:
            total = sum(stream.count for stream in streams)
            places = sorted({case.snapshot.name(stream.interface) for stream in streams})
            yield _finding(
                "datagrams-arrive",
                "info",
                f"{group} arrives: {total} datagrams on {', '.join(places)}",
                _show_streams(case, streams, "received"),
            )


def _find_limited_view(case: Case) -> Iterator[Finding]:
    snapshot = case.snapshot
    if snapshot.system != "linux":
        yield _finding(
            "limited-view",
            "info",
            "on this system only interfaces, addresses and arrivals can be looked at",
            [f"system: {snapshot.system}"],
            "",
        )
        return
    hidden = []
    if snapshot.chains is None:
        hidden.append("the rules of the firewall (CAP_NET_ADMIN)")
    if not snapshot.can_capture:
        hidden.append("what comes in before the firewall (CAP_NET_RAW)")
    if not snapshot.sees_all_holders:
        hidden.append("which programs of other users hold sockets (CAP_SYS_PTRACE)")
    if hidden:
        question = case.question
        words = [
            *question.groups,
            *([f"--port {question.port}"] if question.port else []),
            *(f"--interface {case.snapshot.name(index)}" for index in question.interfaces),
            *(f"--source {source}" for source in question.sources),
        ]
        yield _finding(
            "limited-view",
            "info",
            f"not for this user to see: {'; '.join(hidden)}",
            ["tried, and refused"],
            " ".join(("sudo trio-mcast doctor", *words)),
        )


RULES: Final[dict[str, Rule]] = {
    "group-reserved": _find_group_reserved,
    "interface-down": _find_interface_down,
    "interface-no-carrier": _find_no_carrier,
    "interface-not-multicast": _find_not_multicast,
    "interface-no-address": _find_no_address,
    "ipv6-disabled": _find_ipv6_disabled,
    "no-local-route-v6": _find_no_local_route,
    "port-held-exclusively": _find_port_held,
    "membership-limit": _find_membership_limit,
    "membership-lost": _find_membership_lost,
    "wrong-interface": _find_wrong_interface,
    "reverse-path-filter": _find_reverse_path,
    "source-unroutable": _find_unroutable,
    "own-source-address": _find_own_source,
    "firewall-drop": _find_firewall,
    "source-filtered": _find_source_filtered,
    "port-mismatch": _find_port_mismatch,
    "checksum-errors": _find_checksums,
    "receive-buffer-full": _find_buffer_full,
    "no-querier": _find_no_querier,
    "querier-dead": _find_querier_dead,
    "igmp-version-forced": _find_igmp_forced,
    "hop-limit-one": _find_hop_limit_one,
    "loopback-hop-limit": _find_loopback_hop_limit,
    "container-network": _find_container,
    "wsl": _find_wsl,
    "nothing-sent": _find_nothing_sent,
    "limited-view": _find_limited_view,
    "datagrams-arrive": _find_arrivals,
}
"""Code to rule. `ADVICE` has the same codes."""
