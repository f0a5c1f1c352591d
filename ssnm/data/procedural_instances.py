"""Procedural groups for instance co-segmentation: several objects of the group's kind in every image, and one of
another kind that the group does not share. Drawn on the fly, written in the official layout of instance_folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files.atomic import image_bytes, mask_png, write_atomically
from .procedural_kinds import KINDS, SEEN_KINDS
from .procedural_scene import render_scene

OBJECTS = (2, 3)  # fewest and most of the group's kind in an image


def draw_instances(kind: str, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image of the group of `kind`: (H, W, 3) uint8, and the masks (g, H, W) bool of its objects of that kind."""
    count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    other = str(rng.choice([k for k in KINDS if k != kind]))
    kinds = [kind] * count + [other]
    order = rng.permutation(len(kinds))  # from the back to the front
    image, masks = render_scene([kinds[i] for i in order], size, rng)
    return image, masks[[position for position, i in enumerate(order) if i < count]]


def write_procedural_instances(
    root: str | Path, groups: int = 3, images: int = 6, side: int = 240, seed: int = 0
) -> Path:
    """Write ROOT/Image/<kind>/*.png and ROOT/Mask/<kind>/*_InstID<k>.png; the same files for the same arguments.

    Raises:
        DataError: numbers out of range, or a file that cannot be written.
    """
    if not 1 <= groups <= len(SEEN_KINDS) or images < 1 or side < 32:
        raise DataError(f"procedural instances: 1 to {len(SEEN_KINDS)} groups of 1 or more images of 32 or more pixels "
                        f"are drawn, got {groups}, {images}, {side}")  # fmt: skip
    root = Path(root)
    for number, kind in enumerate(SEEN_KINDS[:groups]):
        for index in range(images):
            image, masks = draw_instances(kind, (side, side), np.random.default_rng((seed, 2, number, index)))
            stem = f"scene_{index:03d}"
            write_atomically(root / "Image" / kind / f"{stem}.png", image_bytes(image))
            for k, mask in enumerate(masks):
                write_atomically(root / "Mask" / kind / f"{stem}_InstID{k + 1}.png", mask_png(mask))
    return root
