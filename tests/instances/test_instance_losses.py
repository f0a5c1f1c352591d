"""Co-peak, affinity and saliency losses: the authors' numbers, numbers to follow by hand, symmetries."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssnm.instances.losses import (
    affinity_loss,
    co_peak_loss,
    co_peak_tensors,
    feature_correlation,
    normalise_features,
    saliency_loss,
    saliency_weight,
)
from ssnm.instances.model import CoSaliencyHead
from ssnm.instances.peaks import find_peaks

GOLDEN = np.load(Path(__file__).parent / "golden" / "losses.npz")
SALIENCY_1 = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.1, 0.1], [0.3, 0.1, 0.8]], dtype=torch.float64)
SALIENCY_2 = torch.tensor([[0.5, 0.5, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.7]], dtype=torch.float64)


def golden(name: str) -> torch.Tensor:
    return torch.tensor(GOLDEN[name])


def assert_golden(value: torch.Tensor, name: str) -> None:
    np.testing.assert_allclose(value.detach(), GOLDEN[name], rtol=0, atol=1e-12, err_msg=name)


def golden_head() -> CoSaliencyHead:
    head = CoSaliencyHead(8, int(GOLDEN["upsample"])).double()
    head.score.weight.data, head.score.bias.data = golden("head_weight"), golden("head_bias")
    return head


def test_the_chain_from_features_to_losses_is_that_of_the_authors():
    output = golden_head()(golden("features"))
    normalised, small = normalise_features(output.features), output.score_map.sigmoid()
    tensors, prior = co_peak_tensors(feature_correlation(normalised), small), golden("prior_uint8").double() / 255
    assert_golden(output.score_map, "score_map")
    assert_golden(output.logits, "upsampled_logit")
    assert_golden(output.logits.sigmoid(), "cosaliency")
    assert_golden(small, "small_cosaliency")
    assert_golden(normalised, "features_normalised")
    assert_golden(tensors, "copeak_tensor")
    peaks = find_peaks(tensors, dims=4)
    assert np.array_equal(peaks, GOLDEN["copeak_mask"])
    assert_golden(peaks.flatten(1).sum(1).double(), "copeak_count")
    assert_golden((tensors * peaks).flatten(1).sum(1) / peaks.flatten(1).sum(1), "copeak_mean")
    assert_golden(feature_correlation(normalised).reshape(100, 100)[::10], "affinity")
    assert_golden(saliency_weight(prior), "saliency_weight")
    affinity = affinity_loss(feature_correlation(normalised), small)
    losses = (saliency_loss(output.logits.sigmoid(), prior), co_peak_loss(tensors), affinity)
    for value, name in zip(losses, ("loss_saliency", "loss_copeak", "loss_affinity")):
        assert_golden(value, name)
    assert_golden(losses[0] + 0.5 * losses[1] + 0.1 * losses[2], "loss_total")


def test_the_gradients_of_each_loss_are_those_of_the_authors():
    features, small = golden("features").requires_grad_(), golden("small_cosaliency").requires_grad_()
    normalised = normalise_features(features)
    tensors = co_peak_tensors(feature_correlation(normalised), small)
    inner = {"features_normalised": normalised, "features": features, "small_cosaliency": small}
    for loss, name, wanted in (
        (co_peak_loss(tensors), "copeak", {"tensor": tensors, **inner}),
        (affinity_loss(feature_correlation(normalised), small), "affinity", inner),
    ):
        gradients = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True)
        for gradient, thing in zip(gradients, wanted):
            assert_golden(gradient, f"grad_{name}_wrt_{thing}")
        through_sigmoid = gradients[-1] * small * (1 - small)
        assert_golden(through_sigmoid, f"grad_{name}_wrt_score_map")


def test_the_gradients_of_the_saliency_loss_and_of_the_total_are_those_of_the_authors():
    head, features = golden_head(), golden("features").requires_grad_()
    output, prior = head(features), golden("prior_uint8").double() / 255
    cosaliency, small = output.logits.sigmoid(), output.score_map.sigmoid()
    correlation = feature_correlation(normalise_features(output.features))
    saliency = saliency_loss(cosaliency, prior)
    gradients = torch.autograd.grad(saliency, [cosaliency, output.score_map], retain_graph=True)
    assert_golden(gradients[0], "grad_saliency_wrt_cosaliency")
    assert_golden(gradients[1], "grad_saliency_wrt_score_map")
    total = saliency + float(GOLDEN["lambda_copeak"]) * co_peak_loss(co_peak_tensors(correlation, small))
    total = total + float(GOLDEN["lambda_affinity"]) * affinity_loss(correlation, small, float(GOLDEN["alpha"]))
    things = {"features": features, "head_weight": head.score.weight, "head_bias": head.score.bias}
    for name, gradient in zip(things, torch.autograd.grad(total, list(things.values()))):
        assert_golden(gradient, f"grad_total_wrt_{name}")


def test_twelve_co_peaks_of_two_small_maps():
    normalised = normalise_features(torch.ones(2, 1, 3, 3, dtype=torch.float64))
    assert normalised[0, 0, 0, 0].item() == pytest.approx(0.9950372, abs=1e-7)
    tensor = co_peak_tensors(feature_correlation(normalised), torch.stack([SALIENCY_1, SALIENCY_2])[:, None])
    peaks = find_peaks(tensor, dims=4)[0]
    first, second = [(0, 0), (0, 2), (2, 0), (2, 2)], [(0, 0), (0, 1), (2, 2)]
    assert {tuple(c) for c in peaks.nonzero().tolist()} == {(*p, *q) for p in first for q in second}
    values = [0.4455446, 0.4455446, 0.6237624, 0.0990099, 0.0990099, 0.1386139,
              0.1485149, 0.1485149, 0.2079208, 0.3960396, 0.3960396, 0.5544554]
    np.testing.assert_allclose(tensor[0][peaks], values, atol=1e-7)
    assert tensor[0][peaks].sum().item() == pytest.approx(3.7029703, abs=1e-7)
    assert tensor.flatten().median().item() == pytest.approx(0.0297030, abs=1e-7)
    assert co_peak_loss(tensor).item() == pytest.approx(0.5507126, abs=1e-7)


def zero_plateau_tensor() -> torch.Tensor:
    features = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    features[0, 0], features[1, 1] = 1, 1
    features[0, :, 2, 2], features[1, :, 0, 0] = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    saliency = torch.full((2, 1, 3, 3), 0.1, dtype=torch.float64)
    saliency[0, 0, 0, 0], saliency[0, 0, 2, 2], saliency[1, 0, 0, 0], saliency[1, 0, 2, 2] = 0.9, 0.8, 0.7, 0.6
    return co_peak_tensors(feature_correlation(normalise_features(features)), saliency)


def test_a_plateau_of_zeros_holds_no_co_peaks():
    tensor = zero_plateau_tensor().requires_grad_()
    assert tensor.count_nonzero() == 16
    peaks = find_peaks(tensor, dims=4)[0]
    assert [tuple(c) for c in peaks.nonzero().tolist()] == [(0, 0, 0, 0), (2, 2, 2, 2)]
    np.testing.assert_allclose(tensor.detach()[0][peaks], [0.6237624, 0.4752475], atol=1e-7)
    loss = co_peak_loss(tensor)
    assert loss.item() == pytest.approx(0.4556736, abs=1e-7)
    gradient = torch.autograd.grad(loss, tensor)[0][0]
    np.testing.assert_allclose(gradient[peaks], [-0.1829896, -0.1829896], atol=1e-7)
    assert gradient[~peaks].count_nonzero() == 0


def test_one_co_peak_of_an_outer_product():
    a = torch.tensor([[0.9, 0.8, 0.8, 0.8], [0.8, 0.8, 0.8, 0.8], [0.8, 0.8, 0.1, 0.1], [0.8, 0.8, 0.1, 0.2]],
                     dtype=torch.float64)  # fmt: skip
    tensor = torch.einsum("ij,kl->ijkl", a, a)[None]
    peaks = find_peaks(tensor, dims=4)
    assert [tuple(c) for c in peaks[0].nonzero().tolist()] == [(0, 0, 0, 0)]
    assert tensor[peaks].item() == pytest.approx(0.81)


@pytest.mark.parametrize("mean, code, paper", [
    (0.0, 0.6931472, None), (0.5, 0.4740770, 0.6931472), (1.0, 0.3132617, 0),
])  # fmt: skip
def test_the_two_forms_of_the_co_peak_loss(mean, code, paper):
    tensor = torch.full((1, 2, 2, 2, 2), mean, dtype=torch.float64)
    assert co_peak_loss(tensor).item() == pytest.approx(code, abs=1e-7)
    if paper is not None:
        assert co_peak_loss(tensor, "paper").item() == pytest.approx(2 * paper, abs=1e-6)  # both orders of the pair
    assert torch.isfinite(co_peak_loss(tensor, "paper"))


def test_a_feature_of_length_five():
    normalised = normalise_features(torch.tensor([3.0, 4.0], dtype=torch.float64).view(1, 2, 1, 1))
    np.testing.assert_allclose(normalised.flatten(), [0.5998800, 0.7998400], atol=1e-7)


def two_pixels(*second: float) -> torch.Tensor:
    features = torch.tensor([[1.0, 0.0], second], dtype=torch.float64)[:, :, None, None]
    return feature_correlation(normalise_features(features))


def test_affinity_of_two_images_with_one_pixel_each():
    s = torch.tensor([0.8, 0.2], dtype=torch.float64)[:, None, None, None].requires_grad_()
    assert affinity_loss(two_pixels(0.0, 1.0), s).item() == pytest.approx(0.0816832, abs=1e-7)
    same = affinity_loss(two_pixels(1.0, 0.0), s)
    assert same.item() == pytest.approx(0.7153465, abs=1e-7)
    np.testing.assert_allclose(torch.autograd.grad(same, s)[0].flatten(), [2.3811881, -2.3712871], atol=1e-7)


def test_affinity_of_the_paper_sums_both_images_of_every_ordered_pair():
    generator = torch.Generator().manual_seed(0)
    normalised = normalise_features(torch.rand(3, 4, 2, 2, generator=generator, dtype=torch.float64))
    s = torch.rand(3, 1, 2, 2, generator=generator, dtype=torch.float64)

    def between(n: int, m: int) -> float:
        total = 0.0
        for p in np.ndindex(2, 2):
            for q in np.ndindex(2, 2):
                t = float(normalised[(n, slice(None), *p)] @ normalised[(m, slice(None), *q)])
                a, b = float(s[(n, 0, *p)]), float(s[(m, 0, *q)])
                total += a * b * (1 - t) + 4 * (a - b) ** 2 * t
        return total

    pairs = [(n, m) for n in range(3) for m in range(3) if n != m]
    expected = sum(between(n, m) + between(n, n) + between(m, m) for n, m in pairs)
    assert affinity_loss(feature_correlation(normalised), s, form="paper").item() == pytest.approx(expected)


@pytest.mark.parametrize("prior, cosaliency, expected", [
    ([[1, 0], [0, 0]], [[0.5, 0.5], [0.5, 0.5]], 0.09375),
    ([[1, 0.6], [0.2, 0.2]], [[0.9, 0.5], [0.4, 0.1]], 0.00875),
    ([[0.3, 0.3], [0.3, 0.3]], [[0.9, 0.5], [0.4, 0.1]], 0.0),
])  # fmt: skip
def test_saliency_loss_of_four_pixels(prior, cosaliency, expected):
    prior, cosaliency = (torch.tensor(x, dtype=torch.float64)[None, None] for x in (prior, cosaliency))
    assert saliency_loss(cosaliency, prior).item() == pytest.approx(expected, abs=1e-12)
    assert saliency_loss(cosaliency, prior, "paper").item() == pytest.approx(4 * expected, abs=1e-12)
    twice = saliency_loss(cosaliency.repeat(2, 1, 1, 1), prior.repeat(2, 1, 1, 1))
    assert twice.item() == pytest.approx(2 * expected, abs=1e-12)


def test_gradient_of_the_saliency_loss():
    prior = torch.tensor([[1.0, 0], [0, 0]], dtype=torch.float64)[None, None]
    s = torch.full_like(prior, 0.5).requires_grad_()
    gradient = torch.autograd.grad(saliency_loss(s, prior), s)[0]
    np.testing.assert_allclose(gradient.flatten(), [-0.1875, 0.0625, 0.0625, 0.0625], atol=1e-12)


def test_values_at_the_start_of_fitting():
    features = torch.rand(4, 8, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = CoSaliencyHead(8, 4).double()(features)
    normalised, small = normalise_features(features), output.score_map.sigmoid()
    assert (small == 0.5).all() and (output.logits == 0).all()
    tensors = co_peak_tensors(feature_correlation(normalised), small)
    torch.testing.assert_close(tensors, 0.25 * torch.einsum("bchw,bcij->bhwij", normalised[:2], normalised[2:]))
    mean = (1 - feature_correlation(normalised)).mean().item()
    assert affinity_loss(feature_correlation(normalised), small).item() == pytest.approx(0.25 * mean)
    assert 0.5759 < co_peak_loss(tensors).item() <= 0.6932


def test_losses_do_not_depend_on_the_order_of_images_and_halves():
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(4, 5, 3, 3, generator=generator, dtype=torch.float64)
    s = torch.rand(4, 1, 3, 3, generator=generator, dtype=torch.float64)
    normalised = normalise_features(features)

    def affinity(order: list[int]) -> torch.Tensor:
        return affinity_loss(feature_correlation(normalised[order]), s[order])

    def tensors(order: list[int], form: str = "code") -> torch.Tensor:
        return co_peak_tensors(feature_correlation(normalised[order]), s[order], form)

    as_is, swapped = [0, 1, 2, 3], [2, 3, 0, 1]
    torch.testing.assert_close(affinity([2, 0, 3, 1]), affinity(as_is))
    for order in (swapped, [1, 0, 3, 2]):  # halves swapped, pairs swapped
        torch.testing.assert_close(co_peak_loss(tensors(order)), co_peak_loss(tensors(as_is)))
    assert torch.equal(find_peaks(tensors(as_is), 4), find_peaks(tensors(swapped), 4).permute(0, 3, 4, 1, 2))
    assert len(tensors(as_is, "paper")) == 6  # every two of four images
