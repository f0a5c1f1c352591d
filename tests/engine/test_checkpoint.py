"""Checkpoints: whole or not at all, read strictly, without pickles, rebuilt from the file alone."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ssnm.engine.checkpoint as checkpoint
from ssnm.engine.checkpoint import (
    MODEL_FORMAT,
    ModelFile,
    export_model,
    load_model_file,
    load_training,
    save_training,
)
from ssnm.errors import CheckpointError, MissingFileError
from ssnm.nn.backbones import read_tensors
from ssnm.nn.weights import load_weights


def a_state(step: int = 3, **more) -> dict:
    return {"step": step, "model": {"w": torch.full((4,), float(step))}, "config": {"model": {}, "a": [1, None, "x"]},
            "method": "ssnm", "inference": {"labels": ["cat", "cow"]}, "ema": None} | more


# Training checkpoints


def test_a_training_checkpoint_comes_back_as_it_was(tmp_path):
    save_training(tmp_path / "new" / "last.pt", a_state(rng=torch.get_rng_state()))
    state = load_training(tmp_path / "new" / "last.pt")
    assert torch.equal(state["model"]["w"], torch.full((4,), 3.0))
    assert state["config"] == {"model": {}, "a": [1, None, "x"]} and state["step"] == 3
    assert os.listdir(tmp_path / "new") == ["last.pt"]


@pytest.mark.parametrize(
    "where",
    ["engine.checkpoint.torch.save", "files.atomic.os.fsync", "engine.checkpoint.torch.load",
     "files.atomic.os.replace"],
)
def test_a_failure_while_writing_leaves_the_previous_checkpoint(tmp_path, monkeypatch, where):
    path = tmp_path / "last.pt"
    save_training(path, a_state(1))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"ssnm.{where}", full)
        with pytest.raises(CheckpointError, match="No space left.*the previous one is untouched"):
            save_training(path, a_state(2))
    assert load_training(path)["step"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]  # nothing half-written is left


def test_a_file_that_cannot_be_read_back_never_takes_the_name(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_training(path, a_state(1))
    whole = torch.save

    def cut_short(content, file):
        whole(content, file)
        file.truncate(200)

    with monkeypatch.context() as patch:
        patch.setattr("ssnm.engine.checkpoint.torch.save", cut_short)
        with pytest.raises(CheckpointError, match="the previous one is untouched"):
            save_training(path, a_state(2))
    assert load_training(path)["step"] == 1


@pytest.mark.parametrize("value", [np.float64(0.5), nn.Linear(1, 1), {"deep": [os.path]}])
def test_values_that_the_safe_reader_would_refuse_are_never_saved(tmp_path, value):
    save_training(tmp_path / "last.pt", a_state(1))
    with pytest.raises(CheckpointError, match="could not be written"):
        save_training(tmp_path / "last.pt", a_state(2, extra=value))
    assert load_training(tmp_path / "last.pt")["step"] == 1


WRITER = """
import sys, torch
from ssnm.engine.checkpoint import save_training
step = 0
while True:
    step += 1
    save_training(sys.argv[1], {"step": step, "model": {"w": torch.full((500_000,), float(step))}})
    print(step, flush=True)
