"""``ssnm score --task video``: folders, protocols, errors, files; golden numbers of the authors' davis_eval."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.cli import main
from ssnm.errors import ConfigError, DataError, MissingFileError
from ssnm.files.ids import ids_png
from ssnm.metrics.video import MEASURES, published_table, score_videos

GOLDEN = Path(__file__).parent / "golden" / "osmn_eval_merge.npz"


def write(path: Path, ids) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ids_png(np.asarray(ids, np.uint8)))
    return path


def moving(frame, ids=(1, 2), size=(40, 60)):
    """Two squares, the first of which moves by 2 pixels a frame."""
    mask = np.zeros(size, np.uint8)
    mask[5:20, 5 + 2 * frame : 20 + 2 * frame] = ids[0]
    if len(ids) > 1:
        mask[25:35, 30:45] = ids[1]
    return mask


@pytest.fixture
def videos(tmp_path):
    """Two sequences of 5 frames; predictions lag one frame behind."""
    for sequence, ids in (("cow", (1, 2)), ("dog", (1,))):
        for frame in range(5):
            write(tmp_path / "gt" / sequence / f"{frame:05d}.png", moving(frame, ids))
            write(tmp_path / "pred" / sequence / f"{frame:05d}.png", moving(max(frame - 1, 0), ids))
    return tmp_path


def test_j_per_object_leaves_first_and_last_frame_out(videos):
    scores = score_videos(videos / "pred", videos / "gt")
    assert [o.key for o in scores.objects] == ["cow/1", "cow/2", "dog/1"]
    assert scores.objects[0].frames == ("00001", "00002", "00003")
    assert scores.objects[0].J == (13 / 17,) * 3 and scores.objects[1].J == (1.0,) * 3
    assert scores.all["J_mean"] == pytest.approx((13 / 17 + 1 + 13 / 17) / 3)


def test_the_mean_is_over_objects_not_over_sequences(videos):
    for frame in range(5):
        write(videos / "pred" / "cow" / f"{frame:05d}.png", np.zeros((40, 60)))
        write(videos / "pred" / "dog" / f"{frame:05d}.png", moving(frame, (1,)))
    assert score_videos(videos / "pred", videos / "gt").all["J_mean"] == pytest.approx(1 / 3)


def test_truth_against_itself_is_1_in_every_protocol(videos):
    for protocol in ("davis", "osmn", "osmn:davis", "osmn:youtube"):
        result = score_videos(videos / "gt", videos / "gt", protocol).all
        assert result == dict.fromkeys(MEASURES, 1.0) | {"J_decay": 0.0, "F_decay": 0.0}


def test_a_swap_of_ids_scores_0_for_both(videos):
    for frame in range(5):
        write(videos / "pred" / "cow" / f"{frame:05d}.png", moving(frame, (2, 1)))
    scores = score_videos(videos / "pred", videos / "gt")
    assert [o.measures()["J_mean"] for o in scores.objects[:2]] == [0, 0]


def test_the_json_has_all_and_every_object_as_fractions(videos, capsys):
    out = videos / "scores.json"
    words = ["score", "--task", "video", "--pred", videos / "pred", "--gt", videos / "gt", "--json", out]
    assert main([str(w) for w in words]) == 0
    written = json.loads(out.read_text())
    assert list(written) == ["all", "objects"] and set(written["objects"]) == {"cow/1", "cow/2", "dog/1"}
    assert all(tuple(m) == MEASURES for m in (written["all"], *written["objects"].values()))
    assert written["objects"]["cow/1"]["J_mean"] == pytest.approx(13 / 17)
    assert "mean over 3 objects" in capsys.readouterr().out


def test_two_folders_of_frames_are_one_sequence(videos):
    scores = score_videos(videos / "pred" / "cow", videos / "gt" / "cow")
    assert [o.key for o in scores.objects] == ["cow/1", "cow/2"]


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_0_and_255_is_id_1_on_both_sides(videos, side):
    for file in (videos / side / "dog").iterdir():
        grey = np.array(Image.open(file)) * 255
        Image.fromarray(grey.astype(np.uint8)).save(file)
    assert score_videos(videos / "pred", videos / "gt").objects[2].J == (13 / 17,) * 3


def test_255_beside_ids_is_void_which_counts_as_background(videos):
    for side in ("gt", "pred"):
        for frame in range(5):
            mask = moving(frame, (1, 2))
            mask[:3] = 255
            write(videos / side / "cow" / f"{frame:05d}.png", mask)
    assert score_videos(videos / "pred", videos / "gt").objects[0].J == (1.0,) * 3


def test_a_missing_frame_or_sequence_is_named(videos):
    (videos / "pred" / "cow" / "00002.png").unlink()
    with pytest.raises(MissingFileError, match="cow/00002"):
        score_videos(videos / "pred", videos / "gt")
    for file in (videos / "pred" / "dog").iterdir():
        file.unlink()
    (videos / "pred" / "dog").rmdir()
    with pytest.raises(MissingFileError, match="sequence dog and frame cow/00002"):
        score_videos(videos / "pred", videos / "gt")


def test_allow_missing_scores_it_as_empty_and_says_so(videos):
    (videos / "pred" / "cow" / "00002.png").unlink()
    scores = score_videos(videos / "pred", videos / "gt", allow_missing=True)
    assert scores.objects[0].J == (13 / 17, 0.0, 13 / 17)
    assert any("cow/00002" in note for note in scores.notes) and "cow/00002" in scores.table()


def test_frames_that_are_not_scored_may_be_missing(videos):
    (videos / "pred" / "cow" / "00000.png").unlink()
    (videos / "pred" / "cow" / "00004.png").unlink()
    assert score_videos(videos / "pred", videos / "gt").objects[0].J == (13 / 17,) * 3


def test_an_object_that_is_never_predicted_counts_as_empty(videos):
    for frame in range(5):
        write(videos / "pred" / "cow" / f"{frame:05d}.png", moving(frame, (1,)))
    assert score_videos(videos / "pred", videos / "gt").objects[1].J == (0.0,) * 3


def test_an_id_that_the_truth_does_not_have_is_an_error(videos):
    write(videos / "pred" / "dog" / "00002.png", moving(2, (7,)))
    with pytest.raises(DataError, match="dog/00002.png: shows id 7"):
        score_videos(videos / "pred", videos / "gt")


def test_ids_up_to_the_largest_of_the_first_frame_count_as_the_official_tool_has_it(videos):
    for side in ("gt", "pred"):
        for frame in range(5):
            write(videos / side / "dog" / f"{frame:05d}.png", moving(frame, (3,)))
    scores = score_videos(videos / "pred", videos / "gt")
    assert [o.key for o in scores.objects[2:]] == ["dog/1", "dog/2", "dog/3"]
    assert any("dog: ids 1, 2 are not in the first true frame" in note for note in scores.notes)


def test_an_object_that_comes_later_is_not_scored_and_said(videos):
    for side in ("gt", "pred"):
        for frame in range(5):
            write(videos / side / "dog" / f"{frame:05d}.png", moving(frame, (1,) if frame < 2 else (1, 2)))
    scores = score_videos(videos / "pred", videos / "gt")
    assert len(scores.objects) == 3 and any("ids 2" in note for note in scores.notes)


def test_masks_of_two_sizes_are_an_error_in_davis_and_resized_in_osmn(videos):
    for frame in range(5):
        write(videos / "pred" / "dog" / f"{frame:05d}.png", np.kron(moving(frame, (1,)), np.ones((2, 2))))
    with pytest.raises(DataError, match="dog/00001.png: 120x80 pixels"):
        score_videos(videos / "pred", videos / "gt")
    assert score_videos(videos / "pred", videos / "gt", "osmn").objects[2].J == (1.0,) * 3


def test_youtube_eval_scores_all_frames_but_the_first_and_one_object(videos):
    scores = score_videos(videos / "pred", videos / "gt", "osmn:youtube")
    assert [o.key for o in scores.objects] == ["cow/1", "dog/1"]
    assert scores.objects[0].frames == ("00001", "00002", "00003", "00004")


def test_a_youtube_objects_root_chooses_youtube_eval(videos):
    (videos / "gt").rename(videos / "Labels")
    (videos / "root").mkdir()
    (videos / "Labels").rename(videos / "root" / "Labels")
    scores = score_videos(videos / "pred", videos / "root", "osmn")
    assert scores.protocol == "osmn:youtube" and scores.dataset == "youtube_objects"


@pytest.fixture
def davis_root(videos):
    (videos / "root" / "Annotations").mkdir(parents=True)
    (videos / "gt").rename(videos / "root" / "Annotations" / "480p")
    for year, split, names in (("2016", "val", "dog"), ("2017", "val", "cow\ndog"), ("2017", "train", "cow")):
        (videos / "root" / "ImageSets" / year).mkdir(parents=True, exist_ok=True)
        (videos / "root" / "ImageSets" / year / f"{split}.txt").write_text(names + "\n")
    return videos / "root"


def test_the_split_of_a_davis_root_names_the_sequences(videos, davis_root):
    keys = lambda split: [o.key for o in score_videos(videos / "pred", davis_root, split=split).objects]  # noqa: E731
    assert keys("2017/val") == ["cow/1", "cow/2", "dog/1"] and keys("train") == ["cow/1", "cow/2"]
    with pytest.raises(ConfigError, match="2016/val and 2017/val"):
        keys("val")
    with pytest.raises(MissingFileError, match="no split 'test'"):
        keys("test")


def test_a_davis_root_without_lists_is_all_its_sequences(videos, davis_root):
    shutil.rmtree(davis_root / "ImageSets")
    assert len(score_videos(videos / "pred", davis_root).objects) == 3
    with pytest.raises(ConfigError, match="no DAVIS root"):
        score_videos(videos / "pred", davis_root, split="val")


def test_davis_2016_makes_one_object_of_all_ids(videos, davis_root):
    (davis_root / "ImageSets" / "2016" / "val.txt").write_text("cow\n")
    scores = score_videos(videos / "pred", davis_root, split="2016/val")
    assert [o.key for o in scores.objects] == ["cow/1"] and scores.objects[0].J[0] > 13 / 17


def test_published_rows_stand_beside_ours_and_a_part_of_the_set_is_said_not_comparable(videos, davis_root, capsys):
    words = ["score", "--task=video", "--pred", videos / "pred", "--gt", davis_root, "--split", "2016/val"]
    assert main([str(w) for w in words]) == 0
    shown = capsys.readouterr().out
    assert "74.0" in shown and "87.6" in shown and "not comparable" in shown
    with pytest.raises(ConfigError, match="no published J and F of 'youtube_vos'"):
        published_table(score_videos(videos / "pred", davis_root, split="train"), "youtube_vos")


def test_too_few_frames_and_a_first_frame_without_object_are_said(videos):
    for frame in (2, 3, 4):
        (videos / "gt" / "dog" / f"{frame:05d}.png").unlink()
    with pytest.raises(DataError, match="dog: 2 frames"):
        score_videos(videos / "pred", videos / "gt")
    for file in (videos / "gt" / "cow").iterdir():
        write(file, np.zeros((40, 60)))
    with pytest.raises(DataError, match="no first frame shows an object"):
        score_videos(videos / "pred" / "cow", videos / "gt" / "cow")


def test_options_of_the_other_task_are_not_taken(videos, capsys):
    with pytest.raises(SystemExit):
        main(["score", "--task", "video", "--pred", "a", "--gt", "b", "--cosal"])


# Numbers of the authors' davis_eval on two small sequences (version 2017: merged ids; 2016: 0/1 masks, network size).
DAVIS_EVAL_2017 = {"aaa/1": 0.156954, "bbb/1": 0.305989, "bbb/2": 0.078311, "bbb/3": 0.145859}
DAVIS_EVAL_2016 = {"aaa/1": 0.70401496, "bbb/1": 0.7329304}


@pytest.fixture
def golden_root(tmp_path):
    with np.load(GOLDEN) as golden:
        for key in golden.files:
            kind, sequence, *rest = key.split("/")
            if kind in ("gt", "merged", "pred16"):
                place = {"gt": "root/Annotations/480p"}.get(kind, kind)
                write(tmp_path / place / sequence / f"{int(rest[-1]):05d}.png", golden[key])
    for year in ("2016", "2017"):
        (tmp_path / "root" / "ImageSets" / year).mkdir(parents=True)
        (tmp_path / "root" / "ImageSets" / year / "val.txt").write_text("aaa\nbbb\n")
    return tmp_path


def test_davis_eval_2017_of_the_authors_is_met(golden_root):
    for protocol in ("davis", "osmn"):
        scores = score_videos(golden_root / "merged", golden_root / "root", protocol, split="2017/val")
        assert {o.key: o.measures()["J_mean"] for o in scores.objects} == pytest.approx(DAVIS_EVAL_2017, abs=1e-6)
        assert scores.all["J_mean"] == pytest.approx(0.1717782448977232, abs=1e-7)


def test_davis_eval_2016_of_the_authors_is_met(golden_root):
    scores = score_videos(golden_root / "pred16", golden_root / "root", "osmn", split="2016/val")
    assert {o.key: o.measures()["J_mean"] for o in scores.objects} == pytest.approx(DAVIS_EVAL_2016, abs=1e-6)
    assert scores.all["J_mean"] == pytest.approx(0.7184726893901825, abs=1e-7)
