"""Both ways of reading give the same datagrams, for whatever arrives."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import assume, given, settings, strategies as st

from trio_mcast import Datagram, list_interfaces
from trio_mcast._machine import sources, this_machine
from trio_mcast._machine.read_recvmsg import ReadBuffer, RecvmsgSocket
from trio_mcast._machine.receiving import DATAGRAMS_PER_READ, Origin, ReceivingSocket
from trio_mcast._machine.sockets import current_platform
from trio_mcast._plan.packet_info import PACKET_INFO, packet_info_options
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast.testing import make_interface

if sys.platform != "linux":
    pytest.skip("recvmmsg is Linux'", allow_module_level=True)

from trio_mcast._machine import read_recvmmsg
from trio_mcast._machine.read_recvmmsg import BatchBuffers, RecvmmsgSocket

PLATFORM = current_platform()

HOSTS = {4: "127.0.0.1", 6: "::1"}
both_families = pytest.mark.parametrize("version", [4, 6])

OpenReader = Callable[[Any, Origin], ReceivingSocket]

NO_PLAN = SocketPlan(socket.AF_INET, (), None, ())  # reading asks for none


def fast(buffers: BatchBuffers | None = None) -> OpenReader:
    buffers = buffers or BatchBuffers(PLATFORM)
    return lambda sock, origin: RecvmmsgSocket(buffers, sock, NO_PLAN, origin)


def portable(buffers: ReadBuffer) -> OpenReader:
    return lambda sock, origin: RecvmsgSocket(buffers, sock, NO_PLAN, origin)


FAST: OpenReader = fast()
PORTABLE: OpenReader = portable(ReadBuffer(PLATFORM))


def origin(version: int, *, has_ancillary: bool = False) -> Origin:
    group = ip_address("233.252.0.1" if version == 4 else "ff15::4d43:1")
    return Origin.make(group, 5000, make_interface(), has_ancillary=has_ancillary)


def open_socket(version: int, host: str | None = None, scope: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setblocking(False)
    host = HOSTS[version] if host is None else host
    sock.bind((host, 0) if version == 4 else (host, 0, 0, scope))
    return sock


@contextlib.contextmanager
def open_pair(version: int, **where: Any) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets for the same traffic, one for each reader."""
    try:
        with open_socket(version, **where) as one, open_socket(version, **where) as other:
            for sock in (one, other):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            yield one, other
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            pytest.skip("this machine lacks this IP version")
        raise


def ask_for_everything(version: Any, *socks: socket.socket) -> None:
    for sock in socks:
        for option in packet_info_options(PLATFORM, version, PACKET_INFO):
            sock.setsockopt(option.level, option.option, option.value)


def read_once(reader: ReceivingSocket, again: bool = False) -> list[Datagram]:
    """What one read gives, which is appended, and counted."""
    found = before = [Datagram(b"before", (), *reader.origin.rest[:3])]
    count, size = reader.datagrams_read, reader.bytes_read
    was_there = reader.read(found, again)
    assert found[0] is before[0]
    datagrams = found[1:]
    assert was_there or not datagrams
    assert reader.datagrams_read - count == len(datagrams)
    assert reader.bytes_read - size == sum(len(datagram.data) for datagram in datagrams)
    return datagrams


def read_all(reader: ReceivingSocket) -> list[Datagram]:
    found: list[Datagram] = []
    while datagrams := read_once(reader, again=bool(found)):
        found += datagrams
    return found


def without_times(datagrams: list[Datagram]) -> list[Datagram]:
    return [datagram._replace(timestamp=None) for datagram in datagrams]


def read_both(
    version: int, pair: tuple[socket.socket, socket.socket], *, has_ancillary: bool = False
) -> list[Datagram]:
    """What both readers agree on."""
    where = origin(version, has_ancillary=has_ancillary)
    found = read_all(FAST(pair[0], where))
    assert without_times(found) == without_times(read_all(PORTABLE(pair[1], where)))
    for datagram in found:
        assert type(datagram) is Datagram
        assert type(datagram.data) is bytes
        of_membership = (datagram.group, datagram.port, datagram.interface)
        assert of_membership == (where.group, where.port, where.interface)
    return found


