"""Sockets are made as planned, step by step, and nothing stays open when a step fails."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from trio_mcast import Interface, SocketSetupError, list_interfaces
from trio_mcast._machine.sockets import (
    carry_out,
    current_platform,
    drain_error_queue,
    open_planned_socket,
    read_drop_count,
    read_receive_buffer,
    set_option,
)
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import FALLBACK_ERRORS, SocketOption
from trio_mcast._plan.receiver_plan import plan_receiver
from trio_mcast._plan.sender_plan import plan_sender
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._plan.windows import WINDOWS

GROUP4, GROUP6, SSM4 = "233.252.0.1", "ff15::4d43:1", "232.1.2.3"
SOURCES4 = ("192.0.2.1", "192.0.2.2")

ETH0 = Interface(
    "eth0",
    2,
    "eth0",
    (ip_interface("192.0.2.10/24"), ip_interface("fe80::1/64")),
    is_up=True,
    is_loopback=False,
    supports_multicast=True,
    mtu=1500,
)

RECEIVERS = {
    f"{platform.name} receiver {group}": plan_receiver(
        platform, group, 5000, ETH0, sources=SOURCES4 if group == SSM4 else ()
    )
    for platform in (LINUX, LINUX_32BIT, MACOS, WINDOWS)
    for group in (GROUP4, GROUP6, SSM4)
}
SENDERS = {
    f"{platform.name} sender {group}": plan_sender(
        platform, group, 5000, ETH0, traffic_class=8, send_buffer=99999, source_port=5001
    )
    for platform in (LINUX, LINUX_32BIT, MACOS, WINDOWS)
    for group in (GROUP4, GROUP6)
}
PLANS = RECEIVERS | SENDERS
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
every_receiver = pytest.mark.parametrize("plan", RECEIVERS.values(), ids=RECEIVERS.keys())


# --- A socket that remembers -------------------------------------------------------------------


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class RecordingSocket:
    """Does nothing but remember what it was told, and refuse what the test says."""

    def __init__(self, recording: Recording, family: int) -> None:
        self.family = family
        self.is_blocking = True
        self.is_closed = False
        self._recording = recording

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        self.is_blocking = flag

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self._recording.record("set", (level, option, value))

    def bind(self, address: tuple[Any, ...]) -> None:
        self._recording.record("bind", address)

    def close(self) -> None:
        self.is_closed = True


class Recording:
    """What was asked of the operating system, in order, and which sockets it gave.

    Attributes:
      refuse: called with each call and how many went before it; returns an error, or None
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.sockets: list[RecordingSocket] = []
        self.refuse: Callable[[tuple[str, Any], int], OSError | None] = lambda call, nth: None

    def carry_out(self, plan: SocketPlan) -> Any:
        return carry_out(plan, current_platform(), self.socket)  # type: ignore[arg-type]

    def socket(self, family: int) -> RecordingSocket:
        self.record("open", family)
        self.sockets.append(RecordingSocket(self, family))
        return self.sockets[-1]

    def record(self, what: str, detail: Any) -> None:
        self.calls.append((what, detail))
        refusal = self.refuse(self.calls[-1], len(self.calls) - 1)
        if refusal is not None:
            raise refusal

    def refuse_nth(self, nth: int, *numbers: int) -> None:
        """Refuse so many calls, beginning with this one, with these errors."""
        self.refuse = lambda _call, n: (
            error(numbers[n - nth]) if nth <= n < nth + len(numbers) else None
        )

    @property
    def nothing_is_open(self) -> bool:
        return all(sock.is_closed for sock in self.sockets)


@pytest.fixture
def recording() -> Recording:
    return Recording()


def call_of(option: SocketOption) -> tuple[str, Any]:
    return ("set", (option.level, option.option, option.value))


def calls_of(plan: SocketPlan) -> list[tuple[str, Any]]:
    """What is to be asked when nothing goes wrong."""
    return [
        ("open", plan.family),
        *map(call_of, plan.before_bind),
        *([] if plan.bind is None else [("bind", plan.bind)]),
        *map(call_of, plan.after_bind),
    ]


