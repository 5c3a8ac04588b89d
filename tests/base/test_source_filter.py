"""Source filters: against a model that says of every sender whether it is heard (RFC 3678)."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_mcast._base.errors import MulticastError
from trio_mcast._base.source_filter import SourceFilter

SENDERS = [IPv4Address(f"192.0.2.{n}") for n in range(1, 6)]
senders = st.sampled_from(SENDERS)


def heard(filter_: SourceFilter) -> set[IPv4Address]:
    """Of all the senders there are."""
    named = set(filter_.sources)
    return named if filter_.mode == "include" else set(SENDERS) - named  # type: ignore[return-value]


class Filtering(RuleBasedStateMachine):
    """One more or one less, allowed or not, in any order."""

    filter: SourceFilter
    names_the_heard: bool
    heard: set[IPv4Address]

    @initialize(sources=st.lists(senders, unique=True))
    def join(self, sources: list[IPv4Address]) -> None:
        self.filter = SourceFilter.admitting(tuple(sources))
        self.names_the_heard = bool(sources)
        self.heard = set(sources or SENDERS)

    def _change(self, verb: str, source: IPv4Address, *, is_allowed: bool) -> bool:
        before = self.filter
        if is_allowed:
            self.filter = getattr(self.filter, verb)(source)
        else:
            with pytest.raises(MulticastError, match=r"192\.0\.2|hears nobody"):
                getattr(self.filter, verb)(source)
            assert self.filter == before
        return is_allowed

    @rule(source=senders)
    def add(self, source: IPv4Address) -> None:
        allowed = self.names_the_heard and source not in self.heard
        if self._change("adding", source, is_allowed=allowed):
            self.heard.add(source)

    @rule(source=senders)
    def remove(self, source: IPv4Address) -> None:
        allowed = self.names_the_heard and source in self.heard and self.heard != {source}
        if self._change("removing", source, is_allowed=allowed):
            self.heard.remove(source)

    @rule(source=senders)
    def block(self, source: IPv4Address) -> None:
        allowed = not self.names_the_heard and source in self.heard
        if self._change("blocking", source, is_allowed=allowed):
            self.heard.remove(source)

    @rule(source=senders)
    def unblock(self, source: IPv4Address) -> None:
        allowed = not self.names_the_heard and source not in self.heard
        if self._change("unblocking", source, is_allowed=allowed):
            self.heard.add(source)

    @invariant()
    def the_same_senders_are_heard(self) -> None:
        assert heard(self.filter) == self.heard

    @invariant()
    def the_mode_never_changes(self) -> None:
        assert (self.filter.mode == "include") == self.names_the_heard

    @invariant()
    def each_source_is_named_once(self) -> None:
        assert len(set(self.filter.sources)) == len(self.filter.sources)


Filtering.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestFiltering = Filtering.TestCase


@given(st.lists(senders, unique=True, max_size=3), senders)
def test_what_is_done_can_be_undone(blocked: list[IPv4Address], source: IPv4Address) -> None:
    before = SourceFilter("exclude", tuple(s for s in blocked if s != source))
    assert before.blocking(source).unblocking(source) == before
    other = SourceFilter("include", (IPv4Address("198.51.100.1"), *before.sources))
    assert other.adding(source).removing(source) == other


@pytest.mark.parametrize(
    ("filter_", "verb", "says"),
    [
        (SourceFilter("exclude"), "adding", "cannot be added.*exclude mode"),
        (SourceFilter("exclude", (SENDERS[0],)), "removing", "not be removed|cannot be removed"),
        (SourceFilter("include", (SENDERS[1],)), "blocking", "cannot be blocked.*include mode"),
        (SourceFilter("include", (SENDERS[0],)), "unblocking", "cannot be unblocked.*include"),
        (SourceFilter("include", (SENDERS[0],)), "adding", "heard already"),
        (SourceFilter("include", (SENDERS[1],)), "removing", "none of the sources"),
        (SourceFilter("exclude", (SENDERS[0],)), "blocking", "blocked already"),
        (SourceFilter("exclude"), "unblocking", "not blocked"),
        (SourceFilter("include", (SENDERS[0],)), "removing", "hears nobody: leave the group"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_message_says_why(
    filter_: SourceFilter, verb: str, says: str
) -> None:
    with pytest.raises(MulticastError, match=says):
        getattr(filter_, verb)(SENDERS[0])


def test_a_filter_that_hears_nobody_cannot_be_made() -> None:
    with pytest.raises(MulticastError, match="nobody"):
        SourceFilter("include")


def test_a_join_with_sources_names_them_and_one_without_hears_everyone() -> None:
    assert SourceFilter.admitting(()) == SourceFilter("exclude", ())
    assert SourceFilter.admitting(tuple(SENDERS)) == SourceFilter("include", tuple(SENDERS))


def test_a_filter_is_a_value() -> None:
    filter_: Any = SourceFilter("exclude", (SENDERS[0],))
    with pytest.raises(FrozenInstanceError):
        filter_.mode = "include"
    assert {filter_: 1}[SourceFilter("exclude", (SENDERS[0],))] == 1
