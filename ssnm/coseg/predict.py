"""From images of any kind to probabilities: the predictor that every command and notebook uses.

A group of any size fits in memory. The modulators need only small codes of each image, so a large group is read
in chunks twice: once for the codes, once (with the whole group's modulation) for the masks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import ConfigError
from ..files.given import given_images, read_given
from .model import ImageCodes
from .presence import PresenceRule, agreement_of_codes, peaks, shares
from .records import Modulation

MAX_SCALE = 4.0
ImageLike = "str | os.PathLike | Image.Image | np.ndarray | Tensor | RGBImage"


@dataclass(frozen=True)
class GroupPrediction:
    """What a group of N images gives, at network resolution S x S.

    probabilities (N, S, S) float32 in [0, 1]; sizes: original (height, width) of each image; spatial_masks
    (N, h, w) float32 or None; category_probabilities (L,) or None; semantic_vector (D,) or None; present (N,) float64
    in [0, 1], the probability that the shared object is in each image, or None; agreement (N,), how alike each image is
    to the others, or None; cut: below it an image counts as one without the object.
    """

    probabilities: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    spatial_masks: np.ndarray | None
    category_probabilities: np.ndarray | None
    semantic_vector: np.ndarray | None
    present: np.ndarray | None = None
    agreement: np.ndarray | None = None
    cut: float = 0.0

    def __len__(self) -> int:
        return len(self.sizes)

    def absent(self, index: int) -> bool:
        """Whether image `index` is held to be without the object."""
        return self.present is not None and bool(self.present[index] < self.cut)

    def map(self, index: int) -> np.ndarray:
        """As :meth:`probability`, zero everywhere for an image that is held to be without the object."""
        return np.zeros(self.sizes[index], np.float32) if self.absent(index) else self.probability(index)

    def probability(self, index: int) -> np.ndarray:
        """The map of image `index` at its original size, (H, W) float32, bilinear."""
        return resize_probability(self.probabilities[index], self.sizes[index])


class Predictor:
    """Runs a model of the SSNM interface (backbone, encode, modulate, segment) on groups of raw images.

    Args:
        model: in eval mode, on `device`.
        size: images are resized to size x size, as in training (aspect not kept).
        chunk: how many images go through the network at once; bounds the memory, not the group.
        presence: the rule that says whether the object is in an image; None: it is not asked. With a rule each image's
            share in what the semantic modulator gathers follows its agreement with the group, so that one foreign image
            among five does not speak for a fifth of it.
        scales: `predict` averages the maps of the images at `size` times each of these; the cost is that of all of them
            together. Spatial masks are those of the first.
    """

    def __init__(
        self, model: nn.Module, size: int = 224, device: torch.device | str = "cpu", chunk: int = 20,
        presence: PresenceRule | None = None, scales: Sequence[float] = (1.0,),
    ) -> None:  # fmt: skip
        self.use_scales(scales)
        self.model = model.to(device).eval()
        self.presence = presence
        self.device, self.chunk = torch.device(device), chunk
        self.fixed_group_size = getattr(model, "fixed_group_size", None)
        self.size = getattr(model, "fixed_size", None) or size

    def use_scales(self, scales: Sequence[float]) -> None:
        """Set `scales`.

        Raises:
            ConfigError: none, or one that is not above 0 and at most MAX_SCALE.
        """
        if not scales or min(scales) <= 0 or max(scales) > MAX_SCALE:
            raise ConfigError(f"scales must lie in (0, {MAX_SCALE:g}], one at least; got {tuple(scales)}")
        self.scales = tuple(scales)

    def predict(
        self, images: Iterable[ImageLike], progress: Callable[[int], None] = lambda done: None
    ) -> GroupPrediction:
        """Segment what the images have in common. Any number of images from 1 up, any sizes.

        Raises:
            DataError: no image, or one that cannot be read (the message names it).
            MissingFileError: a path that is not there.
        """
        images = given_images(images)
        if self.fixed_group_size is not None or self.scales == (1.0,):
            stack, grey, sizes = self._read(images, self.size)
            return self.predict_tensors(stack, sizes, grey, progress)
        results = []
        for scale in self.scales:
            stack, grey, sizes = self._read(images, max(1, round(self.size * scale)))
            results.append(self.predict_tensors(stack, sizes, grey))
        progress(len(images))
        return average_scales(results)

    @torch.inference_mode()
    def predict_tensors(
        self,
        stack: Tensor,
        sizes: Sequence[tuple[int, int]],
        grey: Tensor | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> GroupPrediction:
        """As :meth:`predict` for one group of N images already resized: (N, 3, S, S) uint8; grey (N,) bool says which
        had no colour (only the release's model treats them differently)."""
        if self.fixed_group_size is not None:
            return self._fixed(stack, torch.zeros(len(stack), dtype=torch.bool) if grey is None else grey, tuple(sizes))
        chunks = stack.split(self.chunk)
        if len(chunks) == 1:
            cfms = self._cfms(stack)
            modulation, agreed = self._modulate(self.model.encode(cfms), len(stack))
            probabilities = self._probabilities(cfms, modulation)
            progress(len(stack))
            return self._collect([probabilities], modulation, sizes, agreed and agreed[0])
        codes = join_codes([self.model.encode(self._cfms(part)) for part in chunks])
        modulation, agreed = self._modulate(codes, len(stack))
        parts, begin = [], 0
        for part in chunks:
            own = slice_images(modulation, begin, begin + len(part))
            parts.append(self._probabilities(self._cfms(part), own))
            begin += len(part)
            progress(begin)
        return self._collect(parts, modulation, sizes, agreed and agreed[0])

    @torch.inference_mode()
    def predict_groups(
        self, stack: Tensor, sizes: Sequence[Sequence[tuple[int, int]]], grey: Tensor | None = None
    ) -> list[GroupPrediction]:
        """Several groups of one size in one call: (B, N, 3, S, S) uint8, grey (B, N) bool -> B predictions."""
        if self.fixed_group_size is not None:
            grey = torch.zeros(stack.shape[:2], dtype=torch.bool) if grey is None else grey
            return [self._fixed(*group) for group in zip(stack, grey, map(tuple, sizes))]
        cfms = self._cfms(stack.flatten(0, 1))
        modulation, agreed = self._modulate(self.model.encode(cfms), stack.shape[1])
        probabilities = self._probabilities(cfms, modulation).unflatten(0, stack.shape[:2])
        return [
            self._collect([probabilities[b]], slice_group(modulation, b), sizes[b], agreed and agreed[b])
            for b in range(stack.shape[0])
        ]

    def _modulate(self, codes: ImageCodes, group_size: int) -> tuple[Modulation, Sequence[Tensor] | None]:
        """The modulation of groups of `group_size` images, and the agreement (N,) of the images of each, or None."""
        if self.presence is None or codes.indicators is None:
            return self.model.modulate(codes, group_size), None
        groups = codes.indicators.split(group_size)
        agreed = [agreement_of_codes(self.model.semantic, indicators) for indicators in groups]
        weights = torch.cat([shares(a) for a in agreed])  # (B, N)
        return self.model.modulate(codes, group_size, weights), agreed

    def read(self, image: ImageLike, size: int | None = None) -> tuple[Tensor, bool, tuple[int, int]]:
        """One image of any kind -> (3, S, S) uint8 at network size (or `size`), whether it was grey, original (height,
        width)."""
        size = size or self.size
        rgb = read_given(image)
        resized = Image.fromarray(rgb.array).resize((size, size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1), rgb.grey, rgb.size

    def _read(self, images: Sequence[ImageLike], size: int) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
        tensors, grey, sizes = zip(*(self.read(image, size) for image in images))
        return torch.stack(tensors), torch.tensor(grey), tuple(sizes)

    def _cfms(self, images: Tensor, *extra: Tensor) -> list[Tensor]:
        return self.model.backbone(images.to(self.device).float() / 255, *extra)

    def _probabilities(self, cfms: list[Tensor], modulation: Modulation) -> Tensor:
        return self.model.segment(cfms, modulation, (self.size, self.size)).sigmoid().float().cpu()

    def _collect(
        self, parts: list[Tensor], modulation: Modulation, sizes: Sequence[tuple[int, int]],
        agreed: Tensor | None = None,
    ) -> GroupPrediction:  # fmt: skip
        first = lambda t: None if t is None else t[0].float().cpu().numpy()  # noqa: E731
        categories, probabilities = modulation.category_logits, torch.cat(parts).numpy()
        agreement = None if agreed is None else agreed.cpu().numpy()
        present = None if agreement is None else self.presence(peaks(probabilities), agreement)
        return GroupPrediction(
            probabilities=probabilities,
            sizes=tuple(sizes),
            spatial_masks=first(modulation.spatial_mask),
            category_probabilities=first(None if categories is None else categories.sigmoid()),
            semantic_vector=first(modulation.semantic_vector),
            present=present,
            agreement=agreement,
            cut=0.0 if present is None else self.presence.cut,
        )

    def _fixed(self, stack: Tensor, grey: Tensor, sizes: tuple[tuple[int, int], ...]) -> GroupPrediction:
        """A model for groups of one size only: chunks of it, the last one filled up with the first images."""
        count, n = len(stack), self.fixed_group_size
        results = []
        for begin in range(0, count, n):
            index = [i if i < count else i % count for i in range(begin, begin + n)]
            cfms = self._cfms(stack[index], grey[index].to(self.device))
            modulation = self.model.modulate(self.model.encode(cfms), n)
            new = min(n, count - begin)
            part = self._probabilities(cfms, modulation)[:new]
            results.append(self._collect([part], slice_images(modulation, 0, new), sizes[begin : begin + new]))
        return join_predictions(results)


def average_scales(results: Sequence[GroupPrediction]) -> GroupPrediction:
    """The predictions of one group at several scales -> their mean; spatial masks are those of the first."""
    mean = lambda parts: None if parts[0] is None else np.mean(parts, axis=0)  # noqa: E731
    return replace(
        results[0],
        probabilities=mean([r.probabilities for r in results]),
        category_probabilities=mean([r.category_probabilities for r in results]),
        semantic_vector=mean([r.semantic_vector for r in results]),
        present=mean([r.present for r in results]),
        agreement=mean([r.agreement for r in results]),
    )


def resize_probability(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(S, S) float32 -> (height, width), bilinear without antialiasing (up-sampling is the rule)."""
    if probability.shape == tuple(size):
        return probability
    tensor = torch.from_numpy(np.ascontiguousarray(probability, dtype=np.float32))[None, None]
    resized = nn.functional.interpolate(tensor, size=tuple(size), mode="bilinear", align_corners=False)
    return resized[0, 0].clamp(0, 1).numpy()


def join_codes(codes: Sequence[ImageCodes]) -> ImageCodes:
    """The codes of consecutive chunks of one group -> the codes of the group."""
    joined = lambda parts: None if parts[0] is None else torch.cat(parts)  # noqa: E731
    return ImageCodes(joined([c.phi for c in codes]), joined([c.indicators for c in codes]))


def slice_images(modulation: Modulation, begin: int, end: int) -> Modulation:
    """The modulation of one group restricted to some of its images; what belongs to the group stays."""
    mask = modulation.spatial_mask
    return Modulation(
        None if mask is None else mask[:, begin:end],
        modulation.semantic_vector,
        modulation.category_logits,
        modulation.eigenvalue,
    )


def slice_group(modulation: Modulation, group: int) -> Modulation:
    """The modulation of one of several groups, as a batch of one."""
    pick = lambda t: None if t is None else t[group : group + 1]  # noqa: E731
    m = modulation
    return Modulation(pick(m.spatial_mask), pick(m.semantic_vector), pick(m.category_logits), pick(m.eigenvalue))


def join_predictions(results: Sequence[GroupPrediction]) -> GroupPrediction:
    """Predictions of the chunks of one set of images, one after the other; group-wide values are averaged."""
    if len(results) == 1:
        return results[0]
    joined = lambda parts: None if parts[0] is None else np.concatenate(parts)  # noqa: E731
    mean = lambda parts: None if parts[0] is None else np.mean(parts, axis=0)  # noqa: E731
    return GroupPrediction(
        probabilities=np.concatenate([r.probabilities for r in results]),
        sizes=tuple(size for r in results for size in r.sizes),
        spatial_masks=joined([r.spatial_masks for r in results]),
        category_probabilities=mean([r.category_probabilities for r in results]),
        semantic_vector=mean([r.semantic_vector for r in results]),
    )
