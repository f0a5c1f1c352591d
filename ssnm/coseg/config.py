"""The config of SSNM as frozen dataclasses: every key, its type, its default, and the rules that a type cannot say."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from typing import Literal

from ..config.loading import build_section
from ..config.sections import AugmentationConfig, BackboneConfig, RunConfig
from ..config.sources import SourceConfig
from ..errors import ConfigError
from ..ranges import BELOW_ONE, NOT_NEGATIVE, POSITIVE, require, values
from .mix import GroupMix


@dataclass(frozen=True, kw_only=True)
class SpatialConfig:
    """The spatial modulator. enabled=false: no shift, no fusion, no l_spa (ablation of Table 5).

    maps: what is clustered: "fused", the output of the fusion as the paper has it, or "coarsest", the backbone's
    coarsest maps themselves (then there is no fusion). trains_maps: whether l_spa sends a gradient into these maps, as
    printed; false: it is a figure in the log and trains nothing, and a fusion stays as initialised."""

    enabled: bool = True
    maps: Literal["fused", "coarsest"] = "fused"
    trains_maps: bool = True
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

    def __post_init__(self) -> None:
        require(values("model.semantic", self, "image_dim", "group_dim"), *POSITIVE)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; dim is D, the channels that are modulated. test_size: side of the square images that the trained
    model is given by test, segment and group-use (ssnm calibrate chooses one); 0: data.size, as in training.
    level_norm: "layer" gives the projected maps of every image and level mean 0 and variance 1 before they are
    modulated, so that gamma and S meet features of order 1 whatever the backbone's scale (not in the paper).
    head_extra_convolution: a second 3x3 convolution at the head's finest level (files that do not name it have it)."""

    name: Literal["ssnm"] = "ssnm"
    dim: int = 512
    test_size: int = 0
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    fusion_activation: Literal["none", "relu"] = "none"
    level_activation: Literal["none", "relu"] = "none"
    level_norm: Literal["none", "layer"] = "none"
    head_activation: Literal["none", "relu"] = "relu"
    head_extra_convolution: bool = True

    def __post_init__(self) -> None:
        require(values("model", self, "dim"), *POSITIVE)
        require(values("model", self, "test_size"), *NOT_NEGATIVE)


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


AnyModelConfig = ModelConfig | ReleaseModelConfig


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of Eq. 14 and of those that the paper does not have; 0 leaves a term out.

    dice: of the masks. teacher: cross-entropy and Dice against the maps of data.teacher. teacher_on: "all" images that
    have one, or "agreeing": each image's term weighted by the overlap (J) of the teacher's map with the truth, so that
    it refines objects that are meant and does not teach others. exchange: group-wise negatives; exchange_images of each
    group are also segmented with another group's gamma. sem_image: the category loss of every image as a group of one,
    for as many labels as there are images instead of groups."""

    type: Literal["coseg"] = "coseg"
    spa: float = 1.0
    sem: float = 1.0
    seg: float = 1.0
    dice: float = 0.0
    teacher: float = 0.0
    teacher_on: Literal["all", "agreeing"] = "all"
    exchange: float = 0.0
    sem_image: float = 0.0
    exchange_images: int = 1
    weighting: Literal["paper", "balanced", "none"] = "paper"
    spa_reduction: Literal["mean", "sum"] = "sum"

    def __post_init__(self) -> None:
        require(values("loss", self, "spa", "sem", "seg", "dice", "teacher", "exchange", "sem_image"), *NOT_NEGATIVE)
        require(values("loss", self, "exchange_images"), *POSITIVE)


@dataclass(frozen=True, kw_only=True)
class ReleaseLossConfig:
    """The three terms of the authors' release, each of weight 1; see ssnm.coseg.release.losses."""

    type: Literal["release"] = "release"


