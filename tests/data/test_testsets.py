"""Reading test sets, and checking them on disk."""

import json
import os
import subprocess
import sys
import unicodedata
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.data import testsets
from ssnm.data.check import check_test_set
from ssnm.data.voc import VOC_CLASSES, read_voc_coseg_list
from ssnm.errors import DataError, MissingFileError, UserError

SSNM_DATA = os.environ.get("SSNM_DATA")
MSRC = ("bird", "car", "cat", "cow", "dog", "plane", "sheep")


def put(path: Path, size: tuple[int, int] = (8, 6), value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(path)
    return path


def msrc(root: Path, per_class: int = 10) -> Path:
    for category in MSRC:
        for n in range(1, per_class + 1):
            put(root / "image" / category / f"img_{n}.jpg")
            put(root / "groundtruth" / category / f"img_{n}.bmp")
    return root


def test_images_come_by_class_in_natural_order_with_their_truths(tmp_path):
    test_set = testsets.read_test_set("msrc", msrc(tmp_path))
    assert test_set.categories == MSRC and len(test_set.images) == 70 and not test_set.warnings
    first = test_set.images[:10]
    assert [i.name for i in first] == [f"img_{n}" for n in range(1, 11)]
    assert all(i.truth == tmp_path / "groundtruth" / "bird" / f"{i.name}.bmp" for i in first)


def test_extensions_may_be_mixed_and_other_files_are_ignored(tmp_path):
    put(tmp_path / "image" / "a" / "1.JPG"), put(tmp_path / "image" / "a" / "2.png")
    put(tmp_path / "groundtruth" / "a" / "1.png"), put(tmp_path / "groundtruth" / "a" / "2.jpg")
    (tmp_path / "image" / "a" / "notes.txt").write_text("x")
    (tmp_path / "image" / "a" / ".1.jpg.part").write_text("x")
    assert [i.name for i in testsets.read_test_set("folder", tmp_path).images] == ["1", "2"]


def test_without_a_ground_truth_folder_every_truth_is_none(tmp_path):
    put(tmp_path / "image" / "bear2" / "a.jpg")
    test_set = testsets.read_test_set("icoseg", tmp_path)
    assert test_set.images[0].truth is None and not test_set.has_truth


@pytest.mark.parametrize("layout", ["image/{g}/{n}.jpg", "{g}/{n}.jpg"])
def test_folder_takes_groups_with_and_without_an_image_folder(tmp_path, layout):
    for group in ("dogs", "cats"):
        put(tmp_path / layout.format(g=group, n=1))
    test_set = testsets.read_test_set("folder", tmp_path)
    assert test_set.categories == ("cats", "dogs") and not test_set.has_truth


def test_folder_takes_loose_images_as_one_group(tmp_path):
    put(tmp_path / "img_10.jpg"), put(tmp_path / "img_2.png")
    (tmp_path / "notes").mkdir()
    test_set = testsets.read_test_set("folder", tmp_path)
    assert [(i.category, i.name) for i in test_set.images] == [("all", "img_2"), ("all", "img_10")]


def test_loose_images_are_paired_with_loose_masks(tmp_path):
    put(tmp_path / "image" / "a.jpg"), put(tmp_path / "groundtruth" / "a.png")
    assert testsets.read_test_set("folder", tmp_path).images[0].truth == tmp_path / "groundtruth" / "a.png"


def break_missing_mask(root):
    (root / "groundtruth" / "cow" / "img_3.bmp").unlink()
    return r"image/cow/img_3\.jpg: no ground truth; wanted .*groundtruth/cow/img_3"


def break_extra_mask(root):
    put(root / "groundtruth" / "cow" / "img_99.png")
    return r"groundtruth/cow/img_99\.png: ground truth without its image"


def break_extra_class(root):
    put(root / "groundtruth" / "zebra" / "img_1.png")
    return r"groundtruth/zebra: ground truth of a class that has no folder"


def break_missing_class_of_masks(root):
    (root / "groundtruth" / "cow").rename(root / "groundtruth" / ".cow")
    return r"groundtruth/cow: no such folder"


def break_two_images_of_one_stem(root):
    put(root / "image" / "cow" / "img_3.png")
    return r"image/cow: img_3\.jpg, img_3\.png share one stem"


def break_two_masks_of_one_stem(root):
    put(root / "groundtruth" / "cow" / "img_3.png")
    return r"groundtruth/cow: img_3\.bmp, img_3\.png share one stem"


@pytest.mark.parametrize("damage", [v for k, v in globals().copy().items() if k.startswith("break_")])
def test_a_wrong_pairing_is_one_line_that_names_the_file(tmp_path, damage):
    pattern = damage(msrc(tmp_path))
    with pytest.raises(DataError, match=pattern) as error:
        testsets.read_test_set("msrc", tmp_path)
    assert "\n" not in str(error.value)


def test_several_problems_are_counted(tmp_path):
    break_missing_mask(msrc(tmp_path)), break_extra_mask(tmp_path)
    with pytest.raises(DataError, match="1 more problem"):
        testsets.read_test_set("msrc", tmp_path)


def test_counts_that_differ_are_warnings_that_name_the_class(tmp_path):
    root = msrc(tmp_path)
    for part, suffix in (("image", "jpg"), ("groundtruth", "bmp")):
        (root / part / "bird" / f"img_4.{suffix}").unlink()
        (root / part / "sheep").rename(root / part / "zebra")
        (root / part / "plane").rename(root / part / "Aeroplane")  # the same category under another name
    (root / "image" / "fox").mkdir()
    warnings = testsets.read_test_set("msrc", root).warnings
    assert [w for w in warnings if "bird has 9 images, 10 wanted" in w]
    assert [w for w in warnings if "class sheep is missing (10 images wanted)" in w]
    assert [w for w in warnings if "class zebra (10 images)" in w]
    assert [w for w in warnings if "image/fox: a class folder without images" in w]
    assert len(warnings) == 4


def test_icoseg_sizes_are_reported_and_not_demanded(tmp_path):
    put(tmp_path / "image" / "bear2" / "a.jpg"), put(tmp_path / "groundtruth" / "bear2" / "a.png")
    warnings = testsets.read_test_set("icoseg", tmp_path).warnings
    assert len(warnings) == 7 and not any("bear2" in w for w in warnings)
    assert check_test_set("icoseg", tmp_path).ok


def test_a_missing_voc_image_is_named(tmp_path):
    entries = [e for e in read_voc_coseg_list() if e.category == "diningtable"]
    for entry in entries[1:]:
        put(tmp_path / "image" / "diningtable" / f"{entry.file}.jpg")
    warnings = testsets.read_test_set("pascal_voc", tmp_path).warnings
    assert any(f"13 images, 14 wanted; missing: {entries[0].file}" in w for w in warnings)


@pytest.mark.parametrize(
    "make, pattern",
    [
        (lambda r: r / "nowhere", "no such folder"),
        (lambda r: put(r / "x" / "a.jpg").parents[1], "has no folder image/"),
        (lambda r: msrc(r) / "image", "give its parent folder"),
        (lambda r: put(r / "groundtruth" / "a" / "a.png").parents[2], "has groundtruth/ but no image/"),
        (lambda r: (r / "image").mkdir() or r, "no images found"),
        (lambda r: put(msrc(r) / "image" / "loose.jpg").parents[1], "beside folders of images"),
    ],
)
def test_a_folder_that_is_no_test_set_is_refused(tmp_path, make, pattern):
    with pytest.raises(UserError, match=pattern) as error:
        testsets.read_test_set("msrc", make(tmp_path))
    assert isinstance(error.value, (DataError, MissingFileError))


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="pascal_voc"):
        testsets.read_test_set("mscr", tmp_path)


