"""Runs that survive: kills, a full disk, a loss that is no number; and options that must not change the result."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ssnm.coseg import build as factory
from ssnm.coseg import train as runs
from ssnm.coseg.config import Config, config_from_dict
from ssnm.engine import runs as frame
from ssnm.engine.checkpoint import load_training, save_training
from ssnm.engine.logs import RunLog
from ssnm.engine.loop import LoopOptions, NonFiniteLoss, TrainState, make_ema, train
from ssnm.engine.schedule import Schedule
from ssnm.errors import CheckpointError, ConfigError, TrainingError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# Statistics of batch norm over a micro-batch are not those over a batch, and they amplify rounding.
NORM_EVAL = {"backbone": {"name": "mobilenetv2_035", "weights": "none", "strides": [4, 8], "norm_eval": True}}


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny(steps: int = 3, model: dict | None = None, **train_options) -> Config:
    """A network whose coarsest map has more cells than its border, on procedural pictures of 32 pixels."""
    return config_from_dict(
        {
            "model": {"dim": 8, "backbone": {"name": "mobilenetv2_035", "weights": "none", "strides": [4, 8]},
                      "semantic": {"image_dim": 4, "group_dim": 4}, **(model or {})},
            "loss": {"spa": 0.01, "spa_reduction": "mean", "weighting": "none", "dice": 1.0},
            "data": {"sources": [{"type": "procedural", "num_images": 60}], "size": 32, "group_size": 2,
                     "holdout": 0.3, "workers": 0},
            "train": {"steps": steps, "lr": 1e-4, "batch_groups": 2, "log_every": 2, **train_options},
            "validation": {"every": 100, "groups": 1, "two_category_images": 0, "pictures": 0},
        },
        "tiny",
    )


def trained(out: Path, config: Config, resume: Path | None = None) -> dict:
    runs.train_run(config, out, CPU, resume, say=lambda line: None)
    return load_training(out / "checkpoints" / "last.pt")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict:
    """The end of the run that the options below must not change."""
    return trained(tmp_path_factory.mktemp("plain"), tiny(model=NORM_EVAL))


def largest_difference(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one)


# Kills


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked: POSIX only")
def test_killed_runs_end_bit_identical_to_an_undisturbed_one():
    command = [sys.executable, ROOT / "scripts" / "kill_and_resume.py", "--kills", "4", "--steps", "6", "--seed", "5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every run ended bit-identical" in done.stdout and "killed by SIGKILL" in done.stdout


def test_starting_a_loader_draws_no_random_number_of_the_model():
    config = tiny()
    pool, _ = factory.build_pools(config.data)
    before = torch.get_rng_state()
    next(iter(factory.build_loader(config, pool, 0)))
    assert torch.equal(before, torch.get_rng_state())


def test_a_log_row_after_a_resume_covers_the_steps_it_would_have_covered(tmp_path):
    trained(tmp_path / "whole", tiny(steps=4, log_every=4))
    config = tiny(steps=4, log_every=4, checkpoint_every=3)
    kept = tmp_path / "kept.pt"
    save = frame.save_training

    def keep_third(path, state):
        save(path, state)
        if state["step"] == 3 and not kept.exists():
            save(kept, state)

    frame.save_training = keep_third
    try:
        trained(tmp_path / "first", config)
    finally:
        frame.save_training = save
    trained(tmp_path / "second", config, kept)
    row = [json.loads((tmp_path / f / "log.jsonl").read_text().splitlines()[0]) for f in ("whole", "second")]
    assert row[0]["step"] == row[1]["step"] == 4 and row[0]["loss/total"] == row[1]["loss/total"]


def test_a_run_killed_after_its_last_row_writes_no_row_twice(tmp_path):
    config = tiny(steps=2)
    trained(tmp_path, config)
    rows = (tmp_path / "log.jsonl").read_text()
    scores = json.loads((tmp_path / "summary.json").read_text())["scores"]
    (tmp_path / "summary.json").unlink()
    trained(tmp_path, config, tmp_path / "checkpoints" / "last.pt")
    assert (tmp_path / "log.jsonl").read_text() == rows
    assert json.loads((tmp_path / "summary.json").read_text())["scores"] == scores != {}


def test_rows_of_other_figures_at_the_same_step_are_kept(tmp_path):
    for _ in range(2):
        log = RunLog(tmp_path, 4, 4)
        log.row({"step": 4, "val/J": 1.0})
        log.row({"step": 4, "unseen/J": 2.0})
        log.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_the_first_update_of_the_average_stays_a_copy_after_a_resume(tmp_path):
    def state() -> TrainState:
        model = nn.Linear(1, 1)
        groups = [{"params": list(model.parameters()), "lr": 0.1, "base_lr": 0.1}]
        return TrainState(model, torch.optim.SGD(groups), Schedule("constant", 9), ema=make_ema(model, 0.9))

    first, second = state(), state()
    first.ema.update_parameters(first.model)
    second.load_state_dict(first.state_dict())
    assert int(second.ema.n_averaged) == 1
    fresh, resumed = state(), state()
    resumed.load_state_dict(fresh.state_dict())
    assert int(resumed.ema.n_averaged) == 0


# A full disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a full disk: Linux only")
def test_a_full_disk_loses_neither_checkpoint(tmp_path):
    for name in ("last.pt", "best.pt"):
        save_training(tmp_path / name, {"step": 1, "model": {"w": torch.ones(1000)}})
        (tmp_path / f".{name}.part").symlink_to("/dev/full")
        with pytest.raises(CheckpointError, match="No space left on device.*previous one is untouched"):
            save_training(tmp_path / name, {"step": 2, "model": {"w": torch.zeros(1000)}})
        assert load_training(tmp_path / name)["step"] == 1
        save_training(tmp_path / name, {"step": 3, "model": {"w": torch.zeros(1000)}})  # room again
        assert load_training(tmp_path / name)["step"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a full disk: Linux only")
def test_a_run_stopped_by_a_full_disk_goes_on_when_there_is_room(tmp_path):
    trained(tmp_path, tiny(steps=2))
    last = tmp_path / "checkpoints" / "last.pt"
    before = last.read_bytes()
    (last.parent / ".last.pt.part").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device"):
        trained(tmp_path, tiny(steps=4), last)
    assert last.read_bytes() == before
    assert trained(tmp_path, tiny(steps=4), last)["step"] == 4
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss/total" in row] == [2, 4]


def test_a_half_written_checkpoint_of_a_killed_run_is_in_nobodys_way(tmp_path):
    (tmp_path / ".last.pt.part").write_bytes(b"half of a checkpoint")
    save_training(tmp_path / "last.pt", {"step": 1, "model": {"w": torch.ones(1)}})
    assert load_training(tmp_path / "last.pt")["step"] == 1 and len(list(tmp_path.iterdir())) == 1


# A loss that is no number


@pytest.fixture
def spoilt_run(tmp_path, monkeypatch):
    """A run whose third batch has an image that is no number; (error, folder, names of the batch)."""
    names = []
    build = factory.build_loader

    def loader(*arguments):
        for number, batch in enumerate(build(*arguments)):
            if number == 2:
                batch = batch.to("cpu")
                batch.images[1, 0] = float("nan")
                names.extend(batch.names)
            yield batch

    monkeypatch.setattr(factory, "build_loader", loader)
    with pytest.raises(TrainingError) as error:
        trained(tmp_path, tiny(steps=9, log_every=100, checkpoint_every=1))
    return str(error.value), tmp_path, names


def test_the_run_stops_at_the_very_step_with_the_names_of_the_files(spoilt_run):
    message, out, names = spoilt_run
    assert load_training(out / "checkpoints" / "last.pt")["step"] == 2
    assert "step 2: the loss is not finite" in message and "\n" not in message
    assert all(name in message for group in names for name in group)
    assert "--resume auto" in message


def test_weights_spoilt_by_a_finite_loss_are_never_saved():
    """The gradient of sqrt at 0 is infinite, its value is 0."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    groups = [{"params": list(model.parameters()), "lr": 0.1, "base_lr": 0.1}]
    state = TrainState(model, torch.optim.SGD(groups), Schedule("constant", 1))
    batch = type("Batch", (), {"images": torch.ones(1, 2), "num_images": 1})()
    with pytest.raises(NonFiniteLoss, match="weights that are not finite"):
        train(state, [batch], lambda b: model(b.images), lambda output, b: {"total": output.abs().sqrt().sum()},
              LoopOptions(1), save=lambda s: pytest.fail("saved"))


