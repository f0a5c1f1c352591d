"""The modulators in numpy are those of torch: random inputs, and those where a solver may go astray."""

import numpy as np
import pytest
import torch

from ssnm.coseg import model, spectral
from ssnm.coseg.onnx.modulator import SemanticModulator, SpatialModulator, leading_eigenvector, unit_descriptors
from ssnm.coseg.orientation import ORIENTATIONS, orient
from ssnm.coseg.presence import agreement, shares
from ssnm.coseg.second_order import second_order_matrix, signed_sqrt


def maps(seed: int, images: int, channels: int, side: int) -> torch.Tensor:
    """(N, D, h, w): two kinds of descriptors with noise, so that there is something to cluster."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(2, channels, generator=generator)
    which = torch.randint(0, 2, (images, side, side), generator=generator)
    return (kinds[which] + 0.7 * torch.randn(images, side, side, channels, generator=generator)).movedim(-1, 1)


def same_up_to_sign(first, second, tolerance: float = 1e-5) -> bool:
    return min(np.abs(first - second).max(), np.abs(first + second).max()) < tolerance


@pytest.mark.parametrize("images, channels, side", [(1, 24, 3), (3, 24, 9), (5, 160, 9), (2, 24, 1)])
def test_the_eigenvector_is_that_of_torch(images, channels, side):
    """Fewer descriptors than channels, and more; 161 goes by torch's Krylov method."""
    phi = maps(images, images, channels, side)
    own = unit_descriptors(phi.numpy())
    theirs = spectral.unit_descriptors(phi[None])
    np.testing.assert_allclose(own, theirs[0].numpy(), atol=1e-6)
    assert same_up_to_sign(leading_eigenvector(own), spectral.leading_eigenvector(theirs)[0][0].numpy())


def test_many_rows_are_factorised_in_blocks(monkeypatch):
    own = unit_descriptors(maps(0, 4, 16, 9).numpy())
    whole = leading_eigenvector(own)
    monkeypatch.setattr("ssnm.coseg.onnx.modulator.ROWS", 50)
    assert same_up_to_sign(leading_eigenvector(own), whole, 1e-9)


def test_equal_descriptors_give_the_constant_vector_and_nan_gives_nan():
    assert np.allclose(leading_eigenvector(unit_descriptors(np.ones((3, 8, 4, 4), np.float32))), 48**-0.5)
    assert np.isfinite(leading_eigenvector(unit_descriptors(np.zeros((3, 8, 4, 4), np.float32)))).all()
    assert np.isnan(leading_eigenvector(np.full((5, 3), np.nan))).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("scale", ["unit", "rms"])
def test_the_spatial_modulator_is_that_of_torch(orientation, scale):
    phi = maps(7, 4, 32, 6)
    wanted = model.SpatialModulator(orientation, scale)(phi[None])[0][0].numpy()
    found = SpatialModulator(orientation, scale)(phi.numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("options", [
    {}, {"centred": True}, {"activation": "relu", "gamma_activation": "relu"}, {"normalisation": "signed_sqrt"},
])  # fmt: skip
def test_the_semantic_modulator_is_that_of_torch(options):
    torch.manual_seed(0)
    theirs = model.SemanticModulator(24, 16, 7, image_dim=8, group_dim=6, **options).eval()
    told = {"activation": "none", "gamma_activation": "none", "centred": False, "normalisation": "none"} | options
    own = SemanticModulator.of({k: v.numpy() for k, v in theirs.state_dict().items()}, **told)
    coarsest, weights = maps(3, 6, 24, 5), torch.rand(2, 3) + 0.1
    with torch.no_grad():
        indicators = theirs.indicators(coarsest)
        np.testing.assert_allclose(own.indicators(coarsest.numpy()), indicators.numpy(), atol=1e-5)
        for given in (None, weights):
            groups = indicators.unflatten(0, (2, 3))
            found = own(groups.numpy(), None if given is None else given.numpy())
            for ours, wanted in zip(found, theirs(groups, given), strict=True):
                assert ours.dtype == np.float32
                np.testing.assert_allclose(ours, wanted.numpy(), atol=1e-5)


def test_what_both_share_gives_the_same_on_arrays_and_tensors():
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(2, 5, 9)), rng.uniform(0.1, 1, (2, 9))
    masks, logits = rng.normal(size=(2, 3, 5, 5)), rng.normal(size=(6, 9)) * 5
    for function, arrays in [
        (lambda f, w: second_order_matrix(f, True, w), (features, weights)),
        (second_order_matrix, (features,)),
        (signed_sqrt, (features * (rng.random(features.shape) < 0.8),)),
        (lambda m: orient(m, "border"), (masks,)),
        (agreement, (logits,)),
        (lambda a: shares(agreement(a)), (logits,)),
    ]:
        wanted = function(*map(torch.from_numpy, arrays))
        np.testing.assert_allclose(function(*arrays), wanted.numpy(), rtol=1e-9, atol=1e-12)
