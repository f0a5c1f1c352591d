"""The two modulators of OSMN: the visual one gives a scale per channel, the spatial one a shift per channel and pixel.

K objects (at test time; samples of a batch in training), S side of the visual guide, H W size of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.vgg import FC_CHANNELS, VGG

NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01  # TensorFlow's decay 0.99
INITIAL_STD = 1e-3


class VisualModulator(nn.Module):
    """VGG16 of its own, fc6, fc7, and fc8 that emits the scales of all modulated layers (section 3.2 of the paper).

    fc8 starts with weights 0 and biases 1: before training every scale is exactly 1 for any guide, and in the first
    step fc8 alone has a gradient.

    Args:
        num_scales: n, the modulated channels of all layers.
        vgg: conv1_1 to fc7, dropout included.
    """

    def __init__(self, num_scales: int, vgg: VGG) -> None:
        super().__init__()
        self.vgg = vgg
        self.fc8 = nn.Conv2d(FC_CHANNELS, num_scales, 1)
        nn.init.zeros_(self.fc8.weight)
        nn.init.ones_(self.fc8.bias)

    def forward(self, guides: Tensor) -> Tensor:
        """guides (K, 3, 224, 224), normalised, 0 outside the object -> scales (K, n)."""
        return self.fc8(self.vgg(guides).last).flatten(1)  # (K, n, 1, 1) -> (K, n)


class SpatialModulator(nn.Module):
    """One 1x1 convolution without bias, batch norm and ReLU per level of a pyramid of the guide (section 3.3).

    Shifts are never negative. In evaluation a channel's shift is ReLU(a m + b) of the guide m: two numbers a channel.

    Args:
        channels: how many shifts each level gives, in the order of the levels.
        fix_norm: batch norm always uses its moving statistics and never updates them; its own weights still train.
        momentum: of the moving statistics. They start at variance 1, the guide's is below 1e-5: with the original's
            0.01 shifts are too weak in evaluation for the first thousand steps.
    """

    def __init__(self, channels: Sequence[int], fix_norm: bool = False, momentum: float = NORM_MOMENTUM) -> None:
        super().__init__()
        self.fix_norm = fix_norm
        self.convolutions = nn.ModuleList(nn.Conv2d(1, c, 1, bias=False) for c in channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=NORM_EPS, momentum=momentum) for c in channels)
        for convolution in self.convolutions:
            nn.init.normal_(convolution.weight, std=INITIAL_STD)
        self.train()

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """[(K, 1, h_k, w_k)], the guide at the size of each level -> [(K, C_k, h_k, w_k)], each >= 0."""
        return [F.relu(norm(convolution(m))) for m, convolution, norm in zip(pyramid, self.convolutions, self.norms)]

    def train(self, mode: bool = True) -> "SpatialModulator":
        super().train(mode)
        for norm in self.norms if self.fix_norm else ():
            norm.eval()
        return self


def guide_pyramid(guide: Tensor, levels: Sequence[int]) -> list[Tensor]:
    """Cascaded 2x2 average pools of (K, 1, H, W): the guide after k pools for each k of `levels`, ascending.

    As TensorFlow's SAME: a last row or column without partner is kept, and averages over its valid cells.
    """
    pyramid, pooled = [], guide
    for level in range(levels[-1] + 1):
        if level in levels:
            pyramid.append(pooled)
        pooled = F.avg_pool2d(pooled, 2, 2, ceil_mode=True, count_include_pad=False)
    return pyramid


def bilinear_kernel(size: int) -> Tensor:
    """The fixed up-sampling filter (size, size) of a transposed convolution of stride size / 2; `size` is even.

    >>> bilinear_kernel(4)[1]
    tensor([0.1875, 0.5625, 0.5625, 0.1875])
    """
    taps = 1 - (torch.arange(size) - (size / 2 - 0.5)).abs() / (size / 2)
    return torch.outer(taps, taps)
