"""The losses of SSNM (Eq. 9, 12, 13, 14) and the terms that its release and our small configs add.

Every function returns one scalar; :class:`CosegCriterion` returns them by name and `total`.
B groups, N images in a group, L co-categories. Masks are 0 or 1; `valid` is False at void pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .records import GroupBatch, SSNMOutput

WEIGHTINGS = ("paper", "balanced", "none")


def positive_share(masks: Tensor, valid: Tensor) -> Tensor:
    """delta^n of Eq. 13: the share of positive pixels among the valid ones of each image.

    masks, valid (..., H, W) -> (..., 1, 1)
    """
    pixels = valid.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    return (masks * valid).sum(dim=(-2, -1), keepdim=True) / pixels


def segmentation_loss(logits: Tensor, masks: Tensor, valid: Tensor, weighting: str = "paper") -> Tensor:
    """l_seg (Eq. 13): pixel-wise weighted binary cross-entropy, averaged over images and their valid pixels.

    weighting: "paper" positives times delta, negatives times 1 - delta (as printed); "balanced" the reverse,
    which gives small objects more weight; "none" one for all.
    logits, masks, valid: (B, N, H, W). An image without valid pixels counts as 0.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    if weighting != "none":
        delta = positive_share(masks, valid)
        positive, negative = (delta, 1 - delta) if weighting == "paper" else (1 - delta, delta)
        cross_entropy = cross_entropy * torch.where(masks > 0.5, positive, negative)
    per_image = (cross_entropy * valid).sum(dim=(-2, -1)) / valid.sum(dim=(-2, -1)).clamp(min=1)
    return per_image.mean()


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - Dice of the probabilities, averaged over images (Milletari et al., V-Net, 2016). Range [0, 1).

    logits, masks, valid: (B, N, H, W). `smooth` pixels are added to both sides: an empty image that is
    predicted empty costs 0.
    """
    probability = logits.sigmoid() * valid
    overlap = (probability * masks).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + (masks * valid).sum(dim=(-2, -1))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def teacher_loss(logits: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and Dice against another network's soft maps, averaged over images with `weight`.

    logits, teacher (B, N, H, W), the teacher in [0, 1]; weight (B, N), 0 for an image without a map. The form of
    BASNet's hybrid loss (Qin et al., CVPR 2019) without its SSIM term. Weights that sum to less than 1 are not
    enlarged: 0 where every weight is 0.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, teacher, reduction="none").mean(dim=(-2, -1))
    probability = logits.sigmoid()
    overlap = (probability * teacher).sum(dim=(-2, -1))
    total = probability.square().sum(dim=(-2, -1)) + teacher.square().sum(dim=(-2, -1))
    per_image = cross_entropy + 1 - (2 * overlap + 1) / (total + 1)
    return (per_image * weight).sum() / weight.sum().clamp(min=1)


def agreement_with_truth(teacher: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """J of the teacher's maps, cut at one half, with the truth: (B, N, H, W) each -> (B, N) in [0, 1]."""
    said, true = (teacher > 0.5) & valid, (masks > 0.5) & valid
    return (said & true).sum(dim=(-2, -1)) / (said | true).sum(dim=(-2, -1)).clamp(min=1)


