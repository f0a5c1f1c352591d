"""Pictures of masks and maps: arrays in, (H, W, 3) uint8 RGB out. numpy and Pillow only; no torch.

Colours are distinguishable with the common kinds of colour blindness (blue, orange, yellow; never red against green).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import DataError

Colour = tuple[int, int, int]

OBJECT: Colour = (255, 140, 0)
TRUTH: Colour = (64, 200, 255)
HIT: Colour = (70, 170, 255)
FALSE_ALARM: Colour = (255, 110, 30)
MISS: Colour = (255, 225, 50)

# Of objects beside each other, by id: after Okabe and Ito, without black.
OBJECTS: tuple[Colour, ...] = (OBJECT, (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (0, 114, 178),
                               (213, 94, 0), (230, 230, 230))  # fmt: skip

BACKGROUND_BRIGHTNESS = 0.62
BACKGROUND_SATURATION = 0.65
HALO_BRIGHTNESS = 0.25

# Anchors of the diverging map at -1, -0.5, 0, 0.5, 1: blue, white, orange, of equal lightness on both sides.
_DIVERGING = np.array([(22, 54, 128), (104, 152, 216), (246, 246, 246), (244, 156, 76), (148, 52, 0)], np.float64)


def overlay(image: np.ndarray, mask: np.ndarray, colour: Colour = OBJECT, alpha: float = 0.5) -> np.ndarray:
    """The object tinted and outlined, the background a little darker and greyer.

    Args:
        image: (H, W, 3), uint8 RGB or floats in [0, 1].
        mask: (H, W) bool.
        colour: RGB, 0..255, of tint and outline.
        alpha: strength of the tint in [0, 1]; 0 leaves the object as it is, with its outline.

    Returns:
        (H, W, 3) uint8. An empty mask gives the darker image, without outline.

    Raises:
        DataError: shapes that do not fit, a mask that is not boolean, alpha outside [0, 1].
    """
    return np.array(overlay_picture(_picture(image), mask, colour, alpha))


def overlay_picture(picture: Image.Image, mask: np.ndarray, colour: Colour = OBJECT, alpha: float = 0.5) -> Image.Image:
    """:func:`overlay` of an RGB picture, and one back."""
    _check_mask(picture.size[::-1], mask, alpha)
    drawn = _blend(picture, mask, colour, alpha)
    _draw_outline(drawn, mask, colour)
    return drawn


def objects_overlay(image: np.ndarray, ids: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Like :func:`overlay`, every object tinted and outlined in the colour of its id.

    Args:
        image: (H, W, 3), uint8 RGB or floats in [0, 1].
        ids: (H, W) whole numbers, 0 background.

    Raises:
        DataError: as :func:`overlay`.
    """
    image = as_uint8(image)
    _check_mask(image.shape[:2], ids > 0, alpha)
    drawn = np.array(_blend(_picture(image), np.zeros(ids.shape, bool), OBJECT, 0.0))
    shown = [int(i) for i in np.unique(ids) if i != 0]
    for i in shown:
        where = ids == i
        drawn[where] = (image[where] * (1 - alpha) + np.array(object_colour(i)) * alpha).round().astype(np.uint8)
    for i in shown:
        drawn = outline(drawn, ids == i, object_colour(i))
    return drawn


def object_colour(i: int) -> Colour:
    """The colour of id `i`, 1 or more; they repeat after eight."""
    return OBJECTS[(i - 1) % len(OBJECTS)]


def soft_overlay(image: np.ndarray, probability: np.ndarray, colour: Colour = OBJECT, alpha: float = 0.5) -> np.ndarray:
    """Like :func:`overlay`, tint and dimming in proportion to probability (H, W) in [0, 1], outline at 0.5."""
    picture = _picture(image)
    mask = np.asarray(probability) > 0.5
    _check_mask(picture.size[::-1], mask, alpha)
    drawn = _blend(picture, np.clip(probability, 0, 1), colour, alpha)
    _draw_outline(drawn, mask, colour)
    return np.array(drawn)


def outline(image: np.ndarray, mask: np.ndarray, colour: Colour) -> np.ndarray:
    """Draw the border of mask (H, W) bool on image (H, W, 3) uint8: a line just outside it with a dark halo.

    The line is as thick as suits the picture: 1 pixel for thumbnails, 1/200 of the longer side for photographs.
    """
    drawn = _picture(image)
    _draw_outline(drawn, mask, colour)
    return np.array(drawn)


