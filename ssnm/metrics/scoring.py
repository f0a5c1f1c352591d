"""Scoring maps against ground truth: a folder of PNGs, or arrays in memory, through one code path.

Nothing here knows of networks: anyone's maps can be scored, also those of other papers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from pathlib import Path

import numpy as np

from ..errors import DataError, UserError
from ..files.listing import all_problems
from ..files.masks import read_binary
from ..files.parallel import in_threads
from ..naming import counted
from .curve import best_level, jaccard_curve
from .maps import read_map, resize_map, resize_truth
from .measures import (
    Confusion,
    as_probability,
    binarize,
    confusion_at_level,
    level_histogram,
    mask_threshold,
    two_values,
)
from .pairing import Pair, find_pairs
from .protocol import AVERAGES, Protocol
from .scores import Average, ClassScore, FolderScores, ImageScore


@dataclass(frozen=True)
class Measured:
    """What is kept of one image after its pixels are gone.

    counts and threshold are those of the protocol's rule (placeholders under ``best`` until all images are seen);
    histogram: (2, 256), see :func:`ssnm.metrics.measures.level_histogram`; peak: largest value of an 8-bit map
    as read, 255 for others; resized: the map did not have the size of its ground truth; levels: how many values
    it holds, 3 for more; full: its truth has no background.
    """

    category: str
    name: str
    counts: Confusion
    threshold: float
    histogram: np.ndarray
    peak: int
    resized: bool
    levels: int = 3
    full: bool = False


def score_folder(
    pred_dir: str | Path,
    truth_dir: str | Path,
    protocol: str | Protocol = "release",
    workers: int | None = None,
    classes: Sequence[str] | None = None,
    allow_extra: bool = False,
) -> FolderScores:
    """Score the maps ``pred_dir/<class>/<stem>.png`` against ``truth_dir/<class>/<stem>.<image suffix>``.

    Args:
        pred_dir: grey 8-bit maps, probability times 255; see :func:`ssnm.metrics.maps.read_map` for other files.
        truth_dir: the ground-truth folder or the data set's root holding ``groundtruth``.
        protocol: a preset's name or a :class:`Protocol`.
        workers: threads; None = one per usable core. The result does not depend on it.
        classes: score only these class folders.
        allow_extra: ignore maps without ground truth instead of refusing them.

    Maps of 0 and 1 are masks, and are read as such, unless other maps of the folder hold greys: beside these they are
    faint maps. The scores' notes tell where ranges are mixed.

    Raises:
        MissingFileError, DataError: a wrong pairing (see :func:`ssnm.metrics.pairing.find_pairs`), files that cannot be
            decoded or whose object is not known, a map that is the transpose of its ground truth. One message names
            all such files; no score leaves them out.
        ConfigError: an unknown protocol or class.
    """
    protocol = Protocol.get(protocol)
    pairing = find_pairs(pred_dir, truth_dir, classes, allow_extra)
    measured = _measure_all(pairing.pairs, protocol, workers, scale=1)
    peaks = [m.peak for m in measured]
    ones = peaks.count(1)
    all_masks = all(m.levels < 3 and m.peak in (0, 1, 255) for m in measured)
    if ones and all_masks:
        measured = _measure_all(pairing.pairs, protocol, workers, scale=255)
    scores = summarise(measured, protocol)
    remarks = (*scores.remarks, *_range_remarks(ones, peaks, all_masks))
    return replace(scores, binary_maps=max(peaks) == 1, extra=len(pairing.extra), remarks=remarks)


def score_arrays(
    maps: Iterable[tuple[str, str, np.ndarray, np.ndarray]], protocol: str | Protocol = "release"
) -> FolderScores:
    """Score (class, name, map, truth) in memory, by the code that scores folders.

    map (H, W): floats in [0, 1], uint8 0..255 or bool; truth (h, w) bool. The iterable is consumed one by one, so
    that a generator needs the memory of one image.

    Raises:
        DataError: nothing to score, wrong shapes, types or ranges. ConfigError: an unknown protocol.
    """
    protocol = Protocol.get(protocol)
    measured = [measure(category, name, map_, truth, protocol) for category, name, map_, truth in maps]
    return summarise(measured, protocol)


def measure(category: str, name: str, map_: np.ndarray, truth: np.ndarray, protocol: Protocol) -> Measured:
    """Bring one map and its truth to the protocol's resolution, cut the map, count pixels."""
    label = f"{category}/{name}"
    truth = np.asarray(truth)
    if truth.dtype != np.bool_ or truth.ndim != 2:
        raise DataError(f"{label}: a ground truth (H, W) of bool is needed, got {truth.shape} {truth.dtype}")
    map_ = np.asarray(map_)
    if map_.dtype != np.uint8:
        map_ = as_probability(map_, label)
    peak = int(map_.max(initial=0)) if map_.dtype == np.uint8 else 255
    if map_.shape == truth.shape[::-1] != truth.shape:
        raise DataError(f"{label}: the map {map_.shape} is the transpose of its ground truth {truth.shape}; rotate it")
    resized = map_.shape != truth.shape
    size = truth.shape if protocol.resolution is None else (protocol.resolution, protocol.resolution)
    prob, truth = as_probability(resize_map(map_, size), label), resize_truth(truth, size)
    if protocol.rule.kind == "best":
        counts, threshold = Confusion(0, 0, 0, 0), 0.0
    else:
        threshold = mask_threshold(prob, protocol.rule)
        mask, threshold = binarize(prob, protocol.rule) if threshold is None else (prob > threshold, threshold)
        counts = Confusion.of(mask, truth)
    levels = 1 if map_.min() == map_.max() else 2 if two_values(map_) is not None else 3
    histogram = level_histogram(prob, truth)
    return Measured(category, name, counts, threshold, histogram, peak, resized, levels, bool(truth.all()))


