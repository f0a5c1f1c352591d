"""MATLAB's bicubic resize with mirrored borders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.instances.resize import imresize_bicubic

GOLDEN = np.load(Path(__file__).parent / "golden" / "imresize.npz")


@pytest.mark.parametrize("name, size, every", [("up_448_like", (97, 83), 12), ("down", (31, 22), 3)])
def test_resizing_is_that_of_matlab(name, size, every):
    resized = imresize_bicubic(GOLDEN["image"], size)
    np.testing.assert_allclose(resized[::every], GOLDEN[name], rtol=0, atol=1e-11)  # grey levels up to 255


def test_pillow_agrees_inside_and_not_on_the_border():
    size = (97, 83)
    resized = imresize_bicubic(GOLDEN["image"], size)
    image = Image.fromarray(GOLDEN["image"].astype(np.float32))
    pillow = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))
    difference = np.abs(resized - pillow)
    assert difference[4:-4, 4:-4].max() < 1e-3 < 1 < difference.max()


def test_bytes_come_back_as_rounded_bytes_and_channels_are_apart():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    resized = imresize_bicubic(image, (20, 15))
    assert resized.shape == (20, 15, 3) and resized.dtype == np.uint8
    single = imresize_bicubic(image[..., 1].astype(float), (20, 15))
    assert np.array_equal(resized[..., 1], np.floor(single.clip(0, 255) + 0.5))


def test_the_same_size_changes_nothing():
    np.testing.assert_allclose(imresize_bicubic(GOLDEN["image"], GOLDEN["image"].shape), GOLDEN["image"], atol=1e-12)
