"""What makes a step fast must not change it: one graph, no waiting for the device, bfloat16, average, pinned batch."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data._utils.pin_memory import pin_memory

from ssnm.coseg import model as ssnm_module
from ssnm.coseg import spectral
from ssnm.coseg.losses import CosegCriterion
from ssnm.coseg.model import SpatialModulator
from ssnm.coseg.records import GroupBatch
from ssnm.coseg.release.model import ReleaseBackbone, SSNMRelease
from ssnm.engine.loop import LoopOptions, TrainState, make_ema, train_step
from ssnm.engine.nonfinite import FiniteGuard
from ssnm.engine.schedule import Schedule
from ssnm.nn.backbones import Backbone

LABELS, SIZE = 3, 64
SMALL_BACKBONE = "resnet10t"
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


def batch_on(device: torch.device | str) -> GroupBatch:
    """2 groups of 3 images with a square object each."""
    torch.manual_seed(1)
    masks = torch.zeros(2, 3, SIZE, SIZE)
    masks[..., 16:48, 16:48] = 1
    images = 0.5 * torch.rand(2, 3, 3, SIZE, SIZE) + 0.5 * masks[:, :, None]
    valid, grey = torch.ones_like(masks, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)
    return GroupBatch(images, masks, torch.eye(2, LABELS), valid, grey).to(device)


def state_of(model: nn.Module, ema: nn.Module | None = None, fused: bool = False) -> TrainState:
    groups = [{"params": list(model.parameters()), "lr": 1e-3, "base_lr": 1e-3}]
    return TrainState(model, torch.optim.Adam(groups, fused=fused), Schedule("constant", 10), ema=ema)


def steps(state: TrainState, batch: GroupBatch, count: int, guard: FiniteGuard | None = None, loss_fn=None, **options):
    """`count` training steps; the losses of the last one."""
    loss_fn = loss_fn or CosegCriterion(dice=1.0, spa_reduction="mean")
    for _ in range(count):
        losses = train_step(lambda b: state.model(b.images), loss_fn, [batch], state, LoopOptions(10, **options), guard)
    return losses


# One graph


@pytest.mark.parametrize(
    ("backbone", "orientation"),
    [
        pytest.param("mobilenetv2_035", "border", marks=pytest.mark.slow),
        ("resnet10t", "nonnegative_sum"),
        pytest.param("vgg16", "border", marks=pytest.mark.slow),
        pytest.param("hrnet_w32", "border", marks=pytest.mark.slow),
    ],
)
def test_the_training_forward_pass_is_captured_without_a_graph_break(tiny_model, device, backbone, orientation):
    model = tiny_model(backbone, spatial=SpatialModulator(orientation)).train().to(device)
    images = batch_on(device).images
    torch.compiler.reset()
    output = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")(images)
    wanted = model(images)
    torch.testing.assert_close(output.mask_logits, wanted.mask_logits)
    torch.testing.assert_close(output.modulation.spatial_mask, wanted.modulation.spatial_mask)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["adam200", "exact"])
def test_the_release_s_network_is_captured_without_a_graph_break(solver):
    torch.manual_seed(0)
    model = SSNMRelease(ReleaseBackbone(), LABELS, solver, dim=8).train()
    images, grey = torch.rand(1, 5, 3, 224, 224), torch.tensor([[False, True, False, False, False]])
    torch.compiler.reset()
    output = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")(images, grey)
    wanted = model(images, grey)
    torch.testing.assert_close(output.mask_logits, wanted.mask_logits)
    torch.testing.assert_close(output.modulation.spatial_mask, wanted.modulation.spatial_mask, rtol=0, atol=0)


def test_the_solver_of_accelerators_is_captured_without_a_graph_break():
    matrix = torch.randn(2, 20, 8, dtype=torch.float64)
    gram = matrix @ matrix.mT - 1
    torch.compiler.reset()
    compiled = torch.compile(spectral.squaring_eigenpair, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(gram), spectral.squaring_eigenpair(gram))


def test_solving_without_compiling_does_not_load_the_compiler():
    """It would cost whoever segments five photographs some seconds at the first call."""
    code = """import sys, torch
from ssnm.coseg.spectral import leading_eigenvector
leading_eigenvector(torch.nn.functional.normalize(torch.rand(1, 200, 100), dim=-1))
print("torch._dynamo" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# No waiting for the device


def without_values(module: nn.Module, device: str) -> nn.Module:
    """The module with parameters and buffers that have shape, type and device, and no values to read."""
    for part in module.modules():
        for name, value in part.named_parameters(recurse=False):
            empty = torch.empty(value.shape, dtype=value.dtype, device=device)
            part.register_parameter(name, nn.Parameter(empty, value.requires_grad))
        for name, value in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=device)
    return module


