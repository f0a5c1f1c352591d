"""A group from images and prior to instances: fit, then for each image proposals, ranking, suppression; then noise.

    photos + prior -> fit_group -> per image: co-saliency, responses -> proposals -> select -> filter_noise -> Found
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import ConfigError, DataError
from ..ranges import NOT_NEGATIVE, SHARE, require, values
from .evidence import Evidence, FittedGroup, ResponseSettings
from .explain import explain_instances
from .fit import FitSettings, fit_group
from .model import CoSaliencyNetwork
from .photos import Photo
from .prior import resized
from .proposal_files import fitted_to, masks_of_entries
from .proposals import ProposalSettings, propose
from .result import Found
from .select import filter_noise, select_instances

PAPER_PIXELS = 448**2  # of the network's input: gamma belongs to responses that sum to (H W) / 448^2
Proposer = Callable[[int, np.ndarray], object]  # image index, (h, w, 3) uint8 -> masks of any kind


@dataclass(frozen=True)
class SelectSettings:
    """How masks are chosen; the defaults are the paper's code.

    rule: "peaks", one proposal for each peak by Eq. (7); "explain", masks that explain prior and co-saliency, however
    many, of which only `area`, `damping`, `cosaliency_weight`, `least` and `noise_filter` are asked (see `explain`).
    beta, gamma, nms, area, size_power: see `select.select_instances`. normalise: each response is brought to sum 1
    and gamma rescaled with it, so that scores do not depend on the image's size. saliency: S takes part in the ranking;
    without it (S = 1, the ablation of the paper's Table 3) responses stand alone. noise_filter: drop what lies below
    the group's 20th percentile.
    """

    rule: Literal["peaks", "explain"] = "peaks"
    damping: float = 2.0
    cosaliency_weight: float = 1.0
    least: float = 0.02
    beta: float = 0.8
    gamma: float = 1e-5
    nms: float = 0.4
    area: tuple[float, float] = (2e-5, 0.85)
    size_power: float = 0.0
    normalise: bool = False
    saliency: bool = True
    noise_filter: bool = True

    def __post_init__(self) -> None:
        require(values("select", self, "beta", "gamma", "size_power", "damping"), *NOT_NEGATIVE)
        area = {f"select.area.{i}": share for i, share in enumerate(self.area)}
        require(values("select", self, "nms", "cosaliency_weight", "least") | area, *SHARE)
        if self.area[0] >= self.area[1]:
            raise ConfigError(f"select.area must be a smaller and a larger share, got {self.area}")


@dataclass(frozen=True)
class Settings:
    """All of the method below the network, as plain values.

    side: the longer side at which masks are compared; 0 = the image's own size, as the paper.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    responses: ResponseSettings = field(default_factory=ResponseSettings)
    proposals: ProposalSettings = field(default_factory=ProposalSettings)
    select: SelectSettings = field(default_factory=SelectSettings)
    side: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a group gives. found: per image; proposals: per image the masks (M, h, w) that were chosen from, packed by
    `numpy.packbits` along the first axis, and M."""

    found: list[Found]
    proposals: list[tuple[np.ndarray, int]]

    def unpacked(self, index: int) -> np.ndarray:
        """The proposals of an image, (M, h, w) bool."""
        packed, count = self.proposals[index]
        return np.unpackbits(packed, axis=0, count=count).view(bool)


def run_group(
    network: CoSaliencyNetwork,
    photos: Sequence[Photo],
    priors: Sequence[np.ndarray],
    settings: Settings,
    proposer: Proposer | None = None,
    *,
    seed: int = 0,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    keep_proposals: bool = False,
    on_log: Callable[[dict[str, float]], None] = lambda row: None,
    on_image: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Fit the network to the group and choose the instances of every image.

    Args:
        priors: per photo (h, w) in [0, 1], any sizes.
        proposer: gives the proposals of an image; None = the built-in generator.
        checkpoint: of the fitting, to go on from and to write to.
        keep_proposals: for the ceiling; otherwise none are kept.
    """
    fitted = fit_group(
        network, [photo.view for photo in photos], priors, settings.fit, settings.responses,
        seed=seed, device=device, checkpoint=checkpoint, on_log=on_log,
    )  # fmt: skip
    found, kept = [], []
    for index, (photo, prior) in enumerate(zip(photos, priors)):
        evidence = fitted.evidence(index, photo.working_size)
        proposals = _proposals(fitted, index, photo, prior, evidence, settings.proposals, proposer)
        found.append(choose(evidence, proposals, settings.select, resized(prior, photo.working_size)))
        if keep_proposals:
            kept.append((np.packbits(proposals, axis=0), len(proposals)))
        on_image(index + 1)
    if settings.select.noise_filter:
        keep = filter_noise([one.scores for one in found])
        found = [Found(one.masks[k], one.scores[k]) for one, k in zip(found, keep)]
    return Outcome(found, kept)


def choose(evidence: Evidence, proposals: np.ndarray, settings: SelectSettings, prior: np.ndarray) -> Found:
    """The instances of one image before the group's noise filter.

    proposals (M, h, w) bool and prior (h, w) are of the evidence's size.
    """
    saliency, responses, gamma = evidence.cosaliency, evidence.responses, settings.gamma
    if settings.rule == "explain":
        masks, scores = explain_instances(
            saliency, prior, proposals, settings.area, settings.damping, settings.cosaliency_weight, settings.least
        )
        return Found(masks, scores)
    if not settings.saliency:
        saliency = np.ones_like(saliency)
    if settings.normalise:
        responses = responses / np.maximum(responses.sum(axis=(1, 2), keepdims=True), 1e-12)
        gamma *= PAPER_PIXELS / saliency.size
    masks, scores = select_instances(
        saliency, responses, proposals, settings.beta, gamma, settings.nms, settings.area,
        size_power=settings.size_power,
    )  # fmt: skip
    return Found(masks, scores)


def _proposals(
    fitted: FittedGroup, index: int, photo: Photo, prior: np.ndarray, evidence: Evidence, settings: ProposalSettings,
    proposer: Proposer | None,
) -> np.ndarray:
    """(M, h, w) bool at the photo's working size."""
    size = photo.working_size
    if proposer is None:
        saliency = [resized(prior, size), evidence.cosaliency.clip(0, 1)]
        return propose(photo.working_image(), fitted.features(index), saliency, evidence.peaks, settings)
    masks = as_masks(proposer(index, photo.working_image()), f"proposals of {photo.name}")
    return fitted_to(masks, size)


def as_masks(given: object, where: str) -> np.ndarray:
    """Proposals of any kind (an array, run lengths, SAM's dicts) -> (M, h, w) bool.

    Raises:
        DataError: of another kind.
    """
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.dtype != np.bool_:
            raise DataError(f"{where}: masks (M, H, W) of type bool were expected, got {given.dtype} {given.shape}")
        return given
    if not isinstance(given, (list, tuple)):
        raise DataError(f"{where}: masks (M, H, W) or a list of masks were expected, got {type(given).__name__}")
    return masks_of_entries(given, where)
