"""A chat without a server: what one types, everyone in the group reads.

Try, in two terminals of one machine or of two on the same network:

    python group_chat.py --name Ada
    python group_chat.py --name Grace

and, where there is no network at all, `--interface lo` (Linux) for both. Lines are sent as JSON.
Our own come back as well, for that is how multicast is; the address they come from tells them.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from io import FileIO

import trio

import trio_mcast


def open_standard_input() -> FileIO:
    """Unbuffered: a thread that waits in a buffered read would keep Python from ending."""
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


async def say_what_is_typed(sender: trio_mcast.MulticastSender, name: str) -> None:
    """Send every line of standard input."""
    with open_standard_input() as typed:
        while line := await trio.to_thread.run_sync(typed.readline, abandon_on_cancel=True):
            text = line.decode(errors="replace").rstrip("\r\n")
            await sender.send(json.dumps({"name": name, "text": text}).encode())


async def print_what_is_said(
    receiver: trio_mcast.MulticastReceiver, sender: trio_mcast.MulticastSender
) -> None:
    """Print the lines of others."""
    own_port = sender.local_address[1]
    own_addresses = {str(a.ip) for i in trio_mcast.list_interfaces() for a in i.addresses}
    async for datagram in receiver:
        host, port = datagram.source[:2]
        if port == own_port and host.partition("%")[0] in own_addresses:
            continue
        if line := read_line(datagram.data):
            print(line, flush=True)


def read_line(data: bytes) -> str | None:
    """A line of the chat, or None: anyone can send anything to a group."""
    try:
        message = json.loads(data)
        line = f"{message['name']}: {message['text']}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return "".join(c if c.isprintable() else "?" for c in line)


async def main(group: str, port: int, name: str, interface: str | None) -> None:
    async with (
        trio_mcast.open_receiver(group, port=port, interfaces=interface) as receiver,
        trio_mcast.open_sender(group, port=port, interface=interface) as sender,
        trio.open_nursery() as nursery,
    ):
        print(f"{name} is in {group} port {port}; Ctrl-D leaves", file=sys.stderr, flush=True)
        nursery.start_soon(print_what_is_said, receiver, sender)
        await say_what_is_typed(sender, name)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Chat on a multicast group.")
    parser.add_argument("--group", default="239.255.67.72")
    parser.add_argument("--port", type=int, default=6772)
    parser.add_argument("--name", default=getpass.getuser())
    parser.add_argument("--interface", help="otherwise the one with the default route")
    arguments = parser.parse_args()
    failure: BaseException | None = None
    try:
        trio.run(main, arguments.group, arguments.port, arguments.name, arguments.interface)
    except* KeyboardInterrupt:
        pass
    except* trio_mcast.MulticastError as errors:
        failure = errors.exceptions[0]
    if failure is not None:
        raise SystemExit(f"{failure}")
