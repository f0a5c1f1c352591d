"""Priors: the label-free one finds what differs from the border and recurs; folders and functions are checked."""

import numpy as np
import pytest
from PIL import Image

from ssnm.errors import DataError, MissingFileError
from ssnm.instances.prior import PriorRecord, border_prior, folder_prior, given_prior, group_border_priors, resized


def features(*things: tuple[int, int, int]) -> np.ndarray:
    """(C = 4, 8, 8): channel 0 everywhere, a thing (channel, row, column) of 2x2 cells in place of it."""
    maps = np.zeros((4, 8, 8), np.float32)
    maps[0] = 1
    for channel, row, column in things:
        maps[:, row : row + 2, column : column + 2] = 0
        maps[channel, row : row + 2, column : column + 2] = 1
    return maps


def test_what_is_unlike_the_border_stands_out():
    prior = border_prior(features((1, 3, 3)))
    assert prior.shape == (8, 8) and prior.dtype == np.float32
    assert (prior[3:5, 3:5] == 1).all() and prior.sum() == 4


def test_an_even_image_has_no_prior():
    assert not border_prior(features()).any()


def test_in_a_group_what_recurs_stands_out_and_what_one_image_shows_alone_fades():
    group = np.stack([features((1, 3, 1), (2, 3, 5)), features((1, 2, 3)), features((1, 4, 4))])
    first = group_border_priors(group)[0]
    assert (first[3:5, 1:3] == 1).all() and not first[3:5, 5:7].any()
    alone = group_border_priors(group[:1])[0]
    assert (alone == border_prior(group[0])).all() and (alone[3:5, 5:7] == 1).all()


def test_a_group_of_even_images_has_no_prior_and_no_error():
    assert not any(prior.any() for prior in group_border_priors(np.stack([features()] * 3)))


def test_a_folder_gives_one_map_per_image_over_its_files_range(tmp_path):
    grey = np.array([[0, 51], [102, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "b.png")
    maps = folder_prior(tmp_path, ["x/a.jpg", "b.jpg"])
    for one in maps:
        np.testing.assert_allclose(one, grey / 255, atol=1e-6)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "coloured.png")  # a grey picture all the same
    assert np.allclose(folder_prior(tmp_path, ["coloured"])[0], grey / 255)
    Image.fromarray(np.dstack([grey, grey, 255 - grey])).save(tmp_path / "coloured.png")
    with pytest.raises(DataError, match="coloured.png: a colour picture"):
        folder_prior(tmp_path, ["a.jpg", "coloured.jpg"])
    with pytest.raises(MissingFileError, match="no map of image c"):
        folder_prior(tmp_path, ["c.jpg"])
    with pytest.raises(MissingFileError, match="no such folder"):
        folder_prior(tmp_path / "none", ["a.jpg"])


def test_masks_of_0_and_1_are_masks_unless_the_folder_holds_greys(tmp_path):
    mask = np.eye(4, dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    Image.fromarray(mask * np.uint8(255)).save(tmp_path / "b.png")
    assert [one.max() for one in folder_prior(tmp_path, ["a", "b"])] == [1, 1]
    Image.fromarray(np.arange(0, 160, 10, np.uint8).reshape(4, 4)).save(tmp_path / "b.png")
    assert folder_prior(tmp_path, ["a", "b"])[0].max() == pytest.approx(1 / 255)


def test_the_authors_saliency_files_are_read(tmp_path):
    io = pytest.importorskip("scipy.io")
    io.savemat(tmp_path / "a.mat", {"SalMap": np.array([[0, 255]], np.uint8)})
    assert folder_prior(tmp_path, ["a"])[0].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "maps, words",
    [([], "1 maps are needed"), ([np.zeros(3)], r"\(H, W\)"), ([np.full((2, 2), -0.1)], r"\[0, 1\]"),
     ([np.full((2, 2), np.nan)], r"\[0, 1\]"), ([np.ones((2, 2), np.int64)], "floats")],
)  # fmt: skip
def test_maps_that_are_none_are_refused(maps, words):
    with pytest.raises(DataError, match=words):
        given_prior(maps, [np.zeros((2, 2, 3), np.uint8)])


def test_the_record_says_whether_a_prior_was_trained():
    assert str(PriorRecord("border", False)) == "prior border, prior trained: no"
    assert "not said" in str(PriorRecord("maps", None))


def test_maps_are_enlarged_within_their_range():
    large = resized(np.array([[0, 1]], np.float32), (3, 8))
    assert large.shape == (3, 8) and large.min() == 0 and large.max() == 1
