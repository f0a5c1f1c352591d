"""What `segment` gives back, for every kind of image file; ssnm.from_pretrained on exported models."""

import io
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.coseg import streams
from ssnm.data.procedural import ProceduralSource
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.errors import CheckpointError, ConfigError, DataError, MissingFileError
from ssnm.files import atomic, parallel

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return ssnm.from_pretrained(checkpoint, "cpu")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return ProceduralSource(num_images=1, seed=5).render(0, (48, 64))[0]


@pytest.fixture
def files(photo, tmp_path):
    """One picture as every kind of file; the rotated one is upright only when its EXIF tag is read."""
    picture, grey = Image.fromarray(photo), Image.fromarray(photo).convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # shown turned by 90 degrees clockwise
    kinds = {
        "rgb.png": picture, "grey.png": grey, "palette.png": picture.quantize(64), "rgba.png": picture.convert("RGBA"),
        "cmyk.tif": picture.convert("CMYK"), "wide.png": wide,
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    return [tmp_path / name for name in (*kinds, "turned.png")]


def test_every_kind_of_image_file_is_segmented_at_its_upright_size(segmenter, files):
    result = segmenter.segment(files)
    assert [m.shape for m in result.masks] == [(48, 64)] * 7
    assert all(m.dtype == bool for m in result.masks)
    assert all(p.dtype == np.float32 and 0 <= p.min() and p.max() <= 1 for p in result.probabilities)
    assert result.names == [f.name for f in files]


def test_one_picture_in_several_file_formats_gets_one_map(segmenter, files):
    by_name = {f.name: f for f in files}
    same = [by_name[n] for n in ("rgb.png", "rgba.png", "turned.png", "cmyk.tif")]
    pixels = [segmenter.predictor.read(file)[0] for file in same]
    assert all(torch.equal(other, pixels[0]) for other in pixels[1:])
    maps = segmenter.segment(same).probabilities
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], atol=1e-4)
    beside = by_name["rgb.png"]
    grey, wide = (segmenter.segment([by_name[n], beside]).probabilities[0] for n in ("grey.png", "wide.png"))
    np.testing.assert_allclose(wide, grey, atol=1e-6)


def test_files_pillow_images_and_arrays_give_the_same(segmenter, files, photo):
    group = [files[0], Image.fromarray(photo), photo, photo.astype(np.float32) / 255]
    pixels = [segmenter.predictor.read(image)[0] for image in group]
    assert all(torch.equal(other, pixels[0]) for other in pixels[1:])
    maps = segmenter.segment(group).probabilities
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], atol=1e-4)


def test_images_of_one_group_may_all_have_different_sizes(segmenter):
    source = ProceduralSource(num_images=4, seed=6)
    images = [source.render(i, (30 + 7 * i, 90 - 11 * i))[0] for i in range(4)]
    result = segmenter.segment(images)
    assert [m.shape for m in result.masks] == [i.shape[:2] for i in images]
    assert result.spatial_masks.shape[0] == len(result) == 4
    assert result.names == ["image_0001", "image_0002", "image_0003", "image_0004"]


def test_masks_are_the_probabilities_above_the_threshold(segmenter, photo):
    result = segmenter.segment([photo, photo[:, ::-1]], threshold=0.4)
    for mask, probability in zip(result.masks, result.probabilities):
        np.testing.assert_array_equal(mask, probability > 0.4)
    with pytest.raises(ValueError, match="2"):
        segmenter.segment([photo], threshold=2.0)


def test_categories_are_the_training_labels_best_first(segmenter, photo):
    categories = segmenter.segment([photo]).categories
    assert sorted(name for name, _ in categories) == sorted(SEEN_KINDS)
    assert [p for _, p in categories] == sorted((p for _, p in categories), reverse=True)


