"""The configuration as frozen dataclasses: every key, its type, its default, and the rules that a type cannot say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..config.sources import SourceConfig
from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """A timm model. weights: "pretrained" (timm downloads), "none", or a file (relative to data.root or here)."""

    name: str = "hrnet_w32"
    weights: str = "pretrained"
    strides: tuple[int, ...] = (4, 8, 16, 32)
    norm_eval: bool = False
    frozen_levels: int = 0
    allow_unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpatialConfig:
    """The spatial modulator. enabled=false: no shift, no fusion, no l_spa (ablation of Table 5)."""

    enabled: bool = True
    orientation: Literal["nonnegative_sum", "border"] = "border"
    scale: Literal["rms", "unit"] = "rms"


@dataclass(frozen=True, kw_only=True)
class SemanticConfig:
    """The semantic modulator. enabled=false: gamma = 1, no l_sem (ablation of Table 5)."""

    enabled: bool = True
    image_dim: int = 64
    group_dim: int = 32
    activation: Literal["none", "relu"] = "none"
    gamma_activation: Literal["none", "relu"] = "none"
    centred: bool = False
    normalisation: Literal["none", "signed_sqrt"] = "none"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; dim is D, the channels that are modulated. test_size: side of the square images that the trained
    model is given by test, segment and group-use (scripts/calibrate.py chooses one); 0: data.size, as in training."""

    name: Literal["ssnm"] = "ssnm"
    dim: int = 512
    test_size: int = 0
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    fusion_activation: Literal["none", "relu"] = "none"
    level_activation: Literal["none", "relu"] = "none"
    head_activation: Literal["none", "relu"] = "relu"


@dataclass(frozen=True, kw_only=True)
class ReleaseBackboneConfig:
    """The release's one backbone. weights: "pretrained" (timm downloads), "none", or a file (vgg16_bn_feat.pth)."""

    name: Literal["vgg16_bn"] = "vgg16_bn"
    weights: str = "pretrained"


@dataclass(frozen=True, kw_only=True)
class ReleaseModelConfig:
    """The network of the authors' release (docs/release.md); groups of 5 images of 224x224 only.

    solver: of the spatial mask, "adam200" (the release's 200 steps) or "exact"."""

    name: Literal["ssnm_release"] = "ssnm_release"
    backbone: ReleaseBackboneConfig = field(default_factory=ReleaseBackboneConfig)
    solver: Literal["adam200", "exact"] = "adam200"


MODEL_TYPES = {"ssnm": ModelConfig, "ssnm_release": ReleaseModelConfig}
AnyModelConfig = ModelConfig | ReleaseModelConfig


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of Eq. 14 (and of Dice, which the paper does not have); 0 leaves a term out."""

    type: Literal["coseg"] = "coseg"
    spa: float = 1.0
    sem: float = 1.0
    seg: float = 1.0
    dice: float = 0.0
    weighting: Literal["paper", "balanced", "none"] = "paper"
    spa_reduction: Literal["mean", "sum"] = "sum"


@dataclass(frozen=True, kw_only=True)
class ReleaseLossConfig:
    """The three terms of the authors' release, each of weight 1; see ssnm.coseg.release.losses."""

    type: Literal["release"] = "release"


