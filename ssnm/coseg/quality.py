"""How good is this mask? The J to be expected of each image, without a truth.

Three figures: the J that the map itself expects of its mask (`expected_J`), how sure it is at its surest place, and how
far the image agrees with its group (:mod:`ssnm.coseg.presence`). A rule calibrated on held-out groups turns them into
a number in [0, 1]. N images, S side of the maps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .presence import features as presence_features
from .presence import peaks, sigmoid

EDGE = 1e-3


@dataclass(frozen=True)
class QualityRule:
    """sigmoid(expected * log-odds(expected J) + peak * log-odds(peak) + agreement * log(agreement) + bias). Stored in
    model files (`Inference.quality`)."""

    expected: float
    peak: float
    agreement: float
    bias: float

    def __call__(self, probabilities: np.ndarray, agreement: np.ndarray) -> np.ndarray:
        """probabilities (N, S, S), agreement (N,) -> the J to be expected (N,) in [0, 1]."""
        return sigmoid(figures(probabilities, agreement) @ np.array(list(asdict(self).values())))

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> QualityRule:
        """Raises KeyError, TypeError or ValueError where a number is missing or is none."""
        rule = cls(**{name: float(values[name]) for name in ("expected", "peak", "agreement", "bias")})
        if not np.isfinite(list(asdict(rule).values())).all():
            raise ValueError(f"finite weights were expected, got {values}")
        return rule


def expected_J(probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """(N, S, S) -> (N,): were every pixel the object's with its own probability, the expected intersection of mask and
    object over their expected union; 0 for an empty mask."""
    inside = probabilities > threshold
    hit = (probabilities * inside).sum((1, 2), dtype=np.float64)
    union = inside.sum((1, 2)) + (probabilities * ~inside).sum((1, 2), dtype=np.float64)
    return hit / np.maximum(union, 1e-12)


def figures(probabilities: np.ndarray, agreement: np.ndarray) -> np.ndarray:
    """(N, S, S), (N,) -> (N, 4): log-odds of the expected J, log-odds of the peak, log of the agreement, 1."""
    expected = np.clip(expected_J(probabilities), EDGE, 1 - EDGE)
    return np.column_stack([np.log(expected / (1 - expected)), presence_features(peaks(probabilities), agreement)])


def fit_quality(figures: np.ndarray, J: np.ndarray, ridge: float = 1e-3) -> QualityRule:
    """Logistic regression of J (n,) in [0, 1] on (n, 4) figures, with a small ridge, by Newton's method."""
    penalty = ridge * len(J) * np.diag([1.0, 1.0, 1.0, 0.0])
    w = np.zeros(4)
    for _ in range(50):
        p = sigmoid(figures @ w)
        slope = figures.T @ (p - J) + penalty @ w
        curvature = (figures * (p * (1 - p))[:, None]).T @ figures + penalty + 1e-9 * np.eye(4)
        step = np.linalg.solve(curvature, slope)
        w -= step
        if np.abs(step).max() < 1e-10:
            break
    return QualityRule(*(float(v) for v in w))
