"""Making a store (:mod:`ssnm.data.store`) out of a source: in parallel, and resumable however it was stopped.

A worker decodes a chunk of images, writes its bytes to their places, flushes them to the disk and hands back the
chunk's record; only then the parent adds the record to chunks.jsonl. A run that finds records checks each
chunk against its checksum and writes again what does not fit.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.atomic import remove_partials, write_atomically
from .records import Sample, Source
from .store import (
    IMAGES,
    MANIFEST,
    MASKS,
    RECORDS,
    VOIDS,
    StoreManifest,
    chunk_digest,
    read_manifest,
    read_records,
)

CHUNK_IMAGES = 256  # 40 MB at 224 x 224: what a kill can cost a worker


@dataclass(frozen=True)
class StoreReport:
    """written, kept: chunks; image_bytes, mask_bytes: of the files; bad: image -> why it could not be read."""

    images: int
    written: int
    kept: int
    image_bytes: int
    mask_bytes: int
    bad: dict[str, str]


def write_store(
    source: Source,
    root: str | Path,
    size: tuple[int, int],
    workers: int = 0,
    chunk_images: int = CHUNK_IMAGES,
    progress: Callable[[int, int], None] | None = None,
) -> StoreReport:
    """Write, or finish, the store of `source` at `size` = (height, width) in the folder `root`.

    An image that cannot be read is written down with its problem, which :class:`ssnm.data.store.StoreSource`
    raises again when it is asked for that image; running again tries such images anew.

    Args:
        workers: processes; 0 or 1 works in this one.
        progress: called with (chunks done, chunks in all).

    Raises:
        DataError: the folder holds a store of another source or size; disk full; a worker was killed.
    """
    root = Path(root)
    manifest = _begin(source, root, size, chunk_images)
    records = {n: r for n, r in read_records(root).items() if 0 <= n < manifest.num_chunks}
    write_atomically(root / RECORDS, b"".join(map(_line, records.values())))  # without a line that a kill cut off
    writer = _ChunkWriter(source, root, manifest)
    tasks = [(number, records.get(number)) for number in range(manifest.num_chunks)]
    written = 0
    with open(root / RECORDS, "ab") as file:
        for done, (record, new) in enumerate(_run(writer, tasks, workers), 1):
            if new:
                _append(file, record)
                written += 1
            records[record["chunk"]] = record
            if progress:
                progress(done, len(tasks))
    bad = {manifest.images[int(i)] or manifest.names[int(i)]: p for r in records.values() for i, p in r["bad"].items()}
    return StoreReport(
        images=manifest.num_images,
        written=written,
        kept=len(tasks) - written,
        image_bytes=manifest.num_images * manifest.image_bytes,
        mask_bytes=len(manifest.pairs) * manifest.mask_bytes,
        bad=bad,
    )


def _begin(source: Source, root: Path, size: tuple[int, int], chunk_images: int) -> StoreManifest:
    """The manifest on disk, which a new store gets and an unfinished one must agree with."""
    if min(size) < 1 or chunk_images < 1:
        raise DataError(f"a store needs a size and chunks of at least 1, got {tuple(size)} and {chunk_images}")
    if (root / MANIFEST).exists():
        manifest = read_manifest(root)
        difference = manifest.difference(source)
        if manifest.size != tuple(size):
            difference = f"images of size {manifest.size}, not {tuple(size)}"
        if difference:
            raise DataError(f"{root}: holds another store, with {difference}; choose another folder or remove that one")
        return manifest
    manifest = StoreManifest.of(source, size, chunk_images)
    root.mkdir(parents=True, exist_ok=True)
    remove_partials(root)
    need = manifest.num_images * manifest.image_bytes + len(manifest.pairs) * manifest.mask_bytes
    free = shutil.disk_usage(root).free
    if need > free:
        raise DataError(f"{root}: the store takes {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room or "
                        "choose another disk or a smaller size")  # fmt: skip
    write_atomically(root / MANIFEST, manifest.to_json())
    return manifest


@dataclass
class _ChunkWriter:
    source: Source
    root: Path
    manifest: StoreManifest

    def __call__(self, number: int, record: dict | None) -> tuple[dict, bool]:
        """(record of the chunk, whether it was written now). A chunk with unreadable images is always tried again."""
        if record is not None and not record["bad"]:
            if chunk_digest(self.root, self.manifest, number, record["void"]) == record["sha256"]:
                return record, False
        images, masks, voids, record = self._decode(number)
        start = self.manifest.chunk(number).start
        first_row = int(self.manifest.mask_rows[start])
        digest = hashlib.sha256()
        try:
            self._write(IMAGES, [(start * self.manifest.image_bytes, images)], digest)
            self._write(MASKS, [(first_row * self.manifest.mask_bytes, masks)], digest)
            if voids:
                self._write(VOIDS, [(i * self.manifest.mask_bytes, row) for i, row in voids.items()], digest)
        except OSError as error:
            raise DataError(
                f"{self.root}: cannot be written ({error.strerror}); mend that and run the same command again"
            ) from None
        return {**record, "sha256": digest.hexdigest()}, True

    def _decode(self, number: int) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray], dict]:
        """images (m, 3, H, W), masks (rows, bytes) packed, void row of each image that has one, the record so far."""
        chunk, rows = self.manifest.chunk(number), self.manifest.mask_rows
        images = np.zeros((len(chunk), 3, *self.manifest.size), np.uint8)
        masks = np.zeros((int(rows[chunk.stop] - rows[chunk.start]), self.manifest.mask_bytes), np.uint8)
        voids: dict[int, np.ndarray] = {}
        grey, bad = [], {}
        for i in chunk:
            try:
                sample: Sample = self.source.load(i, self.manifest.size)
            except (DataError, MissingFileError) as error:
                bad[str(i)] = str(error)
                continue
            images[i - chunk.start] = sample.image.numpy()
            masks[rows[i] - rows[chunk.start] : rows[i + 1] - rows[chunk.start]] = _pack(sample.masks.numpy())
            if sample.void.any():
                voids[i] = _pack(sample.void.numpy()[None])[0]
            if sample.grey:
                grey.append(i)
        return images, masks, voids, {"chunk": number, "grey": grey, "void": list(voids), "bad": bad}

    def _write(self, name: str, parts: list[tuple[int, np.ndarray]], digest) -> None:
        """Put each array at its offset of the file and wait until the disk has it. Other processes write elsewhere
        in the same file; what was there of an interrupted run is overwritten."""
        handle = os.open(self.root / name, os.O_RDWR | os.O_CREAT, 0o644)
        with open(handle, "r+b", buffering=0) as file:
            for offset, array in parts:
                if not array.size:
                    continue
                data = memoryview(np.ascontiguousarray(array)).cast("B")
                digest.update(data)
                file.seek(offset)
                while len(data):
                    data = data[file.write(data) :]
            os.fsync(handle)


def _pack(masks: np.ndarray) -> np.ndarray:
    """(K, H, W) bool -> (K, ceil(H*W/8)) uint8."""
    return np.packbits(masks.reshape(len(masks), -1), axis=1)


def _line(record: dict) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _append(file, record: dict) -> None:
    file.write(_line(record))
    file.flush()
    os.fsync(file.fileno())


_writer: _ChunkWriter | None = None  # of a worker process: handed over once, not with every chunk


def _run(writer: _ChunkWriter, tasks: list[tuple[int, dict | None]], workers: int) -> Iterator[tuple[dict, bool]]:
    """What `writer` says of each task, in the order in which they are done."""
    if workers <= 1:
        yield from (writer(*task) for task in tasks)
        return
    forks = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else None)
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker, (writer,))
    try:
        for future in as_completed([pool.submit(_work, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{writer.root}: a worker was killed (out of memory?); run the same command again, with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(writer: _ChunkWriter) -> None:
    global _writer
    _writer = writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent decides when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers: they would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: tuple[int, dict | None]) -> tuple[dict, bool]:
    return _writer(*task)
