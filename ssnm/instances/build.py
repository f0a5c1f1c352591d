"""The composition root of DeepCO3: config -> objects. No other part of the method ever sees a config."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..files.places import find
from .config import Config, ModelConfig
from .model import CoSaliencyNetwork
from .peak_backprop import require_rules
from .pipeline import Settings
from .trunk import build_trunk

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED = {"mobilenetv2_100": ASSETS / "mobilenetv2_100.imagenet.safetensors"}


def build_network(config: ModelConfig) -> CoSaliencyNetwork:
    """The network that every group starts from.

    Raises:
        ConfigError, CheckpointError, MissingFileError: see `build_trunk`; or a layer that peak back-propagation cannot
            pass.
    """
    b = config.backbone
    trunk = build_trunk(b.name, _weights(b.name, b.weights), b.tap, b.pixels)
    require_rules(trunk.net)
    return CoSaliencyNetwork(trunk, config.edges)


def build_settings(config: Config) -> Settings:
    """All that follows the network, as plain values."""
    return Settings(config.fit, config.responses, config.proposals, config.select, config.side)


def _weights(name: str, weights: str) -> str:
    if weights in ("pretrained", "none"):
        return weights
    if weights == "shipped":
        if name not in SHIPPED:
            raise ConfigError(f"model.backbone.weights: shipped is there for {', '.join(SHIPPED)}, not for {name}; use "
                              "pretrained, none or a file")  # fmt: skip
        return str(SHIPPED[name])
    return str(find(weights))
