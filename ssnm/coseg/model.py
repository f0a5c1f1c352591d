"""SSNM: deep object co-segmentation via spatial-semantic network modulation (AAAI 2020).

In the order data flows (Figure 2): backbone -> multi-resolution CFMs -> fusion -> spatial modulator (S),
coarsest CFM -> semantic modulator (gamma) -> modulation of every level -> FPN-style head -> mask logits.

B groups, N images in a group, M = N*h*w descriptors of D channels in a group, C_k channels of level k, L co-categories.
Levels are ordered finest first; the last one is the coarsest (7x7 for a 224x224 image).
What the paper leaves open is listed in docs/deviations.md.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from ..nn.backbones import Backbone
from ..nn.grouping import fold_groups, unfold_groups
from ..nn.modulation import scale_and_shift
from ..nn.resize import resize_area, resize_bilinear
from .orientation import orient
from .records import ImageCodes, Modulation, SSNMOutput
from .reference import steered
from .second_order import second_order_matrix, signed_sqrt
from .spectral import clustering_energy, leading_eigenvector, unit_descriptors

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU}

for record in (Modulation, SSNMOutput):  # torch.export takes a network whose output it knows how to take apart
    torch.export.register_dataclass(record, serialized_type_name=f"ssnm.{record.__name__}")


class Fusion(nn.Module):
    """The inset of Figure 2: multi-resolution CFMs -> phi, the maps that the spatial modulator clusters.

    From finest to coarsest: 1x1 convolution of the running map, down-sampling to the next level, plus the
    1x1 convolution of that level's own map, 1x1 convolution of the sum; the last one gives phi. Down-sampling averages
    cells, which commutes with a 1x1 convolution: it comes first, and the convolution sees a quarter of the positions.
    """

    def __init__(self, channels: Sequence[int], dim: int, activation: str = "none") -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        self.running = nn.ModuleList(nn.Conv2d(dim, dim, 1) for _ in channels[2:])
        self.merge = nn.ModuleList(nn.Conv2d(dim, dim, 1) for _ in channels[1:])
        self.activation = ACTIVATIONS[activation]()

    def forward(self, cfms: Sequence[Tensor]) -> Tensor:
        """[(B*N, C_k, H_k, W_k)] finest first -> (B*N, D, h, w) at the coarsest size."""
        if len(cfms) == 1:
            return self.lateral[0](cfms[0])
        running, convolutions = cfms[0], [self.lateral[0], *self.running]
        for convolve, lateral, merge, cfm in zip(convolutions, self.lateral[1:], self.merge, cfms[1:]):
            averaged = resize_area(running, cfm.shape[-2:])
            running = self.activation(merge(convolve(averaged) + lateral(cfm)))
        return running


class SpatialModulator(nn.Module):
    """f_spa (Eq. 6-10): the leading eigenvector of G = X^T X - 11^T, cut into one mask per image.

    No learned parameters. The eigenvector is found in float32 with autocast off and without gradient;
    the clustering energy s^T G s carries the gradient to the descriptors (l_spa, Eq. 9).

    Args:
        orientation: a key of `ssnm.coseg.orientation.ORIENTATIONS`; the sign of an eigenvector is arbitrary.
        scale: "unit" (||s|| = 1 over the group, as printed) or "rms" (times sqrt(M): entries of order 1
            whatever the group size).
        maps: what is clustered: "fused" (the paper) or "coarsest", the backbone's coarsest maps as they are.
        trains_maps: the clustering energy sends a gradient into the maps (Eq. 9 as printed), or none.
    """

    def __init__(
        self, orientation: str = "border", scale: str = "rms", maps: str = "fused", trains_maps: bool = True
    ) -> None:
        super().__init__()
        self.orientation, self.scale, self.maps, self.trains_maps = orientation, scale, maps, trains_maps

    def forward(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi (B, N, D, h, w) -> spatial mask (B, N, h, w), eigenvalue (B,), clustering energy (B,)."""
        with torch.autocast(phi.device.type, enabled=False):
            descriptors = unit_descriptors((phi if self.trains_maps else phi.detach()).float())  # (B, N*h*w, D)
            vector, eigenvalue = leading_eigenvector(descriptors)
            energy = clustering_energy(descriptors, vector)
            mask = vector.unflatten(1, (phi.shape[1], *phi.shape[-2:]))  # (B, N*h*w) -> (B, N, h, w)
            mask = orient(mask, self.orientation)
            if self.scale == "rms":
                mask = mask * vector.shape[1] ** 0.5
        return mask, eigenvalue, energy


