"""What cannot be meant is refused by its name, before anything is looked at."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import trio_mcast
from trio_mcast import AddressError
from trio_mcast._doctor import diagnosis
from trio_mcast.lowlevel import Question, examine

GROUP = "233.252.0.1"

NO_TIMES = [
    (float("nan"), ValueError, "nan"),
    (float("inf"), ValueError, "inf"),
    (-1, ValueError, "-1"),
    (-1e-9, ValueError, "-1e-09"),
    (10**400, ValueError, "1000"),
    (-(10**400), ValueError, "-1000"),
    (Fraction(10**400), ValueError, "1000"),
    (True, TypeError, "True"),
    (None, TypeError, "None"),
    ("3", TypeError, "'3'"),
    (b"3", TypeError, "b'3'"),
    (1j, TypeError, "1j"),
    (Decimal(3), TypeError, "Decimal"),
]


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> None:
        raise AssertionError("the machine was looked at")

    monkeypatch.setattr(diagnosis, "current_machine", look)


@pytest.mark.parametrize(("watch", "kind", "name"), NO_TIMES)
async def test_what_is_no_time_to_watch_is_refused(
    no_machine: None, watch: Any, kind: type[Exception], name: str
) -> None:
    with pytest.raises(kind, match=name) as caught:
        await trio_mcast.diagnose(GROUP, watch=watch)
    assert len(str(caught.value)) < 200
    with pytest.raises(kind, match=name):
        await examine(Question((GROUP,)), watch)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"group": True}, TypeError),
        ({"group": 1.0}, TypeError),
        ({"group": b"233.252.0.1"}, TypeError),
        ({"group": "10.0.0.1"}, AddressError),
        ({"port": True}, TypeError),
        ({"port": "5000"}, TypeError),
        ({"port": 5000.0}, TypeError),
        ({"port": float("nan")}, TypeError),
        ({"port": -1}, ValueError),
        ({"port": 10**400}, ValueError),
        ({"source": True}, TypeError),
        ({"source": GROUP}, AddressError),
        ({"source": float("inf")}, TypeError),
        ({"interface": True}, TypeError),
        ({"interface": -1}, ValueError),
        ({"interface": float("nan")}, TypeError),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    no_machine: None, arguments: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await trio_mcast.diagnose(**{"group": GROUP} | arguments)


@pytest.mark.parametrize("watch", [0, 0.0, Fraction(0)])
async def test_not_to_watch_is_a_time(watch: Any) -> None:
    codes = [finding.code for finding in await trio_mcast.diagnose(GROUP, watch=watch)]
    assert "nothing-sent" not in codes
