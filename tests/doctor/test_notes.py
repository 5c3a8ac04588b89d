"""Errors of the library and findings of the doctor say the same."""

from __future__ import annotations

import errno

import pytest

from trio_mcast import SendError, SocketSetupError
from trio_mcast._base.remedies import ADVICE, add_remedy

CODES = {
    errno.EADDRINUSE: "port-held-exclusively",
    errno.ENOBUFS: "membership-limit",
    errno.ENETUNREACH: "no-local-route-v6",
    errno.EPERM: "firewall-drop",
    errno.ENETDOWN: "interface-down",
}


@pytest.mark.parametrize("kind", [SocketSetupError, SendError])
@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_notes_name_the_remedy_and_the_finding_that_says_more(
    kind: type[SocketSetupError] | type[SendError], number: int, code: str
) -> None:
    error = add_remedy(kind("join", OSError(number, "no")))
    (note,) = error.__notes__
    assert code in ADVICE
    assert note.endswith(f"`trio-mcast doctor GROUP --port PORT` looks into it ({code}).")


def test_notes_have_the_commands_that_the_doctor_has() -> None:
    (note,) = add_remedy(SendError("send", OSError(errno.ENETUNREACH, "no"))).__notes__
    assert ADVICE["no-local-route-v6"].remedy.format(interface="lo") in note
    (note,) = add_remedy(SendError("send", OSError(errno.ENETDOWN, "no"))).__notes__
    assert ADVICE["interface-down"].remedy.format(interface="NAME") in note


def test_an_error_that_nothing_is_known_of_has_no_note() -> None:
    assert not hasattr(add_remedy(SendError("send", OSError(errno.EIO, "no"))), "__notes__")


@pytest.mark.parametrize("code", ADVICE)
def test_advice_is_commands_of_programs_that_there_are_or_remarks(code: str) -> None:
    known = {"sudo": {"ip", "sysctl", "nft", "ss", "ufw", "firewall-cmd", "tcpdump", "trio-mcast"}}
    for line in ADVICE[code].remedy.splitlines():
        first, *rest = line.split()
        assert first == "#" or rest[0] in known[first], line
    assert ADVICE[code].reference
