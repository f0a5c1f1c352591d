"""The losses that the authors' release trains with: three terms of weight 1, no l_spa.

B groups, N images in a group, L co-categories. Masks are 0 or 1; `valid` is False at void pixels, which the
release's data (COCO) does not have: they are left out here.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..records import GroupBatch, SSNMOutput

Mean = Callable[[Tensor], Tensor]


def _alone(value: Tensor) -> Tensor:
    """The mean over the processes where there is one."""
    return value


def batch_weighted_cross_entropy(logits: Tensor, masks: Tensor, valid: Tensor, mean: Mean = _alone) -> Tensor:
    """Binary cross-entropy with weight p on positives and 1 - p on negatives, p the positive share of the *batch*.

    The plain mean over all valid pixels: it is not divided by the sum of the weights. Eq. 13 has one share per
    image instead. logits, masks, valid (B, N, H, W). `mean` averages a count over the processes that share the batch.
    """
    positives, pixels = mean(torch.stack([(masks * valid).sum(), valid.sum().to(masks.dtype)]))
    pixels = pixels.clamp(min=1)
    share = positives / pixels
    weight = torch.where(masks > 0.5, share, 1 - share) * valid
    return (F.binary_cross_entropy_with_logits(logits, masks, reduction="none") * weight).sum() / pixels


def smooth_l1_loss(logits: Tensor, masks: Tensor, valid: Tensor, mean: Mean = _alone) -> Tensor:
    """Smooth-L1 (Huber, knee at 1) between probability and mask: d^2 / 2 here, as d never exceeds 1.

    logits, masks, valid (B, N, H, W); `mean` as in :func:`batch_weighted_cross_entropy`.
    """
    error = F.smooth_l1_loss(logits.sigmoid(), masks, reduction="none")
    return (error * valid).sum() / mean(valid.sum().to(error.dtype)).clamp(min=1)


class ReleaseCriterion:
    """mask cross-entropy + category cross-entropy + smooth-L1, each of weight 1.

    Called with the output of a model and the batch; returns {"total": ..., "seg": ..., "sem": ..., "smooth_l1": ...}.
    The batch-wide counts are averaged over the processes by `mean`, so that the mean of the processes' losses is the
    loss of the whole batch.
    """

    def __init__(self, mean: Mean = _alone) -> None:
        self.mean = mean

    def __call__(self, output: SSNMOutput, batch: GroupBatch) -> dict[str, Tensor]:
        logits = output.mask_logits.float()
        terms = {
            "seg": batch_weighted_cross_entropy(logits, batch.masks, batch.valid, self.mean),
            "smooth_l1": smooth_l1_loss(logits, batch.masks, batch.valid, self.mean),
        }
        categories = output.modulation.category_logits
        if categories is not None:
            terms["sem"] = F.binary_cross_entropy_with_logits(categories.float(), batch.labels)
        return {"total": sum(terms.values()), **terms}
