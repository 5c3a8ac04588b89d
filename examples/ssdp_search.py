"""Find devices on the network by SSDP, the discovery of UPnP: media players, routers, lamps.

Try:

    python ssdp_search.py
    python ssdp_search.py --target upnp:rootdevice --wait 5 --interface eth0

The question (M-SEARCH) goes to a group, out of every interface; the answers come back by unicast to
the very socket that asked, which is what `MulticastSender.open_answers` is for. Each device waits a
random time before it answers, up to the seconds that the question grants (MX).
"""

from __future__ import annotations

import argparse

import trio

import trio_mcast

GROUP, PORT = "239.255.255.250", 1900
SHOWN = ("LOCATION", "SERVER", "USN")


def make_search(target: str, wait: int) -> bytes:
    """The question (UPnP Device Architecture 2.0, section 1.3.2)."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}:{PORT}",
        'MAN: "ssdp:discover"',
        f"MX: {wait}",
        f"ST: {target}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def parse_answer(data: bytes) -> dict[str, str] | None:
    """The header of an answer, names in capitals; None if it is no answer. Believes nothing."""
    status, *lines = data.decode(errors="replace").splitlines() or [""]
    if not status.startswith("HTTP/1.") or status.split()[1:2] != ["200"]:
        return None
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().upper(): printable(value.strip()) for name, _, value in pairs}


def printable(text: str) -> str:
    """No stranger gets to control our terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


async def main(target: str, wait: int, interfaces: list[str] | None) -> None:
    known = set()
    async with (
        trio_mcast.open_sender(
            GROUP, port=PORT, interfaces=interfaces or "all", hop_limit=2
        ) as sender,
        sender.open_answers() as answers,
    ):
        await sender.send(make_search(target, wait))
        with trio.move_on_after(wait + 1):
            async for answer in answers:
                headers = parse_answer(answer.data)
                if headers is None or (answer.source, headers.get("USN")) in known:
                    continue
                known.add((answer.source, headers.get("USN")))
                print(f"{answer.source[0]} by {answer.interface.name}")
                for name in SHOWN:
                    print(f"  {name:8}  {headers.get(name, '-')}", flush=True)
    if not known:
        raise SystemExit("nobody has answered")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find devices by SSDP (UPnP).")
    parser.add_argument("--target", default="ssdp:all", help="what to search for")
    parser.add_argument("--wait", type=int, default=2, help="seconds that devices may take (MX)")
    parser.add_argument("--interface", action="append", help="again for more; otherwise all")
    arguments = parser.parse_args()
    try:
        trio.run(main, arguments.target, arguments.wait, arguments.interface)
    except KeyboardInterrupt:
        pass
    except trio_mcast.MulticastError as error:
        raise SystemExit(f"{error}") from None
