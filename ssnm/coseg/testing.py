"""A whole test set through a predictor: groups, maps on disk, overlays, and a record of how they came about.

Out folder: <class>/<stem>.png maps at original size (grey 8-bit probability), spatial_masks.npz, run.json; overlays
go to _overlays/<class>/<stem>.jpg. Scoring reads the maps back from disk (ssnm.metrics).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from ..data.records import TestImage
from ..data.testsets import TestSet
from ..engine.distributed import Processes
from ..engine.runtime import git_commit
from ..errors import DataError
from ..files.atomic import arrays_bytes, image_bytes, write_atomically
from ..files.given import read_given
from ..files.listing import select_names
from ..files.masks import fitting, read_binary
from ..files.progress import count_progress
from ..metrics import ThresholdRule, binarize
from ..visualize.overlays import overlay, probability_image
from .partition import partition
from .predict import GroupPrediction, Predictor
from .segmenter import CoSegmenter

IMAGES_PER_CALL = 40


@dataclass(frozen=True)
class TestGroup:
    """One group of a test set: its images in order; the first `new` are predicted here for the first time."""

    __test__ = False

    category: str
    images: tuple[TestImage, ...]
    new: int


def select_classes(test_set: TestSet, classes: Sequence[str]) -> TestSet:
    """The test set restricted to some of its classes.

    Raises:
        ConfigError: a class that the set does not have, under this or another name of it.
    """
    chosen = select_names(test_set.categories, classes, "--classes")
    return replace(test_set, images=[i for i in test_set.images if i.category in chosen], warnings=[])


def make_groups(test_set: TestSet, group_size: int, order: str, seed: int = 0) -> list[TestGroup]:
    """Cut every class of a test set into groups; see :func:`ssnm.coseg.partition.partition`."""
    groups = []
    for category in test_set.categories:
        images = [image for image in test_set.images if image.category == category]
        for chunk in partition(len(images), group_size, order, seed):
            groups.append(TestGroup(category, tuple(images[i] for i in chunk.members), chunk.new))
    return groups


def share_of_process(groups: Sequence[TestGroup], predictor: Predictor, rank: int, world: int) -> list[list[TestGroup]]:
    """The calls of process `rank` of `world`. Whole calls are dealt, never parts of one: the last bits of a network's
    output depend on what goes through it together, and maps must not depend on the number of processes."""
    return list(batches_of(groups, predictor))[rank::world]


def predict_groups(
    predictor: Predictor, calls: Iterable[Sequence[TestGroup]], progress: Callable[[int], None] = lambda images: None
) -> Iterator[tuple[TestGroup, GroupPrediction]]:
    """Predict call after call; the groups of a call (see :func:`batches_of`) go through the network together."""
    for batch in calls:
        if len(batch) == 1:
            predictions = [predictor.predict([fitting(image.image, image.truth) for image in batch[0].images])]
        else:
            read = [[predictor.read(fitting(image.image, image.truth)) for image in group.images] for group in batch]
            stack = np.stack([np.stack([r[0].numpy() for r in rows]) for rows in read])
            predictions = predictor.predict_groups(torch.from_numpy(stack), [[r[2] for r in rows] for rows in read])
        for group, prediction in zip(batch, predictions):
            yield group, prediction
            progress(group.new)


def write_test_set(
    predictor: Predictor,
    calls: Iterable[Sequence[TestGroup]],
    out: Path,
    overlays: ThresholdRule | None = ThresholdRule(),
    progress: Callable[[int], None] = lambda images: None,
    quality: dict[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """Predict the groups of `calls` and write their maps under `out`, with overlays of masks cut by the rule `overlays`
    unless that is None.

    Returns the spatial masks by "class/stem"; `quality` is filled likewise by models that judge their masks.
    What is already written stays when a later image cannot be read.
    """
    spatial: dict[str, np.ndarray] = {}
    for group, prediction in predict_groups(predictor, calls, progress):
        for index, image in enumerate(group.images[: group.new]):
            probability = prediction.map(index)
            write_atomically(out / group.category / f"{image.name}.png", image_bytes(probability_image(probability)))
            if quality is not None and prediction.quality is not None:
                quality[f"{group.category}/{image.name}"] = round(float(prediction.quality[index]), 4)
            if prediction.spatial_masks is not None:
                spatial[f"{group.category}/{image.name}"] = prediction.spatial_masks[index].astype(np.float16)
            if overlays is not None:
                mask, _ = binarize(probability, overlays)
                photo = read_given(fitting(image.image, image.truth)).array
                picture = image_bytes(overlay(photo, mask), "JPEG", quality=85)
                write_atomically(out / "_overlays" / group.category / f"{image.name}.jpg", picture)
    return spatial


def in_memory_maps(
    predictor: Predictor, groups: Sequence[TestGroup]
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(class, name, probabilities at network resolution, truth) for ssnm.metrics.score_arrays: the release's
    number, on floats that never were a PNG."""
    for group, prediction in predict_groups(predictor, batches_of(groups, predictor)):
        for index, image in enumerate(group.images[: group.new]):
            if image.truth is not None:
                probability = prediction.probabilities[index]
                if prediction.absent(index):
                    probability = np.zeros_like(probability)
                yield group.category, image.name, probability, read_binary(image.truth).object


