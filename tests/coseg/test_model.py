"""The network: its symmetries, what its gradients reach, its ablations, any N and any size."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssnm.coseg.build import build_model
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.losses import CosegCriterion
from ssnm.coseg.model import Fusion, SecondOrderPooling, SegmentationHead, SemanticModulator, SpatialModulator
from ssnm.coseg.records import GroupBatch
from ssnm.nn.backbones import Backbone, Level


class Pyramid(nn.Module):
    """The smallest backbone that meets the contract: strided 1x1 convolutions."""

    def __init__(self, channels: tuple[int, ...] = (6, 8, 10, 12), strides: tuple[int, ...] = (4, 8, 16, 32)) -> None:
        super().__init__()
        self.levels = tuple(Level(c, s) for c, s in zip(channels, strides))
        self.channels = channels
        self.taps = nn.ModuleList(nn.Conv2d(3, c, 1, stride=s) for c, s in zip(channels, strides))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [tap(images) for tap in self.taps]


def some_images(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator)


def a_batch(images: torch.Tensor, num_categories: int = 3) -> GroupBatch:
    b, n, _, h, w = images.shape
    masks = torch.zeros(b, n, h, w)
    masks[..., h // 4 : h // 2, w // 4 : w // 2] = 1
    return GroupBatch(
        images, masks, torch.eye(num_categories)[:b], torch.ones(b, n, h, w, dtype=torch.bool), torch.zeros(b, n).bool()
    )


def gradients(module: nn.Module) -> dict[str, bool]:
    """Which parameters have a gradient that is not zero."""
    return {k: p.grad is not None and bool((p.grad != 0).any()) for k, p in module.named_parameters()}


# Symmetries


@torch.no_grad()
def test_semantic_vector_and_categories_do_not_depend_on_image_order_and_masks_permute_along(tiny_model, device):
    model = tiny_model().to(device)
    images = some_images(2, 5, 3, 64, 64).to(device)
    order = torch.tensor([3, 0, 4, 1, 2])
    straight, shuffled = model(images), model(images[:, order])
    one, other = straight.modulation, shuffled.modulation
    torch.testing.assert_close(other.semantic_vector, one.semantic_vector, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.category_logits, one.category_logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.spatial_mask, one.spatial_mask[:, order], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shuffled.mask_logits, straight.mask_logits[:, order], rtol=1e-3, atol=1e-3)
    assert (one.semantic_vector[0] - one.semantic_vector[1]).abs().max() > 0.01  # it does depend on the images
    assert (straight.mask_logits[:, 0] - straight.mask_logits[:, 1]).abs().max() > 0.01


@torch.no_grad()
def test_groups_of_a_batch_do_not_influence_each_other_in_eval_mode(tiny_model):
    model = tiny_model()
    images = some_images(3, 2, 3, 64, 64)
    together = model(images)
    for b in range(3):
        alone = model(images[b : b + 1])
        torch.testing.assert_close(together.mask_logits[b], alone.mask_logits[0], rtol=1e-3, atol=1e-3)
        for name in ("spatial_mask", "semantic_vector", "category_logits", "eigenvalue"):
            whole, single = getattr(together.modulation, name)[b], getattr(alone.modulation, name)[0]
            torch.testing.assert_close(whole, single, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_mask_of_an_image_depends_on_the_rest_of_its_group(tiny_model):
    model = tiny_model()
    images = some_images(1, 4, 3, 64, 64)
    others = images.clone()
    others[:, 1:] *= torch.linspace(0, 1, 64)
    assert (model(images).mask_logits[:, 0] - model(others).mask_logits[:, 0]).abs().max() > 0.01


@torch.no_grad()
def test_without_modulators_every_image_stands_alone(tiny_model):
    model = tiny_model(spatial=None, semantic=None)
    images = some_images(2, 3, 3, 64, 64)
    whole = model(images).mask_logits
    for b in range(2):
        for n in range(3):
            alone = model(images[b : b + 1, n : n + 1]).mask_logits[0, 0]
            torch.testing.assert_close(alone, whole[b, n], rtol=1e-4, atol=1e-4)


# Any N, any size


@torch.no_grad()
@pytest.mark.parametrize("group_size", [1, 2, 7])
def test_a_trained_model_takes_any_group_size(tiny_model, group_size):
    model = tiny_model()
    images = some_images(2, 5, 3, 64, 64)
    criterion = CosegCriterion()
    with torch.enable_grad():
        criterion(model.train()(images), a_batch(images))["total"].backward()
    output = model.eval()(some_images(1, group_size, 3, 64, 64))
    assert output.mask_logits.shape == (1, group_size, 64, 64)
    assert output.modulation.spatial_mask.shape == (1, group_size, 2, 2)
    assert output.modulation.semantic_vector.shape == (1, 16)
    assert output.modulation.category_logits.shape == (1, 3)
    assert output.mask_logits.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 47), (64, 65), (97, 31), (225, 130), (32, 32)])
def test_mask_logits_have_the_size_of_the_input_whatever_it_is(tiny_model, size):
    output = tiny_model()(some_images(1, 2, 3, *size))
    assert output.mask_logits.shape == (1, 2, *size)
    assert output.mask_logits.isfinite().all()


@torch.no_grad()
def test_a_group_of_one_black_image_is_finite(tiny_model):
    output = tiny_model()(torch.zeros(1, 1, 3, 32, 32))
    assert output.mask_logits.isfinite().all() and output.modulation.spatial_mask.isfinite().all()


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_fewer_levels_are_a_network_too(tiny_model, levels):
    model = tiny_model(Pyramid((6, 8, 10, 12)[:levels], (4, 8, 16, 32)[:levels]))
    output = model(some_images(1, 2, 3, 64, 64))
    assert output.mask_logits.shape == (1, 2, 64, 64)
    side = 64 // (4, 8, 16, 32)[levels - 1]
    assert output.modulation.spatial_mask.shape == (1, 2, side, side)


def test_resnet18_cut_at_stride_16_is_a_network_of_three_levels(tiny_model):
    model = tiny_model(Backbone("resnet18", strides=(4, 8, 16)))
    assert len(model.project) == 3
    assert model(some_images(1, 2, 3, 64, 64)).modulation.spatial_mask.shape == (1, 2, 4, 4)


# Gradients


def losses_of(model, **weights) -> dict[str, torch.Tensor]:
    images = some_images(2, 3, 3, 64, 64)
    return CosegCriterion(**weights)(model(images), a_batch(images))


def test_fusion_is_trained_by_the_clustering_loss(tiny_model):
    model = tiny_model()
    losses_of(model, spa=1.0)["spa"].backward()
    assert all(gradients(model.fusion).values())
    assert all(gradients(model.backbone.net.conv_stem).values())  # it reaches the backbone too
    assert not any(gradients(model.head).values())


@pytest.mark.parametrize("weights", [dict(spa=0.0, dice=1.0), dict(spa=0.0, sem=0.0)])
def test_fusion_gets_no_gradient_from_the_other_losses(tiny_model, weights):
    model = tiny_model()
    losses_of(model, **weights)["total"].backward()
    assert all(p.grad is None for p in model.fusion.parameters())
    assert any(gradients(model.head).values())


def test_no_gradient_passes_through_the_eigenvector():
    phi = torch.randn(1, 2, 4, 3, 3, requires_grad=True)
    mask, eigenvalue, energy = SpatialModulator()(phi)
    assert not mask.requires_grad and not eigenvalue.requires_grad
    assert energy.requires_grad


def test_every_other_parameter_is_trained_by_the_total(tiny_model):
    model = tiny_model(Pyramid())
    losses_of(model)["total"].backward()
    without = [name for name, has in gradients(model).items() if not has]
    assert without == []


def test_the_semantic_vector_is_trained_by_the_masks_as_well(tiny_model):
    model = tiny_model()
    losses_of(model, spa=0.0, sem=0.0)["total"].backward()
    assert all(gradients(model.semantic.group_pooling).values())
    assert not any(gradients(model.semantic.classifier).values())


# Ablations (Table 5)


def test_without_the_spatial_modulator_there_is_no_fusion_and_no_shift(tiny_model):
    model = tiny_model(spatial=None)
    assert not any(name.startswith(("fusion", "spatial")) for name, _ in model.named_parameters())
    modulation = model(some_images(1, 2, 3, 64, 64)).modulation
    assert modulation.spatial_mask is None and modulation.clustering_energy is None and modulation.eigenvalue is None
    assert modulation.semantic_vector is not None
    assert "spa" not in losses_of(model)


def test_without_the_semantic_modulator_there_is_no_gamma_and_no_category(tiny_model):
    model = tiny_model(semantic=None)
    assert not any(name.startswith("semantic") for name, _ in model.named_parameters())
    modulation = model(some_images(1, 2, 3, 64, 64)).modulation
    assert modulation.semantic_vector is None and modulation.category_logits is None
    assert modulation.spatial_mask is not None
    assert "sem" not in losses_of(model)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("semantic", [True, False])
def test_table_5_is_reached_by_configuration_alone(spatial, semantic):
    backbone = {"name": "mobilenetv2_035", "weights": "none"}
    switches = {"spatial": {"enabled": spatial}, "semantic": {"enabled": semantic}}
    model = build_model(config_from_dict({"model": {"dim": 8, "backbone": backbone, **switches}}).model, 3)
    parts = {name.split(".")[0] for name, _ in model.named_parameters()} - {"backbone", "project", "head"}
    assert parts == {part for part, on in (("fusion", spatial), ("semantic", semantic)) if on}


@torch.no_grad()
def test_an_absent_modulator_is_gamma_one_and_shift_zero(tiny_model):
    model = tiny_model(Pyramid())
    images = some_images(1, 2, 3, 64, 64)
    cfms = model.backbone(images[0])
    both = model.modulate(model.encode(cfms), 2)
    neutral = type(both)(torch.zeros_like(both.spatial_mask), torch.ones_like(both.semantic_vector))
    torch.testing.assert_close(
        model.segment(cfms, neutral, (64, 64)), model.segment(cfms, type(both)(), (64, 64)), rtol=1e-5, atol=1e-6
    )


# The spatial modulator


@pytest.mark.parametrize("group_size", [1, 4, 9])
def test_the_spatial_mask_has_unit_length_or_unit_rms_over_its_group(group_size):
    phi = torch.randn(2, group_size, 8, 5, 7)
    unit = SpatialModulator(scale="unit")(phi)[0]
    rms = SpatialModulator(scale="rms")(phi)[0]
    torch.testing.assert_close(unit.square().sum((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(rms.square().mean((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(rms, unit * (group_size * 35) ** 0.5)


def test_the_spatial_mask_is_the_oriented_leading_eigenvector_cut_into_images():
    phi = torch.randn(1, 3, 6, 2, 4, dtype=torch.float32)
    mask, eigenvalue, energy = SpatialModulator("nonnegative_sum", "unit")(phi)
    x = F.normalize(phi[0].double().permute(0, 2, 3, 1).reshape(24, 6), dim=1)
    values, vectors = torch.linalg.eigh(x @ x.T - 1)
    wanted = vectors[:, -1] * vectors[:, -1].sum().sign()
    torch.testing.assert_close(mask[0].double(), wanted.view(3, 2, 4), rtol=1e-4, atol=1e-4)
    assert float(eigenvalue) == pytest.approx(float(values[-1]), rel=1e-4)
    assert float(energy) == pytest.approx(float(values[-1]), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rule, side_of_the_object", [("nonnegative_sum", -1), ("border", 1)])
def test_the_spatial_mask_separates_two_kinds_of_descriptors(rule, side_of_the_object):
    """A small object of one kind in the middle of every image: the rule says which side is called positive."""
    kind = torch.randn(2, 8, generator=torch.Generator().manual_seed(3))
    object_here = torch.zeros(1, 3, 6, 6, dtype=torch.long)
    object_here[:, :, 2:4, 2:4] = 1
    phi = kind[object_here].movedim(-1, 2) + 0.01 * torch.randn(1, 3, 8, 6, 6)
    mask = SpatialModulator(rule)(phi)[0] * side_of_the_object
    inside, outside = mask[object_here == 1], mask[object_here == 0]
    assert float(inside.min()) > 0 > float(outside.max())


def test_the_spatial_mask_is_float32_under_autocast():
    phi = torch.randn(1, 2, 8, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        mask, eigenvalue, energy = SpatialModulator()(phi)
        plain = SpatialModulator()(phi.bfloat16())[0]
    assert mask.dtype == eigenvalue.dtype == energy.dtype == plain.dtype == torch.float32
    assert torch.equal(mask, SpatialModulator()(phi)[0])


# Fusion, second-order pooling, head: step by step


def test_fusion_of_constant_maps_by_hand():
    """One channel, every layer a number: 1x1 convolutions w x + b, the mean over cells changes no constant.

    Finest 2, then 10, then 100; running = 3 * 2 = 6; 6 + 5 * 10 = 56, merged times 7 = 392; run on times 11 = 4312;
    plus 13 * 100 = 5612, merged times 17 plus 1 = 95405."""
    fusion = Fusion((1, 1, 1), 1)
    layers = [(fusion.lateral[0], 3), (fusion.lateral[1], 5), (fusion.merge[0], 7), (fusion.running[0], 11),
              (fusion.lateral[2], 13), (fusion.merge[1], 17)]  # fmt: skip
    for layer, factor in layers:
        nn.init.constant_(layer.weight, factor)
        nn.init.zeros_(layer.bias)
    nn.init.ones_(fusion.merge[1].bias)
    maps = [torch.full((1, 1, side, side), value) for side, value in ((8, 2.0), (4, 10.0), (2, 100.0))]
    out = fusion(maps)
    assert out.shape == (1, 1, 2, 2)
    torch.testing.assert_close(out, torch.full((1, 1, 2, 2), 95405.0))


def test_fusion_averages_cells_on_the_way_down():
    """A fine map with one cell of 16: a quarter of it arrives one level down, a sixteenth two levels down."""
    fusion = Fusion((1, 1, 1), 1)
    for module in (*fusion.lateral, *fusion.merge, *fusion.running):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    fine = torch.zeros(1, 1, 8, 8)
    fine[0, 0, 0, 0] = 16.0
    out = fusion([fine, torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)])
    torch.testing.assert_close(out, torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))


def test_second_order_pooling_is_figure_4_step_by_step():
    pooling = SecondOrderPooling(4, 3, 5, "none", centred=False, normalisation="none")
    features = torch.randn(2, 7, 4)
    wanted = []
    for positions in features:
        z = (positions @ pooling.reduce.weight.T + pooling.reduce.bias).T  # (c, P)
        second_order = torch.stack([torch.outer(column, column) for column in z.T]).mean(0)
        wanted.append(pooling.expand.weight @ second_order.flatten() + pooling.expand.bias)
    torch.testing.assert_close(pooling(features), torch.stack(wanted))


def test_second_moments_beyond_float16_reach_gamma_under_autocast():
    pooling = SecondOrderPooling(2, 2, 3, "none", centred=False, normalisation="none")
    features = torch.full((1, 4, 2), 1e3)  # squares up to 1e6, where float16 ends at 65,504
    with torch.autocast("cpu", torch.float16):
        assert pooling(features).isfinite().all()


def test_modulated_maps_keep_the_type_of_autocast_and_a_whole_network_in_bfloat16_runs(tiny_model):
    model, seen = tiny_model(), []
    model.head.register_forward_pre_hook(lambda head, inputs: seen.extend(m.dtype for m in inputs[0]))
    images = torch.rand(1, 2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        model(images)
    assert set(seen) == {torch.bfloat16}
    with torch.no_grad():
        assert model.to(torch.bfloat16)(images.to(torch.bfloat16)).mask_logits.isfinite().all()


def test_a_fresh_semantic_vector_is_one_where_the_group_says_nothing():
    """Without its bias of 1 training would start from a network whose maps are all multiplied by about 0."""
    torch.manual_seed(0)
    modulator = SemanticModulator(8, 16, 3)
    modulator.group_pooling.reduce.bias.data.zero_()
    assert torch.equal(modulator(torch.zeros(2, 5, 8))[0], torch.ones(2, 16))
    assert not torch.allclose(modulator(torch.randn(2, 5, 8))[0], torch.ones(2, 16))


def test_a_group_of_one_refuses_a_centred_second_order_matrix():
    modulator = SemanticModulator(8, 16, 3, centred=True)
    assert modulator(torch.randn(1, 2, 8))[0].isfinite().all()
    with pytest.raises(ValueError, match="at least 2 positions"):
        modulator(torch.randn(1, 1, 8))


@pytest.mark.parametrize("channels", [(6,), (6, 8), (6, 8, 10, 12)])
def test_fusion_averages_first_and_gives_what_convolving_first_gives(channels):
    """The order of the inset of Figure 2, level by level, also where the sizes do not divide each other."""
    torch.manual_seed(0)
    fusion = Fusion(channels, 5, "relu")
    cfms = [torch.randn(2, c, 28 // 2**k + 1, 26 // 2**k + 2) for k, c in enumerate(channels)]
    running = fusion.lateral[0](cfms[0])
    for level in range(1, len(channels)):
        convolved = running if level == 1 else fusion.running[level - 2](running)
        down = F.adaptive_avg_pool2d(convolved, cfms[level].shape[-2:])
        running = fusion.merge[level - 1](down + fusion.lateral[level](cfms[level])).relu()
    torch.testing.assert_close(fusion(cfms), running, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extra", [True, False])
def test_the_head_on_constant_maps_by_hand(extra):
    """One channel, 3x3 convolutions whose centre alone is not zero: coarse 1000 times 2, plus 100, times 3, plus 10,
    times 5 by the extra convolution, refined times 7, predicted times 11."""
    head = SegmentationHead(1, 3, activation="none", extra_convolution=extra)
    assert set(head.smooth) == ({"0", "1", "2"} if extra else {"1", "2"})
    factors = {"2": 2, "1": 3, "0": 5}
    for layer, factor in ((head.refine, 7), *((layer, factors[level]) for level, layer in head.smooth.items())):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        layer.weight.data[0, 0, 1, 1] = factor
    nn.init.constant_(head.predict.weight, 11.0)
    nn.init.zeros_(head.predict.bias)
    maps = [torch.full((1, 1, side, side), value) for side, value in ((8, 10.0), (4, 100.0), (2, 1000.0))]
    wanted = ((1000 * 2 + 100) * 3 + 10) * (5 if extra else 1) * 7 * 11.0
    torch.testing.assert_close(head(maps, (32, 32)), torch.full((1, 32, 32), wanted))


def test_levels_do_not_share_their_layers(tiny_model):
    model = tiny_model()
    fusion = model.fusion
    modules = [*model.project, *model.head.smooth.values(), *fusion.lateral, *fusion.merge, *fusion.running]
    assert len({id(m.weight) for m in modules}) == len(modules)


def test_the_forward_of_a_group_is_encode_modulate_segment(tiny_model):
    model = tiny_model()
    images = some_images(1, 3, 3, 64, 64)
    with torch.no_grad():
        cfms = model.backbone(images[0])
        one_by_one = [model.encode([m[n : n + 1] for m in cfms]) for n in range(3)]
        codes = type(one_by_one[0])(*(torch.cat([getattr(c, k) for c in one_by_one]) for k in ("phi", "indicators")))
        logits = model.segment(cfms, model.modulate(codes, 3), (64, 64))
        torch.testing.assert_close(logits, model(images).mask_logits[0], rtol=1e-3, atol=1e-3)


# Maps of the spatial modulator, normalised levels, exchanged gamma


def test_the_coarsest_maps_are_clustered_as_they_are_and_need_no_fusion(tiny_model):
    model = tiny_model(Pyramid(), spatial=SpatialModulator(maps="coarsest"))
    images = some_images(1, 3, 3, 96, 96)
    mask = model(images).modulation.spatial_mask
    direct, _, _ = SpatialModulator()(model.backbone(images[0])[-1][None])
    torch.testing.assert_close(mask, direct)
    assert model.fusion is None and not any(k.startswith("fusion") for k in model.state_dict())


@pytest.mark.parametrize("trains, reached", [(True, True), (False, False)])
def test_the_clustering_loss_trains_its_maps_only_where_it_is_asked_to(tiny_model, trains, reached):
    model = tiny_model(Pyramid(), spatial=SpatialModulator(trains_maps=trains)).train()
    output = model(some_images(1, 3, 3, 96, 96))
    energy = output.modulation.clustering_energy.sum()
    assert energy.requires_grad == reached and torch.isfinite(output.modulation.eigenvalue).all()
    if reached:
        energy.backward()
        assert all(p.grad is not None for p in model.fusion.parameters())


def test_normalised_levels_meet_the_modulators_at_order_one_whatever_the_backbone_gives(tiny_model):
    model = tiny_model(Pyramid(), level_norm="layer")
    seen = []
    for norm in model.level_norm:
        norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = some_images(1, 2, 3, 64, 64)
    cfms = model.backbone(images[0])
    modulation = model.modulate(model.encode(cfms), 2)
    for scale in (1, 1000):
        model.segment([scale * m for m in cfms], modulation, (64, 64))
    assert len(seen) == 2 * len(cfms)
    for output in seen:
        torch.testing.assert_close(output.square().mean((1, 2, 3)), torch.ones(2), rtol=0.01, atol=0.01)


def test_exchanged_images_are_segmented_with_the_next_groups_gamma_and_their_own_shift(tiny_model):
    model = tiny_model()
    images = some_images(2, 3, 3, 64, 64)
    output = model(images, 2)
    assert output.exchanged_logits.shape == (2, 2, 64, 64) and model(images).exchanged_logits is None
    assert model(images[:1], 2).exchanged_logits is None  # one group has nobody to exchange with
    mixed = replace(
        output.modulation,
        spatial_mask=output.modulation.spatial_mask[:1],
        semantic_vector=output.modulation.semantic_vector[1:],
    )
    wanted = model.segment(model.backbone(images[0]), mixed, (64, 64))[:2]
    torch.testing.assert_close(output.exchanged_logits[0], wanted, rtol=1e-4, atol=1e-5)


def test_what_the_classifier_says_of_an_image_alone_is_what_it_says_of_a_group_of_one(tiny_model):
    model, images = tiny_model(), some_images(2, 3, 3, 64, 64)
    alone = model(images).image_logits
    assert alone.shape == (2, 3, 3)
    one = model(images[1:, 2:3]).modulation.category_logits[0]
    torch.testing.assert_close(alone[1, 2], one, rtol=1e-4, atol=1e-5)
