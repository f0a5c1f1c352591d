"""Images as people give them from Python: paths, Pillow images, arrays, tensors of torch. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .images import RGBImage, load_reduced, load_rgb, to_rgb

KINDS = "a path, a Pillow image, an array (H, W, 3) or a torch tensor (3, H, W)"
_CHANNELS = (1, 3, 4)


def given_images(images: Any, call: str = "segment") -> list[Any]:
    """Any iterable of images, each brought to a form that :func:`read_given` reads without loss; order kept.

    call: the function that was called, for the message.

    Raises:
        DataError: a single image, no iterable, no image, or something that is none.
    """
    listed = list(iterate_given(images, call))
    if not listed:
        raise DataError("a group needs at least 1 image, got none")
    return listed


def iterate_given(images: Any, call: str = "segment") -> Iterator[Any]:
    """As :func:`given_images`, one by one: a generator's images are not all kept. No image is no error."""
    single = isinstance(images, (str, bytes, os.PathLike, Image.Image, RGBImage))
    if single or getattr(images, "ndim", 4) < 4:
        raise DataError(f"a list of images was expected, got a single one; write {call}([image])")
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise DataError(f"a list of images was expected, got {_kind(images)}; each is {KINDS}")
    for number, image in enumerate(images, 1):
        yield given_image(image, f"image {number}")


def given_image(image: Any, name: str = "image") -> Path | Image.Image | np.ndarray | RGBImage:
    """One image in the form it is read from: paths as `Path`, tensors as arrays, the others as they are.

    Tensors are (3, H, W) or (H, W, 3), 1 or 4 channels too, or (H, W); uint8, bool, or floats in [0, 1] of any width,
    on any device. Where both first and last axis could be channels, the first is.

    Raises:
        DataError: something else; it says what can be given.
    """
    if isinstance(image, (str, bytes, os.PathLike)):
        return Path(os.fsdecode(image))
    if isinstance(image, (Image.Image, RGBImage, np.ndarray)):
        return image
    if hasattr(image, "detach") and hasattr(image, "cpu"):
        return _array_of(image, name)
    raise DataError(f"{name}: {KINDS} was expected, got {_kind(image)}")


def read_given(image: Any) -> RGBImage:
    """An image of any kind that :func:`given_image` takes, as upright RGB."""
    image = given_image(image)
    if isinstance(image, RGBImage):
        return image
    return load_rgb(image) if isinstance(image, Path) else to_rgb(image)


def read_reduced(image: Any, at_least: int) -> tuple[RGBImage, tuple[int, int]]:
    """As :func:`read_given`, but JPEG files come smaller, `at_least` pixels along either side where they have them; and
    the (height, width) of the upright photograph itself."""
    image = given_image(image)
    if isinstance(image, Path):
        return load_reduced(image, at_least)
    rgb = read_given(image)
    return rgb, rgb.size


def name_of(image: Any, index: int) -> str:
    """The file name of a given image, or image_0001, ... for one that came without."""
    if isinstance(image, (str, bytes, os.PathLike)):
        return Path(os.fsdecode(image)).name
    name = getattr(image, "name", "") or getattr(image, "filename", "")
    return (Path(name).name if isinstance(name, (str, os.PathLike)) else "") or f"image_{index + 1:04d}"


def _array_of(tensor: Any, name: str) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array = tensor.numpy()
    if array.ndim == 3 and array.shape[0] in _CHANNELS:
        array = np.moveaxis(array, 0, -1)  # (3, H, W) -> (H, W, 3)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise DataError(f"{name}: a tensor (3, H, W) or (H, W, 3) was expected, got {tuple(tensor.shape)}")
    return array


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__
