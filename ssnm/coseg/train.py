"""A training run from a config to a folder: builds, trains, validates, writes. Called by the train command.

Run folder: config.yaml (resolved), environment.json, log.jsonl (a row per log and validation), checkpoints/last.pt,
checkpoints/best.pt (best J on held-out training groups), pictures/step_*.png, tensorboard/ if installed, summary.json.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable

import torch

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
from .config import Config, ModelConfig, config_from_dict
from .files import inference_of, init_from
from .pool import ImagePool


@dataclass(frozen=True)
class RunResult:
    """finished: the last step was reached; step: where it stands; scores: of the last validation; further: scores
    on the sources of `evaluate`, by name."""

    finished: bool
    step: int
    scores: dict[str, float]
    further: dict[str, dict[str, float]] = field(default_factory=dict)


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
) -> RunResult:
    """Train `config` into the folder `out`; see the module docstring for what it holds afterwards.

    `pools` (training and held-out images) and `model` take the place of what data.sources and model of the config
    would build: the way in for data sets and backbones of your own (docs/own_data.md, docs/own_backbone.md).
    Of several processes the first one validates, writes and speaks; further scores are in its result only.

    Raises:
        TrainingError: a loss is not a number; the message names the files of the batch.
    """
    say = say if processes.is_first else lambda line: None
    seed_everything(config.train.seed)
    set_determinism(config.train.deterministic)
    make_current(device)
    if note := precision_note(config.train.precision, device):
        say(note)
    training, held_out = pools or build.build_pools(config.data)
    if model is None:
        weights = "none" if resume or start_from else build.backbone_weights(config)
        model = build.build_model(config.model, len(training.labels), weights)
    if start_from is not None:
        source = processes.from_first(lambda: load_model_file(start_from))
        say(init_from(model, source, training.labels, str(start_from)))
    state = _build_state(config, model, device, processes)
    if resume is not None:
        saved = processes.from_first(lambda: load_training(resume))
        say(_resume(state, config, training.labels, saved, resume))
    if processes.world > 1:
        untrained = build.untrained_parameters(state.model, config, len(training.labels))
        state.parallel = wrap(state.model, processes, untrained)
    with closing(RunLog(out, state.step, config.train.steps) if processes.is_first else SilentLog()) as log:
        log.write_once("config.yaml", config_to_yaml(config))
        log.write_once("environment.json", json.dumps(environment(device), indent=2))
        for line in _describe(config, training, held_out):
            say(line)
        listed = out / "bad_images.jsonl" if processes.is_first else None
        bad = BadImageLog(config.data.max_bad_images, listed, say, processes.gather)
        validator = build.build_further(config, build.build_validator(config, held_out, device, bad.see))
        try:
            finished = _loop(config, state, training, validator, bad, log, out, device, processes)
            further = _evaluate_further(config, state, out, device, bad) if finished and processes.is_first else {}
        finally:
            if bad.summary():
                say(bad.summary())
        for name, scores in further.items():
            log.row({"step": state.step, **{f"{name}/{k}": v for k, v in scores.items()}})
    result = RunResult(finished, state.step, state.scores, further)
    log.write("summary.json", json.dumps(asdict(result), indent=2))
    processes.wait()
    return result


def _build_state(config: Config, model: torch.nn.Module, device: torch.device, processes: Processes) -> TrainState:
    """Model on its device, optimiser, schedule and average, as the config wants them."""
    if config.train.sync_batch_norm:
        if device.type != "cuda":
            raise ConfigError(f"train.sync_batch_norm works on CUDA devices only, got {device}; set it to false")
        model = build.synchronise_batch_norm(model) if processes.world > 1 else model
    model.to(device, memory_format=torch.channels_last if config.train.channels_last else torch.contiguous_format)
    return TrainState(
        model,
        build.build_optimizer(model, config.train),
        build.build_schedule(config.train),
        ema=make_ema(model, config.train.ema),
        scaler=make_scaler(config.train.precision, device),
    )


def _picture(out: Path, name: str) -> Path:
    """Where the picture of a validation lies; blanks of a source's name become underscores."""
    return out / "pictures" / f"{name.replace(' ', '_')}.png"


