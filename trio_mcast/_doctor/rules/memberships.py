"""Memberships: limits, protocols and source filters."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import ip_address

from ..._addresses.parsing import is_multicast, is_ssm
from ..case import Case
from ..finding import Finding, Severity, make_finding, some_of


def find_membership_limit(case: Case) -> Iterator[Finding]:
    yield from _find_too_many_groups(case)
    observation = case.observed
    for attempt in observation.joins:
        if attempt.errno not in (errno.ENOBUFS, errno.ENOMEM):
            continue
        version = ip_address(attempt.group).version
        setting = "net.ipv4.igmp_max_memberships" if version == 4 else "net.core.optmem_max"
        if version == 4 and len(case.question.sources) > case.setting("net.ipv4.igmp_max_msf"):
            setting = "net.ipv4.igmp_max_msf"
        value = case.snapshot.settings.get(setting)
        yield make_finding(
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
    places = sum(1 for link in case.chosen() if link.can_carry(4))
    needed = len(case.groups_of(4)) * max(places, 1)
    if needed > limit > 0:
        yield make_finding(
            "membership-limit",
            "warning",
            f"a program that uses one socket for all can join {limit} times, and you name "
            f"{len(case.groups_of(4))} groups on {places} interfaces (trio_mcast is not concerned)",
            [f"sysctl: {name} = {limit}"],
            setting=name,
            value=2 * needed,
        )


def find_membership_lost(case: Case) -> Iterator[Finding]:
    joined = {row.group for row in case.snapshot.joined}
    for bound in case.snapshot.sockets:
        if not is_multicast(ip_address(bound.address)) or bound.address in joined:
            continue
        concerned = bound.address in (case.question.groups or (bound.address,))
        yield make_finding(
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
    for attempt in case.observed.vanished:
        yield make_finding(
            "membership-lost",
            "error",
            f"{attempt.group} did not stay joined on {case.snapshot.name(attempt.interface)}",
            ["/proc/net/igmp, igmp6: the doctor's own membership is not listed any more"],
        )


def find_igmp_forced(case: Case) -> Iterator[Finding]:
    needs_sources = bool(case.question.sources) or any(
        is_ssm(ip_address(group)) for group in case.question.groups
    )
    severity: Severity = "error" if needs_sources else "warning"
    meaning = "sources cannot be asked for" if needs_sources else "source-specific joins fail"
    for version, kind, latest in ((4, "igmp", 3), (6, "mld", 2)):
        if version not in case.versions():
            continue
        name = f"net.ipv{version}.conf.{{}}.force_{kind}_version"
        for link in case.chosen():
            own = link.force_igmp_version if version == 4 else link.force_mld_version
            setting, forced = name.format(link.name), own or 0
            if everywhere := case.setting(name.format("all")):
                setting, forced = name.format("all"), everywhere
            if 0 < forced < latest:
                yield make_finding(
                    "igmp-version-forced",
                    severity,
                    f"{link.name} is made to speak {kind.upper()}v{forced}: {meaning}, and a "
                    f"network of {kind.upper()}v{latest} falls back to it",
                    [f"sysctl: {setting} = {forced}"],
                    setting=setting,
                )
            elif version == 4 and not forced and (link.igmp_version or 3) < 3:
                yield make_finding(
                    "igmp-version-forced",
                    "warning" if needs_sources else "info",
                    f"a querier on the network of {link.name} makes all speak IGMPv"
                    f"{link.igmp_version}: the switches hear nothing of sources",
                    [f"/proc/net/igmp: the querier of {link.name} is V{link.igmp_version}"],
                    "# let the querier of the network (a router or switch) speak IGMPv3",
                )


def find_source_filtered(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = case.arrivals_of(group)
        if is_ssm(ip_address(group)):
            streams = streams + case.sightings_of(group)
        senders = sorted({stream.source for stream in streams})
        if senders and case.question.sources and not set(senders) & set(case.question.sources):
            yield make_finding(
                "source-filtered",
                "error",
                f"{group} is sent by {some_of(senders)}, not by "
                f"{some_of(case.question.sources)}: a receiver with that source hears nothing",
                case.show_streams(streams, "seen"),
                source=senders[0],
            )
            continue
        rows = [row for row in case.snapshot.filtered if row.group == group]
        included = {row.source for row in rows if row.included}
        excluded = {row.source for row in rows if row.excluded}
        unheard = [s for s in senders if s in excluded or (included and s not in included)]
        if unheard and len(unheard) == len(senders):
            yield make_finding(
                "source-filtered",
                "error",
                f"{group} is sent by {some_of(senders)}, which programs of this host that have "
                "joined it filter out",
                [
                    f"/proc/net/mcfilter: {row.source} on {case.snapshot.name(row.interface)}: "
                    f"included by {row.included}, excluded by {row.excluded}"
                    for row in rows
                ],
                source=unheard[0],
            )