def payload(size: int, seed: int) -> bytes:
    return (seed.to_bytes(4, "big") * (size // 4 + 1))[:size]


# --- The same from both ------------------------------------------------------------------------

sizes = st.lists(st.sampled_from([0, 0, 1, 3, 64, 64, 64, 1472, 9000, 65507]), max_size=150)


@settings(deadline=None, max_examples=60)
@given(
    version=st.sampled_from([4, 6]),
    sizes=sizes,
    senders=st.lists(st.integers(0, 4), min_size=150, max_size=150),
    has_ancillary=st.booleans(),
)
def test_both_readers_give_what_was_sent(
    version: int, sizes: list[int], senders: list[int], has_ancillary: bool
) -> None:
    assume(sum(size + 800 for size in sizes) < 150_000)  # all of it fits into the buffers
    with open_pair(version) as pair, contextlib.ExitStack() as stack:
        if has_ancillary:
            ask_for_everything(version, *pair)
        talkers = [stack.enter_context(open_socket(version)) for _ in range(5)]
        expected = []
        for number, (size, sender) in enumerate(zip(sizes, senders, strict=False)):
            for sock in pair:
                talkers[sender].sendto(payload(size, number), sock.getsockname())
            expected.append((payload(size, number), talkers[sender].getsockname()))
        found = read_both(version, pair, has_ancillary=has_ancillary)
        assert [(datagram.data, datagram.source) for datagram in found] == expected
        for datagram in found:
            assert (datagram.hop_limit is not None) == has_ancillary
            assert (datagram.timestamp is not None) == has_ancillary
            assert (datagram.traffic_class is not None) == has_ancillary
            assert not datagram.truncated


@both_families
@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 9000, 65507])
def test_every_size_arrives_whole(version: int, size: int) -> None:
    with open_pair(version) as pair, open_socket(version) as talker:
        for sock in pair:
            talker.sendto(payload(size, 7), sock.getsockname())
        (datagram,) = read_both(version, pair)
        assert datagram.data == payload(size, 7)


def test_the_largest_datagram_of_ipv6_arrives_whole() -> None:
    with open_pair(6) as pair, open_socket(6) as talker:
        for sock in pair:
            talker.sendto(payload(65527, 7), sock.getsockname())
        (datagram,) = read_both(6, pair)
        assert datagram.data == payload(65527, 7)


@both_families
def test_ancillary_data_is_read_for_each_datagram(version: int) -> None:
    with open_pair(version) as pair, open_socket(version) as talker:
        ask_for_everything(version, *pair)
        level = socket.IPPROTO_IP if version == 4 else socket.IPPROTO_IPV6
        hops = socket.IP_TTL if version == 4 else socket.IPV6_UNICAST_HOPS
        traffic_class = socket.IP_TOS if version == 4 else socket.IPV6_TCLASS
        before = time.time_ns()
        for number in range(100):
            talker.setsockopt(level, hops, 1 + number)
            talker.setsockopt(level, traffic_class, (number % 60) << 2)
            for sock in pair:
                talker.sendto(b"%d" % number, sock.getsockname())
        found = read_both(version, pair, has_ancillary=True)
        after = time.time_ns()
        assert [d.hop_limit for d in found] == [1 + number for number in range(100)]
        assert [d.traffic_class for d in found] == [(n % 60) << 2 for n in range(100)]
        times = [d.timestamp or 0 for d in found]
        assert times == sorted(times)
        margin = 50_000_000  # the kernel's clock and ours are read at different ticks
        assert before - margin <= times[0] <= times[-1] <= after + margin


@pytest.mark.parametrize("first_with", [True, False])
def test_sockets_with_and_without_ancillary_data_share_their_buffers(first_with: bool) -> None:
    open_reader = fast()
    with open_pair(4) as (asking, plain), open_socket(4) as talker:
        ask_for_everything(4, asking)
        order = [asking, plain] if first_with else [plain, asking]
        for _ in range(3):
            for count in (1, 5):
                for sock in order:
                    for number in range(count):
                        talker.sendto(b"%d" % number, sock.getsockname())
                    found = read_all(open_reader(sock, origin(4, has_ancillary=sock is asking)))
                    assert [d.data for d in found] == [b"%d" % n for n in range(count)]
                    assert {d.hop_limit is not None for d in found} == {sock is asking}


