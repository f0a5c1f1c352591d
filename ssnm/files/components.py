"""Connected components of a mask, by its runs: numpy alone."""

from __future__ import annotations

import numpy as np


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the pieces of a mask; cells that touch at a corner belong together (8 neighbours).

    Args:
        mask: (H, W) bool.

    Returns:
        labels (H, W) int32: 0 outside, 1 .. n inside, in the order in which rows meet them; and n.
    """
    rows, starts, ends = _runs(mask)
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    firsts = np.searchsorted(rows, np.arange(mask.shape[0] + 1)).tolist()  # the first run of each row
    begin, stop = starts.tolist(), ends.tolist()
    for row in range(1, mask.shape[0]):
        above, here = firsts[row - 1], firsts[row]
        while above < firsts[row] and here < firsts[row + 1]:
            if begin[above] <= stop[here] and begin[here] <= stop[above]:  # ends are excluded: <= lets corners touch
                older, younger = sorted((root(above), root(here)))
                parents[younger] = older
            if stop[above] < stop[here]:
                above += 1
            else:
                here += 1
    roots, numbers = np.unique([root(run) for run in range(len(rows))], return_inverse=True)
    return _painted(mask.shape, rows, starts, ends, numbers + 1), len(roots)


def component_masks(mask: np.ndarray, min_area: int = 1) -> np.ndarray:
    """The pieces of a mask (H, W) bool that have at least `min_area` cells: (n, H, W) bool, the largest first."""
    labels, count = label_components(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-areas, kind="stable")
    kept = order[areas[order] >= min_area] + 1
    return labels[None] == kept[:, None, None]


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, first column and column after the last of every horizontal run, in reading order."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    return rows, starts, np.nonzero(edges == -1)[1]


def _painted(shape, rows, starts, ends, values) -> np.ndarray:
    """(H, W) int32 with values[i] along run i."""
    steps = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    steps[rows, starts] = values
    np.subtract.at(steps, (rows, ends), values.astype(np.int32))  # a run may start where another ends
    return np.cumsum(steps, axis=1, dtype=np.int32)[:, :-1]
