"""Receivers and senders without a network, for the tests of programs that use this library.

They are the real ones, with their buffers, overflow, filters, statistics, memberships and errors;
only the machine beneath is made up: sockets, interfaces, kernel. Nothing is sent, no privilege is
needed, no port is taken, and nothing waits::

    import trio_mcast
    from trio_mcast.testing import open_fake_receiver

    async def test_my_program():
        async with open_fake_receiver("239.1.2.3", port=5000) as (receiver, network):
            await network.send(b"hello", source="192.0.2.77")
            assert await my_program.read_one(receiver) == "hello"

A program that opens its receivers and senders itself is tested on a `MemoryNetwork`, which is in
force for as long as a block lasts::

    network = MemoryNetwork()
    with network.active():
        await my_program.main()
"""

from .machine import SentDatagram as SentDatagram
from .network import (
    FakeSender as FakeSender,
    MemoryNetwork as MemoryNetwork,
    open_fake_receiver as open_fake_receiver,
    open_fake_sender as open_fake_sender,
)
from .values import make_datagram as make_datagram, make_interface as make_interface

__all__ = [
    "FakeSender",
    "MemoryNetwork",
    "SentDatagram",
    "make_datagram",
    "make_interface",
    "open_fake_receiver",
    "open_fake_sender",
]
