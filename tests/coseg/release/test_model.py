"""The release variant against a literal transcription of its specification, on random weights of its own names."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from ssnm.coseg.predict import Predictor
from ssnm.coseg.records import GroupBatch, ImageCodes, SSNMOutput
from ssnm.coseg.release.keys import convert_state_dict, key_table
from ssnm.coseg.release.losses import ReleaseCriterion
from ssnm.coseg.release.model import ReleaseBackbone, ReleaseSemantic, ReleaseSpatial, SSNMRelease, penalised_minimum
from ssnm.errors import CheckpointError, ConfigError, DataError
from ssnm.nn.backbones import count_parameters

SPEC = importlib.util.spec_from_file_location("release_oracle", Path(__file__).with_name("release_oracle.py"))
oracle = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(oracle)
GREY = [False, True, False, False, False]


def patches() -> torch.Tensor:
    """(5, 3, 224, 224) in 1/255 steps: noisy patches on soft colours; leading eigenvalues close together, below 25."""
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(5, 3, 8, 8, generator=generator), size=(224, 224), mode="bilinear")
    for image in images:
        top, left = torch.randint(10, 90, (2,), generator=generator).tolist()
        colour, noise = torch.rand(3, 1, 1, generator=generator), torch.randn(3, 110, 110, generator=generator)
        image[:, top : top + 110, left : left + 110] = colour + 0.3 * noise
    images[1] = images[1, 0]  # the grey one
    return (images.clamp(0, 1) * 255).round() / 255


def noise_squares() -> torch.Tensor:
    """(5, 3, 224, 224) in 1/255 steps: a square of noise on a flat ground; a clear gap above 25."""
    generator = torch.Generator().manual_seed(0)
    images = 0.45 + 0.02 * torch.randn(5, 3, 224, 224, generator=generator)
    for image in images:
        top, left = torch.randint(0, 80, (2,), generator=generator).tolist()
        image[:, top : top + 140, left : left + 140] = 0.5 + 0.3 * torch.randn(1, 140, 140, generator=generator)
    images[1] = images[1, 0]
    return (images.clamp(0, 1) * 255).round() / 255


@dataclass(frozen=True)
class Case:
    """One group through the model and through the oracle."""

    output: SSNMOutput
    expected: dict[str, torch.Tensor]


def both(scene: torch.Tensor, weights: oracle.Weights, model: SSNMRelease) -> Case:
    model.load_state_dict(convert_state_dict(weights, "random weights").weights)
    with torch.no_grad():
        output = model(scene[None], torch.tensor([GREY]))
    return Case(output, oracle.run(weights, scene, GREY))


@pytest.fixture(scope="module")
def model() -> SSNMRelease:
    return SSNMRelease(ReleaseBackbone(), num_categories=78).eval()


@pytest.fixture(scope="module")
def weights() -> oracle.Weights:
    return oracle.random_weights(coarsest_threshold=1.0)


@pytest.fixture(scope="module")
def clear(model, weights) -> Case:
    """A clear eigengap and a leading eigenvalue between 25 and 115: 200 steps get there."""
    return both(noise_squares(), weights, model)


@pytest.fixture(scope="module")
def unclear(model) -> Case:
    """A small eigengap and an eigenvalue below 25, where Adam rings at the barrier's kink and stops anywhere."""
    return both(patches(), oracle.random_weights(), model)


@pytest.mark.parametrize("name", ["clear", pytest.param("unclear", marks=pytest.mark.slow)])
def test_outputs_agree_with_the_transcription(name, request):
    case = request.getfixturevalue(name)
    probability, modulation, expected = case.output.mask_logits[0].sigmoid(), case.output.modulation, case.expected
    gamma = expected["gamma"]
    assert min(probability.std(), expected["categories"].std(), gamma.std()) > 0.05  # constants agree with anything
    assert (modulation.spatial_mask[0] - expected["spatial_mask"]).abs().max() < 1e-4
    assert (modulation.semantic_vector[0] - gamma).norm() < 1e-3 * gamma.norm()
    assert (modulation.category_logits[0].sigmoid() - expected["categories"]).abs().max() < 1e-3
    assert (probability - expected["probability"]).abs().max() < 1e-3