@pytest.mark.parametrize("count", [1, 9])
def test_sockets_of_both_families_share_their_buffers(count: int) -> None:
    open_reader = fast()
    with (
        open_pair(4) as (four, _),
        open_pair(6) as (six, _),
        open_socket(4) as talker4,
        open_socket(6) as talker6,
    ):
        reader4, reader6 = open_reader(four, origin(4)), open_reader(six, origin(6))
        for _ in range(3):
            for _ in range(count):
                talker4.sendto(b"four", four.getsockname())
                talker6.sendto(b"six", six.getsockname())
            of_six, of_four = read_all(reader6), read_all(reader4)
            assert [d[:2] for d in of_four] == [(b"four", talker4.getsockname())] * count
            assert [d[:2] for d in of_six] == [(b"six", talker6.getsockname())] * count


def link_local() -> Iterator[tuple[str, int]]:
    for interface in list_interfaces():
        for address in interface.addresses:
            if interface.is_up and address.version == 6 and address.is_link_local:
                yield str(address.ip), interface.index


def test_a_link_local_sender_has_its_scope() -> None:
    for host, index in link_local():
        try:
            talker = open_socket(6, host=host, scope=index)
        except OSError:  # a tentative address cannot be bound to
            continue
        with talker, open_pair(6, host=host, scope=index) as pair:
            for sock in pair:
                talker.sendto(b"x", sock.getsockname())
            (datagram,) = read_both(6, pair)
            assert datagram.source == (host, talker.getsockname()[1], 0, index)
            return
    pytest.skip("no interface has a link-local address")


# --- Many senders ------------------------------------------------------------------------------


@both_families
def test_more_senders_than_are_remembered_are_told_apart(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_LIMIT", 7)
    buffers = BatchBuffers(PLATFORM)
    with open_pair(version) as (sock, _), contextlib.ExitStack() as stack:
        talkers = [stack.enter_context(open_socket(version)) for _ in range(30)]
        for _ in range(3):
            for talker in talkers:
                talker.sendto(b"", sock.getsockname())
            found = read_all(fast(buffers)(sock, origin(version)))
            assert [d.source for d in found] == [t.getsockname() for t in talkers]
            assert 0 < len(buffers._sources._known) <= 7


# --- Batches -----------------------------------------------------------------------------------


def used_to_batches(reader: ReceivingSocket) -> ReceivingSocket:
    """As after a flood: from now on, read in batches until there is only one."""
    reader._single_reads_left = 0  # type: ignore[attr-defined]
    return reader


@pytest.mark.parametrize("opener", [FAST, PORTABLE], ids=["recvmmsg", "portable"])
@pytest.mark.parametrize("has_ancillary", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 128, 150])
def test_a_batch_is_no_larger_than_64_and_nothing_is_left(
    opener: OpenReader, has_ancillary: bool, count: int
) -> None:
    with open_pair(4) as (sock, _), open_socket(4) as talker:
        if has_ancillary:
            ask_for_everything(4, sock)
        for number in range(count):
            talker.sendto(b"%d" % number, sock.getsockname())
        reader = opener(sock, origin(4, has_ancillary=has_ancillary))
        if opener is FAST:
            used_to_batches(reader)
        sizes = [len(read_once(reader, again=number > 0)) for number in range(4)]
        full, rest = divmod(count, DATAGRAMS_PER_READ)
        expected = [DATAGRAMS_PER_READ] * full + [rest]
        assert sizes == (expected + [0] * 4)[:4]


def test_nothing_to_read_is_an_empty_batch() -> None:
    with open_pair(4) as pair:
        for opener, sock in zip((FAST, PORTABLE), pair, strict=True):
            assert not opener(sock, origin(4)).read([], False)
        assert not used_to_batches(FAST(pair[0], origin(4))).read([], False)