"""


def test_killing_the_writer_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()  # one checkpoint exists; the loop writes almost without pause
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    last = int(([1] + [int(line) for line in process.stdout])[-1])
    process.wait()
    state = load_training(path)
    assert state["step"] >= last and (state["model"]["w"] == state["step"]).all()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip"])
def test_a_damaged_file_is_one_line_with_its_name(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="last.pt cannot be read as a checkpoint") as error:
        load_training(tmp_path / "last.pt")
    assert "\n" not in str(error.value)


def test_a_cut_checkpoint_is_refused(tmp_path):
    save_training(tmp_path / "last.pt", a_state())
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_training(tmp_path / "last.pt")


@pytest.mark.parametrize("content, got", [({"state_dict": {}}, "got None"), ([1, 2], "got list")])
def test_a_foreign_file_is_named_as_such(tmp_path, content, got):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"not a training checkpoint of ssnm.*{got}"):
        load_training(tmp_path / "other.pth")


class Trap:
    """Unpickling this runs code."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_never_opened(tmp_path):
    torch.save({"format": "ssnm-training-1", "model": Trap(tmp_path / "ran")}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_training(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(MissingFileError, match=f"{name}: no such"):
        load_model_file(tmp_path / name)


# Exported models


def a_model_file(**weights) -> ModelFile:
    config = {"model": {"dim": 8}, "train": {"steps": 5}}
    return ModelFile("ssnm", config, {"labels": ["cat", "cow"]}, weights or {"w": torch.rand(3)}, {"steps": 5})


def test_an_exported_model_comes_back_as_it_was(tmp_path):
    export_model(tmp_path / "new" / "m.safetensors", a_model_file(w=torch.rand(3), n=torch.tensor(7)))
    file = load_model_file(tmp_path / "new" / "m.safetensors")
    assert (file.method, file.config) == ("ssnm", {"model": {"dim": 8}})  # without the training config
    assert (file.inference, file.card) == ({"labels": ["cat", "cow"]}, {"steps": 5})
    assert file.weights["n"] == 7 and file.weights["w"].dtype == torch.float32


def test_half_precision_export_narrows_floats_only_and_loads_widened(tmp_path):
    model = nn.BatchNorm1d(3)
    weights = {k: v.clone() for k, v in model.state_dict().items()} | {"weight": torch.tensor([0.1, 0.2, 0.3])}
    export_model(tmp_path / "m.safetensors", ModelFile("ssnm", {"model": {}}, {}, weights), half=True)
    stored = load_model_file(tmp_path / "m.safetensors").weights
    assert stored["weight"].dtype == torch.float16 and stored["num_batches_tracked"].dtype == torch.int64
    load_weights(model, stored, "m")
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight.detach(), weights["weight"], atol=1e-4, rtol=0)


def test_a_transposed_or_shared_weight_can_be_exported(tmp_path):
    shared = torch.rand(2, 3)
    export_model(tmp_path / "m.safetensors", a_model_file(a=shared.T, b=shared))
    weights = load_model_file(tmp_path / "m.safetensors").weights
    assert torch.equal(weights["a"].T, weights["b"]) and torch.equal(weights["b"], shared)


def test_backbone_weights_are_not_taken_for_a_model(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="not an exported ssnm model.*model.backbone.weights"):
        load_model_file(tmp_path / "w.safetensors")


def test_a_damaged_export_is_refused(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_model_file(tmp_path / "m.safetensors")


def test_the_model_of_a_training_checkpoint_is_its_average_where_it_has_one(tmp_path):
    save_training(tmp_path / "plain.pt", a_state())
    save_training(tmp_path / "ema.pt", a_state(ema={"w": torch.zeros(4)}))
    assert load_model_file(tmp_path / "plain.pt").weights["w"].tolist() == [3.0] * 4
    file = load_model_file(tmp_path / "ema.pt")
    assert file.weights["w"].tolist() == [0.0] * 4
    assert file.inference == {"labels": ["cat", "cow"]} and file.card == {"step": 3}


def test_a_page_or_a_pointer_in_place_of_a_model_is_called_what_it_is(tmp_path):
    for content, words in ((b"<!DOCTYPE html><html>", "it is a web page"), (b"", "it is empty"),
                           (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer")):  # fmt: skip
        for name in ("m.safetensors", "m.pt"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(CheckpointError, match=words):
                load_model_file(tmp_path / name)


@pytest.mark.parametrize(
    "change, words",
    [({"config": None}, "lacks its config"), ({"config": {}}, "lacks its config"), ({"inference": 3}, "its inference"),
     ({"method": None}, "its method"), ({"model": 3}, "or its network"), ({"model": {"w": 1}}, "or its network"),
     ({"step": None}, "lacks its step")],
)  # fmt: skip
def test_a_checkpoint_without_a_part_is_called_damaged(tmp_path, change, words):
    whole = {"method": "ssnm", "config": {"model": {}}, "inference": {}, "step": 3, "model": {"w": torch.zeros(2)}}
    save_training(tmp_path / "m.pt", whole | change)
    with pytest.raises(CheckpointError, match=words):
        load_model_file(tmp_path / "m.pt")


@pytest.mark.parametrize("change", [{"config": "{"}, {"config": "[]"}, {"config": "{}"}, {"card": "[]"}])
def test_an_exported_model_that_says_nonsense_of_itself_is_called_damaged(tmp_path, change):
    metadata = {"format": MODEL_FORMAT, "method": "ssnm", "config": '{"model": {}}', **change}
    save_file({"w": torch.zeros(2)}, tmp_path / "m.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model_file(tmp_path / "m.safetensors")


def test_a_picture_and_half_a_file_in_place_of_a_model_are_told_without_torchs_options(tmp_path):
    torch.save({"w": torch.zeros(9000)}, tmp_path / "half.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "half.pt").read_bytes()[:9000])
    (tmp_path / "picture.pt").write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    for name, words in (("half.pt", "it is cut off"), ("picture.pt", "it is no file of torch.save")):
        for read in (load_model_file, read_tensors):
            with pytest.raises(CheckpointError, match=words):
                read(tmp_path / name)


# Strict loading


def test_quantised_weights_are_refused_in_place_of_being_cut_to_whole_numbers():
    model = nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match="1 weight of whole numbers .*bias"):
        load_weights(model, model.state_dict() | {"bias": torch.tensor([0, 1])}, "m.pt")


def test_weights_that_are_no_numbers_are_refused():
    model = nn.Linear(3, 2)
    weights = model.state_dict() | {"bias": torch.tensor([0.0, float("nan")])}
    with pytest.raises(CheckpointError, match="1 weight not of finite numbers .first: bias"):
        load_weights(model, weights, "here.pt")


@pytest.mark.parametrize(
    "change, wanted",
    [
        (lambda w: w.pop("bias"), "1 missing .first: bias"),
        (lambda w: w.update(other=torch.zeros(1)), "1 unexpected .first: other"),
        (lambda w: w.update(weight=torch.zeros(3, 2)), "1 of another shape .first: weight"),
    ],
)
def test_weights_that_do_not_fit_are_counted_and_named_and_nothing_is_loaded(change, wanted):
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    weights = {k: v + 1 for k, v in model.state_dict().items()}
    change(weights)
    with pytest.raises(CheckpointError, match=f"here.pt: the weights do not fit .*{wanted}"):
        load_weights(model, weights, "here.pt")
    assert torch.equal(model.weight, before)


def test_the_file_format_is_versioned(tmp_path, monkeypatch):
    for number, words in ((0, "wanted format ssnm-training-2, got ssnm-training-0"), (7, "written by a newer version")):
        monkeypatch.setattr(checkpoint, "TRAINING_FORMAT", f"ssnm-training-{number}")
        save_training(tmp_path / "other.pt", a_state())
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match=words):
            load_training(tmp_path / "other.pt")
