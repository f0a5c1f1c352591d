"""Backbones: which maps they give, how weights files are read, what is frozen."""

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ssnm.errors import CheckpointError, ConfigError, MissingFileError
from ssnm.nn.backbones import Backbone, Level, VGGTaps, count_parameters, load_backbone_weights, read_tensors

SMALL = "mobilenetv2_035"


@pytest.fixture(scope="module")
def vgg() -> Backbone:
    return Backbone("vgg16").eval()


@pytest.fixture(scope="module")
def hrnet() -> Backbone:
    return Backbone("hrnet_w18").eval()


@pytest.fixture
def weights_file(tmp_path):
    """timm's own weights of the small backbone, with every key of the feature extractor and no other."""
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    save_file(timm.create_model(SMALL, features_only=True).state_dict(), path)
    return path


def small_vgg(norm: type[nn.Module] | None = None) -> nn.Module:
    return timm.models.vgg.VGG([4, "M", 6, "M", 8, "M"], num_classes=0, mlp_ratio=1 / 512, norm_layer=norm)


def is_one_line(error) -> bool:
    return "\n" not in str(error.value)


# Taps


@torch.no_grad()
def test_vgg16_is_tapped_after_pool2_to_pool5(vgg):
    assert vgg.channels == (128, 256, 512, 512)
    assert [level.stride for level in vgg.levels] == [4, 8, 16, 32]
    maps = vgg(torch.rand(1, 3, 96, 64))
    assert [tuple(m.shape) for m in maps] == [(1, 128, 24, 16), (1, 256, 12, 8), (1, 512, 6, 4), (1, 512, 3, 2)]
    assert all(isinstance(vgg.net.features[tap], nn.MaxPool2d) for tap in vgg.net.taps)


@torch.no_grad()
def test_the_last_vgg_map_is_what_timm_itself_computes(vgg):
    images = torch.rand(1, 3, 64, 64)
    wanted = vgg.net.features((images - vgg.mean) / vgg.std)
    torch.testing.assert_close(vgg(images)[-1], wanted)


@torch.no_grad()
def test_a_vgg_tap_is_not_changed_by_the_layers_behind_it(vgg):
    images = torch.rand(1, 3, 64, 64)
    first = nn.Sequential(*vgg.net.features[: vgg.net.taps[0] + 1])((images - vgg.mean) / vgg.std)
    torch.testing.assert_close(vgg(images)[0], first)


def test_batch_norm_moves_the_taps_of_a_vgg_and_not_its_levels():
    plain, normed = VGGTaps(small_vgg(), (4, 8)), VGGTaps(small_vgg(nn.BatchNorm2d), (4, 8))
    assert plain.levels == normed.levels == [Level(6, 4), Level(8, 8)]
    assert (plain.taps, normed.taps) == ([5, 8], [7, 11])


@torch.no_grad()
def test_hrnet_gives_its_four_parallel_branches(hrnet):
    assert hrnet.channels == (18, 36, 72, 144)
    maps = hrnet(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(18, 16, 16), (36, 8, 8), (72, 4, 4), (144, 2, 2)]


