"""Any mask file becomes a boolean mask or ids, by one rule; what cannot be told is refused, never read as empty."""

import numpy as np
import pytest
from PIL import Image

from ssnm.errors import DataError
from ssnm.files.ids import voc_palette
from ssnm.files.masks import read_binary, read_ids

SQUARE = np.zeros((20, 30), bool)
SQUARE[4:14, 6:21] = True
WHITE = SQUARE.astype(np.uint8) * 255
VOC = voc_palette()


def saved(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def palette(path, index, colours=VOC, **options):
    image = Image.fromarray(np.array(index, np.uint8), mode="P")
    image.putpalette(list(colours))
    return saved(path, image, **options)


# What shows the object, in every encoding


@pytest.mark.parametrize("dtype, high", [(np.uint8, 255), (np.uint8, 1), (np.uint16, 65535), (np.uint16, 255)])
def test_a_mask_is_read_whatever_number_stands_for_the_object(tmp_path, dtype, high):
    path = saved(tmp_path / "m.png", SQUARE.astype(dtype) * dtype(high))
    assert np.array_equal(read_binary(path).object, SQUARE)


@pytest.mark.parametrize("dtype, high", [(np.int32, 255), (np.int32, 65535), (np.float32, 1), (np.float32, 255)])
def test_wide_tiff_masks_are_read(tmp_path, dtype, high):
    path = saved(tmp_path / "m.tif", SQUARE.astype(dtype) * dtype(high))
    assert np.array_equal(read_binary(path).object, SQUARE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK"])
def test_a_mask_is_read_whatever_its_mode(tmp_path, mode):
    path = saved(tmp_path / ("m.tif" if mode == "CMYK" else "m.png"), Image.fromarray(WHITE).convert(mode))
    with Image.open(path) as image:
        assert image.mode == mode
    assert np.array_equal(read_binary(path).object, SQUARE)


@pytest.mark.parametrize("flip", [False, True])
def test_a_black_and_white_palette_is_read_by_its_colours_never_by_their_order(tmp_path, flip):
    index = SQUARE != flip  # flipped: white is entry 0
    path = palette(tmp_path / "m.png", index, [255] * 3 + [0] * 3 if flip else [0] * 3 + [255] * 3)
    assert np.array_equal(read_binary(path).object, SQUARE)
    assert np.array_equal(read_ids(path), SQUARE)


def test_what_quantize_makes_of_a_mask_is_that_mask(tmp_path):
    path = saved(tmp_path / "m.png", Image.fromarray(WHITE).convert("RGB").quantize(2))
    assert np.array_equal(read_binary(path).object, SQUARE)


def test_a_grey_palette_is_a_map_by_its_greys(tmp_path):
    path = palette(tmp_path / "m.png", [[0, 1], [2, 1]], [10, 10, 10, 200, 200, 200, 90, 90, 90])
    assert read_binary(path).values.tolist() == [[10, 200], [90, 200]]


def test_voc_masks_are_read_by_colour_in_any_order(tmp_path):
    index = np.where(SQUARE, 15, 0)
    index[0] = 255
    voc = palette(tmp_path / "voc.png", index)
    colours = np.frombuffer(VOC, np.uint8).reshape(256, 3)
    other = np.select([index == 0, index == 15], [2, 0], 1)  # as tools renumber: by frequency
    renumbered = palette(tmp_path / "other.png", other, colours[[15, 255, 0]].tobytes())
    for path in (voc, renumbered):
        mask = read_binary(path)
        assert np.array_equal(mask.object, SQUARE) and np.array_equal(mask.void, index == 255)
        assert np.array_equal(read_ids(path, classes=True), index)


def test_voc_class_7_whose_colour_is_a_grey_is_an_object(tmp_path):
    assert np.array_equal(read_binary(palette(tmp_path / "m.png", SQUARE * 7)).object, SQUARE)
    assert np.array_equal(read_binary(palette(tmp_path / "m.png", SQUARE * 56)).object, SQUARE)  # colour (64, 64, 64)


@pytest.mark.parametrize("label", [1, 2, 20])
def test_grey_labels_beside_255_are_objects_and_void(tmp_path, label):
    labels = SQUARE.astype(np.uint8) * np.uint8(label)
    labels[:, 28:] = 255
    mask = read_binary(saved(tmp_path / "m.png", labels))
    assert np.array_equal(mask.object, SQUARE) and np.array_equal(mask.void, labels == 255)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30)])
def test_an_object_in_the_alpha_channel_alone(tmp_path, colour):
    rgba = np.dstack([np.full((*SQUARE.shape, 3), colour, np.uint8), WHITE])
    assert np.array_equal(read_binary(saved(tmp_path / "m.png", rgba)).object, SQUARE)


def test_a_cut_out_photograph_is_the_mask_of_what_is_opaque(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (*SQUARE.shape, 3), dtype=np.uint8)
    assert np.array_equal(read_binary(saved(tmp_path / "m.png", np.dstack([photo, WHITE]))).object, SQUARE)


def test_a_jpeg_mask_is_cut_in_the_middle_also_where_it_has_three_channels(tmp_path):
    mask = np.roll(np.kron(SQUARE, np.ones((8, 8), bool)), 3, (0, 1))  # edges inside JPEG's blocks of 8 pixels
    for mode in ("L", "RGB"):
        path = saved(tmp_path / "m.jpg", Image.fromarray(mask.astype(np.uint8) * 255).convert(mode), quality=30)
        with Image.open(path) as image:
            assert len(np.unique(np.array(image))) > 2  # compression did blur it
        assert np.array_equal(read_binary(path).object, mask)


