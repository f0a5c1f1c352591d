"""Peak back-propagation: from one cell of the score map to the pixels that made it, an explicit rule per layer.

A one at the peak is handed down layer by layer. A convolution shares what a cell got among its inputs in proportion
to what each one contributed through positive weights; everything else routes. No step makes or loses mass, so the
response of a peak is >= 0 and sums to one (the authors' own rule, layer by layer: docs/deepco3.md).

    K peaks of one image, handled as one batch    x  (1, C, h, w) what the layer saw
    received (K, D, h', w') by its output         returned (K, C, h, w) to its input

The network is walked as a torch.fx graph, so that sums of branches, which are no modules, are met as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
from timm.layers import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..errors import ConfigError
from .layer_kinds import PASSED_THROUGH, RECTIFIERS, SUMS
from .model import CoSaliency, CoSaliencyHead, CoSaliencyNetwork
from .peaks import find_peaks

LEAST_CONTRIBUTION = 1e-10

Values = dict[fx.Node, Tensor]


@dataclass(frozen=True)
class Responses:
    """What one image gives. output: batch of one; peaks (K, 2): row and column on the score map, column by column as
    MATLAB counts; maps (K, H, W): >= 0, each sums to 1, or to 0 where no head weight is positive."""

    output: CoSaliency
    peaks: Tensor
    maps: Tensor


@torch.no_grad()
def peak_responses(
    network: CoSaliencyNetwork, image: Tensor, max_peaks: int = 0, peaks: Tensor | None = None, down_to_stride: int = 1,
    at_once: int = 16,
) -> Responses:
    """Forward once, find the peaks of the score map, hand all of them down as one batch.

    Args:
        image: (1, 3, H, W) RGB in [0, 1].
        max_peaks: keep so many of the highest; 0: all.
        peaks: (K, 2) to take instead of those of the score map.
        down_to_stride: 1 for the pixels; 4 stops at a quarter of the side, many times faster, and the maps are then
            (K, about H / 4, about W / 4).
        at_once: of so many peaks at a time, which bounds the memory.
    """
    values, features = forward_values(network.trunk.net, network.trunk.normalise(image))
    output = network.head(features)
    if peaks is None:
        peaks = score_peaks(output.score_map, max_peaks)
    least_side = image.shape[-1] // down_to_stride if down_to_stride > 1 else 0
    maps = [
        backpropagate(
            network.trunk.net, values, _through_head(network.head, features, some), least_side
        ).sum(1)
        for some in peaks.split(at_once)  # an empty one for no peaks at all
    ]
    return Responses(output, peaks, torch.cat(maps))


def score_peaks(score_map: Tensor, max_peaks: int = 0) -> Tensor:
    """score_map (1, 1, h, w) -> peaks (K, 2), row and column, ordered column by column."""
    found = find_peaks(score_map[:, 0])[0]
    peaks = found.T.nonzero().flip(1)  # (K, 2), by column first
    if 0 < max_peaks < len(peaks):
        heights = score_map[0, 0][peaks[:, 0], peaks[:, 1]]
        peaks = peaks[heights.argsort(descending=True, stable=True)[:max_peaks].sort().values]
    return peaks


def gaussian_responses(peaks: Tensor, stride: int, size: tuple[int, int], sigma: float) -> Tensor:
    """The stand-in of the ablation: a Gaussian around the centre of each peak's cell. (K, 2) -> (K, *size), sums 1.

    sigma: in pixels of `size`.
    """
    centres = (peaks.float() + 0.5) * stride - 0.5  # (K, 2)
    rows, columns = (
        torch.exp(-((torch.arange(n, device=peaks.device) - c[:, None]) ** 2) / (2 * sigma**2))
        for n, c in zip(size, centres.T)
    )
    maps = rows[:, :, None] * columns[:, None, :]
    return maps / maps.sum((1, 2), keepdim=True)


def _through_head(head: CoSaliencyHead, features: Tensor, peaks: Tensor) -> Tensor:
    """A one at each of the peaks (K, 2) of the score map -> what each feature cell gets, (K, C, h, w)."""
    seeds = features.new_zeros(len(peaks), 1, *features.shape[-2:])
    seeds[torch.arange(len(peaks), device=peaks.device), 0, peaks[:, 0], peaks[:, 1]] = 1
    return convolution_rule(features, head.score.weight, seeds)


def forward_values(net: fx.GraphModule, images: Tensor) -> tuple[Values, Tensor]:
    """Run `net` on (1, 3, H, W); what every node gave, and the output (1, C, h, w)."""
    values: Values = {}
    modules = dict(net.named_modules())
    for node in net.graph.nodes:
        if node.op == "placeholder":
            values[node] = images
        elif node.op == "call_module":
            values[node] = modules[node.target](*(values[a] for a in node.args))
        elif node.op == "call_function" and node.target in SUMS:
            values[node] = values[node.args[0]] + values[node.args[1]]  # never in place: both terms are needed below
        elif node.op == "output":
            return values, values[node.args[0]]
        else:
            raise _no_rule(node, None)
    raise AssertionError("a graph ends with its output")


def backpropagate(net: fx.GraphModule, values: Values, received: Tensor, least_side: int = 0) -> Tensor:
    """Hand `received` (K, C, h, w) at the output of `net` down to its input: (K, 3, H, W).

    values: of :func:`forward_values` on the one image that all K peaks lie in.
    least_side: stop at the first layer all mass passes through whose map is that wide, (K, C', H', W'); 0: go on to
        the pixels.
    """
    modules, pending = dict(net.named_modules()), {}
    for node in reversed(net.graph.nodes):
        if node.op == "output":
            pending[node.args[0]] = received
            continue
        mass = pending.pop(node, None)
        if mass is None:
            continue
        if node.op == "placeholder" or (0 < least_side <= mass.shape[-1] and not pending):
            return mass
        if node.op == "call_module":
            rule = _rule_of(node, modules[node.target], modules)
            shares = {node.args[0]: rule(values[node.args[0]], values[node], mass)}
        else:
            first, second = node.args
            shares = dict(zip((first, second), sum_rule(values[first], values[second], mass)))
        for source, share in shares.items():
            pending[source] = pending[source] + share if source in pending else share
    raise AssertionError("a graph begins with its input")


def convolution_rule(
    x: Tensor, weight: Tensor, received: Tensor, stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0), dilation: tuple[int, int] = (1, 1), groups: int = 1,
) -> Tensor:
    """Share `received` among the inputs of a convolution; its bias plays no part.

    x is lifted by its minimum before it is padded (left, right, top, bottom), so that the padding counts as the
    minimum and no contribution is negative.
    """
    lifted = F.pad(x - x.amin((1, 2, 3), keepdim=True), padding)
    positive = weight.clamp(min=0)
    contributions = F.conv2d(lifted, positive, None, stride, 0, dilation, groups)
    per_unit = torch.where(contributions < LEAST_CONTRIBUTION, 0, 1 / (contributions.abs() + LEAST_CONTRIBUTION))
    shape = (len(received), *lifted.shape[1:])
    back = nn.grad.conv2d_input(shape, positive, received * per_unit, stride, 0, dilation, groups)
    left, _, top, _ = padding
    inside = (..., slice(top, top + x.shape[-2]), slice(left, left + x.shape[-1]))
    return back[inside] * lifted[inside]


def sum_rule(first: Tensor, second: Tensor, received: Tensor) -> tuple[Tensor, Tensor]:
    """Share `received` among two branches in proportion to how far each one is above its own minimum."""
    first, second = (x - x.amin((1, 2, 3), keepdim=True) for x in (first, second))
    total = first + second
    share = torch.where(total > 0, first / total.clamp(min=torch.finfo(total.dtype).tiny), 0.5)
    return received * share, received * (1 - share)


def max_pool_rule(pool: nn.MaxPool2d, x: Tensor, received: Tensor) -> Tensor:
    """Everything goes to the cell that was the maximum; windows may overlap."""
    _, indices = F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode,
                              return_indices=True)
    back = received.new_zeros(len(received), x.shape[1], x[0, 0].numel())
    back.scatter_add_(2, indices.flatten(2).expand(len(received), -1, -1), received.flatten(2))
    return back.unflatten(2, x.shape[-2:])


def _rule_of(node: fx.Node, module: nn.Module, modules: dict[str, nn.Module]) -> Callable[..., Tensor]:
    """The rule of a layer as a function (x, its output, received) -> returned.

    Raises:
        ConfigError: none is known for this layer.
    """
    if isinstance(module, nn.Conv2d):
        weight = _folded_weight(node, module, modules)
        return lambda x, _, received: convolution_rule(
            x, weight, received, module.stride, _padding(module, x), module.dilation, module.groups
        )
    if isinstance(module, nn.MaxPool2d):
        return lambda x, _, received: max_pool_rule(module, x, received)
    if isinstance(module, nn.BatchNorm2d) and _normalised_convolution(node, modules) is not None:
        gate = isinstance(getattr(module, "act", None), RECTIFIERS)
        return _gate if gate else _pass
    if isinstance(module, RECTIFIERS):
        return _gate
    if isinstance(module, PASSED_THROUGH):
        return _pass
    raise _no_rule(node, module)


def _gate(x: Tensor, output: Tensor, received: Tensor) -> Tensor:
    """ReLU and ReLU6 let through what is above 0; ReLU6 does not gate at its other end."""
    return received * (output > 0)


def _pass(x: Tensor, output: Tensor, received: Tensor) -> Tensor:
    return received


def _folded_weight(node: fx.Node, convolution: nn.Conv2d, modules: dict[str, nn.Module]) -> Tensor:
    """The weight with the factor of the batch norm behind it: a negative one turns the signs of its channel.

    A depthwise channel without any positive weight would stop all that it gets: its absolute weights share it.
    """
    weight = convolution.weight
    follower = next(iter(node.users))
    norm = modules.get(follower.target) if follower.op == "call_module" else None
    if len(node.users) == 1 and isinstance(norm, nn.BatchNorm2d):
        factor = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        weight = weight * factor[:, None, None, None]
    if convolution.groups == convolution.in_channels > 1:
        dead = (weight <= 0).flatten(1).all(1)
        weight = torch.where(dead[:, None, None, None], weight.abs(), weight)
    return weight


def _normalised_convolution(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The convolution whose only reader this batch norm is: its factor is then part of that weight."""
    source = node.args[0]
    is_convolution = source.op == "call_module" and isinstance(modules[source.target], nn.Conv2d)
    return source if is_convolution and len(source.users) == 1 else None


def _padding(convolution: nn.Conv2d, x: Tensor) -> tuple[int, int, int, int]:
    """left, right, top, bottom."""
    if isinstance(convolution, Conv2dSame):
        arguments = zip(x.shape[-2:], convolution.kernel_size, convolution.stride, convolution.dilation)
        vertical, horizontal = (get_same_padding(*a) for a in arguments)
        return (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    return tuple(convolution._reversed_padding_repeated_twice)


def _no_rule(node: fx.Node, module: nn.Module | None) -> ConfigError:
    what = f"{node.target} ({type(module).__name__})" if module is not None else str(node.target)
    return ConfigError(
        f"peak back-propagation has no rule for the layer {what} of this backbone; it has rules for convolutions, "
        "batch norm behind them, activations, max pooling and sums: vgg, resnet and mobilenetv2 names work"
    )


def require_rules(net: fx.GraphModule) -> None:
    """Raise ConfigError now if a layer of `net` has no rule, and not after an hour of fitting."""
    modules = dict(net.named_modules())
    for node in net.graph.nodes:
        if node.op == "call_module":
            _rule_of(node, modules[node.target], modules)
        elif node.op not in ("placeholder", "output") and node.target not in SUMS:
            raise _no_rule(node, None)
