"""`trio-mcast plan`"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface
from itertools import groupby
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from trio_mcast import Interface, default_interface, list_interfaces
from trio_mcast.lowlevel import (
    Group,
    Platform,
    SocketOption,
    SocketPlan,
    current_platform,
    find_interfaces,
    plan_receiver,
    plan_sender,
)

from .errors import UsageError
from .groups import parse_group_spec, show_address
from .options import (
    PLATFORMS,
    PacketInfoChoice,
    PlatformChoice,
    packet_info_names,
)
from .output import add_row, to_json, write, write_table

_EXAMPLE = Interface(
    name="eth0",
    index=2,
    friendly_name="eth0",
    addresses=(IPv4Interface("192.0.2.1/24"), IPv6Interface("fe80::1/64")),
    is_up=True,
    is_loopback=False,
    supports_multicast=True,
    mtu=1500,
)


def plan(
    group: Annotated[str, Parameter(name="GROUP")],
    port: Annotated[int, Parameter(name="PORT")],
    /,
    *,
    platform: PlatformChoice | None = None,
    interface: Annotated[str | None, Parameter(name=("--interface", "-i"))] = None,
    sender: bool = False,
    source: Annotated[tuple[str, ...], Parameter(name=("--source", "-s"))] = (),
    no_loopback: bool = False,
    packet_info: tuple[PacketInfoChoice, ...] = (),
    hop_limit: Annotated[int | None, Parameter(name=("--hop-limit", "--ttl"))] = None,
    traffic_class: int | None = None,
    source_port: int | None = None,
    json: bool = False,
) -> int:
    """Print the socket calls that hear a group, or send to it.

    They are those that this library would make, for any of the systems
    that it knows; nothing is sent and no socket made.

    Try:

        trio-mcast plan 239.1.2.3 5000 --platform macos
        trio-mcast plan 10.0.0.1@232.1.2.3 5000 --interface eth0
        trio-mcast plan ff15::1:2 5000 --sender --hop-limit 8

    Args:
      group: [SOURCE@]GROUP[%INTERFACE]
      port: the UDP port
      platform: the system to plan for. Otherwise this one
      interface: one of this host's, by name, index, address or network.
        Otherwise the one with the default route
      sender: plan a socket that sends, not one that receives
      source: a sender to hear, or the address to send from; when receiving
        give it again for more
      no_loopback: without what this host sends itself
      packet_info: when receiving: hop-limit, timestamp, traffic-class or all
      hop_limit: when sending: routers that may pass it on, plus one (1)
      traffic_class: when sending: the byte with DSCP and ECN
      source_port: when sending: the port to send from
      json: one JSON object a line, values in hex
    """
    wanted, own = parse_group_spec(group)
    sources = (*own, *source)
    system = current_platform() if platform is None else PLATFORMS[platform]
    place = _choose_interface(wanted, interface)
    if sender:
        if packet_info:
            raise UsageError("--packet-info is for receiving: leave --sender out")
        if len(sources) > 1:
            raise UsageError(f"datagrams have one source, not several: {', '.join(sources)}")
        planned = plan_sender(
            system,
            str(wanted.address),
            port,
            place,
            hop_limit=1 if hop_limit is None else hop_limit,
            loopback=not no_loopback,
            traffic_class=traffic_class,
            source=sources[0] if sources else None,
            source_port=source_port or 0,
        )
    else:
        for option, value in (
            ("--hop-limit", hop_limit),
            ("--traffic-class", traffic_class),
            ("--source-port", source_port),
        ):
            if value is not None:
                raise UsageError(f"{option} {value} is for sending: add --sender")
        planned = plan_receiver(
            system,
            str(wanted.address),
            port,
            place,
            sources=sources,
            loopback=not no_loopback,
            packet_info=packet_info_names(packet_info, system),
        )
    if json:
        write(map(to_json, _as_json(planned)))
    else:
        write_table(_make_table(planned, system))
        write(_remarks(planned))
    return 0


def _choose_interface(group: Group, name: str | None) -> Interface:
    """The interface that is named; or the likeliest; or, where there is none at all, an example."""
    if name is None and group.zone is None:
        likely = [i for i in list_interfaces() if i.carries(group.version) and not i.is_loopback]
        return default_interface(group.version) or (likely or [_EXAMPLE])[0]
    found = find_interfaces(name, zone=group.zone)
    if len(found) > 1:
        several = ", ".join(interface.name for interface in found)
        raise UsageError(f"{name} means several interfaces: {several}")
    return found[0]


# --- As text -------------------------------------------------------------------------------------

_LEVELS = {0: "IPPROTO_IP", 17: "IPPROTO_UDP", 41: "IPPROTO_IPV6"}


def _make_table(plan: SocketPlan, platform: Platform) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    for _ in range(3):
        table.add_column()
    family = "AF_INET" if plan.family == platform.ipv4.number else "AF_INET6"
    add_row(table, "socket", f"{family} ({plan.family}), SOCK_DGRAM")
    for option in plan.before_bind:
        _add_option(table, option)
    if plan.bind is not None:
        add_row(table, "bind", _show_bound(plan.bind))
        _add_second_try(table, plan)
    for option in plan.after_bind:
        _add_option(table, option)
    if plan.destination is not None:
        add_row(table, "sendto", _show_bound(plan.destination))
    return table


def _add_option(table: Table, option: SocketOption, call: str = "setsockopt") -> None:
    what = f"{option.label} (may be refused)" if option.optional else option.label
    level = _LEVELS.get(option.level, "SOL_SOCKET")
    add_row(table, call, what, f"{level} {option.option}", _show_value(option.value))
    if option.fallback is not None:
        _add_option(table, option.fallback, "  or, if unknown")


def _add_second_try(table: Table, plan: SocketPlan) -> None:
    if not plan.if_address_in_use:
        return
    add_row(table, "  if in use", "")
    for option in plan.if_address_in_use:
        _add_option(table, option, "  setsockopt")
    add_row(table, "  bind", "again")
    for option in plan.after_second_bind:
        _add_option(table, option, "  setsockopt")


def _remarks(plan: SocketPlan) -> Iterator[str]:
    if plan.sorts_strays:
        yield (
            "Then drop what came for another group or by another interface: the control messages "
            "tell."
        )
    if plan.drops_own:
        yield "Then drop what has one of this host's addresses as its source."


def _show_bound(address: tuple[object, ...]) -> str:
    scope_id = f", scope id {address[3]}" if len(address) == 4 and address[3] else ""
    return f"{show_address(address)}{scope_id}"


def _show_value(value: bytes) -> str:
    words = [value[start : start + 4] for start in range(0, len(value), 4)]
    parts = []
    for is_zero, run in groupby(words, lambda word: not any(word)):
        found = list(run)
        if is_zero and len(found) > 2:
            parts.append(f"({sum(map(len, found))} zero bytes)")
        else:
            parts += [word.hex() for word in found]
    return " ".join(parts)


# --- As JSON -------------------------------------------------------------------------------------


def _as_json(plan: SocketPlan) -> Iterator[dict[str, object]]:
    yield {"call": "socket", "family": plan.family}
    for option in plan.before_bind:
        yield _option_as_json(option)
    if plan.bind is not None:
        yield {
            "call": "bind",
            "address": plan.bind,
            "if_address_in_use": [_option_as_json(o) for o in plan.if_address_in_use],
            "after_second_bind": [_option_as_json(o) for o in plan.after_second_bind],
        }
    for option in plan.after_bind:
        yield _option_as_json(option)
    if plan.destination is not None:
        yield {"call": "sendto", "address": plan.destination}


def _option_as_json(option: SocketOption) -> dict[str, object]:
    fallback = option.fallback
    return {
        "call": "setsockopt",
        "level": option.level,
        "option": option.option,
        "value": option.value.hex(),
        "label": option.label,
        "optional": option.optional,
        "fallback": None if fallback is None else _option_as_json(fallback),
    }
