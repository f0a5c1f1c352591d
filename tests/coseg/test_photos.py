"""Photographs decoded once, at a reduced scale."""

import numpy as np
import pytest
from PIL import Image

from ssnm.coseg.photos import SHOWN_SIDE, decoded, read_photo
from ssnm.errors import DataError
from ssnm.files.images import load_reduced, load_rgb

ORIENTATION = 0x0112


def scene(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)],
                    axis=2).astype(np.uint8)  # fmt: skip


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_comes_reduced_upright_and_with_its_own_size(tmp_path, tag, mode):
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    Image.fromarray(scene(400, 640)).convert(mode).save(tmp_path / "a.jpg", exif=exif, quality=95)
    small, size = load_reduced(tmp_path / "a.jpg", 100)
    full = load_rgb(tmp_path / "a.jpg")
    assert size == full.size and small.grey == full.grey == (mode == "L")
    assert small.size == (full.size[0] // 4, full.size[1] // 4)
    wanted = Image.fromarray(full.array).resize(small.size[::-1], Image.Resampling.BOX)
    assert np.abs(small.array.astype(int) - np.asarray(wanted)).mean() < 2


def test_small_and_other_files_come_as_they_are(tmp_path):
    picture = Image.fromarray(scene(150, 190))
    for name in ("a.jpg", "a.png"):
        picture.save(tmp_path / name)
        small, size = load_reduced(tmp_path / name, 100)
        np.testing.assert_array_equal(small.array, load_rgb(tmp_path / name).array)
        assert size == (150, 190)
    assert load_reduced(tmp_path / "a.png", 10)[0].size == (150, 190)


def test_a_photograph_that_ends_early_is_no_photograph(tmp_path):
    Image.fromarray(scene(400, 640)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="half.jpg: cannot be decoded"):
        read_photo(tmp_path / "half.jpg", (32,))


def test_a_photograph_keeps_inputs_of_every_side_and_a_picture_to_look_at(tmp_path):
    Image.fromarray(scene(900, 1800)).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", (32, 48), keep_shown=True)
    assert [tuple(t.shape) for t in photo.inputs] == [(3, 32, 32), (3, 48, 48)] and photo.size == (900, 1800)
    assert decoded(photo.shown).size == (SHOWN_SIDE, 800)
    assert read_photo(tmp_path / "a.png", (32,)).shown is None
    assert read_photo(scene(20, 30), (32,), keep_shown=True).shown is None  # an array can be looked at as it is


def test_the_reduced_photograph_is_to_the_network_what_the_whole_one_is(tmp_path):
    """A JPEG and its pixels: the reduced decoding moves the network's input by less than a grey level on average."""
    Image.fromarray(scene(1200, 1600)).save(tmp_path / "a.jpg", quality=92)
    reduced = read_photo(tmp_path / "a.jpg", (64,)).inputs[0].int()
    whole = read_photo(load_rgb(tmp_path / "a.jpg").array, (64,)).inputs[0].int()
    assert (reduced - whole).abs().float().mean() < 1 and (reduced - whole).abs().max() <= 6
