"""How good is this mask? The J to be expected of each image, without a truth.

Two figures: the J that the map itself expects of its mask (`expected_J`) and how far the image agrees with its group
(:mod:`ssnm.coseg.presence`). A rule calibrated on held-out groups turns them into a number in [0, 1]. N images, S side
of the maps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..metrics import ThresholdRule, binarize
from .presence import EDGE as AGREEMENT_EDGE
from .presence import logistic_regression, sigmoid

EDGE = 1e-3  # an expected J is kept so far from 0 and 1 before its log-odds are taken


@dataclass(frozen=True)
class QualityRule:
    """sigmoid(expected * log-odds(expected J) + agreement * log(agreement) + bias). Stored in model files
    (`Inference.quality`). threshold: the rule that cut the maps it was fitted to ("mean+std", a number)."""

    expected: float
    agreement: float
    bias: float
    threshold: float | str = 0.5

    def __call__(self, probabilities: np.ndarray, agreement: np.ndarray) -> np.ndarray:
        """probabilities (N, S, S), agreement (N,) -> the J to be expected (N,) in [0, 1]."""
        known = figures(probabilities, agreement, self.threshold)
        return sigmoid(known @ np.array([self.expected, self.agreement, self.bias]))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> QualityRule:
        """Raises KeyError, TypeError or ValueError where a number is missing or is none."""
        rule = cls(**{name: float(values[name]) for name in ("expected", "agreement", "bias")},
                   threshold=values.get("threshold", 0.5))  # fmt: skip
        if not np.isfinite([rule.expected, rule.agreement, rule.bias]).all():
            raise ValueError(f"finite weights were expected, got {values}")
        try:
            kind = ThresholdRule.parse(str(rule.threshold)).kind
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if kind == "best":
            raise ValueError("a threshold for one map was expected, got best")
        return rule


def expected_J(probabilities: np.ndarray, threshold: float | str = 0.5) -> np.ndarray:
    """(N, S, S) -> (N,): were every pixel the object's with its own probability, the expected intersection of mask and
    object over their expected union; 0 for an empty mask. threshold: what cuts a map into its mask."""
    inside = np.array([binarize(p, str(threshold))[0] for p in probabilities], bool).reshape(probabilities.shape)
    hit = (probabilities * inside).sum((1, 2), dtype=np.float64)
    union = inside.sum((1, 2)) + (probabilities * ~inside).sum((1, 2), dtype=np.float64)
    return hit / np.maximum(union, 1e-12)


def figures(probabilities: np.ndarray, agreement: np.ndarray, threshold: float | str = 0.5) -> np.ndarray:
    """(N, S, S), (N,) -> (N, 3): log-odds of the expected J, log of the agreement, 1."""
    expected = np.clip(expected_J(probabilities, threshold), EDGE, 1 - EDGE)
    alike = np.clip(np.asarray(agreement, dtype=np.float64), AGREEMENT_EDGE, 1)
    return np.column_stack([np.log(expected / (1 - expected)), np.log(alike), np.ones(len(expected))])


def fit_quality(
    figures: np.ndarray, J: np.ndarray, threshold: float | str = 0.5, ridge: float = 1e-3
) -> QualityRule:
    """Logistic regression of J (n,) in [0, 1] on (n, 3) figures of maps cut by `threshold`, with a small ridge."""
    return QualityRule(*(float(v) for v in logistic_regression(figures, J, 1.0, ridge)), threshold=threshold)
