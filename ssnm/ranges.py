"""Ranges of the numbers in a config, checked where its sections are made."""

from __future__ import annotations

from collections.abc import Callable

from .errors import ConfigError

Rule = tuple[Callable[[float], bool], str]
POSITIVE: Rule = (lambda v: v > 0, "be greater than 0")
NOT_NEGATIVE: Rule = (lambda v: v >= 0, "not be negative")
BELOW_ONE: Rule = (lambda v: 0 <= v < 1, "lie in [0, 1)")
SHARE: Rule = (lambda v: 0 <= v <= 1, "lie in [0, 1]")


def values(where: str, section: object, *names: str) -> dict[str, float]:
    """Full key -> value of some fields of a section."""
    return {f"{where}.{name}": getattr(section, name) for name in names}


def require(numbers: dict[str, float], holds: Callable[[float], bool], rule: str) -> None:
    """Check numbers by one rule.

    Raises:
        ConfigError: one does not hold (NaN holds nowhere); the message names its key.
    """
    for name, value in numbers.items():
        if not holds(value):
            raise ConfigError(f"{name} must {rule}, got {value}")
