"""Choose, on held-out training groups, the side at which a trained model sees its images, the guidance and slope of its
logits.

Random crops make objects larger in training than at test, so that a network is often better at a side above the one
it was trained at (Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019); slope and offset of
the logits are Platt scaling (Platt 1999), folded into the last convolution. Masks are scored at the training size, as
validation does. It never sees a test set. Called by the calibrate command.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..engine.checkpoint import ModelFile
from ..metrics import binarize, jaccard
from ..naming import counted
from ..nn.resize import resize_bilinear
from . import build
from .config import Config
from .files import Inference
from .groups import GroupDataset
from .outliers import OutlierCase, cases_of_pool
from .pool import ImagePool
from .predict import Predictor
from .presence import PresenceRule, fit_rule, peaks
from .quality import QualityRule, figures, fit_quality
from .validation import HALF, RELEASE_RULE, Validator

FURTHER_WEIGHT = 0.1  # of a set of validation.sources in the fit: groups of one event look more alike than users' do
SLOPES, OFFSETS = (1.0, 1.5, 2.0, 3.0), (-0.5, 0.0, 0.5, 1.0)


class Choice(NamedTuple):
    """size: side of the images; guidance: see :class:`ssnm.coseg.predict.Predictor`; logits become slope * (logit +
    offset). J, J_half: release rule, threshold 0.5."""

    size: int
    guidance: float
    slope: float
    offset: float
    J: float
    J_half: float


def held_out_logits(
    model: torch.nn.Module, config: Config, size: int, guidance: float, groups: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Log-odds of the probabilities, which were predicted at `size` and resized to S = data.size, and the truth: both
    (images, S, S)."""
    train_size = config.data.size
    _, held_out = build.build_pools(config.data)
    v = config.validation
    drawn = Validator.make(held_out, train_size, config.data.group_size, groups, 0, v.seed, device, balance=v.balance)
    predictor = Predictor(model, size, device, guidance=guidance)
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
    model: torch.nn.Module, config: Config, sizes: list[int], guidances: list[float], groups: int, device: torch.device
) -> tuple[Choice, list[Choice]]:
    """The choice with the largest J by the release's rule, and all that were compared."""
    compared = []
    for size, guidance in product(sizes, guidances):
        logits, truth = held_out_logits(model, config, size, guidance, groups, device)
        for slope in SLOPES:
            for offset in OFFSETS:
                compared.append(Choice(size, guidance, slope, offset, *scores(logits, truth, slope, offset)))
    return max(compared, key=lambda c: c.J), compared


def calibrate_rules(
    model: torch.nn.Module, config: Config, inference: Inference, groups: int, device: torch.device
) -> tuple[PresenceRule, QualityRule]:
    """The rules of "is the object in this image?" and "how good is this mask?", fitted to groups as they are and with
    one foreign image, whose J is 0, as `inference` has them predicted and cut. The groups are drawn by validation.seed
    + 1.

    The first rule is for kinds that training lacks as well: it is fitted to held-out images and to validation.sources,
    each of these with FURTHER_WEIGHT of the held-out images' weight, and once more to the same groups steered by the
    truth of their first image (`PresenceRule.steered`); the second to held-out images alone.
    """
    seed, group_size = config.validation.seed + 1, config.data.group_size
    size, threshold, any_rule = inference.size, inference.threshold, PresenceRule(0.0, 0.0, 0.0, 0.0)
    predictor = Predictor(model, size, device, presence=any_rule, guidance=inference.guidance)
    _, held_out = build.build_pools(config.data)
    sets = [cases_of_pool(held_out, size, groups, seed, group_size)]
    for source in config.validation.sources:
        pool = ImagePool([build.build_source(source, config.data)])
        sets.append(cases_of_pool(pool, size, 2 * len(pool.members), seed, group_size))
    plain = [_judged(predictor, cases, threshold) for cases in sets]
    given = [[case for case in cases if case.truths[0].any()] for cases in sets]
    steered = [_judged(predictor, cases, threshold, steered=True) for cases in given if cases]
    presence = replace(_presence_rule(plain), steered=_presence_rule(steered) if given[0] else None)
    return presence, fit_quality(plain[0].figures, plain[0].J, threshold)


