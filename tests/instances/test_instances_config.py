"""From config to objects: every key does something, and a wrong one is named."""

import dataclasses
from typing import Any

import pytest
import torch

from ssnm.errors import ConfigError
from ssnm.instances.build import build_network, build_settings
from ssnm.instances.config import Config, config_from_dict

SMALL = {"model": {"backbone": {"name": "mobilenetv2_035", "weights": "none", "tap": ""}}}

ARRIVES = {
    "fit.mode": "fast", "fit.size": 64, "fit.epochs": 3, "fit.batch": 4, "fit.lr": 0.5, "fit.bias_lr_factor": 1.0,
    "fit.weight_decay": 0.0, "fit.reset_each_epoch": False, "fit.resize": "matlab",
    "fit.losses.saliency": 2.0, "fit.losses.co_peak": 0.25, "fit.losses.affinity": 0.0, "fit.losses.alpha": 1.0,
    "fit.losses.form": "paper", "responses.kind": "gaussian", "responses.sigma": 2.0, "responses.down_to_stride": 4,
    "responses.max_peaks": 5, "responses.clip": True, "responses.resize": "matlab",
    "proposals.scales": (70.0,), "proposals.min_region": 9, "proposals.colour": 0.5, "proposals.from_saliency": False,
    "proposals.selective_search": False, "proposals.limit": 7, "proposals.min_share": 0.1,
    "select.rule": "explain", "select.damping": 1.0, "select.cosaliency_weight": 0.5, "select.least": 0.3,
    "select.beta": 0.1, "select.gamma": 0.2, "select.nms": 0.3,
    "select.area": (0.1, 0.2), "select.size_power": 0.5, "select.normalise": True, "select.saliency": False,
    "select.noise_filter": False,
    "side": 99,
}  # fmt: skip
"""Key -> a value that is not the default; it must arrive in what the builders give."""
ELSEWHERE = {"method", "model.edges", "model.backbone.name", "model.backbone.weights",
             "model.backbone.tap", "model.backbone.pixels"}  # fmt: skip


def nested(key: str, value: Any, base: dict | None = None) -> dict:
    *sections, last = key.split(".")
    result = node = {k: dict(v) for k, v in (base or {}).items()}
    for section in sections:
        node[section] = dict(node.get(section, {}))
        node = node[section]
    node[last] = value
    return result


def value_at(thing: Any, key: str) -> Any:
    for part in key.split("."):
        thing = getattr(thing, part)
    return thing


def keys_of(section: Any, prefix: str = "") -> list[str]:
    found = []
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        found += keys_of(value, f"{prefix}{f.name}.") if dataclasses.is_dataclass(value) else [f"{prefix}{f.name}"]
    return found


def test_every_key_has_a_row():
    assert set(keys_of(Config())) == set(ARRIVES) | ELSEWHERE


@pytest.mark.parametrize("key", ARRIVES)
def test_a_value_of_the_config_arrives_in_what_is_built(key):
    value = ARRIVES[key]
    config = config_from_dict(nested(key, value))
    assert value_at(Config(), key) != value
    assert value_at(build_settings(config), key) == value


def test_the_defaults_are_those_of_the_papers_code():
    config = Config()
    assert (config.model.backbone.name, config.model.backbone.tap, config.model.edges) == ("vgg16", "fc6", "fade")
    fit = build_settings(config).fit
    assert (fit.mode, fit.size, fit.epochs, fit.batch, fit.lr) == ("paper", 448, 40, 6, 1e-6)
    assert (fit.bias_lr_factor, fit.weight_decay, fit.reset_each_epoch) == (2.0, 5e-4, True)
    losses = fit.losses
    assert (losses.saliency, losses.co_peak, losses.affinity, losses.alpha, losses.form) == (1, 0.5, 0.1, 4, "code")
    responses = build_settings(config).responses
    assert (responses.kind, responses.down_to_stride, responses.max_peaks, responses.clip) == ("backprop", 1, 0, False)


def test_backbone_keys_arrive_in_the_network():
    network = build_network(config_from_dict(SMALL).model)
    assert network.trunk.channels == 1280 and network.head.edges == "fade"
    mapping = nested("model.backbone.tap", "blocks.1.0.bn1", SMALL)
    assert build_network(config_from_dict(mapping).model).trunk.stride == 2
    mapping = nested("model.backbone.pixels", "oxford", SMALL)
    assert build_network(config_from_dict(mapping).model).trunk.normalise.scale == 255
    mapping = nested("model.edges", "bilinear", SMALL)
    assert build_network(config_from_dict(mapping).model).head.edges == "bilinear"


def test_the_shipped_backbone_loads_and_is_for_one_name_only():
    mapping = {"model": {"backbone": {"name": "mobilenetv2_100", "weights": "shipped", "tap": ""}}}
    network = build_network(config_from_dict(mapping).model)
    with torch.no_grad():
        assert network.trunk(torch.rand(1, 3, 64, 64)).std() > 0.1  # random weights give far less
    mapping["model"]["backbone"]["name"] = "mobilenetv2_035"
    with pytest.raises(ConfigError, match="shipped is there for mobilenetv2_100"):
        build_network(config_from_dict(mapping).model)


def test_a_backbone_that_peaks_cannot_pass_is_refused_when_it_is_built():
    mapping = {"model": {"backbone": {"name": "resnet18d", "weights": "none", "tap": ""}}}
    with pytest.raises(ConfigError, match="no rule for the layer"):
        build_network(config_from_dict(mapping).model)


@pytest.mark.parametrize("key, value, words", [
    ("fit.batch", 5, "fit.batch must be even"),
    ("fit.lr", 0, "fit.lr must be greater than 0"),
    ("fit.mode", "slow", "fit.mode must be one of paper, fast"),
    ("fit.losses.co_peak", -1, "fit.losses.co_peak must not be negative"),
    ("responses.sigma", 0, "responses.sigma must be greater than 0"),
    ("fit.epoch", 3, "did you mean 'epochs'"),
    ("fit.losses", {"saliency": 0, "co_peak": 0, "affinity": 0}, "nothing would be fitted"),
])  # fmt: skip
def test_a_wrong_value_is_named(key, value, words):
    with pytest.raises(ConfigError, match=words):
        config_from_dict(nested(key, value))
