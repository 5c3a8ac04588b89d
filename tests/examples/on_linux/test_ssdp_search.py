"""examples/ssdp_search.py, with devices that we play ourselves."""

import sys
from pathlib import Path

from cli.program import run, running
from namespaces.network import Card, Network

EXAMPLE = Path(__file__).parents[3] / "examples" / "ssdp_search.py"
GROUP, PORT = "239.255.255.250", 1900


def answer(usn: str, status: str = "200 OK") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nCACHE-CONTROL: max-age=1800\r\nST: ssdp:all\r\nUSN: {usn}\r\n"
        "location: http://10.77.1.2/device.xml\r\nServer:Linux/6 UPnP/1.1 test/1\r\n\r\n"
    ).encode()


def test_it_collects_the_answers_from_every_interface(
    network: Network, here: Card, there: Card
) -> None:
    _, beyond = network.link(here.host, "eth1", network.host("c"), "eth0")
    devices = [card.listener(GROUP, PORT) for card in (there, beyond)]
    with running(sys.executable, str(EXAMPLE), "--wait", "1", host=here.host) as example:
        for number, device in enumerate(devices):
            question = device.receive()
            lines = question.data.decode().split("\r\n")
            assert lines[0] == "M-SEARCH * HTTP/1.1"
            assert {"HOST: 239.255.255.250:1900", "MX: 1", "ST: ssdp:all"} <= set(lines)
            assert 'MAN: "ssdp:discover"' in lines
            assert lines[-2:] == ["", ""]
            for data in (
                b"\xff\0\x1b[2J",
                answer("uuid:refused", "500 No"),
                answer(f"uuid:device-{number}\x1b[2J"),
                answer(f"uuid:device-{number}\x1b[2J"),
            ):
                device.socket.sendto(data, (question.source, question.source_port))
        done = example.finish()
    assert (done.code, done.err) == (0, "")
    assert sorted(done.lines[::4]) == [f"{there.ipv4} by eth0", f"{beyond.ipv4} by eth1"]
    assert done.out.count("  LOCATION  http://10.77.1.2/device.xml") == 2
    assert done.out.count("  SERVER    Linux/6 UPnP/1.1 test/1") == 2
    for number in range(2):
        assert done.out.count(f"  USN       uuid:device-{number}?[2J") == 1
    assert "refused" not in done.out


def test_silence_is_told(here: Card) -> None:
    arguments = ("--wait", "0", "--interface", "eth0")
    done = run(sys.executable, str(EXAMPLE), *arguments, host=here.host)
    assert (done.code, done.out, done.err) == (1, "", "nobody has answered\n")
