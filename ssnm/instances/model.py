"""The co-saliency network of a group: trunk, score map, up-sampled co-saliency (docs/deepco3.md).

    images (B, 3, H, W) -> features (B, C, h, w) -> score map Z (B, 1, h, w) -> logits (B, 1, H, W)

S~ = sigmoid(Z) is the small co-saliency, S = sigmoid(logits) the full one. With VGG16 and fc6 at 448: C = 4096,
h = w = 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import DataError
from .trunk import Trunk

Edges = Literal["fade", "bilinear"]


@dataclass(frozen=True)
class CoSaliency:
    """features (B, C, h, w); score_map (B, 1, h, w) and logits (B, 1, H, W), both before the sigmoid."""

    features: Tensor
    score_map: Tensor
    logits: Tensor


class CoSaliencyHead(nn.Module):
    """Features to score map to logits. Weight and bias start at exactly zero, so S = 0.5 everywhere at first.

    Args:
        channels: of the features.
        stride: of the features against the image, the factor of up-sampling.
        edges: "fade" as the code's transposed convolution does, whose logits fade towards 0 in the outer half
            stride; "bilinear" holds the border value there.
    """

    def __init__(self, channels: int, stride: int, edges: Edges = "fade") -> None:
        super().__init__()
        self.stride, self.edges = stride, edges
        self.score = nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, features: Tensor) -> CoSaliency:
        score_map = self.score(features)
        return CoSaliency(features, score_map, self.upsample(score_map))

    def upsample(self, score_map: Tensor) -> Tensor:
        """(B, 1, h, w) -> (B, 1, h * stride, w * stride)."""
        rows, columns = (upsampling_matrix(n, self.stride, self.edges).to(score_map) for n in score_map.shape[-2:])
        return rows @ score_map @ columns.T


def upsampling_matrix(cells: int, stride: int, edges: Edges = "fade") -> Tensor:
    """(cells * stride, cells): what the code's transposed convolution does along one axis.

    Its kernel is the outer product of r with itself, r_k = 1 - |k - stride - 1/2| / stride for k = 1 ... 2 * stride, at
    that stride and cropped by half of it: the axes part, and 64 x 64 taps become two small products.
    """
    centres = (torch.arange(cells) + 0.5) * stride  # of the cells, in pixels
    pixels = torch.arange(cells * stride) + 0.5
    matrix = (1 - (pixels[:, None] - centres).abs() / stride).clamp(min=0)
    if edges == "bilinear":
        missing = 1 - matrix.sum(1)
        matrix[:, 0] += missing * (pixels < centres[0])
        matrix[:, -1] += missing * (pixels > centres[-1])
    return matrix


class CoSaliencyNetwork(nn.Module):
    """Trunk and head. `paper` fitting trains all of it, `fast` fitting the head alone."""

    def __init__(self, trunk: Trunk, edges: Edges = "fade") -> None:
        super().__init__()
        self.trunk = trunk
        self.head = CoSaliencyHead(trunk.channels, trunk.stride, edges)

    def forward(self, images: Tensor) -> CoSaliency:
        """images (B, 3, H, W) RGB in [0, 1], H and W multiples of the trunk's stride.

        Raises:
            DataError: they are not.
        """
        if images.shape[-2] % self.trunk.stride or images.shape[-1] % self.trunk.stride:
            raise DataError(f"images of {images.shape[-2]}x{images.shape[-1]} were given; the sides must be multiples "
                            f"of {self.trunk.stride}, the stride of the backbone: resize them")
        return self.head(self.trunk(images))
