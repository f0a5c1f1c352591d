"""The class-balanced loss: the authors' numbers, checks 21 to 23, several processes; the small network's terms."""

import numpy as np
import pytest
import torch

from ssnm.video.losses import VideoCriterion, class_balanced_loss, dice_loss, mean_cross_entropy
from ssnm.video.records import VideoBatch

from .osmn_oracle import facts, golden


def theirs(case):
    logits = torch.tensor(golden()[f"loss/{case}/logit"], requires_grad=True)
    stored = golden()[f"loss/{case}/label"]
    if stored.dtype == np.uint8:  # packed bits
        stored = np.unpackbits(stored, count=logits.numel()).reshape(logits.shape)
    return logits, torch.tensor(stored).float()


@pytest.mark.parametrize("case", sorted(facts()["losses"]))
def test_loss_and_gradient_are_the_authors(case):
    logits, masks = theirs(case)
    loss = class_balanced_loss(logits, masks)
    loss.backward()
    assert loss.item() == pytest.approx(facts()["losses"][case], rel=1e-6)
    np.testing.assert_allclose(logits.grad.flatten()[::7], golden()[f"loss/{case}/grad"], rtol=0, atol=1e-5)


def corner(images=1):
    masks = torch.zeros(images, 4, 4)
    masks[0, :2, :2] = 1
    return masks


def test_numbers_of_a_corner():
    zero = torch.zeros(1, 4, 4, requires_grad=True)
    loss = class_balanced_loss(zero, corner())
    loss.backward()
    assert loss.item() == pytest.approx(4.158883, abs=1e-5)
    assert zero.grad[0, 0, 0].item() == pytest.approx(-0.375) and zero.grad[0, 3, 3].item() == pytest.approx(0.125)
    assert zero.grad.sum().item() == pytest.approx(0, abs=1e-6)
    right = 4 * corner() - 2
    assert class_balanced_loss(right, corner()).item() == pytest.approx(0.761568, abs=1e-5)
    assert class_balanced_loss(-right, corner()).item() == pytest.approx(12.761568, abs=1e-5)
    ramp = torch.linspace(-3, 3, 16).view(1, 4, 4)
    assert class_balanced_loss(ramp, corner()).item() == pytest.approx(10.500755, abs=1e-5)


@pytest.mark.parametrize("masks", [torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
def test_without_one_of_the_classes_there_is_no_loss_and_no_gradient(masks):
    logits = torch.randn(1, 4, 4, requires_grad=True)
    class_balanced_loss(logits, masks).backward()
    assert not logits.grad.any()


def test_balance_is_of_the_batch():
    assert class_balanced_loss(torch.zeros(2, 4, 4), corner(2)).item() == pytest.approx(4.852030, abs=1e-5)


def test_void_pixels_count_nowhere():
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[1] = False
    assert class_balanced_loss(torch.zeros(2, 4, 4), corner(2), valid).item() == pytest.approx(4.158883, abs=1e-5)
    half, whole = torch.randn(1, 4, 4), torch.randn(1, 4, 8)
    whole[..., :4] = half
    masks = torch.cat([corner(), corner()], dim=2)
    left = torch.arange(8).expand(1, 4, 8) < 4
    for term in (mean_cross_entropy, dice_loss):
        alone = term(half, corner(), torch.ones(1, 4, 4, dtype=torch.bool))
        torch.testing.assert_close(term(whole, masks, left), alone)


def batch_of(masks):
    n = masks.shape[0]
    return VideoBatch(torch.zeros(n, 3, 4, 4), torch.zeros(n, 4, 4), torch.zeros(n, 3, 8, 8), torch.zeros(n, 8, 8),
                      masks, torch.ones(masks.shape, dtype=torch.bool))  # fmt: skip


def test_two_processes_have_the_gradient_of_one_with_both_batches():
    logits, masks = torch.randn(4, 4, 4), (torch.rand(4, 4, 4) > 0.7).float()
    one = logits.clone().requires_grad_()
    VideoCriterion()(one, batch_of(masks))["total"].backward()
    counts = torch.stack([torch.stack([m.sum(), torch.tensor(32.0)]) for m in (masks[:2], masks[2:])]).mean(0)
    shares = []
    for part in (slice(0, 2), slice(2, 4)):
        own = logits[part].clone().requires_grad_()
        VideoCriterion(mean=lambda value: counts, world=2)(own, batch_of(masks[part]))["total"].backward()
        shares.append(own.grad / 2)  # gradients are averaged over the processes
    torch.testing.assert_close(torch.cat(shares), one.grad)


def test_dice_and_cross_entropy_of_a_right_and_a_wrong_answer():
    everywhere = torch.ones(1, 4, 4, dtype=torch.bool)
    sure = 40 * corner() - 20
    assert dice_loss(sure, corner(), everywhere).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-sure, corner(), everywhere).item() == pytest.approx(1 - 1 / 17, abs=1e-6)
    assert mean_cross_entropy(torch.zeros(1, 4, 4), corner(), everywhere).item() == pytest.approx(np.log(2), abs=1e-6)
    terms = VideoCriterion(balanced=0, cross_entropy=1, dice=2)(torch.zeros(1, 4, 4), batch_of(corner()))
    assert set(terms) == {"cross_entropy", "dice", "total"}
    assert terms["total"].item() == pytest.approx(terms["cross_entropy"].item() + terms["dice"].item())
