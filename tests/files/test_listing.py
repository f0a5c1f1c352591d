"""Every file of a folder is used or named; names that look alike are alike."""

import unicodedata

import numpy as np
import pytest
from PIL import Image, features

from ssnm.errors import DataError, UserError
from ssnm.files import listing
from ssnm.files.images import load_rgb
from ssnm.files.listing import images_by_stem, left_out, list_images, same_name

PICTURE = Image.fromarray(np.zeros((4, 6, 3), np.uint8))


@pytest.mark.parametrize("name, format", [("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP"),
                                          ("a.avif", "AVIF"), ("a.jp2", "JPEG2000"), ("a.tga", "TGA"),
                                          ("a.pnm", "PPM")])  # fmt: skip
def test_every_format_that_pillow_reads_is_used(tmp_path, name, format):
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    PICTURE.save(tmp_path / name, format)
    assert [p.name for p in list_images(tmp_path)] == [name] and left_out([tmp_path]) == ""


def test_files_that_are_no_images_are_counted_by_kind_with_a_way_out(tmp_path, monkeypatch):
    without = listing.image_suffixes() - {".heic", ".heif", ".hif"}  # as where pillow-heif is not installed
    monkeypatch.setattr(listing, "image_suffixes", lambda: without)
    for name in ("a.heic", "b.HEIC", "c.txt", ".hidden", "README", "d.eps", "e.jpg"):
        (tmp_path / name).touch()
    line = left_out([tmp_path])
    assert line.startswith("5 files left out: 2 .heic (pip install -e")
    assert "1 .txt" in line and "1 readme" in line.lower() and "1 .eps" in line and "hidden" not in line
    assert left_out([]) == ""
    (tmp_path / "more.jpg").mkdir()
    assert left_out([tmp_path]).endswith("; 1 folder not looked into: more.jpg")
    assert "folder" not in left_out([tmp_path, tmp_path / "more.jpg"])


def test_a_link_that_leads_nowhere_is_listed_so_that_reading_names_it(tmp_path):
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    (tmp_path / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "c.jpg").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.jpg"]
    for path in list_images(tmp_path):
        with pytest.raises(UserError, match=path.name):
            load_rgb(path)


def test_one_name_in_two_forms_is_the_same_name():
    assert same_name([unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]) is not None
    assert same_name(["a", "b"]) is None


def test_two_forms_of_one_name_are_one_stem(tmp_path):
    PICTURE.save(tmp_path / (unicodedata.normalize("NFD", "café") + ".png"))
    assert list(images_by_stem(tmp_path)) == [unicodedata.normalize("NFC", "café")]
    PICTURE.save(tmp_path / (unicodedata.normalize("NFC", "café") + ".jpg"))
    with pytest.raises(DataError, match="share one stem"):
        images_by_stem(tmp_path)
