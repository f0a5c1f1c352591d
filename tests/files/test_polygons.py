"""Masks as polygons: exact before simplification, close after it, one ring where one is asked for."""

import numpy as np
import pytest

from ssnm.files.masks import read_binary
from ssnm.files.polygons import join, mask_to_polygons, mask_to_rings, signed_area, simplify


def filled(rings, shape) -> np.ndarray:
    """Even-odd filling at the centres of pixels, edge by edge."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0)):
            low, high = sorted((y1, y2))
            rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(shape[0], int(np.ceil(high - 0.5))))
            if len(rows):
                x = x1 + (rows + 0.5 - y1) / (y2 - y1) * (x2 - x1)
                crossings[rows, np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(int)] += 1  # pixels before lie left of it
    left_of = crossings[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    return left_of % 2 == 1


def iou(a, b) -> float:
    return (a & b).sum() / (a | b).sum()


def blob(seed: int, shape=(90, 120)) -> np.ndarray:
    """A smooth random shape with holes and parts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    field = sum(np.exp(-((x - rng.uniform(20, 100)) ** 2 + (y - rng.uniform(15, 75)) ** 2) / rng.uniform(80, 600))
                * rng.choice([1, 1, -1]) for _ in range(9))  # fmt: skip
    return field > 0.35


def test_one_pixel_is_a_square_and_nothing_is_no_ring():
    mask = np.zeros((3, 4), bool)
    assert mask_to_rings(mask) == [] and mask_to_polygons(mask) == []
    mask[1, 2] = True
    (ring,) = mask_to_rings(mask)
    assert sorted(map(tuple, ring)) == [(2, 1), (2, 2), (3, 1), (3, 2)] and signed_area(ring) == 1


def test_a_hole_has_negative_area_and_straight_lines_have_no_points_on_them():
    mask = np.ones((5, 6), bool)
    mask[2, 2:4] = False
    hole, outer = sorted(mask_to_rings(mask), key=signed_area)
    assert len(outer) == len(hole) == 4 and (signed_area(outer), signed_area(hole)) == (30, -2)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_rings_filled_are_the_mask_again_and_their_areas_add_up(share):
    for seed in range(8):
        mask = np.random.default_rng(seed).random((9, 12)) < share
        rings = mask_to_rings(mask)
        assert np.array_equal(filled(rings, mask.shape), mask)
        assert sum(map(signed_area, rings)) == mask.sum()
        assert np.array_equal(filled(mask_to_polygons(mask, tolerance=0, least=0), mask.shape), mask)  # holes joined


def test_parts_that_touch_at_a_corner_are_two():
    assert len(mask_to_rings(np.eye(2, dtype=bool))) == 2


def test_simplified_rings_stay_close_with_far_fewer_points():
    for seed in range(12):
        mask = blob(seed)
        polygons = mask_to_polygons(mask)
        exact = sum(len(r) for r in mask_to_rings(mask))
        assert iou(filled(polygons, mask.shape), mask) > 0.95
        assert sum(map(len, polygons)) < 0.6 * exact


def test_no_left_out_point_is_further_away_than_the_tolerance():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 50 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    simple = simplify(circle, 1.0)
    assert len(simple) < 40
    middles = (simple + np.roll(simple, -1, axis=0)) / 2
    assert np.abs(50 - np.linalg.norm(middles, axis=1)).max() <= 1.0


def test_several_parts_joined_are_one_ring_of_the_same_pixels():
    mask = np.zeros((20, 40), bool)
    mask[2:8, 3:12], mask[10:18, 25:38] = True, True
    ring = join(mask_to_polygons(mask))
    assert np.array_equal(filled([ring], mask.shape), mask)


@pytest.mark.real_data
@pytest.mark.parametrize("one_ring", [False, True])
def test_polygons_of_200_real_masks_are_the_masks_but_for_their_edges(ssnm_data, one_ring):
    """one_ring: parts and holes joined by cuts, as YOLO's text wants them."""
    files = sorted((ssnm_data / "VOC_coseg_FaktorIrani" / "groundtruth").rglob("*.png"))
    masks = [read_binary(file).object for file in files[:: len(files) // 200][:200]]
    values, large = [], []
    for mask in masks:
        rings = mask_to_polygons(mask)
        values.append(iou(filled([join(rings)] if one_ring else rings, mask.shape), mask))
        large += [values[-1]] if mask.sum() > 1000 else []
    print(f"{len(values)} masks: median IoU {np.median(values):.4f}, lowest above 1,000 pixels {min(large):.4f}")
    assert len(values) == 200 and np.median(values) >= 0.97 and min(large) >= 0.90
