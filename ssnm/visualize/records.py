"""What the report page is made of: plain records, filled by the caller from a results folder. No files are opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError


@dataclass(frozen=True)
class ImageFiles:
    """One image of a test set: its folder, name without suffix, file, and ground-truth file or None."""

    category: str
    name: str
    image: Path
    truth: Path | None = None

    @property
    def key(self) -> str:
        """ "class/name", what maps, spatial masks and groups are looked up by."""
        return f"{self.category}/{self.name}"


@dataclass(frozen=True)
class MapRecord:
    """One predicted map of a run.

    path: grey file; threshold in [0, 1] that cuts value / full_scale; P and J in [0, 1], None where not scored;
    spatial_mask: (h, w) signed floats or None; quality: the J that the model itself expects, in [0, 1], or None.
    """

    path: Path
    threshold: float
    P: float | None = None
    J: float | None = None
    spatial_mask: np.ndarray | None = None
    full_scale: int = 255
    quality: float | None = None


@dataclass(frozen=True)
class ScoreRow:
    """One line of the summary table: a class or an average; P and J in [0, 1] or None."""

    name: str
    count: int
    P: float | None
    J: float | None


@dataclass(frozen=True)
class GroupRecord:
    """Images that were segmented together: their keys in order; those after the first `new` had had their turn."""

    category: str
    members: tuple[str, ...]
    new: int


@dataclass(frozen=True)
class RunRecord:
    """One run over a test set.

    title: short name; facts: what made it (label -> text); protocol: the line that decides its numbers; headline: the
    average that is its result, None for a run without scores; averages and classes: rows of the summary table;
    curve: mean J in [0, 1] at evenly spaced thresholds from 0 to 1, or empty; maps: by image key.
    """

    title: str
    maps: Mapping[str, MapRecord]
    groups: tuple[GroupRecord, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    headline: ScoreRow | None = None
    averages: tuple[ScoreRow, ...] = ()
    classes: tuple[ScoreRow, ...] = ()
    curve: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Report:
    """A page: images in order, and one run, or two to compare.

    Raises:
        DataError: no image, no or more than two runs, a map or group member that is missing, an image that occurs
            twice.
    """

    title: str
    images: tuple[ImageFiles, ...]
    runs: tuple[RunRecord, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise DataError("a report needs at least one image, got none; test some images first")
        if len(self.runs) not in (1, 2):
            raise DataError(f"a report shows one run or compares two, got {len(self.runs)}")
        keys = [image.key for image in self.images]
        if len(set(keys)) < len(keys):
            double = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{double}: two images of that class and name; a report needs each once")
        for run in self.runs:
            missing = next((key for key in keys if key not in run.maps), None)
            if missing is not None:
                raise DataError(f"{missing}: no map of it in run {run.title!r}; a report needs every image's map")
        known = set(keys)
        for group in self.runs[0].groups:
            stranger = next((member for member in group.members if member not in known), None)
            if stranger is not None:
                raise DataError(f"{stranger}: a member of a group of {group.category!r}, but no image of the report")

    @property
    def scored(self) -> bool:
        """Whether every run has scores."""
        return all(run.headline is not None for run in self.runs)

    @property
    def has_truth(self) -> bool:
        """Whether any image has ground truth."""
        return any(image.truth is not None for image in self.images)

    @property
    def has_spatial_masks(self) -> bool:
        """Whether any map comes with a spatial mask."""
        return any(record.spatial_mask is not None for run in self.runs for record in run.maps.values())
