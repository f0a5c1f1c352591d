"""Small folders of maps and ground truth, written as files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save():
    """Write an array (uint8, uint16 or bool) as an image file, making its folder."""

    def write(path: Path, array) -> Path:
        array = np.asarray(array)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array).save(path)
        return path

    return write


@pytest.fixture
def small_set(tmp_path, save):
    """Two classes, cat (2 images) and cow (1): maps in ``pred``, truths in ``gt``, random but fixed."""
    rng = np.random.default_rng(3)
    for category, stem, shape in (("cat", "img_2", (30, 40)), ("cat", "img_10", (41, 23)), ("cow", "a", (25, 25))):
        truth = np.zeros(shape, bool)
        truth[5:18, 4:20] = True
        noisy = np.clip(170.0 * truth + rng.integers(0, 90, shape), 0, 255).astype(np.uint8)
        save(tmp_path / "gt" / category / f"{stem}.png", truth)
        save(tmp_path / "pred" / category / f"{stem}.png", noisy)
    return tmp_path


@pytest.fixture
def real_truth() -> Path:
    """The ground truth of the PASCAL-VOC co-segmentation set."""
    root = os.environ.get("SSNM_DATA")
    if not root:
        pytest.skip("SSNM_DATA is not set: the real test set is not at hand")
    folder = Path(root) / "VOC_coseg_FaktorIrani" / "groundtruth"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
