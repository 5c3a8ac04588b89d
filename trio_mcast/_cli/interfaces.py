"""`trio-mcast interfaces`"""

from __future__ import annotations

from dataclasses import fields

from rich.table import Table

from trio_mcast import Interface, default_interface, list_interfaces

from .output import add_row, to_json, write, write_table


def interfaces(*, json: bool = False) -> int:
    """List the network interfaces of this host.

    An interface can be meant by its name, its index, one of its
    addresses or a network it has an address in (192.168.1.0/24). The
    default one is where the default route leads: datagrams are sent by
    it unless told otherwise.

    Try:

        trio-mcast interfaces

    Args:
      json: one JSON object a line instead of a table
    """
    listing = list_interfaces()
    defaults = {version: default_interface(version) for version in (4, 6)}
    default_for = {
        interface.index: [
            version
            for version, chosen in defaults.items()
            if chosen is not None and chosen.index == interface.index
        ]
        for interface in listing
    }
    if json:
        write(to_json(_as_json(i, default_for[i.index])) for i in listing)
    else:
        write_table(_make_table(listing, default_for))
    return 0


def _as_json(interface: Interface, default_for: list[int]) -> dict[str, object]:
    values = {field.name: getattr(interface, field.name) for field in fields(interface)}
    return {**values, "default_for": default_for}


def _make_table(listing: tuple[Interface, ...], default_for: dict[int, list[int]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Index", justify="right")
    table.add_column("Name", style="cyan")
    for heading in ("Up", "Multicast", "Loopback"):
        table.add_column(heading)
    table.add_column("MTU", justify="right")
    for heading in ("Default for", "Addresses"):
        table.add_column(heading)
    for interface in listing:
        add_row(
            table,
            str(interface.index),
            _names(interface),
            _yes_or_no(interface.is_up),
            _yes_or_no(interface.supports_multicast),
            _yes_or_no(interface.is_loopback),
            str(interface.mtu),
            ", ".join(f"IPv{version}" for version in default_for[interface.index]) or "-",
            [str(address) for address in interface.addresses] or "-",
            style=None if interface.is_up else "dim",
        )
    return table


def _names(interface: Interface) -> list[str]:
    return list(dict.fromkeys((interface.friendly_name, interface.name)))


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