def _evaluate_further(
    config: Config, state: TrainState, out: Path, device: torch.device, bad: BadImageLog
) -> dict[str, dict[str, float]]:
    """Held-out groups of the sources named under `evaluate`, each with a picture."""
    scores = {}
    for source in config.evaluate.sources:
        pool = ImagePool([build.build_source(source, config.data)])
        validator = build.build_validator(config, pool, device, bad.see)
        scores[source.name] = validator(state.averaged(), _picture(out, source.name))
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
    if resume is not None:
        load_training(resume)
    return [*start,
        *_describe(config, training, held_out),
        f"model: {count_parameters(model):,} trainable parameters, backbone {config.model.backbone.name}",
        f"training: {config.train.steps} steps of {config.train.batch_groups} x {config.data.group_size} images "
        f"on {device}",
        f"validation: {len(validator.ordinary)} held-out groups, {len(validator.contrasts)} two-category images",
        f"run folder: {out}, " + (f"going on from {resume}" if resume else "a new run"),
        "dry run: nothing was written",
    ]


def final_report(result: RunResult, out: Path) -> list[str]:
    """What a person wants to know at the end, one line each."""
    scores = "  ".join(f"{name} {value:.1f}" for name, value in result.scores.items())
    lines = [f"done: step {result.step}; held-out groups  {scores}"]
    for name, values in result.further.items():
        lines.append(f"{name}: " + "  ".join(f"{k} {v:.1f}" for k, v in values.items()))
    pictures = [_picture(out, name) for name in (f"step_{result.step:06d}", *result.further)]
    lines += [f"pictures: {p}" for p in pictures if p.is_file()]
    return [*lines, f"model: {out / 'checkpoints' / 'best.pt'}"]


def _loop(config, state, training, validator, bad, log, out, device, processes) -> bool:
    checkpoints = out / "checkpoints"

    def snapshot() -> dict:
        inference = inference_of(config, training.labels).to_dict()
        return {"method": config.method, "config": config_to_dict(config), "inference": inference, **state.state_dict()}

    def evaluate(state: TrainState) -> None:
        scores = validator(state.averaged(), out / "pictures" / f"step_{state.step:06d}.png")
        log.row({"step": state.step, **{f"val/{k}": v for k, v in scores.items()}})
        state.scores = dict(scores)
        chosen_by = "choice" if "choice" in scores else "J"
        if scores[chosen_by] > state.best.get(chosen_by, float("-inf")):
            state.best = {"step": state.step, **scores}
            save_training(checkpoints / "best.pt", snapshot())

    state.model.train()
    network = state.parallel or state.model
    loader = build.build_loader(config, training, state.step, processes.rank, processes.world, device)
    try:
        return train(
            state,
            (batch.to(device) for batch in bad.watch(loader)),
            build.group_forward(torch.compile(network) if config.train.compile else network, _exchange(config)),
            build.build_criterion(config.loss, processes),
            loop_options(config.train, config.validation.every),
            on_log=log.row,
            evaluate=evaluate,
            save=lambda state: save_training(checkpoints / "last.pt", snapshot()),
            processes=processes,
        )
    except NonFiniteLoss as error:
        raise told(error) from error


def _exchange(config: Config) -> int:
    """How many images of each group are segmented with another group's gamma."""
    return config.loss.exchange_images if getattr(config.loss, "exchange", 0) else 0


def _resume(state: TrainState, config: Config, labels: tuple[str, ...], saved: dict, path: Path) -> str:
    """Go on from what `path` holds; what differs from then, in a line."""
    theirs = saved["inference"]["labels"]
    if tuple(theirs) != tuple(labels):
        raise ConfigError(
            f"{path} was trained on {len(theirs)} categories, this config gives {len(labels)}; to start a new "
            "run from its weights use --init-from"
        )
    before = config_from_dict(saved["config"], str(path))  # with defaults for keys that are younger than the checkpoint
    if before.model != config.model:
        raise ConfigError(f"{path} holds another model than this config; use the config.yaml of its run folder")
    state.load_state_dict(saved)
    changed = differences(config_to_dict(before), config_to_dict(config))
    return f"resumed from {path} at step {state.step}" + (f"; changed since: {', '.join(changed)}" if changed else "")


def _describe(config: Config, training, held_out) -> list[str]:
    sources = ", ".join(f"{s.name} ({len(s.items)} images)" for s in training.sources)
    lines = [
        f"data: {sources}; {len(training.ids)} for training, {len(held_out.ids)} held out; "
        f"{len(training.labels)} categories"
    ]
    spatial = config.model.spatial if isinstance(config.model, ModelConfig) else None
    trained = spatial is not None and spatial.trains_maps and getattr(config.loss, "spa", 0)
    if spatial is not None and spatial.enabled and spatial.maps == "fused" and not trained:
        lines.append("l_spa trains nothing: the fusion layers get no gradient and stay as initialised")
    large = {c for c, ids in training.members.items() if len(ids) >= config.data.group_size}
    if config.data.mix.real and not any(set(pair) <= large for pair in training.pairs):
        lines.append("data.mix.real has no effect: no image shows two categories of which there are enough images")
    return lines
