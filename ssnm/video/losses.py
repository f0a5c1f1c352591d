"""The losses of OSMN: cross-entropy summed over pixels, the two classes balanced over the whole batch; and for the
small network, which this loss would make too generous, a plain mean and Dice.

B samples, H W size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .records import VideoBatch

DICE_SMOOTHING = 1.0  # pixels


def class_balanced_loss(
    logits: Tensor, masks: Tensor, valid: Tensor | None = None, mean: Callable[[Tensor], Tensor] = lambda value: value
) -> Tensor:
    """(N / T) * sum over P positives of -log p + (P / T) * sum over N negatives of -log (1 - p), T = P + N.

    A sum, not a mean, and balanced over the batch, not per image, as in the original (and in OSVOS): an image without
    object still adds its negatives if another image of the batch has positives. Without positives or without
    negatives the loss and its gradient are 0.

    Args:
        logits: (B, H, W).
        masks: (B, H, W), in [0, 1]; above 0.5 is positive.
        valid: (B, H, W) bool; pixels where it is False count nowhere.
        mean: over the processes of a run, so that all balance by the batch of all.

    Returns:
        A scalar, float32. At zero logits it is 2 P N / T * ln 2.
    """
    positive = (masks > 0.5).float()
    counted = torch.ones_like(positive) if valid is None else valid.float()
    counts = mean(torch.stack([(positive * counted).sum(), counted.sum()]))
    share = counts[0] / counts[1].clamp(min=1)  # P / T
    weight = counted * (positive * (1 - share) + (1 - positive) * share)
    return binary_cross_entropy_with_logits(logits.float(), positive, weight, reduction="sum")


def mean_cross_entropy(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """The mean over valid pixels of each image, then over images; shapes as above."""
    each = binary_cross_entropy_with_logits(logits.float(), (masks > 0.5).float(), reduction="none") * valid
    return (each.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).mean()


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """1 - (2 sum p t + 1) / (sum p + sum t + 1) per image over valid pixels, then the mean; shapes as above."""
    probabilities, truth = logits.float().sigmoid() * valid, (masks > 0.5).float() * valid
    both, sizes = (probabilities * truth).sum((1, 2)), probabilities.sum((1, 2)) + truth.sum((1, 2))
    return (1 - (2 * both + DICE_SMOOTHING) / (sizes + DICE_SMOOTHING)).mean()


@dataclass(frozen=True)
class VideoCriterion:
    """The named losses of a batch and their weighted total. A weight of 0 leaves a term out.

    balanced: of the class-balanced sum (the original: 1); cross_entropy: of the mean cross-entropy; dice. mean, world:
    of the processes of a run: gradients are averaged over them, and the balanced loss is a sum over all.
    """

    balanced: float = 1.0
    cross_entropy: float = 0.0
    dice: float = 0.0
    mean: Callable[[Tensor], Tensor] = lambda value: value
    world: int = 1

    def __call__(self, logits: Tensor, batch: VideoBatch) -> dict[str, Tensor]:
        losses = {}
        if self.balanced:
            own = class_balanced_loss(logits, batch.masks, batch.valid, self.mean)
            losses["balanced"] = self.balanced * self.world * own
        if self.cross_entropy:
            losses["cross_entropy"] = self.cross_entropy * mean_cross_entropy(logits, batch.masks, batch.valid)
        if self.dice:
            losses["dice"] = self.dice * dice_loss(logits, batch.masks, batch.valid)
        return {**losses, "total": sum(losses.values())}
