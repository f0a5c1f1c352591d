"""Peaks and co-peaks: regional maxima of maps and of 4-D correlation tensors, plateaus included.

A regional maximum is a connected set of equal cells whose outside neighbours are all lower (MATLAB's
`imregionalmax`). "Equals its own max filter" is something else: a plateau that touches a higher cell anywhere is no
maximum at all, also not at its far end. Neighbours are the 8 cells around one in 2-D and the 80 around one in 4-D
(two image positions p and q, each moving by at most one cell).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError


@torch.no_grad()
def find_peaks(maps: Tensor, dims: int = 2) -> Tensor:
    """The peaks of each map: its regional maxima that are not below its median (section 3.2 of the paper, and code).

    Args:
        maps: (B, h, w), or with `dims=4` (B, h, w, h', w'): co-peaks of two images.
        dims: 2 or 4.

    Returns:
        A bool tensor of the shape of `maps`. A constant map is one plateau, so all of it; NaN is never a peak.

    >>> find_peaks(torch.tensor([[[8.0, 7, 7], [7, 7, 1], [7, 1, 2]]])).int().tolist()
    [[[1, 0, 0], [0, 0, 0], [0, 0, 0]]]
    """
    maxima = regional_maxima(maps, dims)
    spatial = tuple(range(1, maps.ndim))
    median = _median(maps.flatten(1)).reshape(-1, *(1 for _ in spatial))
    return maxima & (maps >= median)


@torch.no_grad()
def regional_maxima(maps: Tensor, dims: int = 2) -> Tensor:
    """Regional maxima of maps (B, h, w), or (B, h, w, h', w') with `dims=4`, as a bool tensor of the same shape.

    Raises:
        DataError: `maps` has another number of axes than a batch of `dims`-dimensional arrays, or an empty one.
    """
    if dims not in (2, 4) or maps.ndim != dims + 1:
        raise DataError(f"peaks are sought in (B, h, w) with dims=2 or (B, h, w, h', w') with dims=4, "
                        f"got {tuple(maps.shape)} with dims={dims}")
    if maps.numel() == 0:
        return torch.zeros_like(maps, dtype=torch.bool)
    values = maps if maps.is_floating_point() else maps.double()
    values = values.clamp(min=torch.finfo(values.dtype).min)  # so that -inf can stand for "outside" below
    marked = values == _neighbourhood_max(values)
    while True:
        # A marked cell has no higher neighbour. An unmarked neighbour of the same value has one, or has lost its
        # mark: the plateau they share is no maximum, and the loss spreads through it one cell per round.
        unmarked = values.masked_fill(marked, -torch.inf)
        drop = marked & (_neighbourhood_max(unmarked) == values)
        if not drop.any():
            return marked
        marked &= ~drop


def _neighbourhood_max(values: Tensor) -> Tensor:
    """The maximum over each cell and its neighbours; separable, so 4-D takes one 2-D filter per pair of axes."""
    if values.ndim == 3:
        return F.max_pool2d(values[:, None], 3, stride=1, padding=1)[:, 0]
    batch, h, w = values.shape[:3]
    over_q = F.max_pool2d(values.flatten(0, 2)[:, None], 3, 1, 1)[:, 0].reshape(values.shape)  # (B, h, w, h', w')
    over_q = over_q.flatten(3).permute(0, 3, 1, 2)  # (B, h'w', h, w)
    over_pq = F.max_pool2d(over_q, 3, stride=1, padding=1)
    return over_pq.permute(0, 2, 3, 1).reshape(values.shape)


def _median(rows: Tensor) -> Tensor:
    """(B, n) -> (B,): for an even count the mean of the two middle values, where torch's own takes the lower."""
    ordered, n = rows.sort(dim=1).values, rows.shape[1]
    if n == 0:
        return rows.new_zeros(len(rows))
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2
