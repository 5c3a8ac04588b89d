"""What a person can do wrong that the library does not see."""

from __future__ import annotations


class UsageError(Exception):
    """Arguments that cannot be meant. The message is for the person who typed them."""


def check_positive(option: str, value: float | None) -> None:
    """Refuse 0, negative numbers and NaN."""
    if value is not None and not value > 0:
        raise UsageError(f"{option} {value:g} is not above 0")
