"""P and J of one image, and the histogram from which every fixed threshold can be scored at once.

Letters: p probability map, g ground truth, both (H, W). P = share of pixels, foreground and background, that are
right (the co-segmentation literature calls it precision; elsewhere it is pixel accuracy). J = |p & g| / |p | g|,
the Jaccard index (intersection over union) of the foreground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, DataError
from .protocol import EMPTY_POLICIES, ThresholdRule

LEVELS = 256
# A map whose values differ by less than this is constant up to rounding: its mean + std is noise around its value.
CONSTANT_SPREAD = 1e-6


@dataclass(frozen=True)
class Confusion:
    """Pixel counts of a binary prediction against its ground truth; counts of several images add up."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @classmethod
    def of(cls, pred: np.ndarray, truth: np.ndarray) -> Confusion:
        """Count pred (H, W) bool against truth (H, W) bool.

        Raises:
            DataError: the two differ in shape or are not boolean.
        """
        if pred.dtype != np.bool_ or truth.dtype != np.bool_:
            raise DataError(f"boolean masks are needed, got {pred.dtype} and {truth.dtype}; binarize first")
        if pred.shape != truth.shape:
            raise DataError(f"prediction {pred.shape} and ground truth {truth.shape} differ in size; resize one")
        both = int(np.count_nonzero(pred & truth))
        predicted, true = int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
        return cls(both, predicted - both, true - both, pred.size - predicted - true + both)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def empty_truth(self) -> bool:
        return self.true_positive + self.false_negative == 0

    @property
    def precision(self) -> float:
        """P, share of right pixels, in [0, 1]."""
        right, wrong = self.true_positive + self.true_negative, self.false_positive + self.false_negative
        return right / (right + wrong)

    def jaccard(self, empty: str = "zero") -> float | None:
        """J in [0, 1]; for an empty ground truth what the policy ``empty`` says (None = leave the image out).

        The release divides by union + 1e-10; a union that is not empty is at least 1, so the two differ by at
        most 1e-10, and an empty union is the policy's business.
        """
        if self.empty_truth:
            return {"zero": 0.0, "one_if_empty": float(self.false_positive == 0), "skip": None}[empty]
        return self.true_positive / (self.true_positive + self.false_positive + self.false_negative)


def binarize(prob: np.ndarray, rule: ThresholdRule | str) -> tuple[np.ndarray, float]:
    """Cut a probability map (H, W), floats in [0, 1], at the threshold of ``rule``: mask (H, W) bool, threshold.

    A constant map has standard deviation 0 and no pixel above its own mean: under ``mean+std`` its mask is empty
    (floating-point noise of less than 1e-6 counts as constant), or full where the value exceeds the cap.

    Raises:
        ConfigError: the rule ``best``, which needs the whole set.
        DataError: values outside [0, 1] or not finite.
    """
    rule = ThresholdRule.parse(rule)
    prob = as_probability(prob)
    if rule.kind == "best":
        raise ConfigError("the rule 'best' needs the whole set; score a folder with it, or give fixed:T for one map")
    threshold = float(rule.value) if rule.kind == "fixed" else _mean_plus_std(prob, rule.value)
    return prob > threshold, threshold


def _mean_plus_std(prob: np.ndarray, cap: float | None) -> float:
    constant = np.ptp(prob) < CONSTANT_SPREAD
    threshold = float(prob.max() if constant else prob.mean() + prob.std())
    return threshold if cap is None else min(threshold, cap)


def mask_threshold(prob: np.ndarray, rule: ThresholdRule) -> float | None:
    """Where ``mean+std`` cuts a map (H, W) in [0, 1] that is a mask already: midway between its two values, or at the
    cap if that is lower; None for other maps and rules. A map of 1 alone is a mask without background."""
    two = (0.0, 1.0) if prob.min() == 1 else two_values(prob)
    if two is None or rule.kind != "mean+std":
        return None
    middle = (two[0] + two[1]) / 2
    return middle if rule.value is None else min(middle, rule.value)


def two_values(array: np.ndarray) -> tuple[float, float] | None:
    """The lower and the higher value of a map (H, W) that holds exactly two, further apart than rounding; else None."""
    low, high = array.min(), array.max()
    apart = high > low if array.dtype == np.bool_ else float(high) - float(low) >= CONSTANT_SPREAD
    return (low.item(), high.item()) if apart and bool(((array == low) | (array == high)).all()) else None


def as_probability(array: np.ndarray, name: str = "map") -> np.ndarray:
    """uint8 0..255, bool, or floats in [0, 1] of shape (H, W) -> float64 in [0, 1].

    Raises:
        DataError: another shape or type, an empty array, values outside [0, 1] or not finite.
    """
    array = np.asarray(array)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name}: a map of shape (H, W) is needed, got {array.shape}")
    if array.dtype == np.uint8:
        return array / 255.0
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name}: uint8, bool or floats in [0, 1] are needed, got {array.dtype}")
    prob = array.astype(np.float64)
    low, high = prob.min(), prob.max()
    if not (0 <= low and high <= 1):  # also false for NaN
        raise DataError(f"{name}: probabilities in [0, 1] are needed, got [{low:g}, {high:g}]; apply the sigmoid first")
    return prob


def precision(pred: np.ndarray, truth: np.ndarray) -> float:
    """P: the share of pixels of pred (H, W) bool, foreground and background, that agree with truth (H, W) bool."""
    return Confusion.of(pred, truth).precision


def jaccard(pred: np.ndarray, truth: np.ndarray, empty: str = "zero") -> float | None:
    """J = |pred & truth| / |pred | truth| of two (H, W) bool masks.

    empty: what an image with an empty ground truth scores, ``zero`` (the release), ``one_if_empty`` (1 if the
    prediction is empty too, else 0) or ``skip`` (None).

    Raises:
        ConfigError: another policy. DataError: shapes or types differ.
    """
    if empty not in EMPTY_POLICIES:
        raise ConfigError(f"empty-truth policy {empty!r}: one of {', '.join(EMPTY_POLICIES)} is needed")
    return Confusion.of(pred, truth).jaccard(empty)


def level_histogram(prob: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts (2, 256) of the levels of prob (H, W) in [0, 1]: row 0 outside, row 1 inside truth (H, W) bool.

    The level of p is the number of thresholds k/255, k = 0..255, below it: p > k/255 exactly where level > k.
    For 8-bit maps it is the pixel's value.
    """
    level = np.ceil(prob * 255.0).astype(np.intp)
    return np.bincount((level + LEVELS * truth).ravel(), minlength=2 * LEVELS).reshape(2, LEVELS)


def confusion_at_level(histogram: np.ndarray, level: int) -> Confusion:
    """The counts that the threshold level/255 gives, from :func:`level_histogram`."""
    (background, foreground) = histogram.sum(axis=1)
    (false_positive, true_positive) = histogram[:, level + 1 :].sum(axis=1)
    return Confusion(
        int(true_positive),
        int(false_positive),
        int(foreground - true_positive),
        int(background - false_positive),
    )
