"""What decides a score: threshold, resolution, empty ground truth, average. Printed with every number."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import ConfigError

THRESHOLD_KINDS = ("mean+std", "fixed", "best")
EMPTY_POLICIES = ("zero", "one_if_empty", "skip")
AVERAGES = ("images", "classes", "pooled")

AVERAGE_NAMES = {
    "images": "average over images",
    "classes": "average over classes",
    "pooled": "pixels pooled per class",
}
_EMPTY_NAMES = {
    "zero": "empty truth scores J = 0",
    "one_if_empty": "empty truth scores J = 1 for an empty prediction, else 0",
    "skip": "images with empty truth are left out",
}


@dataclass(frozen=True)
class ThresholdRule:
    """How a probability map becomes a mask: ``p > threshold``.

    - ``mean+std``: threshold = min(mean(p) + std(p), value), std of the population; value None = no cap;
    - ``fixed``: threshold = value, in [0, 1);
    - ``best``: the one threshold k/255 for the whole set that maximises mean J; it looks at the ground truth,
      so it is an upper bound and no result.
    """

    kind: str = "mean+std"
    value: float | None = 0.8

    def __post_init__(self) -> None:
        if self.kind not in THRESHOLD_KINDS:
            raise ConfigError(f"threshold rule {self.kind!r}: one of {', '.join(THRESHOLD_KINDS)} is needed")
        if self.kind == "fixed" and self.value is None:
            raise ConfigError("threshold rule 'fixed' needs a value, for instance fixed:0.5")
        if self.kind == "best" and self.value is not None:
            raise ConfigError(f"threshold rule 'best' finds its own value, got {self.value}; write best")
        if self.value is not None and not (math.isfinite(self.value) and 0 <= self.value <= 1):
            raise ConfigError(f"threshold {self.value}: a number in [0, 1] is needed (maps are probabilities)")

    @classmethod
    def parse(cls, text: str | ThresholdRule) -> ThresholdRule:
        """Read ``mean+std`` (cap 0.8), ``mean+std:0.5``, ``mean+std:none``, ``fixed:0.5``, ``0.5`` or ``best``.

        Raises:
            ConfigError: any other text.
        """
        if isinstance(text, cls):
            return text
        kind, colon, value = str(text).strip().lower().partition(":")
        if kind == "mean+std" and not colon:
            return cls()
        if kind == "mean+std" and value == "none":
            return cls(value=None)
        if not colon and kind not in THRESHOLD_KINDS:
            kind, value = "fixed", kind
        try:
            return cls(kind, float(value) if value else None)
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"threshold {text!r} is not understood: write mean+std, mean+std:CAP, mean+std:none, fixed:T or best"
            ) from None

    def __str__(self) -> str:
        """The text that :meth:`parse` reads back."""
        if self.kind == "best":
            return "best"
        return f"{self.kind}:{'none' if self.value is None else format(self.value, 'g')}"

    def describe(self) -> str:
        """The rule as it is printed beside every result."""
        if self.kind == "fixed":
            return f"p > {self.value:g}"
        if self.kind == "best":
            return "p > best single threshold of this set (uses the truth: an upper bound, not a result)"
        return "p > mean + std" if self.value is None else f"p > min(mean + std, {self.value:g})"


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a number.

    name: printed with the result; rule: see :class:`ThresholdRule`; resolution: side of the square to which map
    and truth are resized before scoring, None = the size of the ground truth; empty: what an image without
    foreground in its ground truth scores (``zero``, ``one_if_empty``, ``skip``); headline: which of the three
    averages is the protocol's result (``images``, ``classes``, ``pooled``).

    Raises:
        ConfigError: a value outside these.
    """

    name: str = "release"
    rule: ThresholdRule = ThresholdRule()
    resolution: int | None = 224
    empty: str = "zero"
    headline: str = "images"

    def __post_init__(self) -> None:
        if self.resolution is not None and (not isinstance(self.resolution, int) or self.resolution < 1):
            raise ConfigError(f"resolution {self.resolution!r}: pixels (1 or more) or None (original) are needed")
        if self.empty not in EMPTY_POLICIES:
            raise ConfigError(f"empty-truth policy {self.empty!r}: one of {', '.join(EMPTY_POLICIES)} is needed")
        if self.headline not in AVERAGES:
            raise ConfigError(f"average {self.headline!r}: one of {', '.join(AVERAGES)} is needed")

    @classmethod
    def get(cls, protocol: str | Protocol) -> Protocol:
        """A preset by name, or the protocol itself.

        Raises:
            ConfigError: no preset of that name.
        """
        if isinstance(protocol, cls):
            return protocol
        if protocol not in PROTOCOLS:
            raise ConfigError(f"protocol {protocol!r} is not known; choose one of {', '.join(PROTOCOLS)}")
        return PROTOCOLS[protocol]

    def changed(self, **fields: Any) -> Protocol:
        """This protocol with other fields; its name says so, unless nothing differs.

        >>> PROTOCOLS["release"].changed(resolution=None).name
        'release, changed'
        """
        other = replace(self, **fields)
        return other if other == self else replace(other, name=f"{self.name.removesuffix(', changed')}, changed")

    def describe(self) -> str:
        """One line that states everything that decides the numbers."""
        size = "the size of the truth" if self.resolution is None else f"{self.resolution}x{self.resolution}"
        return (
            f"protocol {self.name}: {self.rule.describe()}; map and truth at {size}; "
            f"{_EMPTY_NAMES[self.empty]}; headline: {AVERAGE_NAMES[self.headline]}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` reads them back."""
        return {**asdict(self), "rule": str(self.rule)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Protocol:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "rule": ThresholdRule.parse(values["rule"])})


PROTOCOLS: dict[str, Protocol] = {
    "release": Protocol(),
    "paper": Protocol(name="paper", resolution=None),
    "ufo": Protocol(name="ufo", rule=ThresholdRule(value=0.5)),
    "pooled": Protocol(name="pooled", headline="pooled"),
}
