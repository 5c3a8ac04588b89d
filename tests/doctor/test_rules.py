"""The rules on recorded and made-up evidence: what cannot be made here, and what must not be said.

The recordings are of hosts as `test_on_faulty_hosts` makes them, as an ordinary user sees them.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doctor.consulting import codes, errors, the, warnings

from trio_mcast._base.remedies import ADVICE
from trio_mcast._base.snapshot import (
    Chain,
    Holder,
    Link,
    Route,
    UdpSocket,
)
from trio_mcast._doctor.case import Case
from trio_mcast._doctor.evidence import (
    Attempt,
    Crowd,
    Observation,
    Query,
    Stream,
)
from trio_mcast._doctor.finding import make_finding
from trio_mcast._doctor.judging import RULES, judge
from trio_mcast._doctor.losses import count_losses

RECORDED = Path(__file__).parent / "recorded"
GROUP = "233.252.0.1"
ETH0 = 11


def recorded(name: str) -> Case:
    return Case.from_json((RECORDED / f"{name}.json").read_text())


def observed(case: Case, **changes: Any) -> Case:
    assert case.observation is not None
    return replace(case, observation=replace(case.observation, **changes))


def on_machine(case: Case, **changes: Any) -> Case:
    return replace(case, snapshot=replace(case.snapshot, **changes))


def with_link(case: Case, **changes: Any) -> Case:
    links = tuple(
        replace(link, **changes) if link.name == "eth0" else link for link in case.snapshot.links
    )
    return on_machine(case, links=links)


# --- The table ------------------------------------------------------------------------------------


def test_every_code_has_a_rule_and_advice() -> None:
    assert set(RULES) == set(ADVICE)


def test_every_code_that_was_promised_is_there() -> None:
    promised = """
        reverse-path-filter own-source-address source-unroutable firewall-drop interface-down
        interface-no-carrier interface-not-multicast interface-no-address ipv6-disabled
        wrong-interface no-local-route-v6 loopback-hop-limit port-mismatch source-filtered
        membership-limit membership-lost receive-buffer-full checksum-errors no-querier querier-dead
        igmp-version-forced hop-limit-one port-held-exclusively group-reserved container-network wsl
        nothing-sent
    """
    assert set(promised.split()) <= set(RULES)


def test_every_code_is_explained_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    assert [code for code in RULES if f"`{code}`" not in text] == []


def test_a_case_survives_being_saved() -> None:
    case = observed(
        recorded("unroutable"),
        sightings=(Stream(GROUP, ETH0, "10.77.1.2", 5000, None, 3),),
        queries=(Query(ETH0, "10.77.1.2", "IGMP"),),
        more_sightings=(Crowd(GROUP, ETH0, True, False, 7),),
    )
    case = on_machine(case, chains=(Chain("inet", "filter", "input", "input", "drop"),))
    assert Case.from_json(case.to_json()) == case


def test_recordings_of_an_older_version_lack_fields_and_load() -> None:
    text = '{"question": {}, "snapshot": {"system": "linux", "links": []}}'
    case = Case.from_json(text)
    assert case.observation is None
    assert errors(judge(case)) == []


# --- The recordings as they are -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "doubtful"),
    [
        ("healthy", [], []),
        ("silent", [], ["nothing-sent"]),
        ("unroutable", ["source-unroutable"], []),
    ],
)
def test_recordings_give_what_they_gave(name: str, wrong: list[str], doubtful: list[str]) -> None:
    found = judge(recorded(name))
    assert (errors(found), warnings(found)) == (wrong, doubtful)


def test_errors_come_before_warnings_and_these_before_the_rest() -> None:
    found = judge(with_link(recorded("unroutable"), force_igmp_version=2))
    severities = [finding.severity for finding in found]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert severities[:2] == ["error", "warning"]


# --- What cannot be made here ---------------------------------------------------------------------


def test_a_container_is_recognised_and_blamed_only_where_nothing_comes() -> None:
    silent = on_machine(recorded("silent"), container="docker")
    finding = the("container-network", judge(silent))
    assert finding.severity == "warning"
    assert "--network host" in finding.remedy
    healthy = on_machine(recorded("healthy"), container="docker")
    assert the("container-network", judge(healthy)).severity == "info"
    assert "container-network" not in codes(judge(recorded("silent")))


def test_a_container_with_the_network_of_its_host_is_not_blamed() -> None:
    case = with_link(on_machine(recorded("silent"), container="docker"), kind="")
    assert the("container-network", judge(case)).severity == "info"


@pytest.mark.parametrize(("version", "remedy"), [(1, "set-version"), (2, "mirrored")])
def test_wsl_is_recognised_with_what_works_there(version: int, remedy: str) -> None:
    finding = the("wsl", judge(on_machine(recorded("silent"), wsl=version)))
    assert finding.severity == "warning"
    assert remedy in finding.remedy
    assert "wsl" not in codes(judge(recorded("silent")))


def test_a_querier_that_was_heard_before_and_not_for_minutes_is_dead() -> None:
    case = with_link(observed(recorded("silent"), seconds=300.0), mld_queries=7)
    assert "querier-dead" in warnings(judge(case))
    assert "no-querier" not in codes(judge(case))
    growing = {"Icmp6InGroupMembQueries%eth0": 2}
    assert "querier-dead" not in codes(judge(observed(case, counters=growing)))
    assert "querier-dead" not in codes(judge(observed(case, seconds=5.0)))


def test_where_no_query_was_ever_heard_that_is_told_of_only_if_nothing_comes() -> None:
    assert the("no-querier", judge(recorded("silent"))).severity == "info"
    assert "no-querier" not in codes(judge(recorded("healthy")))
    assert "no-querier" not in codes(judge(with_link(recorded("silent"), mld_queries=1)))


def test_an_old_querier_is_told_of() -> None:
    finding = the("igmp-version-forced", judge(with_link(recorded("healthy"), igmp_version=2)))
    assert finding.severity == "info"
    assert "IGMPv2" in finding.summary


def test_queries_of_a_querier_that_the_routes_refuse_are_found() -> None:
    case = observed(
        with_link(recorded("healthy"), rp_filter=1),
        queries=(Query(ETH0, "192.0.2.1", "IGMP"),),
        routes=(Route("224.0.0.1", ETH0, "192.0.2.1", errno.EINVAL, None, ""),),
    )
    found = judge(case)
    assert errors(found) == ["source-unroutable"]
    elsewhere = Route("224.0.0.1", ETH0, "192.0.2.1", errno.EINVAL, 1, "")
    found = judge(observed(case, routes=(elsewhere,)))
    assert errors(found) == ["reverse-path-filter"]
    assert "querier 192.0.2.1" in found[0].summary


def test_one_sender_refused_among_others_that_are_heard_is_a_warning() -> None:
    case = observed(
        with_link(recorded("healthy"), rp_filter=2),
        sightings=(Stream(GROUP, ETH0, "192.0.2.7", 5000, 1, 9),),
        routes=(Route(GROUP, ETH0, "192.0.2.7", errno.EINVAL, None, ""),),
    )
    found = judge(case)
    assert (errors(found), warnings(found)) == ([], ["source-unroutable"])


@pytest.mark.parametrize(
    ("everywhere", "own", "wrong"),
    [(0, 0, []), (0, 1, ["x"]), (1, 0, ["x"]), (2, 1, []), (1, 2, []), (1, 1, ["x"])],
)
def test_of_two_filter_settings_the_larger_counts(
    everywhere: int, own: int, wrong: list[str]
) -> None:
    """Strict (1) drops what loose (2) takes; the rule goes by the counter here."""
    case = with_link(recorded("unroutable"), rp_filter=own)
    settings = {**case.snapshot.settings, "net.ipv4.conf.all.rp_filter": everywhere}
    found = judge(on_machine(case, settings=settings))
    assert ("reverse-path-filter" in errors(found)) is bool(wrong)
    assert ("source-unroutable" in errors(found)) is (max(everywhere, own) == 2)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_a_kernel_that_runs_out_while_joining_is_a_limit(number: int) -> None:
    refused = tuple(
        Attempt(GROUP, index, number, "join: No buffer space available") for index in (1, ETH0)
    )
    assert errors(judge(observed(recorded("silent"), joins=refused))) == ["membership-limit"]


def test_losses_of_a_program_with_another_port_are_a_warning() -> None:
    loser = UdpSocket(4, "0.0.0.0", 9999, 1000, 77, 12)
    found = judge(observed(recorded("healthy"), losses=(loser,)))
    assert (errors(found), warnings(found)) == ([], ["receive-buffer-full"])
    assert "user 1000 at 0.0.0.0:9999" in the("receive-buffer-full", found).summary


def test_a_group_without_a_port_is_heard_wherever_it_is_seen() -> None:
    seen = (Stream(GROUP, ETH0, "10.77.1.2", 6000, 1, 9),)
    found = judge(observed(recorded("silent"), port=None, sightings=seen))
    assert (errors(found), warnings(found)) == ([], [])
    assert "port 6000" in the("datagrams-arrive", found).evidence[0]


def test_without_a_port_and_without_a_capture_delivered_datagrams_are_not_called_silence() -> None:
    counters = {"Ip.InReceives": 9, "Ip.InDelivers": 9, "IpExt.InMcastPkts": 9}
    case = observed(recorded("silent"), port=None, counters=counters)
    assert "nothing-sent" not in codes(judge(case))


# --- What comes in and is lost --------------------------------------------------------------------

TAGGED = Stream(GROUP, ETH0, "10.77.1.2", 5000, 1, 9, "it is tagged with VLAN 5")
SEEN = replace(TAGGED, flaw="")
ACCEPTED = Route(GROUP, ETH0, SEEN.source, 0, ETH0, "")


def on_root_s_machine(case: Case, *chains: Chain) -> Case:
    return on_machine(case, chains=chains, can_capture=True, sees_all_holders=True)


def test_a_flaw_of_what_another_interface_takes_is_no_fault() -> None:
    """As of a VLAN: eth0 sees it tagged, and eth0.5 hears it."""
    found = judge(observed(recorded("healthy"), sightings=(TAGGED,)))
    assert (errors(found), warnings(found)) == ([], [])


def test_a_flaw_is_told_of_where_nothing_else_arrives() -> None:
    case = on_root_s_machine(recorded("silent"))
    found = judge(observed(case, sightings=(TAGGED,)))
    assert (errors(found), warnings(found)) == (["datagrams-lost"], [])
    assert "VLAN 5" in found[0].summary
    elsewhere = (replace(TAGGED, port=6000), replace(TAGGED, group="233.252.0.2"))
    assert errors(judge(observed(case, sightings=elsewhere))) == []


def test_what_has_a_flaw_is_not_said_to_arrive() -> None:
    case = observed(recorded("silent"), port=None, sightings=(TAGGED,))
    assert "datagrams-arrive" not in codes(judge(case))
    case = observed(recorded("silent"), sightings=(replace(TAGGED, port=6000),))
    assert "port-mismatch" not in codes(judge(case))


INPUT = {"Ip.InReceives": 9, "IpExt.InMcastPkts": 9}
PREROUTING = {"Ip.InReceives": 9}


@pytest.mark.parametrize(
    ("counters", "hook"), [(INPUT, "input"), (PREROUTING, "prerouting"), ({}, "ingress")]
)
def test_a_firewall_is_blamed_only_where_it_has_a_chain(
    counters: dict[str, int], hook: str
) -> None:
    case = observed(recorded("silent"), sightings=(SEEN,), routes=(ACCEPTED,), counters=counters)
    own = Chain("netdev" if hook == "ingress" else "inet", "filter", "mine", hook, "accept")
    other = Chain("inet", "filter", "other", "output", "drop")
    six = Chain("ip6", "filter", "six", hook, "drop")
    assert errors(judge(on_root_s_machine(case, own))) == ["firewall-drop"]
    found = judge(on_root_s_machine(case, other, six))
    assert errors(found) == ["datagrams-lost"]
    assert "not known" in found[0].summary


def test_what_was_not_joined_where_it_came_in_is_not_called_lost() -> None:
    case = observed(recorded("silent"), sightings=(SEEN,))
    assert errors(judge(on_root_s_machine(case))) == []


def test_counters_that_complain_are_evidence_where_the_cause_is_not_known() -> None:
    case = observed(
        recorded("silent"),
        sightings=(SEEN,),
        routes=(ACCEPTED,),
        counters={"Ip.InDiscards": 9, "Ip.InReceives": 9, "Ip6InDiscards%eth0": 9},
    )
    evidence = the("datagrams-lost", judge(on_root_s_machine(case))).evidence
    assert [line for line in evidence if "grew" in line] == ["Ip InDiscards grew by 9"]


def test_without_a_capture_ipv6_losses_may_be_of_groups_that_nobody_joined() -> None:
    six = "ff15::4d43:1"
    case = recorded("silent")
    case = replace(case, question=replace(case.question, groups=(six,)))
    counters = {"Ip6InReceives": 9, "Ip6InMcastPkts": 9}
    case = observed(case, joins=(Attempt(six, ETH0, 0),), sightings=None, counters=counters)
    found = judge(case)
    assert (errors(found), warnings(found)) == ([], ["datagrams-lost"])


# --- What was not to be seen ----------------------------------------------------------------------


def test_where_proc_is_hidden_nothing_is_said_of_counters_but_that_they_are_hidden() -> None:
    hidden = on_machine(recorded("silent"), joined=(), settings={}, sockets=())
    found = judge(hidden)
    assert "/proc/sys" in the("limited-view", found).summary
    assert "/proc/net" in the("limited-view", found).summary
    silence = the("nothing-sent", found)
    assert "lost here" not in silence.summary
    assert "counters" not in silence.evidence[0]
    limits = the("limited-view", judge(recorded("silent"))).summary
    assert "/proc/sys" not in limits
    assert "/proc/net" not in limits


def test_root_is_not_told_to_become_root() -> None:
    case = replace(on_root_s_machine(recorded("silent")), observation=None)
    assert "limited-view" not in codes(judge(case))
    limits = the("limited-view", judge(on_machine(case, sees_all_holders=False)))
    assert "which programs" in limits.summary
    assert "sudo" not in limits.remedy


# --- The text of findings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["\x1b[2J\x07", "a\nerror: b", "\x9bm", "\u202e", "\udcff", "\x7f"]
)
def test_names_that_others_gave_cannot_do_anything_when_they_are_printed(name: str) -> None:
    bound = UdpSocket(4, "0.0.0.0", 5000, 1000, 77, 0, (Holder(7, name),))
    card = name.partition("\n")[0]  # an interface's name has no white space
    case = on_machine(with_link(recorded("silent"), name=card, is_up=False), sockets=(bound,))
    refused = (Attempt(GROUP, ETH0, errno.EADDRINUSE, "in use"),)
    found = judge(observed(case, joins=refused, port=5000))
    assert {"port-held-exclusively", "interface-down"} <= codes(found)
    assert ascii(name)[1:-1] in the("port-held-exclusively", found).summary
    assert ascii(card)[1:-1] in the("interface-down", found).remedy
    for finding in found:
        for line in (finding.summary, *finding.evidence, *finding.remedy.split("\n")):
            assert line.isprintable()


def test_names_in_any_language_stay_as_they_are() -> None:
    finding = make_finding("wsl", "info", "größer 大きい", ["größer 大きい"])
    assert (finding.summary, finding.evidence) == ("größer 大きい", ("größer 大きい",))


def test_evidence_has_an_end() -> None:
    lines = [f"line {number}" for number in range(1000)]
    finding = make_finding("wsl", "info", "x" * 100_000, lines)
    assert len(finding.summary) < 1000
    assert finding.evidence[:2] == ("line 0", "line 1")
    assert finding.evidence[-1] == f"and {1000 + 1 - len(finding.evidence)} more like these"
    assert len(finding.evidence) < 100


def test_findings_of_one_code_have_an_end_and_none_of_another_is_left_out() -> None:
    sources = [f"11.0.0.{number}" for number in range(1, 101)]
    case = observed(
        with_link(recorded("silent"), rp_filter=1, force_igmp_version=2),
        sightings=tuple(replace(SEEN, source=source) for source in sources),
        routes=tuple(Route(GROUP, ETH0, source, errno.EINVAL, None, "") for source in sources),
    )
    found = judge(case)
    told = [f for f in found if f.code == "source-unroutable"]
    assert 1 < len(told) < 30
    assert told[-1].evidence[-1] == f"{100 - len(told)} more findings like this"
    assert "igmp-version-forced" in codes(found)


def test_those_beyond_the_first_senders_are_counted_in_the_total() -> None:
    case = recorded("healthy")
    assert case.observation is not None
    listed = sum(stream.count for stream in case.arrivals_of(GROUP))
    crowds = (
        Crowd(GROUP, ETH0, is_wanted=True, is_flawed=False, count=1000),
        Crowd(GROUP, ETH0, is_wanted=False, is_flawed=False, count=1),
        Crowd(GROUP, ETH0, is_wanted=True, is_flawed=True, count=1),
    )
    finding = the("datagrams-arrive", judge(observed(case, more_arrivals=crowds)))
    assert f"{listed + 1000} datagrams" in finding.summary
    assert finding.evidence[0].startswith("received 1000 ")


# --- Groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "severity"),
    [
        ("232.1.2.3", "error"),  # without a source
        ("ff3e::8000:1", "error"),
        ("ff00::5", "error"),  # scope 0
        ("ff0f::5", "warning"),  # scope F
        ("225.1.2.3", "warning"),  # reserved
        ("239.128.0.251", "warning"),  # the Ethernet address of 224.0.0.251
        ("239.1.2.3", None),
        ("233.252.0.1", None),
        ("ff15::1", None),
        ("224.0.0.251", None),
    ],
)
def test_groups_are_judged_by_their_address(group: str, severity: str | None) -> None:
    case = Case(replace(recorded("silent").question, groups=(group,)), recorded("silent").snapshot)
    found = [f.severity for f in judge(case) if f.code == "group-reserved"]
    assert found == ([] if severity is None else [severity])


def test_a_source_makes_a_source_specific_group_good() -> None:
    case = recorded("silent")
    question = replace(case.question, groups=("232.1.2.3",), sources=("10.77.1.2",))
    assert "group-reserved" not in codes(judge(Case(question, case.snapshot)))


# --- Other systems --------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_on_other_systems_what_cannot_be_seen_is_said_and_the_rest_judged(system: str) -> None:
    link = Link("en0", 4, False, False, True, 1500, ("10.0.0.2/24",), ipv6="on")
    question = replace(recorded("silent").question, port=None)
    snapshot = replace(recorded("silent").snapshot, system=system, links=(link,), chains=None)
    found = judge(Case(question, snapshot, Observation(1.0, 5000)))
    assert errors(found) == ["interface-down"]
    assert "on this system" in the("limited-view", found).summary


# --- Counting -------------------------------------------------------------------------------------


def grown(**counters: int) -> dict[str, int]:
    return {name.replace("_", "."): count for name, count in counters.items()}


def test_unicast_traffic_is_not_taken_for_losses() -> None:
    losses = count_losses(
        grown(Ip_InReceives=100, Ip_InDelivers=100, Tcp_InSegs=90, IpExt_InMcastPkts=10), 4
    )
    assert (losses.before_routing, losses.in_input) == (0, 0)


def test_losses_in_input_are_seen_beside_tcp() -> None:
    losses = count_losses(
        grown(Ip_InReceives=100, Ip_InDelivers=90, Tcp_InSegs=90, IpExt_InMcastPkts=10), 4
    )
    assert (losses.before_routing, losses.in_input) == (0, 10)


def test_fragments_are_not_losses() -> None:
    losses = count_losses(
        grown(
            Ip_InReceives=10,
            Ip_InDelivers=5,
            Ip_ReasmReqds=10,
            Ip_ReasmOKs=5,
            IpExt_InMcastPkts=5,
        ),
        4,
    )
    assert (losses.before_routing, losses.in_input) == (0, 0)


def test_forwarded_packets_are_not_losses() -> None:
    losses = count_losses(grown(Ip_InReceives=10, Ip_ForwDatagrams=10), 4)
    assert (losses.before_routing, losses.in_input) == (0, 0)
