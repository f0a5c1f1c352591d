"""Training samples: from tracks, step and seed to a batch. A sample is a function of (seed, step, place in the batch).

pool of tracks -> `StepSampler` (which track, which frame, which size) -> `SampleDataset` (pictures, guides) ->
`collate` -> `VideoBatch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ..data.augment import Augmentation
from ..data.records import BadImage, Sample
from ..data.resizing import resize_image, resize_nearest
from ..errors import ConfigError, DataError, UserError
from ..files.images import same_aspect
from ..naming import falls_into_share
from .guides import MaskDraw, SpatialDraw, VisualDraw, dilated_guide, gaussian_guide, visual_guide
from .records import VideoBatch
from .tracks import Track
from .videos import is_good_guide

MAX_TRIES = 20


@dataclass(frozen=True)
class GuideRules:
    """How guides are made in training; see `VisualDraw.random`, `SpatialDraw.random` and `visual_guide`.

    spatial: "gaussian" or "dilated". lost: probability that a spatial guide is blank, as it is after a frame in which
    the object was lost; astray: that it is a random box's, wherever the object is.
    random_frame: the visual guide comes from a random good frame instead of the first one (`randomize_guide`);
    min_area, min_box_share: what a good one is, see `is_good_guide`.
    """

    side: int = 224
    spatial: str = "gaussian"
    keep_aspect: bool = False
    background: bool = False
    crop: float = 0.1
    angle: float = 10.0
    flip: float = 0.5
    colour: bool = False
    centre: float = 0.2
    spread: float = 0.4
    lost: float = 0.0
    astray: float = 0.0
    random_frame: bool = False
    min_area: float = 0.003
    min_box_share: float = 0.2

    def visual(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Picture (S, S, 3) uint8 and mask (S, S) bool of a training guide."""
        draw = VisualDraw.random(rng, self.crop, self.angle, self.flip, self.colour)
        return visual_guide(image, mask, draw, self.side, self.keep_aspect, self.background)

    def of_mask(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W) bool -> the perturbed spatial guide (H, W) float32."""
        fate = rng.random() if self.lost or self.astray else 1.0
        if fate < self.lost + self.astray:
            mask = np.zeros_like(mask) if fate < self.lost else _box_somewhere(mask.shape, rng)
        if self.spatial == "gaussian":
            return gaussian_guide(mask, SpatialDraw.random(rng, self.centre, self.spread))
        return dilated_guide(mask, MaskDraw.random(rng))


def _box_somewhere(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: a box of 0.1 to 0.6 of the frame's height and width, anywhere inside it."""
    lengths = np.ceil(rng.uniform(0.1, 0.6, 2) * shape).astype(int)
    y, x = rng.integers(0, np.array(shape) - lengths + 1)
    box = np.zeros(shape, bool)
    box[y : y + lengths[0], x : x + lengths[1]] = True
    return box


@dataclass(frozen=True)
class Pool:
    """Tracks to draw from. weights: how often each track's samples come in an epoch, one number per track."""

    tracks: Sequence[Track]
    weights: Sequence[float]

    @property
    def samples(self) -> list[tuple[int, int, float]]:
        """(track, target frame, weight): every frame but the first of a video, the one frame of an image."""
        return [(t, frame, self.weights[t]) for t, track in enumerate(self.tracks)
                for frame in range(min(1, len(track) - 1), len(track))]  # fmt: skip


@dataclass(frozen=True)
class SampleDraw:
    """One sample to make. size: (width, height) of the network's input; seed: of everything random in it."""

    track: int
    frame: int
    size: tuple[int, int]
    seed: tuple[int, ...]


