"""The small pictures of one image that the report page carries: photograph, truth, and per run map, mask, spatial mask.

All of one image have one size, so that the page can lay them over each other: photographs and maps are JPEG, masks
one-bit PNG, spatial masks their own few numbers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..files.given import read_reduced
from ..files.images import bounded
from ..files.masks import fitting, read_binary
from .records import ImageFiles, MapRecord

THUMBNAIL_SIDE = 480
PHOTO_QUALITY = 82
MAP_QUALITY = 75


@dataclass(frozen=True)
class ImageLayers:
    """size: (width, height) of the thumbnails; layers: what the page's script reads, plain values and base64 text;
    disagreement: 1 - J between the masks of two runs, None for one run."""

    size: tuple[int, int]
    layers: dict[str, Any]
    disagreement: float | None


def image_layers(
    files: ImageFiles, maps: Sequence[MapRecord], limits: Sequence[float], side: int = THUMBNAIL_SIDE
) -> ImageLayers:
    """Read the files of one image and make its thumbnails, `side` pixels along the longer side or less.

    Args:
        maps: one per run.
        limits: per run, the absolute value of the spatial mask that gets the full colour.

    Raises:
        MissingFileError, DataError: a file is missing or cannot be decoded.
    """
    rgb, shape = read_reduced(fitting(files.image, files.truth), 2 * side)
    photo, size = Image.fromarray(rgb.array), bounded(shape[::-1], side)
    layers: dict[str, Any] = {"photo": _jpeg(photo.resize(size, Image.Resampling.LANCZOS), PHOTO_QUALITY)}
    if files.truth is not None:
        layers["truth"] = _png(_shrink_mask(read_binary(files.truth).object, size))
    cut = [_map_layers(record, limit, size) for record, limit in zip(maps, limits, strict=True)]
    layers["runs"] = [run for run, _ in cut]
    disagreement = _disagreement(cut[0][1], cut[1][1]) if len(cut) == 2 else None
    return ImageLayers(size, layers, disagreement)


def _map_layers(record: MapRecord, limit: float, size: tuple[int, int]) -> tuple[dict[str, Any], np.ndarray]:
    """The layers of one run, and its mask at thumbnail size."""
    values = read_binary(record.path).values
    values = values.astype(np.float64) / (record.full_scale if values.dtype == np.uint8 else 1)
    mask = _shrink_mask(values > record.threshold, size)
    grey = Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    run: dict[str, Any] = {
        "probability": _jpeg(grey.resize(size, Image.Resampling.BILINEAR), MAP_QUALITY),
        "mask": _png(mask),
    }
    if record.spatial_mask is not None:
        run["spatial"] = _spatial_layer(record.spatial_mask, limit)
    return run, mask


def _spatial_layer(spatial_mask: np.ndarray, limit: float) -> list[Any]:
    """[height, width, base64 of bytes 0..254]; 127 is zero, 254 and 0 are +limit and -limit."""
    scaled = np.asarray(spatial_mask, np.float64) / limit if limit > 0 else np.zeros(spatial_mask.shape)
    levels = (np.nan_to_num(scaled).clip(-1, 1) * 127 + 127).round().astype(np.uint8)
    return [*levels.shape, _base64(levels.tobytes())]


def _shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) > 127


def _disagreement(first: np.ndarray, second: np.ndarray) -> float:
    """1 - J of two masks; two empty ones agree."""
    union = int(np.count_nonzero(first | second))
    return 0.0 if union == 0 else 1 - int(np.count_nonzero(first & second)) / union


def _jpeg(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return _base64(buffer.getvalue())


def _png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    one_bit = Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE)
    one_bit.save(buffer, "PNG", optimize=True)
    return _base64(buffer.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
