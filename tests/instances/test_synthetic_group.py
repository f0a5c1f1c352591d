"""The whole method on a group that is made for it: discs of one colour on clutter, two in each image."""

from dataclasses import replace

import numpy as np
import pytest

from ssnm.instances.build import build_network
from ssnm.instances.config import config_from_dict
from ssnm.instances.evidence import ResponseSettings
from ssnm.instances.fit import FitSettings, fit_group
from ssnm.instances.pipeline import SelectSettings, choose
from ssnm.metrics.mask_ap import average_precision

SIDE = 160
SHIPPED = {"model": {"backbone": {"name": "mobilenetv2_100", "weights": "shipped", "tap": ""}}}


def disc(row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def picture(number: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """An image, its two objects, and its proposals: the objects, grey distractors, boxes of clutter."""
    random = np.random.default_rng(number)
    clutter = random.integers(90, 150, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    image = clutter.repeat(8, axis=0).repeat(8, axis=1)
    rows = random.permutation([35, 120])
    objects = [disc(rows[0], 38, 22), disc(rows[1], 118, 22)]
    distractors = [disc(rows[1], 36, 20), disc(rows[0], 120, 20)]
    for mask in distractors:
        image[mask] = (60, 60, 70)
    for mask in objects:
        image[mask] = (230, 30 + 10 * number, 20)
    boxes = np.zeros((12, SIDE, SIDE), dtype=bool)
    for box in boxes:
        top, left = random.integers(0, SIDE - 50, 2)
        box[top : top + 45, left : left + 45] = True
    return image, objects, np.concatenate([np.stack(objects), np.stack(distractors), boxes])


PICTURES = [picture(number) for number in range(4)]
TRUTHS = [np.stack(objects) for _, objects, _ in PICTURES]


@pytest.fixture(scope="module")
def fitted():
    """The fitted group and its rows of losses."""
    priors = [np.any(objects, axis=0).astype(float) for _, objects, _ in PICTURES]
    rows: list[dict] = []
    settings = FitSettings(mode="fast", size=256, epochs=40, lr=1e-3, reset_each_epoch=False)
    network = build_network(config_from_dict(SHIPPED).model)
    group = fit_group(network, [image for image, _, _ in PICTURES], priors, settings,
                      ResponseSettings(down_to_stride=8, clip=True), on_log=rows.append)  # fmt: skip
    return group, rows


def precision(evidence, settings: SelectSettings) -> float:
    found = [
        choose(one, proposals, settings, np.zeros((SIDE, SIDE)))
        for one, (_, _, proposals) in zip(evidence, PICTURES)
    ]
    return average_precision([f.masks for f in found], [f.scores for f in found], TRUTHS, [0.5])[0]


def test_losses_fall_and_co_saliency_finds_the_objects(fitted):
    group, rows = fitted
    assert rows[-1]["loss/saliency"] < 0.5 * rows[0]["loss/saliency"]
    for evidence, truth in zip(group, TRUTHS):
        inside = truth.any(0)
        assert evidence.cosaliency[inside].mean() > evidence.cosaliency[~inside].mean() + 0.2
        assert all(any(t[tuple(np.round(p).astype(int))] for p in evidence.peaks) for t in truth)  # a peak in each


def test_the_choice_is_far_above_chance_and_needs_the_saliency(fitted):
    evidence = list(fitted[0])
    settings = SelectSettings(normalise=True)
    chosen = precision(evidence, settings)
    random = np.random.default_rng(0)
    chance = np.mean([
        average_precision([p[random.permutation(len(p))[:2]] for _, _, p in PICTURES],
                          [random.random(2) for _ in PICTURES], TRUTHS, [0.5])[0] for _ in range(20)
    ])  # fmt: skip
    assert chosen > chance + 0.4
    assert precision(evidence, replace(settings, saliency=False)) < chosen
