"""One training step of the authors' network, batch of two with given scales: logits, gradients, batch norm, Adam."""

import numpy as np
import pytest
import torch

from ssnm.nn.pixels import PixelNormalisation
from ssnm.nn.vgg import VGG
from ssnm.video.convert import Variant, from_tensorflow, key_table
from ssnm.video.guides import gaussian_guide
from ssnm.video.losses import class_balanced_loss
from ssnm.video.model import OSMN

from .osmn_oracle import facts, frame_at, golden, mask_at, variables

BARE = Variant(False, True, False)
SIZE = (32, 48)
OURS = {f"osmn/{name}": key for name, (key, _) in key_table(BARE).items()}


def subset(values: torch.Tensor) -> np.ndarray:
    """A gradient in TensorFlow's order of axes, thinned as the golden values are."""
    array = (values.permute(2, 3, 1, 0) if values.ndim == 4 else values).reshape(-1).numpy()
    return array[:: max(1, array.size // 64)]


@pytest.fixture(scope="module", params=["train/bn", "train/fix_bn"])
def step(request):
    """(name of the case, what it gave)."""
    with torch.device("meta"):
        trunk = VGG("vgg16", ceil_mode=True, last_pool=False)
    trunk.to_empty(device="cpu")
    model = OSMN(trunk, None, PixelNormalisation((104.0, 117.0, 123.0), scale=255.0, bgr=True),
                 fix_norm=request.param == "train/fix_bn")  # fmt: skip
    model.load_state_dict(from_tensorflow(variables(BARE), "stand-ins")[1])
    model.train()
    frame = frame_at("frame1", SIZE)
    frames = torch.from_numpy(np.stack([frame, frame[:, ::-1]]))
    masks = [mask_at(name, SIZE) for name in ("normal", "border")]
    guides = torch.from_numpy(np.stack([gaussian_guide(mask) for mask in masks]))
    scales = torch.from_numpy(np.random.default_rng(11).uniform(0.5, 1.5, (2, 3840)).astype(np.float32))
    scales.requires_grad_()
    logits = model.segment(frames.permute(0, 3, 1, 2).float() / 255, guides, scales)
    logits.retain_grad()
    loss = class_balanced_loss(logits, torch.from_numpy(np.stack(masks) / 255.0))
    loss.backward()
    return request.param, dict(model=model, logits=logits, scales=scales, loss=loss)


def test_loss_and_logits_are_the_authors(step):
    name, found = step
    assert found["loss"].item() == pytest.approx(facts()[name]["main_loss"], rel=2e-6)
    np.testing.assert_allclose(found["logits"].detach()[:, ::4, ::4], golden()[f"{name}/logits"], rtol=0, atol=5e-5)
    gradient = found["logits"].grad[:, ::4, ::4]
    np.testing.assert_allclose(gradient, golden()[f"{name}/grad_logits"], rtol=0, atol=1e-5)


def test_gradients_are_the_authors(step):
    name, found = step
    theirs = golden()[f"{name}/grad_gamma"]
    np.testing.assert_allclose(found["scales"].grad[:, ::32], theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
    parameters = dict(found["model"].named_parameters())
    for key in (k for k in golden() if k.startswith(f"{name}/grad/")):
        ours, theirs = subset(parameters[OURS[key.removeprefix(f"{name}/grad/")]].grad), golden()[key].ravel()
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max(), err_msg=key)


def test_norms_of_all_gradients_are_the_authors(step):
    name, found = step
    parameters = dict(found["model"].named_parameters())
    norms = facts()[name]["grad_norm"]
    assert {OURS[key] for key in norms} == set(parameters)
    largest = max(norms.values())
    for key, norm in norms.items():
        assert parameters[OURS[key]].grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6 * largest), key


def test_moving_statistics_are_tensorflow_s(step):
    name, found = step
    state = found["model"].state_dict()
    moved = set(facts()[name]["moved_by_forward"])
    assert bool(moved) is (name == "train/bn")
    before = variables(BARE)
    for key in (k for k in OURS if "moving" in k):
        ours = state[OURS[key]].numpy()
        assert np.array_equal(ours, before[key]) is (key not in moved)
        if key in moved:
            theirs = golden()[f"{name}/after/{key.split('/')[2]}/{key.split('/')[-1]}"]
            np.testing.assert_allclose(ours[:: max(1, ours.size // 64)], theirs, rtol=0, atol=1e-6)


def test_the_regularisation_they_report_is_half_the_coupled_decay(step):
    name, found = step
    model = found["model"]
    convolutions = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    kernels = [side.up for side in model.sides]
    assert len(convolutions) + len(kernels) == facts()[name]["n_reg"] == 25
    total = 0.5 * 2e-4 * sum(w.detach().double().square().sum().item() for w in (*convolutions, *kernels))
    assert total == pytest.approx(facts()[name]["reg_loss"], rel=1e-5)


def test_a_step_of_adam_moves_the_weights_as_theirs(step):
    name, found = step
    if name != "train/bn":
        pytest.skip("the authors' step was recorded for this case alone")
    parameters = dict(found["model"].named_parameters())
    keys = [k for k in golden() if k.startswith(f"{name}/adam_delta/")]
    assert len(keys) == 2
    for key in keys:
        parameter = parameters[OURS[key.removeprefix(f"{name}/adam_delta/")]]
        before = parameter.detach().clone()
        torch.optim.Adam([parameter], lr=1e-5, weight_decay=2e-4 if parameter.ndim == 4 else 0.0).step()
        delta = (parameter.detach().double() - before.double()).flatten()[::16]
        np.testing.assert_allclose(delta, golden()[key].ravel(), rtol=0, atol=1e-7)
