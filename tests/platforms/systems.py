"""The three systems as their headers describe them, for a model that knows nothing of the library.

The numbers are those of `data/constants.json`, which were taken from the headers. Only errors have
the numbers of the system that the tests run on: the library knows them by `errno`, which has each
system's own.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from trio_mcast._plan.linux import LINUX
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.windows import WINDOWS

_FACTS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "constants.json").read_text(encoding="utf-8")
)

# What the headers of the errors say beyond the file: the numbers the library asks `errno` for.
_MORE_ERRORS = {
    "linux": {"EPERM": 1, "ENOMEM": 12, "EACCES": 13, "ENFILE": 23, "EMFILE": 24, "EAGAIN": 11}
    | {"ENETDOWN": 100, "ENOEXEC": 8},
    "darwin": {"EPERM": 1, "EACCES": 13, "ENFILE": 23, "EMFILE": 24, "EAGAIN": 35, "ENODEV": 19}
    | {"ENETDOWN": 50},
    "win32": {"EPERM": 1, "ENOMEM": 12, "ENFILE": 23, "ENODEV": 19, "ENOEXEC": 8}
    | {"WSAEMFILE": 10024},
}

_CLASSES: dict[str, type[OSError]] = {
    "EAGAIN": BlockingIOError,
    "EWOULDBLOCK": BlockingIOError,
    "EACCES": PermissionError,
    "EPERM": PermissionError,
    "ECONNRESET": ConnectionResetError,
}


@dataclass(frozen=True)
class System:
    """One operating system.

    Attributes:
      name: as `sys.platform` has it
      platform: the library's table, for what the library is to believe it runs on
    """

    name: Literal["linux", "darwin", "win32"]
    platform: Platform

    def __str__(self) -> str:
        return self.name

    @cached_property
    def constants(self) -> dict[str, int]:
        found = dict(_FACTS[self.name]["constants"])
        if self.name == "linux":
            found |= {"SO_SNDBUFFORCE": 32, "IP_RECVERR": 11, "IPV6_RECVERR": 25}
        return found

    @cached_property
    def structs(self) -> dict[str, Any]:
        return dict(_FACTS[self.name]["structs"])

    @cached_property
    def control_messages(self) -> dict[str, tuple[int, int, str]]:
        """By the option that asks for them: level, type, payload in words."""
        return {
            row["enable"]: (row["cmsg_level"], row["cmsg_type"], row["payload"])
            for row in _FACTS["cmsg"][self.name]
        }

    @cached_property
    def errors(self) -> dict[str, int]:
        """Numbers as the kernel has them, by names without the prefix of Winsock."""
        known = _FACTS["errno"][self.name] | _MORE_ERRORS[self.name]
        return {name.removeprefix("WSA"): number for name, number in known.items()}

    def refusal(self, name: str) -> OSError:
        """The exception that the `socket` module would raise there."""
        number = getattr(errno, name)
        error = _CLASSES.get(name, OSError)(number, f"{name}, says the model")
        if self.name == "win32":
            error.winerror = self.errors[name]  # type: ignore[attr-defined, unused-ignore]
        return error


LINUX_SYSTEM = System("linux", LINUX)
MACOS_SYSTEM = System("darwin", MACOS)
WINDOWS_SYSTEM = System("win32", WINDOWS)
SYSTEMS = (LINUX_SYSTEM, MACOS_SYSTEM, WINDOWS_SYSTEM)
