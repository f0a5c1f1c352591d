"""What the training runs of all methods do alike: finding the checkpoint to go on from, options of the loop, resuming,
telling of a loss that is no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError, TrainingError
from .loop import LoopOptions, NonFiniteLoss


def find_resume(request: str | None, out: Path) -> Path | None:
    """The checkpoint that `--resume` asks for: a file, or with "auto" the run folder's last one if there is one.

    Raises:
        ConfigError: a new run into a folder that already holds one.
    """
    last = out / "checkpoints" / "last.pt"
    if request == "auto":
        return last if last.exists() else None
    if request is None and last.exists():
        raise ConfigError(f"{out} already holds a run; go on with it (--resume auto) or choose another --out")
    return Path(request) if request else None


def loop_options(train: Any, evaluate_every: int) -> LoopOptions:
    """Options of the loop from a config's `train` section (the fields of the shared RunConfig)."""
    return LoopOptions(
        steps=train.steps,
        log_every=train.log_every,
        evaluate_every=evaluate_every,
        checkpoint_minutes=train.checkpoint_minutes,
        checkpoint_every=train.checkpoint_every,
        accumulate=train.accumulate,
        clip_norm=train.clip_norm,
        precision=train.precision,
    )


def told(error: NonFiniteLoss) -> TrainingError:
    """The error for the person at the keyboard: where it was, what the losses were, which images led to it."""
    losses = ", ".join(f"{name} {value:g}" for name, value in error.losses.items())
    if not error.here:
        return TrainingError(f"step {error.step}: the loss of another process is not finite ({losses}); see there")
    names = ", ".join(name for group in error.batch[0].names for name in group)
    return TrainingError(
        f"step {error.step}: the loss is not finite ({losses}) on the images {names}; nothing was saved after it: go "
        "on from the last checkpoint (--resume auto) with a lower train.lr or with train.clip_norm"
    )