def category_loss(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """l_sem (Eq. 12): binary cross-entropy, mean over the L categories and the groups. logits, labels (B, L).

    known (B, L) bool: categories of which nobody said whether the group shares them are left out of the mean.
    """
    if known is None:
        return F.binary_cross_entropy_with_logits(logits, labels)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def exchange_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """The masks of images under another group's gamma: empty where its object is absent. Group-wise negatives, after
    the group collaborating module of GCoNet (Fan et al., "Group collaborative learning for co-salient object
    detection", CVPR 2021, section 3.3), which crosses the features of one group with the consensus of another and
    wants an empty map; here the truth of the other group's categories is used, so that images that do show them count.

    logits, masks, valid (B, K, H, W). Cross-entropy over the valid pixels, averaged over the images that have any.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    pixels = valid.sum(dim=(-2, -1))
    per_image = (cross_entropy * valid).sum(dim=(-2, -1)) / pixels.clamp(min=1)
    return per_image.sum() / (pixels > 0).sum().clamp(min=1)


def clustering_loss(energy: Tensor, descriptors: int, reduction: str = "sum") -> Tensor:
    """l_spa (Eq. 9): -s^T G s, averaged over groups.

    energy (B,) with gradient to the descriptors; "sum" as printed (of order M), "mean" divides by M = `descriptors`.
    """
    return -energy.mean() / (descriptors if reduction == "mean" else 1)


class CosegCriterion:
    """l = l_spa + l_sem + l_seg (Eq. 14) with a weight per term; a term of weight 0 is not computed.

    Args:
        spa, sem, seg, dice: the weights.
        weighting: of the pixels in l_seg, see :func:`segmentation_loss`.
        spa_reduction: "sum" or "mean", see :func:`clustering_loss`.
        sem_image: weight of the category loss of every image as a group of one.
        exchange: weight of :func:`exchange_loss`.
        teacher, teacher_on: weight of :func:`teacher_loss`, and the images it is for: "all", or "agreeing" ones.

    Called with the output of the model and the batch; returns {"total": ..., "seg": ..., ...}. Terms of a
    modulator that is switched off are left out. With a spatial modulator there is `eigenvalue_share`, the eigenvalue
    over the number of descriptors, which is no term of the loss: 0.05 to 0.2 where a group has structure, near 1 where
    the clustered maps have collapsed (docs/spatial_modulator.md).
    """

    def __init__(
        self,
        spa: float = 1.0,
        sem: float = 1.0,
        seg: float = 1.0,
        dice: float = 0.0,
        weighting: str = "paper",
        spa_reduction: str = "sum",
        teacher: float = 0.0,
        teacher_on: str = "all",
        exchange: float = 0.0,
        sem_image: float = 0.0,
    ) -> None:
        self.weights = {"spa": spa, "sem": sem, "seg": seg, "dice": dice, "teacher": teacher, "exchange": exchange,
                        "sem_image": sem_image}  # fmt: skip
        self.weighting, self.spa_reduction, self.teacher_on = weighting, spa_reduction, teacher_on

    def __call__(self, output: SSNMOutput, batch: GroupBatch) -> dict[str, Tensor]:
        logits, modulation = output.mask_logits.float(), output.modulation
        terms: dict[str, Tensor] = {}
        if self.weights["seg"]:
            terms["seg"] = segmentation_loss(logits, batch.masks, batch.valid, self.weighting)
        if self.weights["dice"]:
            terms["dice"] = dice_loss(logits, batch.masks, batch.valid)
        if self.weights["sem"] and modulation.category_logits is not None:
            terms["sem"] = category_loss(modulation.category_logits.float(), batch.labels, batch.known)
        if self.weights["sem_image"] and output.image_logits is not None and batch.image_labels is not None:
            alone = output.image_logits.float().flatten(0, 1)
            terms["sem_image"] = category_loss(alone, batch.image_labels.flatten(0, 1), batch.image_known.flatten(0, 1))
        if self.weights["teacher"]:
            terms["teacher"] = self._teacher(logits, batch)
        if self.weights["exchange"] and output.exchanged_logits is not None:
            exchanged = output.exchanged_logits.float()
            some = slice(exchanged.shape[1])
            terms["exchange"] = exchange_loss(exchanged, batch.other_masks[:, some], batch.other_valid[:, some])
        if self.weights["spa"] and modulation.clustering_energy is not None:
            descriptors = modulation.spatial_mask.shape[1:].numel()
            terms["spa"] = clustering_loss(modulation.clustering_energy, descriptors, self.spa_reduction)
        total = sum(self.weights[name] * value for name, value in terms.items())
        if modulation.eigenvalue is not None:  # a figure, not a loss: near 1 the descriptors have collapsed
            terms["eigenvalue_share"] = modulation.eigenvalue.mean() / modulation.spatial_mask.shape[1:].numel()
        return {"total": total, **terms}

    def _teacher(self, logits: Tensor, batch: GroupBatch) -> Tensor:
        """0 for a batch without a map: the processes of a run all report the same terms."""
        if batch.teacher is None:
            return 0 * logits.sum()
        weight = batch.taught.float()
        if self.teacher_on == "agreeing":
            weight = weight * agreement_with_truth(batch.teacher, batch.masks, batch.valid)
        return teacher_loss(logits, batch.teacher, weight)
