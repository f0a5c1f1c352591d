"""What a fitted network says of each image: its co-saliency and one response map per peak, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..ranges import NOT_NEGATIVE, POSITIVE, require, values
from .model import CoSaliencyNetwork
from .peak_backprop import Responses, gaussian_responses, peak_responses, score_peaks
from .resize import imresize_bicubic


@dataclass(frozen=True)
class ResponseSettings:
    """How responses are made, and brought to the size that is asked for.

    kind: "backprop" (the paper) or "gaussian" around each peak, `sigma` cells of the grid wide; down_to_stride: see
    `peak_responses`; max_peaks: the highest so many, 0 for all; clip: co-saliency to [0, 1] and responses to >= 0 after
    resizing, which the code does not; resize: "torch" (antialiased bicubic) or "matlab".
    """

    kind: Literal["backprop", "gaussian"] = "backprop"
    sigma: float = 1.0
    down_to_stride: int = 1
    max_peaks: int = 0
    clip: bool = False
    resize: Literal["torch", "matlab"] = "torch"

    def __post_init__(self) -> None:
        require(values("responses", self, "sigma", "down_to_stride"), *POSITIVE)
        require(values("responses", self, "max_peaks"), *NOT_NEGATIVE)


@dataclass(frozen=True)
class Evidence:
    """cosaliency (H, W) float32 in [0, 1]; responses (K, H, W) float32, not yet multiplied by it, K may be 0; peaks
    (K, 2): row and column in pixels of H x W; peak_scores (K,): co-saliency at the peak's cell."""

    cosaliency: np.ndarray
    responses: np.ndarray
    peaks: np.ndarray
    peak_scores: np.ndarray


class FittedGroup(Sequence):
    """One :class:`Evidence` per image, computed when it is asked for: responses of a whole group may not fit memory.

    network: in eval mode; pixels (N, 3, S, S) uint8; sizes: (H, W) of each image; features: (N, C, h, w) of the images
    where the trunk did not change since they were computed, else None.
    """

    def __init__(self, network: CoSaliencyNetwork, pixels: Tensor, sizes: Sequence[tuple[int, int]],
                 settings: ResponseSettings = ResponseSettings(), features: Tensor | None = None) -> None:
        self.network, self.pixels, self.sizes, self.settings = network, pixels, list(sizes), settings
        self._features = features

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Evidence:
        return self.evidence(index)

    def evidence(self, index: int, size: tuple[int, int] | None = None) -> Evidence:
        """What the network says of image `index`, at its own size or at (H, W) `size`."""
        size, settings = size or self.sizes[index], self.settings
        found = self._respond(index)
        output, peaks = found.output, found.peaks
        scores = output.score_map[0, 0].sigmoid()[peaks[:, 0], peaks[:, 1]]
        scale = np.array(size) / np.array(output.score_map.shape[-2:])  # pixels per cell
        cosaliency = self._resize(output.logits.sigmoid()[0], size)[0]
        maps = found.maps * (found.maps.shape[-1] / self.pixels.shape[-1]) ** 2  # a coarser cell covers more pixels
        responses = self._resize(maps, size) if len(peaks) else np.zeros((0, *size), np.float32)
        if settings.clip:
            cosaliency, responses = cosaliency.clip(0, 1), responses.clip(0)
        return Evidence(cosaliency, responses, (peaks.cpu().numpy() + 0.5) * scale - 0.5, scores.cpu().numpy())

    @torch.no_grad()
    def features(self, index: int) -> np.ndarray:
        """Features (C, h, w) of image `index` on the grid."""
        return self._trunk(index)[0].cpu().numpy()

    def _trunk(self, index: int) -> Tensor:
        return self.network.trunk(self._image(index)) if self._features is None else self._features[index : index + 1]

    def _image(self, index: int) -> Tensor:
        return self.pixels[index : index + 1].to(self.network.trunk.device).float() / 255

    @torch.no_grad()
    def _respond(self, index: int) -> Responses:
        settings = self.settings
        if settings.kind == "backprop":
            return peak_responses(self.network, self._image(index), settings.max_peaks,
                                  down_to_stride=settings.down_to_stride)  # fmt: skip
        output = self.network.head(self._trunk(index))
        peaks = score_peaks(output.score_map, settings.max_peaks)
        stride = self.network.trunk.stride
        maps = gaussian_responses(peaks, stride, self.pixels.shape[-2:], settings.sigma * stride)
        return Responses(output, peaks, maps)

    def _resize(self, maps: Tensor, size: tuple[int, int]) -> np.ndarray:
        """(K, S, S) -> (K, *size), bicubic and antialiased."""
        if self.settings.resize == "matlab":
            resized = imresize_bicubic(maps.permute(1, 2, 0).cpu().numpy(), size)  # (H, W, K)
            return np.moveaxis(resized, -1, 0).astype(np.float32)
        return F.interpolate(maps[None], size=size, mode="bicubic", antialias=True)[0].cpu().numpy()
