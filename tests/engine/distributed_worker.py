"""Not a test: runs the scenarios of test_distributed.py, each in processes of its own, into the folder it is given.

One interpreter imports everything once and forks the processes, as torchrun would start them. `status.json` holds the
exit status of every process by scenario.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Callable

import torch

from ssnm.coseg import build as factory
from ssnm.coseg import train as runs
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.validation import Validator
from ssnm.data.records import BadImage
from ssnm.engine.distributed import Processes, join, leave
from ssnm.engine.runs import find_resume

STEPS = 4
CONFIG = {
    "model": {
        "dim": 8,
        "backbone": {"name": "mobilenetv2_035", "weights": "none", "norm_eval": True, "strides": [4, 8]},
        "semantic": {"image_dim": 4, "group_dim": 4},
    },
    "loss": {"spa": 0.01, "spa_reduction": "mean", "weighting": "none", "dice": 1.0},
    "data": {"sources": [{"type": "procedural", "num_images": 60}], "size": 32, "group_size": 2, "holdout": 0.3,
             "augmentation": {"flip": 0.5, "crop": 1.0, "colour": 0.5}, "workers": 0},
    "train": {"steps": STEPS, "lr": 1e-4, "batch_groups": 4, "ema": 0.9, "log_every": 3, "checkpoint_minutes": 100.0},
    "validation": {"every": 2, "groups": 1, "two_category_images": 0, "pictures": 0},
}
RELEASE_LOSS = {"loss": {"type": "release"}}
# The coarsest map needs more cells than its border, or the sign of the spatial mask is a tie that rounding decides.
# At random weights batch norm in eval mode lets all signals fade, and Adam would amplify rounding errors: the runs
# that are compared start from weights that a few steps with batch norm in training mode have given.
WARM_UP = {"train": {"steps": 12, "lr": 1e-3, "checkpoint_minutes": 100.0}, "validation": {"every": 100},
           "model": {"backbone": {"name": "mobilenetv2_035", "weights": "none", "strides": [4, 8]}}}


def configured(**changes):
    sections = {k: v if k == "loss" else {**CONFIG[k], **v} for k, v in changes.items()}
    return config_from_dict({**CONFIG, **sections}, "scenario")


def train(out: Path, config, prepare: Callable[[Processes], None] = lambda processes: None) -> None:
    torch.set_num_threads(1)
    processes, _ = join("cpu")
    prepare(processes)
    resume = processes.from_first(lambda: find_resume("auto", out))
    warm = out.parent / "warm" / "checkpoints" / "last.pt"
    start_from = warm if warm.exists() and not resume else None
    runs.train_run(config, out, torch.device("cpu"), resume, start_from, processes=processes)
    leave(processes)


def in_processes(work: Callable[[], None], world: int, log: Path) -> list[int]:
    """Run `work` in `world` forked processes with torchrun's environment; their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if not child:
            _be_process(work, rank, world, port, log)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _be_process(work: Callable[[], None], rank: int, world: int, port: int, log: Path) -> None:
    import traceback

    signal.alarm(120)  # a hang shows as death by SIGALRM
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    status = 1
    try:
        with open(log.with_suffix(f".{rank}.txt"), "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def signal_to_the_last(processes: Processes) -> None:
    """SIGTERM reaches one process only, while it fetches its third batch."""
    _at_batch(processes, processes.world - 1, 2, lambda batch: os.kill(os.getpid(), signal.SIGTERM))


def failure_of_rank_one(processes: Processes) -> None:
    def fail(batch) -> None:
        raise RuntimeError("the disk of rank 1 burns")

    _at_batch(processes, 1, 2, fail)


def failure_of_the_validation(processes: Processes) -> None:
    def fail(*arguments):
        raise RuntimeError(f"the validation of rank {processes.rank} burns")

    Validator.__call__ = fail


def spoilt_batch_of_rank_one(processes: Processes) -> None:
    def spoil(batch) -> None:
        object.__setattr__(batch, "images", torch.full(batch.images.shape, float("nan")))

    _at_batch(processes, 1, 2, spoil)


def bad_images_of_both(processes: Processes) -> None:
    """Another one in each process at the second batch."""
    bad = BadImage(f"{processes.rank}.png", f"{processes.rank}.png: is torn")
    _at_batch(processes, processes.rank, 1, lambda batch: object.__setattr__(batch, "bad", (bad,)))


def _at_batch(processes: Processes, rank: int, number: int, act: Callable) -> None:
    build = factory.build_loader

    def loader(*arguments):
        for count, batch in enumerate(build(*arguments)):
            if processes.rank == rank and count == number:
                act(batch)
            yield batch

    factory.build_loader = loader


def main(root: Path) -> None:
    half, one_bad = configured(train={"accumulate": 2}), configured(data={"max_bad_images": 1})
    scenarios = {
        "warm": (1, lambda: train(root / "warm", configured(**WARM_UP))),
        "one": (1, lambda: train(root / "one", configured())),
        "two": (2, lambda: train(root / "two", configured())),
        "two_accumulating": (2, lambda: train(root / "two_accumulating", half)),
        "release_one": (1, lambda: train(root / "release_one", configured(**RELEASE_LOSS))),
        "release_two": (2, lambda: train(root / "release_two", configured(**RELEASE_LOSS))),
        "stopped": (2, lambda: train(root / "resumed", configured(), signal_to_the_last)),
        "resumed": (1, lambda: train(root / "resumed", configured())),
        "stopped_alone": (1, lambda: train(root / "grown", configured(), signal_to_the_last)),
        "grown": (2, lambda: train(root / ("grown" if os.environ["RANK"] == "0" else "other_disk"), configured())),
        "failing": (2, lambda: train(root / "failing", configured(), failure_of_rank_one)),
        "failing_validation": (2, lambda: train(root / "failing_validation", configured(), failure_of_the_validation)),
        "bad_images": (2, lambda: train(root / "bad_images", configured(), bad_images_of_both)),
        "too_many_bad": (2, lambda: train(root / "too_many_bad", one_bad, bad_images_of_both)),
        "spoilt": (2, lambda: train(root / "spoilt", configured(), spoilt_batch_of_rank_one)),
    }
    status, stopped_at = {}, {}
    for name, (world, work) in scenarios.items():
        status[name] = in_processes(work, world, root / name)
        if name.startswith("stopped"):
            run = "resumed" if name == "stopped" else "grown"
            stopped_at[run] = torch.load(root / run / "checkpoints" / "last.pt", weights_only=True)["step"]
    status["stopped_at"] = stopped_at
    (root / "status.json").write_text(json.dumps(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
