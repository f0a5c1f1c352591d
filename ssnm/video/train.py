"""A training run of one stage from a config to a folder: builds, trains, validates, writes. For the train command.

Run folder: config.yaml (resolved), environment.json, log.jsonl (a row per log and validation), checkpoints/last.pt,
checkpoints/best.pt (best J on held-out objects), pictures/step_*.png, tensorboard/ if installed, summary.json.
"""

from __future__ import annotations

import copy
import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

from ..config.loading import config_to_dict, config_to_yaml, differences
from ..data.bad_images import BadImageLog
from ..engine.checkpoint import load_model_file, load_training, save_training
from ..engine.distributed import Processes, wrap
from ..engine.logs import RunLog, SilentLog
from ..engine.loop import NonFiniteLoss, TrainState, make_ema, make_scaler, train
from ..engine.runs import loop_options, told
from ..engine.runtime import environment, make_current, precision_note, seed_everything, set_determinism
from ..errors import ConfigError, MissingFileError
from ..nn.backbones import count_parameters
from . import build
from .config import Config, config_from_dict
from .data import Pool
from .files import init_from
from .records import VideoBatch
from .validation import Validator, held_out_videos


@dataclass(frozen=True)
class RunResult:
    """finished: the last step was reached; step: where it stands; scores: of the last validation; compared: J of the
    same videos by the first mask copied and with each modulator switched off."""

    finished: bool
    step: int
    scores: dict[str, float]
    compared: dict[str, float] = field(default_factory=dict)


def train_run(
    config: Config,
    out: Path,
    device: torch.device,
    resume: Path | None = None,
    start_from: Path | None = None,
    say: Callable[[str], None] = print,
    processes: Processes = Processes(),
) -> RunResult:
    """Train `config` into the folder `out`; see the module docstring for what it holds afterwards.

    Of several processes the first one validates, writes and speaks.

    Raises:
        TrainingError: a loss is not a number; the message names the files of the batch.
    """
    say = say if processes.is_first else lambda line: None
    seed_everything(config.train.seed)
    set_determinism(config.train.deterministic)
    make_current(device)
    if note := precision_note(config.train.precision, device):
        say(note)
    training, held_out = build.build_pools(config.data)
    model = build.build_model(config.model, "none" if resume or start_from else build.weights_source(config))
    if start_from is not None:
        say(init_from(model, processes.from_first(lambda: load_model_file(start_from)), start_from))
    state = _build_state(config, model, device)
    if resume is not None:
        say(_resume(state, config, processes.from_first(lambda: load_training(resume)), resume))
    if processes.world > 1:
        if not processes.is_first:  # its own dropout; the first one draws, and resumes, as a run of one process does
            seed_everything(config.train.seed + state.step, processes.rank)
        state.parallel = wrap(state.model, processes, untrained_parameters(state.model, config))
    with closing(RunLog(out, state.step, config.train.steps) if processes.is_first else SilentLog()) as log:
        log.write_once("config.yaml", config_to_yaml(config))
        log.write_once("environment.json", json.dumps(environment(device), indent=2))
        say(_describe(training, held_out))
        listed = out / "bad_images.jsonl" if processes.is_first else None
        bad = BadImageLog(config.data.max_bad_images, listed, say, processes.gather)
        validator = _validator(config, held_out, device)
        try:
            finished = _loop(config, state, training, validator, bad, log, out, device, processes)
        finally:
            if bad.summary():
                say(bad.summary())
        compared = validator.compare(state.averaged().eval()) if finished and processes.is_first else {}
        if compared:
            log.row({"step": state.step, **{f"val/{k}": v for k, v in compared.items()}})
    result = RunResult(finished, state.step, state.scores, compared)
    log.write("summary.json", json.dumps(asdict(result), indent=2))
    processes.wait()
    return result


def _build_state(config: Config, model: nn.Module, device: torch.device) -> TrainState:
    """Model on its device, optimiser, schedule and average, as the config wants them."""
    if config.train.sync_batch_norm:
        raise ConfigError("train.sync_batch_norm is not for osmn: its one batch norm sees one map per sample, and "
                          "the authors trained on one device; set it to false")  # fmt: skip
    model.to(device, memory_format=torch.channels_last if config.train.channels_last else torch.contiguous_format)
    return TrainState(
        model,
        build.build_optimizer(model, config.train),
        build.build_schedule(config.train),
        ema=make_ema(model, config.train.ema),
        scaler=make_scaler(config.train.precision, device),
    )


def _validator(config: Config, held_out: Pool, device: torch.device) -> Validator:
    v = config.validation
    return Validator(*held_out_videos(held_out.tracks, v.videos, v.frames, v.images), build.settings_of(config), device)


def untrained_parameters(model: nn.Module, config: Config) -> list[str]:
    """Names of the trainable parameters that the losses give no gradient, found by trying a copy."""
    probe = copy.deepcopy(model).eval()
    device, side = next(probe.parameters()).device, config.guides.side
    batch = VideoBatch(
        images=torch.linspace(0, 1, 3 * 64 * 64, device=device).view(1, 3, 64, 64),
        spatial_guides=torch.ones(1, 64, 64, device=device),
        visual_guides=torch.linspace(0, 1, 3 * side * side, device=device).view(1, 3, side, side),
        visual_masks=torch.ones(1, side, side, device=device),
        masks=torch.eye(64, device=device)[None],
        valid=torch.ones(1, 64, 64, dtype=torch.bool, device=device),
    )
    build.build_criterion(config)(forward_of(probe)(batch), batch)["total"].backward()
    return [name for name, p in probe.named_parameters() if p.requires_grad and p.grad is None]


