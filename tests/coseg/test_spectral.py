"""The leading eigenvector of G = X^T X - 1 1^T against float64 `eigh` of the whole matrix, on hostile groups too."""

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from ssnm.coseg import spectral
from ssnm.coseg.spectral import (
    clustering_energy,
    krylov_eigenpair,
    largest_eigenpair,
    leading_eigenvector,
    solve_dense,
    solve_reduced,
    squaring_eigenpair,
    unit_descriptors,
)


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    torch.manual_seed(0)


SHAPES = [(245, 512), (245, 128), (245, 32), (130, 129), (131, 128), (490, 64), (49, 1), (5, 5), (8, 2), (2, 8), (1, 4)]
KINDS = ["relu", "random", "nearly equal", "equal", "tight clusters", "loose clusters", "antipodal", "duplicated",
         "some zero", "zero"]


def make(kind: str, count: int, channels: int, seed: int = 0) -> torch.Tensor:
    """(M, D) unit or zero rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, channels, generator=generator)
    one = torch.randn(1, channels, generator=generator)
    if kind in ("relu", "duplicated", "some zero"):
        rows = rows.relu()
    if kind == "duplicated":
        rows = rows[: math.ceil(count / 5)].repeat(5, 1)[:count]
    if kind == "some zero":
        rows[::3] = 0
    if kind == "nearly equal":
        rows = one + 0.05 * rows
    if kind == "equal":
        rows = one.expand(count, -1)
    if kind.endswith("clusters"):
        centres = torch.randn(3, channels, generator=generator)
        spread = 1e-3 if kind.startswith("tight") else 1.0
        rows = centres[torch.randint(0, 3, (count,), generator=generator)] + spread * rows
    if kind == "antipodal":
        rows = one * (-1.0) ** torch.arange(count)[:, None] + 1e-3 * rows
    if kind == "zero":
        rows = torch.zeros_like(rows)
    return normalize(rows, dim=-1)


def exact(descriptors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending eigenvalues and eigenvectors of G of one group (M, D), in float64."""
    x = descriptors.double()
    return torch.linalg.eigh(x @ x.T - torch.ones(len(x), len(x), dtype=torch.float64))


