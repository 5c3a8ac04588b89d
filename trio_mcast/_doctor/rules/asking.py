"""What was asked for: the group and the port."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import ip_address

from ..._addresses.classify import classify
from ..._addresses.parsing import is_multicast, is_ssm
from ..._addresses.registry import PROBLEMS, USES
from ..case import Case
from ..finding import Finding, make_finding, some_of
from ..losses import ENOUGH


def find_group_reserved(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        address = ip_address(group)
        facts = classify(address)
        evidence = [f"`trio-mcast classify {group}`"]
        if not is_multicast(address):
            yield make_finding("group-reserved", "error", f"{group} is not a group", evidence)
        elif facts.originate_allowed is False:
            yield make_finding(
                "group-reserved", "error", f"{group}: {PROBLEMS['scope-reserved-0']}", evidence
            )
        elif is_ssm(address) and not case.question.sources:
            yield make_finding(
                "group-reserved",
                "error",
                f"{group} is for source-specific multicast: it must be joined with a source",
                evidence,
                f"# name the sender: open_receiver({group!r}, sources=[SENDER]), or here:\n"
                f"trio-mcast doctor SENDER@{group}",
            )
        elif facts.is_reserved:
            assert facts.use is not None
            yield make_finding("group-reserved", "warning", f"{group}: {USES[facts.use]}", evidence)
        elif facts.mac_floods_like_local_control:
            yield make_finding(
                "group-reserved",
                "warning",
                f"{group} shares its Ethernet address {facts.mac} with one of 224.0.0.0/24: "
                "switches send it everywhere",
                evidence,
            )
        for problem in facts.problems or ():
            if problem != "scope-reserved-0":
                summary = f"{group}: {PROBLEMS[problem]}"
                yield make_finding("group-reserved", "warning", summary, evidence)


def find_port_held(case: Case) -> Iterator[Finding]:
    observation = case.observed
    if observation.port is None:
        return
    refused = [a for a in observation.joins if a.errno == errno.EADDRINUSE]
    for group in dict.fromkeys(attempt.group for attempt in refused):
        anywhere = ("0.0.0.0", "::", group)
        holders = [
            bound
            for bound in case.snapshot.sockets
            if bound.port == observation.port and bound.address in anywhere
        ]
        who = some_of(holders) or "a program that does not show"
        hidden = any(not bound.holders for bound in holders)
        yield make_finding(
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


def find_port_mismatch(case: Case) -> Iterator[Finding]:
    observation = case.observed
    for group in case.question.groups:
        if case.is_heard(group):
            yield from _find_listener_elsewhere(case, group)
    for group in case.unheard():
        seen = case.sightings_of(group)
        ports = sorted({stream.port for stream in seen})
        name = "Udp.IgnoredMulti" if ip_address(group).version == 4 else "Udp6IgnoredMulti"
        ignored = observation.counters.get(name, 0)
        if ports and observation.port not in ports:
            yield make_finding(
                "port-mismatch",
                "error",
                f"{group} arrives at port {some_of(ports)}, not at {observation.port}",
                case.show_streams(seen, "seen"),
                port=some_of(ports, " or "),
                own=observation.port,
            )
        elif observation.sightings is None and ignored >= ENOUGH:
            port = observation.port
            where = f"another port than {port}" if port else "some port"
            yield make_finding(
                "port-mismatch",
                "error" if port else "warning",
                f"{group}, or another group that is joined, arrives at {where}, where nobody "
                "listens",
                [f"{name.replace('.', ' ')} grew by {ignored}"],
                "# at which port is for root to see:\n"
                f"sudo trio-mcast doctor {group}" + (f" --port {port}" if port else ""),
            )


def _find_listener_elsewhere(case: Case, group: str) -> Iterator[Finding]:
    """It arrives here, but programs that are bound to the group listen at other ports only."""
    observation = case.observed
    bound = [s for s in case.snapshot.sockets if s.address == group]
    if bound and observation.port and all(s.port != observation.port for s in bound):
        ports = some_of(s.port for s in bound)
        yield make_finding(
            "port-mismatch",
            "error",
            f"{group} arrives at port {observation.port}, but is listened to at {ports}",
            [f"listening: {s}" for s in bound],
            port=observation.port,
            own=ports,
        )
