"""COCO's segmentations: polygons and run lengths, checked here, drawn by pycocotools. No torch.

pycocotools trusts what it is given: a run too many becomes unset memory, a coordinate that is not finite ends the
process. So every number is looked at first.

    null, []                          no shape
    {"size": [h, w], "counts": ...}   run lengths, a list or COCO's compressed text; they must sum to h * w
    [part, part, ...]                 parts: [x, y, x, y, ...], [[x, y], [x, y], ...] or run lengths
    [x, y, x, y, ...]                 one polygon that lacks its list
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError, MissingPackageError

_FAR = 1  # how many widths or heights a coordinate may lie outside the image
_POINTS = 3  # fewer enclose nothing
_NORMALISED_AREA = 4.0  # pixels; a shape within the first pixel is not that large


def import_mask_codec():
    """pycocotools' mask module, which draws, joins and decodes run-length codes."""
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingPackageError(
            "COCO masks need the package pycocotools, which is not installed; install the project again: pip install "
            "-e ."
        ) from None
    return mask


def drawn_codes(segmentation: Any, size: tuple[int, int], where: str, area: float | None = None) -> list[dict]:
    """A segmentation as compressed run lengths, one per part: {"size": [h, w], "counts": bytes}.

    Args:
        size: (height, width) of the image.
        where: begins the error messages: file, annotation.
        area: what the annotation says of its area; tells coordinates in 0..1 from a shape in the first pixel.

    Raises:
        DataError: what cannot be drawn, by the table at the top of this file.
    """
    if segmentation is None or (isinstance(segmentation, (list, dict)) and not segmentation):
        return []
    try:
        if isinstance(segmentation, dict):
            return [_code(checked_runs(segmentation, size), size)]
        return _parts(segmentation, size, area)
    except ValueError as error:
        raise DataError(f"{where}: {error}; mend the annotation") from None


