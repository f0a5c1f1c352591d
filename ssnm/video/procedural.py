"""Videos drawn on the fly: textured objects that move, turn and grow over clutter. No download, deterministic by seed.

Every object of a video is a track, and finds distractors in it: one of its own kind, which only its place tells
apart, and others of other kinds, which its looks tell apart. They pass in front of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..data.procedural_kinds import SEEN_KINDS, UNSEEN_KINDS
from ..data.procedural_scene import Canvas, expose, paint_background, paint_object, sample_layout

OTHER_KINDS = 2  # beside the two objects of one kind
SPEED = (0.02, 0.05)  # of the frame's side, per frame
TURN = 0.15  # radians per frame, at most
GROWTH = 0.02  # per frame, at most
BORDER = 0.1  # centres stay so far inside the frame


@dataclass(frozen=True)
class ProceduralTrack:
    """Object number `place` of video number `number`; see :class:`ssnm.video.tracks.Track`."""

    number: int
    place: int
    frames: int
    side: int
    kinds: str
    seed: int

    @property
    def video(self) -> str:
        return f"video_{self.kinds}_{self.seed}_{self.number:05d}"

    @property
    def name(self) -> str:
        return f"{self.video}/{self.place + 1}"

    def __len__(self) -> int:
        return self.frames

    def image(self, frame: int) -> np.ndarray:
        return self._render(frame)[0]

    def mask(self, frame: int) -> np.ndarray:
        return self._render(frame)[1] == self.place + 1

    def void(self, frame: int) -> np.ndarray | None:
        return None

    def frame_name(self, frame: int) -> str:
        return f"{self.video}/{frame:05d}"

    def _render(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        return render_frame(self.number, frame, self.side, self.kinds, self.seed)


def procedural_tracks(num_videos: int, frames: int, side: int, kinds: str, seed: int) -> list[ProceduralTrack]:
    """All objects of `num_videos` videos of `frames` square frames; kinds: "seen" or "unseen" shapes and textures."""
    return [ProceduralTrack(number, place, frames, side, kinds, seed)
            for number in range(num_videos) for place in range(2 + OTHER_KINDS)]  # fmt: skip


@lru_cache(maxsize=32)
def render_frame(number: int, frame: int, side: int, kinds: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One frame of a video: image (side, side, 3) uint8, and ids (side, side) uint8: k where object k is seen.

    Both are read-only: they are kept for the next call.
    """
    rng = np.random.default_rng((seed, 3, number))
    names = SEEN_KINDS if kinds == "seen" else UNSEEN_KINDS
    chosen = [names[k] for k in rng.permutation(len(names))[: 1 + OTHER_KINDS]]
    objects = [chosen[0], *chosen]  # the first kind twice
    starts, radii = sample_layout(len(objects), rng)
    angles, speeds = rng.uniform(0, 2 * np.pi, len(objects)), rng.uniform(*SPEED, len(objects))
    turns, growths = rng.uniform(-TURN, TURN, len(objects)), rng.uniform(-GROWTH, GROWTH, len(objects))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (objects, 2)
    centres = _reflected(starts + frame * speeds[:, None] * directions)
    background = _background(number, side, seed)
    canvas = replace(background, rgb=background.rgb.copy())
    ids = np.zeros((side, side), np.uint8)
    for place in rng.permutation(len(objects)):  # from the back to the front
        looks = np.random.default_rng((seed, 5, number, int(place)))  # the same in every frame
        radius = float(0.8 * radii[place] * (1 + growths[place]) ** frame)
        patch, inside = paint_object(canvas, objects[place], centres[place], radius, looks, frame * turns[place])
        ids[patch.rows, patch.columns][inside] = place + 1
    image = expose(canvas, np.random.default_rng((seed, 6, number)))
    image.flags.writeable = ids.flags.writeable = False
    return image, ids


@lru_cache(maxsize=16)
def _background(number: int, side: int, seed: int) -> Canvas:
    return paint_background((side, side), np.random.default_rng((seed, 4, number)))


def _reflected(points: np.ndarray) -> np.ndarray:
    """Points that bounce off the border of the frame."""
    span = 1 - 2 * BORDER
    folded = np.abs((points - BORDER + span) % (2 * span) - span)
    return BORDER + folded


