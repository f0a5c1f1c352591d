"""`discover` end to end on procedural photographs: what comes out, what is said, what is refused."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

import ssnm.instances
from ssnm.data.coco_results import decode_mask
from ssnm.errors import ConfigError, DataError, MissingPackageError
from ssnm.files import given
from ssnm.instances import discovery
from ssnm.instances.config import config_from_dict
from ssnm.instances.photos import enlarged, read_photos
from ssnm.instances.prior import PriorRecord
from ssnm.instances.result import Discovery, Found, image_ids, index_image

TINY = config_from_dict(
    {
        "model": {"backbone": {"name": "mobilenetv2_035", "weights": "none", "tap": ""}},
        "fit": {"mode": "fast", "size": 64, "epochs": 3, "lr": 1e-2},
        "responses": {"kind": "gaussian", "clip": True},
        "proposals": {"scales": [100.0], "min_region": 20},
        "select": {"normalise": True, "area": [0.01, 0.85]},
        "side": 80,
    }
)
SEEDED = discovery.seeded_network
BOXES = ((10, 8, 30, 30), (60, 20, 85, 45))  # x0, y0, x1, y1


@pytest.fixture(autouse=True)
def one_network(monkeypatch):
    """Building the network takes most of the time, and no test changes it."""
    monkeypatch.setattr("ssnm.instances.discovery.seeded_network", lambda config, seed: network_of(seed))


@functools.cache
def network_of(seed: int):
    return SEEDED(TINY, seed)


def photo(seed: int = 0, height: int = 60, width: int = 100) -> np.ndarray:
    image = np.random.default_rng(seed).integers(90, 110, (height, width, 3)).astype(np.uint8)
    for x0, y0, x1, y1 in BOXES:
        image[y0:y1, x0:x1] = (220, 40, 30)
    return image


def masks(*_) -> np.ndarray:
    found = np.zeros((3, 60, 100), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(found, (*BOXES, (40, 5, 50, 55))):
        mask[y0:y1, x0:x1] = True
    return found


def prior(images: list[np.ndarray]) -> list[np.ndarray]:
    return [(image[..., 0] > 200).astype(np.float32) for image in images]


def find(images, **options):
    defaults = {"prior": prior, "proposals": masks, "config": TINY, "device": "cpu"}
    return ssnm.instances.discover(images, **defaults | options)


def test_masks_and_scores_come_per_image_at_its_own_size_by_falling_score():
    result = find([photo(0), photo(1), photo(2)])
    assert len(result) == 3 and [m.shape[1:] for m in result.masks] == [(60, 100)] * 3
    for found, scores in zip(result.masks, result.scores):
        assert found.dtype == bool and len(found) == len(scores) and (np.diff(scores) <= 0).all()
    assert any(len(scores) for scores in result.scores)


def test_the_same_seed_gives_the_same_result():
    first, second = find([photo(0), photo(1)]), find([photo(0), photo(1)])
    assert all((a == b).all() for a, b in zip(first.scores, second.scores))


def test_every_result_says_which_prior_it_had_and_whether_that_was_trained():
    assert find([photo()]).card["prior trained"] is None
    assert find([photo()], prior_trained=True).card["prior trained"] is True
    result = find([photo()], prior="border")
    assert result.card["prior"] == "border" and result.card["prior trained"] is False
    assert "prior trained: no" in repr(result)


def test_one_image_alone_is_fitted_and_says_so():
    result = find([photo()])
    assert len(result) == 1 and any("one image alone" in note for note in result.card["notes"])


def test_images_without_any_object_give_no_error_and_a_note():
    grey, flat = np.full((60, 100, 3), 100, np.uint8), np.full((60, 100), 0.5)
    result = find([grey, grey], prior=[flat, flat], proposals=[np.zeros((0, 60, 100), dtype=bool)] * 2)
    assert [len(s) for s in result.scores] == [0, 0]
    assert any("constant on image_0001" in note for note in result.card["notes"])
    assert any("no instance found in image_0001, image_0002" in note for note in result.card["notes"])


def test_thousands_of_proposals_are_ranked():
    many = np.random.default_rng(0).random((3000, 12, 20)) > 0.7
    result = find([photo()], proposals=[many])  # of another size than the image: brought to it
    assert result.masks[0].shape[1:] == (60, 100)


def test_files_hold_what_the_result_holds(tmp_path):
    files = []
    for number, mode in ((7, "RGB"), (31, "CMYK")):
        files.append(tmp_path / f"{number:012d}.{'png' if mode == 'RGB' else 'jpg'}")
        Image.fromarray(photo(number)).convert(mode).save(files[-1])
    result = find(files)
    out = result.save(tmp_path / "out")
    records = json.loads((out / "instances.json").read_text())
    assert len(records) == sum(map(len, result.scores)) and {r["image_id"] for r in records} <= {7, 31}
    card = json.loads((out / "result.json").read_text())
    assert card["prior trained"] is None and card["images"][0]["file_name"] == files[0].name
    stored = np.asarray(Image.open(out / "masks" / f"{files[0].stem}.png"))
    assert (stored == index_image(result.masks[0])).all()
    assert Image.open(out / "overlays" / f"{files[1].stem}.jpg").size == (100, 60)


def test_large_jpegs_are_read_reduced_and_their_masks_are_of_full_size(tmp_path, monkeypatch):
    Image.fromarray(photo()).resize((2600, 1560)).save(tmp_path / "large.jpg")
    decoded = []
    keep = given.load_reduced
    monkeypatch.setattr(given, "load_reduced", lambda *a: decoded.append(keep(*a)) or decoded[-1])
    result = find([tmp_path / "large.jpg"])
    assert result.masks[0].shape[1:] == (1560, 2600) and result.overlay(0, 400).size == (400, 240)
    assert [rgb.array.shape[:2] for rgb, _ in decoded] == [(780, 1300), (390, 650)]  # for the network, for a person


def test_only_the_part_of_a_mask_that_is_not_empty_is_resized_and_nothing_is_lost():
    random = np.random.default_rng(0)
    for height, width, size in ((12, 20, (120, 200)), (20, 12, (61, 37)), (30, 40, (7, 9)), (9, 9, (9, 50))):
        for covered in ((slice(None), slice(None)), (slice(0, 3), slice(5, 8)), (slice(6, 9), slice(0, 1))):
            mask = np.zeros((height, width), dtype=bool)
            mask[covered] = random.random(mask[covered].shape) > 0.4
            image = Image.fromarray(mask.astype(np.uint8) * 255)
            whole = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
            wrong = enlarged(mask, size) != (whole > 127)
            assert (abs(whole[wrong] - 127.5) < 1).all()  # ties, which rounding may send either way
    assert not enlarged(np.zeros((3, 4), dtype=bool), (30, 40)).any()


def test_masks_are_upright_and_lie_column_by_column_as_run_lengths_go(tmp_path):
    small = np.zeros((2, 30, 50), dtype=bool)
    small[0, 2:10, 5:40], small[1, 20:28, :6] = True, True
    pictures, found = read_photos([photo()]), [Found(small, np.array([0.9, 0.4]))]
    result = Discovery(pictures, found, PriorRecord("drawn", None), {})
    expected = small.repeat(2, axis=1).repeat(2, axis=2)
    wrong = result.masks[0] != expected
    assert result.masks[0].shape == (2, 60, 100) and wrong.mean() < 0.002 and result.masks[0][0].flags.f_contiguous
    records = json.loads((result.save(tmp_path) / "instances.json").read_text())
    assert all((decode_mask(r["segmentation"], "") == m).all() for r, m in zip(records, result.masks[0], strict=True))


def test_the_better_mask_lies_on_top():
    both = np.ones((2, 2, 2), dtype=bool)
    both[0, 0] = False
    assert index_image(both).tolist() == [[2, 2], [1, 1]]


def test_ids_are_the_files_numbers_where_all_have_one():
    assert image_ids(["000139", "000285"]) == [139, 285]
    assert image_ids(["000139", "dog"]) == [1, 2] and image_ids(["1", "01"]) == [1, 2]
    with pytest.raises(DataError, match="two images are named"):
        image_ids(["a", "a"])


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"images": []}, DataError, "at least 1 image"),
        ({"images": photo()}, DataError, "a list of images"),
        ({"prior": "coseg"}, ConfigError, "not known"),
        ({"prior": [np.zeros((60, 100))] * 2}, DataError, "1 maps are needed"),
        ({"prior": [np.full((60, 100), 2.0)]}, DataError, r"\[0, 1\]"),
        ({"prior": lambda images: [np.full((60, 100), np.nan)]}, DataError, r"\[0, 1\]"),
        ({"proposals": "mcg"}, ConfigError, "not known"),
        ({"proposals": [masks()] * 2}, DataError, "1 entries are needed"),
        ({"proposals": [np.ones((1, 60, 100))]}, DataError, "type bool"),
        ({"proposals": lambda image: "mask"}, DataError, "list of masks"),
        ({"mode": "quick", "config": None}, ConfigError, "fast, paper"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(options, error, words):
    options = {"images": [photo()]} | options
    with pytest.raises(error, match=words) as caught:
        find(options.pop("images"), **options)
    assert "\n" not in str(caught.value)


def test_without_scikit_image_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(MissingPackageError, match=r"pip install -e \"\.\[instances\]\""):
        find([photo()], proposals="builtin")
