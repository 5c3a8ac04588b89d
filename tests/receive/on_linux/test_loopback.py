"""The loopback interface of this machine itself: what runs where no network can be made.

As on an emulated processor: QEMU's emulation of Linux passes on few socket options, and not the
requests that cables between namespaces take.
"""

from __future__ import annotations

import pytest
import trio
from namespaces.receiving import GROUP4, everything
from patience import PATIENCE

import trio_mcast
from trio_mcast._machine import feed


async def test_what_is_sent_there_is_heard_there(
    udp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv4, which needs no route there. Of other groups on that port nothing is heard."""
    monkeypatch.setattr(feed, "_POLL_SECONDS", 0.05)
    with trio.fail_after(PATIENCE):
        async with (
            trio_mcast.open_receiver(
                GROUP4, port=udp_port, interfaces="lo", packet_info="hop_limit"
            ) as receiver,
            trio_mcast.open_receiver("233.252.0.2", port=udp_port, interfaces="lo") as other,
            trio_mcast.open_sender(GROUP4, port=udp_port, interface="lo", hop_limit=3) as sender,
        ):
            events = receiver.events()
            await sender.send(b"one")
            await sender.send_batch([b"two", b"three"])
            heard = [await receiver.receive() for _ in range(3)]
            assert [datagram.data for datagram in heard] == [b"one", b"two", b"three"]
            for datagram in heard:
                assert datagram.source[0] == "127.0.0.1"
                assert datagram.interface.name == "lo"
                assert datagram.hop_limit == 3
            assert receiver.statistics().datagrams_received == 3
            assert sender.statistics().datagrams_sent == 3
            assert await everything(other) == []
            with trio.move_on_after(0.2) as looks:  # some, at groups that are still there
                await events.receive()
            assert looks.cancelled_caught
            assert [m.error for m in receiver.memberships()] == [None]
            await receiver.leave(GROUP4)
            await sender.send(b"late")
            assert await everything(receiver) == []