@pytest.mark.slow
def test_the_exact_solver_gives_the_release_mask_where_the_eigengap_is_clear_and_another_one_where_not(clear, unclear):
    for case, range_, cosines in ((clear, (25, 115), (0.9999, 1.0001)), (unclear, (0, 25), (-1, 0.95))):
        exact, eigenvalue, _ = ReleaseSpatial("exact")(case.expected["coarsest"][None])
        assert range_[0] < eigenvalue.item() < range_[1]
        mask = case.output.modulation.spatial_mask
        assert cosines[0] < F.cosine_similarity(exact.flatten(), mask.flatten(), dim=0).item() < cosines[1]
    exact = ReleaseSpatial("exact")(clear.expected["coarsest"][None])[0]
    assert (exact - clear.output.modulation.spatial_mask).abs().max() < 1e-3  # length included


def test_the_predictor_gives_the_model_s_probabilities_from_pillow_images(clear, model, weights):
    arrays = [(image.permute(1, 2, 0) * 255).round().byte().numpy() for image in noise_squares()]
    images = [Image.fromarray(a[..., 0] if grey else a) for a, grey in zip(arrays, GREY)]
    model.load_state_dict(convert_state_dict(weights, "random weights").weights)
    prediction = Predictor(model).predict(images)
    assert abs(prediction.probabilities - clear.expected["probability"].numpy()).max() < 1e-3
    assert abs(prediction.category_probabilities - clear.expected["categories"].numpy()).max() < 1e-3


def test_it_has_the_release_s_number_of_trainable_parameters(model):
    assert count_parameters(model) == 40_830_450


def test_every_tensor_of_the_model_stands_in_the_key_table_once(model):
    own = [row.own for row in key_table() if row.own is not None]
    state = {key: tuple(value.shape) for key, value in model.state_dict().items() if "num_batches" not in key}
    assert len(own) == len(set(own)) and set(own) == set(state)
    assert {row.own: row.shape for row in key_table() if row.own} == state


def test_only_convolution_weights_start_xavier_uniform():
    torch.manual_seed(0)
    model = small_model()
    for module in [*model.widen.modules(), *model.semantic.modules(), *model.decoder.modules()]:
        if isinstance(module, nn.Conv2d):
            fan_out, fan_in = module.weight.shape[0], module.weight[0].numel()
            bound = math.sqrt(6 / (fan_in + fan_out * module.weight[0, 0].numel()))
            assert 0.9 * bound < module.weight.abs().max() <= bound
    plain = nn.Linear(1024, 16).weight.abs().max()  # torch's own bound, 1 / sqrt(inputs)
    assert model.semantic.expand.weight.abs().max().item() == pytest.approx(plain.item(), rel=0.01)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 4, 3, 224, 224), "groups of exactly 5"), ((1, 5, 3, 256, 224), "got images of 256x224")],
)
def test_other_groups_and_sizes_are_refused_with_what_to_do(shape, message):
    with pytest.raises(DataError, match=message) as caught:
        small_model()(torch.rand(shape))
    assert "model.name: ssnm" in str(caught.value)


def test_the_backbone_itself_refuses_other_sizes(model):
    with pytest.raises(DataError, match="got images of 200x224"):
        model.backbone(torch.rand(1, 3, 200, 224))


def test_an_unknown_solver_is_refused():
    with pytest.raises(ConfigError, match="adam200, exact"):
        ReleaseSpatial("power")


def test_the_semantic_vector_does_depend_on_image_order_and_groups_do_not_touch_each_other():
    """The first is the release's fault, kept; with it a later "mending" of the reshape would fail here."""
    torch.manual_seed(0)
    branch = ReleaseSemantic(dim=8, num_categories=3)
    indicators = torch.rand(2, 5, 4096)
    gamma, logits = branch(indicators)
    assert not torch.allclose(branch(indicators.flip(1))[0], gamma, atol=1e-3)
    torch.testing.assert_close(branch(indicators[1:]), (gamma[1:], logits[1:]))


def test_the_exact_solver_s_mask_minimises_the_release_s_objective():
    """Against gradient descent by hand from a nearby point, in double precision, with lambda = 100 known."""
    generator = torch.Generator().manual_seed(0)
    vector = F.normalize(torch.randn(1, 5, 2, 2, generator=generator, dtype=torch.float64).flatten(1)).view(1, 5, 2, 2)
    found = penalised_minimum(vector, torch.tensor([100.0], dtype=torch.float64)).norm()
    radii = torch.linspace(0.5, 1.9999, 100_000, dtype=torch.float64)
    barrier = torch.where(radii >= 1, -(2 - radii).log(), -radii.log())
    best = radii[(50 * barrier - 100 * radii**2).argmin()]
    # lambda r (2 - r) = 25 at the stationary points: the local minimum is the smaller one above 1
    assert (100 * found * (2 - found)).item() == pytest.approx(25)
    assert found.item() == pytest.approx(best.item(), abs=1e-4)
    assert penalised_minimum(vector, torch.tensor([10.0], dtype=torch.float64)).norm().item() == pytest.approx(1)


