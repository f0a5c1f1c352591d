"""Maps of a teacher: what another network says about the training images, read from one file.

The file is an .npz with `names` (n) "folder/stem" and `maps` (n, h, w) uint8, the map of each image squeezed to a
square, 255 = object. An image is looked up by the nearest of the folders it lies in for which there is a name, so
that `COCO_extra/images/000000000785.jpg` finds "COCO_extra/000000000785".

Distillation: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015); here the teacher is a
salient-object network, which knows what an object is, and not which.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError, MissingFileError
from .records import Item, Sample, Source


class TeacherMaps:
    """The maps of one file.

    Raises:
        MissingFileError: no such file.
        DataError: it does not hold what the module's docstring says.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file of teacher maps; set data.teacher to one, or to nothing")
        try:
            with np.load(path, allow_pickle=False) as content:
                names, self._maps = content["names"], content["maps"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: an .npz with the arrays `names` and `maps` was expected ({error})") from None
        if self._maps.dtype != np.uint8 or self._maps.ndim != 3 or names.shape != self._maps.shape[:1]:
            raise DataError(f"{path}: names (n) and maps (n, h, w) uint8 were expected, got {names.shape} and "
                            f"{self._maps.shape} {self._maps.dtype}")  # fmt: skip
        self._number = {str(name): k for k, name in enumerate(names)}

    def of(self, item: Item, size: tuple[int, int]) -> Tensor | None:
        """The map of an image at `size` = (height, width), uint8, bilinear; None where the file has none."""
        number = self._find(item)
        if number is None:
            return None
        resized = Image.fromarray(self._maps[number]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized))

    def _find(self, item: Item) -> int | None:
        if item.image is None:
            return None
        path = Path(item.image)
        keys = (f"{folder.name}/{path.stem}" for folder in path.parents)
        return next((self._number[key] for key in keys if key in self._number), None)


class Taught:
    """A source whose samples carry the teacher's map of the image, where there is one."""

    def __init__(self, source: Source, maps: TeacherMaps) -> None:
        self.source, self.maps, self.name = source, maps, source.name
        self.categories, self.items = source.categories, source.items

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """As the source's own, with `teacher` set."""
        return replace(self.source.load(index, size), teacher=self.maps.of(self.items[index], size))