def steps_of(plan: SocketPlan) -> list[SocketOption | str]:
    """What each of these calls is for: an option, or the name of the step."""
    return [
        "open a UDP socket",
        *plan.before_bind,
        *([] if plan.bind is None else [f"bind to {plan.bind[0]} port {plan.bind[1]}"]),
        *plan.after_bind,
    ]


def may_fail(step: SocketOption | str) -> bool:
    return isinstance(step, SocketOption) and step.optional


# --- What is asked, in which order -------------------------------------------------------------


@every_plan
def test_a_plan_is_carried_out_in_order_on_one_non_blocking_socket(
    plan: SocketPlan, recording: Recording
) -> None:
    sock: Any = recording.carry_out(plan)
    assert recording.calls == calls_of(plan)
    assert recording.sockets == [sock]
    assert (sock.family, sock.is_blocking, sock.is_closed) == (plan.family, False, False)


@every_receiver
def test_every_option_but_the_joins_is_set_before_bind(
    plan: SocketPlan, recording: Recording
) -> None:
    recording.carry_out(plan)
    bind = recording.calls.index(("bind", plan.bind))
    joins = [option for option in plan.options if option.label.startswith("MCAST_JOIN")]
    assert recording.calls[bind + 1 :] == list(map(call_of, joins))
    assert joins


# --- What fails --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOBUFS, errno.ENODEV], ids=os.strerror)
@every_plan
def test_a_failed_step_closes_the_socket_and_names_itself(
    plan: SocketPlan, number: int, recording: Recording
) -> None:
    for nth, step in enumerate(steps_of(plan)):
        if may_fail(step):
            continue
        recording.calls.clear()
        recording.refuse_nth(nth, number)
        with pytest.raises(SocketSetupError) as caught:
            recording.carry_out(plan)
        refusal = caught.value
        assert recording.nothing_is_open
        assert recording.calls == calls_of(plan)[: nth + 1], "nothing is tried after it"
        assert (refusal.errno, refusal.step) == (number, str(step))
        assert (refusal.interface, refusal.group) == (plan.interface, plan.group)
        assert str(step) in str(refusal)
        assert os.strerror(number) in str(refusal)
        assert isinstance(refusal.__cause__, OSError)
        assert isinstance(refusal, OSError)


@every_plan
def test_an_optional_option_may_be_refused(plan: SocketPlan, recording: Recording) -> None:
    for nth, step in enumerate(steps_of(plan)):
        if may_fail(step):
            recording.calls.clear()
            recording.refuse_nth(nth, errno.EPERM)
            recording.carry_out(plan)
            assert recording.calls == calls_of(plan)


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.EINVAL], ids=os.strerror)
@every_plan
def test_an_option_that_the_system_does_not_know_has_its_fallback_tried(
    plan: SocketPlan, number: int, recording: Recording
) -> None:
    for nth, step in enumerate(steps_of(plan)):
        if isinstance(step, SocketOption) and step.fallback is not None:
            recording.calls.clear()
            recording.refuse_nth(nth, number)
            recording.carry_out(plan)
            expected = calls_of(plan)
            expected.insert(nth + 1, call_of(step.fallback))
            assert recording.calls == expected


@pytest.mark.parametrize("second", [errno.ENOPROTOOPT, errno.EPERM], ids=os.strerror)
@every_plan
def test_when_the_fallback_is_refused_too_the_first_refusal_is_told(
    plan: SocketPlan, second: int, recording: Recording
) -> None:
    for nth, step in enumerate(steps_of(plan)):
        if isinstance(step, SocketOption) and step.fallback is not None:
            recording.refuse_nth(nth, *[errno.EINVAL, second, second])
            recording.calls.clear()
            with pytest.raises(SocketSetupError) as caught:
                recording.carry_out(plan)
            assert (caught.value.errno, caught.value.step) == (errno.EINVAL, step.label)
            assert recording.nothing_is_open


