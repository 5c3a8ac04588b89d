"""What can go wrong, sorted by whose doing it is.

Wrong input is an `AddressError` or a plain `ValueError` / `TypeError`; an interface that is not
there is an `InterfaceNotFoundError`; what this operating system cannot do at all is a
`NotSupportedError`; and what the kernel refused is a `SocketSetupError` (while opening or joining)
or a `SendError`. Trio's own `ClosedResourceError`, `BrokenResourceError` and so on keep their
meaning beside them.

The message says which step failed and what the kernel said. What to do about it is attached as a
note (PEP 678), so that a program can log the message and a person sees the advice in the traceback.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .interface import Interface


class MulticastError(Exception):
    """The base of every error that this library defines."""


class AddressError(MulticastError, ValueError):
    """An address, group, source or network that cannot be meant: the message shows it."""


class InterfaceNotFoundError(MulticastError, LookupError):
    """No interface has this name, index, address or network, or none fits."""


class NotSupportedError(MulticastError):
    """This operating system cannot do what was asked."""


class _KernelRefusal(MulticastError, OSError):
    """An `OSError` that also says at which step, where and for which group it came."""

    step: str
    interface: Interface | None
    group: IPv4Address | IPv6Address | None

    def __init__(
        self,
        step: str,
        error: OSError,
        *,
        interface: Interface | None = None,
        group: IPv4Address | IPv6Address | None = None,
    ) -> None:
        winerror = getattr(error, "winerror", None)
        text = f"{step}: {error.strerror}"
        if winerror is None:
            super().__init__(error.errno, text)
        else:
            super().__init__(error.errno, text, None, winerror)
        self.step = step
        self.interface = interface
        self.group = group

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), vars(self)


def _restore(kind: type[_KernelRefusal], args: tuple[Any, ...]) -> _KernelRefusal:
    """For pickle and copy, which would call the class with what `OSError` keeps."""
    error = kind.__new__(kind)
    OSError.__init__(error, *args)
    return error


class SocketSetupError(_KernelRefusal):
    """The kernel refused a step of opening a socket or of joining a group.

    Attributes:
      errno: the kernel's number (on Windows also `winerror`)
      step: what was being done, in words: ``"join 239.1.2.3 on eth0"``
      interface: the `Interface` it was for, if for one
      group: the group it was for, if for one
    """


class SendError(_KernelRefusal):
    """The kernel refused to send a datagram; nothing of it left this host.

    The attributes are those of `SocketSetupError`.
    """
