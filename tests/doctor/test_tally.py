"""What strangers send is counted within limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, strategies as st

from trio_mcast._doctor.evidence import Crowd, Stream
from trio_mcast._doctor.tally import MOST_STREAMS, Tally

GROUP = "233.252.0.1"
ETH0 = 11


def stream(source: int, port: int = 5000, flaw: str = "") -> Stream:
    return Stream(GROUP, ETH0, str(source), port, 1, 1, flaw)


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans()), max_size=400))
def test_counts_of_those_listed_are_exact_and_nothing_is_lost(
    sent: list[tuple[int, bool, bool]],
) -> None:
    tally, truth = Tally(), Counter[Stream]()
    for source, is_wanted, is_flawed in sent:
        one = stream(source, 5000 if is_wanted else 6000, "odd" if is_flawed else "")
        tally.add(one, is_wanted)
        truth[one] += 1
    for listed in tally.streams():
        assert listed.count == truth[replace(listed, count=1)]
    listed_and_more = [entry.count for entry in (*tally.streams(), *tally.crowds())]
    assert sum(listed_and_more) == len(sent)
    assert len(tally.streams()) <= 4 * MOST_STREAMS


def test_others_take_no_place_from_what_was_asked_for() -> None:
    tally = Tally()
    for source in range(1000):
        tally.add(stream(source, 6000), is_wanted=False)
        tally.add(stream(source, flaw="odd"), is_wanted=True)
    tally.add(stream(7), is_wanted=True)
    assert stream(7) in tally.streams()
    beyond = 1000 - MOST_STREAMS
    assert set(tally.crowds()) == {
        Crowd(GROUP, ETH0, is_wanted=False, is_flawed=False, count=beyond),
        Crowd(GROUP, ETH0, is_wanted=True, is_flawed=True, count=beyond),
    }
