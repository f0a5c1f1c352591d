"""Repeat the forward pass whose loss was not a number, from the dump that the run wrote.

    python scripts/replay_nonfinite.py runs/x/nonfinite/step_000123_process_0.pt

Prints the images of the batch, the losses, and the first module whose output is not finite. A dump of a CUDA run holds
no weights (they were spoilt when the loss arrived): the command that goes on from the last checkpoint is printed, which
meets the same batch at the same step. Random layers (dropout) are drawn anew; the shipped configs have none that act.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from ssnm.coseg import build as factory
from ssnm.engine.checkpoint import ModelFile
from ssnm.engine.nonfinite import Dump, read_dump
from ssnm.errors import UserError


def replay(dump: Dump, where: str) -> tuple[dict[str, float], str | None]:
    """The losses, and the name of the first module with an output that is not finite."""
    model, config = factory.model_from_file(ModelFile(dump.config, dump.labels, dump.weights), where)
    first: list[str] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(_note_nonfinite(name, first))
    model.train()
    with torch.no_grad():
        losses = factory.build_criterion(config.loss)(factory.group_forward(model)(dump.batch), dump.batch)
    return {name: float(value) for name, value in losses.items()}, next(iter(first), None)


def _note_nonfinite(name: str, first: list[str]):
    def hook(module: nn.Module, inputs: tuple, output) -> None:
        tensors = [t for t in (output if isinstance(output, (list, tuple)) else [output]) if isinstance(t, Tensor)]
        if not all(t.isfinite().all() for t in tensors):
            first.append(name)

    return hook


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path, help="RUN/nonfinite/step_*.pt")
    path = parser.parse_args(arguments).dump
    try:
        dump = read_dump(path)
        print(f"step {dump.step}, losses then: {dump.losses}")
        for number, group in enumerate(dump.batch.names):
            finite = dump.batch.images[number].flatten(1).isfinite().all(1).tolist()
            print(f"group {number}: " + ", ".join(n if ok else f"{n} (NOT FINITE)" for n, ok in zip(group, finite)))
        if dump.weights is None:
            run = Path(dump.checkpoint).parents[1]
            command = f"python train.py {run}/config.yaml --resume auto --out {run}"
            print(f"no weights in this dump; repeat it with: {command}")
            return 0
        losses, first = replay(dump, str(path))
        print(f"losses now: {losses}")
        print(f"first module with an output that is not finite: {first or 'none'}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
