"""The trunk, the head and their shapes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssnm.errors import CheckpointError, ConfigError, DataError, MissingFileError
from ssnm.instances.model import CoSaliencyHead, CoSaliencyNetwork
from ssnm.instances.trunk import build_trunk
from ssnm.nn.backbones import Backbone


def test_vgg16_with_fc6_has_the_shapes_and_the_size_of_the_paper():
    with torch.device("meta"):
        network = CoSaliencyNetwork(build_trunk("vgg16", tap="fc6"))
        output = network(torch.zeros(1, 3, 448, 448))
    assert sum(p.numel() for p in network.parameters()) == 117_483_329
    assert output.features.shape == (1, 4096, 14, 14)
    assert output.score_map.shape == (1, 1, 14, 14) and output.logits.shape == (1, 1, 448, 448)


def test_vgg_without_fc6_gives_pool5_and_pads_odd_maps_at_their_end():
    trunk = build_trunk("vgg11")
    assert (trunk.channels, trunk.stride) == (512, 32)
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 50, 33)).shape == (1, 512, 2, 2)  # ceil mode


def test_mobilenetv2_is_tapped_after_its_last_activation():
    trunk = build_trunk("mobilenetv2_035")
    with torch.no_grad():
        features = trunk(torch.rand(2, 3, 64, 96))
    assert features.shape == (2, 1280, 2, 3) and (trunk.channels, trunk.stride) == (1280, 32)
    assert (features >= 0).all()


def test_the_trunk_computes_what_timm_computes():
    torch.manual_seed(0)
    trunk = build_trunk("resnet18", tap="layer3")
    reference = Backbone("resnet18", strides=(16,)).eval()
    reference.net.load_state_dict({k: v for k, v in trunk.net.state_dict().items()}, strict=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(trunk(images), reference(images)[0])


def test_batch_norm_keeps_its_statistics_in_training():
    network = CoSaliencyNetwork(build_trunk("mobilenetv2_035")).train()
    before = {k: v.clone() for k, v in network.trunk.state_dict().items() if "running" in k}
    images = torch.rand(2, 3, 64, 64)
    trained = network(images).features
    assert all(torch.equal(v, network.trunk.state_dict()[k]) for k, v in before.items())
    torch.testing.assert_close(trained, network.eval()(images).features)


def test_weights_of_oxford_want_pixels_up_to_255_minus_a_mean():
    trunk = build_trunk("vgg11", pixels="oxford")
    white = trunk.normalise(torch.ones(1, 3, 1, 1)).flatten()
    np.testing.assert_allclose(white, [255 - 123.68, 255 - 116.779, 255 - 103.939], atol=1e-4)


@pytest.mark.parametrize("arguments, error, words", [
    ({"name": "no_such_net"}, ConfigError, "no model 'no_such_net'"),
    ({"name": "mobilenetv2_035", "tap": "blocks.9"}, ConfigError, "no layer 'blocks.9'"),
    ({"name": "mobilenetv2_035", "tap": "blocks.3"}, ConfigError, "do not come out of an activation"),
    ({"name": "vgg11", "tap": "relu9_1"}, ConfigError, "known: fc6, conv1_1, relu1_1"),
    ({"name": "vgg11", "tap": "conv1_1"}, ConfigError, "do not come out of an activation"),
    ({"name": "mobilenetv2_035", "weights": "missing.safetensors"}, MissingFileError, "no such weights file"),
])  # fmt: skip
def test_a_trunk_that_cannot_be_is_one_clear_line(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        build_trunk(**arguments)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="missing"):
        build_trunk("mobilenetv2_035", weights=str(tmp_path / "w.safetensors"))


def test_a_fresh_head_says_one_half_everywhere():
    output = CoSaliencyHead(5, 4)(torch.rand(2, 5, 3, 3))
    assert (output.score_map == 0).all() and (output.logits.sigmoid() == 0.5).all()


def test_upsampling_is_the_transposed_convolution_of_the_code():
    taps = 1 - (torch.arange(1, 65, dtype=torch.float64) - 32.5).abs() / 32
    kernel = taps.outer(taps)[None, None]
    np.testing.assert_allclose(taps[:2], [0.015625, 0.046875])
    assert kernel.sum() == 1024
    z = torch.randn(2, 1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = F.conv_transpose2d(z, kernel, stride=32, padding=16)
    torch.testing.assert_close(CoSaliencyHead(1, 32).upsample(z), expected, atol=1e-14, rtol=0)


def test_upsampling_of_ones_fades_at_the_edges_as_published():
    up = CoSaliencyHead(1, 32).upsample(torch.ones(1, 1, 14, 14))[0, 0]
    assert up.shape == (448, 448)
    assert up[0, 0].item() == pytest.approx(0.2658691, abs=1e-7) and up[0, 224].item() == 0.515625
    assert up[15, 224].item() == 0.984375 and (up[16:-16, 16:-16] == 1).all()
    corner = CoSaliencyHead(1, 32).upsample(torch.full((1, 1, 14, 14), 4.0))[0, 0, 0, 0].sigmoid()
    assert corner.item() == pytest.approx(0.7433544, abs=1e-6)


def test_upsampling_is_bilinear_inside_and_everywhere_if_asked():
    z = torch.randn(1, 1, 14, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bilinear = F.interpolate(z, scale_factor=32, mode="bilinear", align_corners=False)
    faded = CoSaliencyHead(1, 32).upsample(z)
    torch.testing.assert_close(faded[..., 16:-16, 16:-16], bilinear[..., 16:-16, 16:-16], atol=1e-14, rtol=0)
    assert (faded - bilinear).abs().max() > 0.1
    torch.testing.assert_close(CoSaliencyHead(1, 32, edges="bilinear").upsample(z), bilinear)


def test_a_size_that_the_stride_does_not_divide_is_refused():
    network = CoSaliencyNetwork(build_trunk("mobilenetv2_035"))
    with pytest.raises(DataError, match="100x64 .* multiples of 32"):
        network(torch.zeros(1, 3, 100, 64))
