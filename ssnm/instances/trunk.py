"""The trunk: a timm backbone cut after an activation, as a torch.fx graph.

A graph, because peak back-propagation walks the layers backwards by rules of its own, and a sum of two branches is
no module. Batch norm always runs on its stored statistics: a group is far too small for others, and training and
test are the same function.
"""

from __future__ import annotations

import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn

from ..errors import CheckpointError, ConfigError
from ..models.backbones import load_backbone_weights

VGG_FC6_PADDING = 3  # keeps the grid of pool5 under its 7x7 kernel


class Trunk(nn.Module):
    """Images to non-negative features on a coarse grid.

    Args:
        net: (B, 3, H, W) normalised -> (B, channels, H / stride, W / stride).
        mean, std: per RGB channel, of pixels in [0, 1].
    """

    def __init__(self, net: fx.GraphModule, channels: int, stride: int, mean: tuple[float, ...],
                 std: tuple[float, ...]) -> None:
        super().__init__()
        self.net, self.channels, self.stride = net, channels, stride
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.train()

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> what the first layer sees."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> features (B, C, h, w)."""
        return self.net(self.normalise(images))

    def train(self, mode: bool = True) -> "Trunk":
        return super().train(False)


class _Tracer(fx.Tracer):
    """Keeps timm's fused batch norm as one node; everything else of torch.nn is a leaf already."""

    traced_func_name = "forward_features"

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, BatchNormAct2d) or super().is_leaf_module(module, name)


def build_trunk(name: str, weights: str = "none", tap: str = "") -> Trunk:
    """A trunk from any timm name.

    Args:
        name: e.g. vgg16, mobilenetv2_100, resnet50.
        weights: "pretrained" (timm's download), "none" (random), or a .safetensors / .pth file of timm's keys.
        tap: "" for the last map before the pooling (mobilenetv2_100: 1280 channels at stride 32); "fc6" for vgg
            names (4096 channels at stride 32); else the name of a timm module, e.g. `layer3`.

    Raises:
        ConfigError: timm does not know the name, the model has no such tap, or the tap is not after an activation.
        CheckpointError, MissingFileError: the weights cannot be downloaded, found or do not fit.
    """
    model = _create(name, weights)
    graph = _Tracer().trace(model)
    net = fx.GraphModule(model, graph)
    return net
