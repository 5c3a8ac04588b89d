"""`trio-mcast listen` between hosts."""

import json
import re
import shutil
import signal
import socket
import subprocess

import pytest
from cli.program import PROGRAM, cli, listening, running
from namespaces.network import Card, Network, wait_until

G4, G6 = "233.252.0.1", "ff15::4d43:1"


@pytest.mark.parametrize("group", [G4, G6])
def test_it_shows_what_another_host_sends(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    with listening(group, "--port", str(udp_port), host=here.host) as listener:
        sent = cli(
            "send", group, "hello", "--port", str(udp_port), "--interface", "eth0", host=there.host
        )
        assert sent.code == 0
        assert sent.out == ""
        assert f"sent 1 datagram, 5 bytes to {group} port {udp_port} by eth0" in sent.err
        sent_from = sent.err.strip().rpartition(":")[2]
        listener.wait_for("hello\n")
        done = listener.interrupt()
    source = there.ipv4 if group == G4 else f"[{there.ipv6}]"
    time, *rest = done.lines[0].split("  ")
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6}", time)
    assert rest == [f"{group}%eth0", f"{source}:{sent_from}", "5 bytes", "hello"]
    assert done.code == 0
    assert done.err.splitlines()[0] == f"listening to {group} port {udp_port} on eth0"
    assert re.fullmatch(r"1 datagram, 5 bytes in \d+\.\d s, none lost", done.err.splitlines()[-1])


