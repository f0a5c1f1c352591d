"""COCO-SEG as a training source: an index (:mod:`ssnm.data.coco_index`) plus the folder of images.

The names that users need are all here: build an index from annotations, write and read it, train from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError, MissingFileError
from ..files.images import AMBIGUOUS, RGBImage, load_rgb, same_aspect
from ..files.places import inside
from .coco_index import CocoSegIndex, read_index, write_index
from .coco_seg import build_index
from .records import Item, Sample
from .resizing import resize_image, resize_mask

__all__ = ["CocoSegSource", "build_index", "read_index", "write_index"]


class CocoSegSource:
    """The images of a COCO-SEG index; implements :class:`ssnm.data.records.Source`.

    Image files may be smaller or larger than their annotations (a shrunken copy), not of another aspect.

    Raises:
        MissingFileError: no such index, or no such folder of images.
        DataError: the index cannot be used, or names an image outside the folder.
    """

    def __init__(self, index_path: str | Path, images_root: str | Path, name: str = "coco") -> None:
        self.name = name
        self._root = Path(images_root)
        self._index = read_index(index_path)
        if not self._root.is_dir():
            raise MissingFileError(f"{self._root}: no such folder; give the folder that holds the images of "
                                   f"{index_path}, such as train2017")
        self.categories: tuple[str, ...] = self._index.category_names
        for image_name in self._index.file_names:
            if ".." in image_name or Path(image_name).is_absolute():
                inside(self._root, image_name)
        self.items: Sequence[Item] = _Items(self._index, self._root)

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Decode image `index` and its masks at `size` = (height, width).

        Each category's mask is drawn at annotation size, resized and cut at 0.5 on its own. COCO marks no
        void pixels, so ``void`` is False everywhere.

        Raises:
            MissingFileError: the image file is not in the folder.
            DataError: it cannot be decoded, or has another aspect than its annotations.
        """
        return self._load(index, size, lambda masks: masks)

    def load_union(self, index: int, categories: Collection[str], size: tuple[int, int]) -> Sample:
        """As :meth:`load` with one mask: the union of those of `categories`, made at full size, then resized.

        A pixel that two objects cover by a third each belongs to this mask, and to none of :meth:`load`'s.
        """

        def union(masks: Iterable[np.ndarray]) -> list[np.ndarray]:
            names = self.items[index].categories
            return [np.logical_or.reduce([mask & (name in categories) for mask, name in zip(masks, names)])]

        return self._load(index, size, union)

    def _load(self, index: int, size: tuple[int, int], choose: Callable) -> Sample:
        index = range(len(self.items))[index]
        image = self._read_image(index)
        masks = [resize_mask(mask, size) for mask in choose(self._index.masks_of(index))]
        return Sample(
            image=resize_image(image.array, size),
            masks=torch.stack(masks),  # K times (H, W) -> (K, H, W)
            void=torch.zeros(size, dtype=torch.bool),
            grey=image.grey,
        )

    def _read_image(self, index: int) -> RGBImage:
        path = self.items[index].image
        annotated = (int(self._index.sizes[index, 0]), int(self._index.sizes[index, 1]))
        rgb = load_rgb(path, fits=annotated)
        if not same_aspect(rgb.size, annotated):
            raise DataError(f"{path}: {rgb.size[1]}x{rgb.size[0]} pixels, but its annotations are for "
                            f"{annotated[1]}x{annotated[0]}; put the image that was annotated there")
        if rgb.ambiguous:
            warnings.warn(f"{path}: {AMBIGUOUS}", stacklevel=2)
        return rgb


class _Items(Sequence):
    """Items made on request: 107,000 `Path` objects held in a list would be copied into every worker."""

    def __init__(self, index: CocoSegIndex, root: Path) -> None:
        self._index = index
        self._root = root

    def __len__(self) -> int:
        return self._index.num_images

    def __getitem__(self, position):
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        position = range(len(self))[position]
        name = self._index.file_names[position]
        return Item(name=name, image=self._root / name, categories=self._index.categories_of(position))
