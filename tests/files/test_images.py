"""Any image becomes upright 8-bit RGB, any mask file a boolean mask, by one rule."""

import struct

import numpy as np
import pytest
from PIL import Image

from ssnm.errors import DataError, MissingFileError
from ssnm.files.images import load_rgb, open_image, to_rgb

RAMP = np.tile(np.arange(0, 256, 17, dtype=np.uint8), (4, 1))  # 0, 17, ..., 255; (4, 16)
ROTATED = 0x0112  # the EXIF tag of orientation


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


# Images


def test_an_rgb_image_comes_back_as_it_is(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = load_rgb(saved(tmp_path / "a.png", Image.fromarray(array)))
    assert np.array_equal(image.array, array) and image.array.dtype == np.uint8
    assert image.size == (5, 7) and not image.grey


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".pgm"])
def test_a_grey_image_is_replicated_and_remembered_as_grey(tmp_path, suffix):
    image = load_rgb(saved(tmp_path / f"a{suffix}", Image.fromarray(RAMP)))
    assert image.array.shape == (4, 16, 3)
    assert np.abs(image.array.astype(int) - RAMP[..., None]).max() <= 4  # JPEG and WebP round
    assert image.grey == (suffix != ".webp")  # WebP has no grey mode


def test_a_one_bit_image_is_black_and_white(tmp_path):
    image = load_rgb(saved(tmp_path / "a.png", Image.fromarray(RAMP > 100)))
    assert np.array_equal(image.array[..., 0], (RAMP > 100) * 255) and image.grey


def test_a_palette_image_is_looked_up(tmp_path):
    index = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    index.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image = load_rgb(saved(tmp_path / "a.png", index))
    assert image.array.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]


def test_transparency_is_shown_on_white(tmp_path):
    rgba = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 0, 51)):
        rgba.putpixel((x, 0), (255, 0, 0, alpha))
    array = load_rgb(saved(tmp_path / "a.png", rgba)).array[0]
    assert array[0].tolist() == [255, 0, 0] and array[1].tolist() == [255, 255, 255]
    assert array[2].tolist() == [255, 204, 204]


def test_a_transparent_palette_entry_is_white(tmp_path):
    index = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    index.putpalette([255, 0, 0, 0, 255, 0])
    image = load_rgb(saved(tmp_path / "a.png", index, transparency=0))
    assert image.array.tolist() == [[[255, 255, 255], [0, 255, 0]]]