def test_an_antialiased_mask_is_cut_in_the_middle(tmp_path):
    soft = Image.fromarray(np.kron(WHITE, np.ones((4, 4), np.uint8))).resize((50, 33), Image.Resampling.BILINEAR)
    assert np.array_equal(read_binary(saved(tmp_path / "m.png", soft)).object, np.array(soft) > 127)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_an_empty_mask_has_no_object(tmp_path, mode):
    mask = read_binary(saved(tmp_path / "m.png", Image.new(mode, (4, 3)))).object
    assert mask.shape == (3, 4) and mask.dtype == bool and not mask.any()


# What cannot be told is refused


def rgb(*colour):
    return np.stack([SQUARE.astype(np.uint8) * np.uint8(c) for c in colour], -1)


@pytest.mark.parametrize(
    "name, array, words",
    [
        ("red", rgb(255, 0, 0), "colour picture"),
        ("index 2", SQUARE.astype(np.uint8) * 2, "values .0, 2. are neither"),
        ("grey 100", SQUARE.astype(np.uint8) * 100, "values .0, 100. are"),
        ("trimap", np.where(SQUARE, 128, WHITE[::-1]).astype(np.uint8), "neither"),
        ("three labels", np.arange(600, dtype=np.uint8).reshape(20, 30) % 3, "neither"),
        ("16-bit numbers", SQUARE.astype(np.uint16) * 900, "neither"),
    ],
)
def test_a_picture_whose_object_is_not_known_is_refused_by_name(tmp_path, name, array, words):
    with pytest.raises(DataError, match=f"{name}.png.*{words}") as error:
        read_binary(saved(tmp_path / f"{name}.png", array)).object
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "index, colours, words",
    [
        (WHITE, VOC, "void .255. alone, on 25%"),
        (SQUARE, [0, 90, 0, 200, 0, 0], "colours that are not known"),
        (SQUARE, [0, 0, 0, 0, 0, 0], "all have one colour"),
    ],
)
def test_a_palette_that_does_not_tell_is_refused(tmp_path, index, colours, words):
    with pytest.raises(DataError, match=f"m.png.*{words}"):
        read_binary(palette(tmp_path / "m.png", index, colours))


def test_void_alone_is_refused_where_the_palette_was_renumbered_too(tmp_path):
    with pytest.raises(DataError, match="void"):
        read_binary(palette(tmp_path / "m.png", SQUARE, [0, 0, 0, 224, 224, 192]))


def test_colours_and_alpha_of_two_masks_are_refused(tmp_path):
    rgba = np.dstack([WHITE, WHITE, WHITE, np.roll(WHITE, 3)])
    with pytest.raises(DataError, match="alpha channel another"):
        read_binary(saved(tmp_path / "m.png", rgba))


@pytest.mark.parametrize(
    "array", [SQUARE * np.int32(-1), SQUARE * np.int32(10**6), np.where(SQUARE, np.float32(np.inf), 0)]
)
def test_wide_values_without_a_known_range_are_refused(tmp_path, array):
    with pytest.raises(DataError, match="m.tif"):
        read_binary(saved(tmp_path / "m.tif", array.astype(np.float32 if array.dtype == float else array.dtype)))


# Maps


def test_a_faint_map_of_0_and_1_keeps_its_values(tmp_path):
    assert read_binary(saved(tmp_path / "m.png", SQUARE.astype(np.uint8))).values.max() == 1


def test_a_wide_map_is_a_share_of_65535(tmp_path):
    values = np.array([[0, 13107], [65535, 32768]], np.uint16)
    mask = read_binary(saved(tmp_path / "m.png", values))
    assert mask.values.dtype == np.float32
    assert mask.values.ravel().tolist() == pytest.approx([0, 0.2, 1, 32768 / 65535])


# Ids


def test_ids_of_a_palette_are_its_indices(tmp_path):
    index = np.where(SQUARE, 3, 1)
    assert np.array_equal(read_ids(palette(tmp_path / "m.png", index)), index)
    index[0] = 255
    assert np.array_equal(read_ids(palette(tmp_path / "m.png", index)), np.where(index == 255, 0, index))


def test_class_numbers_keep_their_void(tmp_path):
    assert np.array_equal(read_ids(palette(tmp_path / "m.png", WHITE), classes=True), WHITE)  # void alone


def test_a_colour_picture_has_no_ids(tmp_path):
    with pytest.raises(DataError, match="palette or one-channel mask is needed, got a RGB picture"):
        read_ids(saved(tmp_path / "m.png", rgb(128, 0, 0)), classes=True)


@pytest.mark.real_data
def test_real_voc_masks_hold_class_numbers_and_void(ssnm_data):
    paths = sorted((ssnm_data / "VOC_train" / "SegmentationClass").glob("*.png"))[:20]
    assert paths
    for path in paths:
        labels = read_ids(path, classes=True)
        assert set(np.unique(labels)) <= {*range(21), 255}
        assert np.array_equal(read_binary(path).object, (labels > 0) & (labels < 255))
