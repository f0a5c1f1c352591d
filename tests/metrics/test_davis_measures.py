"""J, F and their statistics: properties, literal versions of the formulas, numbers that can be checked by eye."""

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.metrics.davis import boundary, boundary_accuracy, region_similarity, statistics


def square(size, rows, columns):
    mask = np.zeros(size, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def blobs(rng, size):
    """A mask with some smooth shapes."""
    y, x = np.mgrid[: size[0], : size[1]]
    centres = rng.uniform(0, 1, (4, 2)) * size
    return sum(np.exp(-(((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(5, 60))) for cy, cx in centres) > 0.4


def test_j_of_two_shifted_squares_is_9_of_23():
    assert region_similarity(square((10, 10), (2, 6), (2, 6)), square((10, 10), (3, 7), (3, 7))) == 9 / 23


def test_both_empty_scores_1_and_a_false_alarm_on_an_empty_truth_0():
    empty, some = np.zeros((6, 6), bool), square((6, 6), (1, 3), (1, 3))
    assert region_similarity(empty, empty) == boundary_accuracy(empty, empty) == 1
    assert region_similarity(empty, some) == boundary_accuracy(empty, some) == boundary_accuracy(some, empty) == 0


def test_truth_against_itself_is_1_and_f_is_symmetric():
    rng = np.random.default_rng(0)
    for _ in range(10):
        first, second = blobs(rng, (40, 60)), blobs(rng, (40, 60))
        assert region_similarity(first, first) == boundary_accuracy(first, first) == 1
        assert boundary_accuracy(first, second) == pytest.approx(boundary_accuracy(second, first), abs=1e-12)


def test_the_boundary_of_a_square_lies_half_a_pixel_towards_the_origin():
    expected = np.zeros((6, 6), bool)
    expected[1, 1:5] = expected[4, 1:5] = expected[1:5, 1] = expected[1:5, 4] = True
    assert (boundary(square((6, 6), (2, 5), (2, 5))) == expected).all()


def test_the_last_row_and_column_only_look_along_themselves():
    mask = square((5, 5), (2, 5), (0, 3))  # touches the lower border
    border = boundary(mask)
    assert border[-1].tolist() == [False, False, True, False, False]
    assert not border[:, -1].any()
    assert not boundary(np.ones((5, 5), bool)).any()


def slow_f(truth, prediction):
    """Every boundary pixel compared with every other one."""
    radius = np.ceil(0.008 * np.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    true_points, points = np.argwhere(boundary(truth)), np.argwhere(boundary(prediction))
    if len(true_points) == 0 or len(points) == 0:
        return float(len(true_points) == len(points))
    near = lambda p, others: ((others - p) ** 2).sum(1).min() <= radius**2  # noqa: E731
    precision = np.mean([near(p, true_points) for p in points])
    recall = np.mean([near(p, points) for p in true_points])
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("size", [(40, 60), (90, 31), (200, 240)])
def test_f_equals_the_comparison_of_all_pairs_of_boundary_pixels(size):
    rng = np.random.default_rng(1)
    for _ in range(4):
        truth = blobs(rng, size)
        prediction = np.roll(truth, rng.integers(0, 5, 2), (0, 1)) ^ (rng.random(size) < 0.002)
        assert boundary_accuracy(truth, prediction) == pytest.approx(slow_f(truth, prediction), abs=1e-12)


@pytest.mark.parametrize("size, radius", [((480, 854), 8), ((180, 320), 3)])
def test_a_boundary_pixel_is_found_up_to_the_radius_and_not_beyond(size, radius):
    line = lambda row: square(size, (0, row), (0, size[1]))  # noqa: E731
    assert boundary_accuracy(line(50), line(50 + radius)) == 1
    assert boundary_accuracy(line(50), line(50 + radius + 1)) == 0


def test_recall_counts_frames_strictly_above_one_half():
    assert statistics(np.array([0.5, 0.5, 0.51, 1.0])).recall == 0.5


def test_decay_is_first_minus_last_quarter_which_share_their_border_frames():
    values = np.array([1.0, 0.9, 0.8, 0.4, 0.3, 0.3, 0.2, 0.1, 0.0])  # limits 1, 3, 5, 7, 9: three frames each
    assert statistics(values).decay == pytest.approx(0.9 - 0.1)
    assert statistics(values).mean == pytest.approx(values.mean())
    assert statistics(np.array([0.7])).decay == 0


def test_decay_is_right_beyond_256_frames():
    for frames in (255, 257, 300, 1000):
        falling = np.linspace(1, 0, frames)
        assert statistics(falling).decay == pytest.approx(0.75, abs=0.01)


def test_quarters_follow_the_rule_of_the_official_tool():
    for frames in (2, 3, 4, 10, 78):
        values = np.random.default_rng(frames).random(frames)
        limits = [int(np.floor(v + 0.5 + 1e-9)) - 1 for v in np.linspace(1, frames, 5)]
        first, last = values[limits[0] : limits[1] + 1], values[limits[3] : limits[4] + 1]
        assert statistics(values).decay == pytest.approx(first.mean() - last.mean())


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(DataError, match="one size"):
        region_similarity(np.ones((3, 4), bool), np.ones((4, 3), bool))
