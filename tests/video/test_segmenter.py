"""From a model file to masks, with a real (small, untrained) network."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.config.loading import config_to_dict
from ssnm.engine.checkpoint import export_model
from ssnm.errors import ConfigError
from ssnm.files.ids import ids_png
from ssnm.methods import config_of
from ssnm.video import build

CONFIG = {
    "method": "osmn",
    "model": {"name": "small", "backbone": {"name": "mobilenetv2_035", "weights": "none", "strides": [4, 8, 16]},
              "dim": 8, "hidden": 16},
    "data": {"size": [64, 48], "sources": [{"type": "procedural"}]},
    "guides": {"side": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """An exported model whose modulators do something."""
    torch.manual_seed(0)
    config = config_of(CONFIG)
    model = build.build_model(config.model)
    torch.nn.init.normal_(model.visual.scale.weight, std=0.5)
    torch.nn.init.normal_(model.predict.weight, std=3)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    export_model(path, build.model_file(config, model.state_dict()))
    return path


@pytest.fixture(scope="module")
def loaded(model_path):
    return ssnm.from_pretrained(model_path, "cpu")


def probabilities(segmenter, frames, mask, **options):
    return np.stack([r.probabilities for r in segmenter.propagate(frames, mask, **options)])


def test_a_model_file_says_how_it_is_to_be_used(loaded):
    assert loaded.settings.size == (64, 48) and loaded.settings.guide_side == 32
    assert not loaded.network.training and config_to_dict(config_of(CONFIG))["method"] == "osmn"


def test_objects_in_one_batch_are_those_of_separate_runs(loaded, clip):
    frames, masks = clip()
    both = probabilities(loaded, frames, masks[0])
    for place, i in enumerate((1, 2)):
        alone = probabilities(loaded, frames, np.where(masks[0] == i, i, 0))
        assert np.allclose(both[:, place], alone[:, 0], atol=1e-5)
    assert both[1:].std() > 0.01  # the network says something


def test_scales_and_guides_reach_the_network(loaded, clip):
    frames, masks = clip()
    mask = np.where(masks[0] == 1, 1, 0)
    usual = probabilities(loaded, frames, mask)
    unscaled = copy.deepcopy(loaded)
    unscaled.network.visual = None
    assert np.abs(probabilities(unscaled, frames, mask) - usual)[1:].max() > 1e-3


def test_fine_tuning_is_a_copy_of_its_own_and_repeatable(loaded, clip):
    frames, masks = clip(count=3)
    before = {k: v.clone() for k, v in loaded.network.state_dict().items()}
    mask = np.where(masks[0] == 1, 1, 0)
    usual, tuned, again = (probabilities(loaded, frames, mask, finetune=k) for k in (0, 2, 2))
    assert (tuned == again).all() and np.abs(tuned - usual)[1:].max() > 1e-4
    assert all((v == before[k]).all() for k, v in loaded.network.state_dict().items())


def test_the_command_takes_a_model_file(model_path, clip, tmp_path, capsys):
    frames, masks = clip(count=3)
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index}.png")
    (tmp_path / "first.png").write_bytes(ids_png(masks[0]))
    words = ["video", tmp_path / "frames", "--mask", tmp_path / "first.png", "--out", tmp_path / "out",
             "--checkpoint", model_path, "--size", 48, 32, "--finetune", 1, "--device", "cpu"]  # fmt: skip
    assert main([str(w) for w in words]) == 0
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3
    assert main(["segment", str(tmp_path / "frames"), "--out", str(tmp_path), "--checkpoint", str(model_path)]) == 2
    assert "holds a model of osmn, but one of ssnm is needed here" in capsys.readouterr().err


def test_what_belongs_to_the_other_method_is_one_clear_line(loaded, clip):
    from ssnm.coseg.segmenter import CoSegmenter

    with pytest.raises(ConfigError, match=r"segment\(images\)"):
        CoSegmenter.propagate(object(), *clip())
    with pytest.raises(ConfigError, match="propagate"):
        loaded.segment([])
