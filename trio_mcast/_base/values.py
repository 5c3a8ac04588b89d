"""Plain values that callers pass: what is wrong with them is said before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeGuard, TypeVar

_LARGEST_INT: Final = 2**31 - 1

_T = TypeVar("_T")


def parse_buffer_size(name: str, value: object) -> int | None:
    """A size of kernel buffer; None leaves it to us.

    Raises:
      ValueError: not from 1 to 2**31 - 1
      TypeError: no integer
    """
    if value is None:
        return None
    size = check_int(name, value)
    if not 1 <= size <= _LARGEST_INT:
        raise ValueError(f"{name}={size} is outside 1 to {_LARGEST_INT}")
    return size


def are_several(value: object) -> TypeGuard[Iterable[object]]:
    """Whether a caller gave several things. Text and networks are one, though they have parts."""
    return isinstance(value, Iterable) and not isinstance(
        value, (str, bytes, bytearray, IPv4Network, IPv6Network)
    )


def batched(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Runs of so many items, the last perhaps shorter, as Python 3.12's `itertools.batched`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def check_byte(name: str, value: object) -> None:
    if not 0 <= check_int(name, value) <= 255:
        raise ValueError(f"{name}={value} is outside 0 to 255")


def check_int(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer")
    return value


def check_at_least(name: str, value: object, least: int, reason: str) -> int:
    number = check_int(name, value)
    if number < least:
        raise ValueError(f"{name}={number} is below {least}: {reason}")
    return number


def check_type(name: str, value: object, kind: type[_T], instead: str) -> _T:
    """Refuse what is not of a type.

    Args:
      instead: what to give

    Raises:
      TypeError: it is not
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}={value!r} is not of the type {kind.__name__}: give {instead}")
    return value


def check_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is neither True nor False")
    return value
