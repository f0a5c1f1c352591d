"""VGG walked layer by layer: the walk is timm's network, hooks see each activation, fc layers are convolutions."""

import pytest
import timm
import torch

from ssnm.errors import ConfigError
from ssnm.nn.vgg import VGG


@pytest.fixture(scope="module")
def vgg16():
    torch.manual_seed(0)
    return VGG("vgg16").eval()


def test_its_walk_computes_what_timm_computes(vgg16):
    with torch.device("meta"):
        reference = timm.create_model("vgg16")
    reference.features.to_empty(device="cpu").load_state_dict(vgg16.features.state_dict())
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(vgg16(images).last, reference.features(images))


def test_hook_is_called_after_each_activation_in_order_and_its_result_goes_on(vgg16):
    seen = []

    def hook(stage, index, map_):
        assert map_.min() >= 0  # after the activation
        seen.append((stage, index, map_.shape[1]))
        return torch.zeros_like(map_) if (stage, index) == (3, 3) else map_

    with torch.no_grad():
        maps = vgg16(torch.randn(1, 3, 32, 32), hook)
    assert [s[:2] for s in seen] == list(vgg16.channels)
    assert [s[2] for s in seen] == list(vgg16.channels.values()) == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert maps.stages[1].abs().sum() > 0 and maps.stages[2].abs().sum() == 0


def test_stage_maps_are_taken_before_the_pool(vgg16):
    with torch.no_grad():
        maps = vgg16(torch.randn(1, 3, 64, 32))
    assert [tuple(m.shape[1:]) for m in maps.stages] == [(64, 64, 32), (128, 32, 16), (256, 16, 8), (512, 8, 4),
                                                          (512, 4, 2)]  # fmt: skip
    assert maps.last.shape == (1, 512, 2, 1)


@pytest.mark.parametrize("ceil_mode, sizes", [(True, (27, 14, 7, 4, 2)), (False, (27, 13, 6, 3, 1))])
def test_ceil_mode_keeps_incomplete_windows(ceil_mode, sizes):
    vgg = VGG("vgg11", ceil_mode=ceil_mode, last_pool=False)
    with torch.no_grad():
        assert tuple(m.shape[2] for m in vgg(torch.randn(1, 3, 27, 32)).stages) == sizes


def test_activations_are_out_of_place(vgg16):
    kept = {}
    handles = [layer.module.register_forward_hook(lambda m, i, o, n=n: kept.__setitem__(n, o))
               for n, layer in enumerate(vgg16.layers)]  # fmt: skip
    with torch.no_grad():
        vgg16(torch.randn(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    assert all(kept[n].min() < 0 for n, layer in enumerate(vgg16.layers) if layer.kind == "convolution")


def test_fc_layers_are_timm_s_convolutions_with_padding_and_size_kept():
    with torch.device("meta"):
        grid = VGG("vgg16", fc_layers=1, fc_padding=3)  # shapes only: the weights of fc6 alone are 411 MB
        whole = VGG("vgg16", fc_layers=2)
        images = torch.empty(2, 3, 224, 224)
    assert grid(images).last.shape == (2, 4096, 7, 7)
    assert whole(images).last.shape == (2, 4096, 1, 1)
    state = whole.state_dict()
    assert state["pre_logits.fc1.weight"].shape == (4096, 512, 7, 7)
    assert state["pre_logits.fc2.weight"].shape == (4096, 4096, 1, 1)
    with torch.device("meta"):
        assert {k for k in timm.create_model("vgg16").state_dict() if not k.startswith("head")} == set(state)


def test_dropout_follows_the_mode_of_the_network():
    with torch.device("meta"):
        vgg = VGG("vgg16", fc_layers=2, dropout=0.5)
    dropouts = [layer.module for layer in vgg.layers if layer.kind == "dropout"]
    assert len(dropouts) == 2 and all(d.training and d.p == 0.5 for d in dropouts)
    assert not any(d.training for d in dropouts if vgg.eval())


def test_batch_norm_variants_are_walked_too():
    vgg = VGG("vgg11_bn", last_pool=False).eval()
    assert [layer.kind for layer in vgg.layers[:4]] == ["convolution", "norm", "activation", "pool"]
    with torch.no_grad():
        assert vgg(torch.randn(1, 3, 32, 32)).last.shape == (1, 512, 2, 2)


@pytest.mark.parametrize("options", [dict(name="resnet18"), dict(fc_layers=3), dict(fc_layers=1, last_pool=False)])
def test_what_is_no_such_network_is_said(options):
    with pytest.raises(ConfigError, match="VGG"):
        VGG(**options)