LOSS_TYPES = {"coseg": LossConfig, "release": ReleaseLossConfig}
AnyLossConfig = LossConfig | ReleaseLossConfig


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How many training groups make single images useless; see ssnm.coseg.sampler.GroupMix."""

    real: float = 0.0
    pasted: float = 0.0
    distractor: float = 0.0
    shared: int = 2


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Joint image-and-mask augmentation; see ssnm.data.augment.Augmentation."""

    flip: float = 0.5
    crop: float = 1.0
    keep: float = 0.7
    colour: float = 0.0
    grey: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data. Relative paths of sources are looked up under `root`; root empty means the environment
    variable SSNM_DATA, and the folder `data` where that is not set. union_at_full_size: unite the masks of the
    shared categories before they are resized (the release), not after; for coco_seg sources without pasting.
    max_bad_images: how many images that cannot be used a run replaces before it stops."""

    root: str = ""
    sources: tuple[SourceConfig, ...] = ()
    labels: tuple[str, ...] = ()
    size: int = 224
    group_size: int = 5
    balance: Literal["uniform", "sqrt", "size"] = "uniform"
    mix: MixConfig = field(default_factory=MixConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    holdout: float = 0.05
    holdout_seed: int = 0
    cache: Literal["none", "memory"] = "none"
    max_bad_images: int = 100
    union_at_full_size: bool = False
    workers: int = 4


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over the steps: "halving" every `every` steps (the paper), "cosine" to zero, "constant";
    each after `warmup` steps of linear increase. rebuild_optimizer: at each halving a new optimiser starts, whose
    moments are empty (the release)."""

    name: Literal["halving", "cosine", "constant"] = "halving"
    every: int = 25_000
    warmup: int = 0
    rebuild_optimizer: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimisation. batch_groups is the global batch, shared by all processes. weight_decay_type: "decoupled"
    (AdamW) or "coupled" (Adam with an L2 term in the gradient, the release). checkpoint_every: in steps, besides
    checkpoint_minutes; 0: by time alone. sync_batch_norm: statistics over all processes (CUDA only)."""

    steps: int = 200_000
    batch_groups: int = 4
    lr: float = 1e-4
    backbone_lr_scale: float = 1.0
    weight_decay: float = 0.0
    weight_decay_type: Literal["decoupled", "coupled"] = "decoupled"
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    accumulate: int = 1
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = False
    seed: int = 0
    log_every: int = 20
    checkpoint_minutes: float = 5.0
    checkpoint_every: int = 0
    sync_batch_norm: bool = False


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Validation on held-out training groups, every `every` steps and at the end; never on a test set."""

    every: int = 2_000
    groups: int = 100
    two_category_images: int = 60
    pictures: int = 4
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Further held-out sources scored at the end of training, by name (the quick start's unseen kinds)."""

    sources: tuple[SourceConfig, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run: what to build, from what data, how to train it."""

    model: AnyModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: AnyLossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        _check_ranges(self)


def _check_ranges(config: Config) -> None:
    """Rules that a type cannot say; the message names the field and the rule."""
    data, train, validation, model, loss = config.data, config.train, config.validation, config.model, config.loss
    positive = {
        **_values("data", data, "size", "group_size"),
        **_values("data.mix", data.mix, "shared"),
        **_values("train", train, "batch_groups", "accumulate", "steps", "lr", "log_every"),
        **_values("train.schedule", train.schedule, "every"),
        **_values("validation", validation, "every", "groups"),
    }
    not_negative = {
        **_values("data", data, "workers", "max_bad_images"),
        **_values("train", train, "seed", "checkpoint_every", "checkpoint_minutes", "clip_norm", "weight_decay"),
        **_values("train", train, "backbone_lr_scale"),
        **_values("train.schedule", train.schedule, "warmup"),
        **_values("validation", validation, "seed", "two_category_images", "pictures"),
    }
    if isinstance(model, ModelConfig):
        positive |= _values("model", model, "dim") | _values("model.semantic", model.semantic, "image_dim", "group_dim")
        not_negative |= _values("model", model, "test_size")
        not_negative |= _values("model.backbone", model.backbone, "frozen_levels")
    if isinstance(loss, LossConfig):
        not_negative |= _values("loss", loss, "spa", "sem", "seg", "dice")
    betas = {f"train.betas.{i}": beta for i, beta in enumerate(train.betas)}
    below_one = _values("data", data, "holdout") | _values("train", train, "ema") | betas
    augmentation = _values("data.augmentation", data.augmentation, *dataclasses.asdict(data.augmentation))
    _require(positive, lambda v: v > 0, "be greater than 0")
    _require(not_negative, lambda v: v >= 0, "not be negative")
    _require(below_one, lambda v: 0 <= v < 1, "lie in [0, 1)")
    shares = augmentation | _values("data.mix", data.mix, "real", "pasted", "distractor")
    _require(shares, lambda v: 0 <= v <= 1, "lie in [0, 1]")
    _check_mix(config)
    _check_combinations(config)


def _values(where: str, section: object, *names: str) -> dict[str, float]:
    """Full key -> value of some fields of a section."""
    return {f"{where}.{name}": getattr(section, name) for name in names}


def _require(values: dict[str, float], holds: Callable[[float], bool], rule: str) -> None:
    for name, value in values.items():
        if not holds(value):  # NaN holds nowhere
            raise ConfigError(f"{name} must {rule}, got {value}")


def _check_mix(config: Config) -> None:
    mix = config.data.mix
    if mix.real + mix.pasted > 1:
        raise ConfigError(f"data.mix.real + data.mix.pasted must not exceed 1, got {mix.real + mix.pasted:g}")
    if (mix.real or mix.pasted) and config.train.batch_groups < 2:
        raise ConfigError(
            "data.mix.real and data.mix.pasted draw pairs of groups: set train.batch_groups to 2 or more, got "
            f"{config.train.batch_groups}, or both shares to 0"
        )


def _check_evaluate(config: EvaluateConfig) -> None:
    """The names become those of pictures and columns."""
    names = [source.name for source in config.sources]
    for name in names:
        if not name or "/" in name:
            raise ConfigError(f"evaluate.sources: a name without '/' was expected, got '{name}'; rename the source")
        if names.count(name) > 1:
            raise ConfigError(f"evaluate.sources: two sources are called '{name}'; give each a name of its own")


def _check_combinations(config: Config) -> None:
    if config.train.batch_groups % config.train.accumulate:
        raise ConfigError(
            f"train.accumulate={config.train.accumulate} must divide train.batch_groups={config.train.batch_groups}"
        )
    if config.train.schedule.rebuild_optimizer and config.train.schedule.name != "halving":
        raise ConfigError("train.schedule.rebuild_optimizer acts at each halving: set train.schedule.name to halving")
    if isinstance(config.model, ModelConfig):
        _check_model(config.model)
    elif (config.data.group_size, config.data.size) != (5, 224):
        raise ConfigError(
            "model.name=ssnm_release takes groups of 5 images of size 224: set data.group_size=5 and data.size=224, "
            f"got {config.data.group_size} and {config.data.size}"
        )
    if isinstance(config.loss, LossConfig) and not (config.loss.seg or config.loss.dice):
        raise ConfigError("loss.seg and loss.dice are both 0: nothing would train the masks; give one a weight")
    if config.data.union_at_full_size:
        _check_union(config.data)
    _check_evaluate(config.evaluate)


def _check_model(model: ModelConfig) -> None:
    if not set(model.backbone.strides) <= {4, 8, 16, 32} or not model.backbone.strides:
        raise ConfigError(f"model.backbone.strides must be some of 4, 8, 16, 32, got {model.backbone.strides}")


def _check_union(data: DataConfig) -> None:
    others = [source.type for source in data.sources if source.type != "coco_seg"]
    if others:
        got = ", ".join(others)
        raise ConfigError(f"data.union_at_full_size is for coco_seg sources only, got {got}; switch it off")
    if any(source.store for source in data.sources):
        raise ConfigError("data.union_at_full_size draws masks from the annotations: remove `store` from data.sources")
    if data.cache != "none" or data.mix.pasted or data.mix.distractor:
        raise ConfigError(
            "data.union_at_full_size draws masks anew for every group: set data.cache to none and data.mix.pasted and "
            "data.mix.distractor to 0"
        )
