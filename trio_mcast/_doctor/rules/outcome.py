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
            f"{observation.seconds:g} s; it is joined on {', '.join(working)}"
            + (", and nothing was lost here" if case.sees_tables() else ""),
            [
                "no datagram arrived"
                + (
                    ", and none of the kernel's counters of losses grew"
                    if case.sees_tables()
                    else "; of losses nothing is known"
                ),
                *(["nothing was seen on the wire either"] if observation.sightings == () else []),
            ],
            group=group,
        )


def find_arrivals(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = [stream for stream in case.streams_of(group) if case.is_wanted(stream)]
        if streams:
            crowd = case.count_crowd(group)
            total = sum(stream.count for stream in streams) + crowd
            places = sorted({case.snapshot.name(stream.interface) for stream in streams})
            yield make_finding(
                "datagrams-arrive",
                "info",
                f"{group} arrives: {total} datagrams on {', '.join(places)}",
                [
                    *([f"received {crowd} from senders beyond the first"] if crowd else []),
                    *case.show_streams(streams, "received"),
                ],
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
    if not snapshot.settings:
        hidden.append("the kernel's settings (/proc/sys)")
    if not case.sees_tables():
        hidden.append("who has joined what, sockets and counters (/proc/net)")
    if hidden:
        yield make_finding(
            "limited-view",
            "info",
            f"not for this user to see: {'; '.join(hidden)}",
            ["tried, and refused"],
            _how_to_see_more(case),
        )


def _how_to_see_more(case: Case) -> str:
    snapshot, question = case.snapshot, case.question
    if snapshot.chains is not None and snapshot.can_capture:  # this is root
        return (
            "# /proc hides it (mount options hidepid, subset), or this is a container: mount it\n"
            "# without them, or look from outside"
        )
    words = [
        *question.groups,
        *([f"--port {question.port}"] if question.port else []),
        *(f"--interface {snapshot.name(index)}" for index in question.interfaces),
        *(f"--source {source}" for source in question.sources),
    ]
    return " ".join(("sudo trio-mcast doctor", *words))
