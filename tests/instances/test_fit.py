"""Fitting of one group: batches, resets, exact resume, and what comes out for each image."""

import os
import signal
from itertools import islice

import numpy as np
import pytest
import torch

from ssnm.errors import CheckpointError, ConfigError, DataError, TrainingError
from ssnm.instances.evidence import FittedGroup, ResponseSettings
from ssnm.instances.fit import FitBatch, FitSettings, LossSettings, batch_indices, fit_group, group_losses
from ssnm.instances.model import CoSaliency, CoSaliencyHead, CoSaliencyNetwork
from ssnm.instances.pixels import group_images, group_priors
from ssnm.instances.resize import imresize_bicubic
from ssnm.instances.trunk import build_trunk

FAST = FitSettings(mode="fast", size=64, epochs=3, lr=1e-2)


@pytest.fixture(scope="module")
def network() -> CoSaliencyNetwork:
    torch.manual_seed(0)
    return CoSaliencyNetwork(build_trunk("mobilenetv2_035"))


def group(images: int = 5, height: int = 40, width: int = 60) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Noise with a bright block, and the block as the prior."""
    random = np.random.default_rng(0)
    pictures, priors = [], []
    for number in range(images):
        picture = random.integers(0, 80, (height, width, 3), dtype=np.uint8)
        prior = np.zeros((height, width))
        block = (slice(4 + number, 24 + number), slice(8, 30))
        picture[block], prior[block] = 230, 1
        pictures.append(picture)
        priors.append(prior)
    return pictures, priors


def steps(images: int, batch: int = 6, count: int = 8, **options) -> list[tuple[list[int], int]]:
    return list(islice(batch_indices(images, batch, **options), count))


def test_an_epoch_shows_every_image_once_and_odd_chunks_get_one_more():
    first, second = steps(11, count=2)
    assert first[1] == 6 and second[1] == 5 and len(first[0]) == len(second[0]) == 6
    assert sorted(first[0] + second[0][:5]) == list(range(11))
    assert second[0][5] in first[0]  # not yet in the chunk; last, so it is paired with image B / 2


@pytest.mark.parametrize("images", [1, 3, 5])
def test_a_small_odd_group_repeats_one_of_its_own_and_one_image_stays_alone(images):
    for chosen, real in steps(images):
        assert real == images and len(chosen) == (1 if images == 1 else images + 1)
        assert sorted(chosen[:real]) == list(range(images)) and chosen[-1] in range(images)


def test_batches_are_a_function_of_step_and_seed():
    assert steps(9, count=6)[4:] == steps(9, count=2, first_step=4)
    assert steps(9, seed=1) != steps(9, seed=2)
    epochs = steps(9, count=4)
    assert epochs[0] != epochs[2]  # another permutation in the next epoch


def test_the_total_is_the_weighted_sum_over_the_images_before_padding():
    generator = torch.Generator().manual_seed(0)
    output = CoSaliencyHead(4, 4)(torch.rand(6, 4, 2, 2, generator=generator))
    batch = FitBatch(torch.zeros(6, 3, 8, 8), torch.rand(6, 1, 8, 8, generator=generator), num_images=5)
    losses = group_losses(LossSettings())(output, batch)
    expected = (losses["saliency"] + 0.5 * losses["co_peak"] + 0.1 * losses["affinity"]) / 5
    torch.testing.assert_close(losses["total"], expected)
    assert set(group_losses(LossSettings(co_peak=0, affinity=0))(output, batch)) == {"saliency", "total"}
    paper = group_losses(LossSettings(form="paper"))(output, batch)
    torch.testing.assert_close(paper["saliency"], losses["saliency"] * 64)


def test_one_image_alone_has_no_co_peaks():
    output = CoSaliency(torch.rand(1, 4, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 8, 8))
    batch = FitBatch(torch.zeros(1, 3, 8, 8), torch.rand(1, 1, 8, 8), num_images=1)
    assert set(group_losses(LossSettings())(output, batch)) == {"saliency", "affinity", "total"}


def test_fast_fitting_learns_the_prior_and_leaves_trunk_and_start_alone(network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    images, priors = group()
    rows = []
    fitted = fit_group(network, images, priors, FitSettings(mode="fast", size=64, epochs=40, lr=1e-3),
                       on_log=rows.append)  # fmt: skip
    assert rows[-1]["loss/saliency"] < 0.8 * rows[0]["loss/saliency"] and len(rows) == 40
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())
    assert all(torch.equal(v, before[f"trunk.{k}"]) for k, v in fitted.network.trunk.state_dict().items())
    evidence = fitted[0]
    inside = priors[0] > 0
    assert evidence.cosaliency[inside].mean() > evidence.cosaliency[~inside].mean() + 0.1


def test_paper_fitting_trains_every_layer(network):
    images, priors = group(2)
    fitted = fit_group(network, images, priors, FitSettings(size=64, epochs=2, lr=1e-3))
    start = dict(network.named_parameters())
    # the trunk gets its first gradient in the second step: until then the head is zero
    same = [k for k, v in fitted.network.named_parameters() if torch.equal(v, start[k])]
    assert same == []


def test_biases_take_twice_the_rate_and_weights_and_biases_decay(network):
    images, priors = group(2)
    settings = FitSettings(mode="fast", size=64, epochs=1, lr=1e-3, losses=LossSettings(co_peak=0, affinity=0))
    head = fit_group(network, images, priors, settings).network.head.score
    assert abs(head.bias.item()) == pytest.approx(2e-3, rel=1e-2)
    assert head.weight.abs().max().item() == pytest.approx(1e-3, rel=1e-2)
    network.head.score.bias.data.fill_(2.0)
    try:
        decayed = fit_group(network, images, priors, FitSettings(mode="fast", size=64, epochs=1, lr=1e-3,
                            weight_decay=1e3)).network.head.score  # fmt: skip
    finally:
        network.head.score.bias.data.zero_()
    assert decayed.bias.item() == pytest.approx(2 - 2e-3, rel=1e-4)


def test_a_reset_each_epoch_is_another_run_than_none(network):
    images, priors = group(4)
    weights = [
        fit_group(network, images, priors, FitSettings(mode="fast", size=64, epochs=3, lr=1e-2,
                  reset_each_epoch=reset)).network.head.score.weight for reset in (True, False, True)
    ]  # fmt: skip
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("mode", ["fast", "paper"])
def test_a_stopped_fit_goes_on_exactly(network, tmp_path, mode):
    images, priors = group()
    settings = FitSettings(mode=mode, size=32, epochs=4, batch=2, lr=1e-3)
    whole = fit_group(network, images, priors, settings, checkpoint=tmp_path / "whole.pt")

    half = tmp_path / "half.pt"

    def interrupt(row):
        if row["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_group(network, images, priors, settings, checkpoint=half, on_log=interrupt)
    assert torch.load(half, weights_only=True)["step"] == 7
    resumed = fit_group(network, images, priors, settings, checkpoint=half)
    for (name, a), b in zip(whole.network.state_dict().items(), resumed.network.state_dict().values()):
        assert torch.equal(a, b), name


def test_a_checkpoint_of_another_group_or_network_is_refused(network, tmp_path):
    images, priors = group(2)
    path = tmp_path / "group.pt"
    fit_group(network, images, priors, FAST, checkpoint=path)
    fit_group(network, images, priors, FAST, checkpoint=path)  # finished: read, nothing to do
    for other in ((images[::-1], priors[::-1], FAST), (images, priors, FitSettings(mode="fast", size=64, epochs=4))):
        with pytest.raises(CheckpointError, match="another group, network or with other settings"):
            fit_group(network, *other, checkpoint=path)
    torch.manual_seed(7)
    with pytest.raises(CheckpointError, match="another group, network"):
        fit_group(CoSaliencyNetwork(build_trunk("mobilenetv2_035")), images, priors, FAST, checkpoint=path)


@pytest.mark.parametrize("images, priors, words", [
    ([], [], "at least one image"),
    ([np.zeros((4, 4, 3), np.uint8)], [], "one prior for each"),
    ([np.zeros((4, 4), np.uint8)], [np.zeros((4, 4))], r"image 0: wanted \(H, W, 3\) uint8 RGB"),
    ([np.zeros((4, 4, 3), np.uint8)], [np.full((4, 4), 200.0)], r"prior 0: wanted .* in \[0, 1\]"),
    ([np.zeros((4, 4, 3), np.uint8)], [np.full((4, 4), np.nan)], "prior 0"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_one_clear_line(network, images, priors, words):
    with pytest.raises(DataError, match=words):
        fit_group(network, images, priors, FAST)


def test_a_size_that_the_stride_does_not_divide_is_refused(network):
    with pytest.raises(ConfigError, match="multiple of 32"):
        fit_group(network, *group(2), FitSettings(mode="fast", size=100))


def test_a_loss_that_is_no_number_is_told(network):
    broken = CoSaliencyNetwork(build_trunk("mobilenetv2_035"))
    broken.head.score.bias.data.fill_(torch.nan)
    with pytest.raises(TrainingError, match="not finite"):
        fit_group(broken, *group(2), FAST)


def test_evidence_comes_at_the_size_of_each_image_or_at_any_other(network):
    images, priors = group(3)
    images[1], priors[1] = images[1][:, :50], priors[1][:, :50]
    fitted = fit_group(network, images, priors, FAST)
    assert len(fitted) == 3 and [fitted[i].cosaliency.shape for i in range(3)] == [(40, 60), (40, 50), (40, 60)]
    evidence = fitted.evidence(1, size=(30, 70))
    assert evidence.cosaliency.shape == (30, 70) and evidence.responses.shape == (len(evidence.peaks), 30, 70)
    assert evidence.peaks.shape[1] == 2 and len(evidence.peak_scores) == len(evidence.peaks) > 0
    assert (evidence.peaks >= 0).all() and (evidence.peaks < (30, 70)).all()
    # the mass of a response is that of its 64 x 64 map times the area's change (specification, 7.1)
    responses = fitted._respond(1).maps
    expected = responses.sum((1, 2)) * 2100 / 4096
    np.testing.assert_allclose(evidence.responses.sum((1, 2)), expected, rtol=2e-2, atol=1e-6)
    assert fitted.features(1).shape == (1280, 2, 2)


def test_peaks_lie_in_the_middle_of_their_cells(network):
    images, priors = group(1, 64, 64)
    fitted = fit_group(network, images, priors, FAST)
    rows, columns = fitted[0].peaks.T
    assert set(rows) | set(columns) <= {15.5, 47.5}


def test_options_of_evidence(network):
    images, priors = group(2)
    fitted = fit_group(network, images, priors, FAST)
    gaussian = FittedGroup(fitted.network, fitted.pixels, fitted.sizes, ResponseSettings(kind="gaussian", max_peaks=1))
    evidence = gaussian[0]
    np.testing.assert_allclose(fitted.features(0), gaussian.features(0), rtol=1e-4, atol=1e-4)  # kept, and computed
    row, column = evidence.peaks[0]
    top = np.unravel_index(evidence.responses[0].argmax(), (40, 60))
    assert evidence.responses.shape[0] == 1 and np.abs(np.subtract(top, (row, column))).max() < 2
    clipped = FittedGroup(fitted.network, fitted.pixels, fitted.sizes, ResponseSettings(clip=True))[0]
    assert clipped.responses.min() >= 0 and 0 <= clipped.cosaliency.min() <= clipped.cosaliency.max() <= 1
    coarse = FittedGroup(fitted.network, fitted.pixels, fitted.sizes, ResponseSettings(down_to_stride=4))[0]
    np.testing.assert_allclose(coarse.responses.sum((1, 2)), fitted[0].responses.sum((1, 2)), rtol=0.05)
    matlab = FittedGroup(fitted.network, fitted.pixels, fitted.sizes, ResponseSettings(resize="matlab"))[0]
    np.testing.assert_allclose(matlab.cosaliency[4:-4, 4:-4], fitted[0].cosaliency[4:-4, 4:-4], atol=1e-4)


def test_images_and_priors_are_resized_as_bytes():
    images, priors = group(1)
    assert group_images(images, 32).dtype == group_priors(priors, 32).dtype == torch.uint8
    matlab = group_images(images, 32, "matlab")[0].permute(1, 2, 0).numpy()
    assert np.array_equal(matlab, imresize_bicubic(images[0], (32, 32)))
    grey = group_priors([np.full((4, 4), 0.5)], 8)
    assert (grey == 128).all()
