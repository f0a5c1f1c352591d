"""`ssnm.evaluate` gives what the test command gives, with pictures of what went wrong."""

import pytest

import ssnm
from ssnm.cli import main
from ssnm.errors import CheckpointError, DataError
from ssnm.files.masks import read_binary
from ssnm.metrics import FolderScores


def test_evaluate_gives_the_scores_of_the_test_command_and_keeps_the_maps_with_the_result(
    checkpoint, written_set, tmp_path
):
    words = ["--dataset", "folder", "--data", str(written_set), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["test", str(checkpoint), *words]) == 0
    result = ssnm.evaluate(checkpoint, "folder", written_set)
    assert result.scores == FolderScores.from_json(tmp_path / "out" / "scores.json")
    assert (result.J, result.P) == (result.scores.headline.J, result.scores.headline.P)
    assert str(result) == result.scores.table() and len(list(result.maps.rglob("*.png"))) == 12
    assert result.panel(4).width == 4 * 154 and result.panel(5, best=True).width == 5 * 154
    folder = result.maps
    del result
    assert not folder.exists()


def test_evaluate_takes_a_loaded_model_some_classes_and_a_folder(checkpoint, written_set, tmp_path):
    segmenter = ssnm.from_pretrained(checkpoint, "cpu")
    first = sorted(p.name for p in (written_set / "image").iterdir())[0]
    result = ssnm.evaluate(segmenter, "folder", written_set, tmp_path / "out", classes=[first], protocol="paper")
    assert [c.category for c in result.scores.classes] == [first] and (tmp_path / "out" / "run.json").is_file()
    with pytest.raises(DataError, match="no ground truth"):
        ssnm.evaluate(segmenter, "folder", written_set / "image")
    with pytest.raises((CheckpointError, FileNotFoundError), match="absent.pt"):
        ssnm.evaluate("absent.pt", "folder", written_set)


def test_a_result_draws_itself_with_and_without_truth(checkpoint, written_set):
    images = sorted((written_set / "image").rglob("*.jpg"))[:4]
    truths = [read_binary(written_set / "groundtruth" / p.parent.name / f"{p.stem}.png").object for p in images]
    result = ssnm.from_pretrained(checkpoint, "cpu").segment(images)
    plain, scored = result.panel(count=3), result.panel(truths=truths)
    assert scored.height > plain.height and scored.width > plain.width
