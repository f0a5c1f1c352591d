"""The release's 200-step solver, against its literal transcription with autograd and torch.optim.Adam."""

from math import sqrt

import pytest
import torch
from torch.nn.functional import normalize

from ssnm.coseg.release import adam200 as module
from ssnm.coseg.release.adam200 import adam200


def literal(descriptors: torch.Tensor) -> torch.Tensor:
    """One group (M, D), step by step, as the specification of the release words it."""
    count = descriptors.shape[0]
    gram = descriptors @ descriptors.T - 1
    s = torch.full((count,), 1 / sqrt(count), requires_grad=True)
    optimiser = torch.optim.Adam([s], lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        norm = s.norm()
        barrier = -torch.log(2 - norm) if norm >= 1 else -torch.log(norm)
        loss = 50 * barrier - s @ (gram @ s)
        loss.backward()
        optimiser.step()
    return s.detach()


def clusters(count: int, channels: int, spread: float, seed: int, positive: bool = False) -> torch.Tensor:
    """(M, D): two directions with noise; a small spread gives a large leading eigenvalue."""
    generator = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(2, channels, generator=generator), dim=-1)
    labels = torch.randint(0, 2, (count,), generator=generator)
    rows = centres[labels] + spread * torch.randn(count, channels, generator=generator) / sqrt(channels)
    return normalize(rows.relu() if positive else rows, dim=-1)


def leading_eigenvalue(descriptors: torch.Tensor) -> float:
    x = descriptors.double()
    return torch.linalg.eigvalsh(x @ x.T - 1)[-1].item()


@pytest.mark.parametrize(
    ("spread", "positive", "low", "high"),
    [(3.0, True, 0, 25), (1.0, True, 25, 115), (1.0, False, 25, 115), (0.5, False, 105, 125)],
    ids=["below 25: it rings at the kink", "one side", "between 25 and 115", "about 115"],
)
def test_200_steps_agree_with_the_literal_transcription(spread, positive, low, high):
    descriptors = clusters(245, 64, spread, seed=1, positive=positive)
    assert low < leading_eigenvalue(descriptors) < high
    expected = literal(descriptors)
    assert (adam200(descriptors[None])[0] - expected).abs().max() < 1e-5


def test_an_escape_past_norm_2_is_followed_to_where_the_original_ends():
    descriptors = clusters(245, 64, 0.05, seed=0)
    expected = literal(descriptors)
    assert expected.norm() > 3
    torch.testing.assert_close(adam200(descriptors[None])[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 49, 100, 196, 245])
def test_rounding_of_the_start_puts_every_size_on_the_original_s_side_of_the_kink(count):
    descriptors = clusters(count, 32, 2.0, seed=count, positive=True)
    assert (adam200(descriptors[None])[0] - literal(descriptors)).abs().max() < 1e-5


def test_the_other_side_of_the_kink_at_the_start_would_give_another_mask(monkeypatch):
    descriptors = clusters(245, 64, 3.0, seed=1, positive=True)[None]
    ours = adam200(descriptors)
    monkeypatch.setattr(module, "_norm_of_start", lambda count: 1.0)
    assert (adam200(descriptors) - ours).abs().max() > 1e-3


def test_groups_of_a_batch_do_not_influence_each_other():
    groups = torch.stack([clusters(60, 32, spread, seed=3) for spread in (0.3, 1.0, 4.0)])
    alone = torch.cat([adam200(group[None]) for group in groups])
    torch.testing.assert_close(adam200(groups), alone, rtol=0, atol=1e-6)


def test_many_descriptors_of_few_channels_take_the_factored_product_to_the_same_result():
    descriptors = clusters(120, 16, 1.0, seed=5)
    assert descriptors.shape[0] > 2 * descriptors.shape[1]
    assert (adam200(descriptors[None])[0] - literal(descriptors)).abs().max() < 1e-5


def test_with_a_clear_gap_the_limit_is_the_eigenvector_with_the_stated_norm_and_a_nonnegative_sum():
    descriptors = clusters(245, 64, 1.0, seed=2)
    x = descriptors.double()
    values, vectors = torch.linalg.eigh(x @ x.T - 1)
    s = adam200(descriptors[None])[0].double()
    assert (s @ vectors[:, -1]).abs() / s.norm() > 0.999
    assert s.norm().item() == pytest.approx(1 + sqrt(1 - 25 / values[-1].item()), abs=0.02)
    assert s.sum() >= 0


def test_no_gradient_flows_and_the_dtype_is_kept():
    descriptors = clusters(20, 8, 1.0, seed=0).requires_grad_()
    result = adam200(descriptors[None])
    assert not result.requires_grad and result.dtype == torch.float32 and result.shape == (1, 20)
