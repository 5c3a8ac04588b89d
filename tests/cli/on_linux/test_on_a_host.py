"""What `trio-mcast` tells on hosts of our making, and how it behaves on a terminal."""

import os
import pty
import subprocess
import sys

import pytest
from cli.program import PROGRAM, cli, environment, running
from namespaces.network import Card, Network
from patience import LONG


def test_interfaces_are_shown_with_all_their_addresses(here: Card) -> None:
    here.host.ip(f"route add default via {here.ipv4}")
    done = cli("interfaces", host=here.host)
    assert (done.code, done.err) == (0, "")
    heading, lo, _, eth0, *more = (line.split() for line in done.lines)
    assert heading[:3] == ["Index", "Name", "Up"]
    assert lo[:2] == ["1", "lo"]
    assert lo[4] == "yes"  # loopback
    assert eth0 == [
        str(here.index),
        "eth0",
        "yes",
        "yes",
        "no",
        "1500",
        "IPv4",
        f"{here.ipv4}/24",
    ]
    assert sorted(more) == sorted([[f"{here.ipv6}/64"], [f"{here.link_local}/64"]])


def test_a_plan_can_be_made_where_there_is_no_network(network: Network) -> None:
    done = cli("plan", "232.1.2.3", "5000", "--source", "192.0.2.9", host=network.host())
    assert done.code == 0
    assert "MCAST_JOIN_SOURCE_GROUP 232.1.2.3 from 192.0.2.9 on eth0 (2)" in done.out


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_want_them(
    variables: dict[str, str], coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    with running(
        *PROGRAM, "interfaces", stdout=theirs, env=environment(TERM="xterm", **variables)
    ) as program:
        assert program.finish().code == 0
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # Linux' way to say that the other end is closed
        pass
    os.close(ours)
    assert b"Name" in shown
    assert (b"\x1b[36m" in shown) is coloured


def test_closed_standard_streams_do_no_harm() -> None:
    closed = subprocess.run(
        [sys.executable, "-m", "trio_mcast", "interfaces"],
        preexec_fn=lambda: os.closerange(0, 3),
        timeout=LONG,
    )
    assert closed.returncode == 0
