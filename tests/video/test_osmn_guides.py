"""The guides: exact equality with the authors' program, the numbers of the specification, and properties."""

import numpy as np
import pytest

from ssnm.video.guides import (
    MaskDraw,
    SpatialDraw,
    VisualDraw,
    centre_and_spread,
    dilate,
    dilated_guide,
    gaussian_guide,
    guide_crop,
    perturb_mask,
    tight_box,
    visual_guide,
)

from .osmn_oracle import checksum, facts, frame_at, golden, inputs, mask_at

MEAN = np.array([104, 117, 123])  # BGR
LABEL = 255
SIZES = {"96x160": (96, 160), "67x101": (67, 101), "32x48": (32, 48)}


def as_authors(picture, shown):
    """BGR minus the mean, 0 outside the object: what their network is fed."""
    return (picture[:, :, ::-1].astype(int) - MEAN) * shown[..., None]


def square(height, width, rows, columns):
    mask = np.zeros((height, width), np.uint8)
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 1
    return mask


# --- Equal to the authors' program ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal", "tiny", "empty", "border", "full", "two_parts", "onepixel"])
def test_visual_guide_is_theirs_to_the_pixel(name):
    guide = as_authors(*visual_guide(inputs()["frame0"], inputs()[f"mask_{name}"], VisualDraw.padded()))
    assert checksum(guide) == facts()["exact"][f"guide_{name}"]


@pytest.mark.parametrize("name, draw, background", [("guide_normal_bboxsup", VisualDraw.padded(), True),
                                                    ("guide_normal_pad0", VisualDraw(), False)])  # fmt: skip
def test_visual_guide_with_background_and_without_padding_is_theirs(name, draw, background):
    guide = visual_guide(inputs()["frame0"], inputs()["mask_normal"], draw, background=background)
    assert checksum(as_authors(*guide)) == facts()["exact"][name]


@pytest.mark.parametrize("seed", [0, 1])
def test_augmented_visual_guide_is_theirs_with_their_draws(seed):
    drawn = next(d for d in facts()["draws"] if d["kind"] == "guide_aug" and d["seed"] == seed)
    draw = VisualDraw(tuple(drawn["crop_ratio_ltrb"]), drawn["angle_deg"], drawn["flip"])
    picture, shown = visual_guide(inputs()["frame0"], inputs()["mask_normal"], draw)
    assert checksum(picture) == facts()["exact"][f"aug_image_{seed}"]
    if seed == 0:
        assert checksum(shown * LABEL) == facts()["exact"]["aug_label_0"]


