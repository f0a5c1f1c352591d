"""Writing files so that a reader never sees a half of one, whenever the writer was stopped. No torch.

The one way in which this package writes a file that matters: under a hidden name beside it, flushed to the disk, read
back in size, and renamed into place.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError

_SUFFIX = ".part"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    Raises:
        DataError: the file or its folder cannot be written (disk full, no permission). What was there stays.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync_folder(path.parent)
    finally:
        with _ignored():
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What goes wrong with the disk in this block is an error that names `path`; for files that only grow, as logs.

    Raises:
        DataError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        problem = error.strerror or str(error)
        raise DataError(f"{path}: cannot be written ({problem}); mend that and run the same command again") from None


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8; of names that are no text the odd bytes as backslash escapes) to `path`; see
    :func:`replacing`.

    Raises:
        DataError: the file cannot be written, or fewer bytes than given arrived on the disk.
    """
    data = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with replacing(path) as partial:
        partial.write_bytes(data)
        if partial.stat().st_size != len(data):
            raise OSError(f"{partial.stat().st_size} of {len(data)} bytes were written: is the disk full?")


def require_writable(folder: str | Path) -> None:
    """Make `folder` and see that a file can be written there: before the work whose results are to go there.

    Raises:
        DataError: it cannot.
    """
    probe = Path(folder) / f".{os.getpid()}{_SUFFIX}"
    with writing(folder):
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()


def remove_partials(root: str | Path) -> int:
    """Remove what an interrupted writer left anywhere under `root`; returns how many files."""
    partials = list(Path(root).rglob(f".*{_SUFFIX}"))
    for partial in partials:
        partial.unlink(missing_ok=True)
    return len(partials)


def image_bytes(image: np.ndarray | Image.Image, format: str = "PNG", **options) -> bytes:
    """An image, (H, W) or (H, W, 3) uint8, encoded; the same bytes for the same pixels. options: Pillow's."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def arrays_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the bytes of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def mask_png(mask: np.ndarray) -> bytes:
    """A boolean mask (H, W) as the bytes of a one-channel 0/255 PNG.

    Written here because masks are runs of one value: unfiltered rows under zlib's run-length strategy take a third of
    the time that Pillow takes to try every filter on every row, and fewer bytes.
    """
    mask = np.asarray(mask, dtype=bool)
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with the number of its filter, 0: none
    np.multiply(mask, np.uint8(255), out=rows[:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey
    parts = ((b"IHDR", header), (b"IDAT", packer.compress(rows) + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*part) for part in parts)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass  # a read-only folder: nothing was written there


def _sync_folder(folder: Path) -> None:
    """Make the renaming last; a file system that cannot (Windows, some network disks) does so in its own time."""
    with _ignored():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
