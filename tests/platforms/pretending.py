"""Has the library believe that it runs on another system, and gives it a model of that kernel."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from trio_mcast import _egress, _exits, _follow, _roster
from trio_mcast._os import readers, readiness, segments, sockets, winsock
from trio_mcast._plan import remedies
from trio_mcast._plan.interfaces import Interface

from .model_kernel import Kernel
from .systems import System


@contextmanager
def pretending(system: System, interfaces: Iterable[Interface]) -> Iterator[Kernel]:
    """Everything of the library that touches the system touches the model while this lasts.

    The plans, the opening of sockets, the readers, the tasks and the following are the real ones.
    On Linux the portable reader stands in for recvmmsg, which no model can serve.
    """
    kernel = Kernel(system, interfaces)
    numbers = system.errno
    believed = SimpleNamespace(platform=system.name, byteorder=sys.byteorder)
    unknown = SimpleNamespace(platform="no recvmmsg here" if system.name == "linux" else "")
    constants = system.constants
    module = SimpleNamespace(
        socket=kernel.open_socket,
        SOCK_DGRAM=2,
        SOL_SOCKET=constants["SOL_SOCKET"],
        SO_RCVBUF=constants["SO_RCVBUF"],
    )
    replacements: list[tuple[Any, dict[str, Any]]] = [
        (
            sockets,
            {
                "sys": believed,
                "socket": module,
                "errno": SimpleNamespace(**numbers),
                "EXHAUSTED": _numbers(numbers, sockets.EXHAUSTED),
                "FALLBACK_ERRORS": _numbers(numbers, sockets.FALLBACK_ERRORS),
                "drain_error_queue": lambda _socket: False,
            },
        ),
        (readers, {"sys": unknown if system.name == "linux" else believed}),
        (readers, {"_per_thread": threading.local()}),
        (readiness, {"sys": believed}),
        (segments, {"_is_safe": lambda _interface: system.name == "linux"}),
        (winsock, {"control": kernel.control, "make_error": _error_maker(system)}),
        (winsock, {"load_wsarecvmsg": lambda _family: kernel.receive_message}),
        (_roster, {"EXHAUSTED": _numbers(numbers, sockets.EXHAUSTED)}),
        (_roster, {"list_interfaces": kernel.list_interfaces, "list_groups": kernel.list_groups}),
        (_follow, {"list_interfaces": kernel.list_interfaces, "open_watch": kernel.open_watch}),
        (_egress, {"drain_error_queue": lambda _socket: False}),
        (_exits, {"default_interface": lambda _version=4: None}),
        (remedies, {"_BY_NUMBER": _notes(numbers)}),
    ]
    with ExitStack() as stack:
        for target, changes in replacements:
            stack.enter_context(patch.multiple(target, **changes))
        yield kernel


def _numbers(numbers: dict[str, int], ours: Iterable[int]) -> frozenset[int]:
    """The same errors by the other system's numbers."""
    return frozenset(numbers[errno.errorcode[number]] for number in ours)


def _notes(numbers: dict[str, int]) -> dict[int, Any]:
    return {numbers[name]: note for name, note in remedies._NOTES.items() if name in numbers}


def _error_maker(system: System) -> Any:
    names = {number: name for name, number in system.errors.items()}
    return lambda number: system.refusal(names[number])
