"""Pictures of instance masks: tinted, outlined and numbered."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .overlays import objects_overlay


def instances_overlay(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The image with each instance in a colour of its own, outlined, its number at its centre.

    Args:
        image: (H, W, 3), uint8 RGB or floats in [0, 1].
        masks: (k, H, W) bool, the best first: it lies on top and bears number 1.

    Returns:
        (H, W, 3) uint8; the darker image where there is no mask.
    """
    ids = np.zeros(masks.shape[1:], dtype=np.int32)
    for number in range(len(masks), 0, -1):
        ids[masks[number - 1]] = number
    picture = Image.fromarray(objects_overlay(image, ids))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(12, min(ids.shape) // 18))
    for number in range(1, len(masks) + 1):
        spot = label_spot(ids == number)
        if spot is not None:
            draw.text((spot[1], spot[0]), str(number), fill="white", anchor="mm", font=font, stroke_width=2,
                      stroke_fill="black")
    return np.asarray(picture)


def label_spot(mask: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the mask's cell (H, W) nearest to its centre of mass; None where it is empty."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    nearest = int(((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin())
    return int(rows[nearest]), int(columns[nearest])
