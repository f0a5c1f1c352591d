"""Devices that are not there: which one is taken, what is current, on which stream the guard waits, who solves where
no float64 is, when memory is pinned. CUDA, Intel's XPU and Apple's MPS are stood in for."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssnm.coseg import build, spectral
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.release import adam200
from ssnm.engine import runtime
from ssnm.engine.distributed import join
from ssnm.engine.nonfinite import FiniteGuard
from ssnm.errors import ConfigError

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


@pytest.fixture
def devices(monkeypatch):
    """Call it with what torch is to see: counts by kind."""

    def see(**counts: int) -> None:
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(counts.get("mps")))
        for kind, module in (("cuda", torch.cuda), ("xpu", torch.xpu)):
            monkeypatch.setattr(module, "is_available", lambda kind=kind: bool(counts.get(kind)))
            monkeypatch.setattr(module, "device_count", lambda kind=kind: counts.get(kind, 0))

    return see


@pytest.mark.parametrize("there, taken", [(dict(cuda=2, mps=1), "cuda"), (dict(xpu=1), "xpu"), (dict(mps=1), "mps"),
                                          ({}, "cpu")])  # fmt: skip
def test_the_first_accelerator_there_is_is_taken(devices, there, taken):
    devices(**there)
    assert runtime.pick_device() == torch.device(taken)
    assert runtime.pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "xpu", "mps", "cuda:2", "tpu"])
def test_a_device_that_is_not_there_is_an_error_that_names_it(devices, name):
    devices(**({"cuda": 2} if name == "cuda:2" else {}))
    with pytest.raises(ConfigError, match=f"--device.*{name}"):
        runtime.pick_device(name)


def test_a_named_cuda_device_becomes_the_current_one(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for name in ("cpu", "cuda", "cuda:1"):
        runtime.make_current(torch.device(name))
    assert current == [torch.device("cuda:1")]


@pytest.mark.parametrize("asked", ["cuda", None])
def test_each_process_of_torchrun_takes_its_own_cuda_device(monkeypatch, devices, asked):
    """Training and test alike: both join by this."""
    devices(cuda=2)
    current, started = [], []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: started.append(backend))
    monkeypatch.setattr(torch.distributed, "new_group", lambda backend, timeout: backend)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    processes, device = join(asked)
    assert (processes.rank, processes.world, processes.control, device) == (1, 2, "gloo", "cuda:1")
    assert current == [1] and started == ["nccl"]


@pytest.mark.parametrize("precision, own, said", [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)])
def test_a_card_without_bfloat16_is_told_of_float16(monkeypatch, precision, own, said):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: own)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    note = runtime.precision_note(precision, torch.device("cuda:0"))
    assert ("an old card has no bfloat16" in note and "precision=fp16" in note) if said else note is None


def test_the_guard_waits_on_the_stream_of_the_loss_s_own_device(monkeypatch):
    """The current device is another one."""
    waits = []

    class Event:
        def record(self, stream) -> None:
            waits.append(stream)

        def synchronize(self) -> None: ...

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))  # pinning asks the driver
    with FakeTensorMode():
        loss = torch.zeros((), device="cuda:1")
        FiniteGuard().see(0, None, {"total": loss}, loss)
    assert waits == ["stream of cuda:1"]


class NoFloat64(TorchDispatchMode):
    """What `device` does that knows no float64: it refuses the first tensor of that kind."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 and leaf.device.type == self.device:
                raise TypeError(f"{function}: {self.device} has no float64")
        return result


@pytest.mark.skipif(TORCH < (2, 11), reason="old torch (2.6) aborts at some tensors without values")
@pytest.mark.parametrize("kind", ["mps", pytest.param("xpu", marks=pytest.mark.slow)])
def test_what_needs_float64_is_done_on_the_cpu_where_the_device_has_none(kind, monkeypatch):
    """The functions behind the operators: a graph without values calls those for shapes alone."""
    monkeypatch.setattr(spectral, "certified_eigenpair", lambda matrix, floor: spectral.squaring_eigenpair(matrix))
    monkeypatch.setattr(adam200, "_norm_of_start", lambda count: 1.0)  # it reads a value
    with FakeTensorMode(), NoFloat64(kind):
        for count in (10, 147):  # the dense problem, the reduced one
            descriptors = torch.empty(2, count, 16, device=kind)
            with pytest.raises(TypeError, match="has no float64"):
                descriptors.double()
            with torch.no_grad():
                vector, eigenvalue = spectral._solve(descriptors)
                release = adam200._descend(descriptors)
            energy = spectral.clustering_energy(descriptors, vector)
            for found in (vector, eigenvalue, release, energy):
                assert (found.device.type, found.dtype) == (kind, torch.float32)


@pytest.mark.parametrize("device, pinned", [("cpu", False), ("cuda:1", True), ("mps", False)])
def test_batches_are_pinned_for_cuda_only(device, pinned):
    config = config_from_dict({"data": {"sources": [{"type": "procedural", "num_images": 40}], "size": 32,
                                        "group_size": 2, "holdout": 0.3, "workers": 0}})  # fmt: skip
    pool, _ = build.build_pools(config.data)
    assert build.build_loader(config, pool, 0, device=torch.device(device)).pin_memory is pinned
