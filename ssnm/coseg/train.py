"""A training run from a config to a run folder (see ssnm.engine.runs): what the train command calls for SSNM."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import torch

from ..config.loading import check_resumable, config_to_dict, config_to_yaml
from ..data.bad_images import BadImageLog
from ..engine import runs
from ..engine.checkpoint import load_model_file, load_training
from ..engine.distributed import Processes
from ..engine.loop import TrainState
from ..errors import ConfigError, MissingFileError
from ..naming import counted
from ..nn.backbones import count_parameters
from . import build
from .config import Config, ModelConfig, config_from_dict
from .files import inference_of, init_from
from .pool import ImagePool


def train_run(
    config: Config,
    out: Path,
    device: torch.device,
    resume: Path | None = None,
    start_from: Path | None = None,
    say: Callable[[str], None] = print,
    processes: Processes = Processes(),
    pools: tuple[ImagePool, ImagePool] | None = None,
    model: torch.nn.Module | None = None,
) -> runs.RunResult:
    """Train `config` into the folder `out`. `further` of the result: scores on the sources of `evaluate`, by name.

    `pools` (training and held-out images) and `model` take the place of what data.sources and model of the config
    would build: the way in for data sets and backbones of your own (docs/own_data.md, docs/own_backbone.md).
    Of several processes the first one validates, writes and speaks; further scores are in its result only.

    Raises:
        TrainingError: a loss is not a number; the message names the files of the batch.
    """
    say = runs.begin(config.train, device, say, processes)
    training, held_out = pools or build.build_pools(config.data)
    state = _starting_state(config, training, device, resume, start_from, say, processes, model)
    categories = len(training.labels)
    runs.parallelise(state, config.train, processes, lambda net: build.untrained_parameters(net, config, categories))
    with runs.run_folder(out, config_to_yaml(config), state, config.train.steps, device, processes) as log:
        for line in _describe(config, training, held_out):
            say(line)
        listed = out / "bad_images.jsonl" if processes.is_first else None
        bad = BadImageLog(config.data.max_bad_images, listed, say, processes.gather)
        validator = build.build_further(config, build.build_validator(config, held_out, device, bad.see))
        loader = build.build_loader(config, training, state.step, processes.rank, processes.world, device)
        task = runs.Task(
            header={"method": config.method, "config": config_to_dict(config),
                    "inference": inference_of(config, training.labels).to_dict()},
            batches=(batch.to(device) for batch in bad.watch(loader)),
            forward=lambda network: build.group_forward(network, _exchange(config)),
            criterion=build.build_criterion(config.loss, processes),
            validate=validator,
            choice=("choice", "J"),
        )  # fmt: skip
        try:
            finished = runs.run_steps(state, task, config.train, config.validation.every, out, log, processes)
            further = _evaluate_further(config, state, out, device, bad) if finished and processes.is_first else {}
        finally:
            if bad.summary():
                say(bad.summary())
        for name, scores in further.items():
            log.row({"step": state.step, **{f"{name}/{k}": v for k, v in scores.items()}})
        return runs.end(runs.RunResult(finished, state.step, state.scores, further), log, processes)


def _starting_state(
    config: Config, training: ImagePool, device: torch.device, resume: Path | None, start_from: Path | None,
    say: Callable[[str], None], processes: Processes, model: torch.nn.Module | None,
) -> TrainState:
    """Model and optimiser before the first step: fresh, from another model's weights, or as a checkpoint left them."""
    if model is None:
        weights = "none" if resume or start_from else build.backbone_weights(config)
        model = build.build_model(config.model, len(training.labels), weights)
    if start_from is not None:
        source = processes.from_first(lambda: load_model_file(start_from))
        say(init_from(model, source, training.labels, str(start_from)))
    if config.train.sync_batch_norm:
        if device.type != "cuda":
            raise ConfigError(f"train.sync_batch_norm works on CUDA devices only, got {device}; set it to false")
        model = build.synchronise_batch_norm(model) if processes.world > 1 else model
    state = runs.build_state(model, config.train, device, build.build_optimizer)
    if resume is not None:
        saved = processes.from_first(lambda: load_training(resume))
        _check_labels(saved["inference"]["labels"], training.labels, resume)
        say(check_resumable(saved, config, config_from_dict, resume))
        state.load_state_dict(saved)
    return state


