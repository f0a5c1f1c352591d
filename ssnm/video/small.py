"""A small network with OSMN's two modulators, on any backbone of timm, at any image size.

It takes the place of the authors' MobileNetV1 `lite`. Where OSMN modulates inside VGG16, this network modulates what
it makes of each level of its backbone: 1x1 convolution, activation, modulation, 3x3 convolution, activation,
modulation. So the backbone sees a frame once, however many objects are followed in it, and its pretrained features
stay what they are. A top-down path joins the levels to one logit per pixel.

K objects, n modulated channels, D channels of a level, C_k h_k w_k of the backbone's level k, finest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.backbones import Backbone
from ..nn.modulation import scale_and_shift
from ..nn.resize import resize_area, resize_bilinear
from .modulators import SpatialModulator

LAYERS = 2  # modulated ones per level
NORM_MOMENTUM = 0.1  # of the shifts' batch norm: trainings of a few thousand steps


class PooledVisualModulator(nn.Module):
    """The means of every level over the object in the visual guide -> two linear layers -> the scales.

    The last layer starts with weights 0 and biases 1, as fc8 of OSMN does.
    """

    def __init__(self, channels: Sequence[int], num_scales: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sum(channels))
        self.hidden = nn.Linear(sum(channels), hidden)
        self.scale = nn.Linear(hidden, num_scales)
        nn.init.zeros_(self.scale.weight)
        nn.init.ones_(self.scale.bias)

    def forward(self, maps: Sequence[Tensor], masks: Tensor) -> Tensor:
        """[(K, C_k, h_k, w_k)] of the guide, masks (K, S, S) float -> (K, n)."""
        pooled = []
        for level in maps:
            weight = resize_area(masks.unsqueeze(1), level.shape[-2:])  # (K, 1, h_k, w_k)
            pooled.append((level * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-3))  # (K, C_k)
        return self.scale(F.relu(self.hidden(self.norm(torch.cat(pooled, dim=1)))))


class SmallOSMN(nn.Module):
    """The whole network; offers the same methods as :class:`ssnm.video.model.OSMN`.

    Args:
        backbone: of the frames.
        visual_backbone: of the visual guides; None: the frames' own.
        dim: D.
        hidden: width of the visual modulator.
        visual, spatial: whether there are scales, and shifts.
        fix_norm: batch norm of the spatial modulator keeps its moving statistics.
    """

    def __init__(
        self,
        backbone: Backbone,
        visual_backbone: Backbone | None = None,
        *,
        dim: int = 96,
        hidden: int = 256,
        visual: bool = True,
        spatial: bool = True,
        fix_norm: bool = False,
    ) -> None:
        super().__init__()
        channels, levels = backbone.channels, len(backbone.channels)
        self.dim = dim
        self.backbone, self.visual_backbone = backbone, visual_backbone if visual else None
        guide_channels = (visual_backbone or backbone).channels
        self.visual = PooledVisualModulator(guide_channels, levels * LAYERS * dim, hidden) if visual else None
        self.spatial = SpatialModulator([LAYERS * dim] * levels, fix_norm, NORM_MOMENTUM) if spatial else None
        self.enter = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        self.deepen = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in channels)
        self.predict = nn.Conv2d(dim, 1, 1)

    def forward(self, images: Tensor, spatial_guides: Tensor, visual_guides: Tensor, visual_masks: Tensor) -> Tensor:
        """A batch of training: the fields of VideoBatch -> logits (B, H, W)."""
        return self.segment(images, spatial_guides, self.scales(visual_guides, visual_masks))

    def scales(self, guides: Tensor, masks: Tensor) -> Tensor | None:
        """guides (K, 3, S, S) RGB in [0, 1], masks (K, S, S) -> gamma (K, n), once per object; None without scales."""
        if self.visual is None:
            return None
        backbone = self.visual_backbone or self.backbone
        shown = masks.unsqueeze(1)
        return self.visual(backbone(guides * shown + backbone.mean * (1 - shown)), masks)  # outside: the mean colour

    def segment(self, images: Tensor, spatial_guides: Tensor | None, scales: Tensor | None) -> Tensor:
        """images (1 or K, 3, H, W) RGB in [0, 1], spatial_guides (K, H, W), scales (K, n) -> logits (K, H, W).

        Without spatial_guides there are no shifts, without scales no scaling.
        """
        maps = self.backbone(images)
        scale_of = [None] * (LAYERS * len(maps)) if scales is None else scales.split(self.dim, dim=1)
        shift_of = self._shifts(spatial_guides, maps)
        levels = []
        for k, level in enumerate(maps):
            x = level
            for layer, convolution in enumerate((self.enter[k], self.deepen[k])):
                at = LAYERS * k + layer
                x = scale_and_shift(F.relu(convolution(x)).unsqueeze(1), scale_of[at], shift_of[at]).squeeze(1)
            levels.append(x)  # (K, D, h_k, w_k)
        x = F.relu(self.smooth[-1](levels[-1]))
        for k in range(len(levels) - 2, -1, -1):
            x = F.relu(self.smooth[k](resize_bilinear(x, levels[k].shape[-2:]) + levels[k]))
        return resize_bilinear(self.predict(x).float(), images.shape[-2:]).squeeze(1)

    def _shifts(self, spatial_guides: Tensor | None, maps: Sequence[Tensor]) -> list[Tensor | None]:
        """The shift (K, 1, D, h_k, w_k) of each modulated layer, in order."""
        if self.spatial is None or spatial_guides is None:
            return [None] * (LAYERS * len(maps))
        guide = spatial_guides.unsqueeze(1)  # (K, 1, H, W)
        shifts = self.spatial([resize_area(guide, level.shape[-2:]) for level in maps])
        return [part.unsqueeze(1) for whole in shifts for part in whole.split(self.dim, dim=1)]
