"""The network of the authors' public release, for its checkpoints; apart from the paper's (`ssnm.coseg.model`).

In the order data flows: VGG16 with batch norm -> taps after pool2..pool5 -> two 3x3 convolutions per level (X_k)
-> spatial mask from X_3 alone, semantic vector from X_3 -> modulation of every level (Eq. 5) -> decoder whose three
coarser levels share one set of layers -> two channels, whose difference is the mask logit.
docs/release.md lists what differs from the paper and why each difference is kept here.

B groups, N = 5 images in a group, L co-categories, P positions. Levels are ordered finest first.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError, DataError
from ...naming import counted
from ...nn.backbones import Backbone
from ...nn.grouping import fold_groups, unfold_groups
from ...nn.modulation import scale_and_shift
from ...nn.resize import resize_bilinear
from ..orientation import orient
from ..records import ImageCodes, Modulation, SSNMOutput
from ..spectral import clustering_energy, leading_eigenvector, unit_descriptors
from .adam200 import BARRIER_WEIGHT, adam200

SOLVERS = ("adam200", "exact")
BACKBONE = "vgg16_bn"
GREY_MEAN, GREY_STD = 0.449, 0.226


class ReleaseBackbone(Backbone):
    """torchvision's VGG16-BN feature layers; a grey image is normalised with one mean and deviation.

    Args:
        weights: "pretrained" (timm's download), "none" (random), or a file, also one that holds the feature
            layers alone.
    """

    def __init__(self, weights: str = "none") -> None:
        super().__init__(BACKBONE, weights)

    def forward(self, images: Tensor, grey: Tensor | None = None) -> list[Tensor]:
        """(B*N, 3, 224, 224) RGB in [0, 1], grey (B*N,) bool or None -> pool2..pool5, (B*N, C_k, 56 / 2^k, 56 / 2^k).

        Raises:
            DataError: another size.
        """
        self.check_size(images)
        mean, std = self.mean, self.std
        if grey is not None:
            single = grey[:, None, None, None]  # (B*N,) -> (B*N, 1, 1, 1)
            mean, std = torch.where(single, GREY_MEAN, mean), torch.where(single, GREY_STD, std)
        return self.net((images - mean) / std)

    @staticmethod
    def check_size(images: Tensor) -> None:
        """Refuse images (B*N, 3, H, W) that are not 224x224."""
        height, width = images.shape[-2:]
        if (height, width) != (SSNMRelease.fixed_size, SSNMRelease.fixed_size):
            raise DataError(
                f"got images of {height}x{width}, the release variant takes {SSNMRelease.fixed_size}x"
                f"{SSNMRelease.fixed_size} only: resize them, or use model.name: ssnm, which takes any size"
            )


class ReleaseSpatial(nn.Module):
    """The spatial mask s of a group from its coarsest level, not rescaled and without gradient through s.

    Args:
        solver: "adam200", the release's 200 steps; "exact", the minimum they aim at (:func:`penalised_minimum`).
    """

    def __init__(self, solver: str = "adam200") -> None:
        super().__init__()
        if solver not in SOLVERS:
            raise ConfigError(f"model.solver must be one of {', '.join(SOLVERS)}, got '{solver}'")
        self.solver = solver

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """features (B, N, D, h, w) -> spatial mask (B, N, h, w), eigenvalue (B,), clustering energy (B,).

        The eigenvalue is the largest of G, or where the 200 steps stop, s^T G s of their result at unit length.
        """
        with torch.autocast(features.device.type, enabled=False):
            descriptors = unit_descriptors(features.float())  # (B, N*h*w, D), order image, row, column
            split = (features.shape[1], *features.shape[-2:])  # (B, N*h*w) -> (B, N, h, w)
            if self.solver == "adam200":
                vector = adam200(descriptors.detach())
                energy = clustering_energy(descriptors, nn.functional.normalize(vector, dim=1))
                return vector.unflatten(1, split), energy.detach(), energy
            vector, eigenvalue = leading_eigenvector(descriptors)
            mask = penalised_minimum(orient(vector.unflatten(1, split), "nonnegative_sum"), eigenvalue)
            return mask, eigenvalue, clustering_energy(descriptors, vector)


def penalised_minimum(unit_mask: Tensor, eigenvalue: Tensor) -> Tensor:
    """What the release's objective 50 b(||s||) - s^T G s is smallest at: the leading eigenvector times r.

    r = 1 for lambda <= 25 (the barrier's kink), else 1 + sqrt(1 - 25 / lambda), where the barrier's slope
    50 / (2 - r) meets 2 lambda r. unit_mask (B, N, h, w) of unit length over a group, eigenvalue (B,).
    """
    threshold = BARRIER_WEIGHT / 2
    radius = 1 + (1 - threshold / eigenvalue.clamp(min=threshold)).sqrt()
    return unit_mask * radius[:, None, None, None]


class ReleaseSemantic(nn.Module):
    """The release's second-order pooling, with its reinterpretation of memory kept: it depends on image order.

    The per-image matrices (N, 4096) of a group are read in memory order as (4096, N): the N "positions" of the
    second pooling mix images and channels, and so does everything trained behind it.
    """

    def __init__(self, dim: int, num_categories: int, image_dim: int = 64, group_dim: int = 32) -> None:
        super().__init__()
        self.reduce_image = nn.Conv2d(dim, image_dim, 1)
        self.reduce_group = nn.Conv2d(image_dim**2, group_dim, 1)
        self.expand = nn.Linear(group_dim**2, dim)
        self.classifier = nn.Linear(dim, num_categories)

    def indicators(self, features: Tensor) -> Tensor:
        """The coarsest level (B*N, D, h, w) -> one flattened channel-by-channel matrix per image, (B*N, 4096)."""
        return _channel_products(self.reduce_image(features).relu())

    def forward(self, indicators: Tensor) -> tuple[Tensor, Tensor]:
        """indicators (B, N, 4096) -> gamma (B, D) >= 0, category logits (B, L)."""
        groups, images, length = indicators.shape
        mixed = indicators.reshape(groups, length, images, 1)  # memory order kept, not a transpose: see the class
        gamma = self.expand(_channel_products(self.reduce_group(mixed).relu())).relu()
        return gamma, self.classifier(gamma)


def _channel_products(maps: Tensor) -> Tensor:
    """Z Z^T over all positions, flattened: neither centred nor divided. (B*N, c, h, w) -> (B*N, c*c)."""
    z = maps.flatten(2)  # (B*N, c, P)
    return (z @ z.mT).flatten(1)


class DecoderStage(nn.Module):
    """1x1 convolution, ReLU, plus the coarser stage's result, 3x3 convolution, ReLU, then up by two if asked to."""

    def __init__(self, dim: int, upsample: bool) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(dim, dim, 1)
        self.smooth = nn.Conv2d(dim, dim, 3, padding=1)
        self.upsample = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1) if upsample else nn.Identity()

    def forward(self, features: Tensor, coarser: Tensor | None = None) -> Tensor:
        """features (B*N, D, h, w), coarser of the same shape or None -> (B*N, D, 2h, 2w), or (B*N, D, h, w)."""
        x = self.lateral(features).relu()
        if coarser is not None:
            x = x + coarser
        return self.upsample(self.smooth(x).relu())


class ReleaseDecoder(nn.Module):
    """Coarsest level first; levels 3, 2 and 1 go through one shared stage, level 0 through its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shared = DecoderStage(dim, upsample=True)
        self.finest = DecoderStage(dim, upsample=False)
        self.predict = nn.Conv2d(dim, 2, 3, padding=1)
        self.upsample = nn.ConvTranspose2d(2, 2, 8, stride=4, padding=2)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """modulated levels (B*N, D, h_k, w_k), finest first -> mask logits (B*N, 4*h_0, 4*w_0).

        The release takes a softmax over two channels; the first one's probability is the sigmoid of their difference.
        """
        x = None
        for level in reversed(levels[1:]):
            x = self.shared(level, x)
        channels = self.upsample(self.predict(self.finest(levels[0], x))).float()
        return channels[:, 0] - channels[:, 1]


class SSNMRelease(nn.Module):
    """The whole network; only for groups of `fixed_group_size` images of `fixed_size` pixels a side.

    Convolution weights outside the backbone start Xavier-uniform; transposed convolutions and linear layers as
    torch starts them.

    Args:
        backbone: pool2..pool5 of VGG16-BN.
        num_categories: L, 78 in the authors' checkpoint.
        solver: of the spatial mask, see :class:`ReleaseSpatial`.
    """

    fixed_group_size = 5
    fixed_size = 224
    takes_grey = True

    def __init__(self, backbone: ReleaseBackbone, num_categories: int, solver: str = "adam200", dim: int = 512) -> None:
        super().__init__()
        self.backbone = backbone
        self.widen = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, dim, 3, padding=1), nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU())
            for c in backbone.channels
        )
        self.spatial = ReleaseSpatial(solver)
        self.semantic = ReleaseSemantic(dim, num_categories)
        self.decoder = ReleaseDecoder(dim)
        for part in (self.widen, self.semantic, self.decoder):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight)

    def forward(self, images: Tensor, grey: Tensor | None = None) -> SSNMOutput:
        """images (B, 5, 3, 224, 224) RGB in [0, 1], grey (B, 5) bool or None -> mask logits (B, 5, 224, 224).

        Raises:
            DataError: another group size or image size.
        """
        group_size = images.shape[1]
        cfms = self.backbone(fold_groups(images), None if grey is None else fold_groups(grey))
        levels = [widen(cfm) for widen, cfm in zip(self.widen, cfms)]
        modulation = self.modulate(self._codes(levels[-1]), group_size)
        return SSNMOutput(unfold_groups(self._decode(levels, modulation), group_size), modulation)

    def encode(self, cfms: Sequence[Tensor]) -> ImageCodes:
        """pool2..pool5 of B*N images -> what the modulators need of each image: X_3 (phi) and its matrix."""
        return self._codes(self.widen[-1](cfms[-1]))

    def modulate(self, codes: ImageCodes, group_size: int) -> Modulation:
        """Codes of B*5 images -> the modulation of B groups.

        Raises:
            DataError: another group size than 5, to which the layout of the semantic branch is bound.
        """
        if group_size != self.fixed_group_size or codes.phi.shape[0] % group_size:
            raise DataError(
                f"got {counted(codes.phi.shape[0], 'image')} in groups of {group_size}, the release variant takes "
                f"groups of exactly {self.fixed_group_size}: fill a short group up with images it has, or use "
                "model.name: ssnm"
            )
        mask, eigenvalue, energy = self.spatial(unfold_groups(codes.phi, group_size))
        gamma, logits = self.semantic(unfold_groups(codes.indicators, group_size))
        return Modulation(mask, gamma, logits, eigenvalue, energy)

    def segment(self, cfms: Sequence[Tensor], modulation: Modulation, size: tuple[int, int]) -> Tensor:
        """pool2..pool5 of B*5 images and their groups' modulation -> mask logits (B*5, H, W) of `size`."""
        levels = [widen(cfm) for widen, cfm in zip(self.widen, cfms)]
        return resize_bilinear(self._decode(levels, modulation).unsqueeze(1), size).squeeze(1)

    def _codes(self, coarsest: Tensor) -> ImageCodes:
        return ImageCodes(phi=coarsest, indicators=self.semantic.indicators(coarsest))

    def _decode(self, levels: Sequence[Tensor], modulation: Modulation) -> Tensor:
        """levels X_0..X_3 (B*N, D, h_k, w_k) and the modulation of their groups (Eq. 5) -> logits (B*N, 224, 224)."""
        gamma, mask = modulation.semantic_vector, modulation.spatial_mask
        modulated = []
        for level in levels:
            grouped = unfold_groups(level, level.shape[0] // gamma.shape[0])  # (B, N, D, h, w)
            modulated.append(fold_groups(scale_and_shift(grouped, gamma, mask)))
        return self.decoder(modulated)
