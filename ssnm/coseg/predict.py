"""From images of any kind to probabilities: the predictor that every command and notebook uses.

A group of any size fits in memory. The modulators need only small codes of each image, so a group is read in chunks:
codes first, then (with the whole group's modulation) the masks. Between the two the maps of as many images are kept as
a budget allows; the backbone runs twice only for those beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..files.given import given_images
from ..files.parallel import in_threads
from .features import Features
from .full_size import cut_at, resize_probability
from .guidance import as_guidance, guided, segments_alone
from .photos import Photo, read_photo
from .presence import PresenceRule, agreement_of_codes, evidence, likeness, peaks, shares
from .quality import QualityRule
from .records import ImageCodes, Modulation
from .reference import ReferenceCodes, encode_reference, modulate_by_reference

MAX_SCALE = 4.0
CHUNK = {"cpu": 4}  # images at once: more of them leave a processor's cache; accelerators want ACCELERATOR_CHUNK
ACCELERATOR_CHUNK = 20
FEATURE_BYTES = 1 << 30
ImageLike = "str | os.PathLike | Image.Image | np.ndarray | Tensor | RGBImage"
Ready = Callable[[int, "GroupPrediction"], None]  # (place of its first image, some images' part of the prediction)


@dataclass(frozen=True)
class GroupPrediction:
    """What a group of N images gives, at network resolution S x S.

    probabilities (N, S, S) float32 in [0, 1]; sizes: original (height, width) of each image; spatial_masks
    (N, h, w) float32 or None; category_probabilities (L,) or None; semantic_vector (D,) or None; present (N,) float64
    in [0, 1], the probability that the shared object is in each image, or None; agreement (N,), how alike each image is
    to the others, and evidence (N, 2), see :func:`ssnm.coseg.presence.evidence`, or None; cut: below it an image counts
    as one without the object; quality (N,) float64 in [0, 1], the J to be expected of each mask, or None; given: index
    -> (H, W) bool, masks that came with the images.
    """

    probabilities: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    spatial_masks: np.ndarray | None
    category_probabilities: np.ndarray | None
    semantic_vector: np.ndarray | None
    present: np.ndarray | None = None
    agreement: np.ndarray | None = None
    evidence: np.ndarray | None = None
    cut: float = 0.0
    quality: np.ndarray | None = None
    given: Mapping[int, np.ndarray] = field(default_factory=dict)

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
        if index in self.given:
            return self.given[index].astype(np.float32)
        return resize_probability(self.probabilities[index], self.sizes[index])

    def above(self, index: int, threshold: float, size: tuple[int, int] | None = None) -> np.ndarray:
        """The pixels of image `index` above a threshold, (H, W) bool at its original size, or at another: what
        :meth:`probability` is cut to, sooner."""
        size = size or self.sizes[index]
        if index in self.given and size == self.given[index].shape:
            return self.given[index] & (threshold < 1)
        return cut_at(self.probabilities[index], size, threshold)


@dataclass(frozen=True)
class Belonging:
    """How far the images of a group belong to it, or to its references (steered): agreement (N,), evidence (N, 2); see
    ssnm.coseg.presence."""

    agreement: np.ndarray
    evidence: np.ndarray
    steered: bool = False

    def part(self, begin: int, end: int) -> Belonging:
        return Belonging(self.agreement[begin:end], self.evidence[begin:end], self.steered)


class Predictor:
    """Runs a model of the SSNM interface (backbone, encode, modulate, segment) on groups of raw images.

    Args:
        model: in eval mode, on `device`.
        size: images are resized to size x size, as in training (aspect not kept).
        chunk: how many images go through the network at once, None: what suits the device; bounds the memory, not the
            group.
        presence: the rule that says whether the object is in an image; None: it is not asked. With a rule each image's
            share in what the semantic modulator gathers follows its agreement with the group, so that one foreign image
            among five does not speak for a fifth of it.
        scales: `predict` averages the maps of the images at `size` times each of these; the cost is that of all of them
            together. Spatial masks are those of the first.
        quality: the rule that says how good a mask is; None: it is not asked.
        guidance: how much further than the network itself its logits go from what it says of every image alone, so that
            what the group adds counts more; see :mod:`ssnm.coseg.guidance`. The head runs twice; 0: once.
        feature_bytes: how much is kept between the two passes, see :class:`ssnm.coseg.features.Features`.
    """

    def __init__(
        self, model: nn.Module, size: int = 224, device: torch.device | str = "cpu", chunk: int | None = None,
        presence: PresenceRule | None = None, scales: Sequence[float] = (1.0,), quality: QualityRule | None = None,
        guidance: float = 0.0, feature_bytes: int = FEATURE_BYTES,
    ) -> None:  # fmt: skip
        self.use_scales(scales)
        self.model = model.to(device).eval()
        self.presence, self.quality = presence, quality
        try:
            self.guidance = as_guidance(guidance)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.feature_bytes = feature_bytes
        self.device = torch.device(device)
        self.chunk = chunk or CHUNK.get(self.device.type, ACCELERATOR_CHUNK)
        self.fixed_group_size = getattr(model, "fixed_group_size", None)
        self.size = getattr(model, "fixed_size", None) or size
        if guidance and (self.fixed_group_size is not None or not segments_alone(model)):
            raise ConfigError(f"guidance {guidance:g} needs a model that can segment an image alone: the paper's "
                              "variant with a semantic modulator that is not centred; use 0")  # fmt: skip

    def use_scales(self, scales: Sequence[float]) -> None:
        """Set `scales`.

        Raises:
            ConfigError: none, or one that is not above 0 and at most MAX_SCALE.
        """
        if not scales or not all(0 < scale <= MAX_SCALE for scale in scales):
            raise ConfigError(f"scales must lie in (0, {MAX_SCALE:g}], one at least; got {tuple(scales)}")
        self.scales = tuple(scales)

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the square input of each scale."""
        if self.fixed_group_size is not None:
            return (self.size,)
        return tuple(max(1, round(self.size * scale)) for scale in self.scales)

    def predict(
        self,
        images: Iterable[ImageLike],
        progress: Callable[[int], None] = lambda done: None,
        reference: Mapping[int, np.ndarray] | None = None,
    ) -> GroupPrediction:
        """Segment what the images have in common. Any number of images from 1 up, any sizes.

        Args:
            progress: told how many images are done.
            reference: index -> (H, W) bool, the objects of some images; see :mod:`ssnm.coseg.reference`.

        Raises:
            DataError: no image, or one that cannot be read (the message names it).
            MissingFileError: a path that is not there.
        """
        read = in_threads(self.read_photo, given_images(images))
        objects = reference or {}
        photos = (photo.with_object(objects.get(i), str(i)) for i, photo in enumerate(read))
        return self.predict_photos(photos, lambda begin, part: progress(begin + len(part)))

    def predict_photos(
        self, photos: Iterable[Photo], ready: Ready = lambda begin, part: None
    ) -> GroupPrediction:
        """As :meth:`predict` for images as :meth:`read_photo` gives them, taken one by one while the network runs.

        ready: given each part of the prediction as soon as it is there, in order.
        """
        sizes: list[tuple[int, int]] = []
        reference: dict[int, np.ndarray] = {}
        if self.fixed_group_size is None and len(self.scales) == 1:
            chunks = (torch.stack([p.inputs[0] for p in part]) for part in self._chunks(photos, sizes, reference))
            return self._in_chunks(chunks, sizes, ready, reference)
        read = [photo for part in self._chunks(photos, sizes, reference) for photo in part]
        stacks = (torch.stack([p.inputs[k] for p in read]) for k in range(len(self.sides)))
        grey = torch.tensor([p.grey for p in read])
        result = average_scales([self.predict_tensors(s, sizes, grey, reference=reference) for s in stacks])
        ready(0, result)
        return result

    def _chunks(
        self, photos: Iterable[Photo], sizes: list[tuple[int, int]], reference: dict[int, np.ndarray]
    ) -> Iterator[list[Photo]]:
        """Photographs in chunks; their sizes and objects are noted as they come."""
        part: list[Photo] = []
        for photo in photos:
            if photo.object is not None:
                reference[len(sizes)] = photo.object
                self._require_steerable()
            sizes.append(photo.size)
            part.append(photo)
            if len(part) == self.chunk:
                yield part
                part = []
        if part:
            yield part

    def predict_tensors(
        self,
        stack: Tensor,
        sizes: Sequence[tuple[int, int]],
        grey: Tensor | None = None,
        progress: Callable[[int], None] = lambda done: None,
        reference: Mapping[int, np.ndarray] | None = None,
    ) -> GroupPrediction:
        """As :meth:`predict` for one group of N images already resized: (N, 3, S, S) uint8; grey (N,) bool says which
        had no colour (only the release's model treats them differently)."""
        if self.fixed_group_size is not None:
            return self._fixed(stack, torch.zeros(len(stack), dtype=torch.bool) if grey is None else grey, tuple(sizes))
        ready = lambda begin, part: progress(begin + len(part))  # noqa: E731
        return self._in_chunks(iter(stack.split(self.chunk)), sizes, ready, reference or {})

    @torch.inference_mode()
    def _in_chunks(
        self, chunks: Iterator[Tensor], sizes: Sequence[tuple[int, int]], ready: Ready,
        reference: Mapping[int, np.ndarray],
    ) -> GroupPrediction:  # fmt: skip
        """Both passes over one group; `sizes` and `reference` are complete when the chunks have been taken."""
        features, codes, known, begins = Features(self._cfms, self.feature_bytes), [], {}, [0]
        for images in chunks:
            cfms = features.add(images)
            codes.append(self.model.encode(cfms))
            for place in range(len(images)):
                if (mask := reference.get(begins[-1] + place)) is not None:
                    known[begins[-1] + place] = encode_reference(self.model, cfms, codes[-1], place, mask)
            begins.append(begins[-1] + len(images))
            del cfms
        modulation, agreed = self._modulate(join_codes(codes), begins[-1], known)
        parts = []
        for index, (begin, end) in enumerate(zip(begins, begins[1:])):
            own = slice_images(modulation, begin, end)
            given = {i - begin: mask for i, mask in reference.items() if begin <= i < end}
            probabilities = self._probabilities(features.take(index), own, codes[index].indicators, begins[-1])
            belongs = None if agreed is None else agreed[0].part(begin, end)
            parts.append(self._collect(probabilities, own, sizes[begin:end], begins[-1], belongs, given))
            ready(begin, parts[-1])
        return join_predictions(parts)

    @torch.inference_mode()
    def predict_groups(
        self, stack: Tensor, sizes: Sequence[Sequence[tuple[int, int]]], grey: Tensor | None = None
    ) -> list[GroupPrediction]:
        """Several groups of one size in one call: (B, N, 3, S, S) uint8, grey (B, N) bool -> B predictions."""
        count = stack.shape[1]
        if self.fixed_group_size is not None:
            grey = torch.zeros(stack.shape[:2], dtype=torch.bool) if grey is None else grey
            return [self._fixed(*group) for group in zip(stack, grey, map(tuple, sizes))]
        cfms = self._cfms(stack.flatten(0, 1))
        codes = self.model.encode(cfms)
        modulation, agreed = self._modulate(codes, count)
        probabilities = self._probabilities(cfms, modulation, codes.indicators, count).unflatten(0, stack.shape[:2])
        return [
            self._collect(probabilities[b], slice_group(modulation, b), sizes[b], count, agreed and agreed[b])
            for b in range(stack.shape[0])
        ]

    def _modulate(
        self, codes: ImageCodes, group_size: int, known: Mapping[int, ReferenceCodes] | None = None
    ) -> tuple[Modulation, Sequence[Belonging] | None]:
        """The modulation of groups of `group_size` images, and how far the images of each belong to it, or None. known:
        the references of one group, by their places."""
        known, belonging = known or {}, None
        if (self.presence is not None or self.quality is not None) and codes.indicators is not None:
            groups = zip(codes.indicators.split(group_size), codes.appearance.split(group_size))
            belonging = [self._belonging(*group, list(known)) for group in groups]
        if known:
            return modulate_by_reference(self.model, codes, ReferenceCodes.join(list(known.values()))), belonging
        if belonging is None or self.presence is None:
            return self.model.modulate(codes, group_size), belonging
        weights = torch.cat([shares(torch.from_numpy(b.agreement)) for b in belonging])  # (B, N)
        return self.model.modulate(codes, group_size, weights.to(codes.indicators)), belonging

    def _belonging(self, indicators: Tensor, appearance: Tensor, references: Sequence[int]) -> Belonging:
        """Of the images of one group; with references how far they belong to these."""
        agreed = agreement_of_codes(self.model.semantic, indicators, references).float().cpu().numpy()
        alike = likeness(appearance, references).float().cpu().numpy()
        return Belonging(agreed, evidence(agreed, alike, references), bool(references))

    def read(self, image: ImageLike) -> tuple[Tensor, bool, tuple[int, int]]:
        """One image of any kind -> (3, S, S) uint8 at network size, whether it was grey, original (height, width)."""
        photo = read_photo(image, (self.size,))
        return photo.inputs[0], photo.grey, photo.size

    def read_photo(self, image: ImageLike, keep_shown: bool = False) -> Photo:
        """One image of any kind, decoded once for all scales."""
        return read_photo(image, self.sides, keep_shown)

    def _require_steerable(self) -> None:
        if self.fixed_group_size is not None:
            raise ConfigError("a reference needs the paper's variant of the model; the release's takes groups of "
                              f"{self.fixed_group_size} as they are")  # fmt: skip

    def _cfms(self, images: Tensor, *extra: Tensor) -> list[Tensor]:
        return self.model.backbone(images.to(self.device).float() / 255, *extra)

    def _probabilities(
        self, cfms: list[Tensor], modulation: Modulation, indicators: Tensor | None, group_size: int
    ) -> Tensor:
        """The maps (n, S, S) of some images of groups of `group_size`; indicators (n, d) of these images."""
        size = (self.size, self.size)
        logits = self.model.segment(cfms, modulation, size)
        if self.guidance and group_size > 1:
            mask = modulation.spatial_mask
            alone = Modulation(None if mask is None else mask.flatten(0, 1)[:, None],
                               self.model.semantic(indicators[:, None])[0])  # fmt: skip
            logits = guided(logits, self.model.segment(cfms, alone, size), self.guidance)
        return logits.sigmoid().float().cpu()

    def _collect(
        self, probabilities: Tensor, modulation: Modulation, sizes: Sequence[tuple[int, int]], group_size: int,
        belongs: Belonging | None = None, given: Mapping[int, np.ndarray] | None = None,
    ) -> GroupPrediction:  # fmt: skip
        """The prediction of some images (n, S, S) of a group of `group_size`."""
        first = lambda t: None if t is None else t[0].float().cpu().numpy()  # noqa: E731
        categories, maps, given = modulation.category_logits, probabilities.numpy(), given or {}
        judged = {"present": None, "quality": None}
        presence = self.presence and self.presence.of_group(belongs is not None and belongs.steered)
        for name, rule in (("present", presence), ("quality", self.quality)):
            if rule is not None and belongs is not None:
                told = (peaks(maps), belongs.evidence, group_size) if name == "present" else (maps, belongs.agreement)
                figures = rule(*told)
                figures[list(given)] = 1.0
                judged[name] = figures
        return GroupPrediction(
            probabilities=maps,
            sizes=tuple(sizes),
            spatial_masks=first(modulation.spatial_mask),
            category_probabilities=first(None if categories is None else categories.sigmoid()),
            semantic_vector=first(modulation.semantic_vector),
            agreement=None if belongs is None else belongs.agreement,
            evidence=None if belongs is None else belongs.evidence,
            cut=0.0 if judged["present"] is None else presence.cut,
            given=given,
            **judged,
        )

    @torch.inference_mode()
    def _fixed(self, stack: Tensor, grey: Tensor, sizes: tuple[tuple[int, int], ...]) -> GroupPrediction:
        """A model for groups of one size only: chunks of it, the last one filled up with the first images."""
        count, n = len(stack), self.fixed_group_size
        results = []
        for begin in range(0, count, n):
            index = [i if i < count else i % count for i in range(begin, begin + n)]
            cfms = self._cfms(stack[index], grey[index].to(self.device))
            modulation = self.model.modulate(self.model.encode(cfms), n)
            new = min(n, count - begin)
            part = self._probabilities(cfms, modulation, None, n)[:new]
            results.append(self._collect(part, slice_images(modulation, 0, new), sizes[begin : begin + new], n))
        return join_predictions(results)


