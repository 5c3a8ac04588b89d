"""`trio-mcast send` between hosts."""

import shutil
import signal
from pathlib import Path

import pytest
from cli.program import PROGRAM, cli, run, running
from namespaces.network import Card, Network, wait_until

G4, G6 = "233.252.0.1", "ff15::4d43:1"


@pytest.mark.parametrize("group", [G4, G6])
def test_a_message_goes_out_as_it_was_asked_to(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)
    sent = cli(
        "send",
        group,
        "Grüße",
        "--port",
        str(udp_port),
        "--interface",
        "eth0",
        "--hop-limit",
        "9",
        "--traffic-class",
        "0xb8",
        "--source-port",
        "4321",
        host=here.host,
    )
    assert (sent.code, sent.out) == (0, "")
    heard = listener.receive()
    assert heard.data == "Grüße".encode()
    assert (heard.hop_limit, heard.traffic_class, heard.source_port) == (9, 0xB8, 4321)
    source = here.ipv4 if group == G4 else f"[{here.ipv6}]"
    expected = f"sent 1 datagram, 7 bytes to {group} port {udp_port} by eth0 from {source}:4321\n"
    assert sent.err == expected


def test_each_line_of_standard_input_is_a_datagram(here: Card, there: Card, udp_port: int) -> None:
    listener = there.listener(G4, udp_port)
    sent = cli(
        "send", f"{G4}%eth0", "--port", str(udp_port), host=here.host, input=b"one\r\n\n\xff\ntwo"
    )
    assert sent.code == 0
    assert [listener.receive_data() for _ in range(4)] == [b"one", b"", b"\xff", b"two"]
    assert "sent 4 datagrams, 7 bytes" in sent.err


def test_lines_are_sent_as_they_come(here: Card, there: Card, udp_port: int) -> None:
    listener = there.listener(G4, udp_port)
    with running(
        *PROGRAM, "send", G4, "-p", str(udp_port), "-i", "eth0", "-q", host=here.host
    ) as sender:
        for line in (b"one", b"two"):
            sender.write(line + b"\n")
            assert listener.receive_data() == line
        done = sender.finish()
    assert (done.code, done.out, done.err) == (0, "", "")


def test_binary_input_is_cut_into_pieces(
    here: Card, there: Card, udp_port: int, tmp_path: Path
) -> None:
    listener = there.listener(G4, udp_port)
    data = bytes(range(256)) * 10
    film = tmp_path / "film"
    film.write_bytes(data)
    arguments = ("send", G4, "-p", str(udp_port), "-i", "eth0", "--binary", "--size", "1000")
    for where in ({"input": data}, {"arguments": ("--file", str(film))}):
        more = where.get("arguments", ())
        assert cli(*arguments, *more, host=here.host, input=where.get("input", b"")).code == 0
        pieces = [listener.receive_data() for _ in range(3)]
        assert [len(piece) for piece in pieces] == [1000, 1000, 560]
        assert b"".join(pieces) == data


def test_a_message_can_be_repeated(here: Card, there: Card, udp_port: int) -> None:
    listener = there.listener(G4, udp_port)
    sent = cli(
        "send",
        G4,
        "tick",
        "-p",
        str(udp_port),
        "-i",
        "eth0",
        "-n",
        "3",
        "--interval",
        "0.02",
        host=here.host,
    )
    assert sent.code == 0
    assert [listener.receive_data() for _ in range(3)] == [b"tick"] * 3


@pytest.mark.parametrize("group", [G4, G6])
def test_a_copy_leaves_by_every_interface_on_request(
    network: Network, here: Card, there: Card, udp_port: int, group: str
) -> None:
    _, beyond = network.link(here.host, "eth1", network.host("c"), "eth0")
    listeners = [card.listener(group, udp_port) for card in (there, beyond)]
    for choice in (["-i", "all"], ["-i", "eth0", "-i", "eth1"]):
        assert cli("send", group, "x", "-p", str(udp_port), *choice, host=here.host).code == 0
        assert [listener.receive_data() for listener in listeners] == [b"x", b"x"]