def forward_of(network: nn.Module) -> Callable[[VideoBatch], torch.Tensor]:
    """What the loop calls: a batch -> logits (B, H, W)."""
    return lambda batch: network(batch.images, batch.spatial_guides, batch.visual_guides, batch.visual_masks)


def dry_run(
    config: Config, device: torch.device, out: Path, resume: Path | None = None, start_from: Path | None = None
) -> list[str]:
    """Build data and model without training or downloading: what `train_run` would do, one line each.

    Raises:
        MissingFileError: the initial weights, `resume` or `start_from` are a file that is not there.
        CheckpointError: `resume` or `start_from` is no checkpoint, or of another model.
    """
    weights = build.weights_source(config)
    if weights not in ("pretrained", "none") and not Path(weights).is_file():
        raise MissingFileError(f"model: no file of weights {weights}; give pretrained, none or a file")
    training, held_out = build.build_pools(config.data)
    model = build.build_model(config.model, "none")
    build.build_loader(config, training, 0)
    validator = _validator(config, held_out, device)
    start = [init_from(model, load_model_file(start_from), start_from)] if start_from else []
    if resume is not None:
        load_training(resume)
    sizes = ", ".join(f"{width}x{height}" for width, height in config.data.sizes)
    return [
        *start,
        _describe(training, held_out),
        f"model: {config.model.name}, {count_parameters(model):,} trainable parameters",
        f"training: {config.train.steps} steps of {config.train.batch} samples of {sizes} on {device}",
        f"validation: {len(validator.videos)} videos, {len(validator.images)} images",
        f"run folder: {out}, " + (f"going on from {resume}" if resume else "a new run"),
        "dry run: nothing was written",
    ]


def final_report(result: RunResult, out: Path) -> list[str]:
    """What a person wants to know at the end, one line each."""
    scores = "  ".join(f"{name} {value:.1f}" for name, value in result.scores.items())
    lines = [f"done: step {result.step}; held-out objects  {scores}" if scores else f"done: step {result.step}"]
    if result.compared:
        ours = result.scores.get("J", 0.0)
        lines += [f"the same videos, {name}: J {value:.1f} ({value - ours:+.1f})"
                  for name, value in result.compared.items()]  # fmt: skip
    picture = out / "pictures" / f"step_{result.step:06d}.png"
    lines += [f"picture: {picture}"] if picture.is_file() else []
    best = out / "checkpoints" / "best.pt"
    return [*lines, f"model: {best if best.is_file() else best.with_name('last.pt')}"]


def _loop(config, state, training, validator, bad, log, out, device, processes) -> bool:
    checkpoints = out / "checkpoints"

    def snapshot() -> dict[str, Any]:
        inference = build.settings_of(config).to_dict()
        return {"method": config.method, "config": config_to_dict(config), "inference": inference, **state.state_dict()}

    def evaluate(state: TrainState) -> None:
        scores = validator(state.averaged().eval(), out / "pictures" / f"step_{state.step:06d}.png")
        if not scores:
            return
        log.row({"step": state.step, **{f"val/{k}": v for k, v in scores.items()}})
        state.scores = dict(scores)
        if scores["J"] > state.best.get("J", -1.0):
            state.best = {"step": state.step, **scores}
            save_training(checkpoints / "best.pt", snapshot())

    state.model.train()
    network = state.parallel or state.model
    loader = build.build_loader(config, training, state.step, processes.rank, processes.world, device)
    try:
        return train(
            state,
            (batch.to(device) for batch in bad.watch(loader)),
            forward_of(torch.compile(network) if config.train.compile else network),
            build.build_criterion(config, processes),
            loop_options(config.train, config.validation.every),
            on_log=log.row,
            evaluate=evaluate,
            save=lambda state: save_training(checkpoints / "last.pt", snapshot()),
            processes=processes,
        )
    except NonFiniteLoss as error:
        raise told(error) from error


def _resume(state: TrainState, config: Config, saved: dict, path: Path) -> str:
    if saved["method"] != config.method:
        raise ConfigError(f"{path} is of method {saved['method']}, this config of {config.method}")
    before = config_from_dict(saved["config"], str(path))  # with defaults for keys that are younger than the checkpoint
    if before.model != config.model:
        raise ConfigError(f"{path} holds another model than this config; use the config.yaml of its run folder")
    state.load_state_dict(saved)
    changed = differences(config_to_dict(before), config_to_dict(config))
    return f"resumed from {path} at step {state.step}" + (f"; changed since: {', '.join(changed)}" if changed else "")


def _describe(training: Pool, held_out: Pool) -> str:
    counts = [(len(pool.tracks), len({track.video for track in pool.tracks})) for pool in (training, held_out)]
    return (f"data: {counts[0][0]} objects of {counts[0][1]} videos or images for training ({len(training.samples)} "
            f"samples), {counts[1][0]} of {counts[1][1]} held out")  # fmt: skip
