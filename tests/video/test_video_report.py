"""The report page of a test on videos."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.errors import DataError
from ssnm.files.ids import ids_png
from ssnm.metrics.video import read_frame_scores, score_videos
from ssnm.visualize.videos import ObjectCurve, SequencePage, VideoReport, curve_plot, write_videos_page


@pytest.fixture
def run(tmp_path, clip, segmenter, monkeypatch):
    """A results folder of one sequence of 12 frames with two objects, with its scores and page."""
    monkeypatch.setattr(ssnm, "from_pretrained", lambda *path, **options: segmenter, raising=False)
    frames, masks = clip(12)
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind / "cow").mkdir(parents=True)
    for t, (frame, mask) in enumerate(zip(frames, masks)):
        Image.fromarray(frame).save(tmp_path / "set" / "images" / "cow" / f"{t:05d}.png")
        (tmp_path / "set" / "masks" / "cow" / f"{t:05d}.png").write_bytes(ids_png(mask))
    words = ["test", "any.pt", "--dataset", "video_folder", "--data", tmp_path / "set", "--out", tmp_path / "run",
             "--report"]  # fmt: skip
    assert main([str(w) for w in words]) == 0
    return tmp_path / "run"


def test_it_shows_a_strip_of_truth_and_prediction_and_a_curve_per_object(run):
    page = (run / "report.html").read_text()
    assert page.count("<img ") == 16 and page.count("<polyline ") == 2  # 8 of 12 frames, twice
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page) and "<script" not in page
    assert page.count("cow") >= 3 and "truth of frame 00000" in page and "prediction of frame 00011" in page
    assert page.endswith("</html>\n")


def test_the_report_command_finds_out_that_it_is_a_run_on_videos(run, capsys):
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()
    assert main(["report", str(run), "--against", str(run)]) == 2
    assert "--against" in capsys.readouterr().err


def test_a_moved_test_set_and_damaged_records_are_one_line(run, tmp_path, capsys):
    (tmp_path / "set").rename(tmp_path / "moved")
    assert main(["report", str(run)]) == 2 and "--data ROOT" in capsys.readouterr().err
    assert main(["report", str(run), "--data", str(tmp_path / "moved")]) == 0
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({"task": "video"}))
    assert main(["report", str(run)]) == 2 and "run.json: damaged" in capsys.readouterr().err
    (run / "run.json").write_text(json.dumps(record | {"sequences": ["horse"]}))
    assert main(["report", str(run), "--data", str(tmp_path / "moved")]) == 2 and "horse" in capsys.readouterr().err


def test_frame_scores_survive_their_file(run, tmp_path):
    scores = score_videos(run, tmp_path / "set" / "masks")
    stored = read_frame_scores(run / "frames.csv")
    assert stored["cow"][2][0] == dict(zip(scores.objects[1].frames, scores.objects[1].J))
    (run / "frames.csv").write_text("sequence,id,frame,J,F\ncow,one,0,1,1\n")
    with pytest.raises(DataError, match="frames.csv: damaged"):
        read_frame_scores(run / "frames.csv")


def test_the_curve_has_time_to_the_right_and_j_upwards(tmp_path):
    frames = {f"{t}": tmp_path / f"{t}.png" for t in range(3)}
    page = SequencePage("a<b", frames, {}, {}, (ObjectCurve(1, {"0": 1.0, "1": 0.5, "2": 0.0}, {}),))
    points = re.search(r'points="([^"]+)"', curve_plot(page)).group(1).split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points)
    assert x0 < x1 < x2 and y0 < y1 < y2 and "a&lt;b" in curve_plot(page)


def test_a_page_without_truth_shows_predictions_alone(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "0.png")
    page = SequencePage("one", {"0": tmp_path / "0.png"}, {}, {})
    path = write_videos_page(VideoReport("title", (page,), {}, {}), tmp_path / "page.html")
    assert "No scores" in path.read_text()
    with pytest.raises(DataError, match="at least one group or sequence"):
        write_videos_page(VideoReport("title", (), {}, {}), tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
