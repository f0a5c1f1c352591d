"""What `ssnm video` leaves in its folder, frame by frame, and how a second run goes on. No torch.

    DIR/masks/FRAME.png          ids at the frame's own size, with the palette of the given mask
    DIR/overlays/FRAME.jpg       the frame with every object tinted
    DIR/probabilities/FRAME.npz  on request: probabilities (n, h, w) float32, object_ids (n,)
    DIR/preview.webp             at the end: the overlays as a small animation
    DIR/progress.npz             the last frame done and its masks at network size

Every file is written atomically, progress.npz last: whenever a run is stopped, what is there is whole and right.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import ConfigError, DataError
from ..files.atomic import arrays_bytes, image_bytes, remove_partials, write_atomically
from ..files.ids import ids_png

if TYPE_CHECKING:
    from .propagate import FrameResult

PROGRESS = "progress.npz"
PREVIEW_FRAMES, PREVIEW_SIDE, PREVIEW_QUALITY = 100, 480, 60
FRAME_MILLISECONDS = 40


@dataclass(frozen=True)
class Progress:
    """frame: number of the last frame done, -1: none; masks: id -> (h, w) bool; job: what the run was given."""

    frame: int = -1
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)


class ResultsFolder:
    """The folder of one run.

    Args:
        folder: where to write.
        job: plain values that decide the masks (model, frames, mask, size, ...): a second run must have the same.
        palette: RGB bytes of the index PNGs, None: DAVIS's.
        save_probabilities: also write the maps.
    """

    def __init__(
        self, folder: str | Path, job: dict[str, Any], palette: bytes | None = None, save_probabilities: bool = False
    ) -> None:
        self.folder, self.job, self.palette = Path(folder), json.loads(json.dumps(job)), palette
        self.save_probabilities = save_probabilities

    def begin(self, resume: bool) -> Progress:
        """Where to go on.

        Raises:
            ConfigError: the folder holds a run and `resume` is False, or one that was given other things.
        """
        if not (self.folder / PROGRESS).is_file():
            return Progress()
        if not resume:
            raise ConfigError(
                f"{self.folder}: holds the masks of a run; add --resume to go on with it, or give another folder"
            )
        progress = read_progress(self.folder / PROGRESS)
        keys = sorted({*progress.job, *self.job})
        other = next((key for key in keys if progress.job.get(key) != self.job.get(key)), None)
        if other is not None:
            raise ConfigError(f"{self.folder}: holds a run with another {other} ({progress.job.get(other)!r}, now "
                              f"{self.job.get(other)!r}); repeat its command, or give another folder")  # fmt: skip
        remove_partials(self.folder)
        return progress

    def write(self, result: "FrameResult", masks: dict[int, np.ndarray]) -> None:
        """The files of one frame, then the progress. masks: id -> (h, w) bool after this frame."""
        write_atomically(self.folder / "masks" / f"{result.name}.png", ids_png(result.ids, self.palette))
        overlay = image_bytes(np.asarray(result.overlay()), "JPEG", quality=90)
        write_atomically(self._overlay(result.name), overlay)
        if self.save_probabilities:
            ids = np.array(result.object_ids, np.uint8)
            maps = arrays_bytes({"probabilities": result.probabilities, "object_ids": ids})
            write_atomically(self.folder / "probabilities" / f"{result.name}.npz", maps)
        write_progress(self.folder / PROGRESS, Progress(result.index, masks, self.job))

    def finish(self, names: list[str]) -> None:
        """Write the preview from the overlays of the frames `names`."""
        count = min(PREVIEW_FRAMES, len(names))
        picks = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))]
        paths = [path for path in map(self._overlay, picks) if path.is_file()]
        if paths:
            pace = round(FRAME_MILLISECONDS * len(names) / len(paths))
            write_atomically(self.folder / "preview.webp", animation([_thumbnail(path) for path in paths], pace))

    def _overlay(self, name: str) -> Path:
        return self.folder / "overlays" / f"{name}.jpg"


def write_progress(path: Path, progress: Progress) -> None:
    """The last frame and its masks, one bit a pixel."""
    ids = sorted(progress.masks)
    shape = progress.masks[ids[0]].shape if ids else (0, 0)
    packed = [np.packbits(progress.masks[i]) for i in ids]
    stored = {"frame": np.array(progress.frame), "ids": np.array(ids, np.uint8), "shape": np.array(shape),
              "bits": np.array(packed, np.uint8), "job": np.array(json.dumps(progress.job))}  # fmt: skip
    write_atomically(path, arrays_bytes(stored))


def read_progress(path: Path) -> Progress:
    """Raises:
        DataError: the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            shape = tuple(int(side) for side in stored["shape"])
            bits = [np.unpackbits(row, count=shape[0] * shape[1]).astype(bool) for row in stored["bits"]]
            masks = {int(i): row.reshape(shape) for i, row in zip(stored["ids"], bits, strict=True)}
            return Progress(int(stored["frame"]), masks, json.loads(str(stored["job"])))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}); remove it and run again without --resume") from None


def animation(pictures: list[Image.Image], milliseconds: int) -> bytes:
    """Pictures of one size as an animated WebP that repeats."""
    buffer = io.BytesIO()
    pictures[0].save(buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0,
                     quality=PREVIEW_QUALITY)  # fmt: skip
    return buffer.getvalue()


def _thumbnail(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        return picture.convert("RGB")
