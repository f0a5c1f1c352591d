"""Eq. 9, 12, 13, 14 against versions that go pixel by pixel."""

from dataclasses import replace
from math import exp, log

import pytest
import torch

from ssnm.coseg.losses import (
    CosegCriterion,
    agreement_with_truth,
    category_loss,
    clustering_loss,
    dice_loss,
    exchange_loss,
    positive_share,
    segmentation_loss,
    teacher_loss,
)
from ssnm.coseg.records import GroupBatch, Modulation, SSNMOutput

SHAPE = (2, 3, 4, 5)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def literal_segmentation_loss(logits, masks, valid, weighting) -> float:
    """Eq. 13 with a loop over every pixel of every image."""
    images = []
    for logit, mask, ok in zip(logits.flatten(0, 1), masks.flatten(0, 1), valid.flatten(0, 1)):
        pixels = [(float(a), float(y)) for a, y, v in zip(logit.flatten(), mask.flatten(), ok.flatten()) if v]
        if not pixels:
            images.append(0.0)
            continue
        delta = sum(y for _, y in pixels) / len(pixels)
        positive, negative = {"paper": (delta, 1 - delta), "balanced": (1 - delta, delta), "none": (1, 1)}[weighting]
        terms = [
            -positive * y * log(sigmoid(a)) - negative * (1 - y) * log(1 - sigmoid(a)) for a, y in pixels
        ]
        images.append(sum(terms) / len(terms))
    return sum(images) / len(images)


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    masks = (torch.rand(SHAPE, generator=generator) < 0.3).double()
    valid = torch.rand(SHAPE, generator=generator) < 0.8
    return logits, masks, valid


def a_batch(masks, valid, labels) -> GroupBatch:
    images = torch.zeros(*masks.shape[:2], 3, *masks.shape[2:])
    return GroupBatch(images, masks, labels, valid, torch.zeros(masks.shape[:2], dtype=torch.bool))


@pytest.mark.parametrize("weighting", ["paper", "balanced", "none"])
def test_segmentation_loss_is_equation_13(pixels, weighting):
    assert float(segmentation_loss(*pixels, weighting)) == pytest.approx(
        literal_segmentation_loss(*pixels, weighting), rel=1e-10
    )


@pytest.mark.parametrize("weighting, wanted", [("paper", 10 / 16), ("balanced", 6 / 16), ("none", 1.0)])
def test_four_pixels_by_hand(weighting, wanted):
    """Logits 0 cost log 2 everywhere; one of four pixels is positive, so delta is 1/4."""
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    loss = segmentation_loss(torch.zeros_like(masks), masks, torch.ones_like(masks, dtype=torch.bool), weighting)
    assert float(loss) == pytest.approx(wanted * log(2))  # paper: (1 * 1/4 + 3 * 3/4) / 4


def test_delta_counts_valid_pixels_only():
    masks = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    valid = torch.tensor([[True, False, True, True]])
    assert positive_share(masks, valid).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("loss", [segmentation_loss, dice_loss])
def test_void_pixels_change_neither_loss_nor_gradient(pixels, loss):
    logits, masks, valid = pixels
    other = torch.where(valid, logits, -7.0).requires_grad_()
    value = loss(other, torch.where(valid, masks, 1 - masks), valid)
    torch.testing.assert_close(value, loss(logits, masks, valid))
    value.backward()
    assert (other.grad[~valid] == 0).all() and (other.grad[valid] != 0).all()


@pytest.mark.parametrize("weighting", ["paper", "balanced", "none"])
@pytest.mark.parametrize("mask, ok", [(0.0, True), (1.0, True), (0.0, False)])
def test_empty_full_and_void_masks_give_finite_losses_and_gradients(weighting, mask, ok):
    logits = torch.randn(SHAPE, requires_grad=True)
    masks, valid = torch.full(SHAPE, mask), torch.full(SHAPE, ok)
    loss = segmentation_loss(logits, masks, valid, weighting) + dice_loss(logits, masks, valid)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[[[500.0, -500.0]]]])
    masks = torch.tensor([[[[0.0, 1.0]]]])
    assert float(segmentation_loss(logits, masks, torch.ones_like(masks, dtype=torch.bool), "none")) == 500.0


