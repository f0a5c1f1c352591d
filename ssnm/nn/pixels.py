"""What the weights of a network expect of its input: channel order, range, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PixelNormalisation(nn.Module):
    """RGB in [0, 1] -> what the weights want: (x * scale - mean) / std, in their order of channels.

    Args:
        mean, std: per channel, in the order of the weights and in units of `scale`.
        scale: the largest value of a pixel there, 1 or 255.
        bgr: the weights want blue first.

    The values are buffers that no checkpoint holds: the model's config says them.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float] = (1.0,) * 3, scale: float = 1.0,
                 bgr: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.scale, self.bgr = scale, bgr
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(M, 3, H, W) RGB in [0, 1] -> (M, 3, H, W), normalised."""
        return ((images.flip(1) if self.bgr else images) * self.scale - self.mean) / self.std
