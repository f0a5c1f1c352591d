"""One picture of a few groups: a block per group, a column per image, rows image, spatial mask, prediction, truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import DataError
from .overlays import TRUTH, as_uint8, heatmap, overlay, soft_overlay

GAP = 4
MARGIN = 14
LABEL_WIDTH = 92
TITLE_HEIGHT = 30
SCORE_HEIGHT = 16
PAPER, INK, FAINT = (255, 255, 255), (28, 32, 38), (110, 118, 128)


@dataclass(frozen=True)
class GroupPictures:
    """What there is to see of one group of N images. Every list has N entries.

    images (H, W, 3) uint8 or floats in [0, 1]; spatial_masks (h, w) signed, or None for a model without; probabilities
    (H, W) in [0, 1]; truths (H, W) bool, or None; scores: J in [0, 1] of each image, or None. The images of a group
    may differ in size.
    """

    images: Sequence[np.ndarray]
    spatial_masks: Sequence[np.ndarray] | None
    probabilities: Sequence[np.ndarray]
    truths: Sequence[np.ndarray] | None
    title: str
    scores: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("spatial_masks", "probabilities", "truths", "scores"):
            entries = getattr(self, name)
            if entries is not None and len(entries) != len(self.images):
                raise DataError(f"group {self.title!r}: {len(self.images)} images but {len(entries)} {name}")


def group_panel(rows: Sequence[GroupPictures], cell: int = 112) -> Image.Image:
    """Draw groups below each other, labelled on the left, with each image's J below it where given.

    Spatial masks share one colour scale per group (blue negative, orange positive); predictions are tinted in
    proportion to their probability, with the outline at 0.5.

    Args:
        rows: one or more groups.
        cell: side of the square that an image is fitted into, >= 16.

    Raises:
        DataError: no group, a group without images, or a cell too small to see.
    """
    if not rows or any(not len(group.images) for group in rows):
        raise DataError("group_panel: at least one group with at least one image is needed")
    if cell < 16:
        raise DataError(f"group_panel: cell {cell} is too small to see; 16 pixels or more are needed")
    columns = max(len(group.images) for group in rows)
    heights = [_block_height(group, cell) for group in rows]
    width = 2 * MARGIN + LABEL_WIDTH + columns * (cell + GAP)
    sheet = Image.new("RGB", (width, sum(heights) + 2 * MARGIN), PAPER)
    top = MARGIN
    for group, height in zip(rows, heights, strict=True):
        _draw_block(sheet, group, top, cell)
        top += height
    return sheet


def contact_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[str] = (), columns: int = 6, cell: int = 150
) -> Image.Image:
    """Pictures (H, W, 3) beside each other in rows, each fitted into a square of side `cell`, its caption below.

    Raises:
        DataError: no picture, another number of captions, a cell too small to see.
    """
    if not len(pictures) or (captions and len(captions) != len(pictures)):
        raise DataError(f"contact_sheet: pictures, all with captions or none, are needed, got {len(pictures)} pictures "
                        f"and {len(captions)} captions")  # fmt: skip
    if cell < 16 or columns < 1:
        raise DataError(f"contact_sheet: cells of 16 pixels or more and 1 column or more, got {cell} and {columns}")
    columns = min(columns, len(pictures))
    line = SCORE_HEIGHT if captions else 0
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell + GAP), rows * (cell + GAP + line)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        left, top = number % columns * (cell + GAP), number // columns * (cell + GAP + line)
        image = Image.fromarray(as_uint8(np.asarray(picture)))
        width, tall = _fitted_size(np.asarray(picture), cell)
        corner = left + (cell - width) // 2, top + (cell - tall) // 2
        sheet.paste(image.resize((width, tall), Image.Resampling.LANCZOS), corner)
        if captions:
            draw.text((left + cell / 2, top + cell + line / 2), captions[number], INK, _font(12), anchor="mm")
    return sheet


def _lines(group: GroupPictures) -> list[tuple[str, list[np.ndarray]]]:
    """(label, pictures) of every row of a block, each picture at its image's size."""
    images = [as_uint8(image) for image in group.images]
    lines = [("image", images)]
    if group.spatial_masks is not None:
        limit = max(float(np.abs(s).max()) for s in group.spatial_masks)
        pictures = [heatmap(s, i.shape[:2], limit) for s, i in zip(group.spatial_masks, images, strict=True)]
        lines.append(("spatial mask", pictures))
    predictions = [soft_overlay(i, p) for i, p in zip(images, group.probabilities, strict=True)]
    lines.append(("prediction", predictions))
    if group.truths is not None:
        truths = [overlay(i, np.asarray(t) > 0, TRUTH) for i, t in zip(images, group.truths, strict=True)]
        lines.append(("truth", truths))
    return lines


def _fitted_size(picture: np.ndarray, cell: int) -> tuple[int, int]:
    """(width, height) of a picture (H, W, ...) fitted into a square of side cell."""
    height, width = picture.shape[:2]
    scale = cell / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _row_height(group: GroupPictures, cell: int) -> int:
    return max(_fitted_size(np.asarray(image), cell)[1] for image in group.images)


def _block_height(group: GroupPictures, cell: int) -> int:
    lines = 2 + (group.spatial_masks is not None) + (group.truths is not None)
    scores = SCORE_HEIGHT if group.scores is not None else 0
    return TITLE_HEIGHT + lines * (_row_height(group, cell) + GAP) + scores


def _draw_block(sheet: Image.Image, group: GroupPictures, top: int, cell: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top + TITLE_HEIGHT / 2), group.title, INK, _font(16), anchor="lm")
    top += TITLE_HEIGHT
    left, height = MARGIN + LABEL_WIDTH, _row_height(group, cell)
    for label, pictures in _lines(group):
        draw.text((left - 8, top + height / 2), label, FAINT, _font(12), anchor="rm")
        for column, picture in enumerate(pictures):
            width, tall = _fitted_size(picture, cell)
            corner = left + column * (cell + GAP) + (cell - width) // 2, top + (height - tall) // 2
            sheet.paste(Image.fromarray(picture).resize((width, tall), Image.Resampling.LANCZOS), corner)
        top += height + GAP
    for column, score in enumerate(group.scores or ()):
        centre = left + column * (cell + GAP) + cell / 2
        draw.text((centre, top + SCORE_HEIGHT / 2 - 2), f"J {100 * score:.1f}", INK, _font(12), anchor="mm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