def test_save_writes_masks_and_overlays_by_name_and_probabilities_when_asked(segmenter, files, tmp_path):
    result = segmenter.segment(files[:2])
    assert {p.name for p in result.save(tmp_path / "few").iterdir()} == {"masks", "overlays"}
    with pytest.raises(ConfigError, match="some of masks, overlays, probabilities; got 'maps'"):
        result.save(tmp_path / "none", kinds=["maps"])
    folder = result.save(tmp_path / "out", kinds=("masks", "overlays", "probabilities"))
    written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    kinds = {"masks": "png", "overlays": "jpg", "probabilities": "png"}
    assert written == [f"{kind}/{name}.{suffix}" for kind, suffix in kinds.items() for name in ("grey", "rgb")]
    mask = np.asarray(Image.open(folder / "masks" / "rgb.png"))
    np.testing.assert_array_equal(mask, result.masks[0] * np.uint8(255))
    grey = np.asarray(Image.open(folder / "probabilities" / "rgb.png")) / 255
    np.testing.assert_allclose(grey, result.probabilities[0], atol=0.51 / 255)
    assert result.overlay(0).size == (64, 48) and len(result.overlay()) == 2


def test_two_images_of_one_name_are_not_saved_over_each_other(segmenter, photo, tmp_path):
    for name in ("cat.png", "cat.bmp"):
        Image.fromarray(photo).save(tmp_path / name)
    with pytest.raises(DataError, match="'cat'"):
        segmenter.segment([tmp_path / "cat.png", tmp_path / "cat.bmp"]).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_maps_are_sequences(segmenter, photo):
    masks = segmenter.segment([photo, photo, photo]).masks
    assert len(masks) == len(list(masks)) == 3 and len(masks[1:]) == 2
    np.testing.assert_array_equal(masks[-1], masks[2])
    with pytest.raises(IndexError, match="group of 3"):
        masks[3]


@pytest.mark.parametrize("half, tolerance", [(False, 1e-6), (True, 5e-3)])
def test_an_exported_model_predicts_what_its_checkpoint_predicts(
    checkpoint, segmenter, photo, tmp_path, half, tolerance
):
    model, card = tmp_path / "model.safetensors", tmp_path / "card.json"
    card.write_text('{"data": "procedural", "limits": "a test"}')
    assert main(["export", str(checkpoint), str(model), "--card", str(card), *(["--half"] if half else [])]) == 0
    exported = ssnm.from_pretrained(model, "cpu")
    group = [photo, photo[::-1], photo[:, ::-1]]
    for ours, theirs in zip(exported.segment(group).probabilities, segmenter.segment(group).probabilities):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)
    assert exported.labels == segmenter.labels
    assert exported.card["data"] == "procedural" and exported.card["step"] in (2, 4)
    if half:
        assert model.stat().st_size < 0.4 * checkpoint.stat().st_size


def test_a_foreign_or_damaged_model_is_one_line_naming_the_file(checkpoint, tmp_path):
    damaged, foreign, plain = tmp_path / "damaged.pt", tmp_path / "foreign.pt", tmp_path / "plain.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:5000])
    plain.write_bytes(b"not safetensors at all")
    torch.save({"conv.weight": torch.zeros(2, 2)}, foreign)
    for path in (damaged, foreign, plain):
        with pytest.raises(CheckpointError, match=path.name) as caught:
            ssnm.from_pretrained(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingFileError, match="absent.pt"):
        ssnm.from_pretrained(tmp_path / "absent.pt")


