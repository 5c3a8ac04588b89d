"""The system refuses any one call, with any error: an error that is documented, and nothing left.

A program is run that opens, joins, changes filters, sends, follows and closes. Each time another
one of the calls that it makes is refused, first by the sockets, then by what lists interfaces.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from namespaces.network import Card, open_descriptors

import trio_mcast
from trio_mcast._interfaces.following import Event
from trio_mcast._machine.current import machine_in_force
from trio_mcast._machine.machine import Changes
from trio_mcast._machine.receiving import ReceivingSocket, ReceivingSockets, SocketSet
from trio_mcast._machine.this_machine import ThisMachine

GROUP4, GROUP6 = "233.252.0.1", "ff15::4d43:1"
OTHER4, OTHER6 = "233.252.0.2", "ff15::4d43:2"

# One for each way in which the library treats them: something has run out; forbidden; there are
# other ways to do it; unknown to the system; the interface is gone.
ERRORS = [errno.EMFILE, errno.EPERM, errno.ENOPROTOOPT, errno.ENOSYS, errno.ENODEV]

IFF_UP = 0x1  # linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914  # linux/sockios.h

DOCUMENTED = (trio_mcast.MulticastError, trio.BrokenResourceError)


class Refusals:
    """Counts the calls, and refuses one of them."""

    def __init__(self, number: int = 0, which: int = -1, *, for_good: bool = False) -> None:
        self.calls: list[str] = []
        self._number = number
        self._which = which
        self._for_good = for_good

    def check(self, call: str) -> None:
        place = len(self.calls)
        self.calls.append(call)
        if place == self._which or (self._for_good and place > self._which >= 0):
            raise OSError(self._number, os.strerror(self._number))


class RefusingSocket(socket.socket):
    refusals: Refusals

    def setsockopt(self, *args: Any) -> None:
        self.refusals.check("setsockopt")
        super().setsockopt(*args)

    def getsockopt(self, *args: Any) -> Any:
        self.refusals.check("getsockopt")
        return super().getsockopt(*args)

    def bind(self, address: Any) -> None:
        self.refusals.check("bind")
        super().bind(address)

    def connect(self, address: Any) -> None:
        self.refusals.check("connect")
        super().connect(address)

    def sendto(self, *args: Any) -> int:
        self.refusals.check("sendto")
        return super().sendto(*args)

    def sendmsg(self, *args: Any) -> int:
        self.refusals.check("sendmsg")
        return super().sendmsg(*args)

    def recvmsg(self, *args: Any) -> Any:
        self.refusals.check("recvmsg")
        return super().recvmsg(*args)

    def recvfrom(self, *args: Any) -> Any:
        self.refusals.check("recvfrom")
        return super().recvfrom(*args)


class RefusingSet:
    """A `SocketSet` whose additions may be refused, as by epoll_ctl with ENOSPC."""

    def __init__(self, real: SocketSet, refusals: Refusals) -> None:
        self._real = real
        self._refusals = refusals

    def add(self, sock: ReceivingSocket) -> int:
        self._refusals.check("epoll_ctl")
        return self._real.add(sock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class RefusingChanges(Changes):
    is_complete = True

    def __init__(self, real: Changes, refusals: Refusals) -> None:
        self._real = real
        self._refusals = refusals

    async def wait(self) -> None:
        await self._real.wait()
        self._refusals.check("wait for announcements")

    def look(self) -> list[Event]:
        return self._real.look()

    def read(self) -> list[Event]:
        self._refusals.check("read announcements")
        return self._real.read()

    def close(self) -> None:
        self._real.close()


class RefusingMachine(ThisMachine):
    def __init__(self, refusals: Refusals) -> None:
        super().__init__(self._open)
        self._refusals = refusals

    def _open(self, family: int) -> socket.socket:
        self._refusals.check("socket")
        sock = RefusingSocket(family, socket.SOCK_DGRAM)
        sock.refusals = self._refusals
        return sock

    def open_changes(self) -> Changes | None:
        try:
            self._refusals.check("socket of netlink")
        except OSError:
            return None
        changes = super().open_changes()
        return None if changes is None else RefusingChanges(changes, self._refusals)

    def open_receiving_sockets(self) -> ReceivingSockets:
        real = super().open_receiving_sockets()

        def open_set() -> SocketSet | None:
            found = real.open_set()
            return None if found is None else RefusingSet(found, self._refusals)  # type: ignore[return-value]

        return ReceivingSockets(real.open, open_set)


def flap(card: Card) -> None:
    """Switch it off and on, in this thread's namespace and without a program: it is done often."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("=16sH22x", card.name.encode(), 0)
        (flags,) = struct.unpack_from("=H", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)
        for wanted in (flags & ~IFF_UP, flags | IFF_UP):
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("=16sH22x", card.name.encode(), wanted))


async def attempt(step: Callable[[], Awaitable[object] | object]) -> None:
    """Have a step done, or refused in one of the ways that are documented."""
    try:
        result = step()
        if isinstance(result, Awaitable):
            await result
    except DOCUMENTED:
        pass


async def program(card: Card, port: int, family: int) -> None:
    group, other = (GROUP4, OTHER4) if family == 4 else (GROUP6, OTHER6)
    source = "192.0.2.77" if family == 4 else "2001:db8::77"
    try:
        async with trio_mcast.open_receiver(
            group, port=port, interfaces="eth0", loopback=True
        ) as receiver:
            await trio.testing.wait_all_tasks_blocked()
            await attempt(lambda: receiver.join(other))
            await attempt(lambda: receiver.block_source(other, source))
            await attempt(lambda: receiver.unblock_source(other, source))
            await attempt(lambda: receiver.set_sources(other, [source], mode="include"))
            await attempt(lambda: receiver.add_source(other, source))
            await attempt(receiver.statistics)
            await attempt(receiver.memberships)
            try:
                async with trio_mcast.open_sender(group, port=port, interface="eth0") as sender:
                    await attempt(lambda: sender.local_address)
                    async with sender.open_answers():
                        await attempt(lambda: sender.send(b"x"))
                        await attempt(lambda: sender.send_batch([b"x" * 100] * 4))
                        await attempt(lambda: sender.send_to(b"x", (source, port)))
                        with trio.move_on_after(0.02):
                            await attempt(receiver.receive)
                    flap(card)
                    await trio.testing.wait_all_tasks_blocked(0.005)
                    await attempt(lambda: sender.send(b"y"))
            except DOCUMENTED:
                pass
            await attempt(lambda: receiver.leave(other))
            await attempt(lambda: receiver.leave(group))
    except DOCUMENTED:
        pass


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("family", [4, 6])
def test_any_call_may_be_refused(
    here: Card, udp_port: int, family: int, number: int, for_good: bool
) -> None:
    async def run(refusals: Refusals) -> None:
        with machine_in_force(RefusingMachine(refusals)):
            await program(here, udp_port, family)

    counting = Refusals()
    here.host.run(run, counting)
    before = open_descriptors().keys()
    for which, call in enumerate(counting.calls):
        try:
            here.host.run(run, Refusals(number, which, for_good=for_good))
        except BaseException as error:
            error.add_note(f"call {which}, {call}, was refused")
            raise
        assert open_descriptors().keys() == before, f"after call {which}, {call}, was refused"
        for group in (GROUP4, OTHER4, GROUP6, OTHER6):
            assert not here.host.has_joined(group)
