"""Second-order pooling against sums that are written out."""

import pytest
import torch

from ssnm.coseg.second_order import second_order_matrix, signed_sqrt


def literal(features: torch.Tensor, centred: bool) -> torch.Tensor:
    """One entry after the other."""
    batch, channels, positions = features.shape
    out = features.new_zeros(batch, channels, channels)
    for b in range(batch):
        for i in range(channels):
            for j in range(channels):
                first, second = features[b, i], features[b, j]
                if centred:
                    first, second = first - first.mean(), second - second.mean()
                out[b, i, j] = sum(float(first[p]) * float(second[p]) for p in range(positions)) / positions
    return out


def test_two_channels_at_two_positions_by_hand():
    features = torch.tensor([[[1.0, 3.0], [2.0, 0.0]]])
    assert torch.equal(second_order_matrix(features), torch.tensor([[[5.0, 1.0], [1.0, 2.0]]]))
    assert torch.equal(second_order_matrix(features, centred=True), torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]))


@pytest.mark.parametrize("centred", [False, True])
def test_the_matrix_is_the_written_out_sum(centred, device, dtype):
    features = torch.randn(2, 3, 5, device=device, dtype=dtype)
    wanted = literal(features, centred)
    torch.testing.assert_close(second_order_matrix(features, centred), wanted, rtol=1e-4, atol=1e-5)


def test_the_matrix_does_not_depend_on_the_order_of_positions():
    features = torch.randn(2, 4, 9, dtype=torch.float64)
    shuffled = features[..., torch.randperm(9)]
    torch.testing.assert_close(second_order_matrix(features), second_order_matrix(shuffled))


def test_the_scale_does_not_grow_with_the_number_of_positions():
    features = torch.randn(1, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(second_order_matrix(features), second_order_matrix(features.repeat(1, 1, 10)))


def test_the_matrix_is_symmetric_and_has_no_negative_eigenvalue():
    matrix = second_order_matrix(torch.randn(3, 6, 4, dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.mT)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12


def test_centring_a_single_position_is_refused_and_says_what_to_set():
    assert second_order_matrix(torch.ones(1, 3, 1)).shape == (1, 3, 3)
    with pytest.raises(ValueError, match="at least 2 positions.*centred to false"):
        second_order_matrix(torch.ones(1, 3, 1), centred=True)


def test_signed_sqrt_keeps_sign_and_zero():
    roots = signed_sqrt(torch.tensor([-9.0, 0.0, 4.0]))
    assert roots[1] == 0
    torch.testing.assert_close(roots, torch.tensor([-3.0, 0.0, 2.0]), atol=2e-3, rtol=0)


def test_signed_sqrt_has_a_finite_gradient_at_zero():
    matrix = torch.zeros(3, requires_grad=True)
    signed_sqrt(matrix).sum().backward()
    assert matrix.grad.isfinite().all()
