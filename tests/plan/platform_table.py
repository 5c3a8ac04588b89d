"""Takes the platform tables apart, for tests that hold every number in them against something."""

import dataclasses
from collections.abc import Iterator

from trio_mcast._plan.platforms import OptionName, Platform


def option_names(value: object) -> Iterator[OptionName]:
    """Every option that a platform names, at whatever depth."""
    if isinstance(value, OptionName):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from option_names(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from option_names(getattr(value, field.name))


def constants(platform: Platform) -> dict[str, int]:
    """Every number that a platform names, by the name in its headers.

    Raises:
      ValueError: the table gives a name two numbers
    """
    numbers = {"AF_INET": platform.ipv4.number, "AF_INET6": platform.ipv6.number}
    levels = {platform.receive_buffer.level: "SOL_SOCKET"}
    for option in option_names(platform):
        known = numbers.setdefault(option.name, option.number)
        if known != option.number:
            raise ValueError(f"{option.name} is both {known} and {option.number}")
        if option.level in levels:
            numbers[levels[option.level]] = option.level
    return numbers
