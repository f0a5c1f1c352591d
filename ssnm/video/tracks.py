"""Tracks: one object through the frames of a video, or in a single image; what a training sample is drawn from.

Sources of stage 1 (`images.py`) give tracks of one frame, those of stage 2 (`videos.py`) tracks of many.
H W size of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import DataError
from ..files.given import read_given
from ..files.images import as_annotated
from ..files.masks import fitting, read_ids


class Track(Protocol):
    """One object. name: of the object, unique in its source; video: of the image or sequence it is in, by which
    tracks are held out together."""

    name: str
    video: str

    def __len__(self) -> int:
        """How many frames."""
        ...

    def image(self, frame: int) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        ...

    def mask(self, frame: int) -> np.ndarray:
        """(H, W) bool; H W may differ from those of the image."""
        ...

    def void(self, frame: int) -> np.ndarray | None:
        """(H, W) bool like the mask: pixels without a label; None: there are none."""
        ...

    def frame_name(self, frame: int) -> str:
        """What messages call it."""
        ...


@dataclass(frozen=True)
class StillTrack:
    """An object of a single image. file: of the image; read_mask gives the object's mask, read_void its void."""

    name: str
    video: str
    file: Path
    read_mask: Callable[[], np.ndarray]
    read_void: Callable[[], np.ndarray | None] = lambda: None

    def __len__(self) -> int:
        return 1

    def image(self, frame: int) -> np.ndarray:
        return read_given(as_annotated(self.file, lambda: self.read_mask().shape)).array

    def mask(self, frame: int) -> np.ndarray:
        return self.read_mask()

    def void(self, frame: int) -> np.ndarray | None:
        return self.read_void()

    def frame_name(self, frame: int) -> str:
        return str(self.file)


@dataclass(frozen=True)
class FileTrack:
    """An object of a sequence of image files and mask files. object_id: in the mask files; None: any of their ids."""

    name: str
    video: str
    files: Sequence[Path]
    masks: Sequence[Path]
    object_id: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def image(self, frame: int) -> np.ndarray:
        return read_given(fitting(self.files[frame], self.masks[frame])).array

    def mask(self, frame: int) -> np.ndarray:
        ids = read_ids(self.masks[frame])
        return ids > 0 if self.object_id is None else ids == self.object_id

    def void(self, frame: int) -> np.ndarray | None:
        return None

    def frame_name(self, frame: int) -> str:
        return str(self.files[frame])


@dataclass(frozen=True)
class PackedMask:
    """A mask in little memory: its box (top, left, bottom, right; the last two excluded) and the bits inside."""

    shape: tuple[int, int]
    box: tuple[int, int, int, int]
    bits: bytes

    @classmethod
    def of(cls, mask: np.ndarray) -> "PackedMask":
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            return cls(mask.shape, (0, 0, 0, 0), b"")
        top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        return cls(mask.shape, (top, left, bottom, right), np.packbits(mask[top:bottom, left:right]).tobytes())

    def __call__(self) -> np.ndarray:
        """(H, W) bool."""
        mask = np.zeros(self.shape, bool)
        top, left, bottom, right = self.box
        count = (bottom - top) * (right - left)
        inside = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=count).astype(bool)
        mask[top:bottom, left:right] = inside.reshape(bottom - top, right - left)
        return mask


def require_tracks(tracks: Sequence[Track], where: str, wanted: str) -> None:
    """Raises:
        DataError: a source without a single track."""
    if not tracks:
        raise DataError(f"{where}: no object to train on was found; wanted {wanted}")
