"""The mean of the weights of two models, the second fine-tuned from the first.

Fine-tuning wins what it was for and loses a little of the rest; a model between the two keeps much of both (Wortsman et
al., "Robust fine-tuning of zero-shot models", CVPR 2022). Example:

    python scripts/average_models.py BEFORE.safetensors runs/stage4/checkpoints/last.pt --out mean.safetensors

The result has the config, labels and card of the second. Layers that only the first has (a fusion that the second does
without) are dropped; rows of the classifier are matched by category, and new ones taken from the second.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from torch import Tensor

from ssnm.coseg.files import for_export
from ssnm.engine.checkpoint import ModelFile, export_model, load_model_file
from ssnm.errors import CheckpointError, UserError


def average(before: ModelFile, after: ModelFile, share: float) -> ModelFile:
    """`share` of `after` and the rest of `before`.

    Raises:
        CheckpointError: a layer of `after` is missing in `before`, or has another shape there.
    """
    weights = {}
    for name, new in after.weights.items():
        old = before.weights.get(name)
        if name.startswith("semantic.classifier.") and old is not None:
            old = _matched(old, new, before.inference["labels"], after.inference["labels"])
        if old is None or old.shape != new.shape:
            has = "no such layer" if old is None else tuple(old.shape)
            raise CheckpointError(f"{name}: the first model has {has}, the second {tuple(new.shape)}; give a model and "
                                  "one fine-tuned from it")  # fmt: skip
        weights[name] = torch.lerp(old.float(), new.float(), share) if new.is_floating_point() else new
    return dataclasses.replace(after, weights=weights)


def _matched(old: Tensor, new: Tensor, before: list[str], after: list[str]) -> Tensor:
    """The rows of `old` in the order of `after`; those that it lacks from `new`."""
    rows = {category: row for category, row in zip(before, old)}
    return torch.stack([rows.get(category, own).float() for category, own in zip(after, new)])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path, metavar="BEFORE")
    parser.add_argument("after", type=Path, metavar="AFTER")
    parser.add_argument("--share", type=float, default=0.5, help="of AFTER in the mean (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors")
    args = parser.parse_args(argv)
    if not 0 <= args.share <= 1 or args.out.suffix != ".safetensors":
        raise CheckpointError(f"--share must lie in [0, 1] and --out end in .safetensors, got {args.share}, {args.out}")
    before, after = (for_export(load_model_file(path), str(path)) for path in (args.before, args.after))
    export_model(args.out, average(before, after, args.share))
    print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
