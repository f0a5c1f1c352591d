"""Every key of the config reaches what it names: a value other than the default is visible in what a run builds.

One table. The training loop itself is replaced by one that keeps what it is handed, so that each row costs a
tenth of a second; what the parts then do with their arguments is the business of their own tests.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from ssnm.config.sources import SourceConfig
from ssnm.coseg import build
from ssnm.coseg import train as runs
from ssnm.coseg.config import Config, config_from_dict
from ssnm.coseg.validation import Validator
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.engine import runs as frame
from ssnm.engine.checkpoint import load_training
from ssnm.engine.loop import TrainState
from ssnm.errors import CheckpointError, ConfigError
from ssnm.methods import config_of

BASE = """
model:
  dim: 8
  backbone: {name: mobilenetv2_035, weights: none}
  semantic: {image_dim: 8, group_dim: 4}
data:
  sources: [{type: procedural, num_images: 60}]
  size: 32
  group_size: 3
  holdout: 0.3
  workers: 0
train: {steps: 4, batch_groups: 4, ema: 0.5}
validation: {groups: 2, two_category_images: 2, pictures: 1}
"""


class Kept(Exception):
    """Ends a run where its loop would begin."""


@dataclass
class Run:
    """What a run of a config hands to the training loop, and what it builds on the way."""

    config: Config
    state: TrainState
    forward: Callable
    criterion: Callable
    options: Any
    save: Callable
    loader: Any
    validator: Any
    bad: Any
    folder: Any
    deterministic: bool
    validated: nn.Module  # what the run hands to its validator
    further: list

    @property
    def model(self) -> nn.Module:
        return self.state.model

    @property
    def dataset(self) -> Any:
        return self.loader.dataset

    @property
    def drawer(self) -> Any:
        return self.loader.batch_sampler.drawer

    def rates(self) -> dict[str, float]:
        return {g["name"]: g["lr"] for g in self.state.optimizer.param_groups}

    def terms(self) -> set[str]:
        """The names of the losses of a batch."""
        batch = next(iter(self.loader)).to("cpu")
        return set(self.criterion(self.forward(batch), batch))

    def total(self) -> float:
        batch = next(iter(self.loader)).to("cpu")
        self.model.eval()
        return float(self.criterion(self.forward(batch), batch)["total"])

    def saved(self) -> dict:
        self.save(self.state)
        return load_training(self.folder / "checkpoints" / "last.pt")


def mapping_with(changes: dict[str, Any]) -> dict:
    mapping = yaml.safe_load(BASE)
    for key, value in changes.items():
        node, *parts = mapping, *key.split(".")
        for part in parts[:-1]:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(parts[-1]) if isinstance(node, list) else parts[-1]] = value
    return mapping


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """changes of the base config -> the Run that they give; the same changes give the same Run again."""

    def run_of(**changes: Any) -> Run:
        kept: dict[str, Any] = {}

        def loop(state, batches, forward, criterion, options, on_log, evaluate, save, processes):
            state.best = {"J": 2.0}  # nothing is better: no checkpoint is written
            evaluate(state)
            kept.update(state=state, forward=forward, criterion=criterion, options=options, save=save,
                        deterministic=torch.are_deterministic_algorithms_enabled())  # fmt: skip
            raise Kept

        def keeping(patch: pytest.MonkeyPatch, module: Any, name: str, key: str) -> None:
            make = getattr(module, name)
            patch.setattr(module, name, lambda *a, **k: kept.setdefault(key, make(*a, **k)))

        def validate(self, model: nn.Module, picture: Any = None) -> dict[str, float]:
            kept["validated"], kept["further"] = model, list(self.further)
            return {"J": 1.0}

        folder = tmp_path_factory.mktemp("run")
        if changes.get("data.teacher") == "TEACHER":
            changes = {**changes, "data.teacher": str(folder / "teacher.npz")}
            np.savez(folder / "teacher.npz", names=np.array(["x/y"]), maps=np.zeros((1, 8, 8), np.uint8))
        config = config_of(mapping_with(changes))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frame, "train", loop)
            patch.setattr(frame, "environment", lambda device: {})
            patch.setattr(Validator, "__call__", validate)
            for module, name, key in ((build, "build_loader", "loader"), (build, "build_validator", "validator"),
                                      (runs, "BadImageLog", "bad")):  # fmt: skip
                keeping(patch, module, name, key)
            try:
                with pytest.raises(Kept):
                    runs.train_run(config, folder, torch.device("cpu"), say=lambda line: None)
            finally:
                torch.use_deterministic_algorithms(False)
        return Run(config=config, folder=folder, **kept)

    known: dict[str, Run] = {}

    def remembered(**changes: Any) -> Run:
        if repr(changes) not in known:
            known[repr(changes)] = run_of(**changes)
        return known[repr(changes)]

    return remembered


@dataclass
class Row:
    """A value other than the base's, how it shows, and, where it can be said in one word, as what."""

    value: Any
    shows: Callable[[Run], Any]
    as_: Any = None
    besides: dict[str, Any] = field(default_factory=dict)  # what else the value needs