def test_check_collects_every_kind_of_damage(tmp_path):
    root = msrc(tmp_path)
    (root / "image" / "bird" / "img_1.jpg").write_bytes(b"no image")
    whole = (root / "groundtruth" / "car" / "img_2.bmp").read_bytes()
    (root / "groundtruth" / "car" / "img_2.bmp").write_bytes(whole[: len(whole) // 2])
    put(root / "groundtruth" / "cat" / "img_3.bmp", size=(5, 6))
    break_missing_mask(root)
    break_extra_mask(root)
    report = check_test_set("msrc", root)
    assert not report.ok and len(report.problems) == 5
    size = "cat/img_3.bmp: mask of 5x6 for an image of 8x6"
    for pattern in ("bird/img_1.jpg", "car/img_2.bmp", size, "cow/img_3.jpg: no", "cow/img_99"):
        assert any(pattern in p for p in report.problems), pattern


def test_check_counts_masks_that_show_no_object(tmp_path):
    for n, value in enumerate((0, 255, 0)):
        put(tmp_path / "image" / "car" / f"{n}.jpg"), put(tmp_path / "groundtruth" / "car" / f"{n}.png", value=value)
    report = check_test_set("internet", tmp_path)
    assert (report.classes[0].images, report.classes[0].wanted, report.classes[0].with_object) == (3, 100, 1)
    assert any("an object in 1 mask of car, usually reported in 89" in note for note in report.notes)
    assert "car" in report.table() and not report.ok


def test_a_turned_photograph_is_compared_with_its_mask_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    path = put(tmp_path / "image" / "a" / "1.jpg", size=(8, 6))
    Image.open(path).save(path, exif=exif)
    put(tmp_path / "groundtruth" / "a" / "1.png", size=(6, 8))
    assert check_test_set("folder", tmp_path).ok


def test_the_facts_agree_with_each_other():
    facts = json.loads(resources.files("ssnm.facts").joinpath("test_sets.json").read_text())
    entries = read_voc_coseg_list()
    counts = {c: sum(e.category == c for e in entries) for c in VOC_CLASSES}
    assert facts["pascal_voc"]["classes"] == counts and sum(counts.values()) == len(entries) == 1037
    assert len({(e.category, e.file) for e in entries}) == 1037
    assert len({(e.category, e.voc_name) for e in entries}) == 1037


def test_reading_a_test_set_needs_no_torch():
    code = "import sys, ssnm.data.testsets, ssnm.data.check, ssnm.data.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
@pytest.mark.skipif(not SSNM_DATA, reason="SSNM_DATA is not set")
def test_the_real_voc_set_is_complete_and_sound():
    report = check_test_set("pascal_voc", Path(SSNM_DATA) / "VOC_coseg_FaktorIrani")
    assert report.ok and sum(c.with_object for c in report.classes) == 1037


def test_files_that_are_no_images_are_named_and_names_pair_in_either_form_of_their_accents(tmp_path):
    for part, form in (("image", "NFC"), ("groundtruth", "NFD")):
        for n in range(2):
            put(tmp_path / part / unicodedata.normalize(form, "Café") / f"{unicodedata.normalize(form, 'é')}{n}.png")
    (tmp_path / "image" / unicodedata.normalize("NFC", "Café") / "note.txt").touch()
    found = testsets.read_test_set("folder", tmp_path)
    assert len(found.images) == 2 and all(i.truth is not None for i in found.images)
    assert [w for w in found.warnings if "1 files left out: 1 .txt" in w or "1 file left out: 1 .txt" in w]


@pytest.mark.parametrize("value, words", [(0, "no object in 3 of 3 masks"), (255, "nothing but the object")])
def test_a_set_of_empty_or_full_masks_is_doubted(tmp_path, value, words):
    for n in range(3):
        put(tmp_path / "image" / "cat" / f"{n}.png"), put(tmp_path / "groundtruth" / "cat" / f"{n}.png", value=value)
    report = check_test_set("folder", tmp_path)
    assert report.ok and any(words in d for d in report.doubts)


def test_what_is_wrong_with_many_masks_in_one_way_is_one_line_with_their_number(tmp_path):
    for n in range(3):
        put(tmp_path / "image" / "cat" / f"{n}.png"), put(tmp_path / "groundtruth" / "cat" / f"{n}.png", value=2)
    (problem,) = check_test_set("folder", tmp_path).problems
    assert "values {2}" in problem and "3 files, also" in problem


def test_a_photograph_whose_mask_fits_either_way_is_doubted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = put(tmp_path / "image" / "a" / "1.jpg")
    Image.open(path).save(path, exif=exif)
    mask = np.zeros((6, 8), np.uint8)
    mask[:2] = 255
    (tmp_path / "groundtruth" / "a").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "groundtruth" / "a" / "1.png")
    assert any("taken upright" in d for d in check_test_set("folder", tmp_path).doubts)
