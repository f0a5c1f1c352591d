"""OSMN at full size, built once: equal to the authors' program layer by layer; counts, shapes, where it modulates."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ssnm.nn.pixels import PixelNormalisation
from ssnm.nn.vgg import VGG
from ssnm.video.convert import Variant, from_tensorflow, key_table
from ssnm.video.guides import VisualDraw, gaussian_guide, visual_guide
from ssnm.video.losses import class_balanced_loss
from ssnm.video.model import OSMN, SideOutput, centre_crop
from ssnm.video.modulators import SpatialModulator, bilinear_kernel, guide_pyramid
from ssnm.video.segmenter import VideoSegmenter
from ssnm.video.settings import Settings

from .osmn_oracle import OSVOS, facts, frame_at, golden, inputs, mask_at, variables

CASES = {"A": ("normal", (96, 160)), "B": ("border", (67, 101))}
AUTHORS = dict(mean=(104.0, 117.0, 123.0), scale=255.0, bgr=True)


def network(device="cpu", visual=True, **options) -> OSMN:
    with torch.device(device):
        vgg = VGG("vgg16", ceil_mode=True, fc_layers=2, dropout=0.5) if visual else None
        return OSMN(VGG("vgg16", ceil_mode=True, last_pool=False), vgg, PixelNormalisation(**AUTHORS), **options)


@pytest.fixture(scope="module")
def full():
    """The authors' network with the stand-in weights of every variable."""
    with torch.device("meta"):
        vgg = VGG("vgg16", ceil_mode=True, fc_layers=2, dropout=0.5)
        model = OSMN(VGG("vgg16", ceil_mode=True, last_pool=False), vgg, nn.Identity())
    model.normalise = PixelNormalisation(**AUTHORS)
    for side in model.sides:
        side.register_buffer("up", SideOutput(1, side.stride).up, persistent=False)
    variant, weights = from_tensorflow(variables(OSVOS), "stand-ins")
    assert variant == OSVOS
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def keep(kept, name):
    """A hook that keeps what a module gives; it returns nothing, for that would replace it."""

    def hook(module, arguments, output):
        kept[name] = output

    return hook


@pytest.fixture(scope="module")
def outputs(full):
    """Everything that a case computes: name -> array without batch axis, channels last as the authors have it."""
    found = {}
    for case, (mask, size) in CASES.items():
        kept: dict[str, torch.Tensor] = {}
        handles = [layer.module.register_forward_hook(keep(kept, f"vm_conv{layer.stage}_{layer.index}"))
                   for layer in full.visual.vgg.layers if layer.kind == "activation"]  # fmt: skip
        for number, side in enumerate(full.sides, start=2):
            handles.append(side.convolution.register_forward_hook(keep(kept, f"side{number}")))
            handles.append(side.register_forward_hook(keep(kept, f"up{number}")))
        guide, shown = visual_guide(inputs()["frame0"], inputs()[f"mask_{mask}"], VisualDraw.padded())
        spatial = torch.from_numpy(gaussian_guide(mask_at(mask, size)))[None]
        image = tensor(frame_at("frame1", size))
        with torch.no_grad():
            scales = full.scales(tensor(guide), torch.from_numpy(shown)[None].float())
            kept["logits"] = full.segment(image, spatial, scales)[:, None]
            kept["gamma"] = scales[:, :, None, None]
            kept |= {f"beta{stage}": shift for stage, shift in zip((3, 4, 5), full.shifts(spatial))}
            modulated = {}
            full.trunk(full.normalise(image), _recording(full, spatial, scales, modulated))
            kept |= modulated
            for handle in handles:
                handle.remove()
            if case == "B":
                kept["no_visual"] = full.segment(image, spatial, None)[:, None]
        found[case] = {name: value[0].permute(1, 2, 0).numpy() for name, value in kept.items()}
    return found


def _recording(model, spatial, scales, kept):
    """The hook of `segment` by its definition: times gamma, plus beta, both cut by hand in the order of the layers."""
    shifts, at = dict(zip((3, 4, 5), model.shifts(spatial))), {3: 0, 4: 0, 5: 0}
    done = 0

    def hook(stage, index, maps):
        nonlocal done
        channels = maps.shape[1]
        if stage > 2:
            shift = shifts[stage][:, at[stage] : at[stage] + channels]
            maps = maps * scales[:, done : done + channels, None, None] + shift
            done, at[stage] = done + channels, at[stage] + channels
        kept[f"{'mod' if stage > 2 else 'seg'}_conv{stage}_{index}"] = maps
        return maps

    return hook