def assert_meets_the_demands(descriptors, vector, value):
    """The accuracy that the specification asks for, of one group."""
    count = len(descriptors)
    values, vectors = exact(descriptors)
    top, floor = values[-1].item(), 1e-3 * count
    assert torch.isfinite(vector).all() and vector.norm().item() == pytest.approx(1, abs=1e-5)
    assert abs(value.item() - top) <= 1e-4 * max(top, floor)
    runner_up = values[-2].item() if count > 1 else -math.inf
    if top >= floor and (top - runner_up) / top > 1e-3:
        assert abs(vector.double() @ vectors[:, -1]).item() >= 0.9999


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "channels"), SHAPES)
def test_agrees_with_eigh_in_float64(count, channels, kind):
    groups = torch.stack([make(kind, count, channels, seed) for seed in range(2)])
    vectors, values = leading_eigenvector(groups)
    assert vectors.shape == (2, count) and values.shape == (2,) and vectors.dtype == torch.float32
    for group, vector, value in zip(groups, vectors, values, strict=True):
        assert_meets_the_demands(group, vector, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", [solve_dense, solve_reduced])
def test_every_route_works_on_either_side_of_m_equal_to_d(problem, kind):
    """The route of CUDA (squaring) and that of the CPU, through the M x M and through the (D+1) x (D+1) problem."""
    for count, channels in ((150, 90), (90, 150)):
        group = make(kind, count, channels)
        for eigenpair in (squaring_eigenpair, partial(largest_eigenpair, floor=1e-3 * count)):
            vector, value = problem(group[None], eigenpair)
            length = vector.norm()
            vector = vector[0] / length if length > 0 else torch.full((count,), count**-0.5)
            assert_meets_the_demands(group, vector, value[0])


@pytest.mark.parametrize("count", [3920, 4900, 78400])
def test_large_groups_of_known_spectrum(count):
    """m rows equal to a, the rest equal to b: G has rank 2 and its eigenpairs a closed form."""
    share = count // 4
    a, b = torch.zeros(128), torch.zeros(128)
    a[0], b[0], b[1] = 1.0, 0.6, 0.8  # a . b = 0.6
    x = torch.cat([a.expand(share, -1), b.expand(count - share, -1)])[None]
    # G has -0.4 between the blocks and 0 inside: (p, q) -> (-0.4 (M-m) q, -0.4 m p), hence lambda = 0.4 sqrt(m (M-m))
    # and p^2 m = q^2 (M-m): each side carries half of the squared length.
    vector, value = leading_eigenvector(x)
    assert value.item() == pytest.approx(0.4 * math.sqrt(share * (count - share)), rel=1e-6)
    assert vector[0, 0].abs().item() == pytest.approx(math.sqrt(0.5 / share), rel=1e-4)
    assert vector[0, -1].abs().item() == pytest.approx(math.sqrt(0.5 / (count - share)), rel=1e-4)
    assert vector[0, 0] * vector[0, -1] < 0


def test_a_large_unstructured_group_has_a_small_residual_and_a_proven_top_eigenvalue():
    x = make("relu", 3920, 128)[None]
    vector, value = leading_eigenvector(x)
    s, rows = vector[0].double(), x[0].double()
    product = rows @ (rows.T @ s) - s.sum()
    assert (product - value[0] * s).norm() <= 1e-5 * value[0]
    top = torch.linalg.eigvalsh(rows.T @ rows - rows.sum(0)[:, None] * rows.sum(0) / 3920)[-1]  # <= lambda, interlacing
    assert value[0] >= top * (1 - 1e-6)


def test_the_algebraically_largest_eigenvalue_is_meant_not_the_largest_in_magnitude():
    x = make("relu", 245, 64)
    values, _ = exact(x)
    assert -values[0] > values[-1]  # the trap that plain power iteration falls into
    assert leading_eigenvector(x[None])[1].item() == pytest.approx(values[-1].item(), rel=1e-5)


def test_two_clear_clusters_get_opposite_signs():
    x = torch.zeros(1, 10, 4)
    x[:, :4, 0] = 1
    x[:, 4:, 1] = 1
    vector = leading_eigenvector(x)[0][0]
    assert (vector[:4] * vector[0] > 0).all() and (vector[4:] * vector[0] < 0).all()


@pytest.mark.parametrize("channels", [400, 100])
def test_a_result_that_krylov_cannot_prove_is_replaced_by_eigh_for_that_group_only(channels, monkeypatch):
    monkeypatch.setattr(spectral, "KRYLOV_DEPTH", 3)
    hard, easy = make("random", 245, channels), make("loose clusters", 245, channels)
    x = torch.stack([hard, easy]).double()
    certain = krylov_eigenpair(x @ x.mT - 1, 0.245)[2]
    assert certain.tolist() == [False, True]
    for group, vector, value in zip(x.float(), *leading_eigenvector(x.float()), strict=True):
        assert_meets_the_demands(group, vector, value)


def test_the_certificate_refuses_a_start_that_cannot_see_the_leading_eigenvector(monkeypatch):
    """A diagonal matrix and a start without its first coordinate: the Krylov space misses the top eigenvalue."""
    blind = torch.randn(200, spectral.KRYLOV_BLOCK, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    blind[0] = 0
    monkeypatch.setattr(spectral.torch, "randn", lambda *size, **options: blind)
    matrix = torch.diag(torch.cat([torch.tensor([3.0, 2.0]), torch.linspace(0, 1, 198)]).double())[None]
    assert not krylov_eigenpair(matrix, 0.1)[2]
    assert largest_eigenpair(matrix, 0.1)[1].item() == pytest.approx(3)


@pytest.mark.parametrize("eigenpair", [squaring_eigenpair, partial(largest_eigenpair, floor=0.5)])
def test_eigenvalues_a_thousandth_apart_are_told_apart_beside_a_negative_one_a_thousand_times_as_large(eigenpair):
    basis, _ = torch.linalg.qr(torch.randn(2, 200, 200, dtype=torch.float64))
    spectrum = torch.cat([torch.tensor([1.0, 0.9989]), torch.linspace(0, 0.998, 197), torch.tensor([-1000.0])])
    vector, value = eigenpair((basis * spectrum.double()) @ basis.mT)
    cosines = (vector * basis[..., 0]).sum(-1).abs()
    assert (cosines >= 0.9999).all() and ((value - 1).abs() <= 1e-5).all()


def test_groups_of_a_batch_do_not_influence_each_other():
    groups = torch.stack([make(kind, 150, 40) for kind in KINDS])
    together, values = leading_eigenvector(groups)
    for i, group in enumerate(groups):
        alone, value = leading_eigenvector(group[None])
        if value > 0.15:
            assert abs((alone[0] @ together[i]).item()) == pytest.approx(1, abs=1e-5)
            assert value.item() == pytest.approx(values[i].item(), rel=1e-5)


@pytest.mark.parametrize(("count", "channels"), [(60, 100), (150, 40)])
def test_permuting_the_descriptors_permutes_the_vector(count, channels):
    x, order = make("loose clusters", count, channels), torch.randperm(count)
    vector, value = leading_eigenvector(x[None])
    permuted, same_value = leading_eigenvector(x[order][None])
    assert abs((permuted[0] @ vector[0][order]).item()) == pytest.approx(1, abs=1e-5)
    assert same_value.item() == pytest.approx(value.item(), rel=1e-6)


def test_blocks_of_rows_change_nothing(monkeypatch):
    x = make("loose clusters", 500, 40)[None]
    whole, _ = leading_eigenvector(x)
    monkeypatch.setattr(spectral, "GRAM_ROWS", 64)
    blocks, _ = leading_eigenvector(x)
    assert abs((blocks[0] @ whole[0]).item()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("count", "channels"), [(100, 200), (200, 50)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_group_that_is_not_finite_gives_nan_and_leaves_the_others_alone(count, channels, bad):
    x = make("relu", count, channels).repeat(2, 1, 1)
    x[0, 3, 1] = bad
    vectors, values = leading_eigenvector(x)
    assert vectors[0].isnan().all() and values[0].isnan()
    assert_meets_the_demands(x[1], vectors[1], values[1])


@pytest.mark.parametrize("channels", [100, 30])
def test_autocast_does_not_reach_the_solver(channels):
    x = make("relu", 90, channels)[None]
    outside, value = leading_eigenvector(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, same = leading_eigenvector(x)
        energy = clustering_energy(x, inside)
    assert torch.equal(inside, outside) and torch.equal(value, same)
    assert energy.item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("count", [1, 5, 60])
def test_equal_descriptors_get_equal_entries(count):
    row = torch.nn.functional.normalize(torch.randn(2, 1, 8), dim=-1)
    rounded = row.expand(2, count, 8) * (1 + 6e-8 * torch.randn(2, count, 1))  # unit length up to float32's rounding
    vector, _ = leading_eigenvector(rounded)
    torch.testing.assert_close(vector.abs(), torch.full((2, count), count**-0.5))


def test_no_gradient_passes_through_the_eigenvector():
    x = make("relu", 50, 20)[None].requires_grad_()
    vector, value = leading_eigenvector(x)
    assert not vector.requires_grad and not value.requires_grad


@pytest.mark.parametrize(("count", "channels"), [(90, 200), (200, 30)])
def test_the_clustering_energy_of_the_leading_eigenvector_is_its_eigenvalue(count, channels):
    x = torch.stack([make("relu", count, channels), make("loose clusters", count, channels)])
    vector, value = leading_eigenvector(x)
    torch.testing.assert_close(clustering_energy(x, vector), value, rtol=1e-4, atol=0)


def test_the_clustering_energy_is_the_literal_double_sum():
    x, s = make("random", 12, 5).double()[None], torch.randn(1, 12, dtype=torch.float64)
    literal = sum((x[0, i] @ x[0, j] - 1) * s[0, i] * s[0, j] for i in range(12) for j in range(12))
    assert clustering_energy(x, s).item() == pytest.approx(literal.item(), rel=1e-12)


def test_the_gradient_of_the_clustering_energy_is_2_s_sT_x_and_reaches_only_the_descriptors():
    x = make("random", 12, 5).double()[None].requires_grad_()
    s = torch.randn(1, 12, dtype=torch.float64, requires_grad=True)
    clustering_energy(x, s).sum().backward()
    weights = s.detach()[0]
    torch.testing.assert_close(x.grad[0], 2 * weights[:, None] * (weights @ x.detach()[0]))
    assert s.grad is None


def test_the_gradient_is_that_of_the_eigenvalue_itself():
    """Envelope theorem: moving X moves lambda by the gradient at constant s."""
    x = make("loose clusters", 40, 10).double()
    vector, _ = leading_eigenvector(x[None])
    moving = x.clone().requires_grad_()
    clustering_energy(moving[None], vector).sum().backward()
    step = 1e-5 * torch.randn(x.shape, dtype=torch.float64)
    change = (exact(x + step)[0][-1] - exact(x - step)[0][-1]) / 2
    assert (moving.grad * step).sum().item() == pytest.approx(change.item(), rel=1e-4)


def test_unit_descriptors_are_ordered_by_image_row_and_column():
    maps = torch.randn(2, 3, 5, 4, 6)
    x = unit_descriptors(maps)
    assert x.shape == (2, 3 * 4 * 6, 5)
    expected = maps[1, 2, :, 3, 1] / maps[1, 2, :, 3, 1].norm()
    torch.testing.assert_close(x[1, 2 * 24 + 3 * 6 + 1], expected)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(2, 72))


def test_unit_descriptors_do_not_depend_on_the_size_of_the_features():
    maps = torch.randn(1, 2, 5, 3, 3)
    torch.testing.assert_close(unit_descriptors(maps * 2.0**-30), unit_descriptors(maps))


def test_a_zero_descriptor_stays_zero_with_a_finite_gradient():
    maps = torch.randn(1, 2, 5, 3, 3)
    maps[0, 0, :, 1, 1] = 0
    maps.requires_grad_()
    x = unit_descriptors(maps)
    assert torch.equal(x[0, 4], torch.zeros(5))
    x.square().sum().backward()
    assert torch.isfinite(maps.grad).all() and torch.equal(maps.grad[0, 0, :, 1, 1], torch.zeros(5))


def test_unit_descriptors_leave_half_precision_and_keep_nan_visible():
    maps = torch.randn(1, 1, 5, 2, 2).bfloat16()
    assert unit_descriptors(maps).dtype == torch.float32
    maps[0, 0, 0, 0, 0] = float("nan")
    assert unit_descriptors(maps)[0, 0].isnan().any()
