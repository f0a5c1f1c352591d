"""Which map belongs to which truth: every wrong pairing is one line that names the file."""

import shutil
import unicodedata

import numpy as np
import pytest

from ssnm.errors import ConfigError, DataError, MissingFileError
from ssnm.metrics import find_pairs, score_folder

SQUARE = np.eye(8, dtype=bool)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_pairs_follow_the_ground_truth_in_natural_order(small_set):
    pairs = find_pairs(small_set / "pred", small_set / "gt").pairs
    assert [(p.category, p.name) for p in pairs] == [("cat", "img_2"), ("cat", "img_10"), ("cow", "a")]
    assert all(p.map.name == f"{p.name}.png" and p.truth.parent.name == p.category for p in pairs)


def test_the_root_of_a_data_set_will_do_for_its_groundtruth_folder(small_set):
    (small_set / "gt").rename(small_set / "groundtruth")
    (small_set / "image").mkdir()
    assert find_pairs(small_set / "pred", small_set) == find_pairs(small_set / "pred", small_set / "groundtruth")


def test_truth_may_have_any_image_suffix(small_set, save):
    (small_set / "gt" / "cow" / "a.png").unlink()
    save(small_set / "gt" / "cow" / "a.bmp", SQUARE)
    assert find_pairs(small_set / "pred", small_set / "gt").pairs[2].truth.name == "a.bmp"


def test_a_missing_map_is_named(small_set):
    (small_set / "pred" / "cat" / "img_2.png").unlink()
    with pytest.raises(MissingFileError, match=r"pred/cat/img_2\.png.*1 map missing") as error:
        score_folder(small_set / "pred", small_set / "gt")
    one_line(error)


def test_a_map_in_another_format_is_pointed_out(small_set, save):
    (small_set / "pred" / "cat" / "img_2.png").unlink()
    save(small_set / "pred" / "cat" / "img_2.jpg", SQUARE)
    with pytest.raises(MissingFileError, match=r"img_2\.jpg is there, but maps are read from PNG only"):
        find_pairs(small_set / "pred", small_set / "gt")


def test_an_extra_map_is_an_error_unless_allowed(small_set, save):
    save(small_set / "pred" / "cow" / "b.png", SQUARE)
    with pytest.raises(DataError, match=r"pred/cow/b\.png.*--allow-extra") as error:
        score_folder(small_set / "pred", small_set / "gt")
    one_line(error)
    scores = score_folder(small_set / "pred", small_set / "gt", allow_extra=True)
    assert scores.extra == 1 and len(scores.images) == 3 and "ignored" in scores.table()


def test_an_extra_folder_of_maps_is_an_error_but_not_other_folders(small_set, save):
    save(small_set / "pred" / "_overlays" / "x.png", SQUARE)
    save(small_set / "pred" / "pictures" / "x.jpg", SQUARE)
    (small_set / "pred" / "scores.json").write_text("{}")
    save(small_set / "pred" / "grid.png", SQUARE)  # beside the class folders: no map of a class
    assert len(find_pairs(small_set / "pred", small_set / "gt").pairs) == 3
    save(small_set / "pred" / "dog" / "x.png", SQUARE)
    with pytest.raises(DataError, match="pred/dog"):
        find_pairs(small_set / "pred", small_set / "gt")


def test_a_missing_class_folder_is_named(small_set):
    shutil.rmtree(small_set / "pred" / "cow")
    with pytest.raises(MissingFileError, match="pred/cow: no such folder") as error:
        find_pairs(small_set / "pred", small_set / "gt")
    one_line(error)


def test_a_missing_class_folder_comes_with_the_option_that_leaves_it_out(small_set):
    shutil.rmtree(small_set / "pred" / "cow")
    with pytest.raises(MissingFileError, match=r"1 class folder missing\); .* --classes cat$"):
        find_pairs(small_set / "pred", small_set / "gt")
    shutil.rmtree(small_set / "pred" / "cat")
    with pytest.raises(MissingFileError, match="no other class has maps"):
        find_pairs(small_set / "pred", small_set / "gt")


def test_an_empty_class_folder_is_named(small_set):
    (small_set / "gt" / "dog").mkdir()
    (small_set / "pred" / "dog").mkdir()
    with pytest.raises(DataError, match="gt/dog: holds no ground-truth image"):
        find_pairs(small_set / "pred", small_set / "gt")


def test_two_files_of_one_stem_are_named(small_set, save):
    save(small_set / "gt" / "cow" / "a.bmp", SQUARE)
    with pytest.raises(DataError, match=r"gt/cow: a\.bmp, a\.png share one stem"):
        find_pairs(small_set / "pred", small_set / "gt")
    (small_set / "gt" / "cow" / "a.bmp").unlink()
    save(small_set / "pred" / "cow" / "a.PNG", SQUARE)
    with pytest.raises(DataError, match=r"pred/cow: a\.(png|PNG), a\.(png|PNG) share one stem"):
        find_pairs(small_set / "pred", small_set / "gt")


def test_files_beside_class_folders_are_refused(small_set, save):
    save(small_set / "gt" / "loose.png", SQUARE)
    with pytest.raises(DataError, match=r"gt/loose\.png"):
        find_pairs(small_set / "pred", small_set / "gt")


def test_folders_that_do_not_exist_or_hold_nothing_are_named(small_set):
    with pytest.raises(MissingFileError, match="nowhere: no such folder of predictions"):
        find_pairs(small_set / "nowhere", small_set / "gt")
    with pytest.raises(MissingFileError, match="nowhere: no such folder of ground truth"):
        find_pairs(small_set / "pred", small_set / "nowhere")
    (small_set / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds neither"):
        find_pairs(small_set / "pred", small_set / "empty")


def test_hidden_files_are_nobodys_maps(small_set):
    (small_set / "gt" / "cow" / "._a.png").write_bytes(b"not an image")
    (small_set / "gt" / ".cache").mkdir()
    (small_set / "pred" / "cow" / ".a.png").write_bytes(b"not an image")
    assert len(find_pairs(small_set / "pred", small_set / "gt").pairs) == 3


def test_a_part_of_the_classes_can_be_scored(small_set):
    shutil.rmtree(small_set / "pred" / "cow")
    assert {p.category for p in find_pairs(small_set / "pred", small_set / "gt", ["cat"]).pairs} == {"cat"}
    for classes in (["dog"], []):
        with pytest.raises(ConfigError, match="it holds cat, cow"):
            find_pairs(small_set / "pred", small_set / "gt", classes)


def test_names_pair_in_either_form_of_their_accents(tmp_path):
    for part, form in (("pred", "NFC"), ("gt", "NFD")):
        folder = tmp_path / part / unicodedata.normalize(form, "café")
        folder.mkdir(parents=True)
        (folder / (unicodedata.normalize(form, "é") + ".png")).touch()
    (pair,) = find_pairs(tmp_path / "pred", tmp_path / "gt").pairs
    assert pair.name == "é" and pair.map.is_file() and pair.truth.is_file()


def test_folders_of_one_class_under_two_names_are_paired(tmp_path):
    for folder in ("pred/airplane", "gt/Airplane100"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").touch()
    (pair,) = find_pairs(tmp_path / "pred", tmp_path / "gt", classes=["aeroplane"]).pairs
    assert pair.category == "Airplane100" and pair.map.parent.name == "airplane"
