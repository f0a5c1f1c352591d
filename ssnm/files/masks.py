"""Reading mask files: the one place, by two functions. No torch.

:func:`read_ids` for masks in which every object or class has a number; :func:`read_binary` for masks of one object
and for probability maps, which are read by one rule, so that a file means the same as truth and as map.

| what the file holds | :func:`read_binary` |
|---|---|
| 0/1 or 0/255 in any mode, 0/65535 | the object is the higher value |
| a palette in VOC's colours, in VOC's order or renumbered | by colour: black is background, (224, 224, 192) void |
| a palette whose used entries are grey | by those greys, never by their order |
| another palette whose entry 0 is black | by index: 0 background, 255 void |
| grey labels: 255 beside values of 32 or less alone | 0 background, 255 void, all others the object |
| object in the alpha channel, colours constant or coloured | what is opaque |
| other greys, JPEG | a soft mask: object above one half |
| coloured, void alone, greys that are neither | an error, never an empty mask |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from .ids import VOID, as_ids, voc_palette
from .images import NARROW_MODES, RGBImage, as_annotated, open_image

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")
_LOSSY_TINT = 16  # how much the channels of a grey picture differ after lossy coding
_MOST_LABELS = 32  # grey values up to here can be labels beside a void of 255; above, a picture is soft
_ENDS = (32, 223)  # greys between these are neither background nor object, unless they are an edge
_FLAT_SHARE = 0.01  # an area of such a grey is a label nobody knows; below this share it is an edge
_BLACK = 16


@dataclass(frozen=True)
class BinaryMask:
    """A mask of one object, or a map of its probability.

    values (H, W): uint8 0..255, or float32 in [0, 1] for files of more than 8 bits; masks that say so are 0/255, but
    a grey file of 0 and 1 keeps these, since a faint map looks the same (:attr:`object` takes it for a mask);
    void (H, W) bool: pixels that belong to neither side; name: of the file.
    """

    name: str
    values: np.ndarray
    void: np.ndarray

    @property
    def object(self) -> np.ndarray:
        """(H, W) bool: the pixels of the object.

        Raises:
            DataError: the greys are neither 0/1, 0/255, labels beside 255, nor a soft mask.
        """
        if self.values.dtype != np.uint8:
            if 0 < self.values.max() <= 0.5:
                raise DataError(_neither(self.name, self.values))
            return self.values > 0.5
        high = int(self.values.max())
        if high <= 1:
            return self.values > 0
        if high <= 127 or _flat_share(self.values) > _FLAT_SHARE:
            raise DataError(_neither(self.name, self.values))
        return self.values > 127


def read_binary(path: str | Path) -> BinaryMask:
    """Read a mask of one object, or a map of its probability, by the table at the top of this file.

    Raises:
        MissingFileError: no such file.
        DataError: it cannot be decoded; it is coloured; it shows void alone; its colours and its alpha channel are two
            different masks. For a mask, :attr:`BinaryMask.object` also says whether its greys mean one.
    """
    image, name = open_image(path), str(path)
    alpha = _alpha(image)
    if alpha is None:
        return _by_colour(image, name)
    opaque = BinaryMask(name, alpha, np.zeros(alpha.shape, bool))
    try:
        coloured = _by_colour(image, name)
        constant = bool((coloured.values == coloured.values[0, 0]).all())
    except DataError:
        return opaque  # a cut-out: what it shows is no mask, what it hides tells the object
    if not constant and not np.array_equal(coloured.object, opaque.object):
        raise DataError(f"{name}: its colours show one mask and its alpha channel another; save it without one of them")
    return opaque if constant else coloured


def read_maps(paths: Sequence[Path]) -> list[np.ndarray]:
    """Probability maps that belong together, each (H, W) float32 in [0, 1], by :func:`read_binary`.

    8 bits are divided by 255. Maps of 0 and 1 are masks, unless a map among them holds greys: beside these they are
    faint maps.

    Raises:
        MissingFileError, DataError: as :func:`read_binary`.
    """
    values = [read_binary(path).values for path in paths]
    are_masks = all(v.max() in (0, 1, VOID) and v.dtype == np.uint8 and len(np.unique(v)) < 3 for v in values)
    full = [1 if are_masks and v.max() == 1 else VOID for v in values]
    return [v if v.dtype != np.uint8 else (v / np.float32(high)).astype(np.float32) for v, high in zip(values, full)]


def read_ids(path: str | Path, classes: bool = False) -> np.ndarray:
    """Read a mask of numbered objects as ids (H, W) uint8 in 0..254, 0 background; see :func:`ssnm.files.ids.as_ids`.

    Palette pictures by index and grey ones by value, as they are; one object by colour: black-and-white pictures of any
    other mode, or with a palette in which 0 is not the black; lossy files are cut at one half, since they cannot hold
    ids.

    classes: it is a map of class numbers, as VOC's: 255 is void and stays 255, whatever else there is, and a palette in
        VOC's colours that a tool has renumbered is read by its colours.

    Raises:
        MissingFileError: no such file.
        DataError: it cannot be decoded, is coloured, or is soft (grey with more than 32 values).
    """
    image = open_image(path)
    if image.format in _LOSSY:
        return (np.array(image.convert("L")) > 127).astype(np.uint8)
    if image.mode == "P":
        values = np.array(image)
        used, colours = _used_colours(image, values)
        if _is_black_and_white(colours) and ((used > 0) != (colours[:, 0] > 0)).any():  # 0 is not the black one
            return (_looked_up(used, colours[:, 0], values) > 0).astype(np.uint8)
        numbers = _voc_numbers(colours) if classes else None
        values = values if numbers is None else _looked_up(used, numbers, values)
    else:
        values = _whole_numbers(image, str(path))
    shown = np.unique(values)
    if image.mode != "P" and len(shown) > _MOST_LABELS:
        raise DataError(
            f"{path}: a grey picture with {len(shown)} values is a soft mask, not one of ids; cut it at one half first"
        )
    if classes and values.min() >= 0 and values.max() <= VOID:
        return values.astype(np.uint8)
    return as_ids(values, str(path))


def fitting(image: Path, mask: Path | None) -> Path | RGBImage:
    """:func:`ssnm.files.images.as_annotated` by the size of a mask file, where there is one."""
    return image if mask is None else as_annotated(image, lambda: open_image(mask).size[::-1])


def _by_colour(image: Image.Image, name: str) -> BinaryMask:
    """A mask by what can be seen, without its alpha channel."""
    if image.mode == "P":
        return _from_palette(np.array(image), image, name)
    values = _grey(image, name)
    if values.dtype != np.uint8 or image.format in _LOSSY:
        return BinaryMask(name, values, np.zeros(values.shape, bool))
    return _from_grey(values, name)


def _from_palette(index: np.ndarray, image: Image.Image, name: str) -> BinaryMask:
    used, colours = _used_colours(image, index)
    numbers = _voc_numbers(colours)
    is_grey = bool((colours == colours[:, :1]).all())
    in_voc_order = numbers is not None and np.array_equal(numbers, used)
    if numbers is not None and (in_voc_order or not is_grey):
        return _from_labels(_looked_up(used, numbers, index), name)
    if is_grey:
        if len(used) > 1 and len(np.unique(colours[:, 0])) == 1:
            raise DataError(f"{name}: a palette mask whose indices {_few(used)} all have one colour; save it with a "
                            "palette that tells them apart")  # fmt: skip
        return _from_grey(_looked_up(used, colours[:, 0], index), name)
    if max(image.getpalette("RGB")[:3]) > _BLACK:
        raise DataError(f"{name}: a palette mask in colours that are not known, and entry 0 is not black; save the "
                        "object in white on black")  # fmt: skip
    return _from_labels(index, name)


def _from_grey(values: np.ndarray, name: str) -> BinaryMask:
    """Greys (H, W) uint8: labels where 255 stands beside small values alone, else as they are."""
    counts = np.bincount(values.ravel(), minlength=256)
    between = counts[1:VOID]
    if counts[VOID] and between[:_MOST_LABELS].any() and not between[_MOST_LABELS:].any():
        return _from_labels(values, name)
    return BinaryMask(name, values, np.zeros(values.shape, bool))


def _from_labels(labels: np.ndarray, name: str) -> BinaryMask:
    void = labels == VOID
    found = (labels != 0) & ~void
    if void.any() and not found.any():
        raise DataError(f"{name}: shows void (255) alone, on {void.mean():.0%} of its pixels, and no object; if 255 is "
                        "the object, save it in white on black")  # fmt: skip
    return BinaryMask(name, found.astype(np.uint8) * VOID, void)


def _alpha(image: Image.Image) -> np.ndarray | None:
    """The alpha channel (H, W) uint8; None where there is none or it is the same everywhere."""
    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return None
    alpha = np.array(image.convert("RGBA"))[:, :, 3]
    return None if alpha.min() == alpha.max() else alpha


def _grey(image: Image.Image, name: str) -> np.ndarray:
    """The greys of a picture without palette: uint8, or float32 in [0, 1] of wide files.

    Raises:
        DataError: it is coloured, or its wide values have no known range.
    """
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.mode not in NARROW_MODES:
        return _wide_grey(np.array(image), name)
    rgb = np.array(image.convert("RGB"))
    tint = int((rgb.max(axis=2) - rgb.min(axis=2)).max(initial=0))  # uint8: the maximum is never below the minimum
    if tint > (_LOSSY_TINT if image.format in _LOSSY else 0):
        colours = np.unique(rgb[:: max(1, len(rgb) // 64)].reshape(-1, 3), axis=0)
        raise DataError(f"{name}: a colour picture ({len(colours)} colours or more, mode {image.mode}), of which the "
                        "object is not known; save the object in white on black")  # fmt: skip
    return np.array(image.convert("RGB").convert("L"))


def _wide_grey(values: np.ndarray, name: str) -> np.ndarray:
    """Integers up to 255 and whole floats up to 255 as 8 bits, integers up to 65535 / 65535, floats in [0, 1] as is."""
    low, high = values.min(), values.max()
    whole = np.issubdtype(values.dtype, np.integer)
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > (65535 if whole else VOID):
        raise DataError(f"{name}: a mask or map with values in 0..255, 0..65535, or [0, 1] for floats, is needed; this "
                        f"one has {low:g}..{high:g}")  # fmt: skip
    if high <= VOID and (whole or (high > 1 and np.array_equal(values, values.round()))):
        return values.astype(np.uint8)
    if not whole:
        if high > 1:
            raise DataError(f"{name}: floats in [0, 1] are needed, got up to {high:g}; divide by the largest value")
        return values.astype(np.float32)
    if np.isin(values, (0, 65535)).all():
        return (values > 0).astype(np.uint8) * VOID
    return (values / 65535).astype(np.float32)


def _whole_numbers(image: Image.Image, name: str) -> np.ndarray:
    """(H, W) whole numbers of a picture without palette that holds ids.

    Raises:
        DataError: it is coloured.
    """
    if image.mode in ("1", "L"):
        return np.array(image)
    if image.mode.startswith("I"):
        wide = np.array(image).astype(np.int64)
        return np.where(wide == 65535, VOID, wide) if np.isin(wide, (0, 65535)).all() else wide
    rgb = np.array(image.convert("RGB"))
    if not (rgb == rgb[:, :, :1]).all() or not np.isin(rgb, (0, VOID)).all():
        raise DataError(
            f"{name}: a palette or one-channel mask is needed, got a {image.mode} picture, whose ids are not known; "
            "save it as a palette PNG, or in black and white for one object"
        )
    return rgb[:, :, 0]


def _used_colours(image: Image.Image, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices that occur, ascending (K,), and their colours (K, 3) uint8; entries beyond its palette are black."""
    palette = np.zeros((256, 3), np.uint8)
    entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(entries)] = entries
    used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
    return used, palette[used]


