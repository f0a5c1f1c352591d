"""Scores on held-out objects while training: roll-outs of videos, single images, and what the modulators are good for.

All scores are J in percent, over the frames after the first, each object's mean first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..files.atomic import replacing
from ..metrics.davis import region_similarity
from ..visualize.overlays import objects_overlay
from .segmenter import VideoSegmenter
from .settings import Settings
from .tracks import Track

PICTURE_FRAMES, PICTURE_WIDTH = 8, 160
OBJECTS = 4  # of a single image at most


class SwitchedOff(nn.Module):
    """A network with a modulator switched off after training: every scale 1 (visual), or every shift 0 (spatial)."""

    def __init__(self, network: nn.Module, visual: bool = False, spatial: bool = False) -> None:
        super().__init__()
        self.network, self.visual, self.spatial = network, visual, spatial

    def scales(self, guides: Tensor, masks: Tensor) -> Tensor | None:
        return None if self.visual else self.network.scales(guides, masks)

    def segment(self, images: Tensor, spatial_guides: Tensor, scales: Tensor | None) -> Tensor:
        logits = self.network.segment(images, None if self.spatial else spatial_guides, scales)
        return logits.expand(len(spatial_guides), -1, -1)  # one for all objects where nothing tells them apart


@dataclass(frozen=True)
class Video:
    """The held-out objects of one video or image: their tracks, of which object k has id k + 1, played in an order."""

    tracks: Sequence[Track]
    order: Sequence[int] = (0,)

    @property
    def frames(self) -> int:
        return len(self.order)

    def image(self, frame: int) -> np.ndarray:
        return self.tracks[0].image(self.order[frame])

    def truth(self, frame: int) -> list[np.ndarray]:
        return [track.mask(self.order[frame]) for track in self.tracks]

    def scores(self, results: Sequence[np.ndarray]) -> np.ndarray:
        """J of `results`, ids (H, W) of each frame, in the frames after the first: (frames - 1, objects)."""
        rows = []
        for frame in range(1, self.frames):
            rows.append([region_similarity(t, results[frame] == k + 1) for k, t in enumerate(self.truth(frame))])
        return np.array(rows)

    def copied(self) -> np.ndarray:
        """The same for the masks of the first frame."""
        first = self.truth(0)
        rows = [[region_similarity(*pair) for pair in zip(self.truth(k), first)] for k in range(1, self.frames)]
        return np.array(rows)


def held_out_videos(
    tracks: Sequence[Track], videos: int, frames: int, images: int, passes: int = 1
) -> tuple[list[Video], list[Video]]:
    """(videos, single images) to validate on, spread evenly over what is held out; of a video its first `frames`,
    played `passes` times: forth, back, forth again."""
    grouped: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        grouped[track.video].append(track)
    moving = [
        Video(group, _forth_and_back(min(frames, *map(len, group)), passes))
        for group in grouped.values()
        if len(group[0]) > 1
    ]
    still = [Video(group) for group in grouped.values() if len(group[0]) == 1]
    return _spread(moving, videos), _spread(still, images)


def _forth_and_back(frames: int, passes: int) -> list[int]:
    """3, 3 -> [0, 1, 2, 1, 0, 1, 2]: the frame where it turns is not shown twice."""
    order = list(range(frames))
    for number in range(1, passes):
        order += range(frames - 2, -1, -1) if number % 2 else range(1, frames)
    return order


def _spread(items: list, count: int) -> list:
    picked = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)) if items else []
    return [items[k] for k in picked]


class Validator:
    """Scores of a network on held-out objects.

    Args:
        videos, images: what :func:`held_out_videos` gives.
        settings: how the network is used.
    """

    def __init__(self, videos: Sequence[Video], images: Sequence[Video], settings: Settings,
                 device: torch.device | str) -> None:  # fmt: skip
        self.videos, self.images, self.settings, self.device = videos, images, settings, device

    def __call__(self, network: nn.Module, picture: Path | None = None) -> dict[str, float]:
        """J of the videos, `image J` of the single images, and `mask use`: of the pairs of objects of one image, the
        share whose two results each overlap more with the object that was given than with the other. J alone of the
        images where there are no videos."""
        scores: dict[str, float] = {}
        if self.images:
            scores |= self._score_images(network)
        if self.videos:
            scores = {"J": self._score_videos(network, picture), **scores}
        return {"J": scores["image J"], **scores} if "J" not in scores and scores else scores

    def compare(self, network: nn.Module) -> dict[str, float]:
        """J of the same videos by the first mask copied, and with each modulator switched off."""
        if not self.videos:
            return {}
        return {
            "first mask copied": _mean_of_objects(video.copied() for video in self.videos),
            "visual modulator off": self._score_videos(SwitchedOff(network, visual=True)),
            "spatial modulator off": self._score_videos(SwitchedOff(network, spatial=True)),
        }

    def _score_videos(self, network: nn.Module, picture: Path | None = None) -> float:
        segmenter, found = VideoSegmenter(network, self.settings, device=self.device), []
        for number, video in enumerate(self.videos):
            results = [r.ids for r in segmenter.propagate(map(video.image, range(video.frames)), _ids(video.truth(0)))]
            found.append(video.scores(results))
            if picture is not None and number == 0:
                _draw(video, results, picture)
        return _mean_of_objects(found)

    def _score_images(self, network: nn.Module) -> dict[str, float]:
        segmenter, scores, pairs = VideoSegmenter(network, self.settings, device=self.device), [], []
        for still in self.images:
            image, truths = still.image(0), still.truth(0)
            found = [_second(segmenter, image, truth) if truth.any() else truth for truth in truths[:OBJECTS]]
            overlaps = np.array([[region_similarity(truth, f) for truth in truths[:OBJECTS]] for f in found])
            scores += list(np.diag(overlaps))
            for a, b in combinations([k for k, truth in enumerate(truths[:OBJECTS]) if truth.any()], 2):
                pairs.append(bool(overlaps[a, a] > overlaps[a, b] and overlaps[b, b] > overlaps[b, a]))
        use = {"mask use": 100 * float(np.mean(pairs))} if pairs else {}
        return {"image J": 100 * float(np.mean(scores)), **use}


def _mean_of_objects(scores: Iterable[np.ndarray]) -> float:
    """(frames, objects) of each video -> percent: the mean over all objects of each one's mean over its frames."""
    return 100 * float(np.mean(np.concatenate([of_video.mean(axis=0) for of_video in scores])))


def _second(segmenter: VideoSegmenter, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask that the network finds in the very image whose mask it is given."""
    return [result.ids for result in segmenter.propagate([image, image], mask)][1] > 0


def _ids(masks: Sequence[np.ndarray]) -> np.ndarray:
    ids = np.zeros(masks[0].shape, np.uint8)
    for k, mask in enumerate(masks):
        ids[mask] = k + 1
    return ids


def _draw(video: Video, results: Sequence[np.ndarray], path: Path) -> None:
    """A strip of frames, the truth above and what was found below."""
    shown = _spread(list(range(video.frames)), PICTURE_FRAMES)
    rows = []
    for ids_of in (lambda frame: _ids(video.truth(frame)), lambda frame: results[frame]):
        pictures = [Image.fromarray(objects_overlay(video.image(frame), ids_of(frame))) for frame in shown]
        height = round(PICTURE_WIDTH * pictures[0].height / pictures[0].width)
        rows.append(np.concatenate([np.asarray(p.resize((PICTURE_WIDTH, height))) for p in pictures], axis=1))
    with replacing(path) as partial:
        Image.fromarray(np.concatenate(rows)).save(partial, format="PNG")
