"""SSNM's model files: what inference reads from them, what version 0.1 wrote, starting from another model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ssnm
from ssnm.coseg.config import LossConfig, config_from_dict
from ssnm.coseg.files import for_export, inference_of, init_from, read_inference
from ssnm.coseg.model import SpatialModulator
from ssnm.coseg.train import train_run
from ssnm.engine.checkpoint import ModelFile, export_model, load_model_file, load_training
from ssnm.errors import CheckpointError
from ssnm.methods import load_config

OLD = Path(__file__).parent / "version_0_1"  # config, checkpoint and probabilities, written by version 0.1


def test_a_config_of_version_0_1_gives_its_network():
    config = load_config(OLD / "config.yaml")
    assert (config.method, config.model.dim, config.model.backbone.name) == ("ssnm", 16, "lcnet_035")


def test_a_checkpoint_of_version_0_1_predicts_what_it_predicted():
    pictures = [np.full((20, 30, 3), 30 * i, np.uint8) + np.arange(30, dtype=np.uint8)[None, :, None] for i in range(3)]
    result = ssnm.from_pretrained(OLD / "checkpoint.pt", device="cpu").segment(pictures)
    np.testing.assert_allclose(result.prediction.probabilities, np.load(OLD / "probabilities.npy"), atol=1e-5)
    assert len(ssnm.from_pretrained(OLD / "checkpoint.pt", device="cpu").labels) == 12


def test_a_checkpoint_of_version_0_1_can_be_resumed(tmp_path):
    config = load_config(OLD / "config.yaml", ["train.steps=3"])
    result = train_run(config, tmp_path, torch.device("cpu"), resume=OLD / "checkpoint.pt", say=lambda line: None)
    assert (result.finished, result.step) == (True, 3)
    assert load_training(tmp_path / "checkpoints" / "last.pt")["format"] == "ssnm-training-2"


def test_an_exported_model_carries_what_inference_needs_and_no_training_config(tmp_path):
    source = load_model_file(OLD / "checkpoint.pt")
    export_model(tmp_path / "m.safetensors", for_export(source, "here"))
    file = load_model_file(tmp_path / "m.safetensors")
    assert set(file.config) == {"model"} and set(file.inference) == {"labels", "size", "threshold"}
    assert read_inference(file, "there") == read_inference(source, "here")
    assert file.inference["size"] == 32


def test_the_rule_of_the_mask_follows_the_loss_and_lies_in_the_file():
    rules = {weighting: inference_of(config_from_dict({"loss": {"weighting": weighting}}), ()).threshold
             for weighting in ("paper", "balanced", "none")}  # fmt: skip
    assert rules == {"paper": "mean+std", "balanced": 0.5, "none": 0.5}
    assert inference_of(config_from_dict({"loss": {"type": "release"}, "model": {"name": "ssnm_release"}}), ()) \
        .threshold == "mean+std"
    assert LossConfig().weighting == "paper"


def test_a_file_that_does_not_say_what_inference_needs_is_refused():
    with pytest.raises(CheckpointError, match="m.pt: what inference needs is missing or damaged"):
        read_inference(ModelFile("ssnm", {}, {"size": 32}, {}), "m.pt")
    with pytest.raises(CheckpointError, match="(?s)m.pt: .*a guidance of 0 to 10 was expected, got -1"):
        read_inference(ModelFile("ssnm", {}, {"size": 32, "labels": [], "threshold": 0.5, "guidance": -1}, {}), "m.pt")


# Starting from another model


class WithClassifier(nn.Module):
    """The part of the network that knows the label list."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.semantic = nn.ModuleDict({"classifier": nn.Linear(5, categories)})
        self.body = nn.Linear(2, 3)


def source_of(model: nn.Module, labels: tuple[str, ...]) -> ModelFile:
    return ModelFile("ssnm", {}, {"labels": list(labels)}, {k: v.clone() for k, v in model.state_dict().items()})


def test_the_same_label_list_takes_everything_over():
    old, new = WithClassifier(2), WithClassifier(2)
    said = init_from(new, source_of(old, ("cat", "cow")), ("cat", "cow"), "old.pt")
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in new.state_dict().items())
    assert said == "started from old.pt: all weights taken over"


def test_rows_of_the_classifier_move_by_category_name():
    old, new = WithClassifier(3), WithClassifier(4)
    fresh = {k: v.clone() for k, v in new.semantic.classifier.state_dict().items()}
    said = init_from(new, source_of(old, ("cat", "cow", "dog")), ("ant", "dog", "cat", "bee"), "old.pt")
    for name, row in new.semantic.classifier.state_dict().items():
        stored = old.semantic.classifier.state_dict()[name]
        assert torch.equal(row[1], stored[2]) and torch.equal(row[2], stored[0])
        assert torch.equal(row[0], fresh[name][0]) and torch.equal(row[3], fresh[name][3])
    assert torch.equal(new.body.weight, old.body.weight)
    assert "2 categories carried over, 2 rows of the classifier reset (ant, bee)" in said


def test_the_same_categories_in_another_order_are_sorted_out():
    old, new = WithClassifier(2), WithClassifier(2)
    said = init_from(new, source_of(old, ("cat", "cow")), ("cow", "cat"), "old.pt")
    assert torch.equal(new.semantic.classifier.weight, old.semantic.classifier.weight.flip(0))
    assert "0 rows of the classifier reset" in said


def test_a_model_of_another_body_is_refused():
    old, new = WithClassifier(2), WithClassifier(3)
    old.body = nn.Linear(2, 7)
    with pytest.raises(CheckpointError, match="2 of another shape .first: body.weight"):
        init_from(new, source_of(old, ("cat", "cow")), ("ant", "cat", "cow"), "old.pt")


def test_a_fusion_is_left_behind_where_the_new_model_clusters_other_maps(tiny_model):
    fused, coarsest = tiny_model(), tiny_model(spatial=SpatialModulator(maps="coarsest"))
    assert "all weights taken over" in init_from(coarsest, source_of(fused, ("a", "b", "c")), ("a", "b", "c"), "old.pt")
    assert all(torch.equal(v, fused.state_dict()[k]) for k, v in coarsest.state_dict().items())
    with pytest.raises(CheckpointError, match="missing .first: fusion"):
        init_from(fused, source_of(coarsest, ("a", "b", "c")), ("a", "b", "c"), "old.pt")
