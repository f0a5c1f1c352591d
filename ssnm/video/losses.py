"""The loss of OSMN: cross-entropy summed over pixels, the two classes balanced over the whole batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def class_balanced_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """(N / T) * sum over P positives of -log p + (P / T) * sum over N negatives of -log (1 - p), T = P + N.

    A sum, not a mean, and balanced over the batch, not per image, as in the original (and in OSVOS): an image without
    object still adds its negatives if another image of the batch has positives. Without positives or without
    negatives the loss and its gradient are 0.

    Args:
        logits: (B, H, W).
        masks: (B, H, W), in [0, 1]; above 0.5 is positive.

    Returns:
        A scalar, float32. At zero logits it is 2 P N / T * ln 2.
    """
    positive = (masks > 0.5).float()
    share = positive.mean()  # P / T
    weight = positive * (1 - share) + (1 - positive) * share
    return binary_cross_entropy_with_logits(logits.float(), positive, weight, reduction="sum")