def test_a_fallback_is_for_what_is_unknown_only() -> None:
    assert {errno.ENOPROTOOPT, errno.EINVAL} == FALLBACK_ERRORS


def test_a_chain_of_fallbacks_is_followed_to_its_end() -> None:
    asked: list[int] = []

    class Refusing:
        def setsockopt(self, level: int, option: int, value: bytes) -> None:
            asked.append(option)
            if option < 3:
                raise error(errno.ENOPROTOOPT)

    third = SocketOption(0, 3, b"", "third")
    second = SocketOption(0, 2, b"", "second", fallback=third)
    sock: Any = Refusing()
    set_option(sock, SocketOption(0, 1, b"", "first", fallback=second))
    assert asked == [1, 2, 3]


# --- A port that is in use ---------------------------------------------------------------------

SHARING = {name: plan for name, plan in RECEIVERS.items() if plan.if_address_in_use}
NOT_SHARING = {name: plan for name, plan in RECEIVERS.items() if not plan.if_address_in_use}


def bind_index(plan: SocketPlan) -> int:
    return calls_of(plan).index(("bind", plan.bind))


@pytest.mark.parametrize("plan", SHARING.values(), ids=SHARING.keys())
def test_a_port_in_use_is_tried_once_more_with_what_the_plan_says(
    plan: SocketPlan, recording: Recording
) -> None:
    nth = bind_index(plan)
    recording.refuse_nth(nth, errno.EADDRINUSE)
    recording.carry_out(plan)
    expected = calls_of(plan)
    expected[nth + 1 : nth + 1] = [
        *map(call_of, plan.if_address_in_use),
        ("bind", plan.bind),
        *map(call_of, plan.after_second_bind),
    ]
    assert recording.calls == expected
    assert plan.after_second_bind, "what was set for bind's sake is taken back"


@pytest.mark.parametrize("plan", SHARING.values(), ids=SHARING.keys())
@pytest.mark.parametrize("later", [1, 2, 3])
def test_when_the_second_attempt_fails_anywhere_nothing_stays_open(
    plan: SocketPlan, later: int, recording: Recording
) -> None:
    nth = bind_index(plan)
    failing = {nth: errno.EADDRINUSE, nth + later: errno.EADDRINUSE}
    recording.refuse = lambda _call, n: error(failing[n]) if n in failing else None
    with pytest.raises(SocketSetupError) as caught:
        recording.carry_out(plan)
    assert caught.value.errno == errno.EADDRINUSE
    assert "bind to" in caught.value.step
    assert recording.nothing_is_open
    assert len(recording.calls) == nth + later + 1


@every_receiver
def test_another_error_of_bind_is_not_tried_again(plan: SocketPlan, recording: Recording) -> None:
    recording.refuse_nth(bind_index(plan), errno.EADDRNOTAVAIL)
    with pytest.raises(SocketSetupError, match="bind to"):
        recording.carry_out(plan)
    assert len(recording.calls) == bind_index(plan) + 1


@pytest.mark.parametrize("plan", NOT_SHARING.values(), ids=NOT_SHARING.keys())
def test_without_another_way_a_port_in_use_is_an_error(
    plan: SocketPlan, recording: Recording
) -> None:
    recording.refuse_nth(bind_index(plan), errno.EADDRINUSE)
    with pytest.raises(SocketSetupError) as caught:
        recording.carry_out(plan)
    assert any("SO_REUSEADDR" in note for note in caught.value.__notes__)


# --- What the error tells ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EMFILE, "ulimit"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOBUFS, "igmp_max_memberships"),
        (errno.ENODEV, "trio-mcast interfaces"),
        (errno.EADDRINUSE, "SO_REUSEADDR"),
        (errno.EACCES, "privilege"),
    ],
)
def test_what_to_do_about_an_error_is_a_note_on_it(
    number: int, advice: str, recording: Recording
) -> None:
    recording.refuse_nth(0, number)
    with pytest.raises(SocketSetupError) as caught:
        recording.carry_out(RECEIVERS["Linux receiver 233.252.0.1"])
    (note,) = caught.value.__notes__
    assert advice in note
    assert advice not in str(caught.value)


