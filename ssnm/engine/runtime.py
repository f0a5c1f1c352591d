"""The machine side of a run: seeds, device, determinism, and what to write down about the environment."""

from __future__ import annotations

import platform
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from ..files.parallel import usable_cores

ACCELERATORS = ("cuda", "xpu", "mps")
CPU = torch.device("cpu")


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, numpy and torch (all devices). rank: of the process; what the processes of one run draw in the
    model (dropout) then differs, while rank 0 draws what a run of one process does."""
    seed += 1_000_003 * rank
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def pick_device(name: str | None = None) -> torch.device:
    """`name` checked, or the first accelerator there is (CUDA, Intel's XPU, Apple's MPS), or the CPU.

    Raises:
        ConfigError: a name that torch does not know, or a device that is not there.
    """
    if name is None:
        return torch.device(next((kind for kind in ACCELERATORS if _count(kind)), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device wants cpu, cuda, cuda:N, mps or xpu, got '{name}'") from None
    if device.type in ACCELERATORS:
        count, kind = _count(device.type), device.type
        if not count:
            raise ConfigError(f"--device {kind} was asked for, but torch sees no {kind.upper()} device; "
                              "use --device cpu")  # fmt: skip
        if (device.index or 0) >= count:
            raise ConfigError(f"--device {name}: torch sees {count} {kind.upper()} devices, numbered from 0; "
                              "choose one of them")  # fmt: skip
    return device


class QuietWorkersLoader(DataLoader):
    """A loader whose workers leave signals to their parent: :func:`prepare_worker`, and forked ones from their first
    moment on, since they start with SIGINT and SIGTERM held back."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, worker_init_fn=prepare_worker, **options)

    def __iter__(self) -> Iterator:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().__iter__()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def step_loader(
    dataset: Dataset, batches: Sampler, collate: Callable, workers: int, seed: int, device: torch.device
) -> DataLoader:
    """Batches of a training, one list of indices of `batches` each; not more workers than there are cores. They wait
    in shared memory, of which Docker gives 64 MB, and in page-locked memory where they go to a CUDA device."""
    return QuietWorkersLoader(
        dataset,
        batch_sampler=batches,
        num_workers=min(workers, usable_cores()),
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator().manual_seed(seed),  # else each start of a loader draws from the model's
    )


def prepare_worker(worker: int) -> None:
    """What every loader worker begins with: one thread; and a signal, which reaches all processes, is the parent's."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _count(kind: str) -> int:
    """How many devices of a kind torch sees."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind)
    return module.device_count() if module.is_available() else 0


def make_current(device: torch.device) -> None:
    """Make `device` the one that streams, events and libraries of this process mean where they name none."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def precision_note(precision: str, device: torch.device) -> str | None:
    """What to say where a CUDA card is asked for bfloat16, which it has not and emulates at a crawl."""
    if precision != "bf16" or device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return f"note: {device_name(device)} has no bfloat16 of its own; train.precision=fp16 is much faster there"


def set_determinism(enabled: bool) -> None:
    """The same seed gives the same run on CUDA too, at some cost in speed; on the CPU it always does."""
    if enabled:
        import os

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True


def environment(device: torch.device) -> dict:
    """What a reader needs to repeat a run on `device`: versions, machine, commit."""
    import timm
    import torchvision

    return {
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "commit": git_commit(),
    }


def device_name(device: torch.device) -> str:
    """The model of the card, or of the processor."""
    if device.type == "cpu":
        return cpu_name()
    return str(device) if device.type == "mps" else getattr(torch, device.type).get_device_name(device)


def cpu_name() -> str:
    """The processor's model where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, models), None) or platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with '+' if it was changed; None outside one."""
    root = Path(__file__).resolve().parents[2]
    try:
        run = lambda *a: subprocess.run(["git", "-C", str(root), *a], capture_output=True, text=True, timeout=10)  # noqa: E731
        commit = run("rev-parse", "--short", "HEAD")
        if commit.returncode or not (root / ".git").exists():
            return None
        return commit.stdout.strip() + ("+" if run("status", "--porcelain", "-uno").stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None
