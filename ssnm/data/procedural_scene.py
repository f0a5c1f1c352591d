"""Scenes of the procedural data set: where objects lie, and drawing them on clutter. numpy only.

Called by ssnm/data/procedural.py. A scene lives in the unit square (x to the right, y down); H W size of
the picture, K objects. All random numbers that describe the scene are drawn on fixed grids, whatever the
size of the picture, so one scene drawn at two sizes is one scene; only the pixel noise differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .procedural_kinds import INKS, KINDS, SHAPES, TEXTURES, SignedDistance

RADIUS = (0.14, 0.22)  # of a disc of the object's area, as a share of the picture's side
CENTRE = (0.18, 0.82)
CLEARANCE = 0.85  # wanted distance of two centres / sum of their radii
LAYOUT_TRIES = 32
CELLS, CLUTTER = 6, 8  # regions of the background, and pebbles and chips on it
HALO = 0.3  # width of the shadow around an object, in radii


@dataclass(frozen=True)
class Canvas:
    """A picture being painted. rgb (H, W, 3) float32, about [0, 1]; x (W,) and y (H,): pixel centres."""

    rgb: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def pixel(self) -> float:
        """Side of a pixel in the unit square (the mean of both sides where the picture is not square)."""
        return 0.5 / len(self.x) + 0.5 / len(self.y)


@dataclass(frozen=True)
class Patch:
    """The part of a canvas that one object can touch, in the object's coordinates (u, v); radius = 1."""

    rows: slice
    columns: slice
    u: np.ndarray
    v: np.ndarray
    pixel: float  # side of a canvas pixel in radii


def render_scene(
    kinds: Sequence[str], size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one object of each kind, in this order, on a cluttered background; a later one hides an earlier one.

    Args:
        kinds: K names of KINDS.
        size: (height, width) in pixels.
        rng: the scene is a function of its state alone.

    Returns:
        image (H, W, 3) uint8 and masks (K, H, W) bool of what is visible: no pixel belongs to two objects.
    """
    centres, radii = sample_layout(len(kinds), rng)
    canvas = paint_background(size, rng)
    masks = np.zeros((len(kinds), *size), bool)
    for k, kind in enumerate(kinds):
        patch, inside = paint_object(canvas, kind, centres[k], float(radii[k]), rng)
        masks[:k, patch.rows, patch.columns] &= ~inside
        masks[k, patch.rows, patch.columns] = inside
    return expose(canvas, rng), masks


def sample_layout(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres (K, 2) and radii (K,) of `count` objects that hide little of each other.

    All objects have the same distribution whatever their kind or order. The first of some random layouts
    whose clearance suffices is taken, or the best of them.
    """
    radii = rng.uniform(*RADIUS, count)
    layouts = rng.uniform(*CENTRE, (LAYOUT_TRIES, count, 2))
    first, second = np.triu_indices(count, 1)
    distances = np.hypot(*np.moveaxis(layouts[:, first] - layouts[:, second], -1, 0))
    clearance = (distances / (radii[first] + radii[second])).min(axis=1, initial=np.inf)
    return layouts[np.argmax(np.minimum(clearance, CLEARANCE))], radii


def paint_object(
    canvas: Canvas, kind: str, centre: np.ndarray, radius: float, rng: np.random.Generator, turn: float = 0.0
) -> tuple[Patch, np.ndarray]:
    """Paint one object with its soft shadow; returns the touched patch and the object's mask (rows, columns).

    turn: radians by which the object is turned from how the generator would have it.
    """
    shape, texture, inks = SHAPES[KINDS[kind].shape], TEXTURES[KINDS[kind].texture], KINDS[kind].inks
    patch = _object_patch(canvas, centre, radius, shape.reach + HALO, rng.uniform(0, 2 * np.pi) + turn)
    distance = shape.distance(patch.u, patch.v)
    light = rng.uniform(-1, 1, 2)
    slope = np.float32(light[0]) * patch.u + np.float32(light[1]) * patch.v
    colour = _textured(texture, [_jittered_ink(ink, rng) for ink in inks], patch, rng)
    rim = np.clip(1 + distance / 0.15, 0, 1)  # darker towards the edge, like a cushion
    colour *= (1 + np.float32(0.15) * slope - np.float32(0.22) * rim * rim)[..., None]
    behind = canvas.rgb[patch.rows, patch.columns]
    shadow = np.clip(1 - distance / HALO, 0, 1) * np.clip(0.5 - 0.5 * slope, 0, 1)
    behind *= (1 - np.float32(0.5) * shadow * shadow)[..., None]
    _lay_over(behind, colour, distance, patch.pixel)
    return patch, distance < 0


def paint_background(size: tuple[int, int], rng: np.random.Generator) -> Canvas:
    """Muted clutter: cells with wavy borders, grain in two directions and sizes, pebbles and chips."""
    height, width = size
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width)
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    colours = _muted_colours(rng, CELLS + CLUTTER)
    canvas = Canvas(_paint_cells(x, y, colours[:CELLS], rng), x, y)
    for strength, fewest, most in ((0.10, 4, 18), (0.09, 12, 48)):
        canvas.rgb[...] += np.float32(strength) * _smooth_noise(size, rng.integers(fewest, most, 2), 1, rng)
    for colour in colours[CELLS:]:
        _paint_clutter(canvas, colour, rng)
    return canvas