SIDES = {"side_conv2_2_16": "side2", "side_conv3_3_16": "side3", "side_conv4_3_16": "side4", "side_conv5_3_16": "side5"}


def of(found, name):
    """Our array for a name of the oracle; fc6 and fc7 are stages 6 and 7 of the walk."""
    name = name.replace("vm_fc6", "vm_conv6_1").replace("vm_fc7", "vm_conv7_1")
    return found[SIDES.get(name, name)]


def test_a_roll_out_through_propagate_is_the_authors(full):
    frames, mask = [inputs()["frame0"], inputs()["frame1"]], inputs()["mask_border"]
    first, second = VideoSegmenter(full, Settings()).propagate(frames, mask, size=(101, 67))
    assert np.array_equal(first.ids, mask > 0)
    wanted = 1 / (1 + np.exp(-golden()["B/logits"]))  # every fifth row and column
    np.testing.assert_allclose(second.probabilities[0][::5, ::5], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_scales_are_the_authors(outputs, case):
    np.testing.assert_allclose(outputs[case]["logits"][::5, ::5, 0], golden()[f"{case}/logits"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(outputs[case]["gamma"][0, 0, ::16], golden()[f"{case}/gamma"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(k for k in golden() if k[0] in "AB" and k.split("/")[1].startswith("ch")))
def test_channel_means_of_every_layer_are_the_authors(outputs, name):
    case, kind, layer = name[0], *name[2:].split("_", 1)
    values = of(outputs[case], layer)
    means = (values if kind == "chmean" else np.abs(values)).mean(axis=(0, 1), dtype=np.float64)
    theirs = golden()[name]
    step = 64 if means.size > 64 else 4
    tolerance = 1e-6 if layer.startswith("beta") else 5e-5
    np.testing.assert_allclose(means[::step], theirs, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_statistics_of_every_tensor_are_the_authors(outputs, case):
    for layer, (mean, std, low, high) in facts()["stats"][case].items():
        values = of(outputs[case], layer) if layer != "prob" else 1 / (1 + np.exp(-outputs[case]["logits"]))
        found = values.mean(dtype=np.float64), values.std(dtype=np.float64), values.min(), values.max()
        np.testing.assert_allclose(found, (mean, std, low, high), rtol=2e-5, atol=2e-5, err_msg=layer)


@pytest.mark.parametrize("name", sorted(k for k in golden() if k.startswith(("B/side_", "B/up"))))
def test_side_outputs_and_their_up_sampling_are_the_authors(outputs, name):
    layer = name[2:].removesuffix("_every8th")
    values = of(outputs["B"], layer)
    ours = values[::9, ::9, ::8] if "every8th" in name else values[::3, ::3, ::5]
    np.testing.assert_allclose(ours, golden()[name], rtol=0, atol=5e-5)


def test_without_the_visual_modulator_logits_are_the_authors(outputs):
    np.testing.assert_allclose(outputs["B"]["no_visual"][::5, ::5, 0], golden()["no_visual/logits"], rtol=0, atol=5e-5)


def test_objects_that_share_a_frame_get_what_each_gets_alone(full):
    image, scales = torch.rand(1, 3, 40, 56), 1 + 0.1 * torch.randn(2, 3840)
    guides = torch.rand(2, 40, 56)
    with torch.no_grad():
        both = full.segment(image, guides, scales)
        alone = torch.cat([full.segment(image, guides[k : k + 1], scales[k : k + 1]) for k in (0, 1)])
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-4)
    assert (both[0] - both[1]).abs().max() > 0.01


# --- Checks 1 to 12 of the specification ----------------------------------------------------------------------------


def count(parameters):
    return sum(p.numel() for p in parameters)


def test_parameter_counts(full):
    assert count(full.visual.parameters()) == 149_993_024
    assert count(full.spatial.parameters()) == 11_520
    rest = [p for n, p in full.named_parameters() if not n.startswith(("visual.", "spatial."))]
    assert count(rest) == 14_917_569 and count(full.parameters()) == 164_922_113
    assert count(b for n, b in full.named_buffers() if "running" in n) == 7_680
    assert [side.up.numel() for side in full.sides] == [4_096, 16_384, 65_536, 262_144]
    early = network("meta", first_stage=1)
    assert count(early.parameters()) == 166_496_513 and count(early.visual.parameters()) == 151_566_272
    assert count(early.spatial.parameters()) == 12_672
    assert count(network("meta", visual=False).parameters()) == facts()["no_visual"]["trainable"] == 14_929_089


@pytest.mark.parametrize("variant", [Variant(True, True, False), Variant(True, True, True), Variant(False, True, False),
                                     Variant(True, False, False)], ids=lambda v: v.name)  # fmt: skip
def test_weights_are_those_that_the_key_table_of_a_variant_gives(variant):
    model = network("meta", visual=variant.visual, spatial=variant.spatial, first_stage=1 if variant.early else 3)
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    turned = {key: (s[3], s[2], s[0], s[1]) if len(s) == 4 else s for key, s in key_table(variant).values()}
    assert ours == turned


@pytest.mark.parametrize("width, height, maps", [(854, 480, [(120, 214), (60, 107), (30, 54)]),
                                                 (427, 240, [(60, 107), (30, 54), (15, 27)])])  # fmt: skip
def test_shapes_of_scales_shifts_and_logits(width, height, maps):
    model = network("meta")
    with torch.device("meta"):
        image, guide = torch.empty(1, 3, height, width), torch.empty(1, height, width)
        scales = model.scales(torch.empty(1, 3, 224, 224), torch.empty(1, 224, 224))
    assert scales.shape == (1, 3840)
    assert [tuple(s.shape) for s in model.shifts(guide)] == [(1, c, *m) for c, m in zip((768, 1536, 1536), maps)]
    assert model.segment(image, guide, scales).shape == (1, height, width)


@pytest.mark.parametrize("width, height, offsets", [
    (854, 480, [(1, 1), (2, 3), (4, 5), (8, 13)]), (683, 384, [(1, 1), (2, 2), (4, 6), (8, 10)]),
    (640, 360, [(1, 1), (2, 2), (4, 4), (12, 8)]), (400, 400, [(1, 1), (2, 2), (4, 4), (8, 8)])])  # fmt: skip
def test_offsets_of_the_centre_crop(width, height, offsets):
    for stage, offset in zip((1, 2, 3, 4), offsets):
        up = [(-(-side // 2**stage) + 1) * 2**stage for side in (height, width)]
        rows = torch.arange(up[0])[None, :, None].expand(1, up[0], up[1])
        columns = torch.arange(up[1])[None, None, :].expand(1, up[0], up[1])
        cropped = centre_crop(torch.cat([rows, columns])[None], (height, width))
        assert cropped.shape[-2:] == (height, width) and tuple(cropped[0, :, 0, 0].tolist()) == offset


@pytest.fixture(scope="module")
def fresh_modulator(full):
    """A fresh fc8 on the trunk of the full network."""
    modulator = copy.copy(full.visual)
    modulator._modules = dict(full.visual._modules)
    modulator.fc8 = nn.Conv2d(4096, 3840, 1)
    nn.init.zeros_(modulator.fc8.weight)
    nn.init.ones_(modulator.fc8.bias)
    return modulator


def test_a_fresh_visual_modulator_says_one_whatever_it_sees():
    from ssnm.video.modulators import VisualModulator

    with torch.device("meta"):
        vgg = VGG("vgg16", ceil_mode=True, fc_layers=2)
    modulator = VisualModulator(3840, vgg)
    assert torch.equal(modulator.fc8(torch.rand(2, 4096, 1, 1)), torch.ones(2, 3840, 1, 1))


def test_at_first_only_fc8_learns(fresh_modulator):
    scales = fresh_modulator(torch.randn(1, 3, 224, 224))
    assert torch.equal(scales, torch.ones(1, 3840))
    last = [fresh_modulator.fc8.weight, fresh_modulator.vgg.pre_logits["fc2"].weight,
            fresh_modulator.vgg.features[28].weight]  # fmt: skip
    grads = torch.autograd.grad((scales * torch.randn(1, 3840)).sum(), last)
    assert grads[0].any() and not grads[1].any() and not grads[2].any()


def test_a_fresh_network_loses_two_p_n_over_t_ln_2():
    torch.manual_seed(0)
    model = network(visual=False).eval()
    mask = torch.zeros(1, 32, 48)
    mask[0, 5:20, 8:30] = 1
    with torch.no_grad():
        logits = model.segment(torch.rand(1, 3, 32, 48), torch.from_numpy(gaussian_guide(mask[0].numpy()))[None], None)
    positives, pixels = mask.sum().item(), mask.numel()
    expected = 2 * positives * (pixels - positives) / pixels * np.log(2)
    assert class_balanced_loss(logits, mask).item() == pytest.approx(expected, rel=2e-3)
    shifts = model.shifts(torch.rand(1, 32, 48))
    assert 0 < max(s.max().item() for s in shifts) < 0.005


def test_scale_one_and_shift_zero_are_plain_vgg_and_scale_zero_leaves_the_shift(full):
    image = torch.rand(1, 3, 32, 40)
    with torch.no_grad():
        plain = full.trunk(full.normalise(image)).stages
        kept = {}
        full.trunk(full.normalise(image), _recording(full, torch.rand(1, 32, 40), torch.zeros(1, 3840), kept))
        seen = {}
        handle = full.trunk.register_forward_hook(keep(seen, "maps"))
        full.segment(image, None, torch.ones(1, 3840))
        handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(plain, seen["maps"].stages))
    assert (kept["mod_conv3_1"] >= 0).all() and kept["mod_conv3_1"].any()


def test_modulation_comes_after_the_activation(full):
    seen = {}
    handle = full.trunk.register_forward_hook(keep(seen, "maps"))
    with torch.no_grad():
        full.segment(torch.rand(1, 3, 32, 40), None, -torch.ones(1, 3840))
    handle.remove()
    assert seen["maps"].stages[2].max() <= 0 and seen["maps"].stages[2].min() < 0 <= seen["maps"].stages[1].min()


def test_shifts_are_relu_of_a_line_of_the_guide(full):
    guide = torch.rand(1, 67, 101)
    with torch.no_grad():
        for shift, m, conv, norm in zip(full.shifts(guide), guide_pyramid(guide[:, None], (2, 3, 4)),
                                        full.spatial.convolutions, full.spatial.norms):  # fmt: skip
            a = norm.weight * conv.weight[:, 0, 0, 0] / (norm.running_var + 1e-3).sqrt()
            b = norm.bias - norm.weight * norm.running_mean / (norm.running_var + 1e-3).sqrt()
            torch.testing.assert_close(shift, (a[:, None, None] * m + b[:, None, None]).relu(), rtol=0, atol=1e-5)
            assert shift.min() >= 0


def test_average_pools_keep_the_last_row_and_column():
    pooled = guide_pyramid(torch.arange(1.0, 26).view(1, 1, 5, 5), (1,))[0]
    assert pooled[0, 0].tolist() == [[4, 6, 7.5], [14, 16, 17.5], [21.5, 23.5, 25]]


def test_the_up_sampling_kernel():
    four, eight = bilinear_kernel(4), bilinear_kernel(8)
    assert (four[1] / four[1].sum() * 2).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert (eight[3] / eight[3].sum() * 4)[:2].tolist() == [0.125, 0.375]
    for size in (4, 8, 16, 32):
        assert bilinear_kernel(size).sum().item() == pytest.approx((size / 2) ** 2)


def side_of(values, size):
    side = SideOutput(1, 2)
    nn.init.zeros_(side.convolution.weight)
    side.convolution.weight.data[0, 0, 1, 1] = 1
    with torch.no_grad():
        return side(values[None, None], size)[0, 0]


def test_up_sampling_fades_at_the_border():
    up = side_of(torch.ones(3, 3), (6, 6))
    assert up[0, 0] == 0.5625 and up[0, 2] == up[3, 0] == 0.75 and (up[1:-1, 1:-1] == 1).all()
    ramp = side_of(torch.tensor([[0.0, 1, 2]]).expand(3, 3), (6, 6))
    assert ramp[2].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 1.5]


def step_of(model, learning_rate=1e-3):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    mask = torch.zeros(2, 32, 32)
    mask[:, 8:20, 8:20] = 1
    guides = torch.from_numpy(gaussian_guide(mask[0].numpy()))[None].expand(2, -1, -1)
    class_balanced_loss(model.segment(torch.rand(2, 3, 32, 32), guides, None), mask).backward()
    optimizer.step()
    return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}


def test_fixed_batch_norm_keeps_its_statistics_but_learns():
    torch.manual_seed(0)
    changed = step_of(network(visual=False, fix_norm=True))
    assert not any("running" in k or "tracked" in k for k in changed)
    assert {"spatial.norms.0.weight", "spatial.convolutions.2.weight", "trunk.features.0.weight"} <= changed
    moved = step_of(network(visual=False))
    assert {"spatial.norms.0.running_mean", "spatial.norms.2.running_var"} <= moved


def test_a_fixed_segmentation_network_trains_modulators_and_fusion_alone():
    torch.manual_seed(0)
    changed = step_of(network(visual=False, fix_segmentation=True))
    assert changed and all(k.startswith(("spatial.", "fuse.")) for k in changed) and "fuse.weight" in changed


def test_batch_norm_is_tensorflow_s():
    modulator = SpatialModulator([4])
    assert (modulator.norms[0].eps, modulator.norms[0].momentum) == (1e-3, 0.01)
    assert modulator.convolutions[0].bias is None and modulator.convolutions[0].weight.abs().max() < 0.01
