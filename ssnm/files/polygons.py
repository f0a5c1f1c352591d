"""Masks as polygons: rings along the edges of pixels, simplified, and joined where a format allows one ring only.

Coordinates are (x, y) in pixels, corners of pixels: the mask of one pixel at (0, 0) is the square (0, 0) .. (1, 1).
numpy alone.
"""

from __future__ import annotations

import numpy as np

Ring = np.ndarray  # (n, 2) float64, closed without repeating the first point; outer rings one way, holes the other


def mask_to_rings(mask: np.ndarray) -> list[Ring]:
    """The boundaries of a mask, exactly: filled by the even-odd rule they are the mask again.

    Args:
        mask: (H, W) bool.

    Returns:
        Rings whose signed area (:func:`signed_area`) is positive for parts, which are 4-connected, and negative for
        holes; corners alone, no points on straight lines. Empty for an empty mask.
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    inside, outside = padded[1:-1, 1:-1], ~padded
    edges = []  # (x, y, direction) of unit edges, the mask on the right as one goes along in image coordinates
    beyond = (outside[:-2, 1:-1], outside[1:-1, 2:], outside[2:, 1:-1], outside[1:-1, :-2])  # above, right, below, left
    for direction, neighbour in enumerate(beyond):
        y, x = np.nonzero(inside & neighbour)
        dx, dy = ((0, 0), (1, 0), (1, 1), (0, 1))[direction]  # where the edge along this side of the pixel starts
        edges.append(np.stack([x + dx, y + dy, np.full(len(x), direction)], axis=1))
    following: dict[tuple[int, int], list[int]] = {}
    for x, y, direction in np.concatenate(edges).tolist():
        following.setdefault((x, y), []).append(direction)
    rings = []
    while following:
        rings.append(_walk(following))
    return rings


def _walk(following: dict[tuple[int, int], list[int]]) -> Ring:
    """One ring, whose edges are taken out of `following`."""
    start = next(iter(following))
    point, direction, corners = start, None, []
    while True:
        choices = following[point]
        # where two parts touch at a corner, turn towards the own part: parts stay 4-connected
        turn = choices[0] if direction is None or len(choices) == 1 else (direction + 1) % 4
        choices.remove(turn)
        if not choices:
            del following[point]
        if turn != direction:
            corners.append(point)
        direction = turn
        dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
        point = (point[0] + dx, point[1] + dy)
        if point == start and (start not in following or (direction + 1) % 4 not in following[start]):
            return np.array(corners, dtype=np.float64)


def signed_area(ring: Ring) -> float:
    """Shoelace formula: positive for the outline of a part, negative for that of a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Fewer points, none of the left-out ones further than `tolerance` pixels away (Douglas & Peucker 1973)."""
    if len(ring) < 5 or tolerance <= 0:
        return ring
    first = 0
    far = int(np.argmax(np.linalg.norm(ring - ring[first], axis=1)))
    kept = {first, far}
    closed = np.concatenate([ring, ring[:1]])
    stack = [(first, far), (far, len(ring))]
    while stack:
        begin, end = stack.pop()
        if end - begin < 2:
            continue
        a, b, between = closed[begin], closed[end], closed[begin + 1 : end]
        line, length = b - a, np.linalg.norm(b - a)
        offset = between - a
        distance = (np.abs(line[0] * offset[:, 1] - line[1] * offset[:, 0]) / length if length
                    else np.linalg.norm(offset, axis=1))  # fmt: skip
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = begin + 1 + worst
            kept.add(middle)
            stack += [(begin, middle), (middle, end)]
    simple = ring[sorted(kept)]
    return simple if len(simple) >= 3 else ring


def mask_to_polygons(mask: np.ndarray, tolerance: float | None = None, least: float = 4.0) -> list[Ring]:
    """One ring per part of a mask, its holes joined to it by cuts of no width, simplified.

    Args:
        mask: (H, W) bool.
        tolerance: in pixels; None: a thousandth of the diagonal, but at most a fiftieth of the side of a square as
            large as the part, and at least 3/4, which the steps of slanted edges do not survive.
        least: parts and holes of less area, in pixels, are left out, unless nothing else is there.

    Returns:
        [(n, 2) float64], largest first; empty for an empty mask.
    """
    rings = mask_to_rings(mask)
    parts = sorted((r for r in rings if signed_area(r) > 0), key=signed_area, reverse=True)
    holes = [r for r in rings if signed_area(r) <= -least]
    large = [r for r in parts if signed_area(r) >= least] or parts[:1]
    of_part: dict[int, list[Ring]] = {}
    for hole in holes:
        around = [k for k, part in enumerate(large) if _contains(part, hole[0] + _inwards(hole))]
        if around:
            of_part.setdefault(around[-1], []).append(hole)  # the smallest part around it
    polygons = []
    for k, part in enumerate(large):
        own = tolerance
        if own is None:
            own = max(0.75, min(0.001 * float(np.hypot(*mask.shape)), 0.02 * signed_area(part) ** 0.5))
        polygons.append(join([simplify(ring, own) for ring in (part, *of_part.get(k, []))]))
    return polygons


def join(rings: list[Ring]) -> Ring:
    """Several rings as one, by cuts of no width between nearest points: for formats with one ring per object."""
    joined = rings[0]
    for ring in rings[1:]:
        distance = np.linalg.norm(joined[:, None] - ring[None], axis=2)  # (n, m)
        i, j = np.unravel_index(int(np.argmin(distance)), distance.shape)
        there = np.concatenate([ring[j:], ring[: j + 1]])
        joined = np.concatenate([joined[: i + 1], there, joined[i:]])
    return joined


def _inwards(hole: Ring) -> np.ndarray:
    """From a hole's first corner half a pixel into the part that it is cut out of (its edges run the other way)."""
    along = hole[1] - hole[0]
    along = along / np.abs(along).max()
    return 0.5 * along + 0.5 * np.array([-along[1], along[0]])


def _contains(ring: Ring, point: np.ndarray) -> bool:
    """Even-odd rule."""
    x, y = ring[:, 0], ring[:, 1]
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    crosses = (y > point[1]) != (y2 > point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x + (point[1] - y) / (y2 - y) * (x2 - x)
    return bool(np.count_nonzero(crosses & (at > point[0])) % 2)
