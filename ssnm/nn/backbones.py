"""Backbones from timm, adapted to one contract.

The contract (who calls: the models of this folder; SSNM folds its groups before it calls)

    forward(images (M, 3, H, W) in [0, 1], RGB) -> list of maps, finest first
    levels: one `Level(channels, stride)` per map, e.g. for vgg16 on 224x224
        (128, 4) 56x56, (256, 8) 28x28, (512, 16) 14x14, (512, 32) 7x7

Normalisation belongs to the backbone (buffers `mean`, `std`, not saved in checkpoints), and so does the
choice of taps: VGG after its pools, HRNet at its four parallel branches, everything else where timm taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, MissingFileError
from ..files.unreadable import why_unreadable
from .resize import resize_bilinear
from .weights import key_differences, require_finite

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Level:
    """One map of a backbone: its channels and its stride against the image."""

    channels: int
    stride: int


class VGGTaps(nn.Module):
    """timm's VGG walked layer by layer, tapped after pool2..pool5 (strides 4 to 32), as SSNM means it.

    `features_only` of timm taps before each pool, which is another network.
    """

    def __init__(self, vgg: nn.Module, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.features = vgg.features
        self.levels: list[Level] = []
        self.taps: list[int] = []
        channels, stride = 3, 1
        for index, layer in enumerate(self.features):
            if isinstance(layer, nn.Conv2d):
                channels = layer.out_channels
            elif isinstance(layer, nn.MaxPool2d):
                stride *= 2
                if stride in strides:
                    self.taps.append(index)
                    self.levels.append(Level(channels, stride))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
                if len(maps) == len(self.taps):
                    break
        return maps


class Backbone(nn.Module):
    """A timm model that gives maps at strides 4, 8, 16, 32 (or fewer).

    Args:
        name: any timm model name with `features_only` support, or vgg11 ... vgg19_bn.
        weights: "pretrained" (timm's own download), "none" (random), or a .safetensors / .pth file.
        strides: the levels to use, finest first.
        norm_eval: keep batch norm in eval mode while training (statistics and function unchanged); needed
            for weights whose batch norm has been folded.
        frozen_levels: this many of the finest levels, and all that comes before them, are not trained.
        allow_unused: names or prefixes of keys in the weights file that the model does not have, on purpose.

    Raises:
        ConfigError: timm does not know the name, or the model has none of the strides.
        CheckpointError, MissingFileError: the weights cannot be downloaded, found or do not fit.
    """

    def __init__(
        self,
        name: str,
        weights: str = "none",
        strides: tuple[int, ...] = STRIDES,
        norm_eval: bool = False,
        frozen_levels: int = 0,
        allow_unused: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.name, self.norm_eval, self.frozen_levels = name, norm_eval, frozen_levels
        self.net, self.levels, self.kept = _build(name, tuple(strides), pretrained=weights == "pretrained")
        # timm's HRNet adds branches of different strides and needs sides that all of them divide.
        self.size_multiple = 32 if name.startswith("hrnet") else 1
        self.channels_last_maps = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        if weights not in ("pretrained", "none"):
            load_backbone_weights(self.net, weights, allow_unused)
        config = timm.get_pretrained_cfg(name)
        mean, std = (config.mean, config.std) if config else timm.data.constants.IMAGENET_DEFAULT_MEAN_STD
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self._freeze(frozen_levels)
        self.train()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(level.channels for level in self.levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(M, 3, H, W) RGB in [0, 1] -> maps (M, C_k, about H / stride_k, about W / stride_k), finest first."""
        height, width = images.shape[-2:]
        multiple = self.size_multiple
        padded = -(-height // multiple) * multiple, -(-width // multiple) * multiple
        maps = self.net(resize_bilinear((images - self.mean) / self.std, padded))
        # Swin and its relatives keep channels last inside timm: (M, H_k, W_k, C_k) -> (M, C_k, H_k, W_k).
        maps = [maps[index] for index in self.kept]
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last_maps else maps

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for module in self.net.modules() if mode else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (self.norm_eval or _is_frozen(module)):
                module.eval()
        return self

    def _freeze(self, levels: int) -> None:
        if levels == 0:
            return
        if not 0 < levels <= len(self.levels):
            raise ConfigError(
                f"backbone.frozen_levels must lie in 0..{len(self.levels)} for {self.name}, got {levels}"
            )
        if self.name.startswith("hrnet"):
            raise ConfigError(f"backbone.frozen_levels must be 0 for {self.name} (made side by side), got {levels}")
        last = self._last_module_name(levels - 1)
        names = [name for name, _ in self.net.named_parameters()]
        inside = [i for i, name in enumerate(names) if name.startswith(last + ".")]
        if not inside:
            raise ConfigError(f"backbone.frozen_levels is not supported for {self.name}: no parameters under {last}")
        for parameter in list(self.net.parameters())[: inside[-1] + 1]:
            parameter.requires_grad_(False)

    def _last_module_name(self, level: int) -> str:
        if isinstance(self.net, VGGTaps):
            convolutions = [
                i for i, m in enumerate(self.net.features[: self.net.taps[level]]) if list(m.parameters(recurse=False))
            ]
            return f"features.{convolutions[-1]}"
        name = self.net.feature_info.module_name()[self.kept[level]]
        return name if any(n.startswith(name + ".") for n, _ in self.net.named_parameters()) else name.replace(".", "_")


Built = tuple[nn.Module, tuple[Level, ...], tuple[int, ...]]  # network, levels, which of its maps they are


def _build(name: str, strides: tuple[int, ...], pretrained: bool) -> Built:
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), 5)) or "timm.list_models() lists them"
        raise ConfigError(f"backbone.name: timm {timm.__version__} has no model '{name}'; near names: {near}")
    try:
        if name.startswith("vgg"):
            net = VGGTaps(timm.create_model(name, pretrained=pretrained), strides)
            return net, tuple(net.levels), tuple(range(len(net.levels)))
        return _feature_extractor(name, strides, pretrained)
    except ConfigError:
        raise
    except Exception as error:  # timm and the hub's client raise many types
        if not pretrained:
            raise ConfigError(f"backbone.name: {name} cannot give feature maps ({_first_line(error)})") from error
        raise CheckpointError(
            f"backbone weights of {name} could not be downloaded ({_first_line(error)}); connect to the internet, "
            f"or give a local file with --set model.backbone.weights=FILE, or train from scratch with =none"
        ) from error


