"""Maps and masks at the photograph's own size."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssnm.coseg.full_size import cut_at, resize_probability

SIZES = [(7, 5), (33, 48), (97, 201), (1, 1), (1, 9), (48, 48)]


def smooth_map(seed: int, side: tuple[int, int] = (24, 24)) -> np.ndarray:
    """A map with large sure areas, an edge, and places of exactly one half."""
    noise = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    soft = F.interpolate(noise, size=side, mode="bilinear")[0, 0].numpy()
    steep = 1 / (1 + np.exp(-12 * (soft - 0.5)))
    return np.where(np.abs(soft - 0.5) < 0.03, np.float32(0.5), steep).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_torch_s_bilinear_without_antialiasing(size):
    small = smooth_map(1)
    wanted = F.interpolate(torch.from_numpy(small)[None, None], size=size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_probability(small, size), wanted[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.0, 1.0, 1 / 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_the_fast_mask_is_the_map_cut_bit_for_bit(size, threshold, seed):
    rough = np.random.default_rng(seed).random((24, 24), dtype=np.float32).round(1)
    for small in (smooth_map(seed), rough, smooth_map(seed, (3, 40)), np.full((4, 4), np.float32(threshold))):
        wanted = resize_probability(small, size).astype(np.float64) > threshold
        np.testing.assert_array_equal(cut_at(small, size, threshold), wanted)


def test_at_twelve_megapixels_too():
    small = smooth_map(9, (288, 288))
    mask = cut_at(small, (3000, 4000), 0.5)
    assert 0.05 < mask.mean() < 0.95
    np.testing.assert_array_equal(mask, resize_probability(small, (3000, 4000)) > 0.5)
