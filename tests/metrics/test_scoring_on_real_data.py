"""The real PASCAL-VOC co-segmentation ground truth scored against itself."""

import numpy as np
import pytest
from PIL import Image

from ssnm.metrics import score_folder


@pytest.mark.real_data
def test_the_ground_truth_scores_100_against_itself(real_truth):
    scores = score_folder(real_truth, real_truth, "paper", classes=["sofa", "train", "cow"])
    assert len(scores.images) == 26 + 32 + 34
    assert scores.averages["images"].J == scores.averages["pooled"].J == scores.averages["classes"].P == 1


@pytest.mark.real_data
def test_coarse_maps_lose_little_on_real_masks_and_twice_is_identical(real_truth, tmp_path):
    for path in (real_truth / "sofa").iterdir():
        mask = Image.open(path).convert("L")
        coarse = mask.resize((56, 56), Image.BILINEAR).resize(mask.size, Image.BILINEAR)
        (tmp_path / "sofa").mkdir(exist_ok=True)
        Image.fromarray(np.asarray(coarse)).save(tmp_path / "sofa" / path.name)
    first = score_folder(tmp_path, real_truth, "release", classes=["sofa"])
    assert 0.85 < first.headline.J < 1 and first.headline.P > 0.95
    again = score_folder(tmp_path, real_truth.parent, "release", classes=["sofa"], workers=3)
    files = first.write_json(tmp_path / "1.json"), again.write_json(tmp_path / "2.json")
    assert files[0].read_bytes() == files[1].read_bytes()
