"""What `discover` gives back: masks and scores per image, overlays, files. Full size is made when asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.coco_results import instance_records
from ..errors import DataError
from ..files.atomic import image_bytes, write_atomically
from ..files.ids import ids_png
from ..files.lazy import LazyList
from ..files.listing import same_name
from ..visualize.instances import instances_overlay
from .photos import Photo, enlarged
from .prior import PriorRecord

OVERLAY_SIDE = 1600  # pixels of the longer side of a saved overlay


@dataclass(frozen=True)
class Found:
    """The instances of one image at its working size: masks (k, h, w) bool, scores (k,), by falling score."""

    masks: np.ndarray
    scores: np.ndarray


class Discovery:
    """The instances of a group of images.

    Attributes:
        masks: per image (k, H, W) bool at its original size, by falling score; k may be 0.
        scores: per image (k,) floats. They compare within one result, not between results.
        names: file names, or image_0001, ... for images that came without one.
        prior: which prior was used and whether it was trained on masks.
        card: plain values: how the result was made, with what settings, and notes.
    """

    def __init__(
        self, photos: Sequence[Photo], found: Sequence[Found], prior: PriorRecord, card: dict[str, Any]
    ) -> None:
        self._photos, self._found = list(photos), list(found)
        self.names = [photo.name for photo in photos]
        self.scores = [one.scores for one in found]
        self.masks: Sequence[np.ndarray] = LazyList(self._masks, len(photos))
        self.prior, self.card = prior, {**card, "prior": prior.name, "prior trained": prior.trained}

    def __len__(self) -> int:
        return len(self._photos)

    def __repr__(self) -> str:
        count = sum(len(one.scores) for one in self._found)
        return f"Discovery({len(self)} images, {count} instances; {self.prior})"

    def image(self, index: int) -> np.ndarray:
        """The input image, upright, (H, W, 3) uint8 RGB."""
        return self._photos[index].full()

    def overlay(self, index: int, side: int = OVERLAY_SIDE) -> Image.Image:
        """The image with every instance tinted, outlined and numbered; 1 is the best. Longer side at most `side`."""
        photo = self._photos[index]
        shown = photo.shown(side)
        size = shown.shape[:2]
        masks = np.array([enlarged(mask, size) for mask in self._found[index].masks], dtype=bool)
        return Image.fromarray(instances_overlay(shown, masks.reshape(-1, *size)))

    def save(self, folder: str | Path) -> Path:
        """Write overlays/NAME.jpg, masks/NAME.png (index 0 background, k instance k, the better one on top),
        instances.json (COCO results) and result.json (how it was made; which image_id is which file).

        Raises:
            DataError: two images of one name, or a file that cannot be written.
        """
        folder = Path(folder)
        ids = image_ids([photo.stem for photo in self._photos])
        records = []
        for index, photo in enumerate(self._photos):
            masks = self.masks[index]
            records += instance_records(ids[index], masks, self.scores[index], file_name=photo.name)
            write_atomically(folder / "masks" / f"{photo.stem}.png", ids_png(index_image(masks)))
            overlay = image_bytes(np.asarray(self.overlay(index)), "JPEG", quality=90)
            write_atomically(folder / "overlays" / f"{photo.stem}.jpg", overlay)
        listed = [
            {"id": number, "file_name": photo.name, "height": photo.size[0], "width": photo.size[1],
             "instances": len(one)}
            for number, photo, one in zip(ids, self._photos, self.scores)
        ]
        write_atomically(folder / "instances.json", json.dumps(records) + "\n")
        write_atomically(folder / "result.json", json.dumps({**self.card, "images": listed}, indent=1) + "\n")
        return folder

    def _masks(self, index: int) -> np.ndarray:
        height, width = self._photos[index].size
        masks = np.empty((len(self._found[index].masks), width, height), dtype=bool)
        for full, mask in zip(masks, self._found[index].masks):
            full[:] = enlarged(mask.T, (width, height))
        return masks.transpose(0, 2, 1)  # (k, H, W), column by column as run lengths go: turning 12 megapixels costs


def image_ids(stems: Sequence[str]) -> list[int]:
    """COCO image ids of files: their number where every name is one (000000000139 -> 139), else 1, 2, ...

    Raises:
        DataError: two files of one name.
    """
    double = same_name(stems)
    if double is not None:
        raise DataError(f"two images are named '{double}'; rename one, their results would overwrite each other")
    numbers = [int(stem) if stem.isascii() and stem.isdecimal() else None for stem in stems]
    distinct = None not in numbers and len(set(numbers)) == len(numbers)
    return numbers if distinct else list(range(1, len(stems) + 1))


def index_image(masks: np.ndarray) -> np.ndarray:
    """Masks (k, H, W) by falling score -> (H, W) uint8, k where mask k is the best of those that cover a pixel."""
    index = np.zeros(masks.shape[:0:-1], dtype=np.uint8).T  # laid out as masks of `Discovery` are
    for number in range(min(len(masks), 254), 0, -1):
        np.copyto(index, number, where=masks[number - 1])
    return index