class StepSampler(Sampler[list[SampleDraw]]):
    """The samples of one step after the other, from `start` to `stop`; a batch sampler for a DataLoader.

    Every epoch has each sample once (by its weight), in an order of its own; an incomplete last batch is dropped.
    Each step has one size for all its samples. The processes and micro-batches of a step together hold exactly the
    samples that one process would draw.

    Raises:
        ConfigError: a batch that cannot be shared equally, or that is larger than an epoch.
    """

    def __init__(
        self, pool: Pool, batch: int, sizes: Sequence[tuple[int, int]], seed: int, start: int, stop: int,
        rank: int = 0, world: int = 1, accumulate: int = 1,
    ) -> None:  # fmt: skip
        if batch % (world * accumulate):
            raise ConfigError(f"train.batch={batch} must be a multiple of processes x train.accumulate = "
                              f"{world} x {accumulate}; change it")  # fmt: skip
        samples = pool.samples
        self._samples = np.array([sample[:2] for sample in samples])  # (n, 2): track, frame
        self._weights = np.array([sample[2] for sample in samples])
        self.batch, self.sizes, self.seed, self.start, self.stop = batch, tuple(sizes), seed, start, stop
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self._epoch: tuple[int, np.ndarray] = (-1, np.zeros(0, int))
        samples_of_epoch = int(self._weights.sum() + 1e-9)
        self.epoch_steps = samples_of_epoch // batch
        if self.epoch_steps == 0:
            raise ConfigError(f"an epoch has {samples_of_epoch} samples, fewer than train.batch={batch}: "
                              "give more data or a smaller batch")  # fmt: skip

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        share = self.batch // (self.world * self.accumulate)
        for step in range(self.start, self.stop):
            draws = self.draws(step)
            for part in range(self.accumulate):
                begin = (part * self.world + self.rank) * share
                yield draws[begin : begin + share]

    def draws(self, step: int) -> list[SampleDraw]:
        """All samples of one step, whatever the rank."""
        epoch, place = divmod(step, self.epoch_steps)
        chosen = self._order(epoch)[place * self.batch : (place + 1) * self.batch]
        size = self.sizes[np.random.default_rng([self.seed, step]).integers(len(self.sizes))]
        return [SampleDraw(int(track), int(frame), size, (self.seed, step, k))
                for k, (track, frame) in enumerate(self._samples[chosen])]  # fmt: skip

    def _order(self, epoch: int) -> np.ndarray:
        """Numbers of the samples of an epoch, at least `epoch_steps` batches; a weight of 2.3 comes twice, and a third
        time in 3 of 10 epochs (systematic sampling: the number of those that come hardly varies)."""
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 1])
            whole, line = np.floor(self._weights).astype(int), rng.permutation(len(self._weights))
            ends = np.cumsum((self._weights - whole)[line])
            points = np.arange(rng.random(), ends[-1] + 1e-9)  # 0.3 is met by one of them in 3 of 10 epochs
            drawn = line[np.searchsorted(ends, points, side="right").clip(max=len(line) - 1)]
            self._epoch = epoch, rng.permutation(np.concatenate([np.repeat(np.arange(len(whole)), whole), drawn]))
        return self._epoch[1]


class SampleDataset(Dataset):
    """Makes samples. A sample that cannot be used (a file cannot be read, or says something else than expected) is
    replaced by another one drawn by its own seed, and told of in `VideoBatch.bad`."""

    def __init__(self, pool: Pool, guides: GuideRules, augmentation: Augmentation) -> None:
        self.pool, self.guides, self.augmentation = pool, guides, augmentation

    def __getitem__(self, draw: SampleDraw) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[BadImage, ...]]:
        bad: list[BadImage] = []
        rng, samples = np.random.default_rng(draw.seed), None
        track, frame = self.pool.tracks[draw.track], draw.frame
        while True:
            try:
                tensors = make_sample(track, frame, draw.size, self.guides, self.augmentation, rng)
                return tensors, (track.frame_name(frame),), tuple(bad)
            except UserError as error:
                bad.append(BadImage(track.frame_name(frame), str(error)))
                if len(bad) >= MAX_TRIES:
                    raise
            samples = samples or self.pool.samples
            number, frame, _ = samples[rng.integers(len(samples))]
            track = self.pool.tracks[number]


