"""`trio-mcast doctor` and `trio-mcast memberships` as people run them."""

from __future__ import annotations

import json

import pytest
from cli.program import PROGRAM, Finished, cli, running
from doctor.consulting import GROUP4, GROUP6, give_up_privileges, sending
from namespaces.network import Card, Host, Network
from namespaces.sandbox import hush_news_of_groups


def run(host: Host, user: str, *arguments: str) -> Finished:
    options = {"preexec_fn": give_up_privileges} if user == "ordinary" else {}
    return cli(*arguments, host=host, **options)


as_any_user = pytest.mark.parametrize("user", ["root", "ordinary"])


# --- The doctor -----------------------------------------------------------------------------------


@as_any_user
def test_the_cause_is_the_first_line_and_the_remedy_can_be_pasted(here: Card, user: str) -> None:
    here.set("multicast off")
    done = run(here.host, user, "doctor", GROUP4, "-p", "5000", "-i", "eth0", "--seconds", "0.1")
    assert done.code == 1
    assert done.lines[0] == "error: eth0 is not set to carry multicast [interface-not-multicast]"
    (remedy,) = (line for line in done.lines[:4] if line.startswith("  do"))
    assert remedy.split(maxsplit=1)[1] == "sudo ip link set dev eth0 multicast on"
    assert f"listening to {GROUP4} for 0.1 s" in done.err


@as_any_user
def test_a_healthy_machine_is_told_so_in_the_first_line(here: Card, there: Card, user: str) -> None:
    with sending(there.talker(GROUP4, 5000)):
        done = run(here.host, user, "doctor", GROUP4, "--port", "5000", "--seconds", "0.2")
    assert done.code == 0
    assert done.lines[0] == "no fault was found on this machine"
    assert done.lines[1].startswith(f"info: {GROUP4} arrives: ")


def test_without_a_group_it_looks_at_the_machine_and_says_nothing_on_standard_error(
    here: Card,
) -> None:
    done = run(here.host, "root", "doctor")
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "no fault was found on this machine"


def test_findings_as_json_have_all_their_parts(here: Card) -> None:
    here.down()
    done = run(here.host, "root", "doctor", GROUP6, "--json", "-i", "eth0", "--seconds", "0")
    assert (done.code, done.err) == (1, "")
    first = json.loads(done.lines[0])
    assert list(first) == ["code", "severity", "summary", "evidence", "remedy", "reference"]
    assert (first["code"], first["severity"]) == ("interface-down", "error")
    assert all(json.loads(line)["code"] for line in done.lines)


def test_quiet_tells_errors_only(here: Card) -> None:
    arguments = ("doctor", GROUP4, "--port", "5000", "--seconds", "0.1", "--quiet")
    done = run(here.host, "root", *arguments)
    assert (done.code, done.out, done.err) == (0, "", "")
    here.set("multicast off")
    done = run(here.host, "root", *arguments)
    assert done.code == 1
    assert [line for line in done.lines if not line.startswith("  ")] == [
        "error: eth0 is not set to carry multicast [interface-not-multicast]"
    ]


def test_a_source_can_be_written_before_the_group(here: Card, there: Card) -> None:
    with sending(there.talker(GROUP4, 5000)):
        spec = f"10.77.1.9@{GROUP4}%eth0"
        done = run(here.host, "root", "doctor", spec, "--port", "5000", "--seconds", "0.2")
    assert done.code == 1
    assert done.lines[0].endswith("[source-filtered]")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["10.0.0.1"], "unicast"),
        ([GROUP4, "--seconds", "-1"], "below 0"),
        ([GROUP4, "--seconds", "nan"], "below 0"),
        ([GROUP4, "--port", "70000"], "outside 1 to 65535"),
        ([GROUP4, "--interface", "nix0"], "nix0"),
        ([GROUP4, "--source", GROUP4], "is a multicast group"),
        ([f"::1@{GROUP4}"], "mixes IP versions"),
    ],
)
def test_wrong_usage_is_refused_before_anything_else(
    network: Network, arguments: list[str], complaint: str
) -> None:
    done = run(network.host(), "root", "doctor", *arguments)
    assert done.code == 2
    assert complaint in done.err
    assert "listening" not in done.err
    assert done.out == ""


# --- Memberships ----------------------------------------------------------------------------------


@as_any_user
def test_memberships_are_listed_with_sources_and_programs(here: Card, user: str) -> None:
    here.listener(GROUP4, 5000, source="10.77.1.7")
    here.listener(GROUP6, 5001)
    done = run(here.host, user, "memberships")
    assert (done.code, done.err) == (0, "")
    rows = {tuple(line.split()[:2]): line for line in done.lines[1:]}
    assert "+10.77.1.7" in rows["eth0", GROUP4]
    assert ", port 5000" in rows["eth0", GROUP4]
    assert "(pid " in rows["eth0", GROUP6]
    assert ("lo", "224.0.0.1") in rows


def test_memberships_as_json(here: Card) -> None:
    here.listener(GROUP6, 5001, source="fd77:0:0:1::7")
    done = run(here.host, "root", "memberships", "--json")
    rows = [json.loads(line) for line in done.lines]
    (row,) = (row for row in rows if row["group"] == GROUP6)
    assert (row["interface"], row["users"]) == ("eth0", 1)
    assert (row["included"], row["excluded"]) == (["fd77:0:0:1::7"], [])
    assert "change" not in row
    assert len(row["programs"]) == 1


@as_any_user
def test_joins_and_leaves_are_told_as_they_happen(here: Card, user: str) -> None:
    options = {"preexec_fn": give_up_privileges} if user == "ordinary" else {}
    with running(*PROGRAM, "memberships", "--watch", host=here.host, **options) as program:
        program.wait_for("watching", "err")
        first = here.listener(GROUP4, 5000)
        program.wait_for(f"joined  eth0  {GROUP4}")
        here.listener(GROUP6, 5000)
        program.wait_for(f"joined  eth0  {GROUP6}")
        first.socket.close()
        program.wait_for(f"left    eth0  {GROUP4}")
        done = program.interrupt()
    assert done.code == 0
    assert done.err.count("\n") == 1


def test_joins_as_json_say_what_changed(here: Card) -> None:
    with running(*PROGRAM, "memberships", "--watch", "--json", host=here.host) as program:
        program.wait_for('"group": "ff02::1"')
        here.listener(GROUP4, 5000)
        program.wait_for('"change": "joined"')
        done = program.interrupt()
    rows = [json.loads(line) for line in done.lines]
    (row,) = (row for row in rows if row["change"] == "joined")
    assert (row["interface"], row["group"]) == ("eth0", GROUP4)
    assert {row["change"] for row in rows} == {None, "joined"}


def test_where_the_kernel_announces_nothing_joins_are_noticed_by_looking(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trio_mcast._doctor.membership_watch import MembershipWatch

    hush_news_of_groups(monkeypatch)
    here, _ = network.pair()

    async def main() -> object:
        with MembershipWatch() as watch:
            assert not watch.is_live
            here.listener(GROUP4, 5000)
            return await watch.wait()

    assert here.host.run(main) == [("joined", "eth0", GROUP4)]
