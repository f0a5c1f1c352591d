"""Connected components: against a literal flood fill, and by hand."""

import numpy as np
import pytest

from ssnm.files.components import component_masks, label_components


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The pieces of a mask cell by cell, 8 neighbours."""
    left, pieces = set(zip(*map(np.ndarray.tolist, np.nonzero(mask)))), []
    while left:
        piece, front = set(), [left.pop()]
        while front:
            row, column = front.pop()
            piece.add((row, column))
            around = {(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)} & left
            left -= around
            front += around
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (12, 15)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_pieces_are_those_of_a_flood_fill(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    labels, count = label_components(mask)
    found = [set(zip(*map(np.ndarray.tolist, np.nonzero(labels == k)))) for k in range(1, count + 1)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, flooded(mask)))
    assert ((labels > 0) == mask).all()


def test_cells_that_touch_at_a_corner_belong_together():
    assert label_components(np.eye(4, dtype=bool))[1] == 1 and label_components(np.eye(4, dtype=bool)[::-1])[1] == 1
    assert label_components(np.array([[True, False, True]]))[1] == 2


def test_pieces_come_by_falling_size_without_the_small_ones():
    mask = np.array([[1, 0, 1, 1, 0, 1, 1, 1]], dtype=bool)
    assert component_masks(mask, min_area=2).sum(axis=(1, 2)).tolist() == [3, 2]
    assert component_masks(mask & False).shape == (0, 1, 8)