def png_maps(
    predictor: Predictor, groups: Sequence[TestGroup]
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(class, name, map, truth) as :func:`in_memory_maps`, with maps as they are written: 8 bits, original size."""
    for group, prediction in predict_groups(predictor, batches_of(groups, predictor)):
        for index, image in enumerate(group.images[: group.new]):
            if image.truth is not None:
                map_ = probability_image(prediction.map(index))
                yield group.category, image.name, map_, read_binary(image.truth).object


def checkpoint_facts(segmenter: CoSegmenter) -> dict:
    """Which model made a result: absolute path, SHA-256 of the file or of all files of an ONNX folder, step of its
    training (None: not said)."""
    path, digest = segmenter.path, hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else (path,):
        digest.update(file.read_bytes())
    return {
        "checkpoint": str(path.resolve()),
        "checkpoint_sha256": digest.hexdigest(),
        "step": segmenter.card.get("step"),
    }


def write_run_record(
    out: Path, test_set: TestSet, root: Path, groups: Sequence[TestGroup], facts: dict,
    quality: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """run.json: what made these maps, and which images formed which group (paths relative to
    data_root, which is absolute), with the quality of each mask by "class/stem" where the model tells it."""
    judged = lambda key: {} if key not in (quality or {}) else {"quality": quality[key]}  # noqa: E731
    relative = lambda path: None if path is None else str(Path(path).relative_to(root))  # noqa: E731
    record = {
        **facts,
        "dataset": test_set.name,
        "data_root": str(root.resolve()),
        "groups": [
            {
                "category": group.category,
                "new": group.new,
                "images": [
                    {"name": i.name, "image": relative(i.image), "truth": relative(i.truth),
                     **judged(f"{group.category}/{i.name}")}
                    for i in group.images
                ],
            }
            for group in groups
        ],
    }
    write_atomically(out / "run.json", json.dumps(record, indent=1) + "\n")


def check_out_folder(out: Path, categories: Iterable[str]) -> None:
    """Refuse an out folder that holds maps which this run would not write: they would be scored with it.

    Raises:
        DataError: naming the first foreign folder.
    """
    wanted = set(categories)
    for folder in sorted(out.iterdir()) if out.is_dir() else ():
        foreign = folder.is_dir() and not folder.name.startswith("_") and folder.name not in wanted
        if foreign and any(folder.glob("*.png")):
            raise DataError(f"{folder}: holds maps of another run; give an empty folder with --out, or remove it")


def batches_of(groups: Sequence[TestGroup], predictor: Predictor) -> Iterator[list[TestGroup]]:
    """Groups that go through the network together: consecutive ones of one size, at most IMAGES_PER_CALL images."""
    batch: list[TestGroup] = []
    for group in groups:
        full = batch and (
            len(group.images) != len(batch[0].images) or (len(batch) + 1) * len(group.images) > IMAGES_PER_CALL
        )
        if full or (batch and (predictor.fixed_group_size is not None or len(predictor.scales) > 1)):
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


@dataclass
class TestJob:
    """What stays the same over the groupings of one test. overlays: the rule that cuts the masks shown, None: none."""

    __test__ = False

    segmenter: CoSegmenter
    test_set: TestSet
    root: Path
    group_size: int = 5
    overlays: ThresholdRule | None = ThresholdRule()
    processes: Processes = Processes()

    def write(self, out: Path, order: str, seed: int) -> tuple[list[TestGroup], Predictor]:
        """Predict every group (this process's share of them) and write the maps under `out`."""
        predictor = self.segmenter.predictor
        group_size = predictor.fixed_group_size or self.group_size
        groups = make_groups(self.test_set, group_size, order, seed)
        if self.processes.is_first:
            check_out_folder(out, self.test_set.categories)
        out.mkdir(parents=True, exist_ok=True)
        mine = share_of_process(groups, predictor, self.processes.rank, self.processes.world)
        count = sum(group.new for call in mine for group in call)
        with count_progress(count, "image", self.test_set.name, hidden=not self.processes.is_first) as bar:
            quality: dict[str, float] = {}
            spatial = write_test_set(predictor, mine, out, self.overlays, bar.update, quality)
        spatial = dict(self.processes.gather(tuple(spatial.items())))  # also the moment when all maps are written
        quality = dict(self.processes.gather(tuple(quality.items())))
        if self.processes.is_first:
            if spatial:
                write_atomically(out / "spatial_masks.npz", arrays_bytes(dict(sorted(spatial.items()))))
            facts = {
                **checkpoint_facts(self.segmenter),
                "commit": git_commit(),
                "grouping": order,
                "group_size": group_size,
                "seed": seed,
                "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            }
            write_run_record(out, self.test_set, self.root, groups, facts, quality)
        return groups, predictor
