"""The config of DeepCO3 as frozen dataclasses: every key, its type, its default. The defaults are the paper's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..config.loading import build_section
from ..config.sections import BELOW_ONE, NOT_NEGATIVE, POSITIVE, SHARE, require, values
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
    losses: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        require(values("fit", self, "size", "epochs", "batch", "lr"), *POSITIVE)
        require(values("fit", self, "bias_lr_factor", "weight_decay"), *NOT_NEGATIVE)
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
class ProposalsConfig:
    """The built-in proposals; see `ssnm.instances.proposals.ProposalSettings`."""

    scales: tuple[float, ...] = (50.0, 100.0, 200.0)
    min_region: int = 60
    colour: float = 1.0
    from_saliency: bool = True
    selective_search: bool = True
    limit: int = 2000
    min_share: float = 1e-3

    def __post_init__(self) -> None:
        if not self.scales:
            raise ConfigError("proposals.scales must name one or more scales, got none")
        require({f"proposals.scales.{i}": scale for i, scale in enumerate(self.scales)}, *POSITIVE)
        require(values("proposals", self, "min_region", "limit"), *POSITIVE)
        require(values("proposals", self, "colour"), *NOT_NEGATIVE)
        require(values("proposals", self, "min_share"), *BELOW_ONE)


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """The choice of masks; see `ssnm.instances.pipeline.SelectSettings`. area: least and largest share of the image."""

    rule: Literal["peaks", "explain"] = "peaks"
    damping: float = 2.0
    cosaliency_weight: float = 1.0
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
        require(values("select", self, "nms", "cosaliency_weight") | area, *SHARE)
        if self.area[0] >= self.area[1]:
            raise ConfigError(f"select.area must be a smaller and a larger share, got {self.area}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """All of an instance co-segmentation: the network, its fitting to a group, the responses of its peaks, proposals
    and the choice among them. side: longer side at which masks are compared, 0 for the image's own (the paper)."""

    method: Literal["deepco3"] = "deepco3"
    model: ModelConfig = field(default_factory=ModelConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    responses: ResponsesConfig = field(default_factory=ResponsesConfig)
    proposals: ProposalsConfig = field(default_factory=ProposalsConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    side: int = 0

    def __post_init__(self) -> None:
        require({"side": self.side}, *NOT_NEGATIVE)


# What `mode="fast"` means without a config; configs/deepco3_small.yaml says the same.
FAST = {
    "model": {"backbone": {"name": "mobilenetv2_100", "weights": "shipped", "tap": ""}},
    "fit": {"mode": "fast", "size": 448, "epochs": 40, "lr": 1e-3},
    "responses": {"down_to_stride": 8, "max_peaks": 12, "clip": True},
    "proposals": {"scales": [100.0]},
    "select": {"normalise": True},
    "side": 375,
}
PAPER = {"fit": {"resize": "matlab"}, "responses": {"resize": "matlab"}, "proposals": {"from_saliency": False}}
PRESETS = {"fast": FAST, "paper": PAPER}


def config_from_dict(mapping: dict, where: str = "config") -> Config:
    """A nested mapping (YAML) -> Config; `where` begins the error messages."""
    return build_section(Config, mapping, where)


def preset(mode: str) -> Config:
    """The config of a mode, "fast" or "paper".

    Raises:
        ConfigError: another mode.
    """
    if mode not in PRESETS:
        raise ConfigError(f"mode must be one of {', '.join(PRESETS)}, got {mode!r}")
    return config_from_dict(PRESETS[mode], f"mode {mode}")
