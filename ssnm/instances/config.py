"""The config of DeepCO3 as frozen dataclasses: every key, its type, its default. The defaults are the paper's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..config.loading import build_section
from ..config.sections import NOT_NEGATIVE, POSITIVE, require, values
from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """A timm model, cut after an activation.

    weights: "pretrained" (timm downloads), "shipped" (mobilenetv2_100 of this package), "none" (random), or a file of
    timm's key names (relative to SSNM_DATA or here). tap, pixels: see `ssnm.instances.trunk.build_trunk`.
    """

    name: str = "vgg16"
    weights: str = "pretrained"
    tap: str = "fc6"
    pixels: Literal["timm", "oxford"] = "timm"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """edges: of the up-sampled score map, "fade" as the code's or "bilinear"."""

    backbone: TrunkConfig = field(default_factory=TrunkConfig)
    edges: Literal["fade", "bilinear"] = "fade"


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of Eq. (1), 0 switches a loss off; alpha of Eq. (4). form: "code" takes means, "paper" sums."""

    saliency: float = 1.0
    co_peak: float = 0.5
    affinity: float = 0.1
    alpha: float = 4.0
    form: Literal["code", "paper"] = "code"

    def __post_init__(self) -> None:
        require(values("fit.losses", self, "saliency", "co_peak", "affinity", "alpha"), *NOT_NEGATIVE)
        if not (self.saliency or self.co_peak or self.affinity):
            raise ConfigError("fit.losses: all weights are 0, nothing would be fitted; give one a value")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """The fitting of one group; see `ssnm.instances.fit.FitSettings`. batch: images, an even number."""

    mode: Literal["paper", "fast"] = "paper"
    size: int = 448
    epochs: int = 40
    batch: int = 6
    lr: float = 1e-6
    bias_lr_factor: float = 2.0
    weight_decay: float = 5e-4
    reset_each_epoch: bool = True
    resize: Literal["pillow", "matlab"] = "pillow"
    seed: int = 0
    losses: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        require(values("fit", self, "size", "epochs", "batch", "lr"), *POSITIVE)
        require(values("fit", self, "bias_lr_factor", "weight_decay", "seed"), *NOT_NEGATIVE)
        if self.batch % 2:
            raise ConfigError(f"fit.batch must be even, its first half is paired with its second, got {self.batch}")


@dataclass(frozen=True, kw_only=True)
class ResponsesConfig:
    """A response map per peak; see `ssnm.instances.evidence.ResponseSettings`."""

    kind: Literal["backprop", "gaussian"] = "backprop"
    sigma: float = 1.0
    down_to_stride: int = 1
    max_peaks: int = 0
    clip: bool = False
    resize: Literal["torch", "matlab"] = "torch"

    def __post_init__(self) -> None:
        require(values("responses", self, "sigma", "down_to_stride"), *POSITIVE)
        require(values("responses", self, "max_peaks"), *NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All of an instance co-segmentation: the network, its fitting to a group, the responses of its peaks."""

    method: Literal["deepco3"] = "deepco3"
    model: ModelConfig = field(default_factory=ModelConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    responses: ResponsesConfig = field(default_factory=ResponsesConfig)


def config_from_dict(mapping: dict, where: str = "config") -> Config:
    """A nested mapping (YAML) -> Config; `where` begins the error messages."""
    return build_section(Config, mapping, where)
