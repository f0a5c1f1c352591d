"""The two guides of OSMN: what the modulators are shown. numpy and Pillow only.

Called by the data sets in training (with random draws) and by the segmenter at test time (without).

visual guide   the object cut out of the annotated frame: a square picture and the object's mask in it
spatial guide  one map per frame from the previous mask: a Gaussian (the default), or the dilated mask

Everything random is drawn first, into a small record, and then applied by a function without randomness: a guide is
a function of its record. H W size of a frame, S side of the visual guide; coordinates are (x, y), boxes
(left, top, right, bottom).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

GUIDE_SIDE = 224
MAD_TO_STD = 1.4826  # the median absolute deviation of a normal distribution times this is its standard deviation
MIN_SPREAD = 5.0  # pixels
DILATION_RADIUS = 5  # pixels


@dataclass(frozen=True)
class VisualDraw:
    """How a visual guide is changed. ratios: how much of the box's width or height is added to the left, top, right,
    bottom (negative: cut off); angle: degrees against the clock; brightness, contrast: factors."""

    ratios: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    angle: float = 0.0
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0

    @classmethod
    def padded(cls, ratio: float = 0.03) -> "VisualDraw":
        """The guide of test time: the box grows by `ratio` on every side."""
        return cls(ratios=(ratio,) * 4)

    @classmethod
    def random(
        cls, rng: np.random.Generator, crop: float = 0.1, angle: float = 10.0, flip: float = 0.5, colour: bool = False
    ) -> "VisualDraw":
        """The guide of training: each side by U(-crop, crop), a turn of U(-angle, angle) degrees, a flip with
        probability `flip`; colour: brightness and contrast by U(0.8, 1.3)."""
        ratios = tuple(float(r) for r in rng.uniform(-crop, crop, 4))
        turn, flipped = float(rng.uniform(-angle, angle)), bool(rng.random() < flip)
        brightness, contrast = (float(f) for f in rng.uniform(0.8, 1.3, 2)) if colour else (1.0, 1.0)
        return cls(ratios, turn, flipped, brightness, contrast)


@dataclass(frozen=True)
class SpatialDraw:
    """How a Gaussian guide is changed: its centre moves by centre * spread, its spread is multiplied; each (x, y)."""

    centre: tuple[float, float] = (0.0, 0.0)
    spread: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def random(cls, rng: np.random.Generator, centre: float = 0.2, spread: float = 0.4) -> "SpatialDraw":
        """centre ~ U(-centre, centre), spread ~ U(1 / (1 + spread), 1 + spread)."""
        moved, grown = rng.uniform(-centre, centre, 2), rng.uniform(1 / (1 + spread), 1 + spread, 2)
        return cls(tuple(map(float, moved)), tuple(map(float, grown)))


@dataclass(frozen=True)
class MaskDraw:
    """How a mask is moved before it is dilated: its box is scaled, its centre moves by centre * size of the box."""

    scale: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def random(cls, rng: np.random.Generator) -> "MaskDraw":
        """scale ~ U(0.8, 1.2), centre ~ U(-0.2, 0.2) per axis."""
        scale, moved = float(rng.uniform(0.8, 1.2)), rng.uniform(-0.2, 0.2, 2)
        return cls(scale, tuple(map(float, moved)))


# --- Visual guide ----------------------------------------------------------------------------------------


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(xmin, ymin, xmax, ymax) of the pixels that are not 0, inclusive; (0, 0, W, H) of an empty mask."""
    ys, xs = np.nonzero(mask)
    if xs.size == 0:
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def guide_crop(width: int, height: int, ratios: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """The box inside a crop of `width` x `height` that is cut or padded by `ratios`; truncated towards 0."""
    left, top, right, bottom = ratios
    return int(-left * width), int(-top * height), width + int(right * width), height + int(bottom * height)


def visual_guide(
    image: np.ndarray,
    mask: np.ndarray,
    draw: VisualDraw,
    side: int = GUIDE_SIDE,
    keep_aspect: bool = False,
    background: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The object of `mask`, cut out of `image` and brought to a square.

    The box is the tight box of the mask, whose last row and column Pillow's crop leaves out, as the original does:
    an object one pixel wide or high gives a black guide without object.

    Args:
        image: (H, W, 3) uint8, RGB.
        mask: (h, w), not 0 on the object; brought to (H, W) by nearest neighbour.
        draw: how the box and the picture are changed.
        side: S.
        keep_aspect: fit the box into the square and pad with black, instead of stretching it.
        background: show what surrounds the object too: the mask that comes back is all true.

    Returns:
        picture (S, S, 3) uint8, black outside the image; mask (S, S) bool, outside which the network sees nothing.
    """
    picture, shape = Image.fromarray(image), Image.fromarray((np.asarray(mask) != 0).astype(np.uint8) * 255)
    if shape.size != picture.size:
        shape = shape.resize(picture.size, Image.Resampling.NEAREST)
    box = tight_box(np.asarray(shape))
    inner = guide_crop(box[2] - box[0], box[3] - box[1], draw.ratios)
    if inner[2] <= inner[0] or inner[3] <= inner[1]:
        return np.zeros((side, side, 3), np.uint8), np.full((side, side), background)
    # Two crops: the second may reach outside the first, and is black there although the image goes on.
    picture, shape = (p.crop(box).crop(inner) for p in (picture, shape))
    picture = _to_square(picture, side, keep_aspect, Image.Resampling.BILINEAR)
    shape = _to_square(shape, side, keep_aspect, Image.Resampling.NEAREST)
    if draw.brightness != 1.0 or draw.contrast != 1.0:
        picture = ImageEnhance.Brightness(picture).enhance(draw.brightness)
        picture = ImageEnhance.Contrast(picture).enhance(draw.contrast)
    picture, shape = np.asarray(picture), np.asarray(shape)
    if draw.angle:
        picture, shape = (_rotate(p, draw.angle) for p in (picture, shape))
    if draw.flip:
        picture, shape = (p[:, ::-1] for p in (picture, shape))
    return np.ascontiguousarray(picture), np.full((side, side), True) if background else shape > 0


def _rotate(picture: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about the pixel (S / 2, S / 2) against the clock, nearest neighbour, black outside."""
    side, middle = picture.shape[0], picture.shape[0] / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    right = np.arange(side) - middle  # of the middle; the rows below it are the same numbers
    x = np.rint(cos * right[None, :] - sin * right[:, None] + middle).astype(int)  # (S, S): where each pixel comes from
    y = np.rint(sin * right[None, :] + cos * right[:, None] + middle).astype(int)
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    turned = np.zeros_like(picture)
    turned[inside] = picture[y[inside], x[inside]]
    return turned


def _to_square(picture: Image.Image, side: int, keep_aspect: bool, resampling: Image.Resampling) -> Image.Image:
    if not keep_aspect:
        return picture.resize((side, side), resampling)
    scale = side / max(picture.size)
    width, height = (max(1, int(length * scale)) for length in picture.size)
    square = Image.new(picture.mode, (side, side))
    square.paste(picture.resize((width, height), resampling), ((side - width) // 2, (side - height) // 2))
    return square


# --- Spatial guide -----------------------------------------------------------------------------------------


def centre_and_spread(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Median (x, y) and 1.4826 * median absolute deviation, at least 5, of a mask's pixels; None of an empty mask."""
    points = np.argwhere(mask)[:, ::-1].astype(np.float32)  # (P, 2) as (x, y)
    if len(points) == 0:
        return None
    centre = np.median(points, axis=0)
    spread = np.float32(MAD_TO_STD) * np.median(np.abs(points - centre), axis=0)
    return centre, np.maximum(spread, np.float32(MIN_SPREAD))


def gaussian_guide(mask: np.ndarray, draw: SpatialDraw = SpatialDraw()) -> np.ndarray:
    """D(x, y) = exp(-((x - cx)^2 / sx^2 + (y - cy)^2 / sy^2) / 2) from the mask's median and scaled deviation.

    Args:
        mask: (H, W) at the network's input size, not 0 on the object; 0/1 and 0/255 give the same guide.
        draw: how centre and spread are changed.

    Returns:
        (H, W) float32 in [0, 1]; all 0 for an empty mask. The peak is 1 where the centre lies on a pixel.
    """
    height, width = mask.shape
    found = centre_and_spread(mask)
    if found is None:
        return np.zeros((height, width), np.float32)
    centre, spread = (values.astype(np.float64) for values in found)
    centre = centre + np.array(draw.centre) * spread
    spread = spread * np.array(draw.spread)
    x = ((np.arange(width) - centre[0]) / spread[0]) ** 2
    y = ((np.arange(height) - centre[1]) / spread[1]) ** 2
    return np.exp(-0.5 * (x[None, :] + y[:, None])).astype(np.float32)


def perturb_mask(mask: np.ndarray, draw: MaskDraw) -> np.ndarray:
    """The mask's box (inclusive) scaled and moved, (H, W) bool; what leaves the frame is cut off."""
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    if xs.size == 0:
        return np.zeros((height, width), bool)
    left, top, right, bottom = xs.min(), ys.min(), xs.max(), ys.max()
    box_width, box_height = int(right - left + 1), int(bottom - top + 1)
    size = max(1, round(box_width * draw.scale)), max(1, round(box_height * draw.scale))
    columns, rows = (
        np.minimum(np.arange(n) / draw.scale, last).astype(int)  # nearest, as OpenCV counts: the pixel's upper left
        for n, last in zip(size, (box_width - 1, box_height - 1))
    )
    crop = mask[top + rows[:, None], left + columns[None, :]] != 0
    x = int((left + right) // 2 + draw.centre[0] * box_width) - size[0] // 2
    y = int((top + bottom) // 2 + draw.centre[1] * box_height) - size[1] // 2
    moved = np.zeros((height, width), bool)
    (x0, x1), (y0, y1) = (np.clip((a, a + n), 0, end) for a, n, end in ((x, size[0], width), (y, size[1], height)))
    moved[y0:y1, x0:x1] = crop[y0 - y : y1 - y, x0 - x : x1 - x]
    return moved


def dilate(mask: np.ndarray, radius: int = DILATION_RADIUS) -> np.ndarray:
    """Binary dilation by a disc: every pixel within `radius` of the mask, (H, W) bool."""
    offsets = range(-radius, radius + 1)
    padded = np.pad(np.asarray(mask) != 0, radius)
    height, width = mask.shape
    grown = np.zeros((height, width), bool)
    for dy in offsets:
        reach = int((radius**2 - dy**2) ** 0.5)
        for dx in range(-reach, reach + 1):
            grown |= padded[radius + dy : radius + dy + height, radius + dx : radius + dx + width]
    return grown


def dilated_guide(mask: np.ndarray, draw: MaskDraw | None = None) -> np.ndarray:
    """The alternative spatial guide: the mask, moved in training, dilated by 5 pixels; (H, W) float32, 0 or 255."""
    moved = mask if draw is None else perturb_mask(mask, draw)
    return dilate(moved).astype(np.float32) * 255