def test_an_error_without_known_advice_has_no_note(recording: Recording) -> None:
    recording.refuse_nth(0, errno.EXDEV)
    with pytest.raises(SocketSetupError) as caught:
        recording.carry_out(RECEIVERS["Linux receiver 233.252.0.1"])
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, ValueError])
def test_any_other_exception_closes_the_socket_and_leaves_as_it_is(
    kind: type[BaseException], recording: Recording
) -> None:
    plan = RECEIVERS["Linux receiver 233.252.0.1"]
    for nth in range(1, len(calls_of(plan))):
        recording.calls.clear()

        def refuse(_call: tuple[str, Any], n: int, nth: int = nth) -> OSError | None:
            if n == nth:
                raise kind
            return None

        recording.refuse = refuse
        with pytest.raises(kind):
            recording.carry_out(plan)
        assert recording.nothing_is_open


# --- Real sockets ------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


def loopback() -> Interface:
    return next(interface for interface in list_interfaces() if interface.is_loopback)


@pytest.mark.parametrize("group", [GROUP4, "ff11::4d43:1"])
def test_a_real_socket_is_bound_joined_and_granted_a_buffer(group: str, udp_port: int) -> None:
    if not loopback().carries(ip_address(group).version):
        pytest.skip("the loopback interface lacks this IP version")
    plan = plan_receiver(current_platform(), group, udp_port, loopback(), receive_buffer=20000)
    with open_planned_socket(plan) as sock:
        assert not sock.getblocking()
        assert sock.getsockname()[1] == udp_port
        assert read_receive_buffer(sock, current_platform()) == 20000
        assert read_drop_count(sock, current_platform()) == (0 if sys.platform == "linux" else None)


@on_linux
def test_a_real_socket_leaks_nothing_when_a_step_fails(udp_port: int) -> None:
    gc.collect()  # or what other tests have left goes in between
    before = set(os.listdir("/proc/self/fd"))
    stranger = Interface("gone", 999999, "gone", (), True, False, True, 1500)
    for group in (GROUP4, GROUP6):
        with pytest.raises(SocketSetupError) as caught:
            open_planned_socket(plan_receiver(LINUX, group, udp_port, stranger))
        assert caught.value.interface == stranger
    assert set(os.listdir("/proc/self/fd")) == before


@on_linux
def test_dropped_datagrams_are_counted_by_the_kernel(udp_port: int) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(100):
            sender.sendto(bytes(1000), receiver.getsockname())
        receiver.setblocking(False)
        kept = 0
        while kept < 100:
            try:
                receiver.recv(2000)
            except BlockingIOError:
                break
            kept += 1
        assert 0 < kept < 100
        assert read_drop_count(receiver, LINUX) == 100 - kept


@on_linux
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EPERM], ids=errno.errorcode.get)
def test_a_socket_that_cannot_be_made_says_nothing_of_what_it_might_do(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = current_platform()
    monkeypatch.setattr(socket, "socket", refuse)
    assert current_platform() is before


def test_an_answer_that_is_no_count_is_not_taken_for_one() -> None:
    """QEMU's emulation of Linux answers with four zeros."""

    class Emulated(socket.socket):
        def getsockopt(self, *_: object) -> bytes:  # type: ignore[override]
            return bytes(4)

    with Emulated(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert read_drop_count(sock, LINUX) is None


@on_linux
def test_queued_icmp_errors_are_thrown_away() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody,
    ):
        nobody.bind(("127.0.0.1", 0))
        closed_port = nobody.getsockname()
        nobody.close()
        sender.setblocking(False)
        sender.setsockopt(0, 11, 1)  # IPPROTO_IP, IP_RECVERR: linux/in.h
        sender.sendto(b"", closed_port)
        drain_error_queue(sender, LINUX)
        assert sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        with pytest.raises(BlockingIOError):
            sender.recvmsg(0, 0, 0x2000)  # MSG_ERRQUEUE
        drain_error_queue(sender, LINUX)