def weights_file(tmp: str) -> None:
    net = build.Backbone("mobilenetv2_035", "none")
    torch.manual_seed(5)
    state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in net.net.state_dict().items()}
    torch.save(state, tmp)


def first_batch(run: Run) -> Any:
    return next(iter(run.loader)).to("cpu")


def categories_drawn(run: Run) -> list[str]:
    return [d.category for d in run.drawer.draw(np.random.default_rng(0), 40)]


def augmentation(run: Run) -> Any:
    return run.dataset.augmentation


FAVOURED = SEEN_KINDS[2]
M, B, S, SEM = "model.", "model.backbone.", "model.spatial.", "model.semantic."
TABLE: dict[str, Row] = {
    "method": Row("ssnm", lambda r: r.saved()["method"], "ssnm"),
    # the network
    "model.name": Row("ssnm_release", lambda r: type(r.model).__name__, "SSNMRelease",
                      {"data.size": 224, "data.group_size": 5, "loss": {"type": "release"}, "model": {
                          "name": "ssnm_release", "backbone": {"weights": "none"}}}),
    M + "dim": Row(16, lambda r: r.model.head.predict.in_channels, 16),
    M + "test_size": Row(48, lambda r: r.saved()["inference"]["size"], 48),
    B + "name": Row("mobilenetv2_050", lambda r: r.model.backbone.channels),
    B + "strides": Row([8, 16], lambda r: tuple(level.stride for level in r.model.backbone.levels), (8, 16)),
    B + "norm_eval": Row(True, lambda r: [m.training for m in r.model.train().backbone.modules()
                                          if isinstance(m, nn.BatchNorm2d)][0], False),
    B + "frozen_levels": Row(2, lambda r: sum(p.requires_grad for p in r.model.backbone.parameters())),
    S + "enabled": Row(False, lambda r: r.model.spatial is None and r.model.fusion is None, True),
    S + "orientation": Row("nonnegative_sum", lambda r: r.model.spatial.orientation, "nonnegative_sum"),
    S + "maps": Row("coarsest", lambda r: r.model.fusion is None, True),
    S + "trains_maps": Row(False, lambda r: r.model.spatial.trains_maps, False),
    S + "scale": Row("unit", lambda r: r.model.spatial.scale, "unit"),
    SEM + "enabled": Row(False, lambda r: r.model.semantic is None, True),
    SEM + "image_dim": Row(6, lambda r: r.model.semantic.image_pooling.reduce.out_features, 6),
    SEM + "group_dim": Row(6, lambda r: r.model.semantic.group_pooling.reduce.out_features, 6),
    SEM + "activation": Row("relu", lambda r: type(r.model.semantic.image_pooling.activation), nn.ReLU),
    SEM + "gamma_activation": Row("relu", lambda r: type(r.model.semantic.gamma_activation), nn.ReLU),
    SEM + "centred": Row(True, lambda r: r.model.semantic.group_pooling.centred, True),
    SEM + "normalisation": Row("signed_sqrt", lambda r: r.model.semantic.image_pooling.normalisation, "signed_sqrt"),
    M + "fusion_activation": Row("relu", lambda r: type(r.model.fusion.activation), nn.ReLU),
    M + "level_activation": Row("relu", lambda r: type(r.model.level_activation), nn.ReLU),
    M + "level_norm": Row("layer", lambda r: r.model.level_norm is not None, True),
    M + "head_activation": Row("none", lambda r: type(r.model.head.activation), nn.Identity),
    M + "head_extra_convolution": Row(False, lambda r: "0" in r.model.head.smooth, False),
    # the losses
    "loss.type": Row("release", lambda r: type(r.criterion).__name__, "ReleaseCriterion"),
    "loss.spa": Row(0, lambda r: "spa" in r.terms(), False),
    "loss.sem": Row(0, lambda r: "sem" in r.terms(), False),
    "loss.seg": Row(0, lambda r: "seg" in r.terms(), False, {"loss.dice": 1}),
    "loss.dice": Row(1, lambda r: "dice" in r.terms(), True),
    "loss.weighting": Row("balanced", lambda r: r.criterion.weighting, "balanced"),
    "loss.spa_reduction": Row("mean", lambda r: r.criterion.spa_reduction, "mean"),
    "loss.sem_image": Row(1, lambda r: "sem_image" in r.terms(), True),
    "loss.teacher": Row(1, lambda r: r.criterion.weights["teacher"], 1, {"data.teacher": "TEACHER"}),
    "loss.teacher_on": Row("agreeing", lambda r: r.criterion.teacher_on, "agreeing"),
    "loss.exchange": Row(1, lambda r: "exchange" in r.terms(), True),
    "loss.exchange_images": Row(2, lambda r: r.forward(first_batch(r)).exchanged_logits.shape[1], 2,
                                {"loss.exchange": 1.0}),
    # the data
    "data.favoured": Row([FAVOURED], lambda r: categories_drawn(r).count(FAVOURED), None, {"data.favour": 8.0}),
    "data.favour": Row(8.0, lambda r: categories_drawn(r).count(FAVOURED), None, {"data.favoured": [FAVOURED]}),
    "data.teacher": Row("TEACHER", lambda r: type(r.dataset.pool.sources[0]).__name__, "Taught"),
    "data.mix.foreign": Row(0.5, lambda r: r.drawer.mix.foreign, 0.5),
    "data.mix.alike": Row(0.5, lambda r: r.drawer.mix.alike, 0.5),
    "data.mix.reference": Row(1.0, lambda r: first_batch(r).references is None, False),
    "data.mix.ramp": Row(7, lambda r: r.drawer.mix.ramp, 7),
    "data.labels": Row(list(SEEN_KINDS)[::-1], lambda r: r.dataset.pool.labels[0], SEEN_KINDS[-1]),
    "data.size": Row(64, lambda r: tuple(first_batch(r).images.shape[-2:]), (64, 64)),
    "data.group_size": Row(2, lambda r: first_batch(r).images.shape[1], 2),
    "data.balance": Row("size", lambda r: r.drawer.power, 1.0),
    "data.mix.real": Row(0.25, lambda r: r.drawer.mix.real, 0.25),
    "data.mix.pasted": Row(0.5, lambda r: r.drawer.mix.pasted, 0.5),
    "data.mix.distractor": Row(0.5, lambda r: r.drawer.mix.distractor, 0.5),
    "data.mix.shared": Row(1, lambda r: r.drawer.mix.shared, 1),
    "data.augmentation.flip": Row(0.25, lambda r: augmentation(r).flip, 0.25),
    "data.augmentation.crop": Row(0.75, lambda r: augmentation(r).crop, 0.75),
    "data.augmentation.keep": Row(0.25, lambda r: augmentation(r).keep, 0.25),
    "data.augmentation.colour": Row(0.25, lambda r: augmentation(r).colour, 0.25),
    "data.augmentation.grey": Row(0.25, lambda r: augmentation(r).grey, 0.25),
    "data.holdout": Row(0.5, lambda r: len(r.validator.pool.ids), 30),
    "data.holdout_seed": Row(7, lambda r: tuple(r.validator.pool.ids)),
    "data.cache": Row("memory", lambda r: type(r.dataset.pool.sources[0]).__name__, "MemoryCache"),
    "data.max_bad_images": Row(3, lambda r: r.bad.limit, 3),
    "data.workers": Row(1, lambda r: r.loader.num_workers, 1),
    # the optimisation
    "train.steps": Row(8, lambda r: (r.options.steps, r.state.schedule.steps), (8, 8)),
    "train.batch_groups": Row(2, lambda r: first_batch(r).images.shape[0], 2),
    "train.lr": Row(0.5, lambda r: r.rates()["modules"], 0.5),
    "train.backbone_lr_scale": Row(0.5, lambda r: r.rates()["backbone"], 0.5e-4),
    "train.weight_decay": Row(0.1, lambda r: r.state.optimizer.param_groups[0]["weight_decay"], 0.1),
    "train.weight_decay_type": Row("coupled", lambda r: type(r.state.optimizer), torch.optim.Adam,
                                   {"train.weight_decay": 0.1}),
    "train.betas": Row([0.5, 0.75], lambda r: r.state.optimizer.param_groups[0]["betas"], (0.5, 0.75)),
    "train.schedule.name": Row("cosine", lambda r: r.state.schedule.factor(4), 0.0),
    "train.schedule.every": Row(2, lambda r: r.state.schedule.factor(2), 0.5),
    "train.schedule.warmup": Row(1, lambda r: r.state.schedule.factor(0), 0.5),
    "train.schedule.reset_every": Row(3, lambda r: r.state.schedule.resets_optimizer(3), True),
    "train.accumulate": Row(2, lambda r: (r.options.accumulate, first_batch(r).images.shape[0]), (2, 2)),
    "train.clip_norm": Row(0.5, lambda r: r.options.clip_norm, 0.5),
    "train.ema": Row(0.75, lambda r: r.state.ema.decay, 0.75),
    "train.precision": Row("bf16", lambda r: r.options.precision, "bf16"),
    "train.channels_last": Row(True, lambda r: r.model.head.refine.weight.is_contiguous(
        memory_format=torch.channels_last), True),
    "train.deterministic": Row(True, lambda r: r.deterministic, True),
    "train.seed": Row(3, lambda r: float(r.model.head.refine.weight.sum())),
    "train.log_every": Row(2, lambda r: r.options.log_every, 2),
    "train.checkpoint_minutes": Row(1, lambda r: r.options.checkpoint_minutes, 1),
    "train.checkpoint_every": Row(2, lambda r: r.options.checkpoint_every, 2),
    # validation
    "validation.every": Row(3, lambda r: r.options.evaluate_every, 3),
    "validation.groups": Row(3, lambda r: len(r.validator.ordinary), 3),
    "validation.two_category_images": Row(1, lambda r: len(r.validator.contrasts), 1),
    "validation.balance": Row("size", lambda r: [d.category for d in r.validator.ordinary], None,
                              {"validation.groups": 12}),
    "validation.foreign_groups": Row(2, lambda r: len(r.validator.foreign), 2),
    "validation.sources": Row([{"type": "procedural", "num_images": 30, "seed": 4, "name": "others"}],
                              lambda r: [name for name, _ in r.further], ["others"]),
    "validation.pictures": Row(3, lambda r: r.validator.pictures, 3),
    "validation.seed": Row(5, lambda r: [d.slots for d in r.validator.ordinary]),
}
ELSEWHERE = {  # key -> the test that shows it
    "model.backbone.weights": "test_a_weights_file_is_what_the_backbone_starts_from",
    "model.backbone.allow_unused": "test_a_weights_file_is_what_the_backbone_starts_from",
    "model.solver": "test_the_keys_of_the_release_reach_its_network",
    "data.root": "test_every_key_of_a_source_reaches_it",
    "data.sources": "test_every_key_of_a_source_reaches_it",
    "data.union_at_full_size": "test_union_at_full_size_chooses_the_data_set",
    "train.compile": "test_compile_and_synchronised_norm_are_asked_for",
    "train.sync_batch_norm": "test_compile_and_synchronised_norm_are_asked_for",
    "evaluate.sources": "test_every_further_source_is_evaluated_by_its_name",
}


