"""Overlays and heat maps: what they colour, what they leave, what they refuse."""

import subprocess
import sys

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.visualize.overlays import (
    FALSE_ALARM,
    HIT,
    MISS,
    OBJECT,
    _dilate,
    diverging_colours,
    errors_overlay,
    heatmap,
    object_colour,
    objects_overlay,
    overlay,
    probability_image,
    soft_overlay,
)


@pytest.fixture
def grey():
    return np.full((40, 60, 3), 120, np.uint8)


@pytest.fixture
def square():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    return mask


def test_object_is_the_mean_of_image_and_colour_at_half_strength(grey, square):
    inside = overlay(grey, square, (255, 140, 0), alpha=0.5)[20, 30]
    assert inside.tolist() == [187, 130, 60]  # (120 + 255) / 2 = 187.5, cut


def test_background_gets_darker_and_the_input_stays_as_it_was(grey, square):
    drawn = overlay(grey, square)
    assert (drawn[0, 0] < 120).all()
    assert (grey == 120).all()


def test_outline_runs_just_outside_the_object(grey, square):
    drawn = overlay(grey, square)
    assert drawn[9, 30].tolist() == list(OBJECT)
    assert drawn[10, 30].tolist() != list(OBJECT)
    assert (drawn[8, 30] < drawn[0, 0]).all()  # the dark halo


def test_outline_is_thicker_on_a_large_photograph():
    mask = np.zeros((800, 1000), bool)
    mask[300:500, 300:500] = True
    drawn = overlay(np.full((800, 1000, 3), 90, np.uint8), mask)
    coloured = (drawn[250:300, 400] == OBJECT).all(axis=1).sum()
    assert coloured == 5


def test_empty_mask_gives_one_darker_picture_without_outline(grey, square):
    drawn = overlay(grey, np.zeros_like(square))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_float_and_byte_pictures_give_the_same_overlay(square):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    assert (overlay(picture, square) == overlay(picture / 255.0, square)).all()


def test_soft_overlay_of_zeros_and_ones_is_the_overlay_of_the_mask(grey, square):
    assert (soft_overlay(grey, square.astype(np.float32)) == overlay(grey, square)).all()


def test_errors_have_three_colours_and_correct_background_none(grey, square):
    shifted = np.roll(square, 5, axis=1)
    drawn = errors_overlay(grey, shifted, square, alpha=1.0)
    assert drawn[20, 30].tolist() == list(HIT)
    assert drawn[20, 42].tolist() == list(FALSE_ALARM)
    assert drawn[20, 21].tolist() == list(MISS)
    assert (drawn[0, 0] < 120).all()


def test_mask_of_another_size_is_refused_in_one_line(grey):
    with pytest.raises(DataError, match=r"image's size \(40, 60\).*\(40, 61\)"):
        overlay(grey, np.zeros((40, 61), bool))


def test_probabilities_in_place_of_a_mask_are_refused(grey, square):
    with pytest.raises(DataError, match="boolean mask"):
        overlay(grey, square * 0.5)


@pytest.mark.parametrize("picture", [np.zeros((4, 5)), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5, 3), np.int64)])
def test_pictures_that_are_not_rgb_are_refused(picture):
    with pytest.raises(DataError, match="picture"):
        overlay(picture, np.zeros((4, 5), bool))


def test_heatmap_is_near_white_at_zero_blue_below_and_orange_above():
    red, green, blue = np.moveaxis(diverging_colours(np.array([-1.0, 0.0, 1.0])), -1, 0).astype(int)
    assert blue[0] > green[0] > red[0]
    assert min(red[1], green[1], blue[1]) > 240
    assert red[2] > green[2] > blue[2]


def test_heatmap_sides_differ_in_hue_but_not_much_in_lightness():
    values = np.linspace(0.1, 1, 10)
    weights = np.array([0.299, 0.587, 0.114])
    positive, negative = diverging_colours(values) @ weights, diverging_colours(-values) @ weights
    assert np.abs(positive - negative).max() < 35
    assert (np.diff(positive) < 0).all() and (np.diff(negative) < 0).all()


def test_heatmap_has_the_size_asked_for_and_a_shared_limit_dims_it():
    values = np.array([[0.0, 0.5]])
    assert heatmap(values, (30, 50)).shape == (30, 50, 3)
    full, dimmed = heatmap(values, (30, 50)), heatmap(values, (30, 50), limit=1.0)
    assert full[15, -1].astype(int).sum() < dimmed[15, -1].astype(int).sum()


def test_heatmap_of_zeros_is_one_light_colour():
    assert len(np.unique(heatmap(np.zeros((3, 3)), (9, 9)).reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((0, 3)), np.array([[np.nan]])])
def test_heatmap_refuses_what_is_no_finite_map(values):
    with pytest.raises(DataError, match="heatmap"):
        heatmap(values, (4, 4))


def test_probability_image_rounds_to_the_nearest_level():
    levels = probability_image(np.array([[0.0, 0.5, 1.0, 0.0019, 0.002]]))
    assert levels.dtype == np.uint8
    assert levels.tolist() == [[0, 128, 255, 0, 1]]


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_probability_image_refuses_logits(value):
    with pytest.raises(DataError, match="sigmoid"):
        probability_image(np.array([[value]]))


def test_visualize_and_the_report_command_import_no_torch():
    code = "import sys, ssnm.visualize.panels, ssnm.commands.report; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_grown_mask_is_the_maximum_over_the_neighbourhood():
    mask = np.random.default_rng(1).random((17, 23)) > 0.97
    for pixels in (1, 2, 5):
        literal = np.zeros_like(mask)
        for y, x in np.argwhere(mask):
            literal[max(0, y - pixels) : y + pixels + 1, max(0, x - pixels) : x + pixels + 1] = True
        assert (_dilate(mask, pixels) == literal).all()


def test_objects_are_tinted_in_colours_of_their_own_and_the_background_is_dimmed():
    image, ids = np.full((40, 40, 3), 200, np.uint8), np.zeros((40, 40), np.uint8)
    ids[5:15, 5:15], ids[20:35, 20:35] = 1, 2
    drawn = objects_overlay(image, ids)
    assert tuple(drawn[10, 10]) == tuple(round((200 + c) / 2) for c in object_colour(1))
    assert tuple(drawn[28, 28]) == tuple(round((200 + c) / 2) for c in object_colour(2))
    assert drawn[0, 39].max() < 200 and (image == 200).all()
    assert object_colour(1) == object_colour(9) != object_colour(2)
    with pytest.raises(DataError):
        objects_overlay(image, ids[:30])