def test_groups_of_both_families_can_be_heard_at_once(
    here: Card, there: Card, udp_port: int
) -> None:
    arguments = (G4, G6, "--port", str(udp_port), "--count", "2", "--quiet")
    with running(*PROGRAM, "listen", *arguments, host=here.host) as listener:
        for group in (G4, G6):
            wait_until(lambda group=group: here.host.has_joined(group), f"{group} is joined")
            there.talker(group, udp_port).send(b"one")
        done = listener.finish()
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_is_an_object_a_line_and_nothing_else(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(G4, udp_port, hop_limit=7, traffic_class=0xB8)
    with listening(
        G4,
        "--port",
        str(udp_port),
        "--json",
        "--count",
        "2",
        "--packet-info",
        "all",
        host=here.host,
    ) as listener:
        talker.send("Grüße\n".encode(), b"\xff\0")
        done = listener.finish()
    assert done.code == 0
    first, second = map(json.loads, done.lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("time"))
    assert first.pop("timestamp") > 1_600_000_000_000_000_000
    assert first == {
        "group": G4,
        "port": udp_port,
        "interface": "eth0",
        "source": there.ipv4,
        "source_port": talker.port,
        "size": 8,
        "text": "Grüße\n",
        "data": "4772c3bcc39f650a",
        "hop_limit": 7,
        "traffic_class": 0xB8,
    }
    assert (second["text"], second["data"]) == (None, "ff00")


def test_packet_information_is_null_unless_asked_for(
    here: Card, there: Card, udp_port: int
) -> None:
    with listening(G4, "--port", str(udp_port), "--json", "-n", "1", host=here.host) as listener:
        there.talker(G4, udp_port).send(b"x")
        shown = json.loads(listener.finish().out)
    assert [shown[name] for name in ("hop_limit", "timestamp", "traffic_class")] == [None] * 3


def test_packet_information_is_shown_to_people_too(here: Card, there: Card, udp_port: int) -> None:
    with listening(
        G6,
        "-p",
        str(udp_port),
        "--packet-info",
        "hop-limit",
        "--packet-info",
        "traffic-class",
        "-n",
        "1",
        host=here.host,
    ) as listener:
        there.talker(G6, udp_port, hop_limit=3, traffic_class=0x48).send(b"x")
        assert "  1 byte  hop limit 3  class 0x48  x\n" in listener.finish().out


def test_no_stranger_gets_to_control_the_terminal(here: Card, there: Card, udp_port: int) -> None:
    with listening(G4, "-p", str(udp_port), "-n", "4", host=here.host) as listener:
        there.talker(G4, udp_port).send(
            b"two\r\nlines\t", b"\x1b[2Jclear", b"\xe2\x80\xaereversed", b"z" * 40 + b"\0"
        )
        done = listener.finish()
    ends = [re.split(r"\d+ bytes  ", line)[1] for line in done.lines]
    assert ends == [
        r"two\r\nlines\t",
        b"\x1b[2Jclear".hex(" "),
        b"\xe2\x80\xaereversed".hex(" "),
        "7a " * 32 + "... 9 more",
    ]


def test_a_hexdump_has_every_byte(here: Card, there: Card, udp_port: int) -> None:
    with listening(G4, "-p", str(udp_port), "-x", "-n", "1", host=here.host) as listener:
        there.talker(G4, udp_port).send(b"0123456789abcdefg\n")
        done = listener.finish()
    assert done.lines[1:] == [
        "  0000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|",
        "  0010  67 0a                                             |g.|",
    ]


@pytest.mark.parametrize("group", ["232.1.2.3", "ff3e::8000:1"])
def test_a_source_before_the_group_is_the_only_one_heard(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    wanted = there.ipv4 if group[0] == "2" else there.ipv6
    other = "10.77.1.9" if group[0] == "2" else "fd77:0:0:1::9"
    there.add_address(other + ("/24" if group[0] == "2" else "/64"))
    with listening(f"{wanted}@{group}", "-p", str(udp_port), "-n", "1", host=here.host) as listener:
        there.talker(group, udp_port, source=other).send(b"unwanted")
        there.talker(group, udp_port, source=wanted).send(b"wanted")
        done = listener.finish()
    assert done.out.endswith("wanted\n")
    assert "unwanted" not in done.out
    assert f"listening to {group} port {udp_port} from {wanted} on eth0" in done.err


def test_sources_of_a_group_named_twice_add_up(here: Card, there: Card, udp_port: int) -> None:
    there.add_address("10.77.1.9/24")
    with listening(
        f"{there.ipv4}@{G4}", f"10.77.1.9@{G4}", "-p", str(udp_port), "-n", "2", host=here.host
    ) as listener:
        for source in (there.ipv4, "10.77.1.9"):
            there.talker(G4, udp_port, source=source).send(source.encode())
        done = listener.finish()
    assert [line.split()[-1] for line in done.lines] == [there.ipv4, "10.77.1.9"]


@pytest.mark.parametrize("how", ["zone", "option"])
def test_it_listens_only_on_the_interface_named(
    network: Network, here: Card, there: Card, udp_port: int, how: str
) -> None:
    other, beyond = network.link(here.host, "eth1", network.host("c"), "eth0")
    arguments = [f"{G4}%eth1"] if how == "zone" else [G4, "--interface", other.ipv4]
    with listening(*arguments, "-p", str(udp_port), "-n", "1", host=here.host) as listener:
        there.talker(G4, udp_port).send(b"unwanted")
        beyond.talker(G4, udp_port).send(b"wanted")
        done = listener.finish()
    assert f"{G4}%eth1" in done.out
    assert "unwanted" not in done.out


def test_what_this_host_sends_is_left_out_on_request(
    here: Card, there: Card, udp_port: int
) -> None:
    with listening(G4, "-p", str(udp_port), "--no-loopback", "-n", "1", host=here.host) as listener:
        here.talker(G4, udp_port).send(b"own")
        there.talker(G4, udp_port).send(b"others'")
        done = listener.finish()
    assert done.out.endswith("others'\n")
    assert len(done.lines) == 1


def test_one_group_that_cannot_be_joined_leaves_none_joined(here: Card, udp_port: int) -> None:
    refused = cli("listen", G4, f"{G6}%eth7", "--port", str(udp_port), host=here.host)
    assert refused.code == 2
    assert "eth7" in refused.err
    assert "listening" not in refused.err


def test_where_a_group_cannot_be_joined_it_tells_what_to_do(
    network: Network, here: Card, udp_port: int
) -> None:
    network.link(here.host, "eth1", network.host("c"), "eth0")
    with here.host.socket(socket.AF_INET) as selfish:  # it does not share the port
        selfish.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
        selfish.bind((G4, udp_port))
        with listening(G4, "-p", str(udp_port), host=here.host) as listener:
            done = listener.interrupt()
    first, second, remedy, *_ = done.err.splitlines()
    assert first == f"listening to {G4} port {udp_port} on eth0"
    assert second.startswith(f"{G4} on eth1: failed (bind to {G4} port {udp_port}: ")
    assert "SO_REUSEADDR" in remedy


def test_a_group_that_can_be_joined_nowhere_is_an_error_with_advice(
    here: Card, udp_port: int
) -> None:
    with here.host.socket(socket.AF_INET) as selfish:
        selfish.bind((G4, udp_port))
        refused = cli("listen", G4, "-p", str(udp_port), host=here.host)
    assert refused.code == 1
    message, remedy = refused.err.splitlines()
    assert message == f"trio-mcast: bind to {G4} port {udp_port}: Address already in use"
    assert remedy.startswith("  A program that does not share the port holds it.")


def test_it_tells_when_an_interface_goes_and_comes_back(
    here: Card, there: Card, udp_port: int
) -> None:
    with listening(G4, "-p", str(udp_port), host=here.host) as listener:
        here.down()
        listener.wait_for(f"{G4} on eth0: waiting\n", "err")
        here.up()
        listener.wait_for(f"{G4} on eth0: joined\n", "err")
        wait_until(lambda: here.host.has_joined(G4), "it is joined")
        there.talker(G4, udp_port).send(b"hello again")
        listener.wait_for("hello again\n")


# --- How it ends ---------------------------------------------------------------------------------


def test_hearing_nothing_in_time_is_code_1(here: Card, udp_port: int) -> None:
    done = cli("listen", G4, "--port", str(udp_port), "--timeout", "0.1", host=here.host)
    assert done.code == 1
    assert done.out == ""
    assert "0 datagrams, 0 bytes" in done.err
    assert "firewall" in done.err


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--count", "2"], 1)])
def test_hearing_less_than_asked_for_in_time_is_code_1(
    here: Card, there: Card, udp_port: int, options: list[str], code: int
) -> None:
    with listening(G4, "-p", str(udp_port), "-t", "1", *options, host=here.host) as listener:
        there.talker(G4, udp_port).send(b"one")
        done = listener.finish()
    assert len(done.lines) == 1
    assert done.code == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_ends_it_quietly(here: Card, udp_port: int, number: int) -> None:
    with listening(G4, "-p", str(udp_port), host=here.host) as listener:
        listener.process.send_signal(number)
        done = listener.finish()
    assert done.code == 1
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "0 datagrams" in done.err


def test_a_full_disk_is_an_error_in_one_line(here: Card, there: Card, udp_port: int) -> None:
    with (
        open("/dev/full", "wb") as full,
        listening(G4, "-p", str(udp_port), host=here.host, stdout=full) as listener,
    ):
        there.talker(G4, udp_port).send(b"one")
        done = listener.finish()
    assert done.code == 1
    assert done.err.splitlines()[-1] == "trio-mcast: No space left on device"


def test_losses_are_counted(here: Card, there: Card, udp_port: int) -> None:
    with listening(G4, "-p", str(udp_port), "--receive-buffer", "5000", host=here.host) as listener:
        listener.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _is_stopped(listener.process), "it has stopped")
        there.talker(G4, udp_port).send(*[b"x" * 100] * 50)
        listener.process.send_signal(signal.SIGCONT)
        listener.wait_for("x\n")
        done = listener.interrupt()
    lost = int(re.findall(r"(\d+) lost: the kernel's buffer of [\d,]+ bytes was full", done.err)[0])
    assert len(done.lines) + lost == 50
    assert lost > 0


def _is_stopped(process: subprocess.Popen[bytes]) -> bool:
    with open(f"/proc/{process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_it_waits_where_there_is_no_network_yet(network: Network, udp_port: int) -> None:
    lonely = network.host()
    with listening(G4, "--port", str(udp_port), host=lonely) as listener:
        done = listener.interrupt()
    assert "no interface is up and fit for IPv4 yet" in done.err
    assert "--interface lo" in done.err
    assert done.code == 1


def test_loopback_will_do_when_it_is_named(network: Network, udp_port: int) -> None:
    lonely = network.host()
    with listening(G4, "-p", str(udp_port), "-i", "lo", "-n", "1", host=lonely) as listener:
        assert cli("send", G4, "hello", "-p", str(udp_port), "-i", "lo", host=lonely).code == 0
        assert listener.finish().out.endswith("hello\n")


# --- Other programs ------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_it_hears_socat(here: Card, there: Card, udp_port: int) -> None:
    with listening(G4, "-p", str(udp_port), "-n", "1", host=here.host) as listener:
        there.host.command(
            "socat",
            "-u",
            "-",
            f"UDP4-DATAGRAM:{G4}:{udp_port},ip-multicast-if={there.ipv4}",
            input="from socat",
        )
        assert listener.finish().out.endswith("10 bytes  from socat\n")
