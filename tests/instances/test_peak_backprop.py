"""Peak back-propagation: the authors' numbers, a few cells to follow by hand, and the conservation of mass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from ssnm.errors import ConfigError
from ssnm.instances import peak_backprop
from ssnm.instances.model import CoSaliencyNetwork
from ssnm.instances.peak_backprop import (
    backpropagate,
    convolution_rule,
    forward_values,
    gaussian_responses,
    peak_responses,
    require_rules,
    sum_rule,
)
from ssnm.instances.peaks import find_peaks
from ssnm.instances.trunk import Trunk, build_trunk
from ssnm.nn.pixels import PixelNormalisation

GOLDEN = np.load(Path(__file__).parent / "golden" / "peak_backprop.npz")


def golden(name: str) -> torch.Tensor:
    return torch.tensor(GOLDEN[name])


def assert_golden(value: torch.Tensor, name: str) -> None:
    np.testing.assert_allclose(value.detach(), GOLDEN[name], rtol=0, atol=1e-12, err_msg=name)


def traced(*layers: nn.Module) -> fx.GraphModule:
    return fx.symbolic_trace(nn.Sequential(*layers))


def convolution(weight: torch.Tensor, bias: torch.Tensor | None = None, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], padding=padding, bias=bias is not None)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias
    return layer


def golden_network() -> CoSaliencyNetwork:
    """The small net of the authors' run: convolution, ReLU, pool, convolution, ReLU, 1x1 score."""
    net = traced(convolution(golden("net_w1"), golden("net_b1"), 1), nn.ReLU(), nn.MaxPool2d(2, 2, ceil_mode=True),
                 convolution(golden("net_w2"), golden("net_b2"), 1), nn.ReLU())  # fmt: skip
    trunk = Trunk(net.float(), PixelNormalisation((0.0, 0.0, 0.0)))
    network = CoSaliencyNetwork(trunk).double()
    network.head.score.weight.data, network.head.score.bias.data = golden("net_w3"), golden("net_b3")
    for layer, names in (("0", ("net_w1", "net_b1")), ("3", ("net_w2", "net_b2"))):
        layer = dict(network.trunk.net.named_modules())[layer]
        layer.weight.data, layer.bias.data = (golden(n) for n in names)
    return network.eval().requires_grad_(False)


def random_network(name: str, tap: str = "", seed: int = 0) -> CoSaliencyNetwork:
    torch.manual_seed(seed)
    network = CoSaliencyNetwork(build_trunk(name, tap=tap))
    nn.init.normal_(network.head.score.weight)
    return network.eval().requires_grad_(False)


def test_single_convolutions_are_those_of_the_authors():
    x, weight = golden("conv1_input"), golden("conv1_weight")
    assert_golden(convolution_rule(x, weight, golden("conv1_grad"), padding=(1, 1, 1, 1)), "conv1_result")
    seed = torch.zeros_like(golden("conv1_grad"))
    seed[(0, *GOLDEN["conv1_seed_index"])] = 1
    assert_golden(convolution_rule(x, weight, seed, padding=(1, 1, 1, 1)), "conv1_seed_result")
    x, grad = golden("conv2_input"), golden("conv2_grad")
    down_right = {"stride": (2, 2), "padding": (0, 1, 0, 1)}
    assert_golden(convolution_rule(x, golden("conv2_weight"), grad, **down_right), "conv2_result")
    assert_golden(convolution_rule(x, golden("conv3_nonpositive_weight"), grad, **down_right), "conv3_result")


def test_a_small_network_is_that_of_the_authors():
    network = golden_network()
    found = peak_responses(network, golden("net_image"))
    assert_golden(found.output.score_map, "net_score_map")
    assert np.array_equal(find_peaks(found.output.score_map[:, 0])[0], GOLDEN["net_peak_mask"])
    assert found.peaks.tolist() == GOLDEN["net_peaks"].tolist()  # column by column
    assert_golden(found.maps, "net_response")
    values, features = forward_values(network.trunk.net, golden("net_image"))
    at_features = peak_backprop._through_head(network.head, features, found.peaks)
    assert_golden(at_features, "net_after_head")
    assert_golden(backpropagate(network.trunk.net, values, at_features), "net_response_rgb")
    pooled = next(v for v in values.values() if v.shape == (1, 4, 6, 6))
    gated = at_features * (features > 0)
    assert_golden(convolution_rule(pooled, golden("net_w2"), gated, padding=(1, 1, 1, 1)), "net_after_conv2")


