"""What comes back to a sender's own address and port."""

from __future__ import annotations

from typing import NamedTuple

import trio

from .._base.datagram import SocketAddress
from .._base.interface import Interface
from .outgoing_interface import OutgoingInterface


class Answer(NamedTuple):
    """A unicast datagram that somebody sent back to a sender's own address and port.

    Attributes:
      data: the payload
      source: who answered, as the `socket` module writes addresses
      interface: the interface that the question went out by
    """

    data: bytes
    source: SocketAddress
    interface: Interface


@trio.lowlevel.enable_ki_protection
async def hear_answers(
    outgoing: OutgoingInterface, send_channel: trio.MemorySendChannel[Answer]
) -> None:
    """The task that hears one interface's answers, through all sockets that it has in time."""
    while not outgoing.is_closed:
        changed, sock = outgoing.changed, outgoing.socket
        if sock is None:
            await changed.wait()
            continue
        try:
            await sock.wait_readable()
            data, source = sock.receive()
            await send_channel.send(Answer(data, source, outgoing.interface))
        except trio.ClosedResourceError:
            continue
        except trio.BrokenResourceError:
            return
        except OSError:  # an ICMP error about something sent, or nothing there
            sock.take_errors()