def test_a_file_that_cannot_be_used_costs_itself_and_is_named(checkpoint, files, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [str(tmp_path / "broken.jpg"), str(files[0]), str(tmp_path / "absent.jpg")]
    words = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"), "--save", "masks"]
    assert main(["segment", *paths, *words]) == 0
    said = capsys.readouterr().out
    assert re.search("left out: .*broken.jpg: cannot be decoded", said) and re.search("left out: .*absent.jpg", said)
    assert [p.name for p in (tmp_path / "out" / "masks").iterdir()] == ["rgb.png"]
    assert not (tmp_path / "out" / "overlays").exists()
    assert main(["segment", paths[0], paths[2], *words]) == 2  # nothing is left
    assert "none of the 2 images can be read" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_before_the_network_runs(segmenter, files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(segmenter.predictor, "predict_photos", None)
    with pytest.raises(DataError, match="file/out: cannot be written"):
        segmenter.segment(files[:1], save_to=tmp_path / "file" / "out")


@pytest.mark.parametrize("cores", [1, 3])
def test_what_is_written_while_the_network_runs_is_what_save_writes(segmenter, files, tmp_path, monkeypatch, cores):
    monkeypatch.setattr(parallel, "usable_cores", lambda: cores)
    monkeypatch.setattr(streams, "usable_cores", lambda: cores)
    monkeypatch.setattr(segmenter.predictor, "chunk", 2)
    seen = []
    kinds = ("masks", "overlays", "probabilities")
    result = segmenter.segment(files, save_to=tmp_path / "a", save=kinds, progress=lambda *told: seen.append(told))
    result.save(tmp_path / "b", kinds)
    a, b = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "ab")
    assert a == b and len(a) == 3 * len(files)
    assert seen[: len(files)] == [("read", i + 1, 7) for i in range(7)] and seen[-1] == ("segmented", 7, 7)


def test_tensors_generators_and_paths_of_any_kind_are_segmented(segmenter, photo):
    wanted = segmenter.segment([photo]).masks[0]
    tensor = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    for images in ([tensor], (image for image in [photo]), tensor[None]):
        assert np.array_equal(segmenter.segment(images).masks[0], wanted)
    with pytest.raises(DataError, match="image 1: a path, .*got None"):
        segmenter.segment([None])


def test_results_of_an_earlier_run_in_the_folder_are_said(checkpoint, files, tmp_path, capsys):
    words = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main(["segment", *map(str, files[:2]), *words]) == 0
    assert "earlier run" not in capsys.readouterr().out
    assert main(["segment", str(files[1]), *words]) == 0
    assert "also holds results of 1 image of an earlier run: rgb" in capsys.readouterr().out


def test_a_disk_that_is_full_leaves_no_torn_picture_and_costs_no_other_file(segmenter, photo, tmp_path, monkeypatch):
    def full(self, data):
        if "overlays" in str(self) and "0001" in str(self):
            open(self, "wb").write(data[:100])
            raise OSError(28, "No space left on device")
        open(self, "wb").write(data)

    monkeypatch.setattr(atomic.Path, "write_bytes", full)
    with pytest.raises(DataError, match="overlays/image_0001.jpg: cannot be written .No space left"):
        segmenter.segment([photo, photo]).save(tmp_path)
    assert [p.name for p in (tmp_path / "overlays").iterdir()] == ["image_0002.jpg"]
    with pytest.raises(DataError, match="overlays/image_0001.jpg: cannot be written .No space left"):
        segmenter.segment([photo, photo], save_to=tmp_path)
    assert len(list((tmp_path / "masks").iterdir())) == 2


def test_files_that_cannot_be_written_are_all_told_figures_among_them(segmenter, photo, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    result = segmenter.segment([photo, photo])
    result.present = np.ones(2)
    monkeypatch.setattr(atomic.Path, "write_bytes", full)
    with pytest.raises(DataError, match="^3 results could not be written: .*0001.png: .*0002.png: .*present.json: "):
        result.save(tmp_path)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "ascii"])
def test_a_terminal_that_cannot_print_a_name_loses_nothing(checkpoint, photo, tmp_path, encoding):



    name = tmp_path / "日本.jpg"
    Image.fromarray(photo).save(name)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    before, sys.stdout = sys.stdout, stream
    try:
        words = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
        assert main(["segment", str(name), *words]) == 0
        stream.flush()
    finally:
        sys.stdout = before
    shown = stream.buffer.getvalue().decode(encoding)
    assert ("日本" if encoding == "utf-8" else "\\u65e5\\u672c") in shown and "masks and overlays" in shown
