"""Fitting the network to one group: no labels, no held-out set, each group anew from the same start.

`paper` trains trunk and head on the images. `fast` keeps the trunk, computes its features once and trains the head
alone. Both go through the one training loop of the project, whose checkpoint lets a group go on exactly.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..engine.checkpoint import load_training, save_training
from ..engine.loop import LoopOptions, NonFiniteLoss, TrainState, train
from ..engine.schedule import Schedule
from ..errors import CheckpointError, ConfigError, DataError, TrainingError
from ..ranges import NOT_NEGATIVE, POSITIVE, require, values
from .adam import UncorrectedAdam
from .evidence import FittedGroup, ResponseSettings
from .losses import (
    Form,
    affinity_loss,
    co_peak_loss,
    co_peak_tensors,
    feature_correlation,
    normalise_features,
    saliency_loss,
)
from .model import CoSaliency, CoSaliencyNetwork
from .pixels import Resizing, group_images, group_priors

METHOD = "deepco3"


@dataclass(frozen=True)
class LossSettings:
    """Weights of Eq. (1) and alpha of Eq. (4); a weight of 0 switches a loss off. form: see `losses`."""

    saliency: float = 1.0
    co_peak: float = 0.5
    affinity: float = 0.1
    alpha: float = 4.0
    form: Form = "code"

    def __post_init__(self) -> None:
        require(values("fit.losses", self, "saliency", "co_peak", "affinity", "alpha"), *NOT_NEGATIVE)
        if not (self.saliency or self.co_peak or self.affinity):
            raise ConfigError("fit.losses: all weights are 0, nothing would be fitted; give one a value")


@dataclass(frozen=True)
class FitSettings:
    """How a group is fitted. The defaults are the paper's code.

    mode: "paper" or "fast"; size: side of the square input; batch: images, an even number; lr: of the weights, biases
    take `bias_lr_factor` times that; reset_each_epoch: the optimiser forgets its moments; resize: "pillow" or "matlab"
    (mirrored borders).
    """

    mode: Literal["paper", "fast"] = "paper"
    size: int = 448
    epochs: int = 40
    batch: int = 6
    lr: float = 1e-6
    bias_lr_factor: float = 2.0
    weight_decay: float = 5e-4
    reset_each_epoch: bool = True
    resize: Resizing = "pillow"
    losses: LossSettings = field(default_factory=LossSettings)

    def __post_init__(self) -> None:
        require(values("fit", self, "size", "epochs", "batch", "lr"), *POSITIVE)
        require(values("fit", self, "bias_lr_factor", "weight_decay"), *NOT_NEGATIVE)
        if self.batch % 2:
            raise ConfigError(f"fit.batch must be even, its first half is paired with its second, got {self.batch}")


@dataclass(frozen=True)
class FitBatch:
    """images: (B, 3, S, S) in [0, 1], or in fast mode their features (B, C, h, w); prior (B, 1, S, S) in [0, 1].

    num_images: how many of the B are no padding.
    """

    images: Tensor
    prior: Tensor
    num_images: int


def fit_group(
    network: CoSaliencyNetwork,
    images: Sequence[np.ndarray],
    priors: Sequence[np.ndarray],
    settings: FitSettings = FitSettings(),
    responses: ResponseSettings = ResponseSettings(),
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    on_log: Callable[[dict[str, float]], None] = lambda row: None,
) -> FittedGroup:
    """Fit a copy of `network` to a group of any size and give what it then says of each image.

    Args:
        images: (H, W, 3) uint8 RGB, any sizes. One image alone is fitted without the co-peak loss.
        priors: (H, W) in [0, 1], one per image, of any sizes.
        checkpoint: a file to go on from if it exists, and to write to.
        on_log: is given a row of mean losses after each epoch.

    Raises:
        DataError: no images, or priors that do not fit them.
        ConfigError: the size is no multiple of the network's stride.
        CheckpointError: `checkpoint` is of another group or other settings.
        TrainingError: the loss is not a number.
        KeyboardInterrupt: a signal asked to stop; `checkpoint` holds what there is.
    """
    _check(network, images, priors, settings)
    device = torch.device(device or "cpu")
    network = copy.deepcopy(network).to(device)
    pixels = group_images(images, settings.size, settings.resize)
    targets = group_priors(priors, settings.size, settings.resize)
    identity = {"start": _fingerprint(network), "pixels": _fingerprint(pixels, targets), "seed": seed,
                "settings": asdict(settings)}  # fmt: skip
    inputs = trunk_features(network, pixels) if settings.mode == "fast" else pixels
    state = _train_state(network.head if settings.mode == "fast" else network, settings, len(images))
    if checkpoint is not None and Path(checkpoint).is_file():
        _resume(state, Path(checkpoint), identity)
    batches = (
        _batch(inputs, targets, chosen, real, device)
        for chosen, real in batch_indices(len(images), settings.batch, seed, first_step=state.step)
    )

    def save(state: TrainState) -> None:
        if checkpoint is not None:
            save_training(checkpoint, {**state.state_dict(), "method": METHOD, "config": {}, "inference": {},
                                       "group": identity})  # fmt: skip

    _run(state, batches, settings, math.ceil(len(images) / settings.batch), on_log, save)
    features = inputs if settings.mode == "fast" else None
    return FittedGroup(network.eval(), pixels, [image.shape[:2] for image in images], responses, features)


def _run(state: TrainState, batches: Iterator[FitBatch], settings: FitSettings, per_epoch: int,
         on_log: Callable[[dict[str, float]], None], save: Callable[[TrainState], None]) -> None:  # fmt: skip
    options = LoopOptions(settings.epochs * per_epoch, log_every=per_epoch)
    try:
        finished = train(state, batches, lambda batch: state.model(batch.images), group_losses(settings.losses),
                         options, on_log=on_log, save=save)  # fmt: skip
    except NonFiniteLoss as error:
        raise TrainingError(f"fitting the group failed: {error}; a smaller fit.lr may help") from error
    if not finished:
        raise KeyboardInterrupt


def _check(network: CoSaliencyNetwork, images: Sequence, priors: Sequence, settings: FitSettings) -> None:
    if not images or len(images) != len(priors):
        raise DataError(f"fitting wants at least one image and one prior for each, got {len(images)} images and "
                        f"{len(priors)} priors")  # fmt: skip
    if settings.size % network.trunk.stride:
        raise ConfigError(f"fit.size must be a multiple of {network.trunk.stride}, the stride of the backbone, got "
                          f"{settings.size}")  # fmt: skip


def group_losses(settings: LossSettings) -> Callable[[CoSaliency, FitBatch], dict[str, Tensor]]:
    """The loss of a batch for the loop: named losses, and `total` divided by the images before padding."""

    def losses(output: CoSaliency, batch: FitBatch) -> dict[str, Tensor]:
        form = settings.form
        named = {"saliency": saliency_loss(output.logits.sigmoid(), batch.prior, form)}
        if settings.co_peak or settings.affinity:
            correlation = feature_correlation(normalise_features(output.features))
            small = output.score_map.sigmoid()
        if settings.co_peak and len(output.features) > 1:
            named["co_peak"] = co_peak_loss(co_peak_tensors(correlation, small, form), form)
        if settings.affinity:
            named["affinity"] = affinity_loss(correlation, small, settings.alpha, form)
        weighted = [getattr(settings, name) * value for name, value in named.items()]
        return {**named, "total": torch.stack(weighted).sum() / batch.num_images}

    return losses


def batch_indices(images: int, batch: int, seed: int = 0, first_step: int = 0) -> Iterator[tuple[list[int], int]]:
    """(indices of the batch, how many are no padding) for each step from `first_step` on, without end.

    Each epoch is a permutation drawn from its number, in chunks. An odd chunk gets one more image, last: one of the
    group that is not in it, or, where it is the whole group, any of its own. A group of one is left alone.
    """
    per_epoch = math.ceil(images / batch)
    for step in count(first_step):
        epoch, chunk = divmod(step, per_epoch)
        generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        order = torch.randperm(images, generator=generator).tolist()
        draw = torch.randint(images, (per_epoch,), generator=generator).tolist()[chunk]
        chosen = order[chunk * batch : (chunk + 1) * batch]
        real = len(chosen)
        if real % 2 and images > 1:
            others = [i for i in order if i not in chosen] or chosen
            chosen = [*chosen, others[draw % len(others)]]
        yield chosen, real


@torch.no_grad()
def trunk_features(network: CoSaliencyNetwork, pixels: Tensor, at_once: int = 4) -> Tensor:
    """Features of (N, 3, S, S) uint8 pixels, computed on the network's device and kept there: (N, C, h, w)."""
    device = network.trunk.device
    return torch.cat([network.trunk(some.to(device).float() / 255) for some in pixels.split(at_once)])


