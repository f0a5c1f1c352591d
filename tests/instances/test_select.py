"""The choice of proposals: golden values of the authors' functions, numbers by hand, properties."""

from pathlib import Path

import numpy as np
import pytest

from ssnm.errors import DataError
from ssnm.instances.contour import contours
from ssnm.instances.select import (
    Ranking,
    best_proposals,
    filter_noise,
    localization_box,
    rank,
    select_instances,
    suppress,
    tight_box,
    within_area,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    arrays = dict(np.load(GOLDEN / "selection.npz"))
    arrays["proposals"] = np.unpackbits(arrays["proposals"], axis=0, count=int(arrays["count"])).astype(bool)
    arrays["masks"] = np.unpackbits(arrays["masks"], axis=0, count=2).astype(bool)
    return arrays


def block(size: int, rows: slice, columns: slice | None = None) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[rows, columns if columns is not None else rows] = True
    return mask


def literal_contour(mask: np.ndarray) -> np.ndarray:
    """Cell by cell: some cell of the 5x5 window is set, and some cell of it that lies in the image is not."""
    band = np.zeros_like(mask)
    for row, column in np.ndindex(mask.shape):
        window = mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        band[row, column] = window.any() and not window.all()
    return band


def score_of(mask: np.ndarray, saliency: float = 1.0, response: np.ndarray | None = None) -> float:
    response = np.full(mask.shape, 1 / mask.size) if response is None else response
    return float(rank(np.full(mask.shape, saliency), response[None], mask[None])[0, 0])


def test_each_peak_picks_what_the_authors_function_picks(golden):
    picked, scores = best_proposals(golden["saliency"], golden["responses"], golden["proposals"])
    assert picked.tolist() == golden["picked"].tolist()
    np.testing.assert_allclose(scores, golden["picked_scores"], rtol=0, atol=1e-12)


def test_the_whole_choice_is_that_of_the_authors_functions(golden):
    masks, scores = select_instances(golden["saliency"], golden["responses"], golden["proposals"])
    assert (masks == golden["masks"]).all()
    np.testing.assert_allclose(scores, golden["scores"], rtol=1e-7)


def test_suppression_keeps_what_the_authors_function_keeps():
    golden = np.load(GOLDEN / "nms.npz")
    kept = suppress(golden["masks"], golden["scores"], float(golden["threshold"]))
    assert kept.tolist() == golden["kept_indices"].tolist()
    assert golden["scores"][kept].tolist() == golden["kept_scores"].tolist()
    assert suppress(golden["edge_masks"], golden["edge_scores"], 0.4).tolist() == golden["edge_kept_index"].tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 5), (4, 13)])
def test_contours_are_those_of_the_literal_rule(shape):
    masks = np.random.default_rng(0).random((11, *shape)) > 0.4
    assert (contours(masks) == np.array([literal_contour(m) for m in masks])).all()


@pytest.mark.parametrize(
    "rows, saliency, expected",
    [(slice(3, 9), 1.0, 0.8666667), (slice(3, 9), 0.5, 0.4331533), (slice(0, 6), 1.0, 0.5333333)],
)
def test_scores_of_a_block_in_a_uniform_response(rows, saliency, expected):
    assert score_of(block(12, rows), saliency) == pytest.approx(expected, abs=5e-8)


def test_a_slightly_eroded_mask_wins_inside_a_uniform_response():
    response = block(60, slice(10, 50)) / 1600
    values = [score_of(block(60, s), 1.0, response) for s in (slice(10, 50), slice(12, 48), slice(8, 52), slice(0, 60))]
    assert values == pytest.approx([0.99, 1.008, 0.80, 0.80], abs=1e-12)


def test_the_score_is_eq_7_term_by_term():
    draw = np.random.default_rng(1)
    saliency, responses = draw.random((9, 8)), draw.random((3, 9, 8))
    proposals = draw.random((10, 9, 8)) > 0.6
    scores = rank(saliency, responses, proposals, Ranking(beta=0.3, gamma=0.02))
    for m, k in np.ndindex(10, 3):
        weighted, mask = responses[k] * saliency, proposals[m]
        literal = 0.3 * weighted[mask].sum() + weighted[literal_contour(mask)].sum() - 0.02 * (1 - saliency)[mask].sum()
        assert scores[m, k] == pytest.approx(literal, abs=1e-12)


