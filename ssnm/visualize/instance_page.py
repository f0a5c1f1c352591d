"""The report page of instances: per group its scores and, image by image, the true objects above what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import numpy as np

from ..naming import counted
from .film import film, link, shot, table, write_film
from .instances import instances_overlay
from .summary import percent

COLUMNS = 6  # images in a strip


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
    tiles = [(percent(value), name) for name, value in report.measures.items()]
    tiles += [(str(len(report.groups)), "groups"), (str(sum(len(g.shots) for g in report.groups)), "images")]
    names = list(dict.fromkeys(name for group in report.groups for name in group.measures))
    rows = [
        (link(group.name), str(len(group.shots)), *(percent(group.measures.get(name)) for name in names))
        for group in report.groups
    ]
    scores = table(("group", "images", *names), rows if names else (), "No scores: there are no true masks.")
    sections = [partial(_section, group) for group in report.groups]
    return write_film(path, report.title, tiles, report.facts, report.notes, scores, COLUMNS, sections)


def _section(group: GroupPage) -> str:
    strips = []
    for start in range(0, len(group.shots), COLUMNS):
        row = group.shots[start : start + COLUMNS]
        strip = {"": [escape(shot.name) for shot in row]}
        if any(shot.truth for shot in row):
            strip["truth"] = [_shot(shot, shot.truth, "truth") for shot in row]
        strip["found"] = [_shot(shot, shot.found, "found") for shot in row]
        strips.append(strip)
    said = [counted(len(group.shots), "image"), *(f"{escape(k)} {percent(v)}" for k, v in group.measures.items())]
    return film(group.name, " · ".join(said), COLUMNS, strips)


def _shot(one: InstanceShot, mask: Path | None, label: str) -> str:
    """A small picture with its numbered masks; the plain image where there are none."""

    def numbered(pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return instances_overlay(pixels, ids[None] == np.arange(1, int(ids.max()) + 1)[:, None, None])

    return shot(one.image, mask, f"{label} of {one.name}", numbered)
