"""Help, wrong usage, and what the program says then."""

import sys

import pytest
from cli.program import cli, run

import trio_mcast
from trio_mcast.__main__ import main

LOOPBACK = next(i.name for i in trio_mcast.list_interfaces() if i.is_loopback)
COMMANDS = ["listen", "send", "interfaces", "classify", "plan", "demo"]


def test_without_arguments_it_shows_what_it_can_do() -> None:
    shown = cli()
    assert shown.code == 0
    assert shown.err == ""
    for command in COMMANDS:
        assert command in shown.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_by_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(f"Usage: trio-mcast {command}")
    assert f"    trio-mcast {command}" in shown.out


def test_the_version_is_that_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == trio_mcast.__version__


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_the_extra_it_says_in_one_line_how_to_install_it(missing: str) -> None:
    code = (
        "import sys; sys.modules[sys.argv[1]] = None; from trio_mcast.__main__ import main; "
        "sys.exit(main(['demo']))"
    )
    shown = run(sys.executable, "-c", code, missing)
    assert shown.code == 2
    assert shown.out == ""
    assert "pip install 'trio-mcast[cli]'" in shown.err
    assert shown.err.count("\n") == 1


def test_the_library_does_not_need_the_extra() -> None:
    code = (
        "import sys; sys.modules['cyclopts'] = sys.modules['rich'] = None; "
        "import trio_mcast, trio_mcast.lowlevel, trio_mcast.__main__"
    )
    assert run(sys.executable, "-c", code).code == 0


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("lisen", "lisen"),
        ("listen", "GROUP is missing"),
        ("listen 239.1.2.3", "--port is missing"),
        ("listen 239.1.2.3 --port", "--port requires an argument"),
        ("listen 239.1.2.3:5000 --port 5000", "write 239.1.2.3 and --port 5000"),
        ("doctor udp://@239.1.2.3:5000", "write 239.1.2.3 and --port 5000"),
        ("send [ff15::1]:5000%eth0 x --port 1", "write ff15::1%eth0 and --port 5000"),
        ("listen 239.1.2.3 --port 70000", "70000"),
        ("listen 239.1.2.3 --port 0", "0"),
        ("listen 239.1.2.3 --port http", "http"),
        ("listen 239.1.2 --port 5000", "239.1.2"),
        ("listen 10.0.0.1@239.1.2 --port 5000", "'239.1.2'"),
        ("listen 10.0.0.1 --port 5000", "10.0.0.1"),
        ("listen 239.1.2.3%nope0 --port 5000", "nope0"),
        ("listen 239.1.2.3 --port 5000 --interface nope0", "nope0"),
        ("listen 239.1.2.3 --port 5000 --count 0", "0"),
        ("listen 239.1.2.3 --port 5000 --timeout nan", "nan"),
        ("listen 239.1.2.3 --port 5000 --json --hexdump", "--hexdump"),
        ("listen 239.1.2.3 --port 5000 --packet-info colour", "colour"),
        ("listen 239.1.2.3 --port 5000 --receive-buffer -1", "-1"),
        ("listen 232.1.2.3 --port 5000", "SOURCE@232.1.2.3"),
        ("listen ff3e::8000:1 --port 5000", "SOURCE@ff3e::8000:1"),
        ("listen 10.0.0.1@ff15::1 --port 5000", "10.0.0.1"),
        ("listen 232.1.1.1 ff15::1 --source 10.0.0.1 --port 5000", "ff15::1"),
        ("listen 239.1.1.1 10.0.0.1@239.1.1.1 --port 5000", "239.1.1.1"),
        ("send 239.1.2.3 hello", "--port is missing"),
        ("send 239.1.2.3 hello --port 5000 --interface nope0", "nope0"),
        ("send 239.1.2.3 hello --port 5000 --interface all --interface {lo}", "all"),
        ("send 239.1.2.3 hello --port 5000 --interface {lo} --hop-limit 256", "256"),
        ("send 239.1.2.3 hello --port 5000 --interface {lo} --traffic-class -1", "-1"),
        ("send 239.1.2.3 hello --port 5000 --interface {lo} --source-port 65536", "65536"),
        ("send 239.1.2.3 hello --port 5000 --interface {lo} --interval -1", "-1"),
        ("send 239.1.2.3 hello --port 5000 --interface {lo} --count -2", "-2"),
        ("send 239.1.2.3 hello --port 5000 --interface {lo} --file x", "--file"),
        ("send 239.1.2.3 --port 5000 --interface {lo} --count 2", "2"),
        ("send 239.1.2.3 --port 5000 --interface {lo} --file no-such-file", "no-such-file"),
        ("send 239.1.2.3 --port 5000 --interface {lo} --binary --size 0", "0"),
        ("send 1.2.3.4@239.1.2.3 hello --port 5000 --source 1.2.3.5", "1.2.3.5"),
        ("send ff0f::1 hello --port 5000 --interface {lo}", "ff0f::1"),
        ("classify 300.1.2.3", "300.1.2.3"),
        ("plan 239.1.2.3 70000", "70000"),
        ("plan 239.1.2.3 5000 --platform vms", "vms"),
        ("plan 239.1.2.3 5000 --interface nope0", "nope0"),
        ("plan 239.1.2.3 5000 --hop-limit 3", "--hop-limit"),
        ("plan 239.1.2.3 5000 --sender --packet-info all", "--packet-info"),
        ("plan ff02::1:2 5000 --platform windows --packet-info timestamp", "timestamp"),
    ],
)
def test_what_cannot_be_meant_is_named_in_one_line(
    arguments: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.format(lo=LOOPBACK).split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    message, *hints = shown.err.splitlines()
    assert message.startswith("trio-mcast: ")
    assert value in message
    assert all(hint.startswith("  ") for hint in hints)


def test_a_line_break_in_an_argument_does_not_break_the_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["listen", "239.1.2.3%\x1b[2J\nevil", "--port", "5000"]) == 2
    message = capsys.readouterr().err
    assert "evil" in message.splitlines()[0]
    assert "\x1b" not in message
