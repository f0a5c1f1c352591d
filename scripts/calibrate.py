"""Choose, on held-out training groups, the side at which a trained model sees its images and the slope of its logits.

Random crops make objects larger in training than at test, so that a network is often better at a side above the one
it was trained at (Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019); slope and offset of
the logits are Platt scaling (Platt 1999), folded into the last convolution. Example:

    python scripts/calibrate.py RUN/checkpoints/last.pt --out model.safetensors --sizes 224 256 288

draws the groups from the data of the checkpoint's own config (--set overrides it), prints J of every choice and writes
the model with the best. Masks are scored at the training size, as validation does. It never sees a test set.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssnm.config.loading import apply_overrides
from ssnm.coseg import build as factory
from ssnm.coseg.config import Config, ModelConfig, config_from_dict
from ssnm.coseg.groups import GroupDataset
from ssnm.coseg.predict import Predictor
from ssnm.coseg.validation import HALF, RELEASE_RULE, Validator
from ssnm.engine.checkpoint import ModelFile, export_model, load_model_file
from ssnm.engine.runtime import pick_device
from ssnm.errors import CheckpointError, UserError
from ssnm.metrics import binarize, jaccard
from ssnm.nn.resize import resize_bilinear

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
    """Logits at `size` resized to the training size, and the truth: both (images, S, S), S = data.size."""
    train_size = config.data.size
    _, held_out = factory.build_pools(config.data)
    v = config.validation
    drawn = Validator.make(held_out, train_size, config.data.group_size, groups, 0, v.seed, device)
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


def with_choice(source: ModelFile, choice: Choice) -> ModelFile:
    """The model with slope and offset folded into its last convolution and `size` as model.test_size."""
    weights = dict(source.weights)
    weights["head.predict.weight"] = choice.slope * weights["head.predict.weight"]
    weights["head.predict.bias"] = choice.slope * (weights["head.predict.bias"] + choice.offset)
    model = {**source.config["model"], "test_size": choice.size}
    said = f"size {choice.size}, {choice.slope:g} * (logit + {choice.offset:g}): J {choice.J:.1f} on held-out groups"
    config, card = {**source.config, "model": model}, {**source.card, "calibration": said}
    return dataclasses.replace(source, weights=weights, config=config, card=card)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more was expected, got {text}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a training checkpoint or exported model")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 256, 288], help="default: 224 256 288")
    parser.add_argument("--groups", type=_positive, default=100, help="held-out groups to draw (default: %(default)s)")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="as in train.py")
    parser.add_argument("--device", help="cpu, cuda, ...")
    args = parser.parse_args(argv)
    source = load_model_file(args.checkpoint)
    model, trained = factory.model_from_file(source, str(args.checkpoint))
    if not isinstance(trained.model, ModelConfig):
        raise CheckpointError(
            f"{args.checkpoint}: a paper-variant model was expected, got {trained.model.name}, whose size is fixed"
        )
    config = config_from_dict(apply_overrides(source.config, args.overrides), str(args.checkpoint))
    if args.out.suffix != ".safetensors":
        raise CheckpointError(f"{args.out}: the name of an exported model ends in .safetensors")
    best, compared = choose(model, config, args.sizes, args.groups, pick_device(args.device))
    print(f"{args.groups} held-out groups, J over images in percent\n size  slope  offset  release rule  at 0.5")
    for c in compared:
        mark = "  <- chosen" if c == best else ""
        print(f"{c.size:5d}  {c.slope:5.1f}  {c.offset:6.1f}  {c.J:12.1f}  {c.J_half:6.1f}{mark}")
    export_model(args.out, with_choice(source, best))
    print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