AnyLossConfig = LossConfig | ReleaseLossConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data. Relative paths of sources are looked up under `root`; root empty means the environment
    variable SSNM_DATA, and the folder `data` where that is not set. union_at_full_size: unite the masks of the
    shared categories before they are resized (the release), not after; for coco_seg sources without pasting.
    favoured: categories drawn `favour` times as often as `balance` has it (canonical names: airplane, couch).
    max_bad_images: how many images that cannot be used a run replaces before it stops. teacher: a file of another
    network's maps of the images (ssnm.data.teacher), for loss.teacher."""

    root: str = ""
    sources: tuple[SourceConfig, ...] = ()
    teacher: str = ""
    labels: tuple[str, ...] = ()
    size: int = 224
    group_size: int = 5
    balance: Literal["uniform", "sqrt", "size"] = "uniform"
    favoured: tuple[str, ...] = ()
    favour: float = 1.0
    mix: GroupMix = field(default_factory=GroupMix)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    holdout: float = 0.05
    holdout_seed: int = 0
    cache: Literal["none", "memory"] = "none"
    max_bad_images: int = 100
    union_at_full_size: bool = False
    workers: int = 4

    def __post_init__(self) -> None:
        require(values("data", self, "size", "group_size", "favour"), *POSITIVE)
        require(values("data", self, "workers", "max_bad_images"), *NOT_NEGATIVE)
        require(values("data", self, "holdout"), *BELOW_ONE)
        if self.union_at_full_size:
            _check_union(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """batch_groups is the global batch, shared by all processes."""

    batch_groups: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(values("train", self, "batch_groups"), *POSITIVE)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Validation on held-out training groups, every `every` steps and at the end; never on a test set.

    balance: how often a category is drawn, as data.balance; "uniform" lets the many dogs and people say no more than
    the few boats. foreign_groups: groups with one foreign image. sources: further images that no run trains on, each
    scored by itself (`NAME/J`), for kinds that training lacks; `choice` in docs/training.md is what picks best.pt."""

    every: int = 2_000
    groups: int = 100
    balance: Literal["uniform", "sqrt", "size"] = "sqrt"
    two_category_images: int = 60
    foreign_groups: int = 0
    sources: tuple[SourceConfig, ...] = ()
    pictures: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        require(values("validation", self, "every", "groups"), *POSITIVE)
        rest = ("seed", "two_category_images", "foreign_groups", "pictures")
        require(values("validation", self, *rest), *NOT_NEGATIVE)
        _check_names("validation.sources", self.sources)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Further held-out sources scored at the end of training, by name (the quick start's unseen kinds)."""

    sources: tuple[SourceConfig, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run: what to build, from what data, how to train it."""

    method: Literal["ssnm"] = "ssnm"
    model: AnyModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: AnyLossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        _check_mix(self)
        _check_combinations(self)
        _check_names("evaluate.sources", self.evaluate.sources)


def config_from_dict(mapping: dict, where: str = "config") -> Config:
    """A nested mapping (YAML or checkpoint) -> Config; `where` begins the error messages."""
    return build_section(Config, _upgraded(mapping, where), where)


def _upgraded(mapping: dict, where: str) -> dict:
    """Keys of version 0.1 by their names of today."""
    schedule = mapping.get("train", {}).get("schedule", {}) if isinstance(mapping.get("train", {}), dict) else {}
    if not isinstance(schedule, dict) or "rebuild_optimizer" not in schedule:
        return mapping
    mapping = copy.deepcopy(mapping)
    schedule = mapping["train"]["schedule"]
    if schedule.pop("rebuild_optimizer"):
        schedule["reset_every"] = schedule.get("every", 25_000)
        warnings.warn(f"{where}: train.schedule.rebuild_optimizer is now reset_every: {schedule['reset_every']}; the "
                      "old key goes with the next release", DeprecationWarning, stacklevel=2)  # fmt: skip
    return mapping


def _check_mix(config: Config) -> None:
    mix = config.data.mix
    if (mix.real or mix.pasted) and config.train.batch_groups < 2:
        raise ConfigError(
            "data.mix.real and data.mix.pasted draw pairs of groups: set train.batch_groups to 2 or more, got "
            f"{config.train.batch_groups}, or both shares to 0"
        )


def _check_names(where: str, sources: tuple[SourceConfig, ...]) -> None:
    """The names become those of pictures and columns."""
    names = [source.name for source in sources]
    for name in names:
        if not name or "/" in name:
            raise ConfigError(f"{where}: a name without '/' was expected, got '{name}'; rename the source")
        if names.count(name) > 1:
            raise ConfigError(f"{where}: two sources are called '{name}'; give each a name of its own")


def _check_combinations(config: Config) -> None:
    if config.train.batch_groups % config.train.accumulate:
        raise ConfigError(
            f"train.accumulate={config.train.accumulate} must divide train.batch_groups={config.train.batch_groups}"
        )
    if isinstance(config.model, ReleaseModelConfig) and (config.data.group_size, config.data.size) != (5, 224):
        raise ConfigError(
            "model.name=ssnm_release takes groups of 5 images of size 224: set data.group_size=5 and data.size=224, "
            f"got {config.data.group_size} and {config.data.size}"
        )
    model = config.model
    modulated = isinstance(model, ModelConfig) and (model.spatial.enabled or model.semantic.enabled)
    if config.data.mix.reference and not modulated:
        raise ConfigError("data.mix.reference steers the modulators of model.name=ssnm, and there is none; set it to "
                          "0, or enable model.spatial or model.semantic")  # fmt: skip
    if getattr(config.loss, "exchange", 0) and config.train.batch_groups // config.train.accumulate < 2:
        raise ConfigError("loss.exchange swaps gamma between the groups of a batch: train.batch_groups / "
                          "train.accumulate must be 2 or more")  # fmt: skip
    if isinstance(config.loss, LossConfig) and not (
        config.loss.seg or config.loss.dice or config.loss.teacher
    ):
        raise ConfigError("loss.seg and loss.dice are both 0: nothing would train the masks; give one a weight")
    if getattr(config.loss, "teacher", 0) and not config.data.teacher:
        raise ConfigError("loss.teacher has a weight but data.teacher names no file of maps; give one, or weight 0")


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
