"""An exported model where a network of torch is expected: what :class:`ssnm.coseg.predict.Predictor` calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ..records import ImageCodes, Modulation
from .modulator import SecondOrderPooling, SemanticModulator
from .network import OnnxNetwork


class OnnxModel:
    """The interface of :class:`ssnm.coseg.model.SSNM` that prediction uses, on the CPU, without gradients.

    Raises:
        MissingFileError, CheckpointError, MissingPackageError: see :class:`ssnm.coseg.onnx.network.OnnxNetwork`.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        self.network = OnnxNetwork(folder, threads)
        self.facts = self.network.facts
        self.spatial = self.network.spatial
        self.semantic = None if self.network.semantic is None else _Semantic(self.network.semantic)

    def to(self, device: torch.device | str) -> OnnxModel:
        """Raises:
        ConfigError: another device than the CPU."""
        if torch.device(device).type != "cpu":
            raise ConfigError(f"the ONNX runtime works on the CPU, got device '{device}'; use --device cpu")
        return self

    def eval(self) -> OnnxModel:
        return self

    def backbone(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> the levels, finest first, and phi where it is fused of them."""
        levels, phi = self.network.encode(images.contiguous().numpy())
        maps = [torch.from_numpy(level) for level in levels]
        return maps if phi is None or phi is levels[-1] else _LevelsAndPhi(maps, torch.from_numpy(phi))

    def encode(self, levels: Sequence[Tensor]) -> ImageCodes:
        """See :meth:`ssnm.coseg.model.SSNM.encode`."""
        phi = None if self.spatial is None else getattr(levels, "phi", levels[-1])
        indicators = None
        if self.network.semantic is not None:
            indicators = torch.from_numpy(self.network.semantic.indicators(levels[-1].numpy()))
        return ImageCodes(phi, indicators, levels[-1].float().mean((-2, -1)))

    def modulate(self, codes: ImageCodes, group_size: int, weights: Tensor | None = None) -> Modulation:
        """See :meth:`ssnm.coseg.model.SSNM.modulate`; eigenvalues and energies are not told."""
        mask = gamma = logits = None
        if self.spatial is not None:
            mask = torch.from_numpy(np.stack([self.spatial(group.numpy()) for group in codes.phi.split(group_size)]))
        if self.semantic is not None:
            gamma, logits = self.semantic(codes.indicators.unflatten(0, (-1, group_size)), weights)
        return Modulation(spatial_mask=mask, semantic_vector=gamma, category_logits=logits)

    def segment(self, levels: Sequence[Tensor], modulation: Modulation, size: tuple[int, int]) -> Tensor:
        """See :meth:`ssnm.coseg.model.SSNM.segment`."""
        gamma, mask = modulation.semantic_vector, modulation.spatial_mask
        groups = next((len(t) for t in (gamma, mask) if t is not None), 1)
        count = len(levels[0]) // groups
        parts = []
        for group in range(groups):
            own = [level[group * count : (group + 1) * count].contiguous().numpy() for level in levels]
            told = (None if gamma is None else gamma[group : group + 1].numpy(),
                    None if mask is None else mask[group].contiguous().numpy())  # fmt: skip
            parts.append(torch.from_numpy(self.network.segment(own, *told, size)))
        return torch.cat(parts)


class _LevelsAndPhi(list):
    """The levels; `phi`: the fused maps, which the encoder's graph makes beside them."""

    def __init__(self, levels: Sequence[Tensor], phi: Tensor) -> None:
        super().__init__(levels)
        self.phi = phi


class _Semantic:
    """The semantic modulator on tensors."""

    def __init__(self, modulator: SemanticModulator) -> None:
        self._modulator, self.centred = modulator, modulator.centred

    def __call__(self, indicators: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        given = None if weights is None else weights.numpy()
        return tuple(map(torch.from_numpy, self._modulator(indicators.numpy(), given)))

    def image_pooling(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        pooling: SecondOrderPooling = self._modulator.image_pooling
        return torch.from_numpy(pooling(features.numpy(), None if weights is None else weights.numpy()))
