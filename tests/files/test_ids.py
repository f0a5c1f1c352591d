"""What a file or array of ids says: one rule for propagation, test sets and scores."""

import numpy as np
import pytest
from PIL import Image

from ssnm.errors import DataError
from ssnm.files.ids import as_ids, ids_in, ids_png, read_palette, voc_palette
from ssnm.files.masks import read_ids

OBJECT = np.zeros((6, 8), np.uint8)
OBJECT[1:4, 2:5] = 1


def test_only_0_and_255_is_one_object_of_id_1():
    assert (as_ids(OBJECT * 255) == OBJECT).all()
    assert (as_ids(np.full((3, 3), 255)) == 1).all() and not as_ids(np.zeros((3, 3), int)).any()


def test_bool_is_one_object_and_0_1_too():
    assert (as_ids(OBJECT.astype(bool)) == OBJECT).all() and (as_ids(OBJECT.astype(np.int64)) == OBJECT).all()


def test_beside_other_ids_255_is_void():
    mask = OBJECT * 7
    mask[5] = 255
    assert ids_in(as_ids(mask)) == (7,)


@pytest.mark.parametrize(
    "mask, words",
    [(np.zeros((2, 3, 3), int), "(H, W)"), (np.zeros((2, 3)), "float64"), (np.full((2, 2), 300), "0..254"),
     (np.full((2, 2), -1), "0..254"), (np.zeros((0, 3), int), "(H, W)")],
)  # fmt: skip
def test_other_arrays_are_refused(mask, words):
    with pytest.raises(DataError) as error:
        as_ids(mask)
    assert words in str(error.value)


def test_a_given_array_is_not_changed():
    mask = OBJECT * 255
    as_ids(mask)
    assert mask.max() == 255


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA"])
def test_black_and_white_pictures_of_any_mode_are_one_object(tmp_path, mode):
    Image.fromarray(OBJECT * 255).convert(mode).save(tmp_path / "mask.png")
    assert (read_ids(tmp_path / "mask.png") == OBJECT).all()


def test_16_bit_black_and_white_and_ids_are_read(tmp_path):
    for scale in (65535, 5):
        Image.fromarray(OBJECT.astype(np.uint16) * scale).save(tmp_path / "mask.png")
        assert (read_ids(tmp_path / "mask.png") == OBJECT * (1 if scale == 65535 else 5)).all()


def test_a_jpeg_is_cut_at_one_half(tmp_path):
    big = np.kron(OBJECT, np.ones((16, 16), np.uint8))
    Image.fromarray(big * 255).save(tmp_path / "mask.jpg", quality=60)
    assert (read_ids(tmp_path / "mask.jpg") == big).mean() > 0.99


def test_coloured_and_soft_pictures_are_refused_by_name(tmp_path):
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[0, 0] = (128, 0, 0)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match="colour.png.*palette"):
        read_ids(tmp_path / "colour.png")
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(tmp_path / "soft.png")
    with pytest.raises(DataError, match="soft.png.*100 values"):
        read_ids(tmp_path / "soft.png")


def test_ids_and_palette_survive_a_file(tmp_path):
    palette = bytes(range(256)) * 3
    (tmp_path / "mask.png").write_bytes(ids_png(OBJECT * 254, palette))
    assert (read_ids(tmp_path / "mask.png") == OBJECT * 254).all()
    assert read_palette(tmp_path / "mask.png") == palette
    Image.fromarray(OBJECT).save(tmp_path / "grey.png")
    assert read_palette(tmp_path / "grey.png") is None


def test_an_id_keeps_its_number_in_a_palette_that_shows_it_white(tmp_path):
    palette = bytearray(768)
    palette[7 * 3 : 8 * 3] = b"\xff\xff\xff"
    (tmp_path / "mask.png").write_bytes(ids_png(OBJECT * 7, bytes(palette)))
    assert (read_ids(tmp_path / "mask.png") == OBJECT * 7).all()


def test_the_default_colours_are_those_of_voc():
    colours = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    assert colours[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[9].tolist() == [192, 0, 0] and colours[255].tolist() == [224, 224, 192]
