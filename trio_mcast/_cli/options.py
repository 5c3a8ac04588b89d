"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from trio_mcast.lowlevel import LINUX, LINUX_32BIT, MACOS, WINDOWS, Platform

PortOption: TypeAlias = Annotated[int, Parameter(name=("--port", "-p"))]
InterfacesOption: TypeAlias = Annotated[tuple[str, ...], Parameter(name=("--interface", "-i"))]
HopLimitOption: TypeAlias = Annotated[int, Parameter(name=("--hop-limit", "--ttl"))]
QuietOption: TypeAlias = Annotated[bool, Parameter(name=("--quiet", "-q"))]

PacketInfoChoice: TypeAlias = Literal["hop-limit", "timestamp", "traffic-class", "all"]
PacketInfoName: TypeAlias = Literal["hop_limit", "timestamp", "traffic_class"]

PlatformChoice: TypeAlias = Literal["linux", "macos", "windows", "linux-32bit"]

PLATFORMS: dict[PlatformChoice, Platform] = {
    "linux": LINUX,
    "macos": MACOS,
    "windows": WINDOWS,
    "linux-32bit": LINUX_32BIT,
}


def packet_info_names(
    choices: tuple[PacketInfoChoice, ...], platform: Platform
) -> frozenset[PacketInfoName]:
    """The library's names for what was asked for. "all" is all that the system tells."""
    names: set[PacketInfoName] = set()
    for choice in choices:
        match choice:
            case "hop-limit":
                names.add("hop_limit")
            case "timestamp":
                names.add("timestamp")
            case "traffic-class":
                names.add("traffic_class")
            case "all":
                names |= {"hop_limit", "traffic_class"}
                if platform.receive_timestamp is not None:
                    names.add("timestamp")
    return frozenset(names)
