"""The report page of videos: per sequence a strip of frames, truth above prediction, and the curve of J over time.

One HTML file that carries everything and needs no script, written sequence by sequence. No torch.
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
from .overlays import object_colour, objects_overlay
from .summary import percent

SHOTS = 8  # frames in a strip
SHOT_WIDTH = 240  # pixels
QUALITY = 78
PLOT = (34, 8, 1040, 120)  # left, top, width, height of the curve in its 1084 x 150 picture


@dataclass(frozen=True)
class ObjectCurve:
    """One object: its id, J and F in [0, 1] per scored frame, by the frame's name."""

    id: int
    J: Mapping[str, float]
    F: Mapping[str, float]


@dataclass(frozen=True)
class SequencePage:
    """One sequence: its frames in order (name -> image file), true and predicted masks by name, its objects' curves
    (none where it was not scored); binary: all ids of a mask are one object."""

    name: str
    frames: Mapping[str, Path]
    truth: Mapping[str, Path]
    predictions: Mapping[str, Path]
    curves: tuple[ObjectCurve, ...] = ()
    binary: bool = False


@dataclass(frozen=True)
class VideoReport:
    """title; facts: label -> text; measures: name -> fraction, the mean over objects, empty without scores; notes."""

    title: str
    sequences: tuple[SequencePage, ...]
    facts: Mapping[str, str]
    measures: Mapping[str, float]
    notes: tuple[str, ...] = ()


def write_videos_page(report: VideoReport, path: str | Path) -> Path:
    """Write the page; nothing half-written is left.

    Raises:
        DataError, MissingFileError: no sequence; an image or mask that cannot be read.
    """
    if not report.sequences:
        raise DataError("a report needs at least one sequence, got none; test some videos first")
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(_head(report))
        for sequence in report.sequences:
            file.write(_section(sequence))
        file.write("</main>\n</body>\n</html>\n")
    return Path(path)


def _head(report: VideoReport) -> str:
    objects = sum(len(sequence.curves) for sequence in report.sequences)
    shown = [(percent(report.measures[key]), key.replace("_", " ")) for key in report.measures]
    shown += [(str(len(report.sequences)), "sequences"), (str(objects), "objects")]
    tiles = "\n".join(f'<div class="tile"><strong>{value}</strong><span>{label}</span></div>' for value, label in shown)
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in report.facts.items())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    page = resources.files(__package__) / "page"
    return Template((page / "videos.html").read_text(encoding="utf-8")).substitute(
        title=escape(report.title),
        style=(page / "report.css").read_text(encoding="utf-8"),
        columns=SHOTS,
        tiles=tiles,
        facts=f'<div class="facts"><dl>{items}</dl></div>{notes}',
        table=_table(report.sequences),
    )


def _table(sequences: Sequence[SequencePage]) -> str:
    """One line per object, with a bar of its J."""
    rows = []
    for sequence in sequences:
        for curve in sequence.curves:
            j, f = (float(np.mean(list(values.values()))) for values in (curve.J, curve.F))
            link = f'<a href="#{escape(sequence.name, quote=True)}">{escape(sequence.name)}</a> {curve.id}'
            bar = f'<td class="bars" aria-hidden="true"><i class="run-A" style="width:{100 * j:.2f}%"></i></td>'
            rows.append(f'<tr><th scope="row">{link}</th><td>{len(curve.J)}</td><td><b>{percent(j)}</b></td>'
                        f"<td>{percent(f)}</td>{bar}</tr>")  # fmt: skip
    if not rows:
        return "<p>No scores: no true masks beyond those that start objects.</p>"
    head = "".join(f'<th scope="col">{text}</th>' for text in ("object", "frames", "J", "F"))
    head = f'<thead><tr>{head}<th scope="col" class="bars">J</th></tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _section(sequence: SequencePage) -> str:
    names = list(sequence.frames)
    picks = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(SHOTS, len(names))).round().astype(int))]
    cells = ["<b></b>", *(f"<span>{escape(name)}{_shot_score(sequence, name)}</span>" for name in picks)]
    cells += ["<span></span>"] * (SHOTS - len(picks))
    for label, masks in (("truth", sequence.truth), ("prediction", sequence.predictions)):
        if any(name in masks for name in picks):
            cells.append(f"<b>{label}</b>")
            cells += [_shot(sequence, name, masks.get(name), label) for name in picks]
            cells += ["<span></span>"] * (SHOTS - len(picks))
    name = escape(sequence.name, quote=True)
    heading = f'<h2 id="{name}">{name}<small>{len(names)} frames</small></h2>'
    film = f'<div class="film">{"".join(cells)}</div>'
    return f'<section class="card sequence">{heading}{curve_plot(sequence)}{film}</section>\n'


def _shot_score(sequence: SequencePage, name: str) -> str:
    values = [curve.J[name] for curve in sequence.curves if name in curve.J]
    return f" · J {percent(float(np.mean(values)))}" if values else ""


def _shot(sequence: SequencePage, name: str, mask: Path | None, label: str) -> str:
    """A small picture with its mask, or the plain frame where there is no mask."""
    image = Image.fromarray(load_rgb(sequence.frames[name]).array)
    size = (min(SHOT_WIDTH, image.width), max(1, round(image.height * min(SHOT_WIDTH, image.width) / image.width)))
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    if mask is not None:
        ids = read_ids(mask)
        ids = (ids > 0).astype(np.uint8) if sequence.binary else ids
        pixels = objects_overlay(pixels, np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST)))
    data = base64.b64encode(image_bytes(pixels, "JPEG", quality=QUALITY)).decode("ascii")
    text = escape(f"{label} of frame {name}", quote=True)
    return f'<img loading="lazy" alt="{text}" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{data}">'


def curve_plot(sequence: SequencePage) -> str:
    """J over time as an SVG, one line per object in its colour; nothing without scores."""
    if not sequence.curves:
        return ""
    left, top, width, height = PLOT
    names = list(sequence.frames)
    place = {name: left + width * n / max(1, len(names) - 1) for n, name in enumerate(names)}
    parts = []
    for j in (0, 50, 100):
        y = top + height * (1 - j / 100)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{j}</text>')
    for curve in sequence.curves:
        points = " ".join(f"{place[n]:.1f},{top + height * (1 - j):.1f}" for n, j in curve.J.items() if n in place)
        colour = "rgb{}".format(object_colour(curve.id))
        parts.append(f'<polyline points="{points}" style="stroke:{colour}"><title>object {curve.id}</title></polyline>')
    label = escape(f"J over time of {sequence.name}", quote=True)
    return f'<svg class="curve" viewBox="0 0 1084 150" role="img" aria-label="{label}">{"".join(parts)}</svg>'
