"""Merging of objects: section 8 of the specification, golden numbers of the authors' davis_eval."""

from pathlib import Path

import numpy as np
import pytest

from ssnm.video.merge import merge_objects, resize_ids, resize_probabilities

GOLDEN = Path(__file__).parent / "golden" / "merge.npz"


def test_background_wins_at_one_half_and_the_first_of_two_equal_objects():
    probabilities = np.array([[[0.5, 0.6, 0.6, 0.4]], [[0.2, 0.6, 0.7, 0.45]]], np.float32)
    assert merge_objects(probabilities, (1, 2)).tolist() == [[0, 1, 2, 0]]


def test_ids_need_not_be_contiguous():
    probabilities = np.array([[[0.9, 0.1]], [[0.2, 0.8]]], np.float32)
    assert merge_objects(probabilities, (7, 200)).tolist() == [[7, 200]]


def test_no_object_is_all_background():
    assert not merge_objects(np.zeros((0, 3, 4), np.float32), ()).any()


def test_ids_and_probabilities_at_another_size():
    ids = np.array([[3, 0], [0, 9]], np.uint8)
    assert resize_ids(ids, (4, 4)).tolist() == np.kron(ids, np.ones((2, 2), int)).tolist()
    flat = np.full((2, 3, 4), 0.25, np.float32)
    assert resize_probabilities(flat, (7, 5)).shape == (2, 7, 5)
    assert np.allclose(resize_probabilities(flat, (7, 5)), 0.25)
    assert resize_probabilities(flat[:0], (7, 5)).shape == (0, 7, 5)


@pytest.mark.parametrize("sequence, objects", [("aaa", 1), ("bbb", 3)])
def test_the_authors_merging_is_met_exactly(sequence, objects):
    with np.load(GOLDEN) as golden:
        for frame in (1, 2):
            scores = np.stack([golden[f"score/{sequence}/{i + 1}/{frame}"] for i in range(objects)])
            wanted = golden[f"merged/{sequence}/{frame}"]
            merged = resize_ids(merge_objects(scores, range(1, objects + 1)), wanted.shape)
            assert (merged == wanted).all()
