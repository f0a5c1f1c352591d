"""What the training runs of all methods do alike. A method builds its objects, hands them over as a `Task`, and gets a
run folder: config.yaml (resolved), environment.json, log.jsonl (a row per log and validation), bad_images.jsonl,
checkpoints/last.pt, checkpoints/best.pt, pictures/step_*.png, tensorboard/ if installed, summary.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, TrainingError
from ..files.places import find
from .checkpoint import load_training, save_training
from .distributed import Processes, wrap
from .logs import RunLog, SilentLog
from .loop import LoopOptions, NonFiniteLoss, TrainState, make_ema, make_scaler, train
from .runtime import environment, make_current, precision_note, seed_everything, set_determinism
from .schedule import Schedule


@dataclass(frozen=True)
class Task:
    """What a method hands to the steps of a run.

    header: `method`, `config` and `inference` of the checkpoints. batches: of this process, from the state's step on.
    forward: network -> what the loop calls with a batch. validate: (model in eval mode, path of a picture) -> scores,
    none where nothing is held out. choice: which of these scores picks best.pt, the first that there is.
    """

    header: dict[str, Any]
    batches: Iterable[Any]
    forward: Callable[[nn.Module], Callable[[Any], Any]]
    criterion: Callable[[Any, Any], dict[str, torch.Tensor]]
    validate: Callable[[nn.Module, Path], dict[str, float]]
    choice: tuple[str, ...] = ("J",)


@dataclass(frozen=True)
class RunResult:
    """finished: the last step was reached; step: where it stands; scores: of the last validation; further: scores by
    name of what is looked at once, at the end."""

    finished: bool
    step: int
    scores: dict[str, float]
    further: dict[str, dict[str, float]] = field(default_factory=dict)


def find_resume(request: str | None, out: Path) -> Path | None:
    """The checkpoint that `--resume` asks for: a file, or with "auto" the run folder's last one if there is one.

    Raises:
        ConfigError: a new run into a folder that already holds one.
    """
    last = out / "checkpoints" / "last.pt"
    if request == "auto":
        return last if last.exists() else None
    if request is None and last.exists():
        raise ConfigError(f"{out} already holds a run; go on with it (--resume auto) or choose another --out")
    return find(request) if request else None


def loop_options(train: Any, evaluate_every: int) -> LoopOptions:
    """Options of the loop from a config's `train` section (the fields of the shared RunConfig)."""
    return LoopOptions(
        steps=train.steps,
        log_every=train.log_every,
        evaluate_every=evaluate_every,
        checkpoint_minutes=train.checkpoint_minutes,
        checkpoint_every=train.checkpoint_every,
        accumulate=train.accumulate,
        clip_norm=train.clip_norm,
        precision=train.precision,
    )


def begin(train: Any, device: torch.device, say: Callable[[str], None], processes: Processes) -> Callable[[str], None]:
    """Seeds, determinism and device of a run, before anything is built; what to speak with from here on."""
    say = say if processes.is_first else lambda line: None
    seed_everything(train.seed)
    set_determinism(train.deterministic)
    make_current(device)
    if note := precision_note(train.precision, device):
        say(note)
    return say


def adam(groups: list[dict], train: Any, model: nn.Module) -> torch.optim.Optimizer:
    """Adam (AdamW where weight decay is decoupled) over groups of parameters with a rate `lr` each, which the schedule
    scales. On CUDA the fused kernel: the same update in one launch."""
    decoupled = train.weight_decay and train.weight_decay_type == "decoupled"
    cls = torch.optim.AdamW if decoupled else torch.optim.Adam
    groups = [{"weight_decay": train.weight_decay, **group, "base_lr": group["lr"]} for group in groups]
    return cls(groups, lr=train.lr, betas=train.betas, fused=next(model.parameters()).is_cuda)


def build_schedule(train: Any) -> Schedule:
    """The learning rate over the steps, as the section `train.schedule` says."""
    s = train.schedule
    return Schedule(s.name, train.steps, s.every, s.warmup, s.reset_every)


def build_state(
    model: nn.Module, train: Any, device: torch.device, optimizer_of: Callable[[nn.Module, Any], torch.optim.Optimizer]
) -> TrainState:
    """Model on its device, optimiser, schedule and average, as a config's `train` section wants them."""
    model.to(device, memory_format=torch.channels_last if train.channels_last else torch.contiguous_format)
    return TrainState(
        model,
        optimizer_of(model, train),
        build_schedule(train),
        ema=make_ema(model, train.ema),
        scaler=make_scaler(train.precision, device),
    )