class SecondOrderPooling(nn.Module):
    """SP (Figure 4): 1x1 convolution d -> c, the c x c second-order matrix, fully-connected layer -> d."""

    def __init__(self, in_dim: int, dim: int, out_dim: int, activation: str, centred: bool, normalisation: str) -> None:
        super().__init__()
        self.reduce = nn.Linear(in_dim, dim)  # a 1x1 convolution over positions
        self.expand = nn.Linear(dim * dim, out_dim)
        self.activation = ACTIVATIONS[activation]()
        self.centred, self.normalisation = centred, normalisation

    def forward(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """features (B, P, d), d channels at P positions, weights (B, P) of the positions -> (B, out_dim)."""
        reduced = self.activation(self.reduce(features)).transpose(1, 2)  # (B, P, c) -> (B, c, P)
        with torch.autocast(features.device.type, enabled=False):  # squares of features: float32
            matrix = second_order_matrix(reduced.float(), self.centred, weights)
            if self.normalisation == "signed_sqrt":
                matrix = signed_sqrt(matrix)
            return self.expand(matrix.flatten(1).to(self.expand.weight.dtype))


class SemanticModulator(nn.Module):
    """f_sem (Eq. 3, 11, 12): hierarchical second-order pooling (HSP) of a group's coarsest CFMs -> gamma.

    SP on each image gives N indicators; a second SP over these N positions gives gamma. gamma does not depend
    on the order of the images.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        num_categories: int,
        image_dim: int = 64,
        group_dim: int = 32,
        activation: str = "none",
        gamma_activation: str = "none",
        centred: bool = False,
        normalisation: str = "none",
    ) -> None:
        super().__init__()
        shared = dict(activation=activation, centred=centred, normalisation=normalisation)
        self.image_pooling = SecondOrderPooling(in_dim, image_dim, in_dim, **shared)
        self.group_pooling = SecondOrderPooling(in_dim, group_dim, dim, **shared)
        self.centred = centred
        self.gamma_activation = ACTIVATIONS[gamma_activation]()
        self.classifier = nn.Linear(dim, num_categories)
        nn.init.ones_(self.group_pooling.expand.bias)  # training starts near gamma = 1, the unmodulated network

    def indicators(self, cfm: Tensor) -> Tensor:
        """The coarsest CFM (B*N, d, h, w) -> one indicator per image (B*N, d)."""
        return self.image_pooling(cfm.flatten(2).transpose(1, 2))  # (B*N, d, h, w) -> (B*N, h*w, d)

    def forward(self, indicators: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """indicators (B, N, d), weights (B, N) of the images -> gamma (B, D), category logits (B, L)."""
        gamma = self.gamma_activation(self.group_pooling(indicators, weights))
        return gamma, self.classifier(gamma)


class SegmentationHead(nn.Module):
    """f_seg: from the coarsest modulated level up, convolution, up-sampling, addition to the next level; after the last
    addition a convolution and the 1x1 convolution that gives the logits.

    extra_convolution: one more 3x3 convolution after the last addition (the models of version 0.1 have it).
    """

    def __init__(self, dim: int, num_levels: int, activation: str = "relu", extra_convolution: bool = True) -> None:
        super().__init__()
        levels = range(0 if extra_convolution else 1, num_levels)
        self.smooth = nn.ModuleDict({str(level): nn.Conv2d(dim, dim, 3, padding=1) for level in levels})
        self.refine = nn.Conv2d(dim, dim, 3, padding=1)
        self.predict = nn.Conv2d(dim, 1, 1)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """modulated maps [(B*N, D, H_k, W_k)] finest first -> mask logits (B*N, H, W) of `size`."""
        x = maps[-1]
        for level in reversed(range(len(maps))):
            if level < len(maps) - 1:
                x = resize_bilinear(x, maps[level].shape[-2:]) + maps[level]
            if str(level) in self.smooth:
                x = self.activation(self.smooth[str(level)](x))
        logits = self.predict(self.activation(self.refine(x)))
        return resize_bilinear(logits.float(), size).squeeze(1)


class SSNM(nn.Module):
    """The whole network.

    Args:
        backbone: gives the CFMs; passed in, so any adapter of the same contract will do.
        num_categories: L.
        dim: D, the channels that are modulated.
        spatial: the spatial modulator, or None (ablation: no shift, no fusion, no l_spa).
        semantic: keyword arguments of :class:`SemanticModulator`, or None (ablation: gamma = 1, no l_sem).
        fusion_activation, level_activation, head_activation: "none" or "relu"; the paper names none.
        level_norm: "layer": the projected maps are normalised per image (Ba et al., 2016) before modulation.
        head_extra_convolution: see :class:`SegmentationHead`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_categories: int,
        dim: int = 512,
        spatial: SpatialModulator | None = None,
        semantic: dict | None = None,
        fusion_activation: str = "none",
        level_activation: str = "none",
        head_activation: str = "relu",
        level_norm: str = "none",
        head_extra_convolution: bool = True,
    ) -> None:
        super().__init__()
        channels = backbone.channels
        self.backbone = backbone
        self.spatial = spatial
        fused = spatial is not None and spatial.maps == "fused"
        self.fusion = Fusion(channels, dim, fusion_activation) if fused else None
        self.semantic = None if semantic is None else SemanticModulator(channels[-1], dim, num_categories, **semantic)
        self.project = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        self.level_activation = ACTIVATIONS[level_activation]()
        self.level_norm = None if level_norm == "none" else nn.ModuleList(nn.GroupNorm(1, dim) for _ in channels)
        self.head = SegmentationHead(dim, len(channels), head_activation, head_extra_convolution)

    def forward(
        self, images: Tensor, exchange: int = 0, references: tuple[Tensor, Tensor] | None = None
    ) -> SSNMOutput:
        """images (B, N, 3, H, W) RGB in [0, 1], any N >= 1 -> mask logits (B, N, H, W) and the modulation.

        exchange: so many images of each group are also segmented with the gamma of the next group (see
        :func:`ssnm.coseg.losses.exchange_loss`); needs two groups or more and a semantic modulator.
        references: (places (B,) long, masks (B, N, H, W)): a group whose place is not -1 is steered by the object of
        that image (see :func:`ssnm.coseg.reference.steered`).
        """
        groups, group_size, size = images.shape[0], images.shape[1], images.shape[-2:]
        cfms = self.backbone(fold_groups(images))
        codes = self.encode(cfms)
        modulation = self.modulate(codes, group_size)
        if references is not None:
            modulation = steered(self, cfms, codes, modulation, *references)
        alone = None
        if self.semantic is not None and not self.semantic.centred:
            alone = unfold_groups(self.semantic(codes.indicators[:, None])[1], group_size)  # (B, N, L)
        logits = unfold_groups(self.segment(cfms, modulation, size), group_size)
        exchanged = None
        if exchange and groups > 1 and modulation.semantic_vector is not None:
            some = [fold_groups(unfold_groups(m, group_size)[:, :exchange]) for m in cfms]
            mask = modulation.spatial_mask
            swapped = Modulation(
                spatial_mask=None if mask is None else mask[:, :exchange],
                semantic_vector=modulation.semantic_vector.roll(-1, 0),
            )
            exchanged = unfold_groups(self.segment(some, swapped, size), min(exchange, group_size))
        return SSNMOutput(logits, modulation, exchanged, alone)

    def encode(self, cfms: Sequence[Tensor]) -> ImageCodes:
        """CFMs of B*N images -> what the modulators need of each; images do not see each other here."""
        phi = None
        if self.spatial is not None:
            phi = cfms[-1] if self.fusion is None else self.fusion(cfms)
        indicators = self.semantic.indicators(cfms[-1]) if self.semantic is not None else None
        return ImageCodes(phi, indicators, cfms[-1].float().mean((-2, -1)))

    def modulate(self, codes: ImageCodes, group_size: int, weights: Tensor | None = None) -> Modulation:
        """Codes of B*N images -> the modulation of B groups of N = `group_size`. weights (B, N): each image's share in
        what the semantic modulator gathers from its group; None: all the same."""
        spatial: dict[str, Tensor] = {}
        if self.spatial is not None:
            mask, eigenvalue, energy = self.spatial(unfold_groups(codes.phi, group_size))
            spatial = dict(spatial_mask=mask, eigenvalue=eigenvalue, clustering_energy=energy)
        gamma = logits = None
        if self.semantic is not None:
            gamma, logits = self.semantic(unfold_groups(codes.indicators, group_size), weights)
        return Modulation(semantic_vector=gamma, category_logits=logits, **spatial)

    def segment(self, cfms: Sequence[Tensor], modulation: Modulation, size: tuple[int, int]) -> Tensor:
        """CFMs of B*N images and their groups' modulation (Eq. 5) -> mask logits (B*N, H, W)."""
        shift = modulation.spatial_mask
        gamma = modulation.semantic_vector
        of_group = shift if gamma is None else gamma
        groups = 1 if of_group is None else of_group.shape[0]
        modulated = []
        for level, cfm in enumerate(cfms):
            projected = self.level_activation(self.project[level](cfm))
            if self.level_norm is not None:
                projected = self.level_norm[level](projected)
            features = unfold_groups(projected, cfm.shape[0] // groups)  # (B, N, D, H, W)
            modulated.append(fold_groups(scale_and_shift(features, gamma, shift)))
        return self.head(modulated, size)
