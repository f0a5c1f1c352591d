"""AUC against counting every pair, and the AUC of spatial masks by hand."""

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.metrics import auc, spatial_auc
from ssnm.metrics.ranking import cell_shares


def by_pairs(scores, positive) -> float:
    """The share of (positive, negative) pairs in the right order, ties half, weighted by share."""
    won = pairs = 0.0
    for a, p in zip(scores, positive):
        for b, q in zip(scores, positive):
            weight = p * (1 - q)
            pairs += weight
            won += weight * (1.0 if a > b else 0.5 if a == b else 0.0)
    return won / pairs


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    for positive in (rng.random(40) < 0.3, rng.random(40)):
        scores = rng.integers(0, 8, 40).astype(float)  # many ties
        assert auc(scores, positive) == pytest.approx(by_pairs(scores, positive.astype(float)), rel=1e-12)


def test_order_alone_counts_and_a_constant_says_nothing():
    scores, positive = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True])
    assert auc(scores, positive) == auc(np.exp(9 * scores), positive) == 1 and auc(-scores, positive) == 0
    assert auc(np.zeros(4), positive) == 0.5


def test_without_both_kinds_there_is_no_auc_and_what_is_no_number_is_refused():
    assert np.isnan(auc(np.arange(3.0), np.ones(3, bool)))
    with pytest.raises(DataError, match="one finite score per entry"):
        auc(np.array([np.nan, 1.0]), np.array([True, False]))
    with pytest.raises(DataError, match="one finite score per entry"):
        auc(np.arange(3.0), np.array([True, False]))


def test_cells_hold_their_share_of_the_truth_whatever_the_sizes():
    truth = np.zeros((6, 5), bool)
    truth[:3] = True
    np.testing.assert_allclose(cell_shares(truth, (2, 2)), [[1, 1], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(cell_shares(truth, (4, 1)), [[1], [1], [0], [0]], atol=1e-12)
    np.testing.assert_allclose(cell_shares(truth, (1, 2)).mean(), truth.mean())


def test_a_spatial_mask_on_the_object_scores_one_and_its_negative_zero():
    truths = [np.zeros((8, 8), bool), np.zeros((8, 8), bool)]
    truths[0][:4], truths[1][:, 4:] = True, True
    masks = [np.where(cell_shares(t, (4, 4)) > 0, 1.0, -1.0) for t in truths]
    assert spatial_auc(masks, truths) == 1 and spatial_auc([-m for m in masks], truths) == 0
    shifted = [masks[0], masks[1] - 5]  # the images of a group are ranked together
    assert spatial_auc(shifted, truths) < 1
