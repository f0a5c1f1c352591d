"""The report page: one HTML file that carries everything, written image by image.

The summary comes first in the file and needs no script, so that it is painted while the rest is still being read.
Every image's thumbnails are one inert text block; the page's script (page/*.js) decodes those in view.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..files.atomic import replacing
from ..files.parallel import in_threads
from . import summary
from .film import asset, fill
from .layers import THUMBNAIL_SIDE, ImageLayers, image_layers
from .overlays import FALSE_ALARM, HIT, MISS, OBJECT, TRUTH, diverging_colours
from .records import Report, RunRecord

PAGE_BYTES = 45_000_000
SMALLEST_SIDE = 96
SAMPLE = 24
SCRIPTS = ("layers.js", "gallery.js", "lightbox.js", "main.js")


def write_page(
    report: Report,
    path: str | Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    page_bytes: int = PAGE_BYTES,
) -> Path:
    """Write `report` as one self-contained HTML file; nothing half-written is left under `path`.

    Args:
        workers: threads; None: one per core.
        progress: called with (images done, images in all).
        page_bytes: thumbnails are made smaller than 480 pixels, down to 96, where the page would grow beyond this.

    Returns:
        The path.

    Raises:
        MissingFileError, DataError: an image, map or ground truth is missing or cannot be decoded.
    """
    path = Path(path)
    make = _layer_maker(report)
    side = fitting_side(report, make, page_bytes)
    made = in_threads(lambda i: make(i, side), range(len(report.images)), workers)
    parts = list(_progressing(made, report, progress))
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_head(report, parts))
        for index, part in enumerate(parts):
            file.write(f'<script type="text/plain" id="layers-{index}">{json.dumps(part.layers)}</script>\n')
        file.write("</body>\n</html>\n")
    return path


def fitting_side(report: Report, make: Callable[[int, int], ImageLayers], page_bytes: int) -> int:
    """The thumbnail side with which the page stays below `page_bytes`, judged by some images spread over the set."""
    total = len(report.images)
    picks = sorted({round(i) for i in np.linspace(0, total - 1, min(SAMPLE, total))})
    sizes = [len(json.dumps(make(index, THUMBNAIL_SIDE).layers)) for index in picks]
    expected = total * sum(sizes) / len(sizes)
    if expected <= page_bytes:
        return THUMBNAIL_SIDE
    return max(SMALLEST_SIDE, int(THUMBNAIL_SIDE * (page_bytes / expected) ** 0.5))


def _layer_maker(report: Report) -> Callable[[int, int], ImageLayers]:
    limits = [_spatial_limits(run) for run in report.runs]

    def make(index: int, side: int) -> ImageLayers:
        files = report.images[index]
        maps = [run.maps[files.key] for run in report.runs]
        return image_layers(files, maps, [limit.get(files.key, 0.0) for limit in limits], side)

    return make


def _spatial_limits(run: RunRecord) -> dict[str, float]:
    """Per image the largest absolute value among the images it was segmented with: one scale per group."""
    peaks = {
        key: float(np.abs(np.asarray(record.spatial_mask, np.float64)).max())
        for key, record in run.maps.items()
        if record.spatial_mask is not None
    }
    limits = dict(peaks)
    for group in run.groups:
        own = [member for member in group.members[: group.new] if member in peaks]
        limits.update({member: max(peaks[m] for m in own) for member in own})
    return limits


def _progressing(
    parts: Iterator[ImageLayers], report: Report, progress: Callable[[int, int], None]
) -> Iterator[ImageLayers]:
    for done, part in enumerate(parts, start=1):
        yield part
        progress(done, len(report.images))


def _head(report: Report, parts: list[ImageLayers]) -> str:
    """The page up to the thumbnails: summary, controls, index and scripts."""
    index = json.dumps(_index(report, parts), separators=(",", ":")).replace("<", "\\u003c")
    scripts = "\n".join(map(asset, SCRIPTS))
    return fill(
        "report.html", report.title,
        tiles=summary.tiles(report),
        facts=summary.facts(report),
        table=summary.table(report),
        histogram=summary.histogram(report),
        curve=summary.curve(report),
        body_class="scored" if report.scored else "unscored",
        index=index,
        script=f"(() => {{\n'use strict';\n{scripts}\n}})();",
    )  # fmt: skip


def _index(report: Report, parts: list[ImageLayers]) -> dict[str, Any]:
    """What the script knows of all images at once: names, sizes, scores, groups."""
    numbers = {image.key: number for number, image in enumerate(report.images)}
    lut = diverging_colours(np.arange(255) / 127 - 1)
    return {
        "runs": [run.title for run in report.runs],
        "scored": report.scored,
        "truth": report.has_truth,
        "spatial": report.has_spatial_masks,
        "colours": {"object": OBJECT, "truth": TRUTH, "hit": HIT, "falseAlarm": FALSE_ALARM, "miss": MISS},
        "diverging": base64.b64encode(lut.tobytes()).decode("ascii"),
        "groups": [
            {"category": g.category, "members": [numbers[m] for m in g.members], "fresh": g.new}
            for g in report.runs[0].groups
        ],
        "images": [_image_entry(report, number, part) for number, part in enumerate(parts)],
    }


def _image_entry(report: Report, number: int, part: ImageLayers) -> dict[str, Any]:
    image = report.images[number]
    maps = [run.maps[image.key] for run in report.runs]
    return {
        "category": image.category,
        "name": image.name,
        "size": part.size,
        "J": [_rounded(m.J) for m in maps],
        "P": [_rounded(m.P) for m in maps],
        "quality": [_rounded(m.quality) for m in maps],
        "threshold": [_rounded(m.threshold) for m in maps],
        "disagreement": _rounded(part.disagreement),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 5)
