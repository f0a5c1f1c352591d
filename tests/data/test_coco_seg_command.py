"""``ssnm datasets coco-seg``."""

import argparse
import json

import pytest

from ssnm.commands import coco_seg as command
from ssnm.errors import UserError


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(a) for a in arguments]))


def test_the_command_builds_and_reports_a_list_that_differs_from_the_published_one(tmp_path, capsys):
    square = {"image_id": 1, "category_id": 1, "area": 4900, "segmentation": [[0, 0, 70, 0, 70, 70, 0, 70]]}
    images = [{"id": 1, "file_name": "1.png", "width": 100, "height": 80}]
    path = tmp_path / "instances.json"
    document = {"images": images, "annotations": [square], "categories": [{"id": 1, "name": "person"}]}
    path.write_text(json.dumps(document))
    assert run_command(path, "--out", tmp_path / "index.json", "--min-images", 1) == 0
    assert "1 category, 1 (category, image) pair, 1 image," in capsys.readouterr().out
    before = (tmp_path / "index.json").read_bytes()
    assert run_command("--out", tmp_path / "index.json", "--verify") == 1
    assert "person (id 1): 49355 images expected, got 1" in capsys.readouterr().out
    assert (tmp_path / "index.json").read_bytes() == before


def test_the_command_without_annotations_asks_for_them(tmp_path):
    with pytest.raises(UserError, match="ANNOTATIONS"):
        run_command("--out", tmp_path / "index.json")