def test_a_socket_is_read_in_batches_as_soon_as_and_as_long_as_that_pays() -> None:
    with open_pair(4) as (sock, _), open_socket(4) as talker:
        reader = FAST(sock, origin(4))

        def sizes(*, sent: int) -> list[int]:
            for _ in range(sent):
                talker.sendto(b"", sock.getsockname())
            found: list[int] = []
            while count := len(read_once(reader, again=bool(found))):
                found.append(count)
            return found

        for _ in range(2):
            assert [sizes(sent=2) for _ in range(5)] == [[1, 1]] * 5
            assert sizes(sent=20) == [1, 1, 1, 17]
            assert sizes(sent=40) == [40]
            assert sizes(sent=3) == [3]
            assert sizes(sent=1) == [1]


def test_what_was_read_stays_as_it_is_when_more_is_read() -> None:
    with open_pair(4) as pair, open_socket(4) as talker:
        found = []
        for letter in (b"a", b"b", b"c"):
            for sock in pair:
                talker.sendto(letter * 100, sock.getsockname())
            found += read_both(4, pair)
        assert [d.data for d in found] == [b"a" * 100, b"b" * 100, b"c" * 100]


# --- Merged datagrams --------------------------------------------------------------------------

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("size", "total"), [(100, 1000), (100, 1050), (1, 60), (1400, 1400 * 40)])
@pytest.mark.parametrize("with_info", [False, True])
def test_datagrams_that_the_kernel_has_merged_are_taken_apart(
    version: int, size: int, total: int, with_info: bool
) -> None:
    data = bytes(itertools.islice(itertools.cycle(range(251)), total))
    with open_pair(version) as pair, open_socket(version) as talker:
        for sock in pair:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        if with_info:
            ask_for_everything(version, *pair)
        segments = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        for sock in pair:
            talker.sendto(b"before", sock.getsockname())
            try:
                talker.sendmsg([data], segments, 0, sock.getsockname())
            except OSError:
                pytest.skip("this kernel cuts no datagrams apart")
            talker.sendto(b"", sock.getsockname())
            talker.sendto(b"after", sock.getsockname())
        found = read_both(version, pair, has_ancillary=True)
        pieces = [data[start : start + size] for start in range(0, total, size)]
        assert [d.data for d in found] == [b"before", *pieces, b"", b"after"]
        assert {d.hop_limit is not None for d in found} == {with_info}
        assert {d.source for d in found} == {talker.getsockname()}


# --- Errors ------------------------------------------------------------------------------------


def in_batches(sock: socket.socket, origin: Origin) -> ReceivingSocket:
    return used_to_batches(FAST(sock, origin))


every_way = pytest.mark.parametrize(
    "opener", [FAST, in_batches, PORTABLE], ids=["recvmsg", "recvmmsg", "portable"]
)


@every_way
@pytest.mark.parametrize("has_ancillary", [False, True])
def test_a_closed_socket_is_an_error(opener: OpenReader, has_ancillary: bool) -> None:
    sock = open_socket(4)
    reader = opener(sock, origin(4, has_ancillary=has_ancillary))
    sock.close()
    with pytest.raises(OSError) as caught:
        reader.read([], False)
    assert caught.value.errno == errno.EBADF


@every_way
def test_what_the_kernel_refuses_is_an_error_that_names_it(opener: OpenReader) -> None:
    with open_socket(4) as sock, open_socket(4) as nobody:
        reader = opener(sock, origin(4))
        sock.connect(nobody.getsockname())
        nobody.close()
        sock.send(b"")
        with pytest.raises(ConnectionRefusedError):
            reader.read([], False)
        assert not reader.read([], False)


# --- Unwanted senders --------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("count", [1, 9])
def test_what_unwanted_senders_send_is_dropped_and_not_counted(
    opener: OpenReader, count: int
) -> None:
    with open_pair(6) as (sock, _), open_socket(6) as talker:
        reader = opener(sock, origin(6))
        for unwanted in (frozenset({"::1"}), frozenset({"::2"})):
            reader.unwanted_sources = unwanted
            for number in range(count):
                talker.sendto(b"%d" % number, sock.getsockname())
            found: list[Datagram] = []
            while reader.read(found, True):
                pass
            expected = [] if "::1" in unwanted else [b"%d" % number for number in range(count)]
            assert [d.data for d in found] == expected
            assert (reader.datagrams_read, reader.bytes_read) == (len(expected), len(expected))


