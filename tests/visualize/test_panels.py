"""The picture of groups that training writes."""

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.visualize.panels import GroupPictures, group_panel


def group(count=3, size=(48, 64), spatial=True, truths=True, scores=None):
    rng = np.random.default_rng(0)
    return GroupPictures(
        images=[rng.random((*size, 3)) for _ in range(count)],
        spatial_masks=[rng.normal(size=(6, 8)) for _ in range(count)] if spatial else None,
        probabilities=[rng.random(size) for _ in range(count)],
        truths=[rng.random(size) > 0.5 for _ in range(count)] if truths else None,
        title="cat",
        scores=scores,
    )


def test_panel_has_a_column_per_image_and_a_block_per_group():
    one, wide, two = group_panel([group(3)]), group_panel([group(5)]), group_panel([group(3), group(3)])
    assert wide.width > one.width and wide.height == one.height
    assert two.width == one.width and two.height > 1.8 * one.height


def test_rows_of_what_is_not_there_are_left_out():
    full = group_panel([group()], cell=64).height
    without_truth = group_panel([group(truths=False)], cell=64).height
    images_and_predictions = group_panel([group(truths=False, spatial=False)], cell=64).height
    assert full - without_truth == without_truth - images_and_predictions == 48 + 4  # a 64 x 48 picture and the gap


def test_scores_are_written_below_their_images():
    plain, scored = group_panel([group()]), group_panel([group(scores=[0.5, 0.6, 0.7])])
    strip = np.asarray(scored)[plain.height - 14 :]
    assert scored.height > plain.height
    assert (strip < 128).any()


def test_images_of_a_group_may_differ_in_size():
    first, second = group(1, (40, 80)), group(1, (90, 30))
    mixed = GroupPictures(
        [*first.images, *second.images],
        [*first.spatial_masks, *second.spatial_masks],
        [*first.probabilities, *second.probabilities],
        [*first.truths, *second.truths],
        "mixed",
    )
    assert group_panel([mixed]).height > 4 * 100


def test_truths_may_be_zeros_and_ones_as_training_has_them():
    pictures = group(1)
    as_floats = GroupPictures(
        pictures.images, None, pictures.probabilities, [t.astype(np.float32) for t in pictures.truths], "cat"
    )
    as_bools = GroupPictures(pictures.images, None, pictures.probabilities, pictures.truths, "cat")
    assert np.array_equal(np.asarray(group_panel([as_floats])), np.asarray(group_panel([as_bools])))


def test_lists_of_different_lengths_are_refused_by_name():
    pictures = group(3)
    with pytest.raises(DataError, match="'cat': 3 images but 2 probabilities"):
        GroupPictures(pictures.images, None, pictures.probabilities[:2], None, "cat")


@pytest.mark.parametrize("rows", [[], [group(0)]])
def test_a_panel_of_nothing_is_refused(rows):
    with pytest.raises(DataError, match="at least one"):
        group_panel(rows)