@pytest.mark.parametrize("name", sorted(k for k in golden() if k.startswith("gb_") and "train" not in k))
def test_gaussian_guide_is_theirs(name):
    mask, size = name[3:].rsplit("_", 1)
    guide = gaussian_guide(mask_at(mask, SIZES[size]))
    np.testing.assert_allclose(guide[::9, ::9], golden()[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(facts()["gaussians"]))
def test_centre_spread_and_mass_of_the_gaussian_are_theirs(name):
    theirs = facts()["gaussians"][name]
    mask, size = name.rsplit("_", 1)
    found = centre_and_spread(mask_at(mask, SIZES[size]))
    if found is None:
        assert theirs["centre"] == [-1, -1] and theirs["sum"] == 0
    else:
        np.testing.assert_allclose(found, (theirs["centre"], theirs["spread"]), atol=1e-5)
    guide = gaussian_guide(mask_at(mask, SIZES[size])).astype(np.float64)
    np.testing.assert_allclose((guide.sum(), guide.max()), (theirs["sum"], theirs["max"]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_perturbed_gaussian_is_theirs_with_their_draws(seed):
    drawn = next(d for d in facts()["draws"] if d["kind"] == "gb" and d["seed"] == seed)
    draw = SpatialDraw(tuple(drawn["center_ratio_xy"]), tuple(drawn["std_ratio_xy"]))
    guide = gaussian_guide(mask_at("normal", (96, 160)), draw)
    np.testing.assert_allclose(guide[::9, ::9], golden()[f"gb_train_{seed}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", sorted(SIZES))
def test_dilated_guide_is_theirs(size):
    guide = dilated_guide(mask_at("two_parts", SIZES[size]))
    assert checksum(guide) == facts()["exact"][f"gbmask_two_parts_{size}"]
    assert set(np.unique(guide)) == {0, 255}


@pytest.mark.parametrize("seed", [0, 1])
def test_perturbed_mask_and_its_dilation_are_theirs_with_their_draws(seed):
    drawn = next(d for d in facts()["draws"] if d["kind"] == "perturb_mask" and d["seed"] == seed)
    mask = mask_at("normal", (96, 160))
    assert checksum(mask) == facts()["exact"]["mask_normal_96x160"]
    draw = MaskDraw(drawn["size_ratio"][0], tuple(drawn["center_ratio_xy"]))
    moved = perturb_mask(mask, draw)
    assert (moved.sum(), dilate(moved).sum()) == (drawn["count"], drawn["count_dilated"])
    assert checksum(moved * 255) == facts()["exact"][f"perturb_{seed}"]
    assert checksum(dilated_guide(mask, draw)) == facts()["exact"][f"perturb_dil_{seed}"]


@pytest.mark.parametrize("size", sorted(SIZES))
def test_frames_are_resized_as_theirs(size):
    image = frame_at("frame1", SIZES[size])[:, :, ::-1].astype(int) - MEAN
    assert checksum(image) == facts()["exact"][f"image_{size}"]


# --- Checks 13 to 20 of the specification ----------------------------------------------------------------------


def test_gaussian_of_a_square():
    guide = gaussian_guide(square(120, 160, (40, 80), (60, 100)))
    np.testing.assert_allclose(centre_and_spread(square(120, 160, (40, 80), (60, 100))), [(80, 60), (14.826, 14.826)])
    found = guide[60, 80], guide[60, 60], guide[80, 100], guide[60, 95], guide[60, 120]
    np.testing.assert_allclose(found, (1, 0.402574, 0.162066, 0.599413, 0.026265), atol=1e-6)
    assert guide.sum(dtype=np.float64) == pytest.approx(1381.0365, abs=1e-3)


def test_gaussian_of_a_tiny_object_has_the_smallest_spread_and_no_peak_of_one():
    guide = gaussian_guide(square(100, 100, (50, 52), (20, 21)))
    found = guide[51, 20], guide[51, 25], guide[56, 20], guide[51, 30], guide.max()
    np.testing.assert_allclose(found, (0.995012, 0.666977, 0.603506, 0.164474, 0.995012), atol=1e-6)
    assert guide.sum(dtype=np.float64) == pytest.approx(157.0776, abs=1e-3)


def test_gaussian_has_a_spread_per_axis():
    guide = gaussian_guide(square(100, 200, (20, 39), (30, 129)))
    found = guide[29, 79], guide[29, 116], guide[39, 80], guide[0, 0]
    np.testing.assert_allclose(found, (0.997637, 0.614376, 0.439880, 3.649e-5), atol=1e-6)
    assert guide.sum(dtype=np.float64) == pytest.approx(1698.6346, abs=1e-3)


def test_an_outlier_moves_the_gaussian_hardly():
    mask = square(64, 64, (10, 19), (10, 19))
    mask[60, 60] = 1
    np.testing.assert_allclose(centre_and_spread(mask), [(15, 15), (5, 5)])
    guide = gaussian_guide(mask)
    assert guide[14, 14] == pytest.approx(0.960789, abs=1e-6) and guide[60, 60] < 1e-8


def test_an_empty_mask_gives_an_empty_guide_and_0_255_is_0_1():
    assert not gaussian_guide(np.zeros((10, 12))).any() and not dilated_guide(np.zeros((10, 12))).any()
    mask = square(40, 50, (5, 20), (7, 30))
    assert np.array_equal(gaussian_guide(mask), gaussian_guide(mask * 255))


def test_draws_stay_in_their_ranges_and_depend_on_the_seed_alone():
    draws = [SpatialDraw.random(np.random.default_rng(seed)) for seed in range(200)]
    assert max(abs(c) for d in draws for c in d.centre) <= 0.2
    spreads = [s for d in draws for s in d.spread]
    assert 1 / 1.4 <= min(spreads) < 0.75 and 1.35 < max(spreads) <= 1.4
    assert SpatialDraw.random(np.random.default_rng(3)) == draws[3] != draws[4]
    guides = [VisualDraw.random(np.random.default_rng(seed)) for seed in range(200)]
    assert max(abs(r) for d in guides for r in d.ratios) <= 0.1 and max(abs(d.angle) for d in guides) <= 10
    assert 60 < sum(d.flip for d in guides) < 140 and all(d.brightness == 1 for d in guides)
    assert {type(v) for d in guides for v in d.ratios} == {float}
    masks = [MaskDraw.random(np.random.default_rng(seed)) for seed in range(50)]
    assert all(0.8 <= d.scale <= 1.2 and max(map(abs, d.centre)) <= 0.2 for d in masks)


def test_the_box_leaves_out_the_last_row_and_column_and_grows_by_truncated_ratios():
    assert tight_box(square(120, 160, (40, 80), (60, 100))) == (60, 40, 100, 80)
    assert guide_crop(40, 40, (0.03,) * 4) == (-1, -1, 41, 41)
    assert guide_crop(10, 10, (0.03,) * 4) == (0, 0, 10, 10)
    assert guide_crop(33, 34, (0.03,) * 4) == (0, -1, 33, 35)
    assert guide_crop(100, 50, (-0.1, 0.1, -0.05, 0.0)) == (10, -5, 95, 50)


def test_the_padding_is_black_although_the_image_goes_on():
    image = np.full((120, 160, 3), 200, np.uint8)
    picture, shown = visual_guide(image, square(120, 160, (40, 80), (60, 100)), VisualDraw.padded(), side=42)
    assert not picture[0].any() and not picture[:, -1].any() and (picture[1:-1, 1:-1] == 200).all()
    assert shown[1:-1, 1:-1].all() and not shown[0].any()


def test_what_the_mask_leaves_out_and_the_mean_colour_are_both_nothing():
    image = np.full((60, 60, 3), (123, 117, 104), np.uint8)
    image[:, 30:] = 255
    assert not as_authors(*visual_guide(image, square(60, 60, (10, 50), (5, 25)), VisualDraw())).any()


@pytest.mark.parametrize("rows, columns", [((60, 60), (33, 33)), ((20, 89), (77, 77))])
def test_an_object_of_one_pixel_s_width_shows_nothing_but_is_no_error(rows, columns):
    mask = square(150, 200, rows, columns)
    picture, shown = visual_guide(np.full((150, 200, 3), 9, np.uint8), mask, VisualDraw.padded())
    assert not picture.any() and not shown.any()


def test_aspect_can_be_kept_and_a_mask_of_another_size_is_brought_to_the_image():
    image = np.full((100, 200, 3), 50, np.uint8)
    picture, _ = visual_guide(image, square(50, 100, (10, 20), (10, 50)), VisualDraw(), side=64, keep_aspect=True)
    covered = np.flatnonzero(picture.any(axis=(1, 2)))
    assert 15 <= len(covered) <= 18 and abs(covered[0] - (63 - covered[-1])) <= 1


def test_colour_changes_come_before_the_turn_and_leave_the_padding_black():
    image = np.full((80, 80, 3), 100, np.uint8)
    draw = VisualDraw(ratios=(0.1,) * 4, brightness=1.2)
    picture, _ = visual_guide(image, square(80, 80, (20, 60), (20, 60)), draw)
    assert picture[112, 112, 0] == 120 and not picture[0, 0].any()


@pytest.mark.parametrize("centre", [(-0.9, 0.9), (0.9, -0.9)])
def test_a_perturbed_mask_may_leave_the_frame(centre):
    moved = perturb_mask(square(40, 40, (0, 20), (0, 20)), MaskDraw(1.2, centre))
    assert moved.shape == (40, 40) and moved.sum() < 25 * 25


def test_dilation_is_by_a_disc_of_81_cells():
    mask = np.zeros((15, 15), bool)
    mask[7, 7] = True
    grown = dilate(mask)
    assert grown.sum() == 81 and grown[2, 7] and not grown[2, 8] and not grown[3, 3]
