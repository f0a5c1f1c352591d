"""Is the shared object in this image? From the masks and from how far the image agrees with its group.

An image may not hold what the others share: the photograph that slipped into the folder. Three figures tell: how sure
the network is of its mask at the mask's surest place (`peaks`), how alike the image is to the others in the eyes of the
category classifier (`agreement`), and how alike its features are (`likeness`), the last two beside the best of the
group (`evidence`), because they are low for every image of a kind that training did not have. A rule calibrated on
groups with foreign images (`fit_rule`) turns them into a probability. N images in a group, L co-categories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Callable

import numpy as np

from ..errors import ConfigError

Array = Any  # torch.Tensor or numpy.ndarray: one definition for both, of what both can do
PEAK_SHARE = 0.01  # of the image's pixels: the mean over so many of the surest ones is less noisy than a maximum
ROUNDING = 1e-4  # a figure that varies less says nothing: in groups of two both are 0 but for rounding
EDGE = 1e-4  # probabilities are kept so far from 0 and 1 before their log-odds are taken
SURE = 30.0  # log-odds beyond which a probability is 0 or 1 in float64 for all that matters


@dataclass(frozen=True)
class PresenceRule:
    """sigmoid(peak * log-odds(peak of the mask) + agreement * log(agreement / largest of the group)
    + appearance * (likeness - largest of the group) + bias), and the cut below which an image counts as one without the
    object. Stored in model files (`Inference.present`). steered: the rule of groups with references, to which alone
    their images are compared, so that the figures scatter more; None: the same."""

    peak: float
    agreement: float
    appearance: float
    bias: float
    cut: float = 0.5
    steered: PresenceRule | None = None

    def of_group(self, steered: bool) -> PresenceRule:
        """The rule of a group with references, or without."""
        return self.steered or self if steered else self

    def __call__(self, peaks: np.ndarray, evidence: np.ndarray, group_size: int | None = None) -> np.ndarray:
        """peaks (N,), evidence (N, 2) -> the probability that the object is present (N,), 1 for a group of one image.

        group_size: of the group that these images are of; None: they are all of it.
        """
        if (group_size or len(peaks)) == 1:
            return np.ones(1)
        return sigmoid(features(peaks, evidence) @ np.array(self._weights))

    @property
    def _weights(self) -> tuple[float, ...]:
        return self.peak, self.agreement, self.appearance, self.bias

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: value for name, value in asdict(self).items() if name != "steered"}
        return numbers | ({"steered": self.steered.to_dict()} if self.steered else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PresenceRule:
        """Raises KeyError, TypeError or ValueError where a number is missing or is none."""
        if "appearance" not in values and "agreement" in values:
            raise ValueError("a rule of presence of an earlier version; run `ssnm calibrate` on the checkpoint again")
        rule = cls(**{name: float(values[name]) for name in ("peak", "agreement", "appearance", "bias", "cut")},
                   steered=cls.from_dict(values["steered"]) if "steered" in values else None)  # fmt: skip
        if not np.isfinite(rule._weights).all() or not 0 <= rule.cut <= 1:
            raise ValueError(f"finite weights and a cut in [0, 1] were expected, got {values}")
        return rule


def peaks(probabilities: np.ndarray) -> np.ndarray:
    """(N, S, S) -> (N,): the mean of the highest hundredth of each map."""
    flat = probabilities.reshape(len(probabilities), -1)
    count = max(1, round(PEAK_SHARE * flat.shape[1]))
    return np.partition(flat, -count, axis=1)[:, -count:].mean(1)


def agreement(category_logits: Array, references: Sequence[int] = ()) -> Array:
    """How alike each image is to the others of its group, (N, L) logits of every image alone -> (N,) in [0, 1].
    references: the places of images whose object is known; then how alike it is to these.

    The mean Bhattacharyya coefficient of its category probabilities, scaled to sum to 1, and those of each other image.
    Categories need not be right: two images of a kind that training did not have are alike in what they resemble.
    A group of one agrees with itself.
    """
    probability = 1 / (1 + math.e ** -category_logits.clip(-SURE, SURE))
    root = (probability / probability.sum(-1)[:, None].clip(1e-12)) ** 0.5
    return _mean_of_others(root @ root.T, references)


def likeness(appearance: Array, references: Sequence[int] = ()) -> Array:
    """The mean cosine of each image's features with those of the other images or the references, (N, d) -> (N,) in
    [-1, 1], 1 for a group of one. The features are the coarsest maps, averaged over the positions: what a place looks
    like counts as well."""
    unit = appearance / ((appearance * appearance).sum(-1) ** 0.5).clip(1e-12)[:, None]
    return _mean_of_others(unit @ unit.T, references)


def _mean_of_others(alike: Array, references: Sequence[int]) -> Array:
    """(N, N) -> (N,): each row's mean over the columns of the other images, or of the references."""
    if len(references):
        return alike[:, list(references)].mean(1)
    count = len(alike)
    return alike.diagonal() if count == 1 else (alike.sum(1) - alike.diagonal()) / (count - 1)