def _voc_numbers(colours: np.ndarray) -> np.ndarray | None:
    """VOC's numbers (K,) uint8 of colours (K, 3); None if one of them is not VOC's."""
    table = {colour: number for number, colour in enumerate(_triples(voc_palette()))}
    numbers = [table.get(tuple(colour)) for colour in colours.tolist()]
    return None if None in numbers else np.array(numbers, np.uint8)


def _triples(palette: bytes) -> list[tuple[int, ...]]:
    return [tuple(palette[i : i + 3]) for i in range(0, len(palette), 3)]


def _is_black_and_white(colours: np.ndarray) -> bool:
    return bool(np.isin(colours, (0, VOID)).all() and (colours == colours[:, :1]).all() and colours.any())


def _looked_up(used: np.ndarray, values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`values` (K,) of the indices `used` (K,) put in the place of each index (H, W)."""
    table = np.zeros(256, values.dtype)
    table[used] = values
    return table[index]


def _flat_share(values: np.ndarray) -> float:
    """The share of pixels of a middle grey whose eight neighbours have the very same: areas, not edges."""
    if min(values.shape) < 3:
        return 0.0
    inner = values[1:-1, 1:-1]
    flat = (inner > _ENDS[0]) & (inner < _ENDS[1])
    height, width = inner.shape
    for down in range(3):
        for right in range(3):
            if not flat.any():
                return 0.0
            flat &= values[down : down + height, right : right + width] == inner
    return float(flat.sum()) / values.size


def _neither(name: str, values: np.ndarray) -> str:
    found = [f"{value:g}" for value in np.unique(values)]
    shown = ", ".join(found[:6]) + (f", ... {found[-1]}" if len(found) > 6 else "")
    return (f"{name}: its values {{{shown}}} are neither 0/1, 0/255 nor labels beside 255, so its object is not known; "
            "save the object as 255")  # fmt: skip


def _few(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:4].tolist())) + (", ..." if len(numbers) > 4 else "")
