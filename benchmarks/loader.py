"""How fast training groups are loaded: from the image files, and from a store made of them.

    python benchmarks/loader.py [--data FOLDER] [--size 224] [--seconds 5] [--workers 0 1 2]

FOLDER is COCO_mini549 of the shared data (images/ and instances_mini549.json; default: the one under SSNM_DATA).
Without it procedural pictures of 640x480, written as JPEG files into a temporary folder, take its place: the figures
are then those of that data. The data are read once before, so both kinds come from the file cache, not from the disk.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Sequence

import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installation

from ssnm.coseg.groups import GroupDataset, collate_groups
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDrawer, StepSampler
from ssnm.data.augment import Augmentation
from ssnm.data.coco import CocoSegSource
from ssnm.data.coco_index import write_index
from ssnm.data.coco_seg import build_index
from ssnm.data.folders import ProcessedSource
from ssnm.data.procedural import write_procedural
from ssnm.data.records import Source
from ssnm.data.store import StoreSource, write_store
from ssnm.metrics.tables import text_table

GROUPS, GROUP_SIZE = 4, 5  # images of a step: 4 x 5, as in the paper
REPEATS = 3


def measure(
    data: Path | None = None, size: int = 224, seconds: float = 5.0, workers: Sequence[int] = (0, 1, 2)
) -> dict[str, Any]:
    """Images per second (median of REPEATS runs of `seconds` / REPEATS) for files and store and each number of workers.

    Without workers one process does it all, and its CPU time is known too: images per CPU second are what one worker
    does on a core of its own, also where other programs share the machine. The store is written by one process.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = _source(data, Path(folder))
        begin = time.perf_counter()
        report = write_store(files, Path(folder) / "store", (size, size))
        written = report.images / (time.perf_counter() - begin)
        store = StoreSource(Path(folder) / "store", (size, size), files)
        for (name, source), number in itertools.product((("files", files), ("store", store)), workers):
            rates = _rates(source, size, seconds / REPEATS, number)
            walls, per_cpu = zip(*rates)
            row = {"from": name, "workers": number, "images_per_second": median(walls)}
            row["spread"] = max(walls) - min(walls)
            row["images_per_cpu_second"] = None if number else median(per_cpu)
            rows.append(row)
    return {
        "name": "loader",
        "data": files.name if data is None else data.name,
        "images": report.images,
        "size": size,
        "store_mb": report.num_bytes / 1e6,
        "written_per_second": written,
        "machine": machine(),
        "rows": rows,
    }


def machine() -> str:
    """Processor, cores, and what else is going on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    name = models[0].partition(": ")[2] if models else name
    return f"{name}, {os.cpu_count()} cores{load}, torch {torch.__version__}"


def _source(data: Path | None, folder: Path) -> Source:
    if data is None:
        write_procedural(folder / "pictures", images_per_kind=5, size=(480, 640))
        return ProcessedSource(folder / "pictures", name="procedural")
    write_index(build_index(data / "instances_mini549.json", min_images=GROUP_SIZE), folder / "index.json")
    return CocoSegSource(folder / "index.json", data / "images")


def _rates(source: Source, size: int, seconds: float, workers: int) -> list[tuple[float, float]]:
    """(images per second, images per CPU second of this process) of REPEATS runs, after the workers have started and
    a first pass has warmed the caches."""
    drawer = GroupDrawer(ImagePool([source]), GROUP_SIZE, "size")
    loader = DataLoader(
        GroupDataset(drawer.pool, (size, size), Augmentation()),
        batch_sampler=StepSampler(drawer, GROUPS, seed=0, start=0, stop=10**6),
        num_workers=workers,
        collate_fn=collate_groups,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
    )
    batches = iter(loader)
    _run(batches, seconds / 2)  # also empties what was prefetched while nothing was measured
    return [_run(batches, seconds) for _ in range(REPEATS)]


def _run(batches, seconds: float) -> tuple[float, float]:
    begin, cpu, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < seconds:
        images += next(batches).num_images
    return images / (time.perf_counter() - begin), images / (time.process_time() - cpu)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def table(result: dict[str, Any]) -> str:
    """The result of :func:`measure` for a terminal."""
    rows = [
        [r["from"], str(r["workers"]), f"{r['images_per_second']:.0f}", f"{r['spread']:.0f}",
         f"{r['images_per_cpu_second']:.0f}" if r["images_per_cpu_second"] else "-"]
        for r in result["rows"]
    ]
    title = (
        f"loading {GROUPS} x {GROUP_SIZE} images of {result['size']}x{result['size']}, {result['images']} images of "
        f"{result['data']}\nstore of {result['store_mb']:.1f} MB, written at "
        f"{result['written_per_second']:.0f} images/s\n{result['machine']}"
    )
    return title + "\n" + text_table(["from", "workers", "images/s", "spread", "images/CPU s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ["SSNM_DATA"]) / "COCO_mini549" if os.environ.get("SSNM_DATA") else None
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(table(measure(args.data, args.size, args.seconds, args.workers)))


if __name__ == "__main__":
    main()