def average_scales(results: Sequence[GroupPrediction]) -> GroupPrediction:
    """The predictions of one group at several scales -> their mean; spatial masks are those of the first."""
    mean = lambda parts: None if parts[0] is None else np.mean(parts, axis=0)  # noqa: E731
    if len(results) == 1:
        return results[0]
    return replace(
        results[0],
        probabilities=mean([r.probabilities for r in results]),
        category_probabilities=mean([r.category_probabilities for r in results]),
        semantic_vector=mean([r.semantic_vector for r in results]),
        present=mean([r.present for r in results]),
        agreement=mean([r.agreement for r in results]),
        evidence=mean([r.evidence for r in results]),
        quality=mean([r.quality for r in results]),
    )


def join_codes(codes: Sequence[ImageCodes]) -> ImageCodes:
    """The codes of consecutive chunks of one group -> the codes of the group."""
    joined = lambda parts: None if parts[0] is None else torch.cat(parts)  # noqa: E731
    return ImageCodes(*(joined([getattr(c, f.name) for c in codes]) for f in fields(ImageCodes)))


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
    """Predictions of the parts of one set of images, one after the other; group-wide values are averaged."""
    if len(results) == 1:
        return results[0]
    joined = lambda parts: None if parts[0] is None else np.concatenate(parts)  # noqa: E731
    mean = lambda parts: None if parts[0] is None else np.mean(parts, axis=0)  # noqa: E731
    begins = np.cumsum([0, *(len(r) for r in results)])
    return GroupPrediction(
        probabilities=np.concatenate([r.probabilities for r in results]),
        sizes=tuple(size for r in results for size in r.sizes),
        spatial_masks=joined([r.spatial_masks for r in results]),
        category_probabilities=mean([r.category_probabilities for r in results]),
        semantic_vector=mean([r.semantic_vector for r in results]),
        present=joined([r.present for r in results]),
        agreement=joined([r.agreement for r in results]),
        evidence=joined([r.evidence for r in results]),
        cut=results[0].cut,
        quality=joined([r.quality for r in results]),
        given={int(begin) + i: mask for begin, r in zip(begins, results) for i, mask in r.given.items()},
    )
