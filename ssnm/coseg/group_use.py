"""Group use on a test set (end of docs/evaluation.md): the same image in a group of each of its two kinds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..data.records import TestImage
from ..data.testsets import TestSet
from ..data.voc import photographs
from ..errors import DataError
from ..files.given import read_given
from ..files.masks import fitting, read_binary
from ..metrics import FolderScores, GroupUse, binarize, group_use_record, jaccard, score_arrays, spatial_auc
from ..visualize.panels import GroupPictures
from .predict import Predictor
from .testing import make_groups, png_maps

SHOWN = 8


@dataclass(frozen=True)
class GroupUseResult:
    """use: the summary with its records; wrong: pictures of the images with the lowest d, worst first."""

    use: GroupUse
    wrong: list[GroupPictures]


def two_kind_images(test_set: TestSet) -> list[tuple[TestImage, TestImage]]:
    """The images that stand in two or more classes, as their entries in the first two of them."""
    same_file = photographs(test_set.images)
    entries: dict[str, dict[str, TestImage]] = defaultdict(dict)  # photograph -> class -> its first entry there
    for image in test_set.images:
        entries[same_file[image.category, image.name]].setdefault(image.category, image)
    return [(same[a], same[b]) for same in entries.values() if len(same) > 1 for a, b in [sorted(same)[:2]]]


def measure_group_use(
    predictor: Predictor, test_set: TestSet, seed: int = 0, group_size: int = 5, rule: float | str = 0.5,
    reference: bool = False,
) -> GroupUseResult:  # fmt: skip
    """Put every two-kind image with group_size - 1 others of each kind, chosen by `seed`, and compare its masks, cut by
    `rule`: the model file's own (a number or "mean+std").

    reference: the first of the others comes with its truth, see :mod:`ssnm.coseg.reference`.

    Raises:
        DataError: no ground truth, or no image stands in two classes.
    """
    if not test_set.has_truth:
        raise DataError("group use needs ground truth: the folder groundtruth/ is missing")
    cases = two_kind_images(test_set)
    if not cases:
        raise DataError("group use needs images that stand in two classes, as copies of one file; this set has none")
    rng = np.random.default_rng(seed)
    members = defaultdict(list)
    for image in test_set.images:
        members[image.category].append(image)
    records, pictures = [], []
    for case in cases:
        groups = [_group(rng, entry, members[entry.category], group_size) for entry in case]
        known = [{1: read_binary(group[1].truth).object} if reference and len(group) > 1 else {} for group in groups]
        predictions = [
            predictor.predict([fitting(i.image, i.truth) for i in group], reference=mask)
            for group, mask in zip(groups, known)
        ]
        masks = [binarize(p.probability(0), rule)[0] for p in predictions]
        truths = [read_binary(entry.truth).object for entry in case]
        if not all(truth.any() for truth in truths):
            continue
        record = group_use_record(case[0].name, case[0].category, case[1].category, *masks, *truths)
        records.append(record)
        pictures.append((record.d, case, groups, truths, predictions))
    pictures.sort(key=lambda p: p[0])
    wrong = [panel for picture in pictures[:SHOWN] for panel in _panels(*picture)]
    return GroupUseResult(GroupUse.of(records), wrong)


def measure_reference(
    predictor: Predictor, test_set: TestSet, group_size: int = 5, rule: float | str = 0.5
) -> tuple[float, float]:
    """J of all images but the first of each class's first `group_size`, the mean over classes: without a reference, and
    with the first image's truth as one.

    Raises:
        DataError: no ground truth, or no class of two images.
    """
    if not test_set.has_truth:
        raise DataError("a reference needs ground truth: the folder groundtruth/ is missing")
    cut = f"fixed:{rule}" if isinstance(rule, (int, float)) else rule
    rows = []
    for category in test_set.categories:
        images = [image for image in test_set.images if image.category == category][:group_size]
        truths = [read_binary(image.truth).object for image in images]
        if len(images) < 2 or not truths[0].any():
            continue
        fitted = [fitting(image.image, image.truth) for image in images]
        predictions = [predictor.predict(fitted, reference=r) for r in (None, {0: truths[0]})]
        others = range(1, len(images))
        rows.append([np.mean([jaccard(binarize(p.map(i), cut)[0], truths[i]) for i in others]) for p in predictions])
    if not rows:
        raise DataError("a reference needs a class of two images or more, the first of them with an object")
    without, given = np.mean(rows, axis=0)
    return float(without), float(given)


def measure_spatial_auc(predictor: Predictor, test_set: TestSet, group_size: int = 5) -> float:
    """AUC of the spatial masks: of the first `group_size` images of every class, at the masks' own size against the
    share of truth in each position, the mean over classes. NaN for a model without a spatial modulator.

    Raises:
        DataError: no ground truth.
    """
    if not test_set.has_truth:
        raise DataError("the AUC of spatial masks needs ground truth: the folder groundtruth/ is missing")
    values = []
    for category in test_set.categories:
        images = [image for image in test_set.images if image.category == category][:group_size]
        masks = predictor.predict([fitting(image.image, image.truth) for image in images]).spatial_masks
        if masks is not None:
            values.append(spatial_auc(list(masks), [read_binary(image.truth).object for image in images]))
    return float(np.nanmean(values)) if values else float("nan")


def score_alone(predictor: Predictor, test_set: TestSet) -> FolderScores:
    """Release protocol with every image in a group of its own (N = 1): what the network does without a group.

    The maps are those that the test command would write as PNG, so that the number compares with its own.
    """
    return score_arrays(png_maps(predictor, make_groups(test_set, 1, "natural")), "release")


def _group(rng: np.random.Generator, entry: TestImage, members: list[TestImage], size: int) -> list[TestImage]:
    """The entry first, then size - 1 other images of its class (with repetition only where there are too few)."""
    others = [image for image in members if image is not entry]
    chosen = rng.choice(len(others), size - 1, replace=len(others) < size - 1) if others else []
    return [entry, *(others[i] for i in chosen)]


def _panels(d, case, groups, truths, predictions) -> list[GroupPictures]:
    """The image in either group beside that group's other images; only the shared image has a truth to show."""
    panels = []
    for entry, group, truth, prediction in zip(case, groups, truths, predictions):
        panels.append(
            GroupPictures(
                images=[read_given(fitting(image.image, image.truth)).array for image in group],
                spatial_masks=None if prediction.spatial_masks is None else list(prediction.spatial_masks),
                probabilities=[prediction.probability(i) for i in range(len(group))],
                truths=[truth, *(read_binary(image.truth).object for image in group[1:])],
                title=f"{entry.category} (d = {d:+.2f})",
            )
        )
    return panels
