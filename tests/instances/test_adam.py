"""Adam with epsilon on the uncorrected moment."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssnm.instances.adam import UncorrectedAdam

GOLDEN = np.load(Path(__file__).parent / "golden" / "adam.npz")


@pytest.mark.parametrize("prefix, images, decay", [
    ("", 1, 0.0), ("rule2_", int(GOLDEN["rule2_batch"]), float(GOLDEN["rule2_weight_decay"])),
])  # fmt: skip
def test_five_steps_are_those_of_the_authors(prefix, images, decay):
    weight = torch.nn.Parameter(torch.tensor(GOLDEN["start"]))
    optimizer = UncorrectedAdam([weight], lr=float(GOLDEN[f"{prefix}lr"]), weight_decay=decay)
    for gradient, after in zip(GOLDEN["gradients"], GOLDEN[f"{prefix}after_each_step"]):
        weight.grad = torch.tensor(gradient) / images
        optimizer.step()
        np.testing.assert_allclose(weight.detach(), after, rtol=0, atol=1e-15)


@pytest.mark.parametrize("gradient, ours, torchs", [
    (1e-3, 0.99968, 0.99999), (1e-6, 0.75975, 0.99010), (1e-8, 0.03065, 0.5),
])  # fmt: skip
def test_the_first_step_parts_from_torch_where_gradients_are_small(gradient, ours, torchs):
    for cls, expected in ((UncorrectedAdam, ours), (torch.optim.Adam, torchs)):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        weight.grad = torch.full_like(weight, gradient)
        cls([weight], lr=1.0).step()
        assert -weight.item() == pytest.approx(expected, abs=1e-5)


def test_its_state_goes_through_a_file(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = UncorrectedAdam([weight], lr=0.1)
    weight.grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer.step()
    torch.save({"weight": weight.data, "state": optimizer.state_dict()}, tmp_path / "a.pt")
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    other = torch.nn.Parameter(saved["weight"].clone())
    resumed = UncorrectedAdam([other], lr=0.1)
    resumed.load_state_dict(saved["state"])
    other.grad = weight.grad.clone()
    for o in (optimizer, resumed):
        o.step()
    assert torch.equal(weight, other)
