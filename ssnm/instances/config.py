"""The config of DeepCO3: the network, and the settings of each part of the method, which are its sections as they are.
The defaults are the paper's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..config.loading import build_section
from ..errors import ConfigError
from ..ranges import NOT_NEGATIVE, require
from .evidence import ResponseSettings
from .fit import FitSettings
from .pipeline import SelectSettings
from .proposals import ProposalSettings


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
class Config:
    """All of an instance co-segmentation: the network, its fitting to a group, the responses of its peaks, proposals
    and the choice among them. side: longer side at which masks are compared, 0 for the image's own (the paper)."""

    method: Literal["deepco3"] = "deepco3"
    model: ModelConfig = field(default_factory=ModelConfig)
    fit: FitSettings = field(default_factory=FitSettings)
    responses: ResponseSettings = field(default_factory=ResponseSettings)
    proposals: ProposalSettings = field(default_factory=ProposalSettings)
    select: SelectSettings = field(default_factory=SelectSettings)
    side: int = 0

    def __post_init__(self) -> None:
        require({"side": self.side}, *NOT_NEGATIVE)


# What `mode="fast"` means without a config; configs/deepco3_fast.yaml says the same.
FAST = {
    "model": {"backbone": {"name": "mobilenetv2_100", "weights": "shipped", "tap": ""}},
    "fit": {"mode": "fast", "size": 448, "epochs": 20, "lr": 1e-3},
    "responses": {"kind": "gaussian", "down_to_stride": 8, "max_peaks": 12, "clip": True},
    "proposals": {"scales": [100.0], "limit": 600},
    "select": {"rule": "explain", "normalise": True, "noise_filter": False, "least": 0.15},
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
