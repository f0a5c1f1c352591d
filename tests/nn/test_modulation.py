"""Eq. 5: the same scale for a group, a shift per image, added to every channel."""

import torch
from torch.nn import functional as F

from ssnm.nn.modulation import scale_and_shift


def test_every_value_is_gamma_times_x_plus_s():
    maps, scale, shift = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 4), torch.randn(2, 3, 5, 6)
    modulated = scale_and_shift(maps, scale, shift)
    for b, n, d in [(0, 0, 0), (0, 2, 3), (1, 1, 2), (1, 2, 0)]:
        torch.testing.assert_close(modulated[b, n, d], scale[b, d] * maps[b, n, d] + shift[b, n])


def test_a_smaller_mask_is_resized_per_image():
    maps, shift = torch.zeros(2, 3, 4, 8, 10), torch.randn(2, 3, 4, 5)
    modulated = scale_and_shift(maps, shift=shift)
    wanted = F.interpolate(shift[1, 2][None, None], size=(8, 10), mode="bilinear")[0, 0]
    for channel in range(4):
        torch.testing.assert_close(modulated[1, 2, channel], wanted)


def test_without_scale_and_shift_nothing_changes():
    maps = torch.randn(2, 1, 3, 4, 4)
    assert torch.equal(scale_and_shift(maps), maps)
    assert torch.equal(scale_and_shift(maps, torch.ones(2, 3), torch.zeros(2, 1, 2, 2)), maps)


def test_a_float32_mask_does_not_widen_half_precision_maps():
    maps = torch.zeros(1, 2, 3, 4, 4, dtype=torch.bfloat16)
    assert scale_and_shift(maps, shift=torch.ones(1, 2, 2, 2)).dtype == torch.bfloat16


def test_a_shift_per_channel_is_added_channel_by_channel():
    maps, shift = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(scale_and_shift(maps, shift=shift), maps + shift)


def test_one_map_serves_several_objects():
    maps, scale, shift = torch.randn(1, 1, 4, 5, 6), torch.randn(3, 4), torch.randn(3, 1, 4, 5, 6)
    modulated = scale_and_shift(maps, scale, shift)
    assert modulated.shape == (3, 1, 4, 5, 6)
    torch.testing.assert_close(modulated[2, 0, 1], scale[2, 1] * maps[0, 0, 1] + shift[2, 0, 1])