def keys_of(kind: Any, prefix: str = "") -> set[str]:
    """Every key of a section, those of all the sections of a union included; lists of sections count as one key."""
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        members = [a for a in typing.get_args(hint) or (hint,) if dataclasses.is_dataclass(a)]
        if members:
            for member in members:
                found |= keys_of(member, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_every_key_has_a_row_and_every_row_a_key():
    keys = keys_of(Config)
    assert keys - set(TABLE) - set(ELSEWHERE) == set()
    assert (set(TABLE) | set(ELSEWHERE)) - keys == set()
    assert set(ELSEWHERE.values()) <= set(globals())


@pytest.mark.parametrize("key", [k for k in TABLE if k != "method"])
def test_a_value_other_than_the_default_is_visible_in_what_is_built(start, key):
    row = TABLE[key]
    if key == "model.name":
        before, changed = start(), start(**row.besides)
    else:
        before, changed = start(**row.besides), start(**row.besides, **{key: row.value})
    old, new = row.shows(before), row.shows(changed)
    assert old != new, f"{key}={row.value!r} changes nothing"
    if row.as_ is not None:
        assert new == row.as_


def test_the_average_is_validated_where_there_is_one(start):
    averaged, plain = start(), start(**{"train.ema": 0.0})
    assert averaged.validated is averaged.state.ema.module
    assert plain.validated is plain.model


def test_foreign_groups_are_validated_by_the_rule_of_the_loss(start):
    rules = [start(**{"loss.weighting": weighting}).validator.rule for weighting in ("paper", "none")]
    assert rules == ["mean+std", 0.5]


def test_the_same_seed_starts_from_the_same_weights(start):
    again = start(**{"train.log_every": 9})
    assert torch.equal(start().model.head.refine.weight, again.model.head.refine.weight)


def test_the_seed_draws_the_groups_too(start):
    assert first_batch(start()).names != first_batch(start(**{"train.seed": 3})).names


def test_the_weights_of_the_loss_weigh_its_terms(start):
    for name in ("spa", "sem", "seg", "dice"):
        once, twice = (start(**{"loss.dice": 1.0, f"loss.{name}": w}) for w in (1.0, 2.0))
        batch = first_batch(once)
        once.model.eval()
        terms = once.criterion(once.forward(batch), batch)
        assert twice.total() == pytest.approx(float(terms["total"] + terms[name]), rel=1e-4)


def test_a_weights_file_is_what_the_backbone_starts_from(start, tmp_path):
    weights_file(tmp_path / "w.pt")
    changed = start(**{"model.backbone.weights": str(tmp_path / "w.pt")})
    stored = torch.load(tmp_path / "w.pt", weights_only=True)
    assert all(torch.equal(v, stored[k]) for k, v in changed.model.backbone.net.state_dict().items())
    torch.save(stored | {"extra.weight": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(CheckpointError, match="1 unexpected .first: extra.weight"):
        start(**{"model.backbone.weights": str(tmp_path / "more.pt")})
    start(**{"model.backbone.weights": str(tmp_path / "more.pt"), "model.backbone.allow_unused": ["extra"]})


def test_the_keys_of_the_release_reach_its_network():
    release = {"name": "ssnm_release", "backbone": {"weights": "none"}}
    solvers = {}
    for solver in ("adam200", "exact"):
        config = config_from_dict({"model": {**release, "solver": solver}, "loss": {"type": "release"}})
        solvers[solver] = build.build_model(config.model, 78).spatial.solver
    assert solvers == {"adam200": "adam200", "exact": "exact"}


class Recorder:
    """Takes the place of a source's class and keeps what it is given."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.given = [*map(str, arguments), *map(str, named.values())]


SOURCE_VALUES = {"root": "ROOT", "list": "LIST", "class_names": ["one", "two"], "name": "NAME", "index": "INDEX",
                 "images": "IMAGES", "classes": ["one", "two"], "num_images": 17, "kinds": "unseen", "seed": 23,
                 "store": "STORE"}  # fmt: skip
SHOWN_AS = {"class_names": "('one', 'two')", "classes": "('one', 'two')",
            "kinds": str(build.PROCEDURAL_KINDS["unseen"])}


def source_keys() -> list[tuple[str, str]]:
    return [(typing.get_args(typing.get_type_hints(k)["type"])[0], f.name)
            for k in typing.get_args(SourceConfig) for f in dataclasses.fields(k)
            if f.name not in ("type", "partial")
            and not (k.__name__.startswith("Store") and f.name == "name")]  # fmt: skip


@pytest.mark.parametrize("kind, key", source_keys())
def test_every_key_of_a_source_reaches_it(monkeypatch, kind, key):
    for name in ("VocSource", "ProcessedSource", "CocoSegSource", "ProceduralSource", "StoreSource"):
        monkeypatch.setattr(build, name, Recorder)
    needed = {k: SOURCE_VALUES[k] for k in ("root", "index", "images") if (kind, k) in source_keys()}
    source = {"type": kind, **needed, key: SOURCE_VALUES[key]}
    config = config_from_dict({"data": {"root": "UNDER", "sources": [source]}}).data
    built = build.build_source(config.sources[0], config)
    wanted = SHOWN_AS.get(key, str(SOURCE_VALUES[key]))
    if key in ("root", "index", "images", "store"):
        wanted = f"UNDER/{wanted}"
    assert wanted in built.given


@pytest.mark.parametrize("kind, needed", [("processed", {"root": "R"}), ("coco_seg", {"index": "I", "images": "X"})])
def test_partial_annotation_reaches_the_source(monkeypatch, kind, needed):
    class Partly(Recorder):
        pass

    for name in ("ProcessedSource", "CocoSegSource"):
        monkeypatch.setattr(build, name, Recorder)
    monkeypatch.setattr(build, "PartiallyAnnotated", Partly)
    for partly in (True, False):
        config = config_from_dict({"data": {"sources": [{"type": kind, **needed, "partial": partly}]}}).data
        assert type(build.build_source(config.sources[0], config)) is (Partly if partly else Recorder)


def test_union_at_full_size_chooses_the_data_set(start):
    run = start()
    mapping = mapping_with({"data.sources": [{"type": "coco_seg", "index": "i", "images": "x"}]})
    for union, name in ((True, "UnionFirstDataset"), (False, "GroupDataset")):
        config = config_from_dict({**copy.deepcopy(mapping), "data": {**mapping["data"], "union_at_full_size": union}})
        assert type(build.build_loader(config, run.dataset.pool, 0).dataset).__name__ == name


def test_compile_and_synchronised_norm_are_asked_for(start, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network: asked.append("compile") or network)
    start()
    assert asked == []
    monkeypatch.setattr(torch, "compile", lambda network: asked.append("compile") or network)
    start(**{"train.compile": True})
    assert asked == ["compile"]
    with pytest.raises(ConfigError, match="train.sync_batch_norm works on CUDA devices only"):
        start(**{"train.sync_batch_norm": True})


def test_every_further_source_is_evaluated_by_its_name(tmp_path, monkeypatch):
    seen, validate = [], Validator.__call__
    monkeypatch.setattr(Validator, "__call__", lambda self, model, *a: seen.append(model) or validate(self, model, *a))
    mapping = mapping_with({"evaluate.sources": [{"type": "procedural", "num_images": 60, "seed": 1, "name": "others"}],
                            "train.steps": 1})  # fmt: skip
    result = runs.train_run(config_of(mapping), tmp_path, torch.device("cpu"), say=lambda line: None)
    assert set(result.further) == {"others"} and result.further["others"]["J"] != result.scores["J"]
    assert len(seen) == 2 and seen[0] is seen[1]  # the average, as in every validation


def test_workers_leave_signals_to_their_parent(start):
    import signal

    run = start()
    assert run.loader.worker_init_fn is not None
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    try:
        run.loader.worker_init_fn(0)
        assert all(signal.getsignal(n) is signal.SIG_IGN for n in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)


# The defaults are the paper's set-up: the column "default" of docs/deviations.md

PAPER = {
    "model.dim": 512, "model.spatial.orientation": "border", "model.spatial.scale": "rms",
    "model.semantic.image_dim": 64, "model.semantic.group_dim": 32, "model.semantic.activation": "none",
    "model.semantic.gamma_activation": "none", "model.semantic.centred": False, "model.semantic.normalisation": "none",
    "model.fusion_activation": "none", "model.level_activation": "none", "model.head_activation": "relu",
    "model.backbone.norm_eval": False, "model.backbone.frozen_levels": 0, "loss.weighting": "paper",
    "loss.spa_reduction": "sum", "loss.spa": 1.0, "loss.sem": 1.0, "loss.seg": 1.0, "loss.dice": 0.0,
    "data.size": 224, "data.group_size": 5, "data.mix.real": 0.0, "data.mix.pasted": 0.0, "data.mix.distractor": 0.0,
    "train.steps": 200_000, "train.batch_groups": 4, "train.lr": 1e-4, "train.backbone_lr_scale": 1.0,
    "train.betas": (0.9, 0.999), "train.weight_decay": 0.0, "train.schedule.name": "halving",
    "train.schedule.every": 25_000, "train.ema": 0.0, "train.clip_norm": 0.0,
}  # fmt: skip


def value_of(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def test_the_defaults_are_those_of_the_table_of_deviations():
    from pathlib import Path

    from ssnm.methods import load_config

    folder = Path(__file__).parents[2] / "configs"
    for config in (Config(), *(load_config(folder / f"ssnm_{name}.yaml") for name in ("vgg16", "hrnet"))):
        assert {key: value_of(config, key) for key in PAPER} == PAPER
    for name in ("vgg16", "hrnet"):
        assert load_config(folder / f"ssnm_{name}.yaml").data.augmentation.flip == 0.0
    named = (folder.parent / "docs" / "deviations.md").read_text()
    for key in PAPER:
        section, _, name = key.rpartition(".")
        assert name in named or section in named, f"{key} is not in docs/deviations.md"
