"""Configuration: what is accepted, what is refused and in which words."""

import re
import typing
from pathlib import Path

import pytest
import yaml

from ssnm.config.loading import apply_overrides, config_to_dict, config_to_yaml, read_yaml
from ssnm.config.sources import SourceConfig, VocSourceConfig
from ssnm.coseg.config import Config, config_from_dict
from ssnm.errors import ConfigError, MissingFileError
from ssnm.files.places import data_root, find
from ssnm.methods import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def write(path: Path, text: str) -> Path:
    (path / "c.yaml").write_text(text)
    return path / "c.yaml"


def refused(mapping: dict) -> str:
    with pytest.raises(ConfigError) as error:
        config_from_dict(mapping, "file.yaml")
    assert "\n" not in str(error.value)
    return str(error.value)


# Reading


def test_a_file_without_keys_gives_the_papers_training(tmp_path):
    config = load_config(write(tmp_path, "{}"))
    assert config == Config()
    assert (config.train.lr, config.train.betas, config.train.steps) == (1e-4, (0.9, 0.999), 200_000)
    assert (config.train.schedule.name, config.train.schedule.every) == ("halving", 25_000)
    assert (config.data.group_size, config.train.batch_groups, config.data.size) == (5, 4, 224)
    assert config.loss.weighting == "paper" and config.loss.spa_reduction == "sum" and config.loss.dice == 0


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "the file is empty"),
        ("# train: {steps: 3}\n", "the file is empty"),
        ("train: {steps: 3}\ntrain: {seed: 7}\n", "the key 'train' stands twice, in lines 1 and 2"),
        ("train:\n  steps: 3\n  lr: 1e-4\n  steps: 4\n", "the key 'steps' stands twice, in lines 2 and 4"),
        ("train: {steps: 010}", "line 1: 010 is octal in YAML and was read as 8; write 8, or 10"),
        ("train:\n  steps: 1:30", "line 2: 1:30 is sexagesimal in YAML and was read as 90"),
        ("train: {lr: 1:30.5}", "1:30.5 is sexagesimal"),
    ],
)
def test_what_yaml_reads_in_another_way_than_it_looks_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match="c.yaml") as error:
        load_config(write(tmp_path, text))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_override_is_read_by_the_same_rule(tmp_path):
    with pytest.raises(ConfigError, match="--set train.steps=010: .*octal"):
        load_config(write(tmp_path, "{}"), ["train.steps=010"])


def test_anchors_and_merges_may_repeat_a_key(tmp_path):
    text = "x: &base {steps: 3, seed: 1}\ntrain: {<<: *base, steps: 4}\n"
    assert read_yaml(write(tmp_path, text))["train"] == {"steps": 4, "seed": 1}


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "'1e-4'"])
def test_a_float_is_read_however_it_is_written(tmp_path, text):
    assert load_config(write(tmp_path, f"train: {{lr: {text}}}")).train.lr == 1e-4


def test_numbers_are_converted_by_the_declared_type():
    config = config_from_dict({"train": {"steps": "1e3", "clip_norm": 1}, "data": {"labels": [1, "cat"]}})
    assert config.train.steps == 1000 and isinstance(config.train.steps, int)
    assert isinstance(config.train.clip_norm, float)
    assert config.data.labels == ("1", "cat")


def test_each_source_type_has_its_own_keys():
    sources = [
        {"type": "voc", "root": "VOC", "list": "train"},
        {"type": "processed", "root": "set"},
        {"type": "coco_seg", "index": "i.json", "images": "img"},
        {"type": "procedural", "kinds": "unseen"},
        {"type": "store", "root": "store/coco"},
    ]
    config = config_from_dict({"data": {"sources": sources}})
    assert [type(s) for s in config.data.sources] == list(typing.get_args(SourceConfig))
    assert config.data.sources[0].list == "train"
    sources[1]["list"] = "train"
    assert "unknown key 'data.sources.1.list'" in refused({"data": {"sources": sources}})


@pytest.mark.parametrize("text, word", [("a: [", "not valid YAML"), ("abc", "sections"), ("[1, 2]", "sections")])
@pytest.mark.parametrize("overrides", [(), ("train.lr=1",)])
def test_a_file_that_is_no_mapping_is_one_line(tmp_path, text, word, overrides):
    with pytest.raises(ConfigError, match=word) as error:
        load_config(write(tmp_path, text), overrides)
    assert "\n" not in str(error.value)