def _evaluate_further(
    config: Config, state: TrainState, out: Path, device: torch.device, bad: BadImageLog
) -> dict[str, dict[str, float]]:
    """Held-out groups of the sources named under `evaluate`, each with a picture."""
    scores = {}
    for source in config.evaluate.sources:
        pool = ImagePool([build.build_source(source, config.data)])
        validator = build.build_validator(config, pool, device, bad.see)
        scores[source.name] = validator(state.averaged(), runs.picture_path(out, source.name))
    return scores


def dry_run(
    config: Config, device: torch.device, out: Path, resume: Path | None = None, start_from: Path | None = None
) -> list[str]:
    """Build data and model without training or downloading: what `train_run` would do, one line each.

    Raises:
        MissingFileError: the backbone's weights, `resume` or `start_from` are a file that is not there.
        CheckpointError: `resume` or `start_from` is no checkpoint, or of another model.
    """
    weights = build.backbone_weights(config)
    if weights not in ("pretrained", "none") and not Path(weights).is_file():
        raise MissingFileError(f"model.backbone.weights: no file {weights}; give pretrained, none or a file")
    training, held_out = build.build_pools(config.data)
    model = build.build_model(config.model, len(training.labels), weights="none")
    build.build_loader(config, training, 0)
    validator = build.build_validator(config, held_out, device)
    start = [init_from(model, load_model_file(start_from), training.labels, str(start_from))] if start_from else []
    return [
        *start,
        *_describe(config, training, held_out),
        f"model: {count_parameters(model):,} trainable parameters, backbone {config.model.backbone.name}",
        f"training: {counted(config.train.steps, 'step')} of {config.train.batch_groups} x "
        f"{counted(config.data.group_size, 'image')} on {device}",
        f"validation: {counted(len(validator.ordinary), 'held-out group')}, "
        f"{counted(len(validator.contrasts), 'two-category image')}",
        *runs.dry_run_lines(out, resume),
    ]


def final_report(result: runs.RunResult, out: Path) -> list[str]:
    """What a person wants to know at the end, one line each."""
    scores = "  ".join(f"{name} {value:.1f}" for name, value in result.scores.items())
    lines = [f"done: step {result.step}; held-out groups  {scores}"]
    for name, values in result.further.items():
        lines.append(f"{name}: " + "  ".join(f"{k} {v:.1f}" for k, v in values.items()))
    return [*lines, *runs.last_lines(result, out)]


def _exchange(config: Config) -> int:
    """How many images of each group are segmented with another group's gamma."""
    return config.loss.exchange_images if getattr(config.loss, "exchange", 0) else 0


def _check_labels(theirs: list[str], labels: tuple[str, ...], path: Path) -> None:
    if tuple(theirs) != tuple(labels):
        raise ConfigError(
            f"{path} was trained on {counted(len(theirs), 'category', 'categories')}, this config gives "
            f"{len(labels)}; to start a new run "
            "from its weights use --init-from"
        )


def _describe(config: Config, training, held_out) -> list[str]:
    sources = ", ".join(f"{s.name} ({counted(len(s.items), 'image')})" for s in training.sources)
    lines = [
        f"data: {sources}; {len(training.ids)} for training, {len(held_out.ids)} held out; "
        f"{counted(len(training.labels), 'category', 'categories')}"
    ]
    spatial = config.model.spatial if isinstance(config.model, ModelConfig) else None
    trained = spatial is not None and spatial.trains_maps and getattr(config.loss, "spa", 0)
    if spatial is not None and spatial.enabled and spatial.maps == "fused" and not trained:
        lines.append("l_spa trains nothing: the fusion layers get no gradient and stay as initialised")
    large = {c for c, ids in training.members.items() if len(ids) >= config.data.group_size}
    if config.data.mix.real and not any(set(pair) <= large for pair in training.pairs):
        lines.append("data.mix.real has no effect: no image shows two categories of which there are enough images")
    return lines
