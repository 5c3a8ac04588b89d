"""examples/listen_mdns.py, beside a real daemon and against messages made to break it."""

import importlib.util
import shutil
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cli.program import run, running
from hypothesis import given, strategies as st
from namespaces.network import Card, Network

EXAMPLE = Path(__file__).parents[3] / "examples" / "listen_mdns.py"
PORT = 5353

# In a world of its own: in /run it keeps a file by which it knows that another one is running, and
# it gives that folder to the user "avahi", whom an ordinary user's namespace does not have.
AVAHI = """\
mount -t tmpfs tmpfs /run
mount --bind passwd /etc/passwd
mount --bind group /etc/group
exec avahi-daemon --no-chroot --no-rlimits --no-drop-root --debug -f "$PWD/settings"
"""
AVAHI_SETTINGS = """\
[server]
host-name=printer
allow-interfaces=eth0
enable-dbus=no
[publish]
publish-workstation=yes
publish-hinfo=no
"""


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("listen_mdns", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mdns = load_example()


@pytest.mark.skipif(shutil.which("avahi-daemon") is None, reason="avahi-daemon is not installed")
@pytest.mark.parametrize("neighbours", [True, False], ids=["across a cable", "on the same host"])
def test_it_learns_what_a_daemon_offers_that_has_the_port(
    here: Card, there: Card, tmp_path: Path, neighbours: bool
) -> None:
    (tmp_path / "settings").write_text(AVAHI_SETTINGS)
    (tmp_path / "passwd").write_text("root:x:0:0:::\navahi:x:0:0:::\n")
    (tmp_path / "group").write_text("root:x:0:\navahi:x:0:\n")
    daemon = ("unshare", "--mount", "sh", "-ec", AVAHI)
    with running(*daemon, host=there.host, cwd=tmp_path) as avahi:
        avahi.wait_for("Server startup complete", "err")
        assert PORT in there.host.bound_udp_ports()
        host = here.host if neighbours else there.host
        with running(sys.executable, str(EXAMPLE), host=host) as example:
            example.wait_for("eth0: there are services of the kind _workstation._tcp.local")
            example.wait_for("eth0: _workstation._tcp.local has printer [")
            example.wait_for("._workstation._tcp.local is at printer.local port 9")
            example.wait_for(f"eth0: printer.local is at {there.ipv4}")
            done = example.interrupt()
    assert (done.code, done.err) == (0, "")


def test_it_asks_out_of_every_interface_and_reads_answers_of_both_kinds(
    network: Network, here: Card, there: Card
) -> None:
    _, beyond = network.link(here.host, "eth1", network.host("c"), "eth0")
    listeners = [card.listener(group, PORT) for card in (there, beyond) for group in mdns.GROUPS]
    with running(sys.executable, str(EXAMPLE), host=here.host) as example:
        questions = [listener.receive() for listener in listeners]
        assert [question.data for question in questions] == [
            mdns.make_query(mdns.SERVICE_TYPES)
        ] * 4
        assert {question.hop_limit for question in questions} == {255}
        # One answers to the group, as mDNS does, the other to whoever asked.
        there.talker("224.0.0.251", PORT).send(answer("_one._tcp.local"))
        example.wait_for("eth0: there are services of the kind _one._tcp.local")
        asker = (questions[2].source, questions[2].source_port)
        listeners[2].socket.sendto(answer("_two._udp.local"), asker)
        example.wait_for("eth1: there are services of the kind _two._udp.local")
        asked = [listeners[2].receive_data() for _ in range(2)]
        assert asked == [mdns.make_query(name) for name in ("_one._tcp.local", "_two._udp.local")]
        # Neither this nor anything else that strangers send ends it.
        there.talker("224.0.0.251", PORT).send(b"\xff" * 50, answer("\x1b[2J"))
        example.wait_for("sends what is not DNS")
        example.wait_for("there are services of the kind ?[2J")
        assert example.interrupt().err == ""


def test_an_interface_that_does_not_exist_is_an_error_in_one_line(network: Network) -> None:
    done = run(sys.executable, str(EXAMPLE), "--interface", "nope0", host=network.host())
    assert done.code == 1
    assert "nope0" in done.err
    assert done.err.count("\n") == 1


# --- The parser ----------------------------------------------------------------------------------


def name(text: str) -> bytes:
    labels = text.encode().split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def response(*records: bytes, questions: bytes = b"") -> bytes:
    return (
        struct.pack("!6H", 0, 0x8400, bool(questions), len(records), 0, 0)
        + questions
        + b"".join(records)
    )


def record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 120, len(data)) + data


def answer(kind: str) -> bytes:
    return response(record(name(mdns.SERVICE_TYPES), mdns.PTR, name(kind)))


def test_records_are_read() -> None:
    message = response(
        record(name("a.local"), mdns.A, bytes([10, 0, 0, 1])),
        record(name("a.local"), mdns.AAAA, bytes(15) + b"\1"),
        record(name("s._x._tcp.local"), mdns.SRV, struct.pack("!3H", 0, 0, 80) + name("a.local")),
        record(name("a.local"), 16, b"\3a=b"),
        questions=name("q.local") + struct.pack("!HH", mdns.PTR, 1),
    )
    assert mdns.parse_answers(message) == [
        ("a.local", mdns.A, "10.0.0.1"),
        ("a.local", mdns.AAAA, "::1"),
        ("s._x._tcp.local", mdns.SRV, "a.local port 80"),
    ]


def test_names_may_end_in_a_pointer() -> None:
    owner = name("_x._tcp.local")
    message = response(record(owner, mdns.PTR, b"\4here\xc0\x0c"))
    assert mdns.parse_answers(message) == [("_x._tcp.local", mdns.PTR, "here._x._tcp.local")]


@pytest.mark.parametrize(
    "owner",
    [
        b"\xc0\x0c",  # to itself
        b"\xc0\x0e\xc0\x0c",  # to each other
        b"\1a\xc0\x0c",  # round and round, longer each time
        b"\xc0\xff",  # beyond the end
        b"\x80",  # no length, no pointer
        b"\x3f" + b"a" * 10,  # cut off
        (b"\x3f" + b"a" * 63) * 5 + b"\0",  # too long
    ],
)
def test_names_made_to_break_a_parser_are_refused(owner: bytes) -> None:
    with pytest.raises(mdns.MalformedMessage):
        mdns.parse_answers(response(record(owner, mdns.PTR, name("x"))))


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_malformed(data: bytes) -> None:
    for message in (data, data[:2] + b"\x84\0" + data[4:], response(data), response(data, data)):
        try:
            mdns.parse_answers(message)
        except mdns.MalformedMessage:
            pass


@given(st.data())
def test_a_message_cut_anywhere_is_malformed(data: st.DataObject) -> None:
    whole = response(record(name("a.local"), mdns.A, bytes(4)), record(name("b"), mdns.A, bytes(4)))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(mdns.MalformedMessage):
        mdns.parse_answers(cut)
