"""A training run from config to folder: what is written, how it stops, goes on, and starts from other weights."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from ssnm.cli import main
from ssnm.commands.train import add_arguments, resume_command
from ssnm.coseg import train as runs
from ssnm.coseg.build import backbone_weights, build_pools
from ssnm.data.procedural import write_procedural
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.engine import loop
from ssnm.methods import load_config

ROOT = Path(__file__).parents[2]
SCORES = {"J", "J@0.5", "P", "group_use", "J_own", "J_other"}


def train(config: Path, out: Path, *options: str) -> int:
    return main(["train", str(config), "--out", str(out), "--device", "cpu", *options])


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_train_writes_the_whole_run_folder(trained_run):
    for name in ("config.yaml", "environment.json", "log.jsonl", "summary.json", "checkpoints/last.pt",
                 "checkpoints/best.pt", "pictures/step_000002.png", "pictures/step_000004.png"):
        assert (trained_run / name).is_file(), name
    assert not list(trained_run.rglob("*.part"))
    assert Image.open(trained_run / "pictures" / "step_000004.png").size[0] > 100


def test_the_written_config_is_the_resolved_one_and_can_be_trained_again(trained_run, tiny_config):
    assert load_config(trained_run / "config.yaml") == load_config(tiny_config)
    assert yaml.safe_load((trained_run / "config.yaml").read_text())["train"]["schedule"]["name"] == "halving"


def test_the_environment_names_what_a_repetition_needs(trained_run):
    environment = json.loads((trained_run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert {"command", "python", "torchvision", "timm", "numpy", "device", "commit"} <= set(environment)


def test_the_log_has_losses_of_every_step_and_scores_of_every_validation(trained_run):
    rows = rows_of(trained_run)
    losses = [r for r in rows if "loss/total" in r]
    assert [r["step"] for r in losses] == [1, 2, 3, 4]
    assert {"loss/spa", "loss/sem", "loss/seg", "lr", "images_per_s", "data_wait"} <= set(losses[0])
    validations = [r for r in rows if "val/J" in r]
    assert [r["step"] for r in validations] == [2, 4]
    assert {f"val/{name}" for name in SCORES} <= set(validations[0])


def test_best_is_the_validation_with_the_highest_j(trained_run):
    validations = {r["step"]: r["val/J"] for r in rows_of(trained_run) if "val/J" in r}
    best = torch.load(trained_run / "checkpoints" / "best.pt", weights_only=True)
    assert best["step"] == best["best"]["step"] == max(validations, key=validations.get)
    assert best["best"]["J"] == pytest.approx(max(validations.values()))


def test_the_end_prints_scores_pictures_and_model(tiny_config, tmp_path, capsys):
    assert train(tiny_config, tmp_path / "run", "--set", "train.steps=1", "evaluate.sources=[{type: procedural, "
                 "num_images: 30, kinds: unseen, name: unseen kinds}]") == 0
    printed = capsys.readouterr().out
    assert "done: step 1; held-out groups  J " in printed and "unseen kinds: J " in printed
    for name in ("pictures/step_000001.png", "pictures/unseen_kinds.png", "checkpoints/best.pt"):
        assert str(tmp_path / "run" / name) in printed and (tmp_path / "run" / name).is_file()


def test_a_dry_run_describes_the_run_and_writes_nothing(tiny_config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(tiny_config), "--dry-run", "--set", "model.backbone.weights=pretrained"]) == 0
    printed = capsys.readouterr().out
    assert "trainable parameters, backbone mobilenetv2_035" in printed and "4 steps of 2 x 3 images" in printed
    assert printed.splitlines()[-2:] == ["run folder: runs/tiny, a new run", "dry run: nothing was written"]
    assert printed.index("weights: pretrained") < printed.index("\n\ndata: ")  # the config stands above the report
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_becomes_of_a_run_that_is_there(trained_run, tiny_config, capsys):
    assert train(tiny_config, trained_run, "--dry-run", "--resume", "auto") == 0
    assert f"going on from {trained_run / 'checkpoints' / 'last.pt'}\n" in capsys.readouterr().out
    assert train(tiny_config, trained_run, "--dry-run") == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--resume", "--init-from"])
def test_a_dry_run_looks_into_the_checkpoint_it_would_start_from(tiny_config, tmp_path, capsys, option):
    for name, content, said in (("absent.pt", None, "absent.pt"), ("foreign.pt", b"text", "foreign.pt")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        arguments = ["--dry-run", option, str(tmp_path / name), "--out", str(tmp_path / "run")]
        assert main(["train", str(tiny_config), *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_dry_run_refuses_a_weights_file_that_is_not_there(tiny_config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(tiny_config), "--dry-run", "--set", "model.backbone.weights=absent.pth"]) == 2
    assert "absent.pth" in capsys.readouterr().err


def test_backbone_weights_are_words_or_a_file_under_the_data_root(tiny_config, tmp_path):
    def weights(value: str) -> str:
        return backbone_weights(load_config(tiny_config, [f"data.root={tmp_path}", f"model.backbone.weights={value}"]))

    assert (weights("none"), weights("pretrained")) == ("none", "pretrained")
    assert weights("base.pth") == str(tmp_path / "base.pth")


def test_a_checkpoint_older_than_a_key_of_the_config_can_be_resumed(trained_run, tiny_config, tmp_path, capsys):
    state = torch.load(trained_run / "checkpoints" / "last.pt", weights_only=True)
    del state["config"]["model"]["test_size"], state["config"]["train"]["checkpoint_every"]
    torch.save(state, tmp_path / "old.pt")
    assert train(tiny_config, tmp_path / "run", "--resume", str(tmp_path / "old.pt")) == 0
    assert "at step 4\n" in capsys.readouterr().out  # nothing changed since


def test_a_resumed_run_takes_its_rates_from_the_config_and_says_so(trained_run, tiny_config, tmp_path, capsys):
    last = trained_run / "checkpoints" / "last.pt"
    options = ["train.steps=5", "train.lr=2e-5", "train.weight_decay=0.5", "train.betas=[0.5,0.9]"]
    assert train(tiny_config, tmp_path / "run", "--resume", str(last), "--set", *options) == 0
    line = next(li for li in capsys.readouterr().out.splitlines() if li.startswith("resumed"))
    assert "train.lr 0.001 -> 2e-05" in line and "train.betas" in line and "model" not in line
    group = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["optimizer"]["param_groups"][0]
    assert (group["lr"], group["base_lr"], group["weight_decay"]) == (2e-5, 2e-5, 0.5)
    assert tuple(group["betas"]) == (0.5, 0.9)


def test_bad_held_out_images_are_said_and_listed(tmp_path, capsys, tiny_config):
    root = write_procedural(tmp_path / "root", SEEN_KINDS[:3], 20, (40, 40))
    config = load_config(tiny_config, [f"data.sources=[{{type: processed, root: {root}}}]"])
    held_out = build_pools(config.data)[1]
    for number in held_out.ids[::2]:
        held_out.item(number).image.write_bytes(b"no image")
    wide = ["validation.groups=20", "train.steps=1", f"data.sources=[{{type: processed, root: {root}}}]"]
    assert train(tiny_config, tmp_path / "run", "--set", *wide) == 0
    listed = [json.loads(line)["image"] for line in (tmp_path / "run" / "bad_images.jsonl").read_text().splitlines()]
    broken = {str(held_out.item(n).image) for n in held_out.ids[::2]}
    assert listed and set(listed) <= broken
    assert f"bad images: {len(listed)}" in capsys.readouterr().out


def test_a_new_run_into_a_used_folder_is_refused(trained_run, tiny_config, capsys):
    before = (trained_run / "log.jsonl").read_text()
    assert train(tiny_config, trained_run) == 2
    assert "--resume auto" in capsys.readouterr().err
    assert (trained_run / "log.jsonl").read_text() == before


def test_a_stopped_run_goes_on_to_the_weights_of_an_uninterrupted_one(
    trained_run, tiny_config, tmp_path, monkeypatch, capsys
):
    """Stopped by a signal after step 2 of 4, then resumed as it says: weights, log and best are those of one run."""
    out, step = tmp_path / "run", loop.train_step

    def stopping_step(forward, loss_fn, batches, state, *further):
        losses = step(forward, loss_fn, batches, state, *further)
        if state.step == 2:
            signal.raise_signal(signal.SIGINT)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopping_step)
        assert train(tiny_config, out, "--set", "train.log_every=1") == 130
    assert torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"] == 2
    hint = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert hint[:2] == ["ssnm", "train"] and "train.log_every=1" in hint
    assert main(hint[1:]) == 0
    one, two = (weights_of(run / "checkpoints" / "last.pt") for run in (trained_run, out))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert [r["step"] for r in rows_of(out)] == [r["step"] for r in rows_of(trained_run)]
    for ours, theirs in zip(rows_of(out), rows_of(trained_run)):
        assert {k: v for k, v in ours.items() if "/" in k} == {k: v for k, v in theirs.items() if "/" in k}


def test_resume_auto_without_a_checkpoint_starts_a_run(tiny_config, tmp_path):
    assert train(tiny_config, tmp_path / "run", "--resume", "auto", "--set", "train.steps=1") == 0


@pytest.mark.parametrize(
    "override, words",
    [("model.dim=4", "another model"), ("data.sources=[{type: procedural, num_images: 60, kinds: all}]", "categories")],
)
def test_resuming_another_run_is_refused(trained_run, tiny_config, tmp_path, capsys, override, words):
    last = trained_run / "checkpoints" / "last.pt"
    assert train(tiny_config, tmp_path / "run", "--resume", str(last), "--set", override) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and str(last) in error and "\n" not in error
    assert not (tmp_path / "run").exists()


def test_init_from_takes_another_label_list_and_says_what_it_reset(trained_run, tiny_config, tmp_path, capsys):
    best = trained_run / "checkpoints" / "best.pt"
    kinds = "data.sources=[{type: procedural, num_images: 80, kinds: all}]"
    assert train(tiny_config, tmp_path / "run", "--init-from", str(best), "--set", kinds, "train.steps=1",
                 "train.lr=1e-12", "train.ema=0") == 0
    printed = capsys.readouterr().out
    old = torch.load(best, weights_only=True)
    new = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    before, after = old["inference"]["labels"], new["inference"]["labels"]
    carried = [label for label in after if label in before]
    fresh = len(after) - len(carried)
    assert f"{len(carried)} categories carried over, {fresh} rows of the classifier reset" in printed
    rows_old, rows_new = old["ema"]["semantic.classifier.weight"], new["model"]["semantic.classifier.weight"]
    for label in carried:
        torch.testing.assert_close(rows_new[after.index(label)], rows_old[before.index(label)])


def test_init_from_and_resume_together_are_refused(trained_run, tiny_config, tmp_path, capsys):
    best = str(trained_run / "checkpoints" / "best.pt")
    assert train(tiny_config, tmp_path / "run", "--init-from", best, "--resume", "auto") == 2
    assert "give one of them" in capsys.readouterr().err


def resume_hint(*options: str) -> str:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return resume_command(parser.parse_args(["my config.yaml", *options]), Path("runs/x"))


def test_the_hint_repeats_the_options_and_the_launcher_of_the_run(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["/env/bin/ssnm"])
    end = "--resume auto --out runs/x"
    assert resume_hint() == f"ssnm train 'my config.yaml' {end}"
    given = ["--set", "a=1", "b=[]", "--set", "c={d: 2}", "--device", "cpu", "--deterministic"]
    assert shlex.split(resume_hint(*given)) == ["ssnm", "train", "my config.yaml", *given, *end.split()]
    assert resume_hint("--init-from", "x.pt") == resume_hint("--resume", "x.pt") == resume_hint()
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert resume_hint() == f"python train.py 'my config.yaml' {end}"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert resume_hint() == f"torchrun --nproc_per_node=4 train.py 'my config.yaml' {end}"
    monkeypatch.setattr(sys, "argv", ["/env/bin/ssnm"])
    assert resume_hint() == f"torchrun --nproc_per_node=4 --no-python ssnm train 'my config.yaml' {end}"
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert resume_hint().startswith("torchrun --nnodes=2 --nproc_per_node=4 ")


def test_an_interrupt_outside_the_steps_says_how_to_go_on_too(tiny_config, tmp_path, capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_evaluate_further", interrupt)
    assert train(tiny_config, tmp_path / "run") == 130
    assert capsys.readouterr().err.endswith(f"--resume auto --out {tmp_path / 'run'}\ninterrupted\n")


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    begin = time.monotonic()
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begin < seconds, "the training did not get going"
        time.sleep(0.05)


@pytest.mark.slow
def test_sigterm_saves_says_how_to_resume_and_the_resumed_run_finishes(tiny_config, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, str(ROOT / "train.py"), str(tiny_config), "--out", str(out), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    long = ["--set", "train.steps=100000", "validation.every=100000"]
    long_again = f"--set {' '.join(long[1:])}"
    process = subprocess.Popen([*command, *long], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment, cwd=tmp_path)
    try:
        log = out / "log.jsonl"
        wait_for(lambda: log.exists() and log.read_text().count("\n") >= 2, process)
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    hint = f"python {ROOT / 'train.py'} {tiny_config} {long_again} --device cpu --resume auto --out {out}"
    assert printed.splitlines()[-1] == hint and "Traceback" not in errors
    step = torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert step >= 2
    assert train(tiny_config, out, "--resume", "auto", "--set", f"train.steps={step + 1}") == 0
    assert torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"] == step + 1
    steps = [r["step"] for r in rows_of(out) if "loss/total" in r]
    assert steps == list(range(1, step + 2))
