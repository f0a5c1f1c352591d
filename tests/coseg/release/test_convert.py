"""The converter, on checkpoints of random weights in both of torch's file formats."""

from __future__ import annotations

import importlib.util
import json
import pickle
from importlib import resources
from pathlib import Path

import pytest
import torch

import ssnm
from ssnm.cli import main
from ssnm.coseg.release import convert as script
from ssnm.engine.checkpoint import load_model_file
from ssnm.errors import CheckpointError, ConfigError, MissingFileError
from ssnm.naming import canonical_category


def load_by_path(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = load_by_path(Path(__file__).with_name("release_oracle.py"))


@pytest.fixture(scope="module")
def weights():
    return oracle.random_weights()


@pytest.fixture(scope="module")
def converted(weights, tmp_path_factory):
    """A whole conversion of a file in the legacy format."""
    folder = tmp_path_factory.mktemp("release")
    torch.save(weights, folder / "SSNM-Coseg_best.pth", _use_new_zipfile_serialization=False)
    conversion = script.convert(folder / "SSNM-Coseg_best.pth", folder / "out.safetensors")
    return conversion, folder / "out.safetensors"


def test_the_result_loads_like_any_model_and_remembers_what_it_is(converted, weights):
    segmenter = ssnm.from_pretrained(converted[1])
    model = segmenter.predictor.model
    assert torch.equal(model.decoder.shared.smooth.weight, weights["concat3.2.weight"])
    assert model.spatial.solver == "adam200" and segmenter.predictor.fixed_group_size == 5
    assert "SSNM-Coseg_best.pth" in segmenter.card["origin"] and len(segmenter.card["origin_sha256"]) == 64


def test_the_labels_are_coco_s_categories_by_ascending_id_without_80_and_89(converted):
    facts = json.loads(resources.files("ssnm.facts").joinpath("coco_seg_counts.json").read_text())["categories"]
    ids = sorted(int(i) for i in facts)
    labels = tuple(load_model_file(converted[1]).inference["labels"])
    assert labels == tuple(canonical_category(facts[str(i)]["name"]) for i in ids)
    assert len(labels) == 78 and not {80, 89} & set(ids) and labels[0] == "person" and labels[-1] == "toothbrush"


def test_the_report_names_every_tensor_and_counts(converted, weights):
    lines = converted[0].report()
    assert sum(line.split()[0] in weights for line in lines) == len(weights)
    assert any("concat2.4.bias" in line and "= concat4.4.bias" in line for line in lines)
    assert lines[-3:] == [
        "116 tensors taken over (40,838,898 values), all of the expected shapes",
        "12 tensors are copies of concat4 and equal to it, kept once",
        "0 of 13 batch norm counters present; the others start at 0",
    ]


def test_the_zip_format_and_a_training_wrapper_read_the_same(converted, weights, tmp_path):
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "zip.pth")
    from_zip = script.convert_state_dict(script.read_tensors(tmp_path / "zip.pth"), "zip.pth").weights
    assert from_zip.keys() == converted[0].weights.keys()
    assert all(torch.equal(value, converted[0].weights[key]) for key, value in from_zip.items())


class Payload:
    """A pickle that would write a file if it were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_of_objects_is_refused_and_not_run(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Payload(tmp_path / "written"), protocol=2))
    torch.save({"weights": Payload(tmp_path / "written")}, tmp_path / "evil_zip.pth")
    for name in ("evil.pth", "evil_zip.pth"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read as weights"):
            script.convert(tmp_path / name, tmp_path / "out.safetensors")
    assert not (tmp_path / "written").exists() and not (tmp_path / "out.safetensors").exists()


def test_a_missing_file_and_a_wrong_target_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="none.pth"):
        script.convert(tmp_path / "none.pth", tmp_path / "out.safetensors")
    with pytest.raises(ConfigError, match="must end in .safetensors, got .*out.pth"):
        script.convert(tmp_path / "none.pth", tmp_path / "out.pth")


def test_the_command_prints_one_line_and_exits_with_2_on_a_foreign_file(tmp_path, capsys):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    assert main(["convert", "release", str(tmp_path / "foreign.pth"), str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "128 missing (first: base.0.weight), 1 unexpected (first: conv.weight)" in error
    assert error.count("\n") == 1