def parallelise(
    state: TrainState, train: Any, processes: Processes, untrained_of: Callable[[nn.Module], list[str]]
) -> None:
    """Of several processes: gradients are shared, and each draws its own dropout (the first one draws, and resumes, as
    a run of one process does). untrained_of: names of the parameters that no loss gives a gradient."""
    if processes.world == 1:
        return
    if not processes.is_first:
        seed_everything(train.seed + state.step, processes.rank)
    state.parallel = wrap(state.model, processes, untrained_of(state.model))


@contextmanager
def run_folder(
    out: Path, config_yaml: str, state: TrainState, steps: int, device: torch.device, processes: Processes
) -> Iterator[RunLog | SilentLog]:
    """The log of the run folder, which of several processes the first one writes."""
    with closing(RunLog(out, state.step, steps) if processes.is_first else SilentLog()) as log:
        log.write_once("config.yaml", config_yaml)
        log.write_once("environment.json", json.dumps(environment(device), indent=2))
        yield log


def run_steps(
    state: TrainState, task: Task, train_config: Any, evaluate_every: int, out: Path, log: RunLog | SilentLog,
    processes: Processes = Processes(),
) -> bool:
    """Train to the last step, with validation and checkpoints on the way. False: a signal asked to stop.

    Raises:
        TrainingError: a loss is not a number; the message names the files of the batch.
    """  # fmt: skip
    checkpoints = out / "checkpoints"

    def save(name: str) -> None:
        save_training(checkpoints / name, {**task.header, **state.state_dict()})

    def evaluate(state: TrainState) -> None:
        scores = task.validate(state.averaged().eval(), picture_path(out, f"step_{state.step:06d}"))
        if not scores:
            return
        log.row({"step": state.step, **{f"val/{k}": v for k, v in scores.items()}})
        state.scores = dict(scores)
        chosen_by = next(name for name in task.choice if name in scores)
        if scores[chosen_by] > state.best.get(chosen_by, float("-inf")):
            state.best = {"step": state.step, **scores}
            save("best.pt")

    state.model.train()
    network = state.parallel or state.model
    try:
        return train(
            state,
            task.batches,
            task.forward(torch.compile(network) if train_config.compile else network),
            task.criterion,
            loop_options(train_config, evaluate_every),
            on_log=log.row,
            evaluate=evaluate,
            save=lambda state: save("last.pt"),
            processes=processes,
        )
    except NonFiniteLoss as error:
        raise _told(error) from error


def end(result: RunResult, log: RunLog | SilentLog, processes: Processes) -> RunResult:
    """Write the summary; wait for the other processes."""
    log.write("summary.json", json.dumps(asdict(result), indent=2))
    processes.wait()
    return result


def picture_path(out: Path, name: str) -> Path:
    """Where a picture of the run folder lies; blanks of a name become underscores."""
    return out / "pictures" / f"{name.replace(' ', '_')}.png"


def last_lines(result: RunResult, out: Path) -> list[str]:
    """What a person wants to know at the end: pictures and model, one line each."""
    pictures = [picture_path(out, name) for name in (f"step_{result.step:06d}", *result.further)]
    best = out / "checkpoints" / "best.pt"
    model = best if best.is_file() else best.with_name("last.pt")
    return [*(f"pictures: {p}" for p in pictures if p.is_file()), f"model: {model}"]


def dry_run_lines(out: Path, resume: Path | None) -> list[str]:
    """The end of what a dry run says of any method, after a look into the checkpoint to go on from."""
    if resume is not None:
        load_training(resume)
    return [
        f"run folder: {out}, " + (f"going on from {resume}" if resume else "a new run"),
        "dry run: nothing was written",
    ]


def _told(error: NonFiniteLoss) -> TrainingError:
    """The error for the person at the keyboard: where it was, what the losses were, which images led to it."""
    losses = ", ".join(f"{name} {value:g}" for name, value in error.losses.items())
    if not error.here:
        return TrainingError(f"step {error.step}: the loss of another process is not finite ({losses}); see there")
    names = ", ".join(name for group in error.batch[0].names for name in group)
    return TrainingError(
        f"step {error.step}: the loss is not finite ({losses}) on the images {names}; nothing was saved after it: go "
        "on from the last checkpoint (--resume auto) with a lower train.lr or with train.clip_norm"
    )
