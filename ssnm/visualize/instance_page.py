"""The report page of instances: per group its scores and, image by image, the true objects above what was found.

One HTML file that carries everything and needs no script, written group by group. No torch.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.atomic import image_bytes, replacing
from ..files.images import load_rgb
from ..files.masks import read_ids
from .instances import instances_overlay
from .summary import percent

COLUMNS = 6  # images in a strip
SHOT_WIDTH = 240  # pixels
QUALITY = 78


@dataclass(frozen=True)
class InstanceShot:
    """One image: its name, file, index picture of what was found (k = instance k) and of the truth, or None."""

    name: str
    image: Path
    found: Path
    truth: Path | None = None


@dataclass(frozen=True)
class GroupPage:
    """One group; measures: name -> share in [0, 1] or None, empty without scores."""

    name: str
    shots: tuple[InstanceShot, ...]
    measures: Mapping[str, float | None]


@dataclass(frozen=True)
class InstanceReport:
    """title; facts: label -> text; measures: name -> share, the mean over groups; notes: one line each."""

    title: str
    groups: tuple[GroupPage, ...]
    facts: Mapping[str, str]
    measures: Mapping[str, float | None]
    notes: tuple[str, ...] = ()


def write_instances_page(report: InstanceReport, path: str | Path) -> Path:
    """Write the page; nothing half-written is left.

    Raises:
        DataError, MissingFileError: no group; an image or mask that cannot be read.
    """
    if not report.groups:
        raise DataError("a report needs at least one group, got none; test some groups first")
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(_head(report))
        for group in report.groups:
            file.write(_section(group))
        file.write("</main>\n</body>\n</html>\n")
    return Path(path)


def _head(report: InstanceReport) -> str:
    images = sum(len(group.shots) for group in report.groups)
    shown = [(percent(value), name) for name, value in report.measures.items()]
    shown += [(str(len(report.groups)), "groups"), (str(images), "images")]
    tiles = "\n".join(f'<div class="tile"><strong>{v}</strong><span>{escape(k)}</span></div>' for v, k in shown)
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in report.facts.items())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    page = resources.files(__package__) / "page"
    return Template((page / "videos.html").read_text(encoding="utf-8")).substitute(
        title=escape(report.title),
        style=(page / "report.css").read_text(encoding="utf-8"),
        columns=COLUMNS,
        tiles=tiles,
        facts=f'<div class="facts"><dl>{items}</dl></div>{notes}',
        table=_table(report.groups),
    )


def _table(groups: Sequence[GroupPage]) -> str:
    """One line per group."""
    names = list(dict.fromkeys(name for group in groups for name in group.measures))
    if not names:
        return "<p>No scores: there are no true masks.</p>"
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("group", "images", *names))
    rows = []
    for group in groups:
        link = f'<a href="#{escape(group.name, quote=True)}">{escape(group.name)}</a>'
        cells = "".join(f"<td>{percent(group.measures.get(name))}</td>" for name in names)
        rows.append(f'<tr><th scope="row">{link}</th><td>{len(group.shots)}</td>{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _section(group: GroupPage) -> str:
    cells = []
    for start in range(0, len(group.shots), COLUMNS):
        row = group.shots[start : start + COLUMNS]
        blank = ["<span></span>"] * (COLUMNS - len(row))
        cells += ["<b></b>", *(f"<span>{escape(shot.name)}</span>" for shot in row), *blank]
        if any(shot.truth for shot in row):
            cells += ["<b>truth</b>", *(_shot(shot, shot.truth, "truth") for shot in row), *blank]
        cells += ["<b>found</b>", *(_shot(shot, shot.found, "found") for shot in row), *blank]
    name = escape(group.name, quote=True)
    said = " · ".join(f"{escape(k)} {percent(v)}" for k, v in group.measures.items())
    heading = f'<h2 id="{name}">{name}<small>{len(group.shots)} images{" · " * bool(said)}{said}</small></h2>'
    return f'<section class="card sequence">{heading}<div class="film">{"".join(cells)}</div></section>\n'


def _shot(shot: InstanceShot, mask: Path | None, label: str) -> str:
    """A small picture with its numbered masks; the plain image where there are none."""
    image = Image.fromarray(load_rgb(shot.image).array)
    size = (min(SHOT_WIDTH, image.width), max(1, round(image.height * min(SHOT_WIDTH, image.width) / image.width)))
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    if mask is not None:
        ids = np.asarray(Image.fromarray(read_ids(mask)).resize(size, Image.Resampling.NEAREST))
        pixels = instances_overlay(pixels, ids[None] == np.arange(1, int(ids.max()) + 1)[:, None, None])
    data = base64.b64encode(image_bytes(pixels, "JPEG", quality=QUALITY)).decode("ascii")
    text = escape(f"{label} of {shot.name}", quote=True)
    return f'<img loading="lazy" alt="{text}" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{data}">'
