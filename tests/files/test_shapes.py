"""COCO's segmentations are data: every part is drawn or refused in one line, and nothing reaches pycocotools unseen."""

import numpy as np
import pytest
from pycocotools import mask as codec

from ssnm.errors import DataError
from ssnm.files.shapes import draw, empty_parts, runs_of_text

SIZE = (60, 80)
SQUARE = np.zeros(SIZE, bool)
SQUARE[10:30, 20:50] = True
POLYGON = [20, 10, 50, 10, 50, 30, 20, 30]
RUNS = [20 * 60 + 10, *[20, 40] * 29, 20, 30 + 30 * 60]  # down the columns: 30 columns of 20 object pixels
TEXT = codec.encode(np.asfortranarray(SQUARE, np.uint8))["counts"]


def drawn(segmentation, area=600.0):
    return draw(segmentation, SIZE, "a.json: annotation 7", area)


@pytest.mark.parametrize(
    "segmentation",
    [
        [POLYGON],
        POLYGON,
        [[20, 10], [50, 10], [50, 30], [20, 30]],
        [[[20, 10], [50, 10], [50, 30], [20, 30]]],
        {"size": [60, 80], "counts": RUNS},
        {"size": [60, 80], "counts": TEXT.decode()},
        {"size": [60, 80], "counts": TEXT},
        [{"size": [60, 80], "counts": RUNS}],
        [POLYGON, {"size": [60, 80], "counts": TEXT.decode()}],
        [POLYGON, [1, 2, 3, 4]],
    ],
)
def test_one_square_in_every_form_that_tools_write(segmentation):
    assert np.array_equal(drawn(segmentation), SQUARE)


def test_parts_are_joined():
    other = [60, 40, 70, 40, 70, 50, 60, 50]
    assert drawn([POLYGON, other]).sum() == 600 + 100
    assert drawn([POLYGON, [[60, 40], [70, 40], [70, 50], [60, 50]]]).sum() == 600 + 100


@pytest.mark.parametrize("segmentation", [None, [], {}])
def test_no_segmentation_is_an_empty_mask(segmentation):
    assert not drawn(segmentation).any()


@pytest.mark.parametrize(
    "segmentation, words",
    [
        ({"size": [60, 80], "counts": [*RUNS, 4800]}, "sum to 9600, height x width is 60 x 80 = 4800"),
        ({"size": [60, 80], "counts": RUNS[:-1]}, "sum to "),
        ({"size": [60, 80], "counts": [100, -60, 4760]}, "run lengths .*-60"),
        ({"size": [60, 80], "counts": [100.5, 4699.5]}, "run lengths .*100.5"),
        ({"size": [60, 80], "counts": [None, 4800]}, "run lengths"),
        ({"size": [60, 80], "counts": TEXT.decode()[:-1]}, "run|sum"),
        ({"size": [60, 80], "counts": "~~~"}, "run lengths"),
        ({"size": [80, 60], "counts": RUNS}, "size .80, 60., but the image is .60, 80."),
        ({"size": None, "counts": RUNS}, "size"),
        ({"counts": RUNS}, "size and counts"),
        ([[20, 10, None, 10, 50, 30]], "coordinate None"),
        ([[20, 10, float("nan"), 10, 50, 30]], "coordinate nan"),
        ([[20, 10, float("inf"), 10, 50, 30]], "coordinate inf"),
        ([[20, 10, "5", 10, 50, 30]], "coordinate 5"),
        ([[20, 10, 1e12, 10, 50, 30]], "x = 1e.12, far outside the image of 80x60"),
        ([[20, -61, 30, 10, 50, 30]], "y = -61"),
        ([[20, 10, 50, 10, 50, 30, 20]], "7 numbers"),
        ([POLYGON, "text"], "part 2 is no polygon"),
        ([POLYGON, None], "part 2"),
        ("text", "list or run lengths"),
        ([[0.25, 0.2, 0.6, 0.2, 0.6, 0.5]], "normalised"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_with_its_name(segmentation, words):
    with pytest.raises(DataError, match=f"a.json: annotation 7: .*{words}") as error:
        drawn(segmentation)
    assert "\n" not in str(error.value)


def test_a_shape_within_the_first_pixel_is_not_taken_for_normalised():
    assert not drawn([[0.0, 0.0, 0.9, 0.0, 0.9, 0.9]], area=0.4).sum() > 1


def test_points_that_enclose_nothing_are_counted():
    given = ([POLYGON, [1, 2, 3, 4]], [[1, 2]], POLYGON, [[1, 2], [3, 4]], None)
    assert [empty_parts(s) for s in given] == [1, 1, 0, 1, 0]


def test_compressed_text_is_read_as_pycocotools_writes_it():
    rng = np.random.default_rng(0)
    for share in (0.02, 0.5):
        mask = np.asfortranarray(rng.random((37, 53)) < share, dtype=np.uint8)
        code = codec.encode(mask)
        runs = runs_of_text(code["counts"])
        again = codec.frPyObjects({"size": [37, 53], "counts": runs}, 37, 53)
        assert sum(runs) == 37 * 53 and np.array_equal(codec.decode(again), mask)
