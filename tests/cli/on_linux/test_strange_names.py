"""Names come from outside: nothing in them that is not printable reaches a terminal."""

import json

import pytest
from cli.program import cli
from namespaces.network import Card

G4 = "233.252.0.1"
# A name of all kinds, as far as it has room: C0 (escape), DEL, C1, RIGHT-TO-LEFT OVERRIDE, and what
# is no UTF-8.
NAME = "e\x1b\x7f\x9b\u202e\udcffX"


def is_clean(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.fixture
def name(here: Card) -> str:
    """Of the only interface that is up here, but loopback."""
    here.down()
    here.host.command("ip", "link", "set", "eth0", "name", NAME)
    here.host.command("ip", "link", "set", NAME, "up")
    return NAME


def test_no_command_prints_them(here: Card, name: str, udp_port: int) -> None:
    escaped = name.encode("unicode_escape").decode()
    port = str(udp_port)
    for command in (
        ["interfaces"],
        ["memberships"],
        ["plan", G4, port],
        ["demo"],
        ["doctor", G4, "--port", port, "--seconds", "0"],
        ["listen", G4, "--port", port, "--timeout", "0.1"],
        ["listen", G4, "--port", port, "--interface", name + "y"],
        ["send", f"{G4}%{name}", "x", "--port", port],
    ):
        done = cli(*command, host=here.host)
        assert is_clean(done.out + done.err), command
        assert escaped in done.out + done.err or command[0] in ("demo", "doctor"), command


def test_json_has_them_exactly(here: Card, name: str) -> None:
    for command in ("interfaces", "memberships"):
        done = cli(command, "--json", host=here.host)
        assert is_clean(done.out)
        key = "name" if command == "interfaces" else "interface"
        assert name in [json.loads(line)[key] for line in done.lines]