def _presence_rule(judged: Sequence[Judged]) -> PresenceRule:
    """Fitted to the held-out images, which come first, and to further sets."""
    sure, belongs, present, J, _ = (np.concatenate(parts) for parts in zip(*judged))
    weights = [1.0, *[FURTHER_WEIGHT] * (len(judged) - 1)]
    weight = np.concatenate([np.full(len(j.J), w / len(j.J)) for j, w in zip(judged, weights)])
    return fit_rule(sure, belongs, present, J, weight)


class Judged(NamedTuple):
    """Of the images of some groups: peaks (n,), evidence (n, 2), whether the object is there (n,), J of the mask (n,),
    figures of quality (n, 3)."""

    peaks: np.ndarray
    evidence: np.ndarray
    present: np.ndarray
    J: np.ndarray
    figures: np.ndarray


def _judged(
    predictor: Predictor, cases: Iterable[OutlierCase], threshold: float | str, steered: bool = False
) -> Judged:
    """steered: by the truth of the first image, which is left out."""
    rows = []
    for case in cases:
        for images in (case.images, (*case.images[:-1], case.foreign)):
            prediction = predictor.predict(images, reference={0: case.truths[0]} if steered else None)
            maps = prediction.probabilities
            J = np.array([jaccard(binarize(p, str(threshold))[0], t) for p, t in zip(maps, case.truths)])
            present = np.array([image is own for image, own in zip(images, case.images)])
            quality = figures(maps, prediction.agreement, threshold)
            row = Judged(peaks(maps), prediction.evidence, present, J * present, quality)
            rows.append(Judged(*(figure[int(steered) :] for figure in row)))
    return Judged(*(np.concatenate(parts) for parts in zip(*rows)))


def with_rules(
    source: ModelFile, rules: tuple[PresenceRule, QualityRule], groups: int, further: Sequence[str] = ()
) -> ModelFile:
    """The model file with both rules; the card says what they were fitted to. further: names of the sets besides the
    held-out images that the rule of presence was fitted to."""
    present, quality = rules
    sets = "".join(f", groups of {name} (twice its classes)" for name in further)
    fitted, foreign = counted(groups, "held-out group"), "as they are and with one foreign image"
    expected = f"{quality.expected:.2f} * log-odds of the expected J {quality.agreement:+.2f} * log(agreement)"
    steered = f"; with a reference {_formula(present.steered)}" if present.steered else ""
    said = {
        "presence": f"{_formula(present)}{steered}: {fitted}{sets} {foreign}",
        "quality": f"sigmoid({expected} {quality.bias:+.2f}), masks cut at {quality.threshold}: {fitted} {foreign}",
    }
    inference = {**source.inference, "present": present.to_dict(), "quality": quality.to_dict()}
    return replace(source, inference=inference, card={**source.card, **said})


def _formula(rule: PresenceRule) -> str:
    return (f"sigmoid({rule.peak:.2f} * log-odds of the mask's peak {rule.agreement:+.2f} * log(agreement / largest) "
            f"{rule.appearance:+.2f} * (likeness - largest) {rule.bias:+.2f}), cut {rule.cut:.2f}")  # fmt: skip


def with_choice(source: ModelFile, choice: Choice) -> ModelFile:
    """The model with slope and offset folded into its last convolution, `size` as the one it is given images at and
    `guidance`; without the rules of presence and quality, which were fitted to other maps."""
    weights = dict(source.weights)
    weights["head.predict.weight"] = choice.slope * weights["head.predict.weight"]
    weights["head.predict.bias"] = choice.slope * (weights["head.predict.bias"] + choice.offset)
    said = (f"size {choice.size}, guidance {choice.guidance:g}, {choice.slope:g} * (logit + {choice.offset:g}): "
            f"J {choice.J:.1f} on held-out groups")  # fmt: skip
    fitted = ("present", "quality", "presence")  # rules of other maps: gone
    inference = {name: value for name, value in source.inference.items() if name not in fitted}
    inference |= {"size": choice.size, "guidance": choice.guidance}
    card = {name: value for name, value in source.card.items() if name not in fitted}
    return replace(source, weights=weights, inference=inference, card={**card, "calibration": said})