def _batch(inputs: Tensor, priors: Tensor, chosen: list[int], real: int, device: torch.device) -> FitBatch:
    images = inputs[chosen].to(device)
    if images.dtype == torch.uint8:
        images = images.float() / 255
    return FitBatch(images, priors[chosen].to(device).float() / 255, real)


def _train_state(model: nn.Module, settings: FitSettings, images: int) -> TrainState:
    """Weights at the base rate, biases at their multiple of it; weight decay on both."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if name.endswith("bias") == bias], "base_lr": factor * settings.lr}
        for bias, factor in ((False, 1.0), (True, settings.bias_lr_factor))
    ]
    optimizer = UncorrectedAdam(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    per_epoch = math.ceil(images / settings.batch)
    schedule = Schedule("constant", settings.epochs * per_epoch,
                        reset_every=per_epoch if settings.reset_each_epoch else 0)
    return TrainState(model, optimizer, schedule)


def _fingerprint(*things: Tensor | nn.Module) -> str:
    """Of pixels: all of them. Of a network: the sum of each of its tensors, enough to tell one start from another."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, nn.Module):
            thing = torch.stack([v.double().sum().cpu() for v in thing.state_dict().values()])
        digest.update(thing.numpy().tobytes())
    return digest.hexdigest()[:16]


def _resume(state: TrainState, path: Path, identity: dict) -> None:
    saved = load_training(path)
    if saved.get("group") != identity:
        raise CheckpointError(f"{path} was written for another group, network or with other settings; delete it to "
                              "start anew, or give the settings that it was written with")  # fmt: skip
    state.load_state_dict(saved)