def _paint_cells(x: np.ndarray, y: np.ndarray, colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3): each pixel has the colour of its nearest cell, after a smooth warp of the plane."""
    size = (len(y), len(x))
    noise = _smooth_noise(size, (5, 5), 2, rng)
    warped = np.empty((2, *size), np.float32)
    warped[0] = x + np.float32(0.09) * noise[..., 0]
    warped[1] = y[:, None] + np.float32(0.09) * noise[..., 1]
    seeds = rng.uniform(0, 1, (len(colours), 2)).astype(np.float32)
    # |p - s|^2 = |p|^2 - (2 p.s - |s|^2): the nearest seed has the largest bracket, one matrix product
    nearness = (2 * seeds) @ warped.reshape(2, -1) - (seeds * seeds).sum(axis=1, keepdims=True)  # (cells, H*W)
    behind_nearest = nearness.max(axis=0) - nearness
    weights = np.maximum(1 - behind_nearest * np.float32(min(size) / 2), 0)  # two pixels of transition
    return ((weights / weights.sum(axis=0)).T @ colours).reshape(*size, 3)


def _paint_clutter(canvas: Canvas, colour: np.ndarray, rng: np.random.Generator) -> None:
    """One plain pebble (ellipse) or chip (rectangle)."""
    radius, (a, b) = rng.uniform(0.05, 0.13), rng.uniform((0.5, 0.2), (1.0, 0.6))
    patch = _object_patch(canvas, rng.uniform(0, 1, 2), radius, 1.2, rng.uniform(0, 2 * np.pi))
    u, v = patch.u / np.float32(a), patch.v / np.float32(b)
    extent = np.hypot(u, v) if rng.random() < 0.6 else np.maximum(np.abs(u), np.abs(v))
    shaded = colour * (1 + np.float32(0.15) * patch.v)[..., None]
    _lay_over(canvas.rgb[patch.rows, patch.columns], shaded, (extent - 1) * np.float32(b), patch.pixel)


def _textured(
    texture: SignedDistance, inks: Sequence[np.ndarray], patch: Patch, rng: np.random.Generator
) -> np.ndarray:
    """(rows, columns, 3): the two inks in the texture's pattern, at a random period and phase."""
    period, (du, dv) = rng.uniform(0.85, 1.15), rng.uniform(-0.2, 0.2, 2)
    scale = np.float32(1 / period)
    distance = texture(patch.u * scale + np.float32(du), patch.v * scale + np.float32(dv))
    share = np.clip(0.5 + distance / patch.pixel, 0, 1)
    return inks[0] + share[..., None] * (inks[1] - inks[0])