# Options that must not change the result


@pytest.mark.parametrize("options", [dict(channels_last=True), dict(accumulate=2), dict(clip_norm=1e6)])
def test_an_option_of_speed_leaves_the_result_unchanged(tmp_path, plain, options):
    changed = trained(tmp_path, tiny(model=NORM_EVAL, **options))
    assert largest_difference(plain["model"], changed["model"]) < 1e-5


def test_determinism_leaves_a_cpu_run_bit_identical(tmp_path, plain):
    try:
        changed = trained(tmp_path, tiny(model=NORM_EVAL, deterministic=True))
    finally:
        torch.use_deterministic_algorithms(False)
    assert largest_difference(plain["model"], changed["model"]) == 0


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_fused_optimiser_makes_the_same_steps(decay):
    def after(fused: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.ModuleDict({"backbone": nn.Linear(8, 8), "head": nn.Linear(8, 8)})
        model.backbone = model["backbone"]
        optimizer = factory.build_optimizer(model, replace(tiny().train, weight_decay=decay))
        for group in optimizer.param_groups:
            group["fused"] = fused
        for _ in range(5):
            optimizer.zero_grad()
            model["head"](model["backbone"](torch.ones(2, 8))).square().sum().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.testing.assert_close(after(False), after(True), rtol=0, atol=1e-6)


def test_a_checkpoint_does_not_bring_the_kernels_of_another_machine():
    model = nn.Linear(1, 1)
    state = TrainState(model, torch.optim.Adam(model.parameters(), fused=False), Schedule("constant", 1))
    saved = state.state_dict()
    saved["optimizer"]["param_groups"][0]["fused"] = True
    state.load_state_dict(saved)
    assert state.optimizer.param_groups[0]["fused"] is False


def test_synchronised_batch_norm_is_refused_on_the_cpu_and_keeps_the_keys(tmp_path):
    with pytest.raises(ConfigError, match="CUDA devices only"):
        trained(tmp_path, tiny(sync_batch_norm=True))
    model = factory.build_model(tiny().model, 3)
    keys = list(model.state_dict())
    converted = factory.synchronise_batch_norm(model)
    assert list(converted.state_dict()) == keys
    assert any(isinstance(m, nn.SyncBatchNorm) for m in converted.modules())


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights_under_the_same_keys(tmp_path, plain, monkeypatch):
    """Captured and differentiated as for every backend, run by PyTorch's own kernels: needs no C++ compiler."""
    compiled, whole = [], torch.compile

    def compile_eagerly(network):
        compiled.append(network)
        return whole(network, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    changed = trained(tmp_path, tiny(model=NORM_EVAL, compile=True))
    assert len(compiled) == 1
    assert largest_difference(plain["model"], changed["model"]) < 1e-5
