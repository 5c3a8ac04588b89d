"""Errors say which step failed and what the kernel said, and survive being sent elsewhere."""

from __future__ import annotations

import copy
import errno
import os
import pickle
from ipaddress import ip_address
from typing import Any

import pytest

import trio_mcast
from trio_mcast import SendError, SocketSetupError
from trio_mcast._base.remedies import add_remedy
from trio_mcast.testing import make_interface

GROUP = ip_address("233.252.0.1")
refusals = pytest.mark.parametrize("kind", [SocketSetupError, SendError])


def make(kind: Any, number: int = errno.ENODEV) -> Any:
    cause = OSError(number, os.strerror(number))
    return kind("join 233.252.0.1 on eth0", cause, interface=make_interface(), group=GROUP)


@refusals
def test_a_refusal_says_the_step_and_the_kernels_words(kind: Any) -> None:
    error = make(kind)
    assert (error.errno, error.step) == (errno.ENODEV, "join 233.252.0.1 on eth0")
    assert (error.interface, error.group) == (make_interface(), GROUP)
    assert error.strerror == f"join 233.252.0.1 on eth0: {os.strerror(errno.ENODEV)}"
    assert str(error) == f"[Errno {errno.ENODEV}] {error.strerror}"


@refusals
def test_a_refusal_need_not_be_about_an_interface_or_a_group(kind: Any) -> None:
    error = kind("open a UDP socket", OSError(errno.EMFILE, "too many"))
    assert (error.interface, error.group) == (None, None)


@refusals
def test_a_refusal_is_of_its_own_class_whatever_the_number(kind: Any) -> None:
    """OSError itself would become a PermissionError."""
    error = make(kind, errno.EPERM)
    assert type(error) is kind
    assert isinstance(error, OSError)
    assert isinstance(error, trio_mcast.MulticastError)


@refusals
def test_the_number_that_windows_gives_is_kept(kind: Any) -> None:
    class WindowsError(OSError):
        winerror = 10049

    error = kind("bind", WindowsError(errno.EADDRNOTAVAIL, "not valid in its context"))
    assert "not valid in its context" in str(error)
    assert error.errno in (errno.EADDRNOTAVAIL, 10049)


@refusals
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_refusal_can_be_copied_and_pickled(kind: Any, duplicate: Any) -> None:
    error = add_remedy(make(kind))
    again = duplicate(error)
    assert type(again) is kind
    assert (str(again), again.errno, again.step) == (str(error), error.errno, error.step)
    assert (again.interface, again.group) == (error.interface, error.group)
    assert again.__notes__ == error.__notes__


@pytest.mark.parametrize(
    "kind",
    [
        trio_mcast.AddressError,
        trio_mcast.InterfaceNotFoundError,
        trio_mcast.NotSupportedError,
        trio_mcast.MulticastError,
    ],
)
def test_every_other_error_is_a_message(kind: Any) -> None:
    error = pickle.loads(pickle.dumps(kind("what is wrong")))
    assert (type(error), str(error)) == (kind, "what is wrong")


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(trio_mcast.AddressError, ValueError)
    assert issubclass(trio_mcast.InterfaceNotFoundError, LookupError)
    assert not issubclass(trio_mcast.NotSupportedError, (OSError, ValueError))


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_advice_is_a_sentence_for_people_if_there_is_any(number: int) -> None:
    error = add_remedy(OSError(number, os.strerror(number)))
    for note in getattr(error, "__notes__", []):
        assert note[0].isupper()
        assert note.endswith(".")


def test_an_error_without_a_number_gets_no_advice() -> None:
    assert not hasattr(add_remedy(OSError("no number")), "__notes__")
