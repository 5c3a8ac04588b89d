"""The machine in force, and what programs ask it about interfaces.

It is the value of a context variable, so different tasks may stand on different machines. Whoever
opens something takes the machine in force at that moment, and keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from .._base.interface import Interface, IPVersion
from .._base.values import check_type
from .._interfaces.selection import InterfacesLike, Selection
from .machine import Machine
from .this_machine import ThisMachine

_in_force: Final[ContextVar[Machine]] = ContextVar(
    "trio_mcast machine",
    default=ThisMachine(),  # noqa: B039 # which nobody changes
)

current_machine: Final[Callable[[], Machine]] = _in_force.get
"""The machine in force: the one that the program runs on, unless the context says otherwise."""


@contextmanager
def machine_in_force(machine: Machine) -> Iterator[None]:
    """Have all that is opened in the block, and by tasks that are started there, on a machine."""
    token = _in_force.set(machine)
    try:
        yield
    finally:
        _in_force.reset(token)


def list_interfaces() -> tuple[Interface, ...]:
    """The network interfaces of this host as they are now, in the order of their indexes.

    Interfaces without an address and those that are down are among them: filter by the attributes
    of `Interface` what you do not want. The listing is that of the calling thread's network
    namespace. It takes some system calls but never blocks.

    Returns:
      One `Interface` each, a picture of this moment: it does not change when the interface does.
    """
    return current_machine().list_interfaces()


def find_interfaces(
    interfaces: InterfacesLike = None,
    *,
    version: IPVersion | None = None,
    zone: str | None = None,
) -> tuple[Interface, ...]:
    """The interfaces on which `open_receiver` would join a group now.

    Args:
      interfaces: as there: names, indexes, addresses, networks, or `Interface`. What is named is
        found whatever its state; None: every one that is up and fit
      version: the IP version of the group; None: either
      zone: the zone of the group, which restricts it to one interface

    Raises:
      InterfaceNotFoundError: one that is named does not exist
      ValueError, TypeError: it is no way to name one
    """
    if zone is not None:
        check_type("zone", zone, str, "the name of an interface")
    selection = Selection.parse(interfaces).in_zone(zone)
    return selection.require(current_machine().list_interfaces(), version)


def default_interface(version: IPVersion = 4) -> Interface | None:
    """The interface through which this host reaches the Internet, as its routes say.

    It is the best guess for "the network", and only a guess: a host may have several networks and
    no default route. Nothing is sent to find out.

    Args:
      version: 4 or 6, for the two have routes of their own

    Returns:
      The interface, or None where no default route exists.

    Raises:
      ValueError: another version
    """
    if version not in (4, 6):
        raise ValueError(f"IP version {version!r} is neither 4 nor 6")
    return current_machine().default_interface(version)
