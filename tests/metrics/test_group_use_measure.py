"""Group use: the formula at the end of the evaluation specification."""

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.metrics import GroupUse, GroupUseRecord, discrimination, group_use_record

LEFT, RIGHT = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
LEFT[:, :4], RIGHT[:, 4:] = True, True


def literal_jaccard(a, b):
    return np.sum(a & b) / np.sum(a | b) if np.any(a | b) else 0.0


def test_a_perfect_model_gets_two_and_a_confused_one_minus_two():
    assert discrimination(LEFT, RIGHT, LEFT, RIGHT) == 2
    assert discrimination(RIGHT, LEFT, LEFT, RIGHT) == -2


def test_a_mask_that_ignores_the_group_gets_exactly_zero():
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask, truth_a, truth_b = rng.random((3, 9, 9)) < 0.5
        assert discrimination(mask, mask, truth_a, truth_b) == 0


def test_discrimination_is_the_formula_term_by_term():
    rng = np.random.default_rng(1)
    for _ in range(30):
        in_a, in_b, truth_a, truth_b = rng.random((4, 7, 9)) < 0.5
        j = literal_jaccard
        expected = j(in_a, truth_a) + j(in_b, truth_b) - j(in_a, truth_b) - j(in_b, truth_a)
        assert discrimination(in_a, in_b, truth_a, truth_b) == pytest.approx(expected, abs=1e-12)


def test_swapping_the_two_groups_changes_nothing():
    rng = np.random.default_rng(2)
    in_a, in_b, truth_a, truth_b = rng.random((4, 7, 9)) < 0.5
    assert discrimination(in_a, in_b, truth_a, truth_b) == pytest.approx(discrimination(in_b, in_a, truth_b, truth_a))


def test_empty_masks_are_undecided():
    empty = np.zeros_like(LEFT)
    assert discrimination(empty, empty, LEFT, RIGHT) == 0


def test_the_summary_of_four_images_by_hand():
    records = [GroupUseRecord(str(i), "a", "b", own, other) for i, (own, other) in enumerate(
        [(0.9, 0.1), (0.5, 0.495), (0.2, 0.6), (0.6, 0.5)])]  # fmt: skip
    use = GroupUse.of(records)
    assert (use.share, use.undecided, use.wrong) == (0.5, 0.25, 0.25)
    assert (use.mean_own, use.mean_other) == (pytest.approx(0.55), pytest.approx(0.42375))
    assert use.describe().startswith("group use 50.0 % of 4 images")
    assert use.to_dict()["records"][0]["d"] == pytest.approx(1.6)


def test_a_difference_of_just_the_margin_is_undecided():
    assert GroupUse.of([GroupUseRecord("x", "a", "b", 0.01, 0.0)]).undecided == 1  # d = 0.02


def test_own_and_other_are_means_of_two_terms():
    record = group_use_record("x", "cat", "dog", LEFT, LEFT, LEFT, RIGHT)
    assert (record.own, record.other, record.d) == (0.5, 0.5, 0)


def test_an_empty_truth_or_no_record_is_an_error():
    with pytest.raises(DataError, match="photo: the ground truth of dog is empty"):
        group_use_record("photo", "cat", "dog", LEFT, LEFT, LEFT, np.zeros_like(LEFT))
    with pytest.raises(DataError, match="differ in size"):
        discrimination(LEFT[:, :3], LEFT, LEFT, RIGHT)
    with pytest.raises(DataError, match="none was given"):
        GroupUse.of([])