class Scripted:
    """A socket that gives what it was told to, and then has nothing."""

    family = socket.AF_INET

    def __init__(self, *script: bytes | OSError) -> None:
        self._script = list(script)

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, tuple[str, int]]:
        if not self._script:
            raise BlockingIOError
        step = self._script.pop(0)
        if isinstance(step, OSError):
            raise step
        buffer[: len(step)] = step
        return len(step), ("192.0.2.1", 7)


def scripted_reader(*script: bytes | OSError) -> ReceivingSocket:
    return PORTABLE(Scripted(*script), origin(4))


def data_of(datagrams: list[Datagram]) -> list[bytes]:
    return [datagram.data for datagram in datagrams]


def test_what_was_read_before_an_error_goes_first() -> None:
    reader = scripted_reader(b"a", b"b", OSError(errno.EIO, "broken"), b"c")
    assert data_of(read_once(reader)) == [b"a", b"b"]
    assert data_of(read_once(reader)) == [b"c"]
    with pytest.raises(OSError, match="broken"):
        scripted_reader(OSError(errno.EIO, "broken"), b"c").read([], False)


def test_an_answer_that_met_a_closed_port_says_nothing_about_this_socket() -> None:
    reader = scripted_reader(ConnectionResetError(), b"a", ConnectionResetError(), b"b")
    assert data_of(read_once(reader)) == [b"a", b"b"]


def test_an_endless_run_of_resets_ends() -> None:
    assert not scripted_reader(*[ConnectionResetError()] * 1000).read([], False)


def test_a_cut_datagram_says_so() -> None:
    buffers = ReadBuffer(PLATFORM)
    buffers.buffer = memoryview(bytearray(10))
    with open_pair(4) as (sock, _), open_socket(4) as talker:
        for size in (10, 11):
            talker.sendto(payload(size, 1), sock.getsockname())
        found = read_once(portable(buffers)(sock, origin(4, has_ancillary=True)))
        assert [d.truncated for d in found] == [False, True]
        assert [len(d.data) for d in found] == [10, 10]


# --- Strays, which some systems deliver --------------------------------------------------------


def test_what_was_for_another_group_or_interface_is_dropped_where_that_is_told() -> None:
    with open_pair(4) as (sock, _), open_socket(4) as talker:
        sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO, linux/in.h
        loopback = next(i for i in list_interfaces() if i.is_loopback)
        here = ip_address("127.0.0.1")
        right = Origin.make(here, 5000, loopback, has_ancillary=True)
        other_group = right._replace(packed_group=ip_address("233.252.0.1").packed)
        other_interface = right.on(make_interface(index=loopback.index + 1))
        for where, count in ((right, 1), (other_group, 0), (other_interface, 0)):
            talker.sendto(b"", sock.getsockname())
            reader = PORTABLE(sock, where)
            assert len(read_once(reader)) == count
            assert not reader.read([], False)


# --- The choice --------------------------------------------------------------------------------


def test_linux_reads_in_batches_and_a_thread_has_one_set_of_buffers_for_them() -> None:
    assert read_recvmmsg.IS_AVAILABLE
    with open_pair(4) as (one, other):
        readers = [this_machine._find_way_to_read()(s, NO_PLAN, origin(4)) for s in (one, other)]
    seen = {reader._buffers for reader in readers if isinstance(reader, RecvmmsgSocket)}
    assert len(seen) == 1


def test_without_recvmmsg_the_portable_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_recvmmsg, "IS_AVAILABLE", False)
    monkeypatch.setattr(this_machine, "_per_thread", threading.local())
    with open_socket(4) as sock:
        reader = this_machine._find_way_to_read()(sock, NO_PLAN, origin(4))
        assert type(reader) is RecvmsgSocket
