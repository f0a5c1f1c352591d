"""The command `ssnm datasets`: what it prints and the status it ends with."""

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.commands import datasets
from ssnm.errors import MissingFileError, UserError

SSNM_DATA = os.environ.get("SSNM_DATA")


def internet_raw(raw: Path, per_class: int) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("Airplane100", "Car100", "Horse100"):
        (raw / folder / "GroundTruth").mkdir(parents=True)
        for n in range(1, per_class + 1):
            Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(raw / folder / f"{n:04}.jpg")
            mask = Image.fromarray(np.eye(12, 16, dtype=np.uint8) * 255)
            mask.save(raw / folder / "GroundTruth" / f"{n:04}.png")
    return raw


def command(*arguments) -> int:
    parser = argparse.ArgumentParser()
    datasets.add_arguments(parser)
    return datasets.run(parser.parse_args([str(a) for a in arguments]))


def test_the_command_prepares_then_checks_and_its_status_tells(tmp_path, capsys):
    raw, out = internet_raw(tmp_path / "raw", 100), tmp_path / "out"
    assert command("prepare", "internet", "--from", raw, "--to", out) == 0
    assert "300 pairs written, 0 there already" in capsys.readouterr().out
    assert command("check", "internet", "--data", out) == 0
    assert "all is well" in capsys.readouterr().out
    (out / "groundtruth" / "car" / "0007.png").unlink()
    assert command("check", "internet", "--data", out) == 1
    assert "0007.jpg: no ground truth" in capsys.readouterr().out


def test_the_command_refuses_a_group_option_without_a_folder(tmp_path):
    with pytest.raises(UserError, match="NAME=FOLDER"):
        command("prepare", "icoseg", "--from", tmp_path, "--to", tmp_path / "out", "--group", "panda1")


@pytest.mark.real_data
@pytest.mark.skipif(not SSNM_DATA, reason="SSNM_DATA is not set")
def test_coco_seg_prepared_from_a_small_annotation_file_is_not_the_published_one(tmp_path, capsys):
    raw = tmp_path / "coco" / "annotations"
    raw.mkdir(parents=True)
    (raw / "instances_train2017.json").symlink_to(Path(SSNM_DATA) / "COCO_mini549" / "instances_mini549.json")
    assert command("prepare", "coco_seg", "--from", tmp_path / "coco", "--to", tmp_path / "out") == 1
    assert (tmp_path / "out" / "coco_seg.json").is_file()
    assert command("check", "coco_seg", "--data", tmp_path / "out") == 1


def test_coco_seg_needs_the_annotations(tmp_path):
    with pytest.raises(MissingFileError, match="instances_train2017.json"):
        command("prepare", "coco_seg", "--from", tmp_path, "--to", tmp_path / "out")