def make_sample(
    track: Track, frame: int, size: tuple[int, int], guides: GuideRules, augmentation: Augmentation,
    rng: np.random.Generator,
) -> dict[str, Tensor]:  # fmt: skip
    """One object in one frame, with its guides: the tensors of a `VideoBatch` without their batch axis.

    The image is resized bilinearly, masks by nearest neighbour, to `size` = (width, height), aspect not kept. The
    spatial guide is made of the previous frame's mask, of a single image's own mask, after the augmentation that both
    share; the visual guide is cut out of its own frame, and turned and flipped by itself.
    """
    shape = size[1], size[0]
    image, mask = _frame_of(track, frame)
    previous = track.mask(frame - 1) if frame > 0 else mask
    void = track.void(frame)
    sample = Sample(
        image=resize_image(image, shape),
        masks=torch.stack([_resized(mask, shape), _resized(previous, shape)]),
        void=torch.zeros(shape, dtype=torch.bool) if void is None else _resized(void, shape),
        grey=False,
    )
    sample = augmentation(sample, sample.masks[0], rng)
    guide_frame = _guide_frame(track, guides, rng)
    guide_image, guide_mask = (image, mask) if guide_frame == frame else _frame_of(track, guide_frame)
    picture, shown = guides.visual(guide_image, guide_mask, rng)
    return {
        "images": sample.image.float() / 255,
        "spatial_guides": torch.from_numpy(guides.of_mask(sample.masks[1].numpy(), rng)),
        "visual_guides": torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255,
        "visual_masks": torch.from_numpy(shown.copy()).float(),
        "masks": sample.masks[0].float(),
        "valid": ~sample.void,
    }


def _resized(mask: np.ndarray, shape: tuple[int, int]) -> Tensor:
    return resize_nearest(mask.astype(np.uint8), shape).bool()


def _frame_of(track: Track, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a frame.

    Raises:
        DataError: they are not of one picture.
    """
    image, mask = track.image(frame), track.mask(frame)
    if not same_aspect(image.shape[:2], mask.shape):
        raise DataError(f"{track.frame_name(frame)}: {image.shape[1]}x{image.shape[0]} pixels, but its mask is "
                        f"{mask.shape[1]}x{mask.shape[0]}; put the image that was annotated there")  # fmt: skip
    return image, mask


def _guide_frame(track: Track, guides: GuideRules, rng: np.random.Generator) -> int:
    """Which frame the visual guide is cut out of: the first, or a random good one (else the first with the object)."""
    if len(track) == 1 or not guides.random_frame:
        return 0
    for frame in rng.permutation(len(track)).tolist():
        if is_good_guide(track.mask(frame), guides.min_area, guides.min_box_share):
            return frame
    return next((frame for frame in range(len(track)) if track.mask(frame).any()), 0)


def collate(items: Sequence[tuple[dict[str, Tensor], tuple[str, ...], tuple[BadImage, ...]]]) -> VideoBatch:
    """Samples of one size -> a batch."""
    tensors = {key: torch.stack([item[0][key] for item in items]) for key in items[0][0]}
    bad = tuple(one for item in items for one in item[2])
    return VideoBatch(**tensors, names=tuple(item[1] for item in items), bad=bad)


def pool_of(groups: Sequence[tuple[Sequence[Track], float]]) -> Pool:
    """Tracks of several sources, each with the weight of its source."""
    return Pool([t for tracks, _ in groups for t in tracks], [w for tracks, w in groups for _ in tracks])


def split(pool: Pool, names: Sequence[str], share: float, seed: int) -> tuple[Pool, Pool]:
    """(training, held out): the videos called `names`, and of the others a share by a hash of `seed` and their names,
    are held out whole, whatever other videos there are.

    Raises:
        ConfigError: a name that no video has; nothing is left to train on.
    """
    videos = list(dict.fromkeys(track.video for track in pool.tracks))
    unknown = [name for name in names if name not in set(videos)]
    if unknown:
        raise ConfigError(f"data.holdout names {unknown[0]!r}, which none of the {len(videos)} videos and images is "
                          "called; sequences are named by their folder, images by their file's stem")  # fmt: skip
    held = {video for video in videos if video in set(names) or falls_into_share(f"{seed}/{video}", share)}
    parts = [[k for k, t in enumerate(pool.tracks) if (t.video in held) == inside] for inside in (False, True)]
    training, held_out = (Pool([pool.tracks[k] for k in part], [pool.weights[k] for k in part]) for part in parts)
    if not training.tracks:
        raise ConfigError("data.holdout and data.holdout_share leave nothing to train on; hold fewer videos out")
    return training, held_out
