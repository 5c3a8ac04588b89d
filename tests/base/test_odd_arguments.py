"""Whatever is given for an argument, the answer is a documented error, or it works."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from types import ModuleType
from typing import Any

import pytest
import trio

import trio_mcast
from trio_mcast import lowlevel, testing

DOCUMENTED = (TypeError, ValueError, trio_mcast.MulticastError)

ODD: list[Any] = [
    *("x", "", "\ud800", "é" * 300, "233.252.0.1", "ff15::1%eth0", b"x"),
    *(5, -1, 10**400, 1.5, float("nan"), float("inf"), True, None),
    *([], {}, (1, 2), ["x"], object(), memoryview(b"abcd")[::2]),
    *(ip_address("233.252.0.1"), ip_network("10.0.0.0/8")),
]

GOOD: dict[str, Any] = {
    "platform": lowlevel.LINUX,
    "group": "233.252.0.1",
    "port": 5000,
    "interface": testing.make_interface(),
}
"""What the arguments that a function must have are, while another one is odd."""


def functions_and_parameters() -> Iterator[Any]:
    for module in (trio_mcast, lowlevel, testing):
        for name in sorted(public_functions(module)):
            function = getattr(module, name)
            for parameter in inspect.signature(function).parameters.values():
                if parameter.kind is not parameter.VAR_KEYWORD:
                    yield pytest.param(function, parameter.name, id=f"{name}-{parameter.name}")


def public_functions(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        is_plain = inspect.isfunction(value) and not inspect.iscoroutinefunction(value)
        if is_plain and not name.startswith("_"):
            yield name


@pytest.mark.parametrize(("function", "odd_one"), list(functions_and_parameters()))
async def test_odd_arguments_are_refused_by_documented_errors(
    function: Callable[..., Any], odd_one: str
) -> None:
    parameters = inspect.signature(function).parameters
    with testing.MemoryNetwork().active():
        for value in ODD:
            positional: list[Any] = []
            by_name: dict[str, Any] = {}
            for name, parameter in parameters.items():
                if name == odd_one:
                    given = value
                elif parameter.default is parameter.empty and parameter.kind not in (
                    parameter.VAR_POSITIONAL,
                    parameter.VAR_KEYWORD,
                ):
                    given = GOOD.get(name)
                else:
                    continue
                if parameter.kind is parameter.KEYWORD_ONLY or by_name:
                    by_name[name] = given
                else:
                    positional.append(given)
            try:
                await use(function(*positional, **by_name))
            except DOCUMENTED:
                pass


async def use(result: Any) -> None:
    """Open what is to be opened, for a moment."""
    with trio.move_on_after(0):
        if hasattr(result, "__aenter__"):
            async with result:
                pass