def test_a_binary_file_is_one_line(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "c.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="none.yaml: no such config file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_config_of_the_repository_loads_and_says_how_to_run_it(path):
    load_config(path)
    run = f"# python (train|test).py configs/{path.name}"  # instances are fitted when they are tested
    assert re.match(run, path.read_text())


# Refusals


@pytest.mark.parametrize(
    "mapping, wanted",
    [
        ({"trian": {}}, "file.yaml: unknown key 'trian'; did you mean 'train'?"),
        ({"train": {"lrr": 1}}, "file.yaml: unknown key 'train.lrr'; did you mean 'lr'?"),
        ({"model": {"backbone": {"nmae": "x"}}}, "unknown key 'model.backbone.nmae'; did you mean 'name'?"),
        ({"loss": {"xyz": 1}}, "unknown key 'loss.xyz'; known: "),
        ({"train": {"steps": 10.5}}, "train.steps must be of type int, got 10.5"),
        ({"train": {"steps": True}}, "train.steps must be of type int, got True"),
        ({"train": {"steps": float("inf")}}, "train.steps must be of type int, got inf"),
        ({"train": {"steps": "many"}}, "train.steps must be of type int, got 'many'"),
        ({"train": {"lr": "fast"}}, "train.lr must be of type float, got 'fast'"),
        ({"train": {"lr": "nan"}}, "train.lr must be of type float, got 'nan'"),
        ({"train": {"lr": [1]}}, "train.lr must be of type float, got [1]"),
        ({"train": {"compile": "yes"}}, "train.compile must be of type bool, got 'yes'"),
        ({"train": {"betas": [0.9]}}, "train.betas must have 2 values, got 1"),
        ({"train": {"betas": [0.9, "x"]}}, "train.betas.1 must be of type float, got 'x'"),
        ({"train": None}, "train must be a section (key: value), got None"),
        ({"model": {"backbone": {"name": False}}}, "model.backbone.name must be of type str, got False"),
        ({"model": {"backbone": {"strides": 4}}}, "model.backbone.strides must be a list, got 4"),
        ({"loss": {"weighting": "release"}}, "loss.weighting must be one of paper, balanced, none, got 'release'"),
        ({"data": {"sources": [{"type": "zip"}]}}, "data.sources.0.type must be one of voc, processed"),
        ({"data": {"sources": [{"type": ["voc"]}]}}, "data.sources.0.type must be one of voc, processed"),
        ({"data": {"sources": ["voc"]}}, "data.sources.0.type must be one of voc, processed"),
        ({"data": {"sources": [{"type": "voc"}]}}, "'data.sources.0.root' is missing and has no default"),
    ],
)
def test_a_wrong_key_or_type_is_named(mapping, wanted):
    assert wanted in refused(mapping)


@pytest.mark.parametrize(
    "mapping, wanted",
    [
        ({"train": {"lr": 0}}, "train.lr must be greater than 0, got 0.0"),
        ({"train": {"steps": 0}}, "train.steps must be greater than 0"),
        ({"data": {"group_size": -1}}, "data.group_size must be greater than 0, got -1"),
        ({"data": {"holdout": 1}}, "data.holdout must lie in [0, 1), got 1.0"),
        ({"data": {"workers": -1}}, "data.workers must not be negative, got -1"),
        ({"train": {"seed": -1}}, "train.seed must not be negative"),
        ({"data": {"augmentation": {"flip": 3}}}, "data.augmentation.flip must lie in [0, 1], got 3.0"),
        ({"data": {"mix": {"real": 0.7, "pasted": 0.7}}}, "data.mix.real + data.mix.pasted must not exceed 1, got 1.4"),
        ({"train": {"batch_groups": 4, "accumulate": 3}}, "train.accumulate=3 must divide train.batch_groups=4"),
        ({"model": {"backbone": {"strides": [2, 4]}}}, "model.backbone.strides must be some of 4, 8, 16, 32"),
        ({"model": {"backbone": {"strides": []}}}, "model.backbone.strides must be some of 4, 8, 16, 32"),
        ({"loss": {"seg": 0}}, "loss.seg and loss.dice are both 0"),
        ({"loss": {"spa": -1}}, "loss.spa must not be negative, got -1.0"),
        ({"train": {"betas": [0.9, 1]}}, "train.betas.1 must lie in [0, 1), got 1.0"),
        ({"train": {"weight_decay": -1e-4}}, "train.weight_decay must not be negative"),
        ({"train": {"backbone_lr_scale": -1}}, "train.backbone_lr_scale must not be negative"),
        ({"train": {"schedule": {"warmup": -1}}}, "train.schedule.warmup must not be negative"),
        ({"model": {"backbone": {"frozen_levels": -1}}}, "model.backbone.frozen_levels must not be negative"),
        ({"model": {"semantic": {"group_dim": 0}}}, "model.semantic.group_dim must be greater than 0"),
        ({"validation": {"groups": 0}}, "validation.groups must be greater than 0"),
        ({"validation": {"two_category_images": -1}}, "validation.two_category_images must not be negative"),
        ({"validation": {"pictures": -1}}, "validation.pictures must not be negative"),
        ({"data": {"mix": {"shared": 0}}}, "data.mix.shared must be greater than 0"),
        ({"data": {"mix": {"real": 0.5}}, "train": {"batch_groups": 1}}, "set train.batch_groups to 2 or more, got 1"),
        ({"data": {"mix": {"pasted": 0.5}}, "train": {"batch_groups": 1}}, "draw pairs of groups"),
        ({"evaluate": {"sources": [{"type": "procedural"}] * 2}}, "two sources are called 'procedural'"),
        ({"evaluate": {"sources": [{"type": "procedural", "name": "a/b"}]}}, "without '/' was expected, got 'a/b'"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(mapping, wanted):
    assert wanted in refused(mapping)


# Overrides


def overridden(mapping: dict, *overrides: str) -> Config:
    return config_from_dict(apply_overrides(mapping, overrides))


def test_overrides_win_over_the_file(tmp_path):
    path = write(tmp_path, "train: {lr: 0.5, steps: 7}")
    config = load_config(path, ["train.lr=1e-5", "model.spatial.enabled=false", "data.cache=none", "data.root="])
    assert (config.train.lr, config.train.steps) == (1e-5, 7)
    assert config.model.spatial.enabled is False and config.data.cache == "none" and config.data.root == ""


def test_overrides_reach_into_lists_and_replace_them():
    mapping = {"data": {"sources": [{"type": "voc", "root": "a"}, {"type": "voc", "root": "b"}]}}
    config = overridden(mapping, "data.sources.1.root=c", "train.betas=[0.8, 0.9]", "data.labels=[cat, cow]")
    assert [s.root for s in config.data.sources] == ["a", "c"]
    assert config.train.betas == (0.8, 0.9) and config.data.labels == ("cat", "cow")
    whole = overridden(mapping, "data.sources=[{type: processed, root: set}]")
    assert [s.type for s in whole.data.sources] == ["processed"]


def test_overrides_leave_the_mapping_they_start_from_alone():
    mapping = {"train": {"lr": 1}}
    apply_overrides(mapping, ["train.lr=2"])
    assert mapping == {"train": {"lr": 1}}


def test_a_value_may_hold_an_equals_sign():
    assert overridden({}, "data.root=/a=b").data.root == "/a=b"


@pytest.mark.parametrize(
    "override, wanted",
    [
        ("train.lr", "--set wants key.sub=value, got 'train.lr'"),
        ("=3", "--set wants key.sub=value"),
        ("train.lr.x=2", "train.lr must be of type float"),
        ("train.learning_rate=2", "unknown key 'train.learning_rate'"),
        ("data.sources.5.root=x", "'5' must be a number from 0 to 0"),
        ("data.sources.first.root=x", "'first' must be a number from 0 to 0"),
        ("data.labels=[a", "the value is not valid YAML"),
        ("data.root.x.y=1", "'x' is a value, not a section"),
    ],
)
def test_a_wrong_override_is_one_line(override, wanted):
    mapping = {"data": {"sources": [{"type": "voc", "root": "a"}], "root": {"x": 3}} if ".x.y" in override else
               {"sources": [{"type": "voc", "root": "a"}]}}
    with pytest.raises(ConfigError) as error:
        overridden(mapping, override)
    assert wanted in str(error.value) and "\n" not in str(error.value)


# Round trip


def test_a_config_survives_yaml_and_plain_values():
    sources = [{"type": "voc", "root": "VOC"}, {"type": "procedural", "seed": 3}]
    config = overridden({"data": {"sources": sources}}, "train.lr=3e-7", "model.backbone.strides=[4, 8, 16]")
    assert config_from_dict(yaml.safe_load(config_to_yaml(config))) == config
    assert config_from_dict(config_to_dict(config)) == config


def test_plain_values_hold_no_tuples_and_no_classes():
    def plain(value) -> bool:
        if isinstance(value, dict):
            return all(type(k) is str and plain(v) for k, v in value.items())
        return all(map(plain, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))

    assert plain(config_to_dict(config_from_dict({"data": {"sources": [{"type": "procedural"}]}})))


# Where data is


def test_data_root_is_the_config_then_the_environment_then_the_folder_data(monkeypatch):
    monkeypatch.setenv("SSNM_DATA", "/from/environment")
    assert data_root("/from/config") == Path("/from/config")
    assert data_root("") == Path("/from/environment")
    monkeypatch.delenv("SSNM_DATA")
    assert data_root("") == Path("data")


def test_a_relative_path_is_looked_up_here_and_then_under_the_root_unless_a_config_names_one(monkeypatch, tmp_path):
    root, here = tmp_path / "root", tmp_path / "here"
    for folder in (root / "both", here / "both", here / "only_here", root / "only_there"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("SSNM_DATA", str(root))
    assert find("both") == Path("both") and find("only_here") == Path("only_here")
    assert find("only_there") == root / "only_there" and find("nowhere") == Path("nowhere")
    assert find(here / "both") == here / "both"
    named = str(root)  # data.root of a config
    assert find("both", named) == root / "both" and find("only_here", named) == Path("only_here")
    assert find("nowhere", named) == root / "nowhere"


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().train.lr = 1.0
    with pytest.raises(AttributeError):
        VocSourceConfig(root="a").root = "b"
