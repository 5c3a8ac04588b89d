"""examples/group_chat.py, two at a time."""

import json
import sys
from pathlib import Path

import pytest
from cli.program import Running, run, running
from namespaces.network import Card, Network, wait_until

EXAMPLE = Path(__file__).parents[3] / "examples" / "group_chat.py"
GROUP = {4: "239.255.67.72", 6: "ff15::4d43:1"}


def start(name: str, port: int, *options: str) -> list[str]:
    return [sys.executable, str(EXAMPLE), "--name", name, "--port", str(port), *options]


def talk(ada: Running, grace: Running) -> None:
    for chat in (ada, grace):
        chat.wait_for("leaves\n", "err")
    ada.write("schönen Tag\n".encode())
    grace.wait_for("Ada: schönen Tag\n")
    grace.write(b"you too\n")
    ada.wait_for("Grace: you too\n")
    for chat, heard in ((ada, "Grace: you too\n"), (grace, "Ada: schönen Tag\n")):
        done = chat.finish()
        assert (done.code, done.out) == (0, heard)  # and nothing of its own
        assert done.err.count("\n") == 1


def test_two_on_one_machine_read_each_other(udp_port: int) -> None:
    with (
        running(*start("Ada", udp_port, "--interface", "lo")) as ada,
        running(*start("Grace", udp_port, "--interface", "lo")) as grace,
    ):
        talk(ada, grace)


@pytest.mark.parametrize("version", GROUP)
def test_two_on_a_network_read_each_other(
    here: Card, there: Card, udp_port: int, version: int
) -> None:
    options = ("--interface", "eth0", "--group", GROUP[version])
    with (
        running(*start("Ada", udp_port, *options), host=here.host) as ada,
        running(*start("Grace", udp_port, *options), host=there.host) as grace,
    ):
        talk(ada, grace)


def test_strangers_cannot_disturb_it(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(GROUP[4], udp_port)
    messages = [
        b"\xff",
        b"[1]",
        b'"name"',
        b"[" * 60000,
        b'{"name": 1}',
        json.dumps({"name": "\x1b[2J", "text": "one\ntwo\ud800"}).encode(),
        json.dumps({"name": "Eve", "text": "done"}).encode(),
    ]
    with running(*start("Ada", udp_port, "--interface", "eth0"), host=here.host) as ada:
        wait_until(lambda: here.host.has_joined(GROUP[4]), "it has joined")
        talker.send(*messages)
        ada.wait_for("Eve: done\n")
        assert ada.finish().out == "?[2J: one?two?\nEve: done\n"


def test_an_interruption_ends_it_quietly(here: Card, udp_port: int) -> None:
    with running(*start("Ada", udp_port, "--interface", "eth0"), host=here.host) as ada:
        ada.wait_for("leaves\n", "err")
        done = ada.interrupt()
    assert done.code == 0
    assert done.err.count("\n") == 1


def test_no_network_is_an_error_in_one_line(network: Network, udp_port: int) -> None:
    done = run(*start("Ada", udp_port), host=network.host())
    assert done.code == 1
    assert "default route" in done.err
    assert done.err.count("\n") == 1