@pytest.mark.parametrize("weight, expected", [
    ((1, 1, 2), [(0, 1, 0), (0, 1 / 7, 6 / 7), (0, 1 / 4, 3 / 4)]),
    ((1, -1, 2), [(0, 1, 0), (0, 0, 1), (0, 1, 0)]),
])  # fmt: skip
def test_three_cells_by_hand(weight, expected):
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64).view(1, 1, 1, 3)
    kernel = torch.tensor(weight, dtype=torch.float64).view(1, 1, 1, 3)
    seeds = torch.eye(3, dtype=torch.float64).view(3, 1, 1, 3)
    shares = convolution_rule(x, kernel, seeds, padding=(1, 1, 0, 0))
    np.testing.assert_allclose(shares.flatten(1), expected, atol=1e-9)


def test_a_constant_added_to_the_input_changes_nothing_with_padding_too():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((1, 3, 6, 5), (4, 3, 3, 3)))
    seeds = torch.rand(2, 4, 6, 5, generator=generator, dtype=torch.float64)
    shares = convolution_rule(x, weight, seeds, padding=(1, 1, 1, 1))
    torch.testing.assert_close(convolution_rule(x + 7, weight, seeds, padding=(1, 1, 1, 1)), shares)
    torch.testing.assert_close(shares.sum((1, 2, 3)), seeds.sum((1, 2, 3)))


def test_a_sum_shares_by_the_height_above_each_branchs_minimum():
    first, second = torch.tensor([-1.0, 0, 2]).view(1, 1, 1, 3), torch.tensor([5.0, 6, 8]).view(1, 1, 1, 3)
    a, b = sum_rule(first, second, torch.tensor([4.0, 4, 4]).view(1, 1, 1, 3))
    assert a.flatten().tolist() == [2, 2, 2] and b.flatten().tolist() == [2, 2, 2]  # 0/0, 1/2, 3/6
    a, b = sum_rule(first, torch.tensor([0.0, 3, 0]).view(1, 1, 1, 3), torch.ones(1, 1, 1, 3))
    np.testing.assert_allclose(a.flatten(), [0.5, 0.25, 1.0])


def test_overlapping_pools_hand_everything_to_the_maximum():
    net = traced(nn.MaxPool2d(3, 2, 1))
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 1, 1] = 1  # the maximum of four windows
    values, output = forward_values(net, image)
    back = backpropagate(net, values, torch.ones_like(output))
    assert back[0, 0, 1, 1] == 4 and back.sum() == 9


def test_relu6_gates_at_zero_only_and_batch_norm_is_folded_with_its_sign():
    norm = nn.BatchNorm2d(2).eval()
    norm.weight.data, norm.bias.data = torch.tensor([-1.0, 1.0]), torch.tensor([0.0, -100.0])
    net = traced(convolution(torch.full((2, 1, 1, 1), -5.0)), norm, nn.ReLU6()).requires_grad_(False)
    image = torch.tensor([[[[0.0, 2.0]]]])
    values, output = forward_values(net, image)
    np.testing.assert_allclose(output.flatten(), [0, 6, 0, 0])  # first channel cut at 6, second below zero
    back = backpropagate(net, values, torch.ones_like(output))
    np.testing.assert_allclose(back.flatten(), [0, 1], atol=1e-6)  # weight -5 times factor -1 is positive


