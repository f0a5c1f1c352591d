"""AP of instance masks: golden values of the authors' function, numbers by hand, properties."""

from pathlib import Path

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.metrics.mask_ap import (
    area_under_curve,
    average_precision,
    average_precision_of,
    box_overlap,
    correct_localization,
    match,
    overlap_matrix,
    proposal_ceiling,
)

IMAGE_A = np.array([[0.6, 0.55, 0.1], [0.2, 0.3, 0.5]])
SCORES_A = np.array([0.9, 0.8, 0.7])
IMAGE_B, SCORES_B = np.array([[0.3]]), np.array([0.85])


@pytest.fixture(scope="module")
def golden():
    return np.load(Path(__file__).parent / "golden" / "average_precision.npz")


def lists(golden, *names: str) -> list[list[np.ndarray]]:
    return [[golden[f"{name}_{i}"] for i in range(int(golden["num_images"]))] for name in names]


def test_average_precision_is_that_of_the_authors_function(golden):
    result = average_precision(*lists(golden, "pred", "score", "gt"), golden["thresholds"])
    np.testing.assert_allclose(result, golden["average_precision"], rtol=0, atol=1e-12)


def test_overlaps_are_those_of_the_authors_function(golden):
    for predictions, truth, overlap in zip(*lists(golden, "pred", "gt", "iou")):
        np.testing.assert_allclose(overlap_matrix(truth, predictions), overlap, rtol=0, atol=1e-12)


def test_a_prediction_may_take_a_second_object_when_its_best_is_covered():
    result = average_precision_of([IMAGE_A, IMAGE_B], [SCORES_A, SCORES_B])
    assert result == pytest.approx([1.0, 1 / 3, 0.0], abs=1e-12)


def test_overlap_equal_to_the_threshold_is_wrong():
    assert match(np.array([[0.5]]), np.array([1.0]), 0.5).tolist() == [False]


def test_predictions_of_an_image_without_truth_count_with_their_scores():
    result = average_precision_of([IMAGE_A, np.zeros((0, 1)), IMAGE_B], [SCORES_A, np.array([0.95]), SCORES_B])
    assert result[0] == pytest.approx(0.75, abs=1e-12)  # the authors' program skips the image and says 1


@pytest.mark.parametrize("right, objects, area", [([1, 0, 1, 0], 3, 0.5555556), ([0, 1, 1], 4, 1 / 3), ([1, 1], 2, 1)])
def test_area_under_the_monotone_curve(right, objects, area):
    assert area_under_curve(np.array(right, dtype=bool), objects) == pytest.approx(area, abs=5e-8)


def test_perfect_masks_have_full_average_precision_in_any_order():
    truth = np.zeros((3, 6, 9), dtype=bool)
    for index in range(3):
        truth[index, :, 3 * index : 3 * index + 3] = True
    result = average_precision([truth[[2, 0, 1]]], [np.array([0.1, 0.5, 0.3])], [truth])
    assert result.tolist() == [1.0, 1.0, 1.0]


def test_scores_matter_only_by_their_order():
    draw = np.random.default_rng(0)
    overlaps = [draw.random((3, 5)) for _ in range(4)]
    scores = [draw.random(5) for _ in range(4)]
    stretched = [np.exp(7 * one) for one in scores]
    assert (average_precision_of(overlaps, scores) == average_precision_of(overlaps, stretched)).all()


def test_more_predictions_of_lower_score_never_lower_the_result():
    draw = np.random.default_rng(1)
    overlap, scores = draw.random((4, 6)), np.sort(draw.random(6))[::-1]
    results = [average_precision_of([overlap[:, :k]], [scores[:k]], [0.5])[0] for k in range(1, 7)]
    assert results == sorted(results)


def test_without_any_object_there_is_no_average_precision():
    assert np.isnan(average_precision_of([np.zeros((0, 2))], [np.ones(2)])).all()
    assert (average_precision_of([np.zeros((2, 0))], [np.zeros(0)]) == 0).all()


@pytest.mark.parametrize(
    "predictions, scores, words",
    [
        ([np.ones((1, 4, 4), dtype=bool)] * 2, [np.ones(1)], "one entry per image"),
        ([np.ones((1, 4, 4))], [np.ones(1)], "type bool"),
        ([np.ones((1, 4, 5), dtype=bool)], [np.ones(1)], "one size"),
        ([np.ones((1, 4, 4), dtype=bool)], [np.ones(2)], "1 finite scores"),
        ([np.ones((1, 4, 4), dtype=bool)], [np.full(1, np.nan)], "finite"),
    ],
)
def test_wrong_lists_are_one_clear_line(predictions, scores, words):
    with pytest.raises(DataError, match=words):
        average_precision(predictions, scores, [np.ones((1, 4, 4), dtype=bool)], [0.5])


def test_the_ceiling_takes_the_best_proposal_of_each_object():
    recall, overlap = proposal_ceiling([np.array([[0.2, 0.8], [0.5, 0.1]]), np.zeros((1, 0))])
    assert recall == pytest.approx(1 / 3) and overlap == pytest.approx(1.3 / 3)


def test_localization_needs_half_an_overlap_with_any_object():
    truth = [(0, 0, 10, 10), (20, 20, 30, 30)]
    boxes = [(20, 20, 30, 27), (0, 0, 10, 5), None, (0, 0, 1, 1)]
    assert correct_localization(boxes, [truth, truth, truth, []]) == pytest.approx(1 / 3)
    assert np.isnan(correct_localization([None], [[]]))
    with pytest.raises(DataError, match="per image"):
        correct_localization([None], [])


def test_box_overlap_by_hand():
    assert box_overlap((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert box_overlap((0, 0, 1, 1), (1, 0, 2, 1)) == 0
