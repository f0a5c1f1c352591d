"""The kinds of objects of the procedural data set: a kind is a shape, a texture and two inks. numpy only.

Called by ssnm/data/procedural_scene.py, which draws scenes of several kinds.

Shapes and textures are functions of object coordinates (u, v), two float arrays of one shape. Both give a
*signed distance* in the same unit, so one rule draws every edge smooth at every size. Shapes are scaled so
that each has the area of the unit disc: no kind is larger than another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

SignedDistance = Callable[[np.ndarray, np.ndarray], np.ndarray]

INKS = {
    "crimson": (0.83, 0.13, 0.22),
    "orange": (0.96, 0.50, 0.10),
    "gold": (0.98, 0.80, 0.16),
    "leaf": (0.20, 0.60, 0.24),
    "teal": (0.02, 0.52, 0.54),
    "sky": (0.38, 0.74, 0.95),
    "navy": (0.10, 0.16, 0.48),
    "violet": (0.48, 0.20, 0.66),
    "pink": (0.97, 0.56, 0.72),
    "cream": (0.99, 0.96, 0.86),
    "black": (0.09, 0.08, 0.12),
}


@dataclass(frozen=True)
class Shape:
    """Outline of an object: `distance(u, v)` is negative inside; no point lies further out than `reach`."""

    distance: SignedDistance
    reach: float


@dataclass(frozen=True)
class Kind:
    """What the objects of one group share. `shape` is a key of SHAPES, `texture` of TEXTURES, `inks` of INKS."""

    shape: str
    texture: str
    inks: tuple[str, str]

    @property
    def name(self) -> str:
        return f"{self.texture} {self.shape}"


# --- Shapes: signed distance, negative inside ---------------------------------------------------------


def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 1.0


def _radial_polygon(u: np.ndarray, v: np.ndarray, corners: int, tip: float, notch: float) -> np.ndarray:
    """Polygon with `corners` tips at radius `tip` and as many vertices at radius `notch` half-way between them."""
    wedge = np.pi / corners
    angle = np.abs((np.arctan2(u, -v) + wedge) % (2 * wedge) - wedge)  # folded into [0, wedge]
    radius = np.hypot(u, v)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    edge = np.array([notch * np.cos(wedge) - tip, notch * np.sin(wedge)])  # from the tip to the notch
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (along - tip) * np.float32(normal[0]) + across * np.float32(normal[1])


def _cross(u: np.ndarray, v: np.ndarray, length: float, width: float) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - length, np.minimum(u, v) - width)


def _heart(u: np.ndarray, v: np.ndarray, side: float) -> np.ndarray:
    """A square standing on its corner with a half disc on each of its two upper edges."""
    half, middle = side / 2, 0.22 * side  # `middle` puts the centre of mass near the origin
    p, q = (u + v - middle) * np.float32(0.5**0.5), (v - u - middle) * np.float32(0.5**0.5)
    square = np.maximum(np.abs(p), np.abs(q)) - half
    lobes = np.minimum(np.hypot(p, q + half), np.hypot(p + half, q)) - half
    return np.minimum(square, lobes)


def _flower(u: np.ndarray, v: np.ndarray, petals: int, centre: float, petal: float) -> np.ndarray:
    """Discs of radius `petal` on a circle of radius `centre`, joined in the middle."""
    wedge = np.pi / petals
    angle = (np.arctan2(v, u) + wedge) % (2 * wedge) - wedge
    radius = np.hypot(u, v)
    discs = np.hypot(radius * np.cos(angle) - centre, radius * np.sin(angle)) - petal
    return np.minimum(discs, radius - centre)


def _crescent(u: np.ndarray, v: np.ndarray, radius: float, bite: float, shift: float) -> np.ndarray:
    u = u - 0.34 * radius  # the centre of mass near the origin
    return np.maximum(np.hypot(u, v) - radius, bite - np.hypot(u - shift, v))


SHAPES = {
    "disc": Shape(_disc, 1.0),
    "square": Shape(partial(_radial_polygon, corners=4, tip=1.2533, notch=0.8862), 1.26),
    "triangle": Shape(partial(_radial_polygon, corners=3, tip=1.5551, notch=0.7776), 1.56),
    "star": Shape(partial(_radial_polygon, corners=5, tip=1.5121, notch=0.7069), 1.52),
    "cross": Shape(partial(_cross, length=1.1077, width=0.4431), 1.20),
    "heart": Shape(partial(_heart, side=1.3265), 1.24),
    "flower": Shape(partial(_flower, petals=5, centre=0.6767, petal=0.4371), 1.12),
    "crescent": Shape(partial(_crescent, radius=1.3439, bite=1.0080, shift=0.7391), 1.69),
}


# --- Textures: signed distance, positive where the second ink lies ----------------------------------------


def _band(x: np.ndarray, period: float) -> np.ndarray:
    """Distance to the nearest edge of equally wide bands along x, of alternating sign."""
    return np.abs(x % period - period / 2) - period / 4


def _striped(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _band(u, 0.72)


def _checked(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = _band(u, 1.1), _band(v, 1.1)
    return np.minimum(np.abs(a), np.abs(b)) * np.sign(a * b)


def _dotted(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    period = 0.78
    row = np.floor(v / period)
    a, b = (u + row % 2 * (period / 2)) % period - period / 2, v % period - period / 2
    return 0.25 - np.hypot(a, b)


def _ringed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _band(np.hypot(u, v), 0.64)


def _zigzag(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    tooth = np.abs(u % 0.9 - 0.45)
    return _band(v + 1.1 * tooth, 0.9) * np.float32(0.67)  # 0.67: slope of the teeth, makes it a distance


def _rayed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _band(np.arctan2(v, u), 2 * np.pi / 7) * np.hypot(u, v)


def _marbled(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    waves = np.sin(5.6 * u + 1.8 * np.sin(3.1 * v)) + np.sin(6.2 * v + 1.6 * np.sin(3.7 * u + 1.0))
    return np.float32(0.12) * (waves + np.float32(0.15))


def _latticed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    period = 0.76
    return 0.11 - np.minimum(np.abs(u % period - period / 2), np.abs(v % period - period / 2))


TEXTURES: dict[str, SignedDistance] = {
    "striped": _striped,
    "checked": _checked,
    "dotted": _dotted,
    "ringed": _ringed,
    "zigzag": _zigzag,
    "rayed": _rayed,
    "marbled": _marbled,
    "latticed": _latticed,
}

# --- The catalogue: every shape and every texture occurs twice, no pair of inks does -----------------------

_SEEN = (
    Kind("disc", "striped", ("crimson", "cream")),
    Kind("square", "checked", ("black", "gold")),
    Kind("triangle", "dotted", ("sky", "navy")),
    Kind("star", "rayed", ("orange", "violet")),
    Kind("cross", "zigzag", ("leaf", "cream")),
    Kind("heart", "ringed", ("pink", "crimson")),
    Kind("flower", "marbled", ("violet", "pink")),
    Kind("crescent", "latticed", ("orange", "teal")),
    Kind("disc", "dotted", ("leaf", "gold")),
    Kind("square", "striped", ("navy", "orange")),
    Kind("heart", "checked", ("teal", "cream")),
    Kind("star", "marbled", ("black", "sky")),
)
_UNSEEN = (
    Kind("triangle", "zigzag", ("gold", "crimson")),
    Kind("flower", "rayed", ("navy", "cream")),
    Kind("crescent", "ringed", ("leaf", "pink")),
    Kind("cross", "latticed", ("violet", "gold")),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _SEEN + _UNSEEN}
SEEN_KINDS: tuple[str, ...] = tuple(kind.name for kind in _SEEN)
"""Kinds to train on: all eight shapes and all eight textures are among them."""
UNSEEN_KINDS: tuple[str, ...] = tuple(kind.name for kind in _UNSEEN)
"""Kinds kept for testing: new combinations of known shapes, known textures and known inks."""
