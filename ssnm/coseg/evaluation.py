"""A model on a test set in one call, from Python (`ssnm.evaluate`): what the test command does, and a picture of it."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

from PIL import Image

from ..data.check import require_usable
from ..data.records import TestImage
from ..data.testsets import TestSet, read_test_set
from ..errors import DataError
from ..files.images import load_rgb
from ..files.masks import read_binary
from ..metrics import FolderScores, ImageScore, Protocol, score_folder
from ..metrics.maps import read_map, resize_map
from ..metrics.measures import as_probability
from ..visualize.overlays import errors_overlay
from ..visualize.panels import contact_sheet
from .segmenter import CoSegmenter
from .testing import TestJob, select_classes


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` gives. scores: per image, class and average; maps: the folder of written maps (with
    run.json, so `ssnm score` and `ssnm report` take it); test_set: the images, with their files."""

    scores: FolderScores
    maps: Path
    test_set: TestSet
    _scratch: Any = field(default=None, repr=False)  # removes a temporary folder with this object

    def __str__(self) -> str:
        return self.scores.table()

    @property
    def J(self) -> float:
        """The protocol's headline J, in [0, 1]."""
        return self.scores.headline.J

    @property
    def P(self) -> float:
        """The protocol's headline P, in [0, 1]."""
        return self.scores.headline.P

    def panel(self, count: int = 6, best: bool = False) -> Image.Image:
        """The `count` images of lowest (highest) J: found blue, false alarm orange, missed yellow, J below each."""
        ranked = sorted((i for i in self.scores.images if i.J is not None), key=lambda i: -i.J if best else i.J)
        if not ranked:
            raise DataError("no image has a score, so there is none to show")
        shown = ranked[:count]
        files = {(i.category, i.name): i for i in self.test_set.images}
        pictures = [self._errors(score, files[score.category, score.name]) for score in shown]
        return contact_sheet(pictures, [f"{s.category}  J {100 * s.J:.1f}" for s in shown])

    def _errors(self, score: ImageScore, image: TestImage):
        truth = read_binary(image.truth).object
        values = read_map(self.maps / score.category / f"{score.name}.png")
        if self.scores.binary_maps:
            values = values * 255
        probability = as_probability(resize_map(values, truth.shape))
        return errors_overlay(load_rgb(image.image, truth.shape).array, probability > score.threshold, truth)


def evaluate(
    segmenter: CoSegmenter,
    dataset: str,
    root: Path,
    out: str | Path | None = None,
    protocol: str | Protocol = "release",
    classes: Sequence[str] | None = None,
    grouping: str = "natural",
    group_size: int = 5,
    seed: int = 0,
) -> Evaluation:
    """Cut every class into groups, write the maps as PNG, score the files; arguments as of `ssnm.evaluate`."""
    test_set = read_test_set(dataset, root)
    if not test_set.has_truth:
        raise DataError(f"{root}: no ground truth (groundtruth/<class>/*), so there is nothing to score")
    if classes is not None:
        test_set = select_classes(test_set, classes)
    for note in require_usable(test_set.images):
        warnings.warn(note, stacklevel=3)
    scratch = tempfile.TemporaryDirectory() if out is None else None
    maps = Path(scratch.name if out is None else out)
    TestJob(segmenter, test_set, root, group_size, overlays=None).write(maps, grouping, seed)
    scores = score_folder(maps, root, protocol, classes=list(test_set.categories))
    return Evaluation(scores, maps, test_set, scratch)