def _feature_extractor(name: str, strides: tuple[int, ...], pretrained: bool) -> Built:
    """timm's own extractor and the last map of each stride that is asked for.

    timm says which strides there are when the network stands; it is built again only to leave out the end of it, where
    the coarsest maps are not wanted.
    """
    options = dict(features_only=True, pretrained=pretrained)
    options |= {"feature_location": ""} if name.startswith("hrnet") else {}
    net = timm.create_model(name, **options)
    reductions = net.feature_info.reduction()
    last_of_stride = {stride: index for index, stride in enumerate(reductions)}
    kept = tuple(sorted(index for stride, index in last_of_stride.items() if stride in strides))
    if not kept:
        raise ConfigError(f"backbone.name: {name} has no map at strides {strides}, only at {tuple(last_of_stride)}")
    if kept[-1] < len(reductions) - 1:
        net = timm.create_model(name, out_indices=kept, **options)
        kept = tuple(range(len(kept)))
    channels, reductions = net.feature_info.channels(), net.feature_info.reduction()
    return net, tuple(Level(channels[index], reductions[index]) for index in kept), kept


def load_backbone_weights(net: nn.Module, path: str | Path, allow_unused: tuple[str, ...] = ()) -> None:
    """Load a file of timm's key names strictly: every parameter of `net` must be there in its shape.

    Allowed besides: batch norm counters may be absent; keys that start with one of `allow_unused` and the
    classifier of the same network (`classifier`, `head`, `fc`, `pre_logits`) may be left over; VGG files that
    hold the feature layers alone may lack the `features.` prefix.
    """
    tensors = read_tensors(path)
    own = net.state_dict()
    if isinstance(net, VGGTaps) and not any(k.startswith("features.") for k in tensors):
        tensors = {f"features.{k}": v for k, v in tensors.items()}
    tensors = {_own_name(k, own): v for k, v in tensors.items()}
    unused_ok = (*allow_unused, "classifier", "head", "fc.", "pre_logits", "incre_modules", "downsamp_modules",
                 "final_layer")
    wanted = {k: v.shape for k, v in own.items() if k in tensors or not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in tensors.items() if k in own or not k.startswith(unused_ok)}
    if different := key_differences(wanted, given):
        raise CheckpointError(
            f"{path} does not hold the weights of this backbone: {', '.join(different)}; wanted timm's key names"
        )
    require_finite(given, str(path))
    net.load_state_dict({k: tensors.get(k, v).to(v.dtype) for k, v in own.items()}, strict=True)


def _own_name(key: str, own: dict[str, Tensor]) -> str:
    """timm's feature extractors call `stages.0.x` of some models `stages_0.x`."""
    flat = key.replace(".", "_", 1)
    return flat if key not in own and flat in own else key


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a .safetensors or PyTorch file (tensors only, never a pickle of objects) into CPU tensors."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types
        raise CheckpointError(f"{path} cannot be read as weights ({why_unreadable(path, error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no dictionary of tensors, got {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters, shared ones counted once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
