"""Resizing agrees with Pillow where its docstring says so."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.nn.resize import resize_area, resize_bilinear


@pytest.mark.parametrize("size", [(5, 7), (32, 40), (11, 60)])
def test_antialiased_bilinear_is_pillows_bilinear(size):
    array = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    pillow = np.array(Image.fromarray(array).resize(size[::-1], Image.Resampling.BILINEAR))
    ours = resize_bilinear(torch.from_numpy(array)[None, None], size, antialias=True)[0, 0]
    np.testing.assert_allclose(ours.numpy(), pillow, atol=1e-5)


def test_doubling_a_line_by_hand():
    line = torch.tensor([[[[0.0, 4.0]]]])
    assert resize_bilinear(line, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_area_resizing_averages_cells():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize_area(maps, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (7, 13)])
def test_area_resizing_takes_any_size_and_keeps_a_constant(size):
    maps = torch.full((2, 3, 7, 13), 2.5)
    assert torch.equal(resize_area(maps, size), torch.full((2, 3, *size), 2.5))


@pytest.mark.parametrize("size", [(4, 6), (1, 2), (8, 3)])
def test_area_resizing_by_a_whole_factor_is_adaptive_pooling(size):
    maps = torch.rand(2, 3, 8, 12)
    torch.testing.assert_close(resize_area(maps, size), torch.nn.functional.adaptive_avg_pool2d(maps, size))


@pytest.mark.parametrize("resize", [resize_bilinear, resize_area])
def test_the_same_size_gives_the_same_tensor(resize):
    maps = torch.rand(1, 2, 3, 4)
    assert resize(maps, (3, 4)) is maps
