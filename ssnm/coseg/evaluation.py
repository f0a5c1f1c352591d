"""Testing a model on a test set, by one process or several. Called by the test and group-use commands."""

from __future__ import annotations

import datetime
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch
from torch import distributed

from ..data.testsets import TestSet
from ..engine.logs import count_progress
from ..engine.runtime import git_commit
from ..errors import ConfigError
from ..pretrained import from_pretrained
from .predict import Predictor
from .testing import TestGroup, check_out_folder, make_groups, share_of_process, write_run_record, write_test_set


def select_classes(test_set: TestSet, classes: Sequence[str]) -> TestSet:
    """The test set restricted to some of its classes.

    Raises:
        ConfigError: a class that the set does not have.
    """
    unknown = [c for c in classes if c not in test_set.categories]
    if unknown:
        raise ConfigError(f"--classes: no class '{unknown[0]}'; there are {', '.join(test_set.categories)}")
    return replace(test_set, images=[i for i in test_set.images if i.category in classes], warnings=[])


@dataclass
class TestJob:
    """What stays the same over the groupings of one test."""

    __test__ = False

    checkpoint: str
    test_set: TestSet
    root: Path
    device: str | None = None
    group_size: int = 5
    overlays: bool = True

    def __post_init__(self) -> None:
        device = self.device
        if device is None and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        self.segmenter = from_pretrained(self.checkpoint, device)

    def write(self, out: Path, order: str, seed: int) -> tuple[list[TestGroup], Predictor]:
        """Predict every group (this process's share of them) and write the maps under `out`."""
        predictor = self.segmenter.predictor
        group_size = predictor.fixed_group_size or self.group_size
        groups = make_groups(self.test_set, group_size, order, seed)
        rank, world = process_rank()
        if rank == 0:
            check_out_folder(out, self.test_set.categories)
        out.mkdir(parents=True, exist_ok=True)
        mine = share_of_process(groups, predictor, rank, world)
        count = sum(group.new for call in mine for group in call)
        with count_progress(count, "image", self.test_set.name, hidden=rank > 0) as bar:
            spatial = write_test_set(predictor, mine, out, self.overlays, bar.update)
        spatial = _gather(spatial)
        if rank == 0:
            if spatial:
                np.savez_compressed(out / "spatial_masks.npz", **dict(sorted(spatial.items())))
            facts = {
                "checkpoint": str(self.segmenter.path.name),
                "commit": git_commit(),
                "grouping": order,
                "group_size": group_size,
                "seed": seed,
                "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            }
            write_run_record(out, self.test_set, self.root, groups, facts)
        return groups, predictor


@contextmanager
def shared_by_processes() -> Iterator[bool]:
    """Under torchrun, join the process group for the time of the block. Yields whether this is the first process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    distributed.init_process_group("gloo")
    try:
        yield distributed.get_rank() == 0
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def process_rank() -> tuple[int, int]:
    """(rank, world size); (0, 1) outside a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _gather(spatial: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The union of every process's dictionary, on all of them; also the moment when all maps are written."""
    rank, world = process_rank()
    if world == 1:
        return spatial
    parts: list = [None] * world
    distributed.all_gather_object(parts, spatial)
    return {key: value for part in parts for key, value in part.items()}
