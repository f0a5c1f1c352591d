"""Building test sets from raw layouts, which the tests make: colours, palettes and folders as one downloads them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.data.check import check_test_set
from ssnm.data.prepare import PREPARED_SETS, prepare_test_set
from ssnm.data.prepare_raw import MSRC_COLOURS
from ssnm.data.voc import VOC_CLASSES, read_voc_coseg_list
from ssnm.errors import DataError, MissingFileError, UserError
from ssnm.files import atomic
from ssnm.files.images import open_image
from ssnm.files.masks import read_binary, read_ids

SSNM_DATA = os.environ.get("SSNM_DATA")
GRASS, VOID = (0, 128, 0), (0, 0, 0)
SIZE = (24, 32)  # height, width


def save(path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    return save(path, np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def box(top: int = 4, bottom: int = 12, left: int = 5, right: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def msrc_pair(folder: Path, stem: str, category: str, mask: np.ndarray, split: bool = False) -> None:
    colours = np.full((*SIZE, 3), GRASS, np.uint8)
    colours[:2] = VOID
    colours[mask] = MSRC_COLOURS[category]
    photo(folder / ("Images" if split else "") / f"{stem}.bmp")
    save(folder / ("GroundTruth" if split else "") / f"{stem}_GT.bmp", colours)


def internet_raw(raw: Path, per_class: int = 3) -> Path:
    for folder in ("Airplane100", "Car100", "Horse100"):
        for n in range(1, per_class + 1):
            photo(raw / folder / f"{n:04}.jpg", n)
            mask = box() if n > 1 else np.zeros(SIZE, bool)  # the first is a noise image
            save(raw / folder / "GroundTruth" / f"{n:04}.png", mask.astype(np.uint8) * 255)
    return raw


def voc_raw(raw: Path, entries) -> Path:
    for entry in entries:
        photo(raw / "JPEGImages" / f"{entry.voc_name}.jpg")
        labels = np.zeros(SIZE, np.uint8)
        labels[box()] = VOC_CLASSES.index(entry.category) + 1
        labels[0], labels[-1] = 255, 20 if entry.category != "tvmonitor" else 1  # void, and another object
        image = Image.fromarray(labels, mode="P")
        image.putpalette([i % 256 for i in range(768)])
        path = raw / "SegmentationClass" / f"{entry.voc_name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return raw


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def masks_of(root: Path, category: str) -> list[np.ndarray]:
    return [read_binary(p).object for p in sorted((root / "groundtruth" / category).iterdir())]


def test_msrc_colours_are_those_of_the_published_label_images():
    assert MSRC_COLOURS["cow"] == (0, 0, 128) and MSRC_COLOURS["sheep"] == (0, 128, 128)
    assert MSRC_COLOURS["bird"] == (0, 64, 0) and MSRC_COLOURS["plane"] == (192, 0, 0)
    assert MSRC_COLOURS["cat"] == (0, 192, 128) and MSRC_COLOURS["dog"] == (128, 192, 128)
    assert MSRC_COLOURS["car"] == (64, 0, 128)


@pytest.mark.parametrize("split", [False, True])
def test_msrc_masks_are_the_pixels_of_the_class_colour(tmp_path, split):
    for n, category in enumerate(MSRC_COLOURS):
        msrc_pair(tmp_path / "raw", f"{n}_1_s", category, box(), split)
    done = prepare_test_set("msrc", tmp_path / "raw", tmp_path / "out")
    assert done.counts == dict.fromkeys(MSRC_COLOURS, 1) and done.written == 7
    for category in MSRC_COLOURS:
        assert np.array_equal(masks_of(tmp_path / "out", category)[0], box())


def test_msrc_takes_ten_images_of_a_class_from_its_own_theme_first(tmp_path):
    for n in range(1, 13):
        msrc_pair(tmp_path / "raw", f"7_{n}_s", "car", box())
    for n in range(1, 4):  # street scenes come first by name
        msrc_pair(tmp_path / "raw", f"2_{n}_s", "car", box(4, 6))
    done = prepare_test_set("msrc", tmp_path / "raw", tmp_path / "out")
    names = sorted(p.stem for p in (tmp_path / "out" / "image" / "car").iterdir())
    assert names == sorted(f"7_{n}_s" for n in range(1, 11))
    assert any("--list" in w for w in done.warnings) and any("class bird is missing" in w for w in done.warnings)


def test_msrc_takes_the_images_of_a_given_list(tmp_path):
    for n in range(1, 4):
        msrc_pair(tmp_path / "raw", f"5_{n}_s", "cow", box())
    rows = tmp_path / "list.csv"
    rows.write_text("class,file\ncow,5_3_s.bmp\n")
    assert prepare_test_set("msrc", tmp_path / "raw", tmp_path / "out", image_list=rows).counts == {"cow": 1}
    assert (tmp_path / "out" / "image" / "cow" / "5_3_s.bmp").is_file()
    for line, pattern in (("cow,5_9_s", "5_9_s"), ("yak,5_1_s", "yak")):
        rows.write_text(f"class,file\n{line}\n")
        with pytest.raises(DataError, match=pattern):
            prepare_test_set("msrc", tmp_path / "raw", tmp_path / "other", image_list=rows)


def test_msrc_in_class_folders_takes_all_of_them(tmp_path):
    msrc_pair(tmp_path / "raw" / "aeroplane", "4_1_s", "plane", box())
    assert prepare_test_set("msrc", tmp_path / "raw", tmp_path / "out").counts == {"plane": 1}


def test_label_files_without_the_class_are_warned_of_and_fail_the_check(tmp_path):
    msrc_pair(tmp_path / "raw" / "cow", "5_1_s", "plane", box())
    done = prepare_test_set("msrc", tmp_path / "raw", tmp_path / "out")
    assert any("1 label file without the object" in w and "5_1_s_GT.bmp" in w for w in done.warnings)
    assert any("the mask of cow/5_1_s shows no object" in p for p in check_test_set("msrc", tmp_path / "out").problems)


def test_internet_keeps_noise_images_and_their_empty_masks(tmp_path):
    done = prepare_test_set("internet", internet_raw(tmp_path / "raw" / "Data"), tmp_path / "out")
    assert done.counts == {"airplane": 3, "car": 3, "horse": 3}
    assert [m.any() for m in masks_of(tmp_path / "out", "horse")] == [False, True, True]
    assert any("class car has 3 images, 100 wanted" in w for w in done.warnings)


def test_images_are_copied_byte_for_byte(tmp_path):
    raw = internet_raw(tmp_path / "raw")
    prepare_test_set("internet", raw, tmp_path / "out")
    assert (tmp_path / "out/image/car/0002.jpg").read_bytes() == (raw / "Car100/0002.jpg").read_bytes()


@pytest.mark.parametrize(
    "image, truth",
    [
        ("images/{g}/{n}.jpg", "ground_truth/{g}/{n}.png"),
        ("{g}/images/{n}.jpg", "{g}/ground_truth/{n}.png"),
        ("{g}/{n}.jpg", "{g}/ground_truth/{n}.png"),
    ],
)
def test_icoseg_groups_are_found_in_its_layouts_and_named_where_they_differ(tmp_path, image, truth):
    raw = tmp_path / "raw"
    for folder in ("Brown Bear", "042_Elephants", "elephant", "Stonehenge"):
        photo(raw / image.format(g=folder, n="1"))
        save(raw / truth.format(g=folder, n="1"), box().astype(np.uint8))  # a 0/1 mask
    save(raw / truth.format(g="elephant", n="1"), (~box()).astype(np.uint8))  # the one that is named wins
    done = prepare_test_set("icoseg", raw, tmp_path / "out", groups={"elephant": "042_Elephants"})
    assert done.counts == {"brownbear": 1, "elephant": 1}
    assert np.array_equal(masks_of(tmp_path / "out", "elephant")[0], box())
    assert any("--group panda1=FOLDER" in w for w in done.warnings)
    with pytest.raises(MissingFileError, match="Elefant"):
        prepare_test_set("icoseg", raw, tmp_path / "out", groups={"elephant": "Elefant"})


@pytest.mark.parametrize("place", ["", "VOC2012", "VOCdevkit/VOC2010"])
def test_voc_pairs_come_from_the_list_and_their_masks_from_the_palette(tmp_path, place):
    everything = read_voc_coseg_list()
    once = Counter(e.voc_name for e in everything)
    entries = [e for e in everything if e.category in ("diningtable", "tvmonitor") and once[e.voc_name] == 1][:20]
    voc_raw(tmp_path / "raw" / place, entries)
    done = prepare_test_set("pascal_voc", tmp_path / "raw", tmp_path / "out")
    assert sum(done.counts.values()) == 20 and any("is missing" in w for w in done.warnings)
    mask = read_binary(tmp_path / "out/groundtruth" / entries[0].category / f"{entries[0].file}.png").object
    assert np.array_equal(mask, box())  # neither void nor the other object


def test_preparing_again_writes_nothing_and_changes_nothing(tmp_path):
    raw = internet_raw(tmp_path / "raw")
    prepare_test_set("internet", raw, tmp_path / "out")
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "image" / "car" / ".0001.bmp.part").write_bytes(b"left by a run that was killed")
    done = prepare_test_set("internet", raw, tmp_path / "out")
    assert (done.written, done.kept) == (0, 9) and files_of(tmp_path / "out") == before


def test_an_interrupted_run_leaves_whole_files_and_the_next_one_finishes_it(tmp_path, monkeypatch):
    raw = internet_raw(tmp_path / "raw")
    prepare_test_set("internet", raw, tmp_path / "whole")
    real, calls = os.replace, []

    def stop_at_the_seventh(source, target):
        calls.append(target)
        if len(calls) == 7:
            raise KeyboardInterrupt  # files come in pairs: three whole pairs and the mask of the fourth
        real(source, target)

    monkeypatch.setattr(atomic.os, "replace", stop_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        prepare_test_set("internet", raw, tmp_path / "out", workers=1)
    monkeypatch.undo()
    partial = files_of(tmp_path / "out")
    whole = files_of(tmp_path / "whole")
    assert all(data == whole[name] for name, data in partial.items())
    done = prepare_test_set("internet", raw, tmp_path / "out")
    assert done.kept >= 3 and done.written >= 1 and files_of(tmp_path / "out") == whole


def test_a_killed_process_leaves_nothing_half_written(tmp_path):
    raw = internet_raw(tmp_path / "raw", per_class=100)
    code = "import sys; from ssnm.data.prepare import prepare_test_set; prepare_test_set('internet', *sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, str(raw), str(tmp_path / "out")])
    deadline = time.monotonic() + 20
    while process.poll() is None and not list((tmp_path / "out").rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and not p.name.startswith(".")]
    assert written
    for path in written:
        open_image(path)  # decodes
    done = prepare_test_set("internet", raw, tmp_path / "out")
    assert done.kept + done.written == 300 and not list((tmp_path / "out").rglob(".*"))
    assert check_test_set("internet", tmp_path / "out").ok


def test_a_full_disk_is_one_line_and_leaves_no_partial_file(tmp_path, monkeypatch):
    raw = internet_raw(tmp_path / "raw")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        prepare_test_set("internet", raw, tmp_path / "out")
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_sets_never_mix_in_one_folder(tmp_path):
    prepare_test_set("internet", internet_raw(tmp_path / "raw"), tmp_path / "out")
    msrc_pair(tmp_path / "msrc", "5_1_s", "cow", box())
    with pytest.raises(DataError, match="is not part of what would be prepared here"):
        prepare_test_set("msrc", tmp_path / "msrc", tmp_path / "out")
    photo(tmp_path / "raw" / "Car100" / "0002.jpg", seed=99)
    with pytest.raises(DataError, match="0002.jpg: differs from"):
        prepare_test_set("internet", tmp_path / "raw", tmp_path / "out")


def spoil_mask_size(raw):
    save(raw / "Car100" / "GroundTruth" / "0002.png", np.zeros((5, 5), np.uint8))
    return r"0002\.png: mask of 5x5 for an image of 32x24"


def spoil_image(raw):
    (raw / "Car100" / "0002.jpg").write_bytes(b"damaged")
    return r"0002\.jpg: cannot be decoded"


def spoil_missing_mask(raw):
    (raw / "Car100" / "GroundTruth" / "0002.png").unlink()
    return r"GroundTruth: no file for 0002"


def spoil_missing_image(raw):
    (raw / "Car100" / "0002.jpg").unlink()
    return r"Car100: no file for 0002"


def spoil_everything(raw):
    for folder in ("Airplane100", "Car100", "Horse100"):
        (raw / folder).rename(raw / f"_{folder}")
    return "nothing of internet found; .*no folder Airplane100"


@pytest.mark.parametrize("spoil", [v for k, v in globals().copy().items() if k.startswith("spoil_")])
def test_damage_in_the_download_is_named(tmp_path, spoil):
    raw = internet_raw(tmp_path / "raw")
    pattern = spoil(raw)
    with pytest.raises(DataError, match=pattern) as error:
        prepare_test_set("internet", raw, tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PREPARED_SETS)
def test_a_folder_that_is_not_the_download_is_refused(tmp_path, name):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="raw: "):
        prepare_test_set(name, tmp_path / "raw", tmp_path / "out")
    with pytest.raises(MissingFileError, match="no such folder"):
        prepare_test_set(name, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_of_another_set_are_refused(tmp_path):
    with pytest.raises(DataError, match="msrc only"):
        prepare_test_set("internet", tmp_path, tmp_path / "out", image_list=tmp_path / "x.csv")
    with pytest.raises(DataError, match="icoseg only"):
        prepare_test_set("internet", tmp_path, tmp_path / "out", groups={"panda1": "x"})


@pytest.mark.real_data
@pytest.mark.skipif(not SSNM_DATA, reason="SSNM_DATA is not set")
def test_masks_rebuilt_from_voc_palettes_agree_with_the_sets_own(tmp_path):
    """Every fourth pair, void left out: J at least 0.97 each, as the set's own table of names says."""
    data, raw = Path(SSNM_DATA) / "VOC_coseg_FaktorIrani", tmp_path / "raw"
    (raw / "JPEGImages").mkdir(parents=True)
    (raw / "SegmentationClass").symlink_to(data / "SegmentationClass")
    entries = read_voc_coseg_list()[::4]
    for entry in {e.voc_name: e for e in entries}.values():
        (raw / "JPEGImages" / f"{entry.voc_name}.jpg").symlink_to(data / "image" / entry.category / f"{entry.file}.jpg")
    done = prepare_test_set("pascal_voc", raw, tmp_path / "out")
    assert done.written >= len(entries) == 260
    for entry in entries:
        mine = read_binary(tmp_path / "out" / "groundtruth" / entry.category / f"{entry.file}.png").object
        own = read_binary(data / "groundtruth" / entry.category / f"{entry.file}.png").object
        labelled = read_ids(data / "SegmentationClass" / f"{entry.voc_name}.png", classes=True) != 255
        j = (mine & own & labelled).sum() / ((mine | own) & labelled).sum()
        assert j >= 0.97, entry


def test_two_folders_of_one_name_are_an_error_and_a_loose_file_hides_nothing(tmp_path):
    raw = internet_raw(tmp_path / "raw")
    photo(raw / "preview.jpg")
    assert sum(prepare_test_set("internet", raw, tmp_path / "out").counts.values()) == 9
    shutil.copytree(raw / "Car100", raw / "copy" / "Car100")
    with pytest.raises(DataError, match="two folders are named Car100"):
        prepare_test_set("internet", raw, tmp_path / "other")
