"""Patients, and how they are seen: as root, and as an ordinary user."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio_mcast
from trio_mcast import Finding

if TYPE_CHECKING:
    from namespaces.network import Host, Talker

GROUP4 = "233.252.0.1"
GROUP6 = "ff15::4d43:1"
BOTH = [GROUP4, GROUP6]

WATCH = 0.15
"""Seconds of watching: some thirty datagrams of `sending`."""

_libc = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


def give_up_privileges() -> None:
    """Take every capability from the calling thread, and from no other."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, data):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def consult(host: Host, user: str, *groups: str, **options: Any) -> tuple[Finding, ...]:
    """`diagnose` on a host, as "root" or as an "ordinary" user."""

    async def main() -> tuple[Finding, ...]:
        if user == "ordinary":
            give_up_privileges()
        return await trio_mcast.diagnose(groups, **{"watch": WATCH, **options})

    return host.run(main)


@contextmanager
def sending(*talkers: Talker) -> Iterator[None]:
    """Send all the time, some two hundred datagrams a second."""
    over = threading.Event()

    def talk() -> None:
        while not over.wait(0.005):
            for talker in talkers:
                try:
                    talker.send(b"are you well?")
                except OSError:  # as firewalls make them
                    pass

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def errors(findings: Iterable[Finding]) -> list[str]:
    """The codes of severity "error", in order."""
    return [finding.code for finding in findings if finding.severity == "error"]


def warnings(findings: Iterable[Finding]) -> list[str]:
    """The codes of severity "warning", without what the machine of the test itself may be."""
    machine = ("container-network", "wsl")
    return [f.code for f in findings if f.severity == "warning" and f.code not in machine]


def codes(findings: Iterable[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def the(code: str, findings: Iterable[Finding]) -> Finding:
    """The one finding of a code."""
    (found,) = (finding for finding in findings if finding.code == code)
    return found
