"""VGG by timm, walked layer by layer: convolution, norm, activation, pool.

Called by methods that work inside VGG: OSMN modulates after each activation (the hook), DeepCO3 reads fc6 on a grid
and walks the layers backwards (`layers`). `ssnm.nn.backbones` is for those who need only maps of a few strides.

Keys of the weights are timm's: `features.N.weight`, `pre_logits.fc1.weight` (fc6, 7x7), `pre_logits.fc2.weight` (fc7).
M images, C channels, H W size. A stage ends at its pool: VGG16 has stages 1..5 of 2, 2, 3, 3, 3 convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError

ActivationHook = Callable[[int, int, Tensor], Tensor]
"""(stage, index in the stage, both from 1; map after the activation) -> the map that goes on."""

FC_CHANNELS, FC6_SIDE = 4096, 7


@dataclass(frozen=True)
class VGGLayer:
    """One step of the walk. stage 1..5, then 6 (fc6) and 7 (fc7); index: which convolution of the stage, from 1."""

    kind: Literal["convolution", "norm", "activation", "pool", "dropout"]
    stage: int
    index: int
    module: nn.Module


@dataclass(frozen=True)
class VGGMaps:
    """stages: the map after the last activation of each stage, before its pool (modulated, if a hook did so);
    last: what comes out at the end of the walk."""

    stages: tuple[Tensor, ...]
    last: Tensor


class VGG(nn.Module):
    """A VGG of timm up to its last activation, last pool, fc6 or fc7.

    Args:
        name: vgg11 ... vgg19_bn.
        pretrained: timm's ImageNet weights (a download); otherwise Kaiming-normal weights, biases 0.
        ceil_mode: pools keep an incomplete last window, ceil(n / 2), as both TensorFlow's SAME and MatConvNet do.
        last_pool: pool after the last stage too; needed by fc layers.
        fc_layers: 0, 1 (fc6, a 7x7 convolution) or 2 (and fc7, a 1x1 convolution), each with its activation.
        fc_padding: zero padding of fc6; 3 keeps the size of the map, 0 turns 7x7 into 1x1.
        dropout: after the activation of each fc layer, in training.

    Raises:
        ConfigError: no VGG of timm, or fc layers without the pool before them.
        CheckpointError: the weights cannot be downloaded.
    """

    def __init__(
        self,
        name: str = "vgg16",
        *,
        pretrained: bool = False,
        ceil_mode: bool = False,
        last_pool: bool = True,
        fc_layers: int = 0,
        fc_padding: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if fc_layers not in (0, 1, 2) or (fc_layers and not last_pool):
            raise ConfigError(f"VGG: fc_layers must be 0, 1 or 2, and with fc layers last_pool must be true, "
                              f"got fc_layers={fc_layers}, last_pool={last_pool}")  # fmt: skip
        source = _timm_vgg(name, pretrained)
        modules = list(source.features)
        if not last_pool:
            modules = modules[: max(i for i, m in enumerate(modules) if isinstance(m, nn.ReLU)) + 1]
        self.features = nn.Sequential(*modules)
        if fc_layers:
            fcs = [source.pre_logits.fc1, source.pre_logits.fc2][:fc_layers]
            fcs[0].padding = (fc_padding, fc_padding)
            self.pre_logits = nn.ModuleDict(
                {f"{kind}{number}": module for number, fc in enumerate(fcs, start=1)
                 for kind, module in (("fc", fc), ("act", nn.ReLU()), ("drop", nn.Dropout(dropout)))}
            )  # fmt: skip
        self.layers: tuple[VGGLayer, ...] = tuple(_walk(self.features))
        if fc_layers:
            self.layers += tuple(_fc_walk(self.pre_logits, self.layers[-1].stage + 1))
        for layer in self.layers:
            if layer.kind == "activation":
                layer.module.inplace = False  # hooks, taps and gradients to each layer's output need it kept
            elif layer.kind == "pool":
                layer.module.ceil_mode = ceil_mode
        if not pretrained:
            self.to_empty(device=torch.get_default_device())
            self._initialise()

    @property
    def convolutions(self) -> tuple[VGGLayer, ...]:
        """The convolutions in the order of the walk, fc layers included."""
        return tuple(layer for layer in self.layers if layer.kind == "convolution")

    @property
    def channels(self) -> dict[tuple[int, int], int]:
        """(stage, index) -> output channels, in the order of the walk: {(1, 1): 64, (1, 2): 64, (2, 1): 128, ...}."""
        return {(layer.stage, layer.index): layer.module.out_channels for layer in self.convolutions}

    def forward(self, images: Tensor, after_activation: ActivationHook | None = None) -> VGGMaps:
        """images (M, 3, H, W), normalised as the weights want -> the maps of each stage (M, C, about H / 2^(stage-1)).

        `after_activation` is called for every activation of the convolutional stages, not for fc layers.
        """
        stages: dict[int, Tensor] = {}
        x = images
        for layer in self.layers:
            x = layer.module(x)
            if layer.kind == "activation" and layer.stage <= self._num_stages:
                if after_activation is not None:
                    x = after_activation(layer.stage, layer.index, x)
                stages[layer.stage] = x  # the last activation of a stage stays
        return VGGMaps(tuple(stages.values()), x)

    @property
    def _num_stages(self) -> int:
        fc_layers = len(self.pre_logits) // 3 if hasattr(self, "pre_logits") else 0
        return self.layers[-1].stage - fc_layers

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.reset_parameters()


def _timm_vgg(name: str, pretrained: bool) -> nn.Module:
    """timm's model; without pretrained weights on the meta device, for its fc layers alone are 480 MB."""
    if not (name.startswith("vgg") and timm.is_model(name)):
        known = ", ".join(timm.list_models("vgg*"))
        raise ConfigError(f"VGG: timm {timm.__version__} has no '{name}'; wanted one of {known}")
    if not pretrained:
        with torch.device("meta"):
            return timm.create_model(name)
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # timm and the hub's client raise many types
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(f"weights of {name} could not be downloaded ({line}); connect to the internet or give "
                              "a local file of timm's weights") from error  # fmt: skip


def _walk(features: nn.Sequential) -> list[VGGLayer]:
    kinds = {nn.Conv2d: "convolution", nn.BatchNorm2d: "norm", nn.ReLU: "activation", nn.MaxPool2d: "pool"}
    layers, stage, index = [], 1, 0
    for module in features:
        kind = kinds[type(module)]
        index += kind == "convolution"
        layers.append(VGGLayer(kind, stage, index, module))
        if kind == "pool":
            stage, index = stage + 1, 0
    return layers


def _fc_walk(fcs: nn.ModuleDict, stage: int) -> list[VGGLayer]:
    kinds = {nn.Conv2d: "convolution", nn.ReLU: "activation", nn.Dropout: "dropout"}
    return [VGGLayer(kinds[type(module)], stage + number // 3, 1, module) for number, module in enumerate(fcs.values())]
