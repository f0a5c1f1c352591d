"""Images as people give them from Python all become the same picture, or one line that says what can be given."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.errors import DataError
from ssnm.files.given import given_images, name_of, read_given

ARRAY = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


class Somewhere:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_paths_of_every_kind_are_read(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(ARRAY).save(path)
    for given in (path, str(path), os.fsencode(path), Somewhere(path)):
        assert np.array_equal(read_given(given).array, ARRAY) and name_of(given, 0) == "a.png"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.from_numpy(ARRAY).permute(2, 0, 1),
        torch.from_numpy(ARRAY),
        torch.from_numpy(ARRAY).permute(2, 0, 1) / 255,
        (torch.from_numpy(ARRAY) / 255).double().requires_grad_(),
    ],
)
def test_tensors_are_read_with_channels_first_or_last(tensor):
    assert np.array_equal(read_given(tensor).array, ARRAY)


def test_half_precision_tensors_are_read():
    for dtype in (torch.bfloat16, torch.float16):
        assert read_given(torch.ones(3, 4, 6, dtype=dtype)).array.min() == 255


def test_any_iterable_is_a_group_and_a_batch_too():
    batch = torch.from_numpy(np.stack([ARRAY, ARRAY])).permute(0, 3, 1, 2)
    for images in ([ARRAY], (ARRAY,), {"a": ARRAY}.values(), (a for a in [ARRAY]), batch, np.stack([ARRAY])):
        assert all(np.array_equal(read_given(i).array, ARRAY) for i in given_images(images))


@pytest.mark.parametrize(
    "images, words",
    [
        ("a.png", "write segment..image"), (ARRAY, "write segment"), (torch.zeros(3, 4, 4), "write segment"),
        (None, "got None"), (3, "got int"), ({"a": ARRAY}, "got dict"), ([], "at least 1 image"),
        ([ARRAY, None], "image 2: a path, a Pillow image, .*, got None"), ([3], "image 1: .* got int"),
        ([torch.zeros(5, 6, 7)], "image 1: a tensor .3, H, W. or .H, W, 3. was expected, got .5, 6, 7."),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_one_line_that_says_what_can(images, words):
    with pytest.raises(DataError, match=words) as error:
        given_images(images)
    assert "\n" not in str(error.value)
