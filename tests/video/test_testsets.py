"""The layouts of the test sets, and testing on them through the command."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import ssnm
from ssnm import cli
from ssnm.cli import main
from ssnm.errors import DataError, MissingFileError
from ssnm.files.ids import ids_png
from ssnm.files.masks import read_ids
from ssnm.metrics.video import score_videos
from ssnm.video.testsets import VIDEO_SETS, read_video_set


@pytest.fixture
def write(clip):
    """Write a clip as frames and masks into two folders; masks may be a part of the frames."""

    def write(frames_folder, masks_folder, count=5, ids=(1, 2), masked=None, grey=False, first=0):
        frames, masks = clip(count, ids=ids)
        for folder in (frames_folder, masks_folder):
            folder.mkdir(parents=True, exist_ok=True)
        for t, (frame, mask) in enumerate(zip(frames, masks)):
            Image.fromarray(frame).save(frames_folder / f"{t + first:05d}.png")
            if masked is None or t in masked:
                data = Image.fromarray((mask > 0).astype(np.uint8) * 255)
                path = masks_folder / f"{t + first:05d}.png"
                data.save(path) if grey else path.write_bytes(ids_png(mask))
        return masks

    return write


@pytest.fixture
def davis(tmp_path, write):
    root = tmp_path / "DAVIS"
    for name, ids in (("cow", (1, 2)), ("dog", (1,))):
        write(root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name, ids=ids)
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("dog\ncow\n")
    return root


@pytest.fixture
def vos(tmp_path, write):
    """One video of 6 frames, every second listed; object 2 starts at the third listed frame."""
    folder = tmp_path / "VOS" / "valid"
    masks = write(folder / "JPEGImages" / "abc", folder / "Annotations" / "abc", count=6, masked=(0, 2, 4))
    listed = {"1": ["00000", "00002", "00004"], "2": ["00004"]}
    objects = {i: {"category": "cow", "frames": frames} for i, frames in listed.items()}
    (folder / "meta.json").write_text(json.dumps({"videos": {"abc": {"objects": objects}}}))
    return tmp_path / "VOS", masks


@pytest.fixture
def model(segmenter, monkeypatch):
    monkeypatch.setattr(ssnm, "from_pretrained", lambda *path, **options: segmenter, raising=False)


def test(dataset, root, out, *options):
    return main([str(w) for w in ("test", "any.pt", "--dataset", dataset, "--data", root, "--out", out, *options)])


test.__test__ = False


def test_davis_reads_the_list_of_its_year_and_only_first_masks(davis):
    videos = read_video_set("davis2017", davis)
    assert [v.name for v in videos] == ["dog", "cow"] and [len(v.frames) for v in videos] == [5, 5]
    assert list(videos[1].masks) == ["00000"] and videos[1].prompts().object_ids == (1, 2)


def test_davis_2016_is_one_object(davis):
    assert read_video_set("davis2016", davis)[1].prompts().object_ids == (1,)


def test_the_first_frame_need_not_be_called_00000(tmp_path, davis, write):
    root = davis
    write(root / "JPEGImages" / "480p" / "late", root / "Annotations" / "480p" / "late", first=7)
    (root / "ImageSets" / "2017" / "val.txt").write_text("late\n")
    (video,) = read_video_set("davis2017", root)
    assert list(video.masks) == ["00007"] and list(video.prompts().masks) == [0]


def test_what_davis_lacks_is_named(davis):
    with pytest.raises(MissingFileError, match="splits there: val"):
        read_video_set("davis2017", davis, "test-dev")
    (davis / "Annotations" / "480p" / "cow" / "00000.png").unlink()
    with pytest.raises(MissingFileError, match="first frame 00000.png of cow"):
        read_video_set("davis2017", davis)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("horse\n")
    with pytest.raises(MissingFileError, match="horse"):
        read_video_set("davis2017", davis)


@pytest.mark.parametrize("raw", [True, False])
def test_youtube_objects_is_read_raw_and_prepared(tmp_path, write, raw):
    root = tmp_path / "YTO"
    for kind, number in (("cat", "0001"), ("cat", "0002")):
        if raw:
            shot = root / kind / "data" / number / "shots" / "001"
            write(shot / "images", shot / "labels", grey=True, masked=(1, 3))
        else:
            name = f"{kind}_{number}"
            write(root / "Images" / name, root / "Labels" / name, grey=True, masked=(1, 3))
    write(root / "Images" / "cow_0001", root / "Labels" / "cow_0001", count=1) if not raw else None
    videos = read_video_set("youtube_objects", root)
    assert [v.name for v in videos] == ["cat_0001", "cat_0002"]  # one frame is no video
    assert list(videos[0].prompts().masks) == [1]  # the first labelled frame


def test_youtube_vos_starts_objects_where_they_are_listed_first(vos):
    root, masks = vos
    (video,) = read_video_set("youtube_vos", root)
    prompts = video.prompts()
    assert len(video.frames) == 6 and sorted(prompts.masks) == [0, 4]
    assert set(np.unique(prompts.masks[0])) == {0, 1} and set(np.unique(prompts.masks[4])) == {0, 2}
    assert video.saved == {"00000": (1,), "00002": (1,), "00004": (1, 2)}
    assert len(read_video_set("youtube_vos", root, listed_only=True)[0].frames) == 3


def test_a_damaged_list_and_a_missing_object_are_named(vos):
    root, _ = vos
    (root / "valid" / "Annotations" / "abc" / "00004.png").write_bytes(ids_png(np.ones((48, 64))))
    with pytest.raises(DataError, match="00004.png: does not show object 2"):
        read_video_set("youtube_vos", root)[0].prompts()
    (root / "valid" / "meta.json").write_text("[]")
    with pytest.raises(DataError, match="meta.json: not in the form"):
        read_video_set("youtube_vos", root)
    (root / "valid" / "meta.json").unlink()
    with pytest.raises(MissingFileError, match="meta.json"):
        read_video_set("youtube_vos", root)


@pytest.mark.parametrize("flat", [True, False])
def test_a_video_folder_is_two_folders(tmp_path, write, flat):
    name = "" if flat else "clip"
    write(tmp_path / "set" / "images" / name, tmp_path / "set" / "masks" / name, masked=(0, 2))
    (video,) = read_video_set("video_folder", tmp_path / "set")
    assert video.name == ("set" if flat else "clip") and sorted(video.prompts().masks) == [0]
    (tmp_path / "set" / "masks" / name / "00099.png").write_bytes(ids_png(np.ones((4, 4))))
    with pytest.raises(DataError, match="00099"):
        read_video_set("video_folder", tmp_path / "set")


def test_the_command_line_knows_the_same_sets():
    assert cli.VIDEO_SETS == VIDEO_SETS


def test_davis_2017_is_run_written_and_scored(davis, tmp_path, model, capsys):
    assert test("davis2017", davis, tmp_path / "out", "--sequences", "cow") == 0
    shown = capsys.readouterr().out
    assert "mean over 2 objects" in shown and "DAVIS 2017 val" in shown and "not comparable" in shown
    truth = davis / "Annotations" / "480p" / "cow" / "00003.png"
    assert (read_ids(tmp_path / "out" / "cow" / "00003.png") == read_ids(truth)).all()
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["all"]["J_mean"] == 1 and not (tmp_path / "out" / "dog").exists()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["sequences"] == ["cow"]


def test_the_numbers_are_those_of_the_score_command(davis, tmp_path, model, capsys):
    test("davis2016", davis, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored == score_videos(tmp_path / "out", davis, split="2016/val").to_dict()
    assert set(np.unique(read_ids(tmp_path / "out" / "dog" / "00001.png"))) == {0, 1}


def test_youtube_vos_runs_all_frames_and_writes_the_listed_ones(vos, tmp_path, model, network, capsys):
    root, masks = vos
    assert test("youtube_vos", root, tmp_path / "out", "--zip") == 0
    written = tmp_path / "out" / "Annotations" / "abc"
    assert sorted(p.name for p in written.iterdir()) == ["00000.png", "00002.png", "00004.png"]
    assert (read_ids(written / "00002.png") == np.where(masks[2] == 1, 1, 0)).all()
    assert (read_ids(written / "00004.png") == masks[4]).all()
    with zipfile.ZipFile(tmp_path / "out" / "Annotations.zip") as archive:
        assert archive.namelist() == [f"Annotations/abc/{n}.png" for n in ("00000", "00002", "00004")]
    assert network.calls["segment"] == 5
    assert test("youtube_vos", root, tmp_path / "listed", "--listed-frames-only") == 0
    assert network.calls["segment"] == 5 + 2


def test_wrong_options_are_one_line(davis, tmp_path, model, capsys):
    for options, words in (("--zip", "youtube_vos"), ("--sequences=horse", "horse"), ("--split=train", "train.txt")):
        assert test("davis2017", davis, tmp_path / "out", options) == 2
        assert words in capsys.readouterr().err