@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
def test_grey_with_transparency_is_still_grey(tmp_path, options):
    mode = "L" if options else "LA"
    image = load_rgb(saved(tmp_path / "a.png", Image.fromarray(RAMP).convert(mode), **options))
    assert image.grey and image.array[0, -1].tolist() == [255, 255, 255]
    assert image.array[0, 0, 0] == (255 if options else 0)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted(tmp_path, suffix):
    image = load_rgb(saved(tmp_path / f"a{suffix}", Image.new("CMYK", (16, 16), (0, 255, 255, 0))))
    assert np.abs(image.array[8, 8].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_by_257(tmp_path, suffix):
    image = load_rgb(saved(tmp_path / f"a{suffix}", Image.fromarray(RAMP.astype(np.uint16) * 257)))
    assert np.array_equal(image.array[..., 0], RAMP) and image.grey


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 1000.0])
def test_a_float_image_fills_the_range(tmp_path, scale):
    image = load_rgb(saved(tmp_path / "a.tif", Image.fromarray(RAMP.astype(np.float32) * np.float32(scale))))
    assert np.abs(image.array[..., 0].astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("orientation, corner", [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_exif_rotation_is_applied(tmp_path, orientation, corner):
    array = np.zeros((4, 6, 3), np.uint8)
    array[0, 0] = 255
    exif = Image.Exif()
    exif[ROTATED] = orientation
    image = load_rgb(saved(tmp_path / "a.png", Image.fromarray(array), exif=exif))
    assert image.size == ((4, 6) if orientation in (1, 3) else (6, 4))
    assert image.array[corner].tolist() == [255, 255, 255] and image.array.sum() == 3 * 255


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_rgb(tmp_path / "a.gif").array[0, 0].tolist() == [255, 0, 0]


def test_the_array_may_be_written_to(tmp_path):
    array = load_rgb(saved(tmp_path / "a.png", Image.fromarray(RAMP))).array
    array[0, 0] = 1
    assert array[0, 0].tolist() == [1, 1, 1]


# Arrays


@pytest.mark.parametrize(
    "array",
    [RAMP, RAMP[..., None], RAMP.astype(np.uint16) * 257, RAMP / 255, np.float32(RAMP / 255), np.stack([RAMP] * 3, -1)],
    ids=["uint8", "one channel", "uint16", "float64", "float32", "rgb"],
)
def test_arrays_of_every_kind_mean_the_same_picture(array):
    assert np.array_equal(to_rgb(array).array, np.stack([RAMP] * 3, -1))


def test_a_boolean_array_is_black_and_white():
    assert to_rgb(RAMP > 100).array.max() == 255


@pytest.mark.parametrize(
    "array, wanted",
    [
        (np.zeros(3), "an array of shape"),
        (np.zeros((2, 2, 2)), "an array of shape"),
        (np.zeros((0, 4, 3), np.uint8), "an array of shape"),
        (np.full((2, 2), 1.5), "must lie in .0, 1., got .1.5, 1.5."),
        (np.full((2, 2), np.nan), "must lie in"),
        (np.zeros((2, 2), np.int64), "uint8, uint16, bool or float"),
    ],
)
def test_an_array_that_is_no_image_is_refused_by_name(array, wanted):
    with pytest.raises(DataError, match=f"photo: .*{wanted}"):
        to_rgb(array, "photo")


# Files that cannot be read


def test_an_opened_image_that_turns_out_truncated_is_one_line(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match="photo: cannot be decoded") as error:
        to_rgb(Image.open(path), "photo")
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_one_line_with_its_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = saved(tmp_path / "a.jpg", Image.fromarray(noise))
    whole.write_bytes(whole.read_bytes()[:500])
    with pytest.raises(DataError, match="a.jpg: cannot be decoded as an image.*replace or remove") as error:
        load_rgb(whole)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="a.png: cannot be decoded"):
        open_image(tmp_path / "a.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError):
        open_image(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="none.png: no such image file"):
        load_rgb(tmp_path / "none.png")


def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(DataError, match="^/.*a.png: cannot be read .Permission denied.; mend that or leave"):
        open_image(tmp_path / "a.png")


def test_an_image_beyond_pillows_limit_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("L", (50, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="a.png: cannot be decoded"):
        open_image(path)


# Wide values


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, -3.4e38])
def test_values_that_are_not_there_do_not_hide_the_others(tmp_path, bad):
    values = RAMP.astype(np.float32) * 4
    values[0, 0] = bad
    image = load_rgb(saved(tmp_path / "a.tif", Image.fromarray(values)))
    assert np.array_equal(image.array[1:, :, 0], RAMP[1:]) and image.array[0, 0, 0] == 0


def test_a_declared_no_data_value_is_left_out_of_the_range(tmp_path):
    values = RAMP.astype(np.float32) * 4
    values[0] = -9999
    tags = {42113: "-9999"}
    image = load_rgb(saved(tmp_path / "a.tif", Image.fromarray(values), tiffinfo=tags))
    assert np.array_equal(image.array[1:, :, 0], RAMP[1:])


@pytest.mark.parametrize("scale, shift", [(2**22, 0), (1000, -70000), (257, 0), (1, 0)])
def test_32_bit_integers_fill_the_range(tmp_path, scale, shift):
    image = load_rgb(saved(tmp_path / "a.tif", Image.fromarray(RAMP.astype(np.int32) * scale + shift)))
    assert np.abs(image.array[..., 0].astype(int) - RAMP).max() <= 1


def test_an_image_without_one_finite_value_is_refused(tmp_path):
    with pytest.raises(DataError, match="a.tif: no pixel holds a finite value"):
        load_rgb(saved(tmp_path / "a.tif", Image.fromarray(np.full((3, 3), np.nan, np.float32))))


# EXIF that a mask has to agree with


def exif_file(path, size, tag):
    exif = Image.Exif()
    exif[ROTATED] = tag
    return saved(path, Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)), exif=exif)


@pytest.mark.parametrize(
    "size, tag, fits, wanted, ambiguous",
    [
        ((4, 6), 6, None, (6, 4), False),
        ((4, 6), 6, (6, 4), (6, 4), False),
        ((4, 6), 6, (4, 6), (4, 6), False),
        ((4, 6), 6, (40, 60), (4, 6), False),
        ((4, 6), 3, (4, 6), (4, 6), True),
        ((4, 4), 6, (4, 4), (4, 4), True),
        ((4, 6), 1, (4, 6), (4, 6), False),
    ],
)
def test_the_orientation_is_the_one_whose_size_fits(tmp_path, size, tag, fits, wanted, ambiguous):
    path = exif_file(tmp_path / "a.png", size, tag)
    image = load_rgb(path, fits)
    assert image.size == wanted and image.ambiguous == ambiguous
    turned = wanted != size or ambiguous
    assert np.array_equal(image.array, np.array(Image.open(path).convert("RGB"))) != turned


def test_an_exif_block_that_cannot_be_read_leaves_the_picture_as_stored(tmp_path, monkeypatch):


    def damaged(self):
        raise struct.error("unpack requires a buffer of 4 bytes")

    path = exif_file(tmp_path / "a.png", (4, 6), 6)
    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert load_rgb(path).size == (4, 6)


@pytest.mark.parametrize("error", [struct.error("x"), TypeError("x"), KeyError(3), IndexError(), ZeroDivisionError()])
def test_whatever_a_decoder_stumbles_over_is_one_line(tmp_path, monkeypatch, error):
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP))

    def stumble(self, *_):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", stumble)
    with pytest.raises(DataError, match="a.png: cannot be decoded") as caught:
        load_rgb(path)
    assert "\n" not in str(caught.value)
