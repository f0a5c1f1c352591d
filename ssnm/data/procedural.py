"""The procedural data set: groups made on the fly, no download, deterministic by seed.

Each image shows two or three textured objects of different kinds on clutter. An image belongs to the
groups of all its kinds: only the other images of a group tell which object is meant. Every kind is as
often, as large and as central as any other, so an object gives no hint that it is the one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError
from ..files.atomic import image_bytes, mask_png, write_atomically
from .procedural_kinds import KINDS
from .procedural_scene import render_scene
from .records import Item, Sample

MIN_SIDE = 16


class ProceduralSource:
    """A training source (records.Source) of `num_images` drawn images.

    Item i is a function of (kinds, objects_per_image, seed, i): the same in every process, and the same
    in a longer or shorter source. Its categories are in painting order, from the back to the front. Objects
    are laid out apart from each other, so that each shows most of its area.

    Args:
        kinds: names of ssnm.data.procedural_kinds.KINDS, for instance SEEN_KINDS; None takes all of them.
        num_images: how many images, >= 1.
        objects_per_image: fewest and most objects of an image, all of different kinds; at least 2.
        seed: another seed gives other images of the same kinds; >= 0.
        name: how the source is called in messages.

    Raises:
        DataError: an unknown or repeated kind, or a number out of range.
    """

    def __init__(
        self,
        kinds: Sequence[str] | None = None,
        num_images: int = 1000,
        objects_per_image: tuple[int, int] = (2, 3),
        seed: int = 0,
        name: str = "procedural",
    ) -> None:
        self.name = name
        self.categories: tuple[str, ...] = tuple(KINDS) if kinds is None else tuple(kinds)
        _check_kinds(self.categories)
        _check_numbers(len(self.categories), num_images, objects_per_image, seed)
        self.seed = seed
        hands = _deal_kinds(self.categories, num_images, objects_per_image, seed)
        self.items: tuple[Item, ...] = tuple(
            Item(name=f"scene_{index:05d}", image=None, categories=hand) for index, hand in enumerate(hands)
        )

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Draw item `index` at `size` = (height, width), both at least 16; about a millisecond at 64 x 64."""
        image, masks = self.render(index, size)
        return Sample(
            image=torch.from_numpy(image).permute(2, 0, 1).contiguous(),  # (H, W, 3) -> (3, H, W)
            masks=torch.from_numpy(masks),
            void=torch.zeros(size, dtype=torch.bool),
            grey=False,
        )

    def render(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The same picture without torch: image (H, W, 3) uint8, masks (K, H, W) bool, one per category."""
        if min(size) < MIN_SIDE:
            raise DataError(f"size {tuple(size)}: procedural images need {MIN_SIDE} pixels a side; ask for more")
        rng = np.random.default_rng((self.seed, 1, index))
        return render_scene(self.items[index].categories, size, rng)


def write_procedural(
    root: str | Path,
    kinds: Sequence[str] | None = None,
    images_per_kind: int = 5,
    size: tuple[int, int] = (128, 128),
    objects_per_image: tuple[int, int] = (2, 3),
    seed: int = 0,
) -> Path:
    """Write a test set in the processed layout: `image/<kind>/*.jpg` and `groundtruth/<kind>/*.png` (0 or 255).

    An image of two kinds may lie in the folders of both, each time with the mask of that kind alone.

    Returns:
        `root`, which is what `--data` wants.

    Raises:
        DataError: `root` already holds an image or groundtruth folder; also what ProceduralSource raises.
    """
    root = Path(root)
    if images_per_kind < 1:
        raise DataError(f"images_per_kind is {images_per_kind}: at least 1 is needed")
    for folder in ("image", "groundtruth"):
        if (root / folder).exists():
            raise DataError(f"{root / folder} already exists: choose another folder or remove it")
    probe = ProceduralSource(kinds, 1, objects_per_image, seed)  # checks the arguments
    enough = (images_per_kind + 1) * len(probe.categories)  # dealt evenly, one object an image would do
    source = ProceduralSource(kinds, enough, objects_per_image, seed)
    for kind in source.categories:
        indices = [i for i, item in enumerate(source.items) if kind in item.categories][:images_per_kind]
        for index in indices:
            _write_pair(root, source, index, kind, size)
    return root


def _write_pair(root: Path, source: ProceduralSource, index: int, kind: str, size: tuple[int, int]) -> None:
    item = source.items[index]
    image, masks = source.render(index, size)
    mask = masks[item.categories.index(kind)]
    write_atomically(root / "image" / kind / f"{item.name}.jpg", image_bytes(image, "JPEG", quality=95))
    write_atomically(root / "groundtruth" / kind / f"{item.name}.png", mask_png(mask))


def _deal_kinds(
    kinds: tuple[str, ...], num_images: int, objects_per_image: tuple[int, int], seed: int
) -> list[tuple[str, ...]]:
    """Deal kinds to images from shuffled decks that hold each kind once: all kinds are equally often used.

    A kind that an image already has waits for the next image. The decks are shuffled, so no kind is painted
    last, on top of the others, more often than another.
    """
    rng = np.random.default_rng((seed, 0))
    low, high = objects_per_image
    deck: list[str] = []
    hands = []
    for _ in range(num_images):
        count = int(rng.integers(low, high + 1))
        if len(set(deck)) < count:
            deck += [kinds[k] for k in rng.permutation(len(kinds))]
        hand = list(dict.fromkeys(deck))[:count]
        for kind in hand:
            deck.remove(kind)
        hands.append(tuple(hand))
    return hands


def _check_kinds(kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise DataError(f"{kind!r} is not a procedural kind: choose from {', '.join(KINDS)}")
    if len(set(kinds)) < len(kinds):
        raise DataError(f"procedural kinds {kinds}: one is named twice; name each once")


def _check_numbers(num_kinds: int, num_images: int, objects_per_image: tuple[int, int], seed: int) -> None:
    low, high = objects_per_image
    if num_images < 1:
        raise DataError(f"num_images is {num_images}: at least 1 is needed")
    if seed < 0:
        raise DataError(f"seed is {seed}: a number >= 0 is needed")
    if not 2 <= low <= high:
        raise DataError(f"objects_per_image is {(low, high)}: fewest and most are needed, with 2 <= fewest <= most")
    if num_kinds < high:
        raise DataError(f"{num_kinds} kinds for up to {high} objects of different kinds per image: name more kinds")