def evidence(agreement: np.ndarray, likeness: np.ndarray, references: Sequence[int] = ()) -> np.ndarray:
    """Both figures of a group beside the largest of the images whose object is not known, (N,), (N,) -> (N, 2), 0 at
    most."""
    figures = np.stack([np.log(np.clip(np.asarray(agreement, dtype=np.float64), EDGE, 1.0)), likeness], axis=1)
    asked = np.setdiff1d(np.arange(len(figures)), list(references))
    return np.minimum(figures - figures[asked if len(asked) else slice(None)].max(0), 0.0)


def shares(agreement: Array) -> Array:
    """Each image's share in the group's statistics, (N,) -> (1, N), the largest 1: the square of its agreement, and a
    little, so that no image is left out altogether."""
    return (agreement / agreement.max().clip(1e-12))[None] ** 2 + 0.02


def features(peaks: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """(N,), (N, 2) -> (N, 4): log-odds of the peak, the evidence, 1."""
    peaks = np.clip(np.asarray(peaks, dtype=np.float64), EDGE, 1 - EDGE)
    return np.column_stack([np.log(peaks / (1 - peaks)), evidence, np.ones(len(peaks))])


def fit_rule(
    peaks: np.ndarray, evidence: np.ndarray, present: np.ndarray, J: np.ndarray, weight: np.ndarray | float = 1.0,
    ridge: float = 1e-3,
) -> PresenceRule:
    """Logistic regression of `present` (n,) bool on the figures, with a small ridge, by Newton's method; absent and
    present images weigh the same in sum.

    Args:
        J: (n,) in [0, 1], of each present image's mask, for the cut.
        weight: (n,) or one for all, how much each image counts, for the fit and for the cut.
    """
    x, y = features(peaks, evidence), np.asarray(present, dtype=np.float64)
    if y.all() or not y.any():
        raise ConfigError("the rule of presence is fitted to images with and without the object, got one kind alone")
    share = np.broadcast_to(np.asarray(weight, dtype=np.float64), y.shape)
    share = share / share.mean()
    inside = np.average(y, weights=share)
    spread = x[:, :-1].std(0)
    scale = np.array([*np.where(spread < ROUNDING, 1.0, spread), 1.0])  # the ridge treats all figures alike
    w = logistic_regression(x / scale, y, share * np.where(y > 0, 0.5 / inside, 0.5 / (1 - inside)), ridge) / scale
    return PresenceRule(*(float(v) for v in w), best_cut(sigmoid(x @ w), y > 0, J, share))


def logistic_regression(x: np.ndarray, y: np.ndarray, weight: np.ndarray | float, ridge: float) -> np.ndarray:
    """The w (k,) for which sigmoid(x w) fits y best, by Newton's method.

    Args:
        x: (n, k), the last column the constant.
        y: (n,) in [0, 1]; a share is as good as yes or no.
        weight: (n,) or one for all.
        ridge: on all but the constant.
    """
    penalty = ridge * len(y) * np.diag([*[1.0] * (x.shape[1] - 1), 0.0])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = sigmoid(x @ w)
        slope = x.T @ (weight * (p - y)) + penalty @ w
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + penalty + 1e-9 * np.eye(x.shape[1])
        step = np.linalg.solve(curvature, slope)
        w -= step
        if np.abs(step).max() < 1e-10:
            break
    return w


def best_cut(figures: np.ndarray, present: np.ndarray, J: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The cut between two figures with the largest mean score, where a present image scores the J of its mask, or 0 if
    it is emptied, and an absent one 1 if it is emptied, or 0: an image whose mask is bad anyway costs little."""
    values = np.unique(figures)
    cuts = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    scores = [np.average(np.where(present, J * (figures >= cut), figures < cut), weights=weight) for cut in cuts]
    return float(cuts[int(np.argmax(scores))])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -SURE, SURE)))


def agreement_of_codes(
    semantic: Callable[[Array], tuple[Array, Array]], indicators: Array, references: Sequence[int] = ()
) -> Array:
    """`agreement` of a group's indicators (N, d), each image seen as a group of one."""
    return agreement(semantic(indicators[:, None])[1], references)
