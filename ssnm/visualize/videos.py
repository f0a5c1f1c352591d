"""The report page of videos: per sequence a strip of frames, truth above prediction, and the curve of J over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import numpy as np

from ..naming import counted
from .film import film, link, shot, table, write_film
from .overlays import object_colour, objects_overlay
from .summary import percent

SHOTS = 8  # frames in a strip
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
    curves = [(sequence.name, curve) for sequence in report.sequences for curve in sequence.curves]
    tiles = [(percent(value), key.replace("_", " ")) for key, value in report.measures.items()]
    tiles += [(str(len(report.sequences)), "sequences"), (str(len(curves)), "objects")]
    rows = []
    for name, curve in curves:
        j, f = (float(np.mean(list(values.values()))) for values in (curve.J, curve.F))
        rows.append((f"{link(name)} {curve.id}", str(len(curve.J)), f"<b>{percent(j)}</b>", percent(f)))
    none = "No scores: no true masks beyond those that start objects."
    scores = table(("object", "frames", "J", "F"), rows, none)
    sections = [partial(_section, sequence) for sequence in report.sequences]
    return write_film(path, report.title, tiles, report.facts, report.notes, scores, SHOTS, sections)


def _section(sequence: SequencePage) -> str:
    names = list(sequence.frames)
    picks = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(SHOTS, len(names))).round().astype(int))]
    strip = {"": [escape(name) + _shot_score(sequence, name) for name in picks]}
    for label, masks in (("truth", sequence.truth), ("prediction", sequence.predictions)):
        if any(name in masks for name in picks):
            strip[label] = [_shot(sequence, name, masks.get(name), label) for name in picks]
    return film(sequence.name, counted(len(names), "frame"), SHOTS, [strip], curve_plot(sequence))


def _shot_score(sequence: SequencePage, name: str) -> str:
    values = [curve.J[name] for curve in sequence.curves if name in curve.J]
    return f" · J {percent(float(np.mean(values)))}" if values else ""


def _shot(sequence: SequencePage, name: str, mask: Path | None, label: str) -> str:
    """A small picture with its mask, or the plain frame where there is no mask."""

    def tinted(pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return objects_overlay(pixels, (ids > 0).astype(np.uint8) if sequence.binary else ids)

    return shot(sequence.frames[name], mask, f"{label} of frame {name}", tinted)


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