class SmallMaps(nn.Module):
    """Stands in for VGG16: eight channels per level, from the image's mean over each cell."""

    channels = (8, 8, 8, 8)

    def forward(self, images: torch.Tensor, grey: torch.Tensor | None = None) -> list[torch.Tensor]:
        ReleaseBackbone.check_size(images)
        maps = torch.cat([images, images**2, images[:, :2] ** 3], dim=1)
        return [F.adaptive_avg_pool2d(maps, side) for side in (56, 28, 14, 7)]


def small_model(solver: str = "adam200") -> SSNMRelease:
    torch.manual_seed(0)
    return SSNMRelease(SmallMaps(), num_categories=4, solver=solver, dim=16)


def test_every_parameter_is_trained_and_the_losses_fall():
    model, criterion = small_model(), ReleaseCriterion()
    images = noise_squares()[None]
    masks = (images.std(dim=2) > 0.1).float()
    labels = torch.tensor([[1.0, 0, 0, 0]])
    batch = GroupBatch(images, masks, labels, torch.ones_like(masks).bool(), torch.zeros(1, 5).bool())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(5):
        losses = criterion(model(batch.images, batch.grey), batch)
        optimizer.zero_grad()
        losses["total"].backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
        optimizer.step()
        totals.append(losses["total"].item())
    assert totals[-1] < totals[0]


def test_a_position_without_any_active_channel_leaves_the_mask_finite():
    """The release divides by a length of zero there and returns NaN for the whole group."""
    features = torch.rand(1, 5, 16, 7, 7)
    features[0, 2, :, 3, 3] = 0
    mask, _, _ = ReleaseSpatial()(features)
    assert mask.isfinite().all()


def test_layers_that_the_release_shares_must_be_equal_under_their_three_names(weights):
    changed = dict(weights)
    changed["concat2.2.weight"] = weights["concat2.2.weight"] + 0.5
    with pytest.raises(CheckpointError, match="concat2.2.weight differs from concat4.2.weight by up to 0.5"):
        convert_state_dict(changed, "file.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("sp2.0.bias"), "1 missing .first: sp2.0.bias"),
        (lambda w: w.update({"head.weight": torch.zeros(1)}), "1 unexpected .first: head.weight"),
        (lambda w: w.update({"cls.0.bias": torch.zeros(20)}),
         r"1 of another shape .first: cls.0.bias is \(20,\), wanted \(78,\)"),
        (lambda w: w.update({"mask.1.bias": torch.full((2,), math.nan)}),
         "1 weight not of finite numbers .first: mask.1.bias"),
    ],
)
def test_a_foreign_or_damaged_state_dict_is_refused_by_name(weights, change, message):
    changed = dict(weights)
    change(changed)
    with pytest.raises(CheckpointError, match="^file.pth.*" + message):
        convert_state_dict(changed, "file.pth")


def test_counters_are_taken_over_where_there_are_any_and_a_parallel_prefix_is_taken_off(weights):
    extended = {f"module.{k}": v for k, v in weights.items()}
    extended["module.base.1.num_batches_tracked"] = torch.tensor(7)
    conversion = convert_state_dict(extended, "file.pth")
    assert conversion.weights["backbone.net.features.1.num_batches_tracked"] == 7
    assert conversion.weights["backbone.net.features.4.num_batches_tracked"] == 0
    assert conversion.counters == 1


def test_the_base_part_alone_serves_as_backbone_weights(weights, tmp_path):
    """As vgg16_bn_feat.pth: keys without prefix, no counters."""
    path = tmp_path / "vgg16_bn_feat.pth"
    torch.save({k.removeprefix("base."): v for k, v in weights.items() if k.startswith("base.")}, path)
    features = ReleaseBackbone(str(path)).net.features
    assert torch.equal(features[40].weight, weights["base.40.weight"])
    assert torch.equal(features[41].running_var, weights["base.41.running_var"])


def test_codes_of_another_number_of_images_are_refused():
    with pytest.raises(DataError, match="got 7 images in groups of 5"):
        small_model().modulate(ImageCodes(torch.rand(7, 16, 7, 7), torch.rand(7, 4096)), 5)
