"""scripts/average_models.py: the mean of two models' weights."""

import importlib.util
from pathlib import Path

import pytest
import torch

from ssnm.engine.checkpoint import ModelFile, load_model_file
from ssnm.errors import CheckpointError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("average_models", ROOT / "scripts" / "average_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model(labels: tuple[str, ...], value: float, **more: torch.Tensor) -> ModelFile:
    rows = torch.stack([torch.full((2,), value + k) for k in range(len(labels))])
    weights = {"body": torch.full((3,), value), "semantic.classifier.weight": rows, **more}
    return ModelFile("ssnm", {}, {"labels": list(labels)}, weights)


def test_weights_are_mixed_by_the_share_and_rows_by_category(script):
    before, after = model(("cat", "dog"), 0.0, **{"fusion.x": torch.ones(1)}), model(("ant", "dog", "cat"), 10.0)
    mixed = script.average(before, after, 0.25)
    assert mixed.weights["body"].tolist() == [2.5] * 3 and set(mixed.weights) == set(after.weights)
    # ant is new; dog was row 1 of the first (value 1), row 1 of the second (11); cat 0 and 12
    assert mixed.weights["semantic.classifier.weight"][:, 0].tolist() == [10.0, 3.5, 3.0]
    assert mixed.inference["labels"] == ["ant", "dog", "cat"]


def test_models_of_different_bodies_are_refused(script):
    with pytest.raises(CheckpointError, match="extra: the first model has no such layer"):
        script.average(model(("cat",), 0.0), model(("cat",), 1.0, extra=torch.ones(1)), 0.5)


def test_the_script_writes_a_model_file(script, checkpoint, tmp_path):
    out = tmp_path / "mean.safetensors"
    assert script.main([str(checkpoint), str(checkpoint), "--out", str(out)]) == 0
    ours, theirs = load_model_file(out), load_model_file(checkpoint)
    assert all(torch.equal(ours.weights[k], v) for k, v in theirs.weights.items())
    with pytest.raises(CheckpointError, match="--share must lie in"):
        script.main([str(checkpoint), str(checkpoint), "--share", "2", "--out", str(out)])
