"""The masks that a user gives: which object starts in which frame. No torch.

The mask of the first frame, or masks of several frames: an id starts where it is seen first, and later masks of it are
passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.ids import as_ids, ids_in, read_palette
from ..files.listing import images_by_stem, shorten
from ..files.masks import read_ids
from ..naming import natural_key
from .merge import resize_ids

MaskLike = Union[np.ndarray, Mapping[int, np.ndarray], str, Path]
MOST_STRETCHED = 1.1  # ratio of the aspects of mask and frame beyond which they are not of one picture


@dataclass(frozen=True)
class Prompts:
    """masks: frame number -> ids (H, W) uint8 of the objects that start there, 0 elsewhere; palette: RGB bytes of the
    file they came from, or None."""

    masks: dict[int, np.ndarray]
    palette: bytes | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids of all objects, ascending."""
        return tuple(sorted(i for mask in self.masks.values() for i in ids_in(mask)))

    def of_frame(self, index: int, size: tuple[int, int], name: str) -> np.ndarray | None:
        """The ids that start in frame `index`, brought to its `size` (H, W) by nearest neighbour; None: none does.

        Raises:
            DataError: mask and frame differ in shape, not only in size.
        """
        mask = self.masks.get(index)
        if mask is None or mask.shape == tuple(size):
            return mask
        stretched = (mask.shape[0] / mask.shape[1]) / (size[0] / size[1])
        if not 1 / MOST_STRETCHED < stretched < MOST_STRETCHED:
            raise DataError(
                f"frame {name}: its mask has {mask.shape[1]}x{mask.shape[0]} pixels, the frame {size[1]}x{size[0]}: "
                "they differ in shape; give the mask of this frame"
            )
        return resize_ids(mask, size)


def prompts_from(mask: MaskLike) -> Prompts:
    """The masks as Python callers give them.

    Args:
        mask: ids (H, W) of the first frame, bool or whole numbers (only 0 and 255: one object, id 1; beside other ids
            255 is void); {frame number: ids (H, W)}; or a mask file.

    Raises:
        DataError: another shape, type or range; no object at all.
    """
    if isinstance(mask, (str, Path)):
        return read_prompts(mask)
    given = dict(mask) if isinstance(mask, Mapping) else {0: mask}
    for index in given:
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)) or index < 0:
            raise DataError(f"masks by frame number, 0 or more, were expected, got the key {index!r}")
    return starts_only((int(i), as_ids(given[i], f"mask of frame {i}")) for i in sorted(given))


def read_prompts(path: str | Path, frame_names: list[str] | None = None) -> Prompts:
    """Masks from a file (of the first frame) or a folder, whose files have the names of frames.

    Args:
        frame_names: the stems of all frames in order; None (a video file): the stems of the masks are numbers.

    Raises:
        MissingFileError, DataError: no such file; a mask that cannot be used, belongs to no frame, shows no object.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise MissingFileError(f"{path}: no such mask; a picture of ids, or a folder of them, was expected")
        return starts_only([(0, read_ids(path))], read_palette(path), str(path))
    files = images_by_stem(path)
    if not files:
        raise DataError(f"{path}: no mask in this folder; the mask of the first frame was expected")
    numbers = _numbers(path, list(files), frame_names)
    ordered = sorted(files, key=natural_key)
    palettes = (read_palette(files[stem]) for stem in ordered)
    palette = next((p for p in palettes if p is not None), None)
    ordered.sort(key=numbers.__getitem__)
    return starts_only(((numbers[stem], read_ids(files[stem])) for stem in ordered), palette, str(path))


def starts_only(
    masks: Iterable[tuple[int, np.ndarray]], palette: bytes | None = None, name: str = "mask"
) -> Prompts:
    """Keep of every id the first frame that shows it.

    Args:
        masks: (frame number, ids (H, W) uint8), in the order of frames; each may be read when it is asked for.

    Raises:
        DataError: no object at all.
    """
    known: set[int] = set()
    starts: dict[int, np.ndarray] = {}
    for index, mask in masks:
        new = [i for i in ids_in(mask) if i not in known]
        if new:
            starts[index] = np.where(np.isin(mask, new), mask, 0).astype(np.uint8)
            known.update(new)
    if not starts:
        raise DataError(f"{name}: shows no object; every pixel is background, so there is nothing to follow")
    return Prompts(starts, palette)


def _numbers(folder: Path, stems: list[str], frame_names: list[str] | None) -> dict[str, int]:
    """Stem of a mask -> number of its frame."""
    known = {name: n for n, name in enumerate(frame_names)} if frame_names is not None else None
    strange = [s for s in stems if (s not in known if known is not None else not s.isdecimal())]
    if strange:
        wanted = "a frame" if known is not None else "a frame number"
        raise DataError(f"{folder}: {shorten(strange)}: no name of {wanted}; masks are named as their frames are")
    return {s: known[s] if known is not None else int(s) for s in stems}
