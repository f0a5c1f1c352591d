"""Training in stages from a config to a model file, exact resume, online fine-tuning; the authors' files converted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import ssnm
from ssnm.cli import main
from ssnm.engine.checkpoint import load_model_file
from ssnm.errors import CheckpointError, ConfigError
from ssnm.methods import load_config
from ssnm.video import build
from ssnm.video.convert import Variant, convert
from ssnm.video.online import finetune
from ssnm.video.procedural import render_frame
from ssnm.video.settings import Settings
from ssnm.video.train import untrained_parameters
from ssnm.video.validation import held_out_videos

from .osmn_oracle import golden, inputs, variables

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = {
    "method": "osmn",
    "model": {"name": "small", "backbone": {"name": "resnet18", "weights": "none", "strides": [4, 8]}, "dim": 8,
              "hidden": 16},
    "data": {"sources": [{"type": "procedural", "num_videos": 4, "frames": 3, "side": 32}], "size": [32, 32],
             "holdout_share": 0.25, "workers": 0},
    "guides": {"side": 32},
    "loss": {"balanced": 0, "cross_entropy": 1, "dice": 1},
    "train": {"steps": 4, "batch": 4, "lr": 1e-3, "weight_decay": 1e-4, "ema": 0.5, "log_every": 1,
              "schedule": {"name": "constant"}},
    "validation": {"every": 100, "videos": 1, "frames": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def train(config, out, *more):
    overrides = [o for o in more if "=" in o]
    rest = [o for o in more if "=" not in o]
    return main(["train", str(config), "--out", str(out), "--device", "cpu", *rest,
                 *(["--set", *overrides] if overrides else [])])  # fmt: skip


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train(config, out) == 0
    return out


def test_a_run_scores_held_out_videos_beside_its_baselines(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["finished"] and set(summary["scores"]) == {"J"}
    assert set(summary["further"]) == {"first mask copied", "visual modulator off", "spatial modulator off"}
    assert (run / "pictures" / "step_000004.png").is_file()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"loss/cross_entropy", "loss/dice", "loss/total"} <= set(rows[0])


def test_validation_plays_its_videos_forth_and_back(config, tmp_path):
    pool = build.build_pools(load_config(config).data)[1]
    [once] = held_out_videos(pool.tracks, 1, 3, 0)[0]
    assert once.order == [0, 1, 2]
    one, two = once.copied().mean(axis=1)
    assert train(config, tmp_path / "long", "train.steps=1", "validation.passes=3") == 0
    copied = json.loads((tmp_path / "long" / "summary.json").read_text())["further"]["first mask copied"]["J"]
    assert copied == pytest.approx(100 * np.mean([one, two, one, 1, one, two]))  # frames 0, 1, 2, 1, 0, 1, 2


def weights_of(out):
    state = torch.load(out / "checkpoints" / "last.pt", weights_only=True)
    return {**state["model"], **{f"ema.{k}": v for k, v in state["ema"].items()}}


def test_a_resumed_run_ends_where_the_whole_one_does(config, run, tmp_path):
    assert train(config, tmp_path / "r", "train.steps=2") == 0
    assert train(config, tmp_path / "r", "--resume", "auto") == 0
    ours, theirs = weights_of(tmp_path / "r"), weights_of(run)
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_gradient_accumulation_and_workers_see_the_same_samples(config):
    whole = load_config(config)
    pool = build.build_pools(whole.data)[0]
    parts = load_config(config, ["train.accumulate=2", "data.workers=1"])
    one = next(iter(build.build_loader(whole, pool, 1)))
    two = list(build.build_loader(parts, pool, 1))[:2]
    assert torch.equal(one.images, torch.cat([b.images for b in two]))
    assert torch.equal(one.spatial_guides, torch.cat([b.spatial_guides for b in two]))


def test_a_stage_starts_from_the_model_of_another(config, run, tmp_path, capsys):
    last = run / "checkpoints" / "last.pt"
    overrides = ("train.steps=1", "train.lr=1e-12", "train.ema=0")
    assert train(config, tmp_path / "s", "--init-from", str(last), *overrides) == 0
    assert "all weights taken over" in capsys.readouterr().out
    ema = torch.load(last, weights_only=True)["ema"]
    new = torch.load(tmp_path / "s" / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert torch.allclose(ema["predict.weight"], new["predict.weight"])
    assert train(config, tmp_path / "t", "--init-from", str(last), "model.dim=12") == 2
    assert "do not fit" in capsys.readouterr().err


def test_an_exported_model_follows_objects(run, tmp_path):
    assert main(["export", str(run / "checkpoints" / "last.pt"), str(tmp_path / "m.safetensors"), "--half"]) == 0
    model = ssnm.from_pretrained(tmp_path / "m.safetensors", device="cpu")
    assert model.settings == Settings(size=(32, 32), guide_side=32)
    frames = [render_frame(9, frame, 40, "seen", 0) for frame in range(3)]
    results = list(model.propagate([f[0] for f in frames], frames[0][1]))
    assert len(results) == 3 and np.array_equal(results[0].ids, frames[0][1])
    assert results[2].probabilities.shape == (4, 32, 32) and results[2].object_ids == (1, 2, 3, 4)


def test_a_dry_run_says_what_would_be_done(config, tmp_path, capsys):
    assert train(config, tmp_path / "d", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "4 steps of 4 samples of 32x32" in printed and "1 video," in printed and not (tmp_path / "d").exists()


def test_every_parameter_of_a_network_gets_a_gradient(config):
    whole = load_config(config)
    assert untrained_parameters(build.build_model(whole.model), whole) == []


def test_weight_decay_is_of_convolutions_alone_and_coupled():
    config = load_config(CONFIGS / "osmn_davis.yaml", ["model.weights=none", "model.visual=false"])
    model = build.build_model(config.model)
    optimizer = build.build_optimizer(model, config.train)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = [name for name, p in model.named_parameters() if id(p) in decayed]
    assert len(names) == 13 + 4 + 1 + 3 and all(name.endswith("weight") and "norms" not in name for name in names)
    assert type(optimizer) is torch.optim.Adam and all(g["weight_decay"] in (0, 2e-4) for g in optimizer.param_groups)
    assert all(g["lr"] == 1e-6 for g in optimizer.param_groups) and model.spatial.fix_norm


@pytest.mark.parametrize("name", ["osmn_coco", "osmn_davis", "osmn_ytvos", "osmn_small_1", "osmn_small_2",
                                  "osmn_small_3", "osmn_quickstart"])  # fmt: skip
def test_the_configs_of_the_repository_are_valid(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.method == "osmn" and config.data.sources
    settings = build.settings_of(config)
    assert Settings.from_dict(settings.to_dict(), name) == settings
    if name == "osmn_coco":
        assert config.data.sizes == ((320, 320), (400, 400), (480, 480)) and settings.size == (854, 480)
    if name == "osmn_davis":
        assert config.data.sizes == ((427, 240), (683, 384), (854, 480))


@pytest.mark.parametrize("change, words", [
    ("guides.side=112", "224"), ("guides={lost: 0.7, astray: 0.5}", "must not exceed 1, got 1.2"),
    ("loss.balanced=0", "all 0"), ("train.accumulate=3", "must divide"),
    ("data.scales=[]", "data.size"), ("data.holdout_share=1.5", "holdout_share"), ("model.name=lite", "one of osvos"),
])  # fmt: skip
def test_what_cannot_be_is_said_by_its_key(change, words):
    with pytest.raises(ConfigError, match=words):
        load_config(CONFIGS / "osmn_coco.yaml", [change])


def test_fine_tuning_makes_a_copy_that_fits_the_object_better_and_leaves_the_network(config):
    torch.manual_seed(0)
    whole = load_config(config)
    network, settings = build.build_model(whole.model).eval(), build.settings_of(whole)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    image, ids = render_frame(3, 0, 48, "seen", 0)
    with torch.inference_mode():
        tuned = [finetune(network, image, ids == 1, 2, settings) for _ in range(2)]
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items()) and not tuned[0].training
    assert any(not torch.equal(before[k], v) for k, v in tuned[0].state_dict().items())
    assert all(torch.equal(v, tuned[1].state_dict()[k]) for k, v in tuned[0].state_dict().items())


def test_a_checkpoint_of_the_authors_becomes_a_model_that_follows_objects(tmp_path, capsys):
    arrays = variables(Variant(False, True, False)) | {"global_step": np.int32(300000)}
    np.savez(tmp_path / "weights.npz", **arrays)
    assert main(["convert", "osmn", str(tmp_path / "weights.npz"), str(tmp_path / "m.safetensors")]) == 0
    assert "variant no_visual: 51 of 52 variables" in capsys.readouterr().out
    file = load_model_file(tmp_path / "m.safetensors")
    pixels = {"mean": [104.0, 117.0, 123.0], "std": [1.0] * 3, "scale": 255.0, "bgr": True}
    assert file.config["model"]["pixels"] == pixels
    assert file.card["step"] == 300000 and not any("up" in key for key in file.weights)
    model = ssnm.from_pretrained(tmp_path / "m.safetensors", device="cpu")
    frames = [inputs()["frame0"], inputs()["frame1"]]
    results = list(model.propagate(frames, inputs()["mask_border"], size=(101, 67)))
    logits = golden()["no_visual/logits"]
    np.testing.assert_allclose(results[1].probabilities[0, ::5, ::5], 1 / (1 + np.exp(-logits)), rtol=0, atol=2e-5)


def test_a_converted_file_with_a_changed_key_is_refused(tmp_path):
    arrays = variables(Variant(False, True, False))
    arrays["osmn/seg/upscore-fuse/weights"] = np.zeros((1, 1, 48, 1), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(CheckpointError, match="upscore-fuse/weights .*1, 1, 48, 1"):
        convert(tmp_path / "w.npz", tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()
