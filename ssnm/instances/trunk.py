"""The trunk: a timm backbone cut after an activation, as a torch.fx graph.

A graph, because peak back-propagation walks the layers backwards by rules of its own, and a sum of two branches is
no module. Batch norm always runs on its stored statistics: a group is far too small for others, and training and
test are then the same function.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn

from ..errors import CheckpointError, ConfigError
from ..nn.backbones import load_backbone_weights
from ..nn.pixels import PixelNormalisation
from ..nn.vgg import VGG
from .layer_kinds import ACTIVATIONS, LEAVES

OXFORD_MEAN = (123.68, 116.779, 103.939)
FC6 = "fc6"
FC6_PADDING = 3  # keeps the grid of pool5 under the 7x7 kernel


class Trunk(nn.Module):
    """Images to non-negative features on a coarse grid.

    Args:
        net: (B, 3, H, W) normalised -> (B, channels, H / stride, W / stride).
        normalise: RGB in [0, 1] -> what the first layer sees.
    """

    def __init__(self, net: fx.GraphModule, normalise: PixelNormalisation) -> None:
        super().__init__()
        self.net, self.normalise = net, normalise
        self.train()
        with torch.no_grad():
            self.channels, side = net(torch.zeros(1, 3, 64, 64, device=self.device)).shape[1:3]
        self.stride = 64 // side

    @property
    def device(self) -> torch.device:
        return self.normalise.mean.device

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> features (B, C, h, w)."""
        return self.net(self.normalise(images))

    def train(self, mode: bool = True) -> "Trunk":
        return super().train(False)


def build_trunk(
    name: str, weights: str = "none", tap: str = "", pixels: Literal["timm", "oxford"] = "timm"
) -> Trunk:
    """A trunk from any timm name.

    Args:
        name: e.g. vgg16, mobilenetv2_100, resnet50.
        weights: "pretrained" (timm's download), "none" (random), or a .safetensors / .pth file of timm's keys.
        tap: "" for the last map before the global pooling (mobilenetv2_100: 1280 channels at stride 32); "fc6" for
            vgg names (4096 channels on the grid of pool5); else the name of a timm module, e.g. `layer3`.
        pixels: "timm" as timm says the weights want them, or "oxford" for weights of the original VGG: RGB in 0..255
            minus their mean.

    Raises:
        ConfigError: timm does not know the name, there is no such tap, or it is not after an activation.
        CheckpointError, MissingFileError: the weights cannot be downloaded, found or do not fit.
    """
    if not timm.is_model(name):
        raise ConfigError(f"backbone: timm {timm.__version__} has no model '{name}'; timm.list_models() lists them")
    net = _vgg(name, weights, tap) if name.startswith("vgg") else _timm_graph(name, weights, tap)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # peak back-propagation reads every layer's input after the forward pass
    if not _is_after_activation(net):
        raise ConfigError(f"backbone: the features of {name} at tap '{tap}' do not come out of an activation, and "
                          "saliency and correlation want them so; choose the name of one of its activation layers")
    if pixels == "oxford":
        return Trunk(net, PixelNormalisation(OXFORD_MEAN, scale=255.0))
    config = timm.get_pretrained_cfg(name)
    mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return Trunk(net, PixelNormalisation(mean, std))


class _Tracer(fx.Tracer):
    traced_func_name = "forward_features"

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, LEAVES) or super().is_leaf_module(module, name)


def _timm_graph(name: str, weights: str, tap: str) -> fx.GraphModule:
    try:
        model = timm.create_model(name, pretrained=weights == "pretrained", num_classes=0)
    except Exception as error:  # timm and the hub's client raise many types
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(f"weights of {name} could not be downloaded ({line}); connect to the internet, or give "
                              "a local file with model.backbone.weights, or none for random ones") from error
    if weights not in ("pretrained", "none"):
        load_backbone_weights(model, weights)
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # tracing stops at whatever Python the model does with its values
        raise ConfigError(f"backbone: {name} cannot be walked layer by layer ({error})") from error
    net = fx.GraphModule(model, graph)
    if tap:
        _cut_after(net, tap, name)
    net.delete_all_unused_submodules()
    return net


def _cut_after(net: fx.GraphModule, tap: str, name: str) -> None:
    graph = net.graph
    inside = [node for node in graph.nodes if tap == node.target or tap in node.meta.get("nn_module_stack", {})]
    if not inside:
        raise ConfigError(f"backbone: {name} has no layer '{tap}' before its global pooling; names are those of "
                          f"timm.create_model('{name}').named_modules()")
    end = next(node for node in graph.nodes if node.op == "output")
    graph.erase_node(end)
    graph.output(inside[-1])
    graph.eliminate_dead_code()
    net.recompile()


def _vgg(name: str, weights: str, tap: str) -> fx.GraphModule:
    """VGG with ceil-mode pools (no difference at 448) up to pool5, an activation named as in `relu5_3`, or fc6."""
    vgg = VGG(name, pretrained=weights == "pretrained", ceil_mode=True, fc_layers=tap == FC6, fc_padding=FC6_PADDING)
    if weights not in ("pretrained", "none"):
        load_backbone_weights(vgg, weights)
    short = {"convolution": "conv", "activation": "relu"}
    named = [(f"{short.get(x.kind, x.kind)}{x.stage}_{x.index}", x.module) for x in vgg.layers if x.kind != "dropout"]
    if tap not in ("", FC6):
        names = [n for n, _ in named]
        if tap not in names:
            raise ConfigError(f"backbone: {name} has no tap '{tap}'; known: fc6, {', '.join(names)}")
        named = named[: names.index(tap) + 1]
    layers = nn.Sequential(OrderedDict(named))
    return fx.GraphModule(layers, fx.Tracer().trace(layers))


def _is_after_activation(net: fx.GraphModule) -> bool:
    """Whether the output is that of an activation, or of a max pooling of one."""
    modules = dict(net.named_modules())
    node = next(node for node in net.graph.nodes if node.op == "output").args[0]
    while node.op == "call_module" and isinstance(modules[node.target], (nn.MaxPool2d, nn.Identity)):
        node = node.args[0]
    module = modules.get(node.target) if node.op == "call_module" else None
    return isinstance(module.act if isinstance(module, BatchNormAct2d) else module, ACTIVATIONS)
