"""Frames of a video, one at a time: a folder of images, a video file, or anything that gives images one by one.

A video file needs PyAV (``pip install -e ".[video]"``); nothing else does. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image

from ..errors import DataError, MissingFileError, MissingPackageError
from ..files.given import iterate_given
from ..files.images import RGBImage, load_rgb, to_rgb
from ..files.listing import images_by_stem, left_out, plain_stem
from ..naming import natural_key

FrameLike = Union[str, Path, Image.Image, np.ndarray]
Frames = Union[str, Path, Iterable[FrameLike]]


@dataclass(frozen=True)
class Frame:
    """One frame: its number from 0, its name without suffix, and its picture (H, W, 3) uint8 RGB, upright."""

    index: int
    name: str
    image: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.image.shape[0], self.image.shape[1]


def read_frames(frames: Frames) -> Iterator[Frame]:
    """Frames in order, each decoded when it is asked for; none is kept.

    Args:
        frames: a folder of images (natural order), a video file, or an iterable, also a generator, of image files,
            Pillow images or arrays ((H, W), (H, W, 3) or (H, W, 4); uint8, uint16, bool or float in [0, 1]).

    Raises:
        MissingFileError: no such folder or file.
        DataError: a frame that cannot be decoded (the message names it), or no frame at all.
        MissingPackageError: a video file without PyAV.
    """
    count = 0
    for count, frame in enumerate(_pictures(frames), start=1):
        yield frame
    if count == 0:
        raise DataError("a video needs at least 1 frame, got none")


def list_frames(folder: str | Path) -> list[Path]:
    """The image files of a folder in natural order, each with a stem of its own.

    Raises:
        MissingFileError: no such folder. DataError: no image in it, or two of one stem.
    """
    by_stem = images_by_stem(folder)
    if not by_stem:
        others = left_out([folder])
        raise DataError(f"{folder}: no image in this folder" + (f"; {others}" if others else ""))
    return [by_stem[stem] for stem in sorted(by_stem, key=natural_key)]


def count_frames(path: str | Path) -> int | None:
    """How many frames a folder or video file has; None where the file does not say."""
    path = Path(path)
    if path.is_dir():
        return len(list_frames(path))
    with _open_video(path) as container:
        return container.streams.video[0].frames or None


def _pictures(frames: Frames) -> Iterator[Frame]:
    if isinstance(frames, (str, bytes, os.PathLike)):
        path = Path(os.fsdecode(frames))
        if path.is_dir():
            frames = list_frames(path)
        else:
            yield from _video_frames(path)
            return
    if isinstance(frames, Image.Image) or getattr(frames, "ndim", 4) < 4:
        raise DataError("frames of a video were expected, got a single image; write [image], or name a folder")
    for index, picture in enumerate(iterate_given(frames, "propagate")):
        if isinstance(picture, Path):
            yield Frame(index, plain_stem(Path(picture)), load_rgb(picture).array)
        else:
            name = f"{index:05d}"
            array = picture.array if isinstance(picture, RGBImage) else to_rgb(picture, f"frame {name}").array
            yield Frame(index, name, array)


def _video_frames(path: Path) -> Iterator[Frame]:
    with _open_video(path) as container:
        for index, picture in enumerate(_decoded(container, path)):
            yield Frame(index, f"{index:05d}", upright(picture.to_ndarray(format="rgb24"), picture.rotation))


def upright(image: np.ndarray, degrees: float) -> np.ndarray:
    """image (H, W, 3) turned by `degrees` against the clock, to the nearest quarter: how the camera was held."""
    return np.ascontiguousarray(np.rot90(image, round(degrees / 90)))


def _decoded(container, path: Path) -> Iterator:
    av = import_av()
    try:
        yield from container.decode(video=0)
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: cannot be decoded as a video ({error}); convert it or cut it into images") from None


def _open_video(path: Path):
    if not path.is_file():
        raise MissingFileError(f"{path}: no such folder of frames or video file")
    av = import_av()
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: cannot be read as a video ({error}); give images or a video file") from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no pictures; give a folder of images or a video file")
    return container


def import_av():
    """PyAV, which reads video files.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingPackageError(
            'video files are read by PyAV, which is not installed; run pip install -e ".[video]", or give a folder of '
            "images"
        ) from None
    return av