def test_an_image_counts_the_same_however_many_of_its_pixels_are_valid():
    logits, masks = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4)
    logits[0, 1] = 3.0
    valid = torch.ones(1, 2, 1, 4, dtype=torch.bool)
    whole = segmentation_loss(logits, masks, valid, "none")
    valid[0, 1, :, 1:] = False
    torch.testing.assert_close(segmentation_loss(logits, masks, valid, "none"), whole)


def test_dice_by_hand():
    logits = torch.zeros(1, 1, 1, 2)  # probabilities 1/2, 1/2
    masks = torch.tensor([[[[1.0, 0.0]]]])
    valid = torch.ones_like(masks, dtype=torch.bool)
    assert float(dice_loss(logits, masks, valid, smooth=0.0)) == pytest.approx(1 - 2 * 0.5 / 2)
    assert float(dice_loss(logits, masks, valid, smooth=1.0)) == pytest.approx(1 - 2 / 3)


def test_an_empty_image_predicted_empty_costs_nothing():
    empty = torch.zeros(1, 1, 3, 3)
    assert float(dice_loss(empty - 100, empty, torch.ones_like(empty, dtype=torch.bool))) == pytest.approx(0, abs=1e-6)


def test_category_loss_is_equation_12():
    logits, labels = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    pairs = [(0.5, 1), (-1.0, 0), (2.0, 0), (0.0, 1)]
    wanted = sum(-y * log(sigmoid(a)) - (1 - y) * log(1 - sigmoid(a)) for a, y in pairs) / 4
    assert float(category_loss(logits, labels)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("reduction, wanted", [("sum", -3.0), ("mean", -0.3)])
def test_clustering_loss_is_minus_the_mean_energy(reduction, wanted):
    assert float(clustering_loss(torch.tensor([2.0, 4.0]), 10, reduction)) == pytest.approx(wanted)


@pytest.fixture
def output_and_batch(pixels):
    logits, masks, valid = (t.float() if t.is_floating_point() else t for t in pixels)
    modulation = Modulation(
        spatial_mask=torch.randn(2, 3, 2, 2),
        semantic_vector=torch.randn(2, 4),
        category_logits=torch.randn(2, 5),
        eigenvalue=torch.tensor([3.0, 5.0]),
        clustering_energy=torch.tensor([3.0, 5.0]),
    )
    return SSNMOutput(logits, modulation), a_batch(masks, valid, torch.eye(5)[:2])


def test_the_total_is_the_weighted_sum_of_its_terms(output_and_batch):
    losses = CosegCriterion(spa=0.5, sem=2.0, seg=3.0, dice=0.25)(*output_and_batch)
    assert set(losses) == {"total", "spa", "sem", "seg", "dice", "eigenvalue_share"}
    wanted = 0.5 * losses["spa"] + 2 * losses["sem"] + 3 * losses["seg"] + 0.25 * losses["dice"]
    torch.testing.assert_close(losses["total"], wanted)


def test_the_default_total_is_the_plain_sum_of_equation_14(output_and_batch):
    losses = CosegCriterion()(*output_and_batch)
    torch.testing.assert_close(losses["total"], losses["spa"] + losses["sem"] + losses["seg"])
    assert float(losses["spa"]) == -4.0  # the mean energy of the groups, not divided by their descriptors


def test_mean_divides_the_clustering_loss_by_the_descriptors_of_a_group(output_and_batch):
    mean = CosegCriterion(spa_reduction="mean")(*output_and_batch)["spa"]
    total = CosegCriterion(spa_reduction="sum")(*output_and_batch)["spa"]
    assert float(total) == -4.0
    assert float(total / mean) == pytest.approx(3 * 2 * 2)


@pytest.mark.parametrize("term", ["spa", "sem", "dice", "seg"])
def test_a_term_of_weight_zero_is_left_out(output_and_batch, term):
    weights = dict(spa=1.0, sem=1.0, seg=1.0, dice=1.0) | {term: 0.0}
    assert term not in CosegCriterion(**weights)(*output_and_batch)


def test_modulators_that_are_switched_off_leave_their_terms_out(output_and_batch):
    output, batch = output_and_batch
    losses = CosegCriterion()(SSNMOutput(output.mask_logits, Modulation()), batch)
    assert set(losses) == {"total", "seg"}
    assert torch.equal(losses["total"], losses["seg"])


def test_the_eigenvalue_is_told_as_a_share_of_the_descriptors_and_is_no_term(output_and_batch):
    losses = CosegCriterion(spa=0.0)(*output_and_batch)
    assert float(losses["eigenvalue_share"]) == pytest.approx(4.0 / (3 * 2 * 2))
    torch.testing.assert_close(losses["total"], losses["sem"] + losses["seg"])


# Categories that nobody annotated


def test_categories_that_nobody_annotated_do_not_count():
    logits, labels = torch.tensor([[0.5, 9.0], [2.0, -3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    known = torch.tensor([[True, False], [True, True]])
    kept = -log(sigmoid(0.5)) - log(1 - sigmoid(2.0)) - log(sigmoid(-3.0))
    assert float(category_loss(logits, labels, known)) == pytest.approx(kept / 3, rel=1e-5)
    torch.testing.assert_close(category_loss(logits, labels, torch.ones_like(known)), category_loss(logits, labels))


# The teacher


def test_the_teachers_term_is_small_where_its_map_is_met_and_ignores_images_without_one():
    teacher = torch.zeros(1, 2, 4, 4)
    teacher[0, :, :2] = 1.0
    logits = 20 * (2 * teacher - 1)
    logits[0, 1] *= -1  # the second image says the reverse
    first, both = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    assert float(teacher_loss(logits, teacher, first)) < 1e-3
    assert float(teacher_loss(logits, teacher, both)) > 1
    assert float(teacher_loss(logits, teacher, torch.zeros(1, 2))) == 0


def test_agreement_is_the_overlap_of_teacher_and_truth_over_valid_pixels():
    teacher, masks = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    teacher[..., 0, :2], masks[..., 0, 1:3] = 0.9, 1.0
    valid = torch.ones(1, 1, 2, 4, dtype=torch.bool)
    assert agreement_with_truth(teacher, masks, valid).item() == pytest.approx(1 / 3)
    valid[..., 0, 2] = False
    assert agreement_with_truth(teacher, masks, valid).item() == pytest.approx(1 / 2)


def test_a_teacher_that_means_another_object_teaches_nothing_where_agreement_is_asked(output_and_batch):
    output, batch = output_and_batch
    opposite = replace(batch, teacher=1 - batch.masks, taught=torch.ones(batch.masks.shape[:2], dtype=torch.bool))
    terms = [CosegCriterion(teacher=1.0, teacher_on=on)(output, opposite)["teacher"] for on in ("all", "agreeing")]
    assert float(terms[0]) > 0 and float(terms[1]) == 0


def test_a_batch_without_maps_reports_the_teachers_term_as_every_batch_does(output_and_batch):
    """Processes add up their terms: one whose images have no maps must not have one less."""
    output, batch = output_and_batch
    losses = CosegCriterion(teacher=1.0)(output, replace(batch, teacher=None, taught=None))
    assert float(losses["teacher"]) == 0


# Exchanged gamma


def test_exchanged_masks_count_by_image_and_only_where_the_other_object_is_known():
    logits = torch.zeros(1, 3, 1, 4)
    masks = torch.zeros(1, 3, 1, 4)
    logits[0, 1], masks[0, 1] = 50.0, 1.0  # shows the other object and says so: costs nothing
    logits[0, 2] = 50.0  # wrong, but nobody knows
    valid = torch.ones(1, 3, 1, 4, dtype=torch.bool)
    valid[0, 2] = False
    assert float(exchange_loss(logits, masks, valid)) == pytest.approx(log(2) / 2, rel=1e-5)


def test_a_mask_under_another_groups_gamma_costs_by_the_weight_of_exchange(output_and_batch):
    output, batch = output_and_batch
    shape = (2, 1, *batch.masks.shape[2:])
    batch = replace(batch, other_masks=torch.zeros(batch.masks.shape), other_valid=torch.ones_like(batch.valid))
    said, silent = (replace(output, exchanged_logits=torch.full(shape, v)) for v in (5.0, -5.0))
    losses = [CosegCriterion(exchange=0.5)(o, batch) for o in (said, silent, output)]
    assert float(losses[0]["exchange"]) > 4.9 and float(losses[1]["exchange"]) < 0.01 and "exchange" not in losses[2]
    assert float(losses[0]["total"] - losses[2]["total"]) == pytest.approx(0.5 * float(losses[0]["exchange"]), rel=1e-4)
