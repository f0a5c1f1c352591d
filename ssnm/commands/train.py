"""Train a model from a YAML config.

Interrupting with Ctrl-C (or SIGTERM) finishes the step, saves, and says how to go on. Several devices: torchrun
--nproc_per_node=K train.py CONFIG ... (docs/distributed.md). Relative paths in a config are looked up here,
then under the environment variable SSNM_DATA, or ./data where that is not set; a config's data.root comes first.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from ..config.loading import config_to_yaml
from ..errors import ConfigError
from ..files.places import find
from ..methods import load_config, part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=find, metavar="CONFIG", help="YAML file, for instance configs/quickstart.yaml")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the config, for instance train.lr=1e-5; may be repeated",
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/<config name>)")
    parser.add_argument("--resume", metavar="auto|FILE", help="go on from a checkpoint; auto: the run folder's last")
    parser.add_argument("--init-from", type=find, metavar="FILE", help="start from the weights of another model")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: an accelerator where there is one)")
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same seed gives the same run on CUDA too (train.deterministic=true)",
    )
    parser.add_argument("--dry-run", action="store_true", help="check config and data, say what would be done, stop")


def run(args: argparse.Namespace) -> int:
    overrides = [o for group in args.overrides for o in group]
    config = load_config(args.config, [*overrides, *(["train.deterministic=true"] if args.deterministic else [])])
    out = args.out or Path("runs") / args.config.stem
    from ..engine.distributed import join, leave
    from ..engine.runs import find_resume
    from ..engine.runtime import pick_device

    runs = part(config.method, "train")
    if args.resume and args.init_from:
        raise ConfigError("--resume goes on with a run, --init-from starts a new one: give one of them")
    if args.dry_run:
        resume = find_resume(args.resume, out)
        lines = runs.dry_run(config, pick_device(args.device), out, resume, args.init_from)
        print("\n".join([config_to_yaml(config), *lines]))
        return 0
    processes, name = join(args.device)
    resume, say = processes.from_first(lambda: find_resume(args.resume, out)), partial(print, flush=True)
    try:
        result = runs.train_run(config, out, pick_device(name), resume, args.init_from, say, processes)
    except KeyboardInterrupt:  # outside the steps, or the second one
        if processes.is_first and find_resume("auto", out):
            print(f"go on from the last checkpoint with:\n{resume_command(args, out)}", file=sys.stderr)
        raise
    leave(processes)
    if not processes.is_first:
        return 0 if result.finished else 130
    if not result.finished:
        print(f"stopped at step {result.step}; go on with:\n{resume_command(args, out)}", flush=True)
        return 130
    for line in runs.final_report(result, out):
        print(line)
    return 0


def resume_command(args: argparse.Namespace, out: Path) -> str:
    """The whole command that goes on with the run in `out`, quoted for a shell; --init-from has done its part."""
    command = [*_program(), str(args.config)]
    for group in args.overrides:
        command += ["--set", *group]
    if args.device:
        command += ["--device", args.device]
    if args.deterministic:
        command += ["--deterministic"]
    return shlex.join([*command, "--resume", "auto", "--out", str(out)])


def _program() -> list[str]:
    """How this process was started: from a checkout or an installed wheel, by hand or by torchrun."""
    in_checkout = Path(sys.argv[0]).name == "train.py"
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ["python", sys.argv[0]] if in_checkout else ["ssnm", "train"]
    program = [sys.argv[0]] if in_checkout else ["--no-python", "ssnm", "train"]
    machines = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    several = [f"--nnodes={machines}"] if machines > 1 else []  # torchrun does not hand on where they met
    return ["torchrun", *several, f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']}", *program]
