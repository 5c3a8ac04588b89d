"""What is held is bounded in datagrams and in bytes, whatever comes and goes."""

from __future__ import annotations

from collections import deque

from hypothesis import given, strategies as st

from trio_mcast._receive.backlog import Backlog
from trio_mcast.testing import make_datagram

MOST_DATAGRAMS = 12
MOST_BYTES = 100

reads = st.lists(st.binary(max_size=60), min_size=1, max_size=8)
steps = st.one_of(reads, st.integers(1, 20), st.just("clear"))


class Oracle:
    """The same, counted one by one."""

    def __init__(self) -> None:
        self.held: deque[bytes] = deque()
        self.largest_read = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.held))

    def add(self, payloads: list[bytes]) -> None:
        self.held += payloads
        self.largest_read = max(self.largest_read, sum(map(len, payloads)))

    def shed(self) -> list[bytes]:
        shed = []
        while len(self.held) > MOST_DATAGRAMS or self.size > MOST_BYTES:
            shed.append(self.held.popleft())
        return shed


def apply(held: Backlog, oracle: Oracle, step: list[bytes] | int | str) -> None:
    if isinstance(step, list):
        held.add([make_datagram(data) for data in step], sum(map(len, step)))
        oracle.add(step)
    elif isinstance(step, int):
        for _ in range(min(step, len(held))):
            assert held.popleft().data == oracle.held.popleft()
    else:
        held.clear()
        oracle.held.clear()


@given(st.lists(steps))
def test_what_is_shed_is_exactly_what_is_too_much(
    steps: list[list[bytes] | int | str],
) -> None:
    held, oracle = Backlog(MOST_DATAGRAMS, MOST_BYTES), Oracle()
    for step in steps:
        apply(held, oracle, step)
        assert [datagram.data for datagram in held.shed()] == oracle.shed()
        assert [datagram.data for datagram in held] == list(oracle.held)


@given(st.lists(steps))
def test_there_is_room_only_below_both_bounds_and_surely_one_read_below_them(
    steps: list[list[bytes] | int | str],
) -> None:
    held, oracle = Backlog(MOST_DATAGRAMS, MOST_BYTES), Oracle()
    for step in steps:
        apply(held, oracle, step)
        if held.room() > 0:
            assert held.room() == MOST_DATAGRAMS - len(oracle.held)
            assert oracle.size < MOST_BYTES
        elif len(oracle.held) < MOST_DATAGRAMS:
            assert oracle.size + oracle.largest_read > MOST_BYTES
        if not oracle.held:
            assert held.room() == MOST_DATAGRAMS
