"""A training run of one stage from a config to a run folder (see ssnm.engine.runs), for OSMN."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Callable

import torch
from torch import nn

from ..config.loading import check_resumable, config_to_dict, config_to_yaml
from ..data.bad_images import BadImageLog
from ..engine import runs
from ..engine.checkpoint import load_model_file, load_training
from ..engine.distributed import Processes
from ..errors import ConfigError, MissingFileError
from ..naming import counted
from ..nn.backbones import count_parameters
from . import build
from .config import Config, config_from_dict
from .data import Pool
from .files import init_from
from .records import VideoBatch
from .validation import Validator, held_out_videos


def train_run(
    config: Config,
    out: Path,
    device: torch.device,
    resume: Path | None = None,
    start_from: Path | None = None,
    say: Callable[[str], None] = print,
    processes: Processes = Processes(),
) -> runs.RunResult:
    """Train `config` into the folder `out`. `further` of the result: J of the held-out videos by the first mask copied
    and with each modulator switched off.

    Of several processes the first one validates, writes and speaks.

    Raises:
        TrainingError: a loss is not a number; the message names the files of the batch.
    """
    say = runs.begin(config.train, device, say, processes)
    if config.train.sync_batch_norm:
        raise ConfigError("train.sync_batch_norm is not for osmn: its one batch norm sees one map per sample, and "
                          "the authors trained on one device; set it to false")  # fmt: skip
    training, held_out = build.build_pools(config.data)
    model = build.build_model(config.model, "none" if resume or start_from else build.weights_source(config))
    if start_from is not None:
        say(init_from(model, processes.from_first(lambda: load_model_file(start_from)), start_from))
    state = runs.build_state(model, config.train, device, build.build_optimizer)
    if resume is not None:
        saved = processes.from_first(lambda: load_training(resume))
        say(check_resumable(saved, config, config_from_dict, resume))
        state.load_state_dict(saved)
    runs.parallelise(state, config.train, processes, lambda network: untrained_parameters(network, config))
    with runs.run_folder(out, config_to_yaml(config), state, config.train.steps, device, processes) as log:
        say(_describe(training, held_out))
        listed = out / "bad_images.jsonl" if processes.is_first else None
        bad = BadImageLog(config.data.max_bad_images, listed, say, processes.gather)
        validator = _validator(config, held_out, device)
        loader = build.build_loader(config, training, state.step, processes.rank, processes.world, device)
        task = runs.Task(
            header={"method": config.method, "config": config_to_dict(config),
                    "inference": build.settings_of(config).to_dict()},
            batches=(batch.to(device) for batch in bad.watch(loader)),
            forward=forward_of,
            criterion=build.build_criterion(config, processes),
            validate=validator,
        )  # fmt: skip
        try:
            finished = runs.run_steps(state, task, config.train, config.validation.every, out, log, processes)
        finally:
            if bad.summary():
                say(bad.summary())
        compared = validator.compare(state.averaged().eval()) if finished and processes.is_first else {}
        if compared:
            log.row({"step": state.step, **{f"val/{k}": v for k, v in compared.items()}})
        further = {name: {"J": value} for name, value in compared.items()}
        return runs.end(runs.RunResult(finished, state.step, state.scores, further), log, processes)


def _validator(config: Config, held_out: Pool, device: torch.device) -> Validator:
    v = config.validation
    held = held_out_videos(held_out.tracks, v.videos, v.frames, v.images, v.passes)
    return Validator(*held, build.settings_of(config), device)


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
    sizes = ", ".join(f"{width}x{height}" for width, height in config.data.sizes)
    return [
        *start,
        _describe(training, held_out),
        f"model: {config.model.name}, {count_parameters(model):,} trainable parameters",
        f"training: {counted(config.train.steps, 'step')} of {counted(config.train.batch, 'sample')} of {sizes} "
        f"on {device}",
        f"validation: {counted(len(validator.videos), 'video')}, {counted(len(validator.images), 'image')}",
        *runs.dry_run_lines(out, resume),
    ]


def final_report(result: runs.RunResult, out: Path) -> list[str]:
    """What a person wants to know at the end, one line each."""
    scores = "  ".join(f"{name} {value:.1f}" for name, value in result.scores.items())
    lines = [f"done: step {result.step}; held-out objects  {scores}" if scores else f"done: step {result.step}"]
    ours = result.scores.get("J", 0.0)
    lines += [f"the same videos, {name}: J {values['J']:.1f} ({values['J'] - ours:+.1f})"
              for name, values in result.further.items()]  # fmt: skip
    return [*lines, *runs.last_lines(result, out)]


def _describe(training: Pool, held_out: Pool) -> str:
    counts = [(len(pool.tracks), len({track.video for track in pool.tracks})) for pool in (training, held_out)]
    return (f"data: {counted(counts[0][0], 'object')} of "
            f"{counted(counts[0][1], 'video or image', 'videos or images')} for training "
            f"({counted(len(training.samples), 'sample')}), {counts[1][0]} of {counts[1][1]} held out")  # fmt: skip
