"""Output that nobody reads, and readers who go: neither keeps a program from ending."""

import fcntl
import json
import os
import re
import signal
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cli.program import PROGRAM, Finished, Running, listening, running
from namespaces.network import Card, Host, wait_until
from patience import LONG

G4 = "233.252.0.1"
Pipe: TypeAlias = tuple[FileIO, FileIO]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe as small as can be, to read from and to write to."""
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as reader, open(theirs, "wb", buffering=0) as writer:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1)
        yield reader, writer


@pytest.fixture
def full_pipe(pipe: Pipe) -> FileIO:
    """The end to write to of a pipe that is full and stays so."""
    _, writer = pipe
    os.set_blocking(writer.fileno(), False)
    while writer.write(b"x"):
        pass
    os.set_blocking(writer.fileno(), True)
    return writer


def has_read_everything(host: Host, port: int) -> bool:
    """Whether nothing is left in the receive queues of the sockets bound to a port."""
    lines = [line.split() for line in host.read("udp").splitlines()[1:]]
    queues = [line[4] for line in lines if line[1].endswith(f":{port:04X}")]
    return bool(queues) and all(queue.endswith(":00000000") for queue in queues)


def end_by(program: Running, number: int) -> Finished:
    """Send a signal, once, and wait for the end. Its standard input stays open."""
    program.process.send_signal(number)
    program.process.wait(LONG / 2)
    return program.finish()


# --- Nobody reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
def test_listen_ends_by_a_signal_with_its_summary(
    here: Card, there: Card, udp_port: int, full_pipe: FileIO, number: int
) -> None:
    with listening(G4, "-p", str(udp_port), host=here.host, stdout=full_pipe) as listener:
        there.talker(G4, udp_port).send(b"one", b"two")
        wait_until(lambda: has_read_everything(here.host, udp_port), "both are read")
        done = end_by(listener, number)
    assert done.code == 0
    assert "2 datagrams, 6 bytes" in done.err


def test_what_is_given_up_is_counted_and_no_line_is_cut(
    here: Card, there: Card, udp_port: int, pipe: Pipe
) -> None:
    reader, writer = pipe
    sent = [b"%d" % n * 100 for n in range(10, 90)]
    with listening(G4, "-p", str(udp_port), "--json", host=here.host, stdout=writer) as listener:
        there.talker(G4, udp_port).send(*sent)
        wait_until(lambda: has_read_everything(here.host, udp_port), "all are read")
        done = end_by(listener, signal.SIGTERM)
    writer.close()
    shown = [json.loads(line)["text"].encode() for line in reader.read().splitlines()]
    assert shown == sent[: len(shown)]
    assert "80 datagrams" in done.err
    assert f"{80 - len(shown)} lines of the output given up" in done.err
    assert len(shown) < 80


def test_a_reader_who_goes_before_anything_came_makes_no_success(
    here: Card, udp_port: int, pipe: Pipe
) -> None:
    reader, writer = pipe
    with listening(G4, "-p", str(udp_port), "-n", "1", host=here.host, stdout=writer) as listener:
        writer.close()
        reader.close()
        listener.process.wait(LONG)
        assert listener.finish().code == 1


def test_listen_ends_when_its_time_is_over(
    here: Card, there: Card, udp_port: int, full_pipe: FileIO
) -> None:
    arguments = (G4, "-p", str(udp_port), "--timeout", "1", "--count", "1")
    with listening(*arguments, host=here.host, stdout=full_pipe) as listener:
        there.talker(G4, udp_port).send(b"one")
        done = listener.finish()
    assert done.code == 0  # it was received, if not shown
    assert "1 datagram, 3 bytes" in done.err


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "command", [["listen", G4], ["send", f"{G4}%eth0"], ["memberships", "--watch"]]
)
def test_remarks_that_nobody_reads_hold_up_nothing(
    here: Card, there: Card, udp_port: int, full_pipe: FileIO, command: list[str], number: int
) -> None:
    port = [] if command[0] == "memberships" else ["-p", str(udp_port)]
    arguments = (*PROGRAM, *command, *port)
    with running(*arguments, host=here.host, stdout=full_pipe, stderr=full_pipe) as program:
        wait_until(program.catches_sigterm, "it is ready")
        done = end_by(program, number)
    assert done.code == (0 if command[0] == "memberships" else 1)


@pytest.mark.parametrize("command", ["interfaces", "demo", "memberships", "doctor"])
def test_what_is_shown_at_once_is_given_up_by_ctrl_c(
    here: Card, full_pipe: FileIO, command: str
) -> None:
    with running(*PROGRAM, command, host=here.host, stdout=full_pipe) as program:
        wait_until(lambda: is_writing(program), "it is held up")
        done = end_by(program, signal.SIGINT)
    assert (done.code, done.err) == (130, "")


def is_writing(program: Running) -> bool:
    """Whether a thread of it is held up by a pipe."""
    tasks = f"/proc/{program.process.pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/wchan") as file:
            if "pipe_write" in file.read():
                return True
    return False


@pytest.mark.parametrize("is_blocking", [True, False])
def test_what_was_received_is_shown_in_order_by_whoever_reads_at_last(
    here: Card, there: Card, udp_port: int, pipe: Pipe, is_blocking: bool
) -> None:
    sent = [b"%d" % number for number in range(500)]
    reader, writer = pipe
    os.set_blocking(writer.fileno(), is_blocking)  # for all programs that have the pipe
    arguments = (G4, "-p", str(udp_port), "--count", str(len(sent)))
    with listening(*arguments, host=here.host, stdout=writer) as listener:
        writer.close()
        there.talker(G4, udp_port).send(*sent)
        wait_until(lambda: has_read_everything(here.host, udp_port), "all is read")
        lines = reader.readall().splitlines()
        done = listener.finish()
    assert [line.split()[-1] for line in lines] == sent
    assert done.code == 0


def test_meanwhile_datagrams_stay_in_the_kernel(
    here: Card, there: Card, udp_port: int, full_pipe: FileIO
) -> None:
    arguments = (G4, "-p", str(udp_port), "--timeout", "1")
    with listening(*arguments, host=here.host, stdout=full_pipe) as listener:
        there.talker(G4, udp_port).send(*[b"x" * 1000] * 1500)
        done = listener.finish()
    assert 0 < int(re.findall(r"(\d+) datagrams", done.err)[0]) < 750


def test_a_file_gets_everything(here: Card, there: Card, udp_port: int, tmp_path: Path) -> None:
    sent = [b"%d" % number for number in range(500)]
    arguments = (G4, "-p", str(udp_port), "--count", str(len(sent)))
    with (
        open(tmp_path / "heard", "wb") as file,
        listening(*arguments, host=here.host, stdout=file) as listener,
    ):
        there.talker(G4, udp_port).send(*sent)
        assert listener.finish().code == 0
    lines = (tmp_path / "heard").read_bytes().splitlines()
    assert [line.split()[-1] for line in lines] == sent


# --- The reader goes -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_listen_ends_with_its_reader_even_if_nothing_more_arrives(
    here: Card,
    there: Card,
    udp_port: int,
    pipe: Pipe,
    options: list[str],
) -> None:
    reader, writer = pipe
    arguments = (G4, "-p", str(udp_port), *options)
    with listening(*arguments, host=here.host, stdout=writer) as listener:
        writer.close()
        there.talker(G4, udp_port).send(b"one")
        assert reader.read(1000).endswith(b"\n")
        reader.close()
        done = listener.finish()
    assert done.code == 0
    assert done.err.count("\n") == 1  # what it listens to


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_memberships_ends_with_its_reader(here: Card, pipe: Pipe, options: list[str]) -> None:
    reader, writer = pipe
    arguments = (*PROGRAM, "memberships", "--watch", *options)
    with running(*arguments, host=here.host, stdout=writer) as program:
        writer.close()
        assert reader.read(1)
        reader.close()
        done = program.finish()
    assert done.code == 0
    assert "Traceback" not in done.err


def test_listen_goes_on_if_what_it_writes_to_can_be_read_as_well(
    here: Card, there: Card, udp_port: int, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    both = os.open(tmp_path / "fifo", os.O_RDWR)
    os.write(both, b"already there\n")
    with listening(G4, "-p", str(udp_port), host=here.host, stdout=both) as listener:
        there.talker(G4, udp_port).send(b"one")
        wait_until(lambda: has_read_everything(here.host, udp_port), "it is read")
        done = listener.interrupt()
    os.close(both)
    assert "1 datagram, 3 bytes" in done.err


# --- The end of the terminal ---------------------------------------------------------------------


def test_nohup_keeps_it_from_ending_with_the_terminal(
    here: Card, there: Card, udp_port: int
) -> None:
    ignoring: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with listening(G4, "-p", str(udp_port), host=here.host, **ignoring) as listener:
        listener.process.send_signal(signal.SIGHUP)
        for word in ("one", "two"):  # one might still be shown when the end is near
            there.talker(G4, udp_port).send(word.encode())
            listener.wait_for(f"  {word}\n")
        assert listener.interrupt().code == 0


def test_the_doctor_is_interrupted_quietly(here: Card, udp_port: int) -> None:
    arguments = (*PROGRAM, "doctor", f"{G4}%eth0", "-p", str(udp_port), "--seconds", "60")
    with running(*arguments, host=here.host) as program:
        wait_until(lambda: here.host.has_joined(G4), "it listens")
        done = end_by(program, signal.SIGINT)
    assert done.code == 130
    assert "Traceback" not in done.err