def _object_patch(canvas: Canvas, centre: np.ndarray, radius: float, reach: float, angle: float) -> Patch:
    rows, dy = _touched(canvas.y, centre[1], radius, reach)
    columns, dx = _touched(canvas.x, centre[0], radius, reach)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = cosine * dx + (sine * dy)[:, None]
    v = (cosine * dy)[:, None] - sine * dx
    return Patch(rows, columns, u, v, canvas.pixel / radius)


def _touched(axis: np.ndarray, centre: float, radius: float, reach: float) -> tuple[slice, np.ndarray]:
    """The stretch of pixel centres within `reach` radii of `centre`, and their offsets in radii."""
    low, high = np.searchsorted(axis, (centre - reach * radius, centre + reach * radius))
    return slice(low, high), (axis[low:high] - np.float32(centre)) / np.float32(radius)


def _lay_over(behind: np.ndarray, colour: np.ndarray, distance: np.ndarray, pixel: float) -> None:
    """Blend `colour` into `behind` (in place) where distance < 0, over one pixel at the edge."""
    cover = np.clip(0.5 - distance / np.float32(pixel), 0, 1)[..., None]
    behind += cover * (colour - behind)


def _jittered_ink(ink: str, rng: np.random.Generator) -> np.ndarray:
    return (np.array(INKS[ink]) * rng.uniform(0.85, 1.1) + rng.uniform(-0.05, 0.05, 3)).astype(np.float32)


def _muted_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3): greyish colours between two random ones, so that one background hangs together."""
    grey = rng.uniform(0.22, 0.82, (2, 1))
    ends = grey * (1 + rng.uniform(-0.14, 0.14, (2, 3)))
    mix = rng.uniform(-0.2, 1.2, (count, 1))
    colours = ends[0] + mix * (ends[1] - ends[0]) + rng.uniform(-0.09, 0.09, (count, 1))
    return np.clip(colours + rng.uniform(-0.03, 0.03, (count, 3)), 0.06, 0.92).astype(np.float32)


def _smooth_noise(
    size: tuple[int, int], cells: Sequence[int] | np.ndarray, channels: int, rng: np.random.Generator
) -> np.ndarray:
    """(H, W, channels) float32 about [-1, 1]: random values on a grid of `cells` (down, across), interpolated."""
    grid = rng.uniform(-1, 1, (channels, cells[0], cells[1])).astype(np.float32)
    down, across = _interpolation(size[0], int(cells[0])), _interpolation(size[1], int(cells[1]))
    return np.moveaxis(down @ grid @ across.T, 0, -1)


@lru_cache(maxsize=256)
def _interpolation(length: int, cells: int) -> np.ndarray:
    """(length, cells): weights of smooth interpolation from grid values to pixel centres."""
    position = (np.arange(length) + 0.5) / length * (cells - 1)
    left = np.minimum(position.astype(int), cells - 2)
    share = position - left
    share = share * share * (3 - 2 * share)
    weights = np.zeros((length, cells), np.float32)
    weights[np.arange(length), left] = 1 - share
    weights[np.arange(length), left + 1] = share
    return weights


def expose(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: light that falls off across the picture, a tint, and pixel noise."""
    falloff = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    tint = (255 * rng.uniform(0.85, 1.08) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    light = 1 + falloff[0] * (canvas.x - 0.5) + falloff[1] * (canvas.y[:, None] - 0.5)
    rgb = canvas.rgb * light[..., None]
    rgb *= tint
    rgb += 4 * rng.standard_normal(light.shape, np.float32)[..., None] + np.float32(0.5)  # 0.5: rounds
    return np.clip(rgb, 0, 255, out=rgb).astype(np.uint8)
