"""Two private hosts to measure on: network namespaces, with a cable between them.

Nothing leaves the machine, and nothing else on it is heard. Root may make network namespaces; for
an ordinary user they are made within a user namespace, if the system allows that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Link = Literal["lo", "veth"]

LONGEST: Final = 3600
"""Seconds after which the namespaces go, whatever becomes of the process that made them."""

_CABLE: Final = "veth0"
_TOOLS: Final = ("unshare", "nsenter", "ip", "sysctl")


class NamespacesError(Exception):
    """This machine, or this user, cannot make network namespaces."""


@dataclass(frozen=True)
class Host:
    """A network namespace, kept by a process that sleeps in it."""

    prefix: tuple[str, ...]

    def command(self, *argv: str) -> None:
        """Run a program here; it must succeed."""
        done = subprocess.run([*self.prefix, *argv], capture_output=True, text=True)
        if done.returncode:
            raise NamespacesError(f"{' '.join(argv)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Hosts:
    """Where receivers run, and where senders do: on the same host through `lo`, or by the cable."""

    near: Host
    far: Host

    def receiving(self, link: Link) -> tuple[Host, str]:
        """The host and the interface to receive by."""
        return self.near, "lo" if link == "lo" else _CABLE

    def sending(self, link: Link) -> tuple[Host, str]:
        """The host and the interface to send by."""
        return (self.near, "lo") if link == "lo" else (self.far, _CABLE)


@contextmanager
def open_hosts() -> Iterator[Hosts]:
    """Make two hosts; they are gone after the block.

    Raises:
      NamespacesError: that is impossible here
    """
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise NamespacesError(f"not installed: {', '.join(missing)}")
    with ExitStack() as stack:
        near = stack.enter_context(_open_host(()))
        far = stack.enter_context(_open_host(near.prefix))
        _connect(near, far)
        yield Hosts(near, far)


@contextmanager
def _open_host(inside: tuple[str, ...]) -> Iterator[Host]:
    own_user = not inside and os.geteuid() != 0
    unshare = (
        ("unshare", "--user", "--map-root-user", "--net") if own_user else ("unshare", "--net")
    )
    keeper = subprocess.Popen(
        [*inside, *unshare, "sleep", str(LONGEST)], stderr=subprocess.PIPE, text=True
    )
    try:
        if not _has_entered(keeper):
            keeper.kill()
            assert keeper.stderr is not None
            raise NamespacesError(keeper.stderr.read().strip() or "unshare does not answer")
        enter = ["nsenter", f"--target={keeper.pid}", "--net"]
        if os.geteuid() != 0:
            enter += ["--user", "--preserve-credentials"]
        yield Host(tuple(enter))
    finally:
        keeper.kill()
        keeper.communicate()


def _has_entered(keeper: subprocess.Popen[str]) -> bool:
    """Wait until the process is in its new namespace and runs `sleep`; False if it fails to."""
    name = Path(f"/proc/{keeper.pid}/comm")
    deadline = time.monotonic() + 5
    while keeper.poll() is None and time.monotonic() < deadline:
        if name.read_text().strip() == "sleep":
            return True
        time.sleep(0.002)
    return False


def _connect(near: Host, far: Host) -> None:
    far_pid = next(word.partition("=")[2] for word in far.prefix if word.startswith("--target="))
    near.command("ip", "link", "add", _CABLE, "type", "veth", "peer", "name", "veth1")
    near.command("ip", "link", "set", "veth1", "netns", far_pid, "name", _CABLE)
    for number, host in enumerate((near, far), 1):
        host.command("ip", "link", "set", "lo", "up")
        host.command("ip", "addr", "add", f"10.0.0.{number}/24", "dev", _CABLE)
        host.command("ip", "link", "set", _CABLE, "up")
        # Programs that put all groups on one socket need more memberships than the usual 20.
        host.command("sysctl", "-q", "-w", "net.ipv4.igmp_max_memberships=4096")
