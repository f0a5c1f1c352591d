"""Which side of the spatial mask is the object: an eigenvector has no sign, and the paper fixes none.

B groups, N images, h w size of the coarsest maps. A rule turns (B, N, h, w) into one score per group, (B,);
a negative score flips the group. Rules are odd (the score of -S is minus the score of S), do not depend on
the scale of S or the order of the images, and are measured in docs/spatial_modulator.md. One definition for torch and
for numpy: only what arrays of both can do is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any  # torch.Tensor or numpy.ndarray; what comes back is of the same kind


def nonnegative_sum(mask: Array) -> Array:
    """The release's rule: the entries sum to >= 0, which its positive start of the solver brings about."""
    return mask.sum((1, 2, 3))


def border(mask: Array) -> Array:
    """Photographers leave room around their subject: the side that keeps off the image borders is the object.

    The mean of S over the inner positions minus its mean over the outermost rows and columns. Maps without
    inner positions (h or w below 3) say nothing about borders and are judged by :func:`nonnegative_sum`.
    """
    height, width = mask.shape[-2:]
    if height < 3 or width < 3:
        return nonnegative_sum(mask)
    inner = mask[..., 1:-1, 1:-1].sum((1, 2, 3))
    outer = mask.sum((1, 2, 3)) - inner
    inner_count = (height - 2) * (width - 2)
    return inner / inner_count - outer / (height * width - inner_count)


ORIENTATIONS: dict[str, Callable[[Array], Array]] = {
    "border": border,
    "nonnegative_sum": nonnegative_sum,
}


def orient(mask: Array, rule: str) -> Array:
    """Give every group of masks (B, N, h, w) the sign that `rule` asks for; a score of zero keeps the sign.

    Raises:
        ValueError: a rule that is not in ORIENTATIONS.
    """
    if rule not in ORIENTATIONS:
        raise ValueError(f"orientation {rule!r} is not known; choose one of {', '.join(ORIENTATIONS)}")
    sign = 1 - 2 * (ORIENTATIONS[rule](mask) < 0)
    return mask * sign[:, None, None, None]
