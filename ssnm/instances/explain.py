"""Choosing masks by what they explain, instead of one mask per peak: the fast mode's way, beside the paper's ranking.

Prior and co-saliency together say where objects are: E = sqrt(S^ S). A mask is good if it covers a connected piece of
E and little else, which their soft IoU says; it is about the category if S is high in it. A piece of a component scores
by its share of it, so the parts that a component may be made of come after the whole, and each mask is damped by its
overlap with the better ones. A prior that already knows the category is better trusted alone: weight 0 of the
co-saliency puts S^ in the place of both.
"""

from __future__ import annotations

import numpy as np

from ..files.components import component_masks
from .select import covered_cells, within_area

LEVELS = (0.3, 0.5, 0.7)  # at which E falls into components
LEAST_SHARE = 0.003  # of the image, the smallest component
MOST_COMPONENTS = 24
CONSIDERED = 400  # best proposals that may be chosen: the rest are doubles of them, or background


def explain_instances(
    saliency: np.ndarray,
    prior: np.ndarray,
    proposals: np.ndarray,
    area: tuple[float, float] = (2e-5, 0.85),
    damping: float = 2.0,
    cosaliency_weight: float = 1.0,
    least: float = 0.02,
    limit: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks of one image by falling score.

    Args:
        saliency, prior: (H, W) in [0, 1], S and S^.
        proposals: (M, H, W) bool.
        area: as in `select.select_instances`.
        damping: a score is multiplied by (1 - IoU) ** damping for every better mask that was chosen.
        cosaliency_weight: w in [0, 1]; E = S^ ** (1 - w / 2) * S ** (w / 2), and masks are ranked by the mean of
            S^ ** (1 - w) * S ** w.
        least: masks that do not score more are dropped; a share, as scores lie in [0, 1].
        limit: at most so many masks.

    Returns:
        masks (k, H, W) bool and scores (k,); (0, H, W) and (0,) where nothing explains anything.
    """
    prior, saliency = (np.clip(x, 0, 1).astype(np.float32) for x in (prior, saliency))
    w = cosaliency_weight
    evidence, category = prior ** (1 - w / 2) * saliency ** (w / 2), prior ** (1 - w) * saliency**w
    pieces = _pieces(evidence)
    candidates = proposals[within_area(proposals, area)]
    if not len(candidates) or not len(pieces):
        return np.zeros((0, *saliency.shape), dtype=bool), np.zeros(0)
    scores = _scores(candidates, evidence, pieces, category)
    best = np.argsort(-scores, kind="stable")[:CONSIDERED]
    candidates, scores = candidates[best], scores[best]
    areas = covered_cells(candidates)
    chosen, values, left = [], [], scores.copy()
    while len(chosen) < limit and left.max() > least:
        index = int(left.argmax())
        chosen.append(index)
        values.append(left[index])
        common = covered_cells(candidates, candidates[index])
        left *= (1 - common / (areas + areas[index] - common)) ** damping
        left[index] = 0.0
    return candidates[chosen], np.array(values)


def _pieces(evidence: np.ndarray) -> np.ndarray:
    """Components of the evidence at each level, the largest first: (n, H, W) bool."""
    least = max(4, int(LEAST_SHARE * evidence.size))
    found = np.concatenate([component_masks(evidence >= level, least) for level in LEVELS])
    order = np.argsort(-np.count_nonzero(found, axis=(1, 2)), kind="stable")
    return found[order[:MOST_COMPONENTS]]


def _scores(candidates: np.ndarray, evidence: np.ndarray, pieces: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Soft IoU with the piece it covers best, times the mean of `category` inside: (M,)."""
    weights = (pieces * evidence).reshape(len(pieces), -1)  # (n, HW)
    inside = np.stack([category.ravel(), np.ones(category.size)])
    columns = np.concatenate([weights, inside]).T.astype(np.float32)  # (HW, n + 2)
    scores = np.empty(len(candidates))
    for start in range(0, len(candidates), 256):
        part = candidates[start : start + 256]
        sums = part.reshape(len(part), -1).astype(np.float32) @ columns  # (256, n + 2)
        covered, of_category, areas = sums[:, :-2], sums[:, -2], sums[:, -1]
        overlap = covered / (areas[:, None] + weights.sum(1) - covered)
        scores[start : start + 256] = overlap.max(1) * of_category / areas
    return scores
