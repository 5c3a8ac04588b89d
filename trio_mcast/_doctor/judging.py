"""From all the evidence to findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from .._base.remedies import ADVICE
from .._base.values import check_type
from .case import Case
from .finding import Finding
from .rules import asking, interfaces, memberships, network, outcome, stages

_SEVERITIES: Final = ("error", "warning", "info")
_MOST_OF_A_CODE: Final = 20

Rule: TypeAlias = Callable[[Case], Iterable[Finding]]


def judge(case: Case) -> tuple[Finding, ...]:
    """Everything that the rules find, the most probable cause first."""
    check_type("case", case, Case, "what examine() or Case.from_json() returned")
    found = [finding for code in ADVICE for finding in RULES[code](case)]
    found.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return tuple(_limit(list(dict.fromkeys(found))))


def _limit(findings: list[Finding]) -> Iterator[Finding]:
    """Senders by the hundred, each with the same fault, are told by some of them."""
    total = Counter(finding.code for finding in findings)
    told: Counter[str] = Counter()
    for finding in findings:
        told[finding.code] += 1
        more = total[finding.code] - _MOST_OF_A_CODE
        if told[finding.code] == _MOST_OF_A_CODE and more > 0:
            yield replace(finding, evidence=(*finding.evidence, f"{more} more findings like this"))
        elif told[finding.code] <= _MOST_OF_A_CODE:
            yield finding


RULES: Final[dict[str, Rule]] = {
    "group-reserved": asking.find_group_reserved,
    "interface-down": interfaces.find_interface_down,
    "interface-no-carrier": interfaces.find_no_carrier,
    "interface-not-multicast": interfaces.find_not_multicast,
    "interface-no-address": interfaces.find_no_address,
    "ipv6-disabled": interfaces.find_ipv6_disabled,
    "no-local-route-v6": interfaces.find_no_local_route,
    "port-held-exclusively": asking.find_port_held,
    "membership-limit": memberships.find_membership_limit,
    "membership-lost": memberships.find_membership_lost,
    "wrong-interface": interfaces.find_wrong_interface,
    "reverse-path-filter": stages.find_reverse_path,
    "source-unroutable": stages.find_unroutable,
    "own-source-address": stages.find_own_source,
    "firewall-drop": stages.find_firewall,
    "source-filtered": memberships.find_source_filtered,
    "port-mismatch": asking.find_port_mismatch,
    "checksum-errors": stages.find_checksums,
    "receive-buffer-full": stages.find_buffer_full,
    "no-querier": network.find_no_querier,
    "querier-dead": network.find_querier_dead,
    "igmp-version-forced": memberships.find_igmp_forced,
    "hop-limit-one": network.find_hop_limit_one,
    "loopback-hop-limit": network.find_loopback_hop_limit,
    "container-network": network.find_container,
    "wsl": network.find_wsl,
    "nothing-sent": outcome.find_nothing_sent,
    "limited-view": outcome.find_limited_view,
    "datagrams-arrive": outcome.find_arrivals,
    "datagrams-lost": stages.find_lost,
}
"""Code to rule. `ADVICE` has the same codes."""
