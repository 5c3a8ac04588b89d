"""Following interfaces where nothing is announced."""

import pytest
import trio
import trio.testing

from trio_mcast import _follow
from trio_mcast.testing import make_interface


async def test_a_wait_that_is_broken_off_does_not_put_the_next_look_off(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    listings = [(make_interface("eth0", index=1),)]
    monkeypatch.setattr(_follow, "open_watch", lambda: None)
    monkeypatch.setattr(_follow, "list_interfaces", lambda: listings[-1])
    feed = _follow.InterfaceFeed()
    listings.append((*listings[0], make_interface("eth1", index=2)))
    began = trio.current_time()
    events: list[object] = []
    while not events:
        with trio.move_on_after(0.75):
            events = list(await feed.wait())
    assert trio.current_time() - began == 2
    assert [event.index for event in events] == [2]  # type: ignore[attr-defined]
    feed.close()
