"""`extends: other.yaml` in a config: the other file's keys, changed by one's own. And old keys, which warn."""

import warnings
from pathlib import Path

import pytest
import yaml

from ssnm.config.loading import read_yaml
from ssnm.coseg.config import config_from_dict
from ssnm.errors import ConfigError, MissingFileError
from ssnm.methods import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = {"model": {"dim": 64, "backbone": {"name": "vgg16"}}, "data": {"labels": ["cat", "dog"], "size": 96}}


@pytest.fixture
def write(tmp_path):
    def write_config(name: str, mapping: dict) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(mapping))
        return path

    write_config("base.yaml", BASE)
    return write_config


def test_sections_are_merged_and_lists_and_values_replaced(write):
    own = {"extends": "base.yaml", "model": {"backbone": {"strides": [4, 8]}}, "data": {"labels": ["cow"], "size": 32}}
    assert read_yaml(write("own.yaml", own)) == {
        "model": {"dim": 64, "backbone": {"name": "vgg16", "strides": [4, 8]}},
        "data": {"labels": ["cow"], "size": 32},
    }
    assert read_yaml(write("base.yaml", BASE)) == BASE


def test_the_command_line_has_the_last_word(write):
    config = load_config(write("own.yaml", {"extends": "base.yaml", "model": {"dim": 32}}), ["model.dim=16"])
    assert (config.model.dim, config.model.backbone.name, config.data.size) == (16, "vgg16", 96)


def test_the_other_file_lies_beside_the_one_that_names_it(write):
    inner = write("folder/own.yaml", {"extends": "../base.yaml"})
    assert read_yaml(inner) == BASE
    with pytest.raises(MissingFileError, match=r"own.yaml: extends .*base.yaml, which"):
        read_yaml(write("folder/own.yaml", {"extends": "base.yaml"}))


def test_one_level_is_allowed(write):
    write("own.yaml", {"extends": "base.yaml"})
    with pytest.raises(ConfigError, match="third.yaml: extends a file that extends another"):
        read_yaml(write("third.yaml", {"extends": "own.yaml"}))


def test_shipped_configs_that_extend_another_differ_from_it_as_they_say():
    vgg, hrnet = load_config(CONFIGS / "ssnm_vgg16.yaml"), load_config(CONFIGS / "ssnm_hrnet.yaml")
    assert vgg.model.backbone.name == "vgg16" and vgg.data == hrnet.data and vgg.train == hrnet.train
    quick, small = load_config(CONFIGS / "deepco3_quickstart.yaml"), load_config(CONFIGS / "deepco3_small.yaml")
    assert quick.side == 240 and (quick.fit, quick.model, quick.select) == (small.fit, small.model, small.select)


def test_the_old_name_of_an_optimiser_that_begins_anew_warns_and_means_the_same():
    old = {"train": {"schedule": {"name": "halving", "every": 40, "rebuild_optimizer": True}}}
    with pytest.warns(DeprecationWarning, match="run.yaml: train.schedule.rebuild_optimizer is now reset_every: 40"):
        config = config_from_dict(old, "run.yaml")
    assert config.train.schedule.reset_every == 40
    old["train"]["schedule"]["rebuild_optimizer"] = False  # as every resolved config of version 0.1 has it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config_from_dict(old, "run.yaml").train.schedule.reset_every == 0