def step_without_values(model: nn.Module, loss_fn=None, **options) -> None:
    """Two steps with clipping, bfloat16, the fused optimiser and an average, on tensors that raise when the host asks
    for a value of theirs. (The engine cannot run a backward pass for a device that is not there: device "cpu".)"""
    average = make_ema(model, 0.9)
    batch = batch_on("cpu")
    with FakeTensorMode() as mode:
        average.module = without_values(average.module, "cpu")
        state = state_of(without_values(model, "cpu"), average, fused=True)
        blank = batch._each(mode.from_tensor)
        steps(state, blank, 2, loss_fn=loss_fn, clip_norm=1.0, precision="bf16")


@pytest.fixture
def solver_of_accelerators(monkeypatch):
    monkeypatch.setattr(spectral, "certified_eigenpair", lambda matrix, floor: spectral.squaring_eigenpair(matrix))


def test_no_part_of_a_training_step_asks_for_a_value(tiny_model, solver_of_accelerators):
    step_without_values(tiny_model(SMALL_BACKBONE).train())


def test_a_loss_that_is_read_during_the_step_is_found_out(tiny_model, solver_of_accelerators):
    def reading(output, batch):
        losses = CosegCriterion()(output, batch)
        return losses if losses["total"] > 0 else {}

    with pytest.raises(DataDependentOutputException):
        step_without_values(tiny_model(SMALL_BACKBONE).train(), reading)


@pytest.mark.skipif(TORCH < (2, 11), reason="a convolution of CUDA tensors without values aborts in old torch (2.6)")
def test_on_cuda_the_forward_pass_takes_the_solver_that_asks_for_no_value(tiny_model, monkeypatch):
    monkeypatch.setattr(spectral, "certified_eigenpair", lambda *_: pytest.fail("the solver of the CPU"))
    model, batch = tiny_model(SMALL_BACKBONE).train(), batch_on("cpu")
    with FakeTensorMode():  # CUDA tensors without values: no CUDA device is needed
        model = without_values(model, "cuda")
        blank = batch._each(lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"))
        losses = CosegCriterion(dice=1.0)(model(blank.images), blank)
    assert losses["total"].device.type == "cuda"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_cuda_no_operation_of_a_step_waits_for_the_device(tiny_model, device, precision):
    if device.type != "cuda":
        pytest.skip("needs CUDA: a CPU has no queue that the host could wait for")
    model = tiny_model().train().to(device)
    state, batch, guard = state_of(model, make_ema(model, 0.9), fused=True), batch_on(device), FiniteGuard()
    steps(state, batch, 2, guard, clip_norm=1.0, precision=precision)  # warm-up: handles, workspaces, pinned memory
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps(state, batch, 2, guard, clip_norm=1.0, precision=precision)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_loader_pins_every_tensor_of_a_batch(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor)
    batch = batch_on("cpu")
    assert isinstance(pin_memory(batch), GroupBatch)
    assert sorted(pinned) == sorted(t.shape for t in (batch.images, batch.masks, batch.labels, batch.valid, batch.grey))


# The same result


def test_bfloat16_runs_under_autocast_and_trains(tiny_model, device):
    """That a step rounds where it is asked to, and that the loss still falls by a third, as in float32; how close the
    two are is a matter of the processor."""
    dtypes = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = tiny_model(Backbone("mobilenetv2_035", norm_eval=True)).train().to(device)

        def remember(module, inputs, output, key=precision) -> None:
            dtypes[key] = output.dtype

        model.head.refine.register_forward_hook(remember)
        criterion = CosegCriterion(spa=0.01, dice=1.0, spa_reduction="mean")
        state = state_of(model)
        losses = [steps(state, batch_on(device), 1, loss_fn=criterion, precision=precision)["total"].item()
                  for _ in range(9)]  # fmt: skip
        assert losses[-1] < 0.7 * losses[0]
    assert dtypes == {"fp32": torch.float32, "bf16": torch.bfloat16}


def test_second_moments_stay_in_float32_under_autocast(tiny_model, monkeypatch):
    seen = []
    whole = ssnm_module.second_order_matrix
    monkeypatch.setattr(ssnm_module, "second_order_matrix", lambda *a: seen.append(whole(*a)) or seen[-1])
    with torch.autocast("cpu", torch.bfloat16):
        tiny_model()(batch_on("cpu").images)
    assert len(seen) >= 2 and {matrix.dtype for matrix in seen} == {torch.float32}  # of the images, of the groups


def test_an_average_leaves_the_trained_weights_alone(tiny_model):
    plain, watched = tiny_model(SMALL_BACKBONE).train(), tiny_model(SMALL_BACKBONE).train()
    steps(state_of(plain), batch_on("cpu"), 3)
    steps(state_of(watched, make_ema(watched, 0.9)), batch_on("cpu"), 3)
    torch.testing.assert_close(watched.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_the_average_is_that_of_torch_and_copies_counters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    own = make_ema(model, 0.9)
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        model(torch.randn(8, 4))
        with torch.no_grad():
            model[0].weight.add_(torch.randn(4, 4))
        own.update_parameters(model)
        reference.update_parameters(model)
    ours, theirs = own.module.state_dict(), reference.module.state_dict()
    assert ours.pop("1.num_batches_tracked") == 4 and theirs.pop("1.num_batches_tracked") < 4
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
