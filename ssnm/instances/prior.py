"""Saliency priors: the maps S^ that the co-saliency of a group is fitted to.

A prior is a folder of grey maps, any function of the images, or the label-free one here. Whether a prior was trained
on masks decides what a result may be compared with, so it is carried along and stands in every result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, MissingFileError
from ..files.listing import images_by_stem, plain_stem, shorten
from ..files.masks import read_maps
from .proposal_files import read_variable

NEAREST = 8  # cells of the border that a cell is compared with: the border may show several things
SALIENCY_VARIABLE = "SalMap"  # in the .mat files of the paper's data

PriorFunction = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class PriorRecord:
    """What stands in a result. trained: whether the prior learned from masks; None = not said."""

    name: str
    trained: bool | None

    def __str__(self) -> str:
        said = {True: "yes", False: "no", None: "not said"}[self.trained]
        return f"prior {self.name}, prior trained: {said}"


def border_prior(features: np.ndarray) -> np.ndarray:
    """How far the features of each cell are from those at the image's border, where things seldom lie. No labels.

    The distance is 1 - cosine, its mean over the nearest border cells, stretched to [0, 1] image by image.

    Args:
        features: (C, h, w), h and w at least 2.

    Returns:
        (h, w) float32 in [0, 1]; zeros where all cells are alike.
    """
    height, width = features.shape[1:]
    cells = _unit_cells(features)  # (hw, C)
    inner = np.zeros((height, width), dtype=bool)
    inner[1:-1, 1:-1] = True
    border = np.flatnonzero(~inner)
    distance = 1 - cells @ cells[border].T  # (hw, border)
    distance[border, np.arange(len(border))] = np.inf  # not to itself
    count = min(NEAREST, len(border) - 1)
    return _stretched(np.sort(distance, axis=1)[:, :count].mean(axis=1).reshape(height, width))


def group_border_priors(features: np.ndarray) -> list[np.ndarray]:
    """:func:`border_prior` of each image, weighted by how well a cell recurs in the other images of the group.

    A cell recurs if it is like some cell of every other image that is itself unlike that image's border: what all
    images show is kept, what lies in one of them alone fades. Still no labels. Of one image alone the border decides.

    Args:
        features: (N, C, h, w), not negative.

    Returns:
        N maps (h, w) float32 in [0, 1].
    """
    own = [border_prior(one) for one in features]
    if len(features) == 1:
        return own
    cells = [_unit_cells(one) for one in features]  # N times (hw, C)
    maps = []
    for index, here in enumerate(cells):
        likeness = [
            (here @ cells[other].T * own[other].reshape(1, -1)).max(axis=1)  # (hw,): the best cell of that image
            for other in range(len(cells))
            if other != index
        ]
        recurs = _stretched(np.mean(likeness, axis=0).reshape(own[index].shape))
        maps.append(_stretched(own[index] * recurs))
    return maps


def _unit_cells(features: np.ndarray) -> np.ndarray:
    """(C, h, w) -> (hw, C), each row of length 1."""
    cells = features.reshape(len(features), -1).T.astype(np.float32)
    return cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)


def _stretched(values: np.ndarray) -> np.ndarray:
    """To [0, 1]; zeros where all are alike."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low)).astype(np.float32) if high - low > 1e-6 else np.zeros_like(values)


def folder_prior(folder: str | Path, names: Sequence[str]) -> list[np.ndarray]:
    """The maps of a folder: NAME.png (or any other image), grey, or NAME.mat with `SalMap`, one per image.

    Args:
        names: of the images, with or without suffix.

    Returns:
        (H, W) float32 in [0, 1] per image, pictures by :func:`ssnm.files.masks.read_maps`.

    Raises:
        MissingFileError, DataError: no folder, no map of an image, or a file that is not a map.
    """
    folder = Path(folder)
    pictures = images_by_stem(folder)
    stored = {plain_stem(path): path for path in folder.glob("*.mat")}
    stems = [plain_stem(Path(name)) for name in names]
    missing = [stem for stem in stems if stem not in pictures and stem not in stored]
    if missing:
        raise MissingFileError(f"{folder}: no map of image {shorten(missing)}; {missing[0]}.png (grey) or "
                               f"{missing[0]}.mat was looked for")  # fmt: skip
    shown = [stem for stem in stems if stem in pictures]
    maps = dict(zip(shown, read_maps([pictures[stem] for stem in shown])))
    return [maps[stem] if stem in maps else checked_map(read_variable(stored[stem], SALIENCY_VARIABLE),
                                                        str(stored[stem])) for stem in stems]  # fmt: skip


def given_prior(values: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps that a caller computed, checked: one (H, W) in [0, 1] per image, brought to nothing but float32.

    Raises:
        DataError: another number of maps, or what is no map.
    """
    maps = list(values)
    if len(maps) != len(images):
        raise DataError(f"prior: {len(images)} maps are needed, one per image, got {len(maps)}")
    return [checked_map(one, f"prior of image {i + 1}") for i, one in enumerate(maps)]


def checked_map(values: Any, where: str) -> np.ndarray:
    """A map as (H, W) float32 in [0, 1]; uint8 is divided by 255.

    Raises:
        DataError: another shape or type, or values outside [0, 1].
    """
    array = np.asarray(values)
    if array.ndim != 2 or not array.size:
        raise DataError(f"{where}: a map (H, W) was expected, got {array.shape}")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{where}: floats in [0, 1] or uint8 were expected, got {array.dtype}")
    if not (0 <= float(array.min()) and float(array.max()) <= 1):  # also false for nan
        raise DataError(f"{where}: values in [0, 1] were expected, got [{array.min():g}, {array.max():g}]")
    return array.astype(np.float32)


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) at (H, W), bilinear with antialiasing, float32."""
    if values.shape == size:
        return values
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
