"""Writing files so that a reader never sees a half of one, whenever the writer was stopped. No torch."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError

_SUFFIX = ".part"


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` beside `path` under a hidden name, flush it to the disk, and rename it into place.

    Raises:
        DataError: the file cannot be written (disk full, no permission).
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); mend that and run the same command again"
        ) from None


def remove_partials(root: str | Path) -> int:
    """Remove what an interrupted :func:`write_atomically` left anywhere under `root`; returns how many files."""
    partials = list(Path(root).rglob(f".*{_SUFFIX}"))
    for partial in partials:
        partial.unlink(missing_ok=True)
    return len(partials)


def mask_png(mask: np.ndarray) -> bytes:
    """A boolean mask (H, W) as the bytes of a one-channel 0/255 PNG, the same bytes for the same mask."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(mask, dtype=bool).astype(np.uint8) * 255).save(buffer, format="PNG")
    return buffer.getvalue()