def test_the_source_before_the_group_is_sent_from(here: Card, there: Card, udp_port: int) -> None:
    here.add_address("10.77.1.9/24")
    listener = there.listener(G4, udp_port)
    sent = cli("send", f"10.77.1.9@{G4}%eth0", "x", "-p", str(udp_port), host=here.host)
    assert sent.code == 0
    assert listener.receive().source == "10.77.1.9"


def test_this_host_does_not_hear_what_is_sent_without_loopback(
    here: Card, there: Card, udp_port: int
) -> None:
    own, others = here.listener(G4, udp_port), there.listener(G4, udp_port)
    for message, option in (("one", ["--no-loopback"]), ("two", [])):
        cli("send", G4, message, "-p", str(udp_port), "-i", "eth0", *option, host=here.host)
    assert [others.receive_data(), others.receive_data()] == [b"one", b"two"]
    assert own.receive_data() == b"two"


def test_without_a_default_route_it_asks_for_an_interface(here: Card, udp_port: int) -> None:
    refused = cli("send", G4, "x", "-p", str(udp_port), host=here.host)
    assert refused.code == 2
    assert "--interface" in refused.err
    here.host.ip(f"route add default via {here.ipv4}")
    assert cli("send", G4, "x", "-p", str(udp_port), host=here.host).code == 0


def test_what_the_kernel_refuses_is_code_1_with_advice(here: Card, udp_port: int) -> None:
    arguments = ("send", G4, "-p", str(udp_port), "-i", "eth0")
    refused = cli(*arguments, host=here.host, input=b"small\n" + b"x" * 70000)
    assert refused.code == 1
    summary, message, *advice = refused.err.splitlines()
    assert summary.startswith("sent 1 datagram, 5 bytes")
    assert message.endswith("Message too long")
    assert any("65,507" in line for line in advice)


def test_nothing_to_send_is_code_1(here: Card, udp_port: int) -> None:
    done = cli("send", G4, "-p", str(udp_port), "-i", "eth0", host=here.host)
    assert done.code == 1
    assert "sent 0 datagrams" in done.err


@pytest.mark.parametrize(("input", "code"), [(b"one\n", 0), (b"", 1)])
def test_an_interruption_ends_it_quietly_while_it_waits_for_input(
    here: Card, there: Card, udp_port: int, input: bytes, code: int
) -> None:
    listener = there.listener(G4, udp_port)
    with running(*PROGRAM, "send", G4, "-p", str(udp_port), "-i", "eth0", host=here.host) as sender:
        sender.write(input)
        if input:
            assert listener.receive_data() == b"one"
        else:
            wait_until(sender.catches_sigterm, "it is ready")
        sender.process.send_signal(signal.SIGINT)
        assert sender.process.wait(5) == code  # its standard input is still open
        done = sender.finish()
    assert done.err.startswith(f"sent {len(input.split())} datagram")
    assert done.err.count("\n") == 1


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_socat_hears_it(here: Card, there: Card, udp_port: int) -> None:
    address = f"UDP4-RECV:{udp_port},ip-add-membership={G4}:eth0"
    with running("socat", "-u", address, "-", host=there.host) as socat:
        wait_until(lambda: there.host.has_joined(G4), "socat has joined")
        cli("send", G4, "to socat", "-p", str(udp_port), "-i", "eth0", host=here.host)
        socat.wait_for("to socat")


def test_it_is_installed_as_a_program_too(network: Network, udp_port: int) -> None:
    program = Path(PROGRAM[0]).with_name("trio-mcast")
    if not program.exists():
        pytest.skip("the package is not installed, only found")
    here, there = network.pair()
    listener = there.listener(G4, udp_port)
    sent = run(str(program), "send", G4, "x", "-p", str(udp_port), "-i", "eth0", host=here.host)
    assert sent.code == 0
    assert listener.receive_data() == b"x"
