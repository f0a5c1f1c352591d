"""What was made faster, beside the form it had before: CPU seconds of both, alternating in one process.

    python benchmarks/run.py --only before_after

The old forms stand here and nowhere else. CPU seconds, since other programs share most machines; medians of the rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installation

from ssnm.coseg import validation as validation_module
from ssnm.coseg.groups import GroupDataset
from ssnm.coseg.model import SSNM, Fusion, SpatialModulator
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.predict import Predictor
from ssnm.coseg.release.adam200 import adam200
from ssnm.coseg.release.model import ReleaseSpatial
from ssnm.coseg.sampler import GroupDraw, GroupDrawer, Slot
from ssnm.coseg.spectral import clustering_energy, leading_eigenvector, unit_descriptors
from ssnm.coseg.validation import Validator
from ssnm.data.procedural import ProceduralSource
from ssnm.data.records import Item
from ssnm.nn.backbones import Backbone

Work = Callable[[], Any]
ROUNDS = 5


def measure(rounds: int = ROUNDS, images: int = 200_000, size: int = 224, backbones: tuple[str, ...] = ()) -> dict:
    """One row per pair. images: of the pool that the sampler draws from; size: side of the images of the others."""
    backbones = backbones or ("mobilenetv2_100", "hrnet_w32")
    pairs = {
        **{f"sampler, a step of {groups} groups": sampler(images, groups) for groups in (4, 32)},
        **{f"fusion, forward and backward, D = {dim}": fusion(channels, dim, size)
           for channels, dim in (((24, 32, 96, 320), 128), ((128, 256, 512, 512), 512))},  # fmt: skip
        **{f"building {name}": building(name) for name in backbones},
        "spatial mask of the release, a group of 5": release_mask(),
        "a second validation, 8 groups of 5": validation(size // 2),
    }
    rows = [{"what": what, **compare(*pair, rounds)} for what, pair in pairs.items()]
    return {"name": "before_after", "rows": rows, "tables": {"bytes of a batch, 4 x 5 images": bytes_of_a_batch(size)}}


def compare(before: Work, after: Work, rounds: int) -> dict[str, float]:
    """Median CPU seconds of both, and of the rounds' ratios."""
    times = []
    for index in range(rounds + 1):
        pair = []
        for work in (before, after):
            begin = time.process_time()
            work()
            pair.append(time.process_time() - begin)
        if index:  # the first round warms up
            times.append(pair)
    old, new = zip(*times)
    return {"before_s": median(old), "after_s": median(new), "ratio": median(b / a for b, a in times)}


class ListDrawer(GroupDrawer):
    """Filters the list of a category's images for every group."""

    def _ordinary(self, rng: np.random.Generator, draws: list[GroupDraw]) -> GroupDraw:
        taken = {d.category for d in draws}
        p = np.array([0.0 if c in taken else w for c, w in zip(self.categories, self._p)])
        category = self.categories[rng.choice(len(self.categories), p=p / p.sum())]
        ids = [i for i in self.pool.members[category] if i not in frozenset()]
        clean = [i for i in ids if None not in self.pool.item(i).categories]
        items = [int(i) for i in rng.choice(clean, self.group_size, replace=False)]
        return GroupDraw(category, tuple(Slot(i, int(rng.integers(2**63))) for i in items if rng.random() >= 0))


class Counted:
    """Images of 78 categories whose sizes fall geometrically from the largest to the smallest of COCO-SEG."""

    name = "counted"

    def __init__(self, images: int) -> None:
        sizes = np.geomspace(49_355, 201, 78)
        counts = np.maximum(sizes * images / sizes.sum(), 5).astype(int)
        self.categories = tuple(f"category {k}" for k in range(78))
        self.items = [Item("image", None, (c,)) for c, count in zip(self.categories, counts) for _ in range(count)]


def sampler(images: int, groups: int) -> tuple[Work, Work]:
    pool = ImagePool([Counted(images)])
    old, new = ListDrawer(pool, 5), GroupDrawer(pool, 5)
    return (lambda: old.draw(np.random.default_rng(0), groups)), (lambda: new.draw(np.random.default_rng(0), groups))


def fusion(channels: tuple[int, ...], dim: int, size: int) -> tuple[Work, Work]:
    """Convolution before averaging, on every position of the finer map."""
    network = Fusion(channels, dim)
    maps = [torch.rand(5, c, size // s, size // s, requires_grad=True) for c, s in zip(channels, (4, 8, 16, 32))]

    def convolve_first() -> torch.Tensor:
        running = network.lateral[0](maps[0])
        for level in range(1, len(maps)):
            running = running if level == 1 else network.running[level - 2](running)
            running = F.avg_pool2d(running, 2)
            running = network.merge[level - 1](running + network.lateral[level](maps[level]))
        return running

    return (lambda: convolve_first().sum().backward()), (lambda: network(maps).sum().backward())


def building(name: str) -> tuple[Work, Work]:
    """Once to ask for its strides, once to have it."""
    options = {"feature_location": ""} if name.startswith("hrnet") else {}

    def twice() -> None:
        timm.create_model(name, features_only=True, **options)
        Backbone(name)

    return twice, lambda: Backbone(name)


def release_mask() -> tuple[Work, Work]:
    """With the exact solver beside the release's own steps, whose eigenvector only a log saw."""
    features, spatial = torch.rand(1, 5, 512, 7, 7) - 0.5, ReleaseSpatial("adam200")

    def with_both() -> None:
        descriptors = unit_descriptors(features)
        vector, _ = leading_eigenvector(descriptors)
        adam200(descriptors)
        clustering_energy(descriptors, vector)

    return with_both, lambda: spatial(features)


def validation(size: int) -> tuple[Work, Work]:
    """Every group decoded again and predicted by itself."""
    pool = ImagePool([ProceduralSource(num_images=200, seed=1)])
    validator = Validator.make(pool, size, 5, 8, 0, 1, torch.device("cpu"), pictures=0)
    backbone = Backbone("mobilenetv2_035")
    model = SSNM(backbone, len(pool.labels), 32, SpatialModulator(), {}).eval()
    dataset = GroupDataset(pool, (size, size))

    def one_by_one() -> None:
        for draw in validator.ordinary:
            dataset[draw]
        validation_module.Predictor = partial(Predictor, chunk=5)
        validator(model)
        validation_module.Predictor = Predictor

    return one_by_one, lambda: validator(model)


def bytes_of_a_batch(size: int) -> list[dict[str, Any]]:
    pixels = 4 * 5 * size * size
    return [
        {"form": "before: float32 images and masks, bool valid", "MB": pixels * (3 * 4 + 4 + 1) / 1e6},
        {"form": "after: uint8 images, bool masks and valid", "MB": pixels * (3 + 1 + 1) / 1e6},
    ]
