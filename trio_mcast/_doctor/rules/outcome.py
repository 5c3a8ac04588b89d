"""What has come of it: what arrives, what was not sent, and what could not be seen."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from ..case import Case
from ..finding import Finding, make_finding


def find_nothing_sent(case: Case) -> Iterator[Finding]:
    observation = case.observed
    for group in case.silent():
        version = ip_address(group).version
        joined = {a.interface for a in observation.joins if a.group == group and not a.errno}
        working = [
            link.name
            for link in case.chosen()
            if link.index in joined and (link.can_carry(version) or link.is_loopback)
        ]
        if not working:
            continue
        port = "" if observation.port is None else f" port {observation.port}"
        yield make_finding(
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


def find_arrivals(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = [stream for stream in case.streams_of(group) if case.is_wanted(stream)]
        if streams:
            total = sum(stream.count for stream in streams)
            places = sorted({case.snapshot.name(stream.interface) for stream in streams})
            yield make_finding(
                "datagrams-arrive",
                "info",
                f"{group} arrives: {total} datagrams on {', '.join(places)}",
                case.show_streams(streams, "received"),
            )


def find_limited_view(case: Case) -> Iterator[Finding]:
    snapshot = case.snapshot
    if snapshot.system != "linux":
        yield make_finding(
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
        yield make_finding(
            "limited-view",
            "info",
            f"not for this user to see: {'; '.join(hidden)}",
            ["tried, and refused"],
            " ".join(("sudo trio-mcast doctor", *words)),
        )