def test_a_depthwise_channel_without_positive_weights_shares_by_their_size():
    depthwise = nn.Conv2d(2, 2, (1, 2), groups=2, bias=False)
    depthwise.weight.data = torch.tensor([[[[-1.0, -3.0]]], [[[-1.0, 3.0]]]])
    net = traced(depthwise).requires_grad_(False)
    image = torch.tensor([[[[1.0, 1, 0]], [[1.0, 1, 0]]]])
    values, _ = forward_values(net, image)
    seeds = torch.tensor([[[[1.0, 0]], [[0, 0]]], [[[0.0, 0]], [[1, 0]]]])  # cell 0 of channel 0, of channel 1
    back = backpropagate(net, values, seeds)
    np.testing.assert_allclose(back[0, 0, 0], [0.25, 0.75, 0], atol=1e-6)
    np.testing.assert_allclose(back[1, 1, 0], [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_every_response_is_not_negative_and_sums_to_one(name):
    network = random_network(name)
    image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    found = peak_responses(network, image)
    assert len(found.peaks) > 0 and found.maps.shape[1:] == (96, 64)
    assert (found.maps >= 0).all()
    np.testing.assert_allclose(found.maps.sum((1, 2)), 1, atol=1e-4)


def test_mobilenetv2_loses_mass_only_where_nothing_contributed(monkeypatch):
    network = random_network("mobilenetv2_035")
    image = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    cut = []

    def watched(x, weight, received, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
        lifted = F.pad(x - x.min(), padding)
        contributions = F.conv2d(lifted, weight.clamp(min=0), None, stride, 0, dilation, groups)
        cut.append(float((received * (contributions < 1e-10)).sum()))
        return convolution_rule(x, weight, received, stride, padding, dilation, groups)

    monkeypatch.setattr(peak_backprop, "convolution_rule", watched)
    maps = peak_responses(network, image).maps
    assert (maps >= 0).all() and sum(cut) > 1e-3
    assert float(maps.sum()) == pytest.approx(len(maps) - sum(cut), abs=1e-4)


def test_all_peaks_at_once_are_each_one_alone():
    network = random_network("mobilenetv2_035")
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    together = peak_responses(network, image, peaks=torch.tensor([[0, 0], [1, 3], [2, 2]]))
    for number in range(3):
        alone = peak_responses(network, image, peaks=together.peaks[number : number + 1])
        torch.testing.assert_close(alone.maps[0], together.maps[number])
    torch.testing.assert_close(peak_responses(network, image, peaks=together.peaks, at_once=2).maps, together.maps)
    assert peak_responses(network, image, peaks=together.peaks[:0]).maps.shape == (0, 128, 128)


def test_a_response_that_stops_early_keeps_its_mass():
    network = random_network("mobilenetv2_035")
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    maps = peak_responses(network, image, down_to_stride=4).maps
    assert maps.shape[1:] == (32, 32)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-4)


def test_an_untrained_head_gives_empty_maps():
    network = CoSaliencyNetwork(build_trunk("mobilenetv2_035"))
    found = peak_responses(network, torch.rand(1, 3, 64, 64))
    assert len(found.peaks) == 4 and not found.maps.any()  # a constant score map is all peak


def test_the_highest_peaks_are_kept_in_order():
    score_map = torch.tensor([[5.0, 0, 9, 0, 7, 0, 8]]).view(1, 1, 1, 7)
    assert peak_backprop.score_peaks(score_map, 2)[:, 1].tolist() == [2, 6]
    assert len(peak_backprop.score_peaks(score_map)) == 4


def test_gaussian_responses_stand_around_their_peaks():
    maps = gaussian_responses(torch.tensor([[0, 1], [2, 0]]), stride=8, size=(24, 16), sigma=4.0)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-6)
    assert np.unravel_index(int(maps[0].argmax()), (24, 16)) in ((3, 11), (4, 11), (3, 12), (4, 12))


def test_a_layer_without_a_rule_is_named_before_anything_is_fitted():
    require_rules(build_trunk("mobilenetv2_035").net)
    with pytest.raises(ConfigError, match="no rule for the layer .*AvgPool2d"):
        require_rules(traced(nn.Conv2d(3, 2, 1), nn.AvgPool2d(2)))
