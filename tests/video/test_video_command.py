"""``ssnm video`` from its arguments to its files; stopping and going on."""

import numpy as np
import pytest
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.files.ids import ids_png, read_palette
from ssnm.files.masks import read_ids
from ssnm.metrics.video import score_videos

PALETTE = bytes(range(256)) * 3


@pytest.fixture
def video(tmp_path, clip, segmenter, monkeypatch):
    """Frames and masks on the disk (ids 3 and 200), and the stand-in as every model."""
    segmenter.path = tmp_path / "model.safetensors"
    segmenter.path.write_bytes(b"weights")
    monkeypatch.setattr(ssnm, "from_pretrained", lambda *path, **options: segmenter, raising=False)
    frames, masks = clip(ids=(3, 200))
    for folder in ("frames", "truth"):
        (tmp_path / folder).mkdir()
    for index, (frame, mask) in enumerate(zip(frames, masks)):
        Image.fromarray(frame).save(tmp_path / "frames" / f"f{index + 8}.png")  # f8, f9, f10: natural order
        (tmp_path / "truth" / f"f{index + 8}.png").write_bytes(ids_png(mask, PALETTE))
    return tmp_path


def run(folder, *options, out="out", mask="truth/f8.png", frames="frames"):
    words = ["video", folder / frames, "--mask", folder / mask, "--out", folder / out, *options]
    return main([str(word) for word in words])


def masks_of(folder, out="out"):
    return {path.stem: read_ids(path) for path in sorted((folder / out / "masks").iterdir())}


def error_of(capsys):
    text = capsys.readouterr().err.strip().splitlines()[-1]
    assert text.startswith("error: ")
    return text


def test_it_writes_masks_overlays_and_a_preview(video, capsys):
    assert run(video) == 0
    assert sorted(masks_of(video)) == ["f10", "f11", "f12", "f8", "f9"]
    assert all((mask == read_ids(video / "truth" / f"{name}.png")).all() for name, mask in masks_of(video).items())
    assert all(read_palette(path) == PALETTE for path in (video / "out" / "masks").iterdir())
    assert len(list((video / "out" / "overlays").iterdir())) == 5
    with Image.open(video / "out" / "preview.webp") as preview:
        assert preview.n_frames == 5
    assert "5 frames" in capsys.readouterr().out


def test_its_masks_can_be_scored_as_they_are(video):
    run(video)
    assert score_videos(video / "out" / "masks", video / "truth").all["J_mean"] == 1


def test_probabilities_are_kept_on_request(video):
    run(video, "--save-probabilities")
    with np.load(video / "out" / "probabilities" / "f9.npz") as stored:
        assert stored["object_ids"].tolist() == [3, 200]
        assert stored["probabilities"].shape == (2, 48, 64) and stored["probabilities"].dtype == np.float32


def test_a_folder_of_masks_starts_objects_later(video):
    (video / "masks").mkdir()
    for name, keep in (("f8", 3), ("f10", 200)):
        ids = read_ids(video / "truth" / f"{name}.png")
        (video / "masks" / f"{name}.png").write_bytes(ids_png(np.where(ids == keep, ids, 0)))
    assert run(video, mask="masks") == 0
    found = masks_of(video)
    assert set(np.unique(found["f9"])) == {0, 3} and set(np.unique(found["f11"])) == {0, 3, 200}


@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_run_goes_on_to_the_same_files(video, network, monkeypatch, capsys, stop_at):
    assert run(video, out="whole") == 0
    original, calls = network.segment, []

    def segment(*args):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(network, "segment", segment)
    assert run(video) == 130
    assert f"interrupted after {stop_at} frame{'s' * (stop_at > 1)};" in capsys.readouterr().err
    assert len(masks_of(video)) == stop_at and not list((video / "out").rglob(".*.part"))
    monkeypatch.setattr(network, "segment", original)
    network.calls["segment"] = 0
    assert run(video, "--resume") == 0
    assert network.calls["segment"] == 5 - stop_at  # the first frame needs none
    for kind in ("masks", "overlays"):
        for path in (video / "whole" / kind).iterdir():
            assert path.read_bytes() == (video / "out" / kind / path.name).read_bytes()
    assert run(video, "--resume") == 0 and "done before" in capsys.readouterr().out


def test_a_second_run_needs_resume_and_the_same_options(video, capsys):
    run(video)
    assert run(video) == 2 and "--resume" in error_of(capsys)
    assert run(video, "--resume", "--size", 32, 32) == 2 and "another size" in error_of(capsys)


def test_a_damaged_progress_file_is_one_line(video, capsys):
    run(video)
    (video / "out" / "progress.npz").write_bytes(b"half")
    assert run(video, "--resume") == 2 and "progress.npz: damaged" in error_of(capsys)


def test_mistakes_are_one_line_and_nothing_is_written(video, capsys):
    Image.new("L", (64, 48)).save(video / "empty.png")
    Image.new("L", (48, 64), 255).save(video / "upright.png")
    (video / "strange").mkdir()
    (video / "strange" / "f99.png").write_bytes(ids_png(np.ones((48, 64))))
    for options, words in (
        ({"mask": "absent.png"}, "absent.png"), ({"mask": "empty.png"}, "shows no object"),
        ({"mask": "strange"}, "f99"), ({"frames": "nowhere"}, "nowhere"), ({"mask": "upright.png"}, "differ in shape"),
    ):  # fmt: skip
        assert run(video, **options) == 2
        assert words in error_of(capsys)
    assert run(video, "--finetune", "-1") == 2 and "finetune" in error_of(capsys)
    assert not (video / "out" / "masks").exists()


def test_an_unreadable_frame_is_named_and_what_was_done_stays(video, capsys):
    good = (video / "frames" / "f10.png").read_bytes()
    (video / "frames" / "f10.png").write_bytes(good[:50])
    assert run(video) == 2 and "f10.png" in error_of(capsys)
    assert sorted(masks_of(video)) == ["f8", "f9"]
    (video / "frames" / "f10.png").write_bytes(good)
    assert run(video, "--resume") == 0 and len(masks_of(video)) == 5


def test_a_video_file_is_followed(video, segmenter):
    av = pytest.importorskip("av")
    with av.open(str(video / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for number in range(8, 13):
            with Image.open(video / "frames" / f"f{number}.png") as picture:
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    assert run(video, frames="clip.mp4") == 0
    found = masks_of(video)
    assert sorted(found) == [f"{n:05d}" for n in range(5)]
    truth = read_ids(video / "truth" / "f12.png")
    assert ((found["00004"] > 0) == (truth > 0)).mean() > 0.95
