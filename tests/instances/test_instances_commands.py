"""The commands on tiny drawn groups: find, test, score again, report; and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ssnm.cli import main
from ssnm.data.coco_results import instance_records
from ssnm.data.instance_sets import read_instance_set
from ssnm.data.procedural_instances import write_procedural_instances
from ssnm.instances import discovery
from ssnm.instances.config import config_from_dict
from ssnm.methods import load_config

TINY = {
    "method": "deepco3",
    "model": {"backbone": {"name": "mobilenetv2_035", "weights": "none", "tap": ""}},
    "fit": {"mode": "fast", "size": 64, "epochs": 2, "lr": 1e-2},
    "responses": {"kind": "gaussian", "clip": True},
    "select": {"normalise": True},
    "side": 64,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two drawn groups in the official layout, with the true masks as proposals and a map as prior."""
    root = write_procedural_instances(tmp_path_factory.mktemp("drawn"), groups=2, images=2, side=64)
    for group in read_instance_set("instance_folder", root):
        for index, path in enumerate(group.paths):
            masks = group.truth(index)
            entries = instance_records(1, masks, np.ones(len(masks)))
            place = root / "MCG_fast" / group.name / f"{path.stem}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(entries))
            prior = root / "SalRes_drawn" / group.name / f"{path.stem}.png"
            prior.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(masks.any(axis=0).astype(np.uint8) * 255).save(prior)
    return root


@pytest.fixture(scope="module")
def tested(root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    (out / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    arguments = ["test", str(out / "tiny.yaml"), "--dataset", "instance_folder", "--data", str(root), "--out", str(out)]
    options = ["--prior", "own", "--proposals", "own", "--prior-trained", "yes", "--report", "--device", "cpu"]
    assert main([*arguments, *options]) == 0
    return out


def test_a_tested_folder_holds_masks_scores_and_a_page(tested, root):
    scores = json.loads((tested / "scores.json").read_text())
    assert [g["name"] for g in scores["groups"]] == [g.name for g in read_instance_set("instance_folder", root)]
    assert scores["mean"]["ceiling"] == [1.0, 1.0] and scores["mean"]["baseline"] is not None
    assert scores["notes"] == ["prior given maps, prior trained: yes"]
    page = (tested / "report.html").read_text()
    assert page.count("<img") == 8 and scores["groups"][0]["name"] in page  # two groups of two, truth and found
    record = json.loads((tested / "run.json").read_text())
    assert record["task"] == "instances" and len(record["groups"]) == 2


def test_scoring_the_written_masks_again_gives_the_same_numbers(tested, root, tmp_path, capsys):
    assert main(["score", "--task", "instances", "--pred", str(tested), "--gt", str(root), "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "scores.json").read_text())
    scores = json.loads((tested / "scores.json").read_text())
    assert again["mean"]["ap"] == pytest.approx(scores["mean"]["ap"])
    assert again["mean"]["corloc"] == pytest.approx(scores["mean"]["corloc"])
    assert again["coco"]["AP50"] == pytest.approx(scores["coco"]["AP50"])
    assert "mean of 2" in capsys.readouterr().out


def test_the_truth_as_results_scores_full(root, tmp_path):
    for group in read_instance_set("instance_folder", root):
        records = [r for i, path in enumerate(group.paths) for masks in [group.truth(i)]
                   for r in instance_records(i + 1, masks, np.ones(len(masks)), file_name=path.name)]  # fmt: skip
        (tmp_path / group.name).mkdir()
        (tmp_path / group.name / "instances.json").write_text(json.dumps(records))
    out = tmp_path / "out"
    assert main(["score", "--task", "instances", "--pred", str(tmp_path), "--gt", str(root), "--out", str(out)]) == 0
    mean = json.loads((out / "scores.json").read_text())["mean"]
    assert mean["ap"] == [1.0, 1.0, 1.0] and mean["corloc"] == 1.0


def test_ssnm_instances_writes_overlays_masks_and_coco_results(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(discovery, "preset", lambda mode: config_from_dict(TINY))
    group = read_instance_set("instance_folder", root)[0]
    out = tmp_path / "found"
    proposals = ["--proposals", str(root / "MCG_fast" / group.name)]
    assert main(["instances", str(group.paths[0].parent), "--out", str(out), *proposals, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "in 2 images; prior border, prior trained: no" in said
    assert {p.name for p in out.iterdir()} == {"overlays", "masks", "instances.json", "result.json"}


@pytest.mark.parametrize(
    "options, words",
    [
        (["--prior", "nowhere"], "nowhere: no such folder"),
        (["--prior-trained", "yes"], "it is known"),
        (["--proposals", "nowhere"], "no such file or folder of proposals"),
    ],
)
def test_options_that_cannot_be_are_one_line(root, tmp_path, capsys, options, words):
    image = next((root / "Image").rglob("*.png"))
    assert main(["instances", str(image), "--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error


def test_two_images_of_one_name_are_refused_before_the_work(root, tmp_path, capsys):
    images = [str(path) for path in sorted((root / "Image").rglob("scene_000.png"))]
    assert main(["instances", *images, "--out", str(tmp_path)]) == 2
    assert "two images are named 'scene_000'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, words",
    [
        (["--classes", "unicorn"], "not in this set"),
        (["--groups", "x.json"], "is for --dataset coco_instances"),
        (["--data", "nowhere"], "no such folder"),
    ],
)
def test_a_test_that_cannot_be_is_one_line(root, tmp_path, capsys, change, words):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    base = ["test", str(tmp_path / "tiny.yaml"), "--dataset", "instance_folder", "--data", str(root)]
    assert main([*base, "--out", str(tmp_path / "out"), *change]) == 2
    assert words in capsys.readouterr().err


def test_the_presets_are_what_the_configs_say():
    configs = Path(__file__).parents[2] / "configs"
    for mode, name in (("fast", "deepco3_fast"), ("paper", "deepco3_vgg16")):
        assert load_config(configs / f"{name}.yaml") == discovery.preset(mode)
