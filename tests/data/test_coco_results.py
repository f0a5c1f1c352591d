"""COCO results: what is written is read back, what is damaged is refused, COCO's numbers are COCO's."""

import json

import numpy as np
import pytest

from ssnm.data.coco_results import coco_scores, decode_mask, encode_mask, instance_records, read_results
from ssnm.errors import DataError, MissingFileError


def square(left: int, side: int = 40) -> np.ndarray:
    mask = np.zeros((60, 120), dtype=bool)
    mask[10 : 10 + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (200, 133)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_a_mask_survives_the_run_lengths(shape, share):
    mask = np.random.default_rng(1).random(shape) < share
    assert (decode_mask(encode_mask(mask), "here") == mask).all()
    plain = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.T.ravel().astype(int), [2]]))))
    runs = [0, *plain.tolist()] if mask[0, 0] else plain.tolist()
    assert (decode_mask({"size": list(shape), "counts": runs}, "here") == mask).all()


@pytest.mark.parametrize(
    "code, words",
    [
        ({"size": [2, 3], "counts": [1, 2]}, "sum to 3, height x width is 2 x 3 = 6"),
        ({"size": [2, 3], "counts": [7, -1]}, "no run lengths"),
        ({"size": [2, 3], "counts": None}, "no run lengths"),
        ({"size": [2, 3], "counts": "06 "}, "no run lengths"),
        ({"size": [2], "counts": [2]}, "size"),
        ({"size": [-2, 3], "counts": [6]}, "size"),
        ({"counts": [6]}, "run lengths"),
        ([[1, 2]], "run lengths"),
    ],
)
def test_run_lengths_that_cannot_be_are_refused(code, words):
    with pytest.raises(DataError, match=words):
        decode_mask(code, "here")


def test_records_have_cocos_keys_and_boxes():
    record = instance_records(7, square(30)[None], np.array([0.5]), file_name="a.jpg")[0]
    assert record["bbox"] == [30, 10, 40, 40] and record["image_id"] == 7 and record["score"] == 0.5
    assert json.loads(json.dumps(record)) == record


def test_results_files_are_checked(tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(MissingFileError):
        read_results(path)
    for text, words in [("{", "not JSON"), ("3", "a list"), ('[{"image_id": 1}]', "segmentation"),
                        ('[{"image_id": 1, "segmentation": {}, "score": "x"}]', "finite")]:  # fmt: skip
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_results(path)


def test_perfect_masks_have_full_scores_and_ten_are_needed_for_many():
    truth = np.stack([square(0), square(50)])
    result = coco_scores([truth], [np.array([0.3, 0.9])], [truth])
    assert result["AP"] == result["AP50"] == result["AR100"] == 1.0 and result["AR1"] == 0.5
    assert np.isnan(result["APs"])  # no small object


def test_half_an_overlap_counts_at_the_low_thresholds_only():
    truth, shifted = square(0)[None], square(11)[None]  # IoU 29 / 51
    result = coco_scores([shifted], [np.array([0.9])], [truth])
    assert result["AP50"] == pytest.approx(1) and result["AP75"] == 0.0 and result["AP"] == pytest.approx(0.2)


def test_nothing_found_is_zero_and_nothing_to_find_is_nan():
    none = np.zeros((0, 60, 120), dtype=bool)
    assert coco_scores([none], [np.zeros(0)], [square(0)[None]])["AP"] == 0.0
    assert np.isnan(coco_scores([square(0)[None]], [np.ones(1)], [none])["AP"])