@torch.no_grad()
@pytest.mark.parametrize("size", [(65, 50), (33, 97)])
def test_hrnet_takes_sizes_that_are_no_multiple_of_32(hrnet, size):
    maps = hrnet(torch.rand(1, 3, *size))
    for level, m in zip(hrnet.levels, maps):
        assert m.shape[-2:] == tuple(-(-side // 32) * 32 // level.stride for side in size)


@torch.no_grad()
@pytest.mark.parametrize(
    "name, channels", [("resnet18", (64, 128, 256)), ("mobilenetv2_100", (24, 32, 96)), ("test_convnext", (24, 32, 48))]
)
def test_a_backbone_can_be_cut_at_stride_16(name, channels):
    backbone = Backbone(name, strides=(4, 8, 16)).eval()
    assert backbone.channels == channels
    maps = backbone(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 64 // s, 64 // s) for c, s in zip(channels, (4, 8, 16))]


@torch.no_grad()
def test_maps_with_channels_last_inside_timm_come_out_channels_first():
    backbone = Backbone("swin_tiny_patch4_window7_224", strides=(16, 32)).eval()
    maps = backbone(torch.rand(1, 3, 224, 224))
    assert [tuple(m.shape) for m in maps] == [(1, 384, 14, 14), (1, 768, 7, 7)]


def test_a_network_of_one_stride_gives_one_map():
    backbone = Backbone("vit_tiny_patch16_224")
    assert [(v.channels, v.stride) for v in backbone.levels] == [(192, 16)]


@torch.no_grad()
def test_images_are_normalised_with_the_models_own_mean_and_deviation():
    backbone = Backbone(SMALL).eval()
    config = timm.get_pretrained_cfg(SMALL)
    assert backbone.mean.flatten().tolist() == pytest.approx(config.mean)
    grey = torch.tensor(config.mean).view(3, 1, 1).expand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(grey)[-1], backbone.net(torch.zeros(1, 3, 64, 64))[-1])


def test_the_normalisation_is_not_part_of_a_checkpoint():
    assert not {"mean", "std"} & set(Backbone(SMALL).state_dict())


# Errors of the name


def test_an_unknown_name_is_one_line_with_near_names():
    with pytest.raises(ConfigError, match="no model 'mobilenetv2_1000'.*near names: mobilenetv2_100") as error:
        Backbone("mobilenetv2_1000")
    assert is_one_line(error)


def test_a_network_without_the_strides_is_refused():
    with pytest.raises(ConfigError, match="no map at strides"):
        Backbone("vit_tiny_patch16_224", strides=(4, 8))


@pytest.mark.parametrize("failure", [OSError("no route\nto host"), RuntimeError("timed out"), KeyError("anything")])
def test_a_download_that_fails_is_one_line_that_names_the_remedy(monkeypatch, failure):
    def no_network(*args, **kwargs):
        raise failure

    for name in ("load_state_dict_from_hf", "load_state_dict_from_url", "load_state_dict_from_path"):
        monkeypatch.setattr(timm.models._builder, name, no_network, raising=False)  # not all in every timm
    with pytest.raises(CheckpointError, match="could not be downloaded.*backbone.weights=FILE.*=none") as error:
        Backbone(SMALL, weights="pretrained")
    assert is_one_line(error)


# Weights files


def test_a_local_file_gives_its_weights(weights_file):
    backbone = Backbone(SMALL, weights=str(weights_file))
    wanted = load_file(weights_file)
    assert all(torch.equal(v, wanted[k]) for k, v in backbone.net.state_dict().items())


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_a_pth_file_is_read_too(tmp_path, weights_file, wrapped):
    tensors = load_file(weights_file)
    torch.save({wrapped: tensors} if wrapped else tensors, tmp_path / "weights.pth")
    assert set(read_tensors(tmp_path / "weights.pth")) == set(tensors)
    Backbone(SMALL, weights=str(tmp_path / "weights.pth"))


def test_half_precision_weights_are_widened(tmp_path, weights_file):
    save_file({k: v.half() if v.is_floating_point() else v for k, v in load_file(weights_file).items()},
              tmp_path / "half.safetensors")
    backbone = Backbone(SMALL, weights=str(tmp_path / "half.safetensors"))
    assert all(p.dtype == torch.float32 for p in backbone.parameters())


def test_a_classifier_and_missing_counters_are_no_error(tmp_path, weights_file):
    tensors = {k: v for k, v in load_file(weights_file).items() if not k.endswith("num_batches_tracked")}
    save_file(tensors | {"classifier.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    backbone = Backbone(SMALL, weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(backbone.net.conv_stem.weight, tensors["conv_stem.weight"])


def test_a_missing_key_is_counted_and_named(tmp_path, weights_file):
    tensors = load_file(weights_file)
    del tensors["conv_stem.weight"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="1 missing .first: conv_stem.weight") as error:
        Backbone(SMALL, weights=str(tmp_path / "w.safetensors"))
    assert is_one_line(error)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="does not hold the weights of this backbone.*1 unexpected"):
        Backbone(SMALL, weights=str(tmp_path / "w.safetensors"))


def test_another_shape_is_refused(tmp_path, weights_file):
    tensors = load_file(weights_file)
    tensors["conv_stem.weight"] = tensors["conv_stem.weight"][:, :1].contiguous()
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="1 of another shape .first: conv_stem.weight"):
        Backbone(SMALL, weights=str(tmp_path / "w.safetensors"))


def test_left_over_keys_are_allowed_only_by_name(tmp_path):
    save_file(timm.create_model(SMALL).state_dict(), tmp_path / "w.safetensors")  # has conv_head and bn2 besides
    with pytest.raises(CheckpointError, match="unexpected"):
        Backbone(SMALL, weights=str(tmp_path / "w.safetensors"))
    Backbone(SMALL, weights=str(tmp_path / "w.safetensors"), allow_unused=("conv_head.", "bn2."))


def test_a_file_of_a_model_whose_stages_timm_renames_is_read(tmp_path):
    whole = timm.create_model("test_convnext")
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    backbone = Backbone("test_convnext", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(backbone.net.stages_1.blocks[0].conv_dw.weight, whole.stages[1].blocks[0].conv_dw.weight)


def test_vgg_features_without_their_prefix_are_read(tmp_path):
    saved, fresh = (VGGTaps(small_vgg(), (4, 8)) for _ in range(2))
    save_file(saved.features.state_dict(), tmp_path / "base.safetensors")
    load_backbone_weights(fresh, tmp_path / "base.safetensors")
    assert torch.equal(fresh.features[3].weight, saved.features[3].weight)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match="cannot be read as weights") as error:
        Backbone(SMALL, weights=str(tmp_path / name))
    assert is_one_line(error)


def test_a_pickle_of_objects_is_never_opened(tmp_path):
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_tensors(tmp_path / "w.pth")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no dictionary of tensors, got list"):
        read_tensors(tmp_path / "w.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere.pth: no such weights file"):
        Backbone(SMALL, weights=str(tmp_path / "nowhere.pth"))


# What is trained


def statistics(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in backbone.net.state_dict().items() if "running" in k}


def changed_by_a_training_pass(backbone: Backbone) -> set[str]:
    before = statistics(backbone)
    backbone.train()(torch.rand(4, 3, 64, 64))
    return {k for k, v in statistics(backbone).items() if not torch.equal(v, before[k])}


def test_norm_eval_keeps_the_statistics_while_training():
    assert changed_by_a_training_pass(Backbone(SMALL)) == set(statistics(Backbone(SMALL)))
    assert changed_by_a_training_pass(Backbone(SMALL, norm_eval=True)) == set()


def test_norm_eval_still_trains_scale_and_shift():
    backbone = Backbone(SMALL, norm_eval=True)
    assert all(p.requires_grad for p in backbone.parameters())
    assert backbone.training and not backbone.net.bn1.training


@pytest.mark.parametrize(
    "name, levels", [(SMALL, 1), (SMALL, 2), (SMALL, 3), ("resnet18", 2), ("test_convnext", 1), ("vgg11", 2)]
)
def test_the_maps_of_frozen_levels_get_no_gradient_and_the_next_level_does(name, levels):
    maps = Backbone(name, frozen_levels=levels)(torch.rand(1, 3, 64, 64))
    assert [m.requires_grad for m in maps] == [k >= levels for k in range(4)]


def test_the_statistics_of_frozen_levels_stay(weights_file):
    backbone = Backbone(SMALL, weights=str(weights_file), frozen_levels=2)
    images = torch.rand(4, 3, 64, 64)
    before = backbone.eval()(images)
    changed = changed_by_a_training_pass(backbone)
    after = backbone.eval()(images)
    assert changed  # the levels above go on learning theirs
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [True, True, False, False]


@pytest.mark.parametrize("levels", [-1, 5])
def test_frozen_levels_out_of_range_are_refused(levels):
    with pytest.raises(ConfigError, match="frozen_levels must lie in 0..4"):
        Backbone(SMALL, frozen_levels=levels)


def test_the_parallel_levels_of_hrnet_cannot_be_frozen_one_by_one():
    with pytest.raises(ConfigError, match="frozen_levels must be 0 for hrnet_w18_small"):
        Backbone("hrnet_w18_small", frozen_levels=1)


def test_parameters_are_counted_once_and_without_frozen_ones():
    shared = nn.Linear(3, 2)
    assert count_parameters(nn.Sequential(shared, shared)) == 8
    shared.bias.requires_grad_(False)
    assert count_parameters(shared) == 6


# Real weights


@pytest.mark.real_data
def test_the_folded_mobilenet_weights_load_with_exactly_the_named_leftovers(ssnm_data):
    path = ssnm_data.parent / "weights" / "mobilenetv2_100.imagenet-fp16.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside SSNM_DATA")
    Backbone("mobilenetv2_100", str(path), norm_eval=True, allow_unused=("conv_head.", "bn2."))
    with pytest.raises(CheckpointError, match="5 unexpected"):
        Backbone("mobilenetv2_100", str(path))
