"""Announcements of changes: which become which events, and that nothing is lost in silence."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_mcast._interfaces.following import EventsLost, LinkSeen
from trio_mcast._machine import changes_route, this_machine
from trio_mcast._machine.changes_route import RouteSocketChanges, read_messages_untrusted
from trio_mcast._machine.this_machine import ThisMachine

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


class ScriptedSocket:
    """Gives what it was told to, and then has nothing."""

    def __init__(self, *script: bytes | int) -> None:
        self._script = list(script)

    def recv(self, _size: int) -> bytes:
        if not self._script:
            raise BlockingIOError
        step = self._script.pop(0)
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step


def with_socket(kind: type, *script: bytes | int) -> Any:
    changes = kind.__new__(kind)
    changes.socket = ScriptedSocket(*script)
    return changes


# --- Linux -------------------------------------------------------------------------------------


def link_message(index: int, kind: int = 16) -> bytes:
    return struct.pack("=IHHIIBxHiII", 32, kind, 0, 0, 0, 0, 1, index, 0x10000, 0)


@on_linux
def test_all_datagrams_that_are_there_are_read_in_order() -> None:
    from trio_mcast._machine.changes_netlink import NetlinkChanges

    changes = with_socket(NetlinkChanges, link_message(1) + link_message(2), link_message(3))
    assert [event.index for event in changes.read()] == [1, 2, 3]
    assert changes.read() == []


@on_linux
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EINVAL], ids=errno.errorcode.get)
def test_that_announcements_were_lost_is_an_event_and_reading_goes_on(number: int) -> None:
    """EINVAL is QEMU's word for one that it cannot translate."""
    from trio_mcast._machine.changes_netlink import NetlinkChanges

    changes = with_socket(NetlinkChanges, link_message(1), number, link_message(2))
    first, second, third = changes.read()
    assert (first.index, second, third.index) == (1, EventsLost(), 2)


@on_linux
def test_another_error_of_the_socket_is_raised() -> None:
    from trio_mcast._machine.changes_netlink import NetlinkChanges

    with pytest.raises(OSError) as caught:
        with_socket(NetlinkChanges, errno.EBADF).read()
    assert caught.value.errno == errno.EBADF


@on_linux
def test_messages_about_other_matters_are_passed_over() -> None:
    from trio_mcast._machine.changes_netlink import NetlinkChanges

    of_a_bridge = struct.pack("=IHHIIBxHiII", 32, 16, 0, 0, 0, 7, 1, 9, 0, 0)
    of_a_route = struct.pack("=IHHII12x", 28, 24, 0, 0, 0)
    of_decnet = struct.pack("=IHHIIBBBBI", 24, 20, 0, 0, 0, 12, 0, 0, 0, 9)
    assert with_socket(NetlinkChanges, of_a_bridge + of_a_route + of_decnet).read() == []


@on_linux
async def test_a_look_sees_every_interface_at_first_and_is_quiet_then() -> None:
    changes = ThisMachine().open_changes()
    assert changes is not None
    try:
        assert {event.index for event in changes.look() if isinstance(event, LinkSeen)} == {
            index for index, _name in socket.if_nameindex()
        }
        assert not changes.socket.getblocking()
        assert changes.is_complete
    finally:
        changes.close()
    assert changes.socket.fileno() == -1


@on_linux
@pytest.mark.parametrize("refusing", ["setsockopt", "bind"])
def test_announcements_that_cannot_be_listened_to_leave_no_socket_open(
    refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    class Refusing(socket.socket):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    def refuse(*_arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "no")

    setattr(Refusing, refusing, refuse)
    monkeypatch.setattr(socket, "socket", Refusing)
    assert ThisMachine().open_changes() is None
    assert [sock.fileno() for sock in made] == [-1]


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EPERM])
def test_a_system_that_lets_nobody_listen_is_looked_at_instead(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", refuse)
    assert ThisMachine().open_changes() is None


def test_a_lack_of_descriptors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        ThisMachine().open_changes()


def test_an_unknown_system_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine, "sys", type("sys", (), {"platform": "plan9"}))
    assert ThisMachine().open_changes() is None


# --- macOS, whose messages can be read anywhere -------------------------------------------------


def route_message(
    index: int, *, kind: int = changes_route.RTM_IFINFO, flags: int = 0x40, version: int = 5
) -> bytes:
    """struct if_msghdr of net/if.h, whose length is 112 bytes."""
    return struct.pack("=HBBiiH", 112, version, kind, 0, flags, index).ljust(112, b"\0")


def test_the_state_of_an_interface_is_read() -> None:
    data = route_message(4) + route_message(5, flags=0x8863 & ~0x40)
    assert list(read_messages_untrusted(data)) == [
        LinkSeen(4, has_carrier=True),
        LinkSeen(5, has_carrier=False),
    ]


def test_other_messages_and_other_versions_are_passed_over() -> None:
    data = (
        route_message(4, kind=changes_route.RTM_NEWADDR)
        + route_message(5, kind=changes_route.RTM_DELADDR)
        + route_message(6, version=4)
        + route_message(7)
    )
    assert list(read_messages_untrusted(data)) == [LinkSeen(7)]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    assert len(list(read_messages_untrusted(data))) <= len(data) // 14


@given(st.integers(0, 13))
def test_an_impossible_length_ends_the_reading(length: int) -> None:
    data = route_message(4) + struct.pack("=H", length) + route_message(5)[2:]
    assert list(read_messages_untrusted(data)) == [LinkSeen(4)]


def test_a_routing_socket_is_read_until_there_is_nothing() -> None:
    changes = with_socket(RouteSocketChanges, route_message(4), errno.ENOBUFS, route_message(5))
    assert changes.read() == [LinkSeen(4), EventsLost(), LinkSeen(5)]
    assert changes.read() == []
    assert not changes.is_complete
    assert changes.look() == []
    with pytest.raises(OSError):
        with_socket(RouteSocketChanges, errno.EBADF).read()