def _draw_outline(picture: Image.Image, mask: np.ndarray, colour: Colour) -> None:
    width = max(1, round(max(mask.shape) / 200))
    line = _dilate(mask, width)
    halo = _dilate(line, max(1, width // 2)) & ~line
    picture.paste(picture.point(lambda value: int(value * HALO_BRIGHTNESS)), mask=Image.fromarray(halo))
    picture.paste(colour, mask=Image.fromarray(line & ~mask))


def errors_overlay(image: np.ndarray, mask: np.ndarray, truth: np.ndarray, alpha: float = 0.6) -> np.ndarray:
    """What is right and wrong: object found blue (HIT), false alarm orange, missed object yellow; the rest darker.

    image (H, W, 3) uint8 or float; mask and truth (H, W) bool.

    Raises:
        DataError: as :func:`overlay`.
    """
    image = as_uint8(image)
    _check_mask(image.shape[:2], mask, alpha)
    _check_mask(image.shape[:2], truth, alpha)
    drawn = np.array(_blend(_picture(image), np.zeros(mask.shape, bool), HIT, 0.0))
    for where, colour in ((mask & truth, HIT), (mask & ~truth, FALSE_ALARM), (truth & ~mask, MISS)):
        drawn[where] = (image[where] * (1 - alpha) + np.array(colour) * alpha).round().astype(np.uint8)
    return drawn


def heatmap(values: np.ndarray, size: tuple[int, int], limit: float | None = None) -> np.ndarray:
    """A signed map in blue (negative), white (zero) and orange (positive), enlarged to `size`.

    Args:
        values: (h, w) floats, for instance a spatial mask.
        size: (height, width) of the picture.
        limit: the absolute value that gets the full colour; None: the largest of `values`. Give the largest of a
            whole group to make its images comparable.

    Raises:
        DataError: not (h, w), without values, or not finite.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise DataError(f"heatmap: finite values of shape (h, w) are needed, got shape {values.shape}")
    limit = float(np.abs(values).max()) if limit is None else limit
    scaled = np.clip(values / limit, -1, 1) if limit > 0 else np.zeros_like(values)
    large = Image.fromarray(scaled).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return diverging_colours(np.asarray(large))


def diverging_colours(values: np.ndarray) -> np.ndarray:
    """Values in [-1, 1] of any shape -> uint8 RGB on a new last axis: blue, white, orange."""
    anchors = np.linspace(-1, 1, len(_DIVERGING))
    channels = [np.interp(values, anchors, _DIVERGING[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def probability_image(prob: np.ndarray) -> np.ndarray:
    """Probabilities (H, W) in [0, 1] -> grey (H, W) uint8, the nearest of 0..255: what the map files hold.

    Raises:
        DataError: values outside [0, 1] or not finite.
    """
    prob = np.asarray(prob)
    low, high = (float(prob.min()), float(prob.max())) if prob.size else (0.0, 0.0)
    if not (0 <= low and high <= 1):  # also false for NaN
        raise DataError(f"probabilities in [0, 1] are needed, got [{low:g}, {high:g}]; apply the sigmoid first")
    return (prob * 255.0).round().astype(np.uint8)


def as_uint8(image: np.ndarray) -> np.ndarray:
    """An RGB picture (H, W, 3) as uint8; floats are taken as [0, 1].

    Raises:
        DataError: another shape or type.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"an RGB picture of shape (H, W, 3) is needed, got {image.shape}")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise DataError(f"a picture of uint8 or of floats in [0, 1] is needed, got {image.dtype}")
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(as_uint8(image)))


def _blend(picture: Image.Image, soft: np.ndarray, colour: Colour, alpha: float) -> Image.Image:
    """Tinted where soft (H, W) in [0, 1] is 1, darker and greyer where it is 0. Pillow: photographs are large."""
    faded = Image.blend(picture.convert("L").convert("RGB"), picture, BACKGROUND_SATURATION)
    background = faded.point(lambda value: round(value * BACKGROUND_BRIGHTNESS))
    tinted = Image.blend(picture, Image.new("RGB", picture.size, colour), alpha)
    strength = soft if soft.dtype == np.bool_ else (soft * np.float32(255)).round().astype(np.uint8)
    background.paste(tinted, mask=Image.fromarray(strength))
    return background


def _dilate(mask: np.ndarray, pixels: int) -> np.ndarray:
    """mask (H, W) bool grown by `pixels` on every side, in a number of steps that grows with the log of `pixels`."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (pixels, pixels)
        grown = np.moveaxis(np.pad(mask, pad), axis, 0)
        reach, window = 1, 2 * pixels + 1  # entry i of `grown` covers entries i to i + reach - 1 of the padded mask
        while reach < window:
            step = min(reach, window - reach)
            grown = grown[:-step] | grown[step:]
            reach += step
        mask = np.moveaxis(grown, 0, axis)
    return mask


def _check_mask(size: tuple[int, int], mask: np.ndarray, alpha: float) -> None:
    if mask.dtype != np.bool_ or mask.shape != size:
        raise DataError(f"overlay: a boolean mask of the image's size {size} is needed, got {mask.dtype} {mask.shape}")
    if not 0 <= alpha <= 1:
        raise DataError(f"overlay: alpha {alpha} is outside [0, 1]")