def test_scores_do_not_depend_on_how_proposals_are_cut_into_pieces(monkeypatch):
    draw = np.random.default_rng(2)
    arguments = draw.random((6, 7)), draw.random((2, 6, 7)), draw.random((21, 6, 7)) > 0.5
    whole = rank(*arguments)
    monkeypatch.setattr("ssnm.instances.select._CHUNK_BYTES", 1)
    np.testing.assert_allclose(rank(*arguments), whole, rtol=1e-14)


def test_size_power_one_gives_the_mean_over_the_proposals_share():
    draw = np.random.default_rng(3)
    saliency, responses, proposals = draw.random((6, 6)), draw.random((2, 6, 6)), draw.random((5, 6, 6)) > 0.5
    shares = proposals.mean(axis=(1, 2))[:, None]
    expected = rank(saliency, responses, proposals) / shares
    np.testing.assert_allclose(rank(saliency, responses, proposals, Ranking(size_power=1.0)), expected)


def test_the_first_of_equal_proposals_is_taken():
    mask = block(8, slice(2, 6))
    best, _ = best_proposals(np.ones((8, 8)), np.full((1, 8, 8), 1 / 64), np.stack([mask, mask]))
    assert best.tolist() == [0]


def test_both_ends_of_the_area_filter_are_included():
    proposals = np.zeros((4, 10, 10), dtype=bool)
    for index, count in enumerate((1, 2, 85, 86)):
        proposals[index].flat[:count] = True
    assert within_area(proposals, (0.02, 0.85)).tolist() == [1, 2]


@pytest.mark.parametrize("peaks, proposals", [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_choose_from_gives_no_instance(peaks, proposals):
    masks, scores = select_instances(np.ones((5, 6)), np.ones((peaks, 5, 6)), np.ones((proposals, 5, 6), dtype=bool))
    assert masks.shape == (0, 5, 6) and masks.dtype == bool and scores.shape == (0,)


def test_proposals_that_cover_the_image_leave_nothing():
    masks, scores = select_instances(np.ones((5, 6)), np.ones((2, 5, 6)), np.ones((3, 5, 6), dtype=bool))
    assert masks.shape == (0, 5, 6) and scores.shape == (0,)


def test_suppression_twice_is_suppression_once():
    draw = np.random.default_rng(4)
    masks, scores = draw.random((12, 6, 6)) > 0.4, draw.random(12)
    kept = suppress(masks, scores, 0.4)
    assert suppress(masks[kept], scores[kept], 0.4).tolist() == list(range(len(kept)))
    assert (np.diff(scores[kept]) <= 0).all()


@pytest.mark.parametrize("scores, kept", [(np.arange(1.0, 11), 8), (np.array([0.1, 0.2, 0.3]), 2)])
def test_the_noise_threshold_is_matlabs_percentile(scores, kept):
    assert filter_noise([scores])[0].sum() == kept


def test_the_noise_threshold_is_not_numpys_default():
    assert filter_noise([np.arange(1.0, 8)])[0].sum() == 6  # 1.9; numpy's default says 2.2 and keeps 5


def test_an_image_keeps_its_best_mask_and_an_empty_image_stays_empty():
    keep = filter_noise([np.array([0.1, 0.2]), np.array([]), np.arange(5, 15.0)])
    assert keep[0].tolist() == [False, True] and keep[1].shape == (0,) and keep[2].all()
    assert filter_noise([]) == []


def test_the_box_is_that_of_the_best_mask():
    masks = np.stack([block(8, slice(0, 2)), block(8, slice(2, 5), slice(3, 7))])
    assert localization_box(masks, np.array([0.1, 0.2])) == (3, 2, 7, 5)
    assert localization_box(masks[:0], np.zeros(0)) is None and tight_box(np.zeros((3, 3), dtype=bool)) is None


@pytest.mark.parametrize(
    "change, words",
    [
        ({"saliency": np.ones((4, 4, 1))}, "co-saliency map"),
        ({"responses": np.ones((2, 4, 5))}, "responses"),
        ({"proposals": np.ones((2, 4, 4))}, "bool"),
        ({"saliency": np.full((4, 4), np.nan)}, "finite"),
    ],
)
def test_wrong_arrays_are_one_clear_line(change, words):
    arrays = {"saliency": np.ones((4, 4)), "responses": np.ones((2, 4, 4)), "proposals": np.ones((2, 4, 4), dtype=bool)}
    with pytest.raises(DataError, match=words):
        select_instances(**arrays | change)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="finite"):
        filter_noise([np.array([0.1, np.nan])])