def _measure_all(pairs: Sequence[Pair], protocol: Protocol, workers: int | None, scale: int) -> list[Measured]:
    def one(pair: Pair) -> Measured | str:
        try:
            map_, truth = read_map(pair.map), read_binary(pair.truth).object
        except UserError as error:
            return str(error)
        if scale != 1 and map_.dtype == np.uint8 and map_.max(initial=0) == 1:
            map_ = map_ * np.uint8(scale)
        try:
            return measure(pair.category, pair.name, map_, truth, protocol)
        except DataError as error:
            return f"{pair.map}: {error}"

    found = list(in_threads(one, pairs, workers))
    problems = [line for line in found if isinstance(line, str)]
    if problems:
        raise DataError(all_problems(problems, len(pairs), "pairs of map and ground truth"))
    return found


def summarise(measured: Sequence[Measured], protocol: Protocol) -> FolderScores:
    """Classes and averages of measured images, in the order in which they come.

    Raises:
        DataError: no image.
    """
    if not measured:
        raise DataError("there is nothing to score: no map was given")
    curve = jaccard_curve([m.histogram for m in measured], [m.category for m in measured], protocol)
    if protocol.rule.kind == "best":
        measured = _cut_at_best(measured, curve)
    groups: dict[str, list[Measured]] = defaultdict(list)
    for m in measured:
        groups[m.category].append(m)
    classes = tuple(_class_score(category, group, protocol) for category, group in groups.items())
    images = tuple(_image_score(m, protocol) for m in measured)
    return FolderScores(
        protocol=protocol,
        images=images,
        classes=classes,
        averages={key: _average(key, images, classes) for key in AVERAGES},
        curve=curve,
        resized=sum(m.resized for m in measured),
        remarks=tuple(_remarks(measured, groups)),
    )


def _remarks(measured: Sequence[Measured], groups: Mapping[str, Sequence[Measured]]) -> list[str]:
    """What the maps are, and which classes have truths that cannot all be meant."""
    remarks = []
    if masks := sum(m.levels == 2 for m in measured):
        remarks.append(f"two values in {masks} of {counted(len(measured), 'map')}: masks, resized as the truth is")
    for category, group in groups.items():
        for count, what in ((sum(m.counts.empty_truth for m in group), "no object"),
                            (sum(m.full for m in group), "nothing but the object")):  # fmt: skip
            if 2 * count > len(group):
                remarks.append(f"{category}: {what} in {count} of {counted(len(group), 'truth')}")
    return remarks


def _range_remarks(ones: int, peaks: Sequence[int], all_masks: bool) -> list[str]:
    """Said where maps of 0 and 1 lie beside maps of another range."""
    others = sum(peak > 1 for peak in peaks)
    if not ones or not others:
        return []
    taken = "each was read by its own range" if all_masks else "the former were read as faint maps, not as masks"
    return [f"{counted(ones, 'map')} of 0 and 1, {others} of values up to {max(peaks)}: {taken}"]


def _cut_at_best(measured: Sequence[Measured], curve: Sequence[float | None]) -> list[Measured]:
    level = best_level(curve)
    return [replace(m, counts=confusion_at_level(m.histogram, level), threshold=level / 255) for m in measured]


def _image_score(m: Measured, protocol: Protocol) -> ImageScore:
    return ImageScore(m.category, m.name, m.counts.precision, m.counts.jaccard(protocol.empty), m.threshold)


def _class_score(category: str, group: Sequence[Measured], protocol: Protocol) -> ClassScore:
    counted = [(m, j) for m in group if (j := m.counts.jaccard(protocol.empty)) is not None]
    left_out = len(group) - len(counted)
    if not counted:
        return ClassScore(category, 0, None, None, None, None, left_out)
    pooled = sum((m.counts for m, _ in counted), Confusion(0, 0, 0, 0))
    return ClassScore(
        category=category,
        count=len(counted),
        P=_mean(m.counts.precision for m, _ in counted),
        J=_mean(j for _, j in counted),
        pooled_P=pooled.precision,
        pooled_J=pooled.jaccard(protocol.empty),
        left_out=left_out,
    )


def _average(key: str, images: Sequence[ImageScore], classes: Sequence[ClassScore]) -> Average:
    if key == "images":
        pairs = [(i.P, i.J) for i in images if i.J is not None]
    elif key == "classes":
        pairs = [(c.P, c.J) for c in classes if c.count]
    else:
        pairs = [(c.pooled_P, c.pooled_J) for c in classes if c.count]
    if not pairs:
        return Average(None, None, 0)
    return Average(_mean(p for p, _ in pairs), _mean(j for _, j in pairs), len(pairs))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return fsum(values) / len(values)  # fsum: independent of the order of the images
