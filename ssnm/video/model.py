"""OSMN: efficient video object segmentation via network modulation (CVPR 2018), the authors' `osvos` network.

In the order data flows (Figure 2): visual guide -> visual modulator (scales), spatial guide -> spatial modulator
(shifts), frame -> VGG16 whose activations are scaled and shifted -> four side outputs -> one logit per pixel.

K objects, n modulated channels, S side of the visual guide, H W size of the frame. A frame may be shared by all
objects (one image, K guides): layers before the first modulated one are then computed once.
What differs between the paper, the authors' program and this file is listed in docs/osmn.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.modulation import scale_and_shift
from ..nn.vgg import VGG
from .modulators import INITIAL_STD, SpatialModulator, VisualModulator, bilinear_kernel, guide_pyramid

SIDE_STAGES = (2, 3, 4, 5)
SIDE_CHANNELS = 16


class SideOutput(nn.Module):
    """A 3x3 convolution to 16 channels, linear, and a fixed bilinear up-sampling to the size of the frame.

    The transposed convolution has kernel 2s and stride s; its result is cropped in the middle, at floor of half the
    excess. Where the frame's size is no multiple of s that is not the geometric s / 2: the map then lies up to
    excess / 2 - s / 2 pixels too far up or left, as it does in the authors' program.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(channels, SIDE_CHANNELS, 3, padding=1)
        nn.init.normal_(self.convolution.weight, std=INITIAL_STD)
        nn.init.zeros_(self.convolution.bias)
        kernel = torch.zeros(SIDE_CHANNELS, SIDE_CHANNELS, 2 * stride, 2 * stride)
        kernel[range(SIDE_CHANNELS), range(SIDE_CHANNELS)] = bilinear_kernel(2 * stride)
        self.register_buffer("up", kernel, persistent=False)  # fixed: no checkpoint needs it

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(M, C, h, w) -> (M, 16, H, W)."""
        return centre_crop(F.conv_transpose2d(self.convolution(maps), self.up, stride=self.stride), size)


def centre_crop(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(M, C, h, w) -> (M, C, *size) from row floor((h - H) / 2) and column floor((w - W) / 2)."""
    top, left = ((have - want) // 2 for have, want in zip(maps.shape[-2:], size))
    return maps[..., top : top + size[0], left : left + size[1]]


class OSMN(nn.Module):
    """The whole network.

    Args:
        trunk: VGG16 without its last pool, ceil-mode pools.
        visual_vgg: VGG16 with fc6 and fc7 for the visual modulator; None: no scales (`no_visual`).
        normalise: RGB in [0, 1] -> what both VGGs want.
        spatial: whether there are shifts (`no_spatial`: False).
        first_stage: the first of VGG's stages that is modulated; 3, or 1 with `mod_early_conv`.
        fix_norm: batch norm of the spatial modulator keeps its moving statistics (`fix_bn`).
        fix_segmentation: trunk and side convolutions are not trained, the fusion still is (`fix_seg`).
    """

    def __init__(
        self,
        trunk: VGG,
        visual_vgg: VGG | None,
        normalise: nn.Module,
        *,
        spatial: bool = True,
        first_stage: int = 3,
        fix_norm: bool = False,
        fix_segmentation: bool = False,
    ) -> None:
        super().__init__()
        modulated = {at: c for at, c in trunk.channels.items() if at[0] >= first_stage}
        self.layers = tuple(modulated)  # (stage, index) of each modulated layer, in order
        self.layer_channels = tuple(modulated.values())
        self.levels = tuple(range(first_stage - 1, len(SIDE_STAGES) + 1))  # pools before each modulated stage
        per_stage = [sum(c for at, c in modulated.items() if at[0] == level + 1) for level in self.levels]
        self.normalise = normalise
        self.visual = None if visual_vgg is None else VisualModulator(sum(self.layer_channels), visual_vgg)
        self.spatial = SpatialModulator(per_stage, fix_norm) if spatial else None
        self.trunk = trunk
        last = {stage: c for (stage, _), c in trunk.channels.items()}
        self.sides = nn.ModuleList(SideOutput(last[stage], 2 ** (stage - 1)) for stage in SIDE_STAGES)
        self.fuse = nn.Conv2d(len(SIDE_STAGES) * SIDE_CHANNELS, 1, 1)
        nn.init.normal_(self.fuse.weight, std=INITIAL_STD)
        nn.init.zeros_(self.fuse.bias)
        if fix_segmentation:
            self.trunk.requires_grad_(False)
            self.sides.requires_grad_(False)

    def forward(self, images: Tensor, spatial_guides: Tensor, visual_guides: Tensor, visual_masks: Tensor) -> Tensor:
        """A batch of training: the fields of VideoBatch -> logits (B, H, W)."""
        return self.segment(images, spatial_guides, self.scales(visual_guides, visual_masks))

    def scales(self, guides: Tensor, masks: Tensor) -> Tensor | None:
        """guides (K, 3, S, S) RGB in [0, 1], masks (K, S, S) -> gamma (K, n), once per object; None without scales.

        What the mask leaves out is set to 0 after normalisation: the mean colour.
        """
        return None if self.visual is None else self.visual(self.normalise(guides) * masks.unsqueeze(1))

    def segment(self, images: Tensor, spatial_guides: Tensor | None, scales: Tensor | None) -> Tensor:
        """images (1 or K, 3, H, W) RGB in [0, 1], spatial_guides (K, H, W), scales (K, n) -> logits (K, H, W).

        Without spatial_guides there are no shifts, without scales no scaling.
        """
        size = images.shape[-2:]
        modulation = self._modulation(spatial_guides, scales)

        def modulate(stage: int, index: int, maps: Tensor) -> Tensor:
            scale, shift = modulation.get((stage, index), (None, None))
            grouped = scale_and_shift(maps.unsqueeze(1), scale, shift)  # groups of one image: (K, 1, C, h, w)
            return grouped.squeeze(1)

        stages = self.trunk(self.normalise(images), modulate).stages
        sides = [side(stages[stage - 1], size) for side, stage in zip(self.sides, SIDE_STAGES)]
        objects = max(side.shape[0] for side in sides)
        fused = self.fuse(torch.cat([side.expand(objects, -1, -1, -1) for side in sides], dim=1))  # (K, 64, H, W)
        return fused.squeeze(1)

    def shifts(self, spatial_guides: Tensor | None) -> list[Tensor] | None:
        """spatial_guides (K, H, W) -> beta of each modulated stage (K, sum of its layers' channels, h, w)."""
        if self.spatial is None or spatial_guides is None:
            return None
        return self.spatial(guide_pyramid(spatial_guides.unsqueeze(1), self.levels))

    def _modulation(
        self, spatial_guides: Tensor | None, scales: Tensor | None
    ) -> dict[tuple[int, int], tuple[Tensor | None, Tensor | None]]:
        """(stage, index) -> scale (K, C) and shift (K, 1, C, h, w): the outputs of the modulators, cut by layer."""
        shifts = self.shifts(spatial_guides)
        of_layer: list[Tensor | None] = [None] * len(self.layers)
        if shifts is not None:
            of_layer = [s.unsqueeze(1) for stage, whole in zip(self.levels, shifts)
                        for s in whole.split(self._channels_of(stage + 1), dim=1)]  # fmt: skip
        scale_of_layer: Sequence[Tensor | None] = (
            [None] * len(self.layers) if scales is None else scales.split(self.layer_channels, dim=1)
        )
        return {at: pair for at, *pair in zip(self.layers, scale_of_layer, of_layer)}

    def _channels_of(self, stage: int) -> list[int]:
        return [c for at, c in zip(self.layers, self.layer_channels) if at[0] == stage]
