"""Find out which services there are on the network, by multicast DNS (RFC 6762, RFC 6763).

Try:

    python listen_mdns.py
    python listen_mdns.py --interface eth0 --seconds 10

It asks every network which kinds of services there are, then for the services of each kind, and
prints what it learns from the answers, to its own questions and to those of others: printers,
televisions, other computers. Port 5353 is shared with the daemon (Avahi, Bonjour, systemd-resolved)
that may be running.

Worth a look: two groups, IPv4 and IPv6, on all interfaces in one receiver; questions that leave by
every interface; and `parse_answers`, which reads the bytes of strangers and believes nothing.
"""

from __future__ import annotations

import argparse
import re
import struct
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import trio

import trio_mcast

GROUPS = ("224.0.0.251", "ff02::fb")
PORT = 5353
SERVICE_TYPES = "_services._dns-sd._udp.local"
SERVICE_TYPE = re.compile(r"_[A-Za-z0-9-]{1,62}\._(tcp|udp)\.local")
MOST_RECORDS = 10_000

A, PTR, AAAA, SRV = 1, 12, 28, 33


class Record(NamedTuple):
    """A resource record, as far as we understand it: `value` is what it says about `name`."""

    name: str
    type: int
    value: str


class MalformedMessage(Exception):
    """Not a DNS message, or a broken one."""


def make_query(name: str) -> bytes:
    """A question for pointers from `name`."""
    labels = [label.encode() for label in name.split(".")]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", 0, 0, 1, 0, 0, 0) + question + struct.pack("!HH", PTR, 1)


def parse_answers(message: bytes) -> list[Record]:
    """The records of a response; none if it is a query.

    Raises:
      MalformedMessage: it is cut off or contradicts itself
    """
    try:
        return list(_read_records(message))
    except (struct.error, IndexError, ValueError) as error:
        raise MalformedMessage(str(error)) from error


def _read_records(message: bytes) -> Iterator[Record]:
    _, flags, questions, *counts = struct.unpack_from("!6H", message)
    if not flags & 0x8000:
        return
    position = 12
    for _ in range(questions):
        _, position = _read_name(message, position)
        position += 4
    for _ in range(sum(counts)):
        name, position = _read_name(message, position)
        kind, _class, _ttl, length = struct.unpack_from("!HHIH", message, position)
        start, position = position + 10, position + 10 + length
        if position > len(message):
            raise MalformedMessage("a record goes on beyond the end of the message")
        data = message[start:position]
        if kind == A:
            yield Record(name, A, str(IPv4Address(data)))
        elif kind == AAAA:
            yield Record(name, AAAA, str(IPv6Address(data)))
        elif kind == PTR:
            yield Record(name, PTR, _read_name(message, start)[0])
        elif kind == SRV:
            port = int.from_bytes(message[start + 4 : start + 6], "big")
            yield Record(name, SRV, f"{_read_name(message, start + 6)[0]} port {port}")


def _read_name(message: bytes, position: int) -> tuple[str, int]:
    """A name, and where the rest of the message begins.

    A name may end in a pointer to where its end was written before (RFC 1035 section 4.1.4). Each
    pointer must lead further back than the last, or else two of them could lead to each other.
    """
    labels: list[bytes] = []
    rest = None
    earliest = position
    while length := message[position]:
        if length < 64:
            labels.append(message[position + 1 : position + 1 + length])
            position += 1 + length
        elif length >= 0xC0:
            rest = rest or position + 2
            position = int.from_bytes(message[position : position + 2], "big") & 0x3FFF
            if position >= earliest:
                raise MalformedMessage("a name leads forward or to itself")
            earliest = position
        else:
            raise MalformedMessage(f"{length:#x} is not the length of a label")
        if sum(map(len, labels)) + len(labels) > 255:
            raise MalformedMessage("a name is longer than names may be")
    return b".".join(labels).decode(errors="replace"), rest or position + 1


class Discovery:
    """What has been learnt so far, so that each thing is told and each kind asked for once."""

    def __init__(self, senders: Sequence[trio_mcast.MulticastSender]) -> None:
        self._senders = senders
        self._known: set[tuple[str, Record]] = set()

    async def ask(self, name: str) -> None:
        for sender in self._senders:
            try:
                await sender.send(make_query(name))
            except trio_mcast.SendError as error:
                print(error)

    async def hear(self, messages: AsyncIterable[trio_mcast.Datagram | trio_mcast.Answer]) -> None:
        async for message in messages:
            try:
                records = parse_answers(message.data)
            except MalformedMessage as error:
                print(f"{message.source[0]} sends what is not DNS: {error}")
                continue
            for record in records:
                await self._learn(message.interface.name, record)

    async def _learn(self, network: str, record: Record) -> None:
        if (network, record) in self._known or len(self._known) >= MOST_RECORDS:
            return
        if record.name.endswith(".arpa"):  # the way back from an address says nothing new
            return
        self._known.add((network, record))
        print(f"{network}: {describe(record)}", flush=True)
        # Asked for only if it looks like a kind of service: it is a stranger who says so.
        if record.name == SERVICE_TYPES and SERVICE_TYPE.fullmatch(record.value):
            await self.ask(record.value)


def describe(record: Record) -> str:
    name, value = (printable(text) for text in (record.name, record.value))
    if record.name == SERVICE_TYPES:
        return f"there are services of the kind {value}"
    if record.type == PTR:
        return f"{name} has {value}"
    return f"{name} is at {value}"


def printable(text: str) -> str:
    """No stranger gets to control our terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


async def main(interfaces: list[str] | None, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(
            trio_mcast.open_receiver(*GROUPS, port=PORT, interfaces=interfaces)
        )
        senders = []
        for group in GROUPS:
            # Not from port 5353: the daemon would lose what is sent to it meanwhile. Who asks from
            # another port is answered there (RFC 6762 section 6.7), so we hear that, too.
            opening = trio_mcast.open_sender(
                group, port=PORT, interfaces=interfaces or "all", hop_limit=255
            )
            try:
                senders.append(await stack.enter_async_context(opening))
            except trio_mcast.InterfaceNotFoundError:
                print(f"no interface here is fit for {group}")
        channels: list[AsyncIterable[trio_mcast.Datagram | trio_mcast.Answer]] = [receiver]
        for sender in senders:
            channels.append(await stack.enter_async_context(sender.open_answers()))
        discovery = Discovery(senders)
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(discovery.hear, channel)
            await discovery.ask(SERVICE_TYPES)
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find services by multicast DNS.")
    parser.add_argument("--interface", action="append", help="again for more; otherwise all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long to listen")
    arguments = parser.parse_args()
    failure: BaseException | None = None
    try:
        trio.run(main, arguments.interface, arguments.seconds)
    except* KeyboardInterrupt:
        pass
    except* trio_mcast.MulticastError as errors:
        failure = errors.exceptions[0]
    if failure is not None:
        raise SystemExit(f"{failure}")
