"""The sections that every method's config shares: backbone, augmentation, schedule, the run, checks of ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..errors import ConfigError
from ..ranges import BELOW_ONE, NOT_NEGATIVE, POSITIVE, SHARE, require, values


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """A timm model. weights: "pretrained" (timm downloads), "none", or a file (relative to data.root or here)."""

    name: str = "hrnet_w32"
    weights: str = "pretrained"
    strides: tuple[int, ...] = (4, 8, 16, 32)
    norm_eval: bool = False
    frozen_levels: int = 0
    allow_unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not set(self.strides) <= {4, 8, 16, 32} or not self.strides:
            raise ConfigError(f"model.backbone.strides must be some of 4, 8, 16, 32, got {self.strides}")
        require(values("model.backbone", self, "frozen_levels"), *NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Joint image-and-mask augmentation; see ssnm.data.augment.Augmentation."""

    flip: float = 0.5
    crop: float = 1.0
    keep: float = 0.7
    colour: float = 0.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        require(values("data.augmentation", self, "flip", "crop", "keep", "colour", "grey"), *SHARE)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over the steps: "halving" every `every` steps (the paper), "cosine" to zero, "constant";
    each after `warmup` steps of linear increase. reset_every: every so many steps a new optimiser starts, whose
    moments are empty (the release, at each halving); 0: never."""

    name: Literal["halving", "cosine", "constant"] = "halving"
    every: int = 25_000
    warmup: int = 0
    reset_every: int = 0

    def __post_init__(self) -> None:
        require(values("train.schedule", self, "every"), *POSITIVE)
        require(values("train.schedule", self, "warmup", "reset_every"), *NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The optimisation, as every method's `train` section has it. weight_decay_type: "decoupled" (AdamW) or "coupled"
    (Adam with an L2 term in the gradient). precision: of the forward pass; fp16 (with a scaled loss) is for CUDA cards
    without bfloat16. checkpoint_every: in steps, besides checkpoint_minutes; 0: by time alone. sync_batch_norm:
    statistics over all processes (CUDA only)."""

    steps: int = 200_000
    lr: float = 1e-4
    backbone_lr_scale: float = 1.0
    weight_decay: float = 0.0
    weight_decay_type: Literal["decoupled", "coupled"] = "decoupled"
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    accumulate: int = 1
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = False
    seed: int = 0
    log_every: int = 20
    checkpoint_minutes: float = 5.0
    checkpoint_every: int = 0
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        require(values("train", self, "accumulate", "steps", "lr", "log_every"), *POSITIVE)
        rest = ("seed", "checkpoint_every", "checkpoint_minutes", "clip_norm", "weight_decay", "backbone_lr_scale")
        require(values("train", self, *rest), *NOT_NEGATIVE)
        betas = {f"train.betas.{i}": beta for i, beta in enumerate(self.betas)}
        require(values("train", self, "ema") | betas, *BELOW_ONE)