def empty_parts(segmentation: Any) -> int:
    """How many parts of a segmentation that can be drawn are one or two points, which enclose nothing."""
    if not isinstance(segmentation, (list, tuple)):
        return 0
    whole = _is_polygon(segmentation) or _is_points(segmentation)
    parts = [segmentation] if whole and segmentation else segmentation
    points = [len(p) if _is_points(p) else len(p) // 2 for p in parts if isinstance(p, (list, tuple))]
    return sum(count < _POINTS for count in points)


def draw(segmentation: Any, size: tuple[int, int], where: str, area: float | None = None) -> np.ndarray:
    """The union of the parts of a segmentation as a mask (H, W) bool; arguments as of :func:`drawn_codes`."""
    codes = drawn_codes(segmentation, size, where, area)
    codec = import_mask_codec()
    return codec.decode(codec.merge(codes)).astype(bool) if codes else np.zeros(size, bool)


def checked_runs(code: dict[str, Any], size: tuple[int, int] | None = None) -> list[int]:
    """The run lengths of {"size", "counts"}: of background and object in turn, column by column.

    size: (height, width) that it must have; None: whatever it says.

    Raises:
        ValueError: no run lengths, negative ones, or such that do not sum to the size.
    """
    if not {"size", "counts"} <= code.keys():
        raise ValueError(f"run lengths with size and counts were expected, got {', '.join(map(str, code))}")
    found, counts = code["size"], code["counts"]
    if not is_size(found):
        raise ValueError(f"size [height, width] was expected, got {str(found)[:60]}")
    if size is not None and tuple(found) != tuple(size):
        raise ValueError(f"run lengths of size {list(found)}, but the image is {list(size)} (height, width)")
    runs = runs_of_text(counts) if isinstance(counts, (str, bytes)) else counts
    if not isinstance(runs, (list, tuple)) or not all(_is_count(run) for run in runs):
        wrong = next((r for r in runs if not _is_count(r)), runs) if isinstance(runs, (list, tuple)) else counts
        raise ValueError(f"counts are no run lengths (whole numbers from 0 on), got {str(wrong)[:40]!r}")
    if sum(runs) != found[0] * found[1]:
        raise ValueError(f"its runs sum to {sum(runs)}, height x width is {found[0]} x {found[1]} = "
                         f"{found[0] * found[1]}")  # fmt: skip
    return list(runs)


def runs_of_text(text: str | bytes) -> list[int] | None:
    """Run lengths of COCO's compressed text: five bits a character, the lowest first, from the third run on as the
    difference to the run two before. None where the text ends within a number or holds other characters."""
    codes = np.frombuffer(text if isinstance(text, bytes) else text.encode("latin-1", "replace"), np.uint8).astype(int)
    if ((codes < 48) | (codes > 111)).any():
        return None
    runs: list[int] = []
    number, shift = 0, 0
    for code in (codes - 48).tolist():
        number |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, shift = 0, 0
    return None if shift else runs


def is_size(size: Any) -> bool:
    """Whether it is [height, width] of an image."""
    sides = isinstance(size, (list, tuple)) and len(size) == 2
    return sides and all(isinstance(s, int) and not isinstance(s, bool) and 0 < s <= 1 << 16 for s in size)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; neither null, nor text, nor true."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parts(segmentation: Any, size: tuple[int, int], area: float | None) -> list[dict]:
    """Every part of a list, used or refused; points that enclose nothing have nothing to draw."""
    if not isinstance(segmentation, (list, tuple)):
        raise ValueError(f"a segmentation is a list or run lengths, got {type(segmentation).__name__}")
    if _is_polygon(segmentation) or _is_points(segmentation):
        segmentation = [segmentation]
    polygons, codes = [], []
    for number, part in enumerate(segmentation, 1):
        if isinstance(part, dict):
            codes.append(_code(checked_runs(part, size), size))
        else:
            polygons.append(_coordinates(part, number, size))
    enclosing = [polygon for polygon in polygons if len(polygon) >= 2 * _POINTS]  # four numbers would become a box
    if enclosing and area != 0 and max(size) > 2 and max(map(max, enclosing)) <= 1:
        if area is None or area > _NORMALISED_AREA:
            raise ValueError("its coordinates lie in 0..1, as normalised ones do; multiply x by the width and y by the "
                             "height")  # fmt: skip
    return codes + (import_mask_codec().frPyObjects(enclosing, *size) if enclosing else [])


def _coordinates(part: Any, number: int, size: tuple[int, int]) -> list[float]:
    """A part as [x, y, x, y, ...], each near the image."""
    if _is_points(part):
        part = [value for point in part for value in point]
    if not isinstance(part, (list, tuple)) or not part:
        raise ValueError(f"part {number} is no polygon, got {str(part)[:40]}")
    wrong = next((value for value in part if not is_number(value)), None)
    if not all(map(is_number, part)):
        raise ValueError(f"part {number} holds the coordinate {str(wrong)[:40]}; finite numbers are needed")
    if len(part) % 2:
        raise ValueError(f"part {number} has {len(part)} numbers; x and y come in pairs")
    for values, side, name in ((part[0::2], size[1], "x"), (part[1::2], size[0], "y")):
        far = next((v for v in values if not -_FAR * side <= v <= (1 + _FAR) * side), None)
        if far is not None:
            raise ValueError(f"part {number} has {name} = {far:g}, far outside the image of {size[1]}x{size[0]}")
    return list(map(float, part))


def _is_polygon(part: Sequence) -> bool:
    """[x, y, x, y, ...]: no list in it."""
    return not any(isinstance(value, (list, tuple, dict)) for value in part)


def _is_points(part: Any) -> bool:
    """[[x, y], [x, y], ...]"""
    return (isinstance(part, (list, tuple)) and len(part) > 0
            and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in part))  # fmt: skip


def _code(runs: list[int], size: tuple[int, int]) -> dict:
    return import_mask_codec().frPyObjects({"size": list(size), "counts": runs}, *size)
