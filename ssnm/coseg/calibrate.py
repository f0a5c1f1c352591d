"""Choose, on held-out training groups, the side at which a trained model sees its images and the slope of its logits.

Random crops make objects larger in training than at test, so that a network is often better at a side above the one
it was trained at (Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019); slope and offset of
the logits are Platt scaling (Platt 1999), folded into the last convolution. Masks are scored at the training size, as
validation does. It never sees a test set. Called by the calibrate command.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..engine.checkpoint import ModelFile
from ..metrics import binarize, jaccard
from ..nn.resize import resize_bilinear
from . import build
from .config import Config
from .groups import GroupDataset
from .outliers import cases_of_pool
from .predict import Predictor
from .presence import PresenceRule, fit_rule, peaks
from .quality import QualityRule, figures, fit_quality
from .validation import HALF, RELEASE_RULE, Validator

SLOPES, OFFSETS = (1.0, 1.5, 2.0, 3.0), (-0.5, 0.0, 0.5, 1.0)


class Choice(NamedTuple):
    """size: side of the images; logits become slope * (logit + offset). J, J_half: release rule, threshold 0.5."""

    size: int
    slope: float
    offset: float
    J: float
    J_half: float


def held_out_logits(
    model: torch.nn.Module, config: Config, size: int, groups: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Log-odds of the probabilities, which were predicted at `size` and resized to S = data.size, and the truth: both
    (images, S, S)."""
    train_size = config.data.size
    _, held_out = build.build_pools(config.data)
    v = config.validation
    drawn = Validator.make(held_out, train_size, config.data.group_size, groups, 0, v.seed, device, balance=v.balance)
    predictor = Predictor(model, size, device)
    shown, truth = (GroupDataset(held_out, (s, s)) for s in (size, train_size))
    logits, masks = [], []
    for draw in drawn.ordinary:
        group = shown[draw]
        prediction = predictor.predict_tensors(group.images, [(size, size)] * len(group.images), group.grey)
        maps = torch.from_numpy(prediction.probabilities)[:, None]
        maps = resize_bilinear(maps, (train_size, train_size), antialias=True)[:, 0]
        logits.append(torch.logit(maps, eps=1e-6))
        masks.append(truth[draw].masks)
    return torch.cat(logits), torch.cat(masks)


def scores(logits: Tensor, truth: Tensor, slope: float, offset: float) -> tuple[float, float]:
    """Mean J over images, in percent: by the release's threshold, and at 0.5."""
    maps = torch.sigmoid(slope * (logits + offset)).numpy()
    rows = [[jaccard(binarize(m, rule)[0], t) for rule in (RELEASE_RULE, HALF)] for m, t in zip(maps, truth.numpy())]
    release, half = 100 * np.mean(rows, axis=0)
    return float(release), float(half)


def choose(
    model: torch.nn.Module, config: Config, sizes: list[int], groups: int, device: torch.device
) -> tuple[Choice, list[Choice]]:
    """The choice with the largest J by the release's rule, and all that were compared."""
    compared = []
    for size in sizes:
        logits, truth = held_out_logits(model, config, size, groups, device)
        for slope in SLOPES:
            for offset in OFFSETS:
                compared.append(Choice(size, slope, offset, *scores(logits, truth, slope, offset)))
    return max(compared, key=lambda c: c.J), compared


def calibrate_rules(
    model: torch.nn.Module, config: Config, size: int, groups: int, device: torch.device, threshold: float | str = 0.5
) -> tuple[PresenceRule, QualityRule]:
    """The rules of "is the object in this image?" and "how good is this mask?", fitted to held-out groups with one
    foreign image each, whose J is 0, at `size`. The groups are drawn by validation.seed + 1; masks are cut by
    `threshold`, the model's own rule."""
    _, held_out = build.build_pools(config.data)
    cases = cases_of_pool(held_out, size, groups, config.validation.seed + 1, config.data.group_size)
    predictor = Predictor(model, size, device, presence=PresenceRule(1.0, 1.0, 0.0))
    sure, agreed, present, J, x = [], [], [], [], []
    for case in cases:
        prediction = predictor.predict([*case.images[:-1], case.foreign])
        sure.append(peaks(prediction.probabilities))
        agreed.append(prediction.agreement)
        x.append(figures(prediction.probabilities, prediction.agreement, threshold))
        masks = [binarize(p, str(threshold))[0] for p in prediction.probabilities[:-1]]
        J += [*(jaccard(m, t) for m, t in zip(masks, case.truths)), 0.0]
        present += [*[True] * len(masks), False]
    J = np.array(J)
    return fit_rule(np.concatenate(sure), np.concatenate(agreed), np.array(present), J), fit_quality(
        np.concatenate(x), J, threshold)  # fmt: skip


def with_rules(source: ModelFile, rules: tuple[PresenceRule, QualityRule], groups: int) -> ModelFile:
    """The model file with both rules; the card says what they were fitted to."""
    present, quality = rules
    fitted = f"{groups} held-out groups with one foreign image each"
    formula = f"{present.peak:.2f} * log-odds of the mask's peak + {present.agreement:.2f} * log(agreement)"
    expected = f"{quality.expected:.2f} * log-odds of the expected J + {quality.agreement:.2f} * log(agreement)"
    said = {
        "presence": f"sigmoid({formula} {present.bias:+.2f}), cut {present.cut:.2f}: {fitted}",
        "quality": f"sigmoid({expected} {quality.bias:+.2f}): {fitted}",
    }
    inference = {**source.inference, "present": present.to_dict(), "quality": quality.to_dict()}
    return dataclasses.replace(source, inference=inference, card={**source.card, **said})


def with_choice(source: ModelFile, choice: Choice) -> ModelFile:
    """The model with slope and offset folded into its last convolution and `size` as the one it is given images at."""
    weights = dict(source.weights)
    weights["head.predict.weight"] = choice.slope * weights["head.predict.weight"]
    weights["head.predict.bias"] = choice.slope * (weights["head.predict.bias"] + choice.offset)
    said = f"size {choice.size}, {choice.slope:g} * (logit + {choice.offset:g}): J {choice.J:.1f} on held-out groups"
    inference = {**source.inference, "size": choice.size}
    return dataclasses.replace(source, weights=weights, inference=inference, card={**source.card, "calibration": said})
