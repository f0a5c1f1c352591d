"""One foreign image in a group (end of docs/evaluation.md): groups of a test set or of held-out images, by seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..data.records import TestImage
from ..data.testsets import TestSet
from ..data.voc import photographs
from ..errors import DataError
from ..files.masks import fitting, read_binary
from ..metrics import OutlierRecord, Outliers, binarize, jaccard
from .groups import GroupDataset
from .pool import ImagePool
from .predict import GroupPrediction, ImageLike, Predictor
from .sampler import GroupDrawer


@dataclass(frozen=True)
class OutlierCase:
    """A clean group, its truths (H, W) bool, and the foreign image that takes the place of its last one."""

    category: str
    images: tuple[ImageLike, ...]
    truths: tuple[np.ndarray, ...]
    foreign: ImageLike


def measure_outliers(predictor: Predictor, cases: Iterable[OutlierCase], rule: float | str = 0.5) -> Outliers:
    """Every case clean and with its foreign image. rule: what cuts the maps, a threshold or "mean+std"; maps of images
    that the model holds to be without the object are empty, as users get them."""
    cut = f"fixed:{rule}" if isinstance(rule, (int, float)) else rule
    return Outliers.of(_record(predictor, case, cut) for case in cases)


def _record(predictor: Predictor, case: OutlierCase, rule: str) -> OutlierRecord:
    clean = predictor.predict(list(case.images))
    mixed = predictor.predict([*case.images[:-1], case.foreign])
    kept = range(len(case.images) - 1)
    mask = lambda prediction, i: binarize(prediction.map(i), rule)[0]  # noqa: E731
    J = [float(np.mean([jaccard(mask(p, i), case.truths[i]) for i in kept])) for p in (clean, mixed)]
    return OutlierRecord(case.category, *J, float(mask(mixed, len(kept)).mean()), _figures(mixed))


def _figures(prediction: GroupPrediction) -> tuple[float, ...] | None:
    return None if prediction.present is None else tuple(float(p) for p in prediction.present)


def cases_of_set(test_set: TestSet, groups: int, seed: int = 0, group_size: int = 5) -> list[OutlierCase]:
    """Cases from a test set, its classes in turn; an image is foreign to a class if it stands in others only.

    Raises:
        DataError: no ground truth, or fewer than two classes, one of them of `group_size` images.
    """
    if not test_set.has_truth:
        raise DataError("outliers need ground truth: the folder groundtruth/ is missing")
    same_file = photographs(test_set.images)
    name = lambda image: same_file[image.category, image.name]  # noqa: E731
    members = defaultdict(list)
    for image in test_set.images:
        members[image.category].append(image)
    inside = {category: {name(i) for i in images} for category, images in members.items()}
    large = [category for category, images in members.items() if len(images) >= group_size]
    if not large or len(members) < 2:
        raise DataError(f"outliers need two classes and one of {group_size} images; this set has {len(members)} "
                        f"classes, {len(large)} of that size")  # fmt: skip
    rng, cases = np.random.default_rng(seed), []
    for k in range(groups):
        category = large[k % len(large)]
        images = [members[category][i] for i in rng.choice(len(members[category]), group_size, replace=False)]
        others = [i for i in test_set.images if i.category != category and name(i) not in inside[category]]
        if not others:
            raise DataError(f"no image is foreign to {category}: all of them stand in it too; use classes that differ")
        cases.append(_case(category, images, others[rng.integers(len(others))]))
    return cases


def _case(category: str, images: list[TestImage], foreign: TestImage) -> OutlierCase:
    truths = tuple(read_binary(image.truth).object for image in images)
    return OutlierCase(category, tuple(fitting(i.image, i.truth) for i in images), truths, foreign.image)


def cases_of_pool(pool: ImagePool, size: int, groups: int, seed: int = 0, group_size: int = 5) -> list[OutlierCase]:
    """Cases from held-out training images at size x size, every category as often as any other.

    Raises:
        DataError: no category has `group_size` images.
    """
    drawer, dataset = GroupDrawer(pool, group_size), GroupDataset(pool, (size, size))
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < groups:
        clean = drawer.draw(rng, 1)[0]
        mixed = drawer.with_foreign(rng, clean, 1)
        if not any(slot.foreign for slot in mixed.slots):
            raise DataError(f"no held-out image is known not to show '{clean.category}'")
        place = next(i for i, slot in enumerate(mixed.slots) if slot.foreign)
        order = [*(i for i in range(group_size) if i != place), place]
        both = [dataset[draw].images.permute(0, 2, 3, 1).numpy() for draw in (clean, mixed)]  # (N, H, W, 3) uint8
        truths = dataset[clean].masks.numpy()
        cases.append(
            OutlierCase(
                clean.category, tuple(both[0][i] for i in order), tuple(truths[i] for i in order), both[1][place]
            )
        )
    return cases
