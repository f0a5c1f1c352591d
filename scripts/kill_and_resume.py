"""Kill a training run at many random moments, resume it, and compare its end with that of an undisturbed run.

    python scripts/kill_and_resume.py --kills 50

Every attempt is a process of its own that really dies: by SIGTERM or SIGKILL at a random time, or by SIGKILL half-way
through the writing of a checkpoint, or just before the new checkpoint takes the old one's name. Only attempts that
met an unfinished run count. A run is killed up to three times, then finishes. Its end is right if every tensor of
last.pt and best.pt (weights, optimiser, average, RNG) has the same bits as in the undisturbed run and log.jsonl the
same rows, time figures aside. CPU, one thread, POSIX. Prints a table; exit status 1 if a run ended differently.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import torch

from ssnm.coseg import train as runs
from ssnm.coseg.config import Config, config_from_dict
from ssnm.engine.runs import find_resume

KINDS = ("SIGTERM", "SIGKILL", "SIGKILL in a write", "SIGKILL before the rename")
TIME_FIELDS = ("time", "images_per_s", "step_s", "data_wait")
TINY = {
    "model": {
        "dim": 8,
        "backbone": {"name": "mobilenetv2_035", "weights": "none"},
        "semantic": {"image_dim": 4, "group_dim": 4},
    },
    "loss": {"spa": 0.01, "spa_reduction": "mean", "weighting": "none", "dice": 1.0},
    "data": {
        "sources": [{"type": "procedural", "num_images": 60}],
        "size": 32,
        "group_size": 2,
        "holdout": 0.3,
        "workers": 0,
    },
    "train": {"lr": 1e-3, "batch_groups": 2, "ema": 0.9, "log_every": 3, "checkpoint_every": 2,
              "schedule": {"name": "cosine"}},
    "validation": {"every": 5, "groups": 1, "two_category_images": 0, "pictures": 0},
}


def tiny_config(steps: int) -> Config:
    return config_from_dict({**TINY, "train": {**TINY["train"], "steps": steps}}, "tiny")


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a forked process; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
        work()
        status = 0
    finally:
        os._exit(status)


def train(config: Config, out: Path) -> None:
    """What the train command does, with --resume auto."""
    torch.set_num_threads(1)
    runs.train_run(config, out, torch.device("cpu"), find_resume("auto", out))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_write(number: int) -> None:
    """From now on, the `number`-th checkpoint of this process is its death, half of the file written."""
    whole, count = torch.save, [0]

    def save(state: dict, file) -> None:
        whole(state, file)
        count[0] += 1
        if count[0] == number:
            file.truncate(file.tell() // 2)
            file.flush()
            die()

    torch.save = save


def die_before_rename(number: int) -> None:
    """From now on, the `number`-th checkpoint of this process is its death, the file whole but not yet renamed."""
    rename, count = os.replace, [0]

    def replace(source, target) -> None:
        count[0] += Path(target).suffix == ".pt"  # not the log's renames
        if count[0] == number:
            die()
        rename(source, target)

    os.replace = replace


def attempt(config: Config, out: Path, kind: str, number: int, delay: float) -> tuple[str, str]:
    """One process that is killed, at its `number`-th write or after `delay` seconds; (when, what became of it)."""
    if kind == KINDS[2]:
        child = in_child(lambda: (die_in_write(number), train(config, out)))
    elif kind == KINDS[3]:
        child = in_child(lambda: (die_before_rename(number), train(config, out)))
    else:
        child = in_child(lambda: train(config, out))
        time.sleep(delay)
        os.kill(child, signal.SIGTERM if kind == KINDS[0] else signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    when = f"write {number}" if "in a" in kind or "before" in kind else f"{delay:.2f} s"
    if os.WIFSIGNALED(status):
        return when, f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    if os.WEXITSTATUS(status):
        return when, f"FAILED with status {os.WEXITSTATUS(status)}"
    return when, "ended before the signal" if has_ended(out) else "saved and stopped"


def has_ended(out: Path) -> bool:
    """Whether the run reached its end: the summary is the last file it writes."""
    summary = out / "summary.json"
    return summary.exists() and json.loads(summary.read_text())["finished"]


def differences(one: Path, other: Path) -> list[str]:
    """What differs between the ends of two runs; empty if nothing does."""
    found = []
    for name in ("last.pt", "best.pt"):
        files = (folder / "checkpoints" / name for folder in (one, other))
        found += [f"{name}: {k}" for k in _different(*(torch.load(f, weights_only=True) for f in files))]
    rows, others = log_rows(one), log_rows(other)
    if rows != others:
        found.append(f"log.jsonl: steps {[r['step'] for r in others]}, wanted {[r['step'] for r in rows]}")
    return found


def log_rows(out: Path) -> list[dict]:
    """The rows of a log without the figures that no two runs share."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIME_FIELDS} for row in rows]


def _different(one, other, name: str = "") -> list[str]:
    if isinstance(one, torch.Tensor):
        return [] if isinstance(other, torch.Tensor) and torch.equal(one, other) else [name]
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return [f"{name} (keys)"]
        return [d for k in one for d in _different(one[k], other[k], f"{name}.{k}".lstrip("."))]
    if isinstance(one, (list, tuple)):
        pairs = zip(one, other) if len(one) == len(other) else [(0, 1)]
        return [d for i, (a, b) in enumerate(pairs) for d in _different(a, b, f"{name}[{i}]")]
    return [] if one == other else [name]


def finish(config: Config, out: Path) -> None:
    _, status = os.waitpid(in_child(lambda: train(config, out)), 0)
    if status:
        raise RuntimeError(f"{out}: the run could not be finished (wait status {status})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kill points (default 50)")
    parser.add_argument("--steps", type=int, default=12, help="steps of the run (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="of the kill points (default 0)")
    args = parser.parse_args()
    rng, config = random.Random(args.seed), tiny_config(args.steps)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        begin = time.monotonic()
        finish(config, root / "undisturbed")
        duration = time.monotonic() - begin
        rows = len(log_rows(root / "undisturbed"))
        print(f"undisturbed run: {args.steps} steps in {duration:.1f} s, {rows} log rows")
        print(f"{'#':>3}  {'run':>3}  {'kind':<26}  {'when':<8}  what became of it", flush=True)
        kills, run, wrong, killed = 0, 0, 0, 0
        while kills < args.kills:
            run += 1
            out = root / f"run_{run}"
            for earlier in range(min(rng.randint(1, 3), args.kills - kills)):
                kind, delay = KINDS[kills % len(KINDS)], rng.uniform(0, duration)
                when, outcome = attempt(config, out, kind, rng.randint(1, 3), delay)
                counts = not has_ended(out)
                kills += counts
                killed += counts and outcome == "killed by SIGKILL"
                wrong += outcome.startswith("FAILED")
                print(f"{kills if counts else '-':>3}  {run:>3}  {kind:<26}  {when:<8}  {outcome}", flush=True)
                if not counts:
                    duration = duration if earlier else min(duration, delay)  # the machine has become faster
                    break
            finish(config, out)
            found = differences(root / "undisturbed", out)
            wrong += bool(found)
            verdict = f"DIFFERS: {'; '.join(found[:5])}" if found else "bit-identical"
            print(f"          run {run}: {verdict}", flush=True)
    print(f"{kills} kill points ({killed} died by SIGKILL) in {run} runs: "
          f"{'every run ended bit-identical' if not wrong else f'{wrong} WENT WRONG'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
