"""Scoring of folders and arrays: averages, protocols, odd files, results on disk."""

import json

import numpy as np
import pytest
from PIL import Image

from ssnm.errors import DataError, MissingFileError
from ssnm.metrics import PROTOCOLS, FolderScores, Protocol, ThresholdRule, score_arrays, score_folder
from ssnm.metrics.curve import best_level

HALF = Protocol(name="half", rule=ThresholdRule.parse("fixed:0.5"), resolution=None)


def strip(foreground, predicted, overlap, length=10):
    """A one-row map and truth with so many pixels each, ``overlap`` of them common."""
    truth, prob = np.zeros((1, length), bool), np.zeros((1, length))
    truth[0, :foreground] = True
    prob[0, foreground - overlap : foreground - overlap + predicted] = 1.0
    return prob, truth


def literal_release(pred_path, truth_path):
    """The release's scoring, line by line with Pillow and numpy."""
    map_ = Image.open(pred_path).convert("L").resize((224, 224), Image.BILINEAR)
    mask = Image.open(truth_path).convert("L").resize((224, 224), Image.BILINEAR)
    prob, truth = np.asarray(map_, np.float64) / 255, np.asarray(mask, np.float64) / 255 > 0.5
    pred = prob > min(prob.mean() + prob.std(ddof=0), 0.8)
    return np.mean(pred == truth), np.sum(pred & truth) / (np.sum(pred | truth) + 1e-10)


def test_the_three_averages_of_three_images_by_hand():
    # cat: J = 1/2 (1 of 2 pixels) and 2/8; cow: J = 1. Pooled cat: (1 + 2) / (2 + 8) = 0.3
    cats = [strip(1, 2, 1), strip(5, 5, 2)]
    scores = score_arrays([("cat", "a", *cats[0]), ("cat", "b", *cats[1]), ("cow", "c", *strip(4, 4, 4))], HALF)
    assert [i.J for i in scores.images] == [0.5, 0.25, 1.0]
    assert [i.P for i in scores.images] == [0.9, 0.4, 1.0]
    assert scores.averages["images"].J == pytest.approx((0.5 + 0.25 + 1) / 3)
    assert scores.averages["classes"].J == pytest.approx((0.375 + 1) / 2)
    assert scores.averages["pooled"].J == pytest.approx((0.3 + 1) / 2)
    assert scores.averages["pooled"].P == pytest.approx((13 / 20 + 1) / 2)
    assert [(c.category, c.count, c.J, c.pooled_J) for c in scores.classes] == [
        ("cat", 2, 0.375, 0.3),
        ("cow", 1, 1.0, 1.0),
    ]
    assert scores.headline == scores.averages["images"]


def test_release_protocol_is_the_release_line_by_line(small_set):
    scores = score_folder(small_set / "pred", small_set / "gt", "release")
    for image in scores.images:
        relative = f"{image.category}/{image.name}.png"
        p, j = literal_release(small_set / "pred" / relative, small_set / "gt" / relative)
        assert (image.P, image.J) == (pytest.approx(p, abs=1e-12), pytest.approx(j, abs=1e-9))


def test_paper_protocol_scores_at_the_size_of_the_truth(small_set):
    scores = score_folder(small_set / "pred", small_set / "gt", "paper")
    image = scores.images[0]
    prob = np.asarray(Image.open(small_set / "pred" / image.category / f"{image.name}.png")) / 255
    truth = np.asarray(Image.open(small_set / "gt" / image.category / f"{image.name}.png")) > 127
    pred = prob > min(prob.mean() + prob.std(), 0.8)
    assert image.J == pytest.approx(np.sum(pred & truth) / np.sum(pred | truth))


def test_images_come_in_natural_order(small_set):
    scores = score_folder(small_set / "pred", small_set / "gt")
    assert [(i.category, i.name) for i in scores.images] == [("cat", "img_2"), ("cat", "img_10"), ("cow", "a")]


def test_arrays_and_files_give_the_same_scores(small_set):
    def loaded():
        for path in (small_set / "pred").glob("*/*.png"):
            truth = np.asarray(Image.open(small_set / "gt" / path.parent.name / path.name)) > 127
            yield path.parent.name, path.stem, np.asarray(Image.open(path)), truth

    for protocol in PROTOCOLS:
        from_files = score_folder(small_set / "pred", small_set / "gt", protocol)
        from_arrays = score_arrays(loaded(), protocol)
        assert set(from_arrays.images) == set(from_files.images)
        assert from_arrays.averages == from_files.averages  # whatever the order of the images


def test_float_maps_score_close_to_their_8_bit_files():
    rng = np.random.default_rng(2)
    coarse = rng.random((7, 9)).astype(np.float32)
    prob = np.asarray(Image.fromarray(coarse).resize((300, 200), Image.BILINEAR)).clip(0, 1)
    truth = prob > 0.55
    exact = score_arrays([("a", "b", prob, truth)]).headline.J
    rounded = score_arrays([("a", "b", (prob * 255).round().astype(np.uint8), truth)]).headline.J
    assert exact == pytest.approx(rounded, abs=0.01)


def test_workers_do_not_change_the_result_and_scoring_twice_gives_identical_files(small_set):
    for name, workers in (("one", 1), ("many", 5)):
        score_folder(small_set / "pred", small_set / "gt", workers=workers).write_json(small_set / f"{name}.json")
    assert (small_set / "one.json").read_bytes() == (small_set / "many.json").read_bytes()


@pytest.mark.parametrize("headline", ["images", "classes", "pooled"])
@pytest.mark.parametrize("empty", ["zero", "one_if_empty", "skip"])
def test_the_curve_at_k_is_the_score_of_the_fixed_threshold_k(small_set, save, headline, empty):
    save(small_set / "gt" / "cow" / "noise.png", np.zeros((20, 20), bool))
    save(small_set / "pred" / "cow" / "noise.png", np.full((20, 20), 9, np.uint8))
    folders = small_set / "pred", small_set / "gt"
    protocol = Protocol(name="t", empty=empty, headline=headline)
    curve = score_folder(*folders, protocol).curve
    assert len(curve) == 256
    for level in (0, 8, 9, 100, 254, 255):
        fixed = protocol.changed(rule=ThresholdRule("fixed", level / 255))
        assert curve[level] == pytest.approx(score_folder(*folders, fixed).headline.J, abs=1e-12)


def test_best_is_the_threshold_that_no_fixed_one_beats(small_set):
    folders = small_set / "pred", small_set / "gt"
    best = score_folder(*folders, PROTOCOLS["release"].changed(rule=ThresholdRule.parse("best")))
    assert best.headline.J == pytest.approx(max(best.curve), abs=1e-12)
    assert best.images[0].threshold == best_level(best.curve) / 255
    again = PROTOCOLS["release"].changed(rule=ThresholdRule("fixed", best.images[0].threshold))
    assert score_folder(*folders, again).images == best.images
    assert "upper bound" in best.table()


def test_images_without_object_follow_the_policy_in_every_average():
    empty_pred = ("cat", "noise", np.zeros((1, 10)), np.zeros((1, 10), bool))
    images = [("cat", "a", *strip(4, 2, 2)), empty_pred]
    zero, one, skip = (score_arrays(images, HALF.changed(empty=e)) for e in ("zero", "one_if_empty", "skip"))
    assert [s.averages["images"].J for s in (zero, one, skip)] == [0.25, 0.75, 0.5]
    assert [s.averages["images"].count for s in (zero, one, skip)] == [2, 2, 1]
    assert skip.images[1].J is None and skip.classes[0].left_out == 1
    assert skip.averages["images"].P == 0.8  # the image is left out of P too
    assert "1 image with empty ground truth left out" in skip.table()


def test_a_class_whose_images_are_all_left_out_counts_nowhere():
    noise = ("noise", "n", np.zeros((1, 10)), np.zeros((1, 10), bool))
    scores = score_arrays([("cat", "a", *strip(4, 2, 2)), noise], HALF.changed(empty="skip"))
    assert scores.averages["classes"].count == 1 and scores.averages["classes"].J == 0.5
    only_noise = score_arrays([noise], HALF.changed(empty="skip"))
    assert only_noise.headline.J is None and only_noise.curve == (None,) * 256
    assert FolderScores.from_dict(only_noise.to_dict()) == only_noise
    assert "-" in only_noise.table()


def test_a_constant_prediction_is_empty_at_any_resolution(save, tmp_path):
    truth = np.zeros((40, 31), bool)
    truth[10:30, 5:20] = True
    save(tmp_path / "gt" / "c" / "a.png", truth)
    for value in (0, 77, 200):
        save(tmp_path / "pred" / "c" / "a.png", np.full((40, 31), value, np.uint8))
        for protocol in ("release", "paper"):
            assert score_folder(tmp_path / "pred", tmp_path / "gt", protocol).headline.J == 0


def test_truth_files_of_every_kind_say_the_same(save, tmp_path):
    truth = np.zeros((48, 64), bool)
    truth[8:40, 16:48] = True
    palette = Image.fromarray(truth.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    kinds = {
        "zero_255.png": truth.astype(np.uint8) * 255,
        "zero_one.png": truth.astype(np.uint8),
        "colour.bmp": np.repeat(truth[:, :, None] * np.uint8(255), 3, axis=2),
        "jpeg.jpg": truth.astype(np.uint8) * 255,
        "bilevel.gif": truth.astype(np.uint8) * 255,
    }
    for name, array in kinds.items():
        save(tmp_path / "gt" / "c" / name, array)
    palette.save(tmp_path / "gt" / "c" / "palette.png")
    for stem in [name.split(".")[0] for name in kinds] + ["palette"]:
        save(tmp_path / "pred" / "c" / f"{stem}.png", truth)
    scores = score_folder(tmp_path / "pred", tmp_path / "gt", HALF)
    assert {i.name: i.J for i in scores.images} == {i.name: 1.0 for i in scores.images}
    assert len(scores.images) == 6


def test_map_files_of_every_kind_say_the_same(save, tmp_path):
    rng = np.random.default_rng(4)
    values = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    truth = values > 127
    grey_palette = Image.fromarray(values).convert("P")
    grey_palette.putpalette([v for v in range(256) for _ in range(3)])
    indices = Image.fromarray(truth.astype(np.uint8)).convert("P")
    indices.putpalette([0, 0, 0, 128, 0, 0])
    files = {
        "grey": Image.fromarray(values),
        "rgb": Image.fromarray(np.repeat(values[:, :, None], 3, axis=2)),
        "sixteen": Image.fromarray(values.astype(np.uint16) * 257),
        "bilevel": Image.fromarray(truth.astype(np.uint8) * 255).convert("1"),
        "grey_palette": grey_palette,
        "index_palette": indices,
    }
    (tmp_path / "pred").mkdir()
    for name, image in files.items():
        image.save(tmp_path / "pred" / f"{name}.png")
        save(tmp_path / "gt" / f"{name}.png", truth)
    scores = score_folder(tmp_path / "pred", tmp_path / "gt", HALF)
    assert {i.name: i.J for i in scores.images} == {name: 1.0 for name in files}
    assert [c.category for c in scores.classes] == ["all"]


def test_a_folder_of_0_1_masks_is_read_as_masks_and_says_so(save, tmp_path):
    truth = np.zeros((20, 20), bool)
    truth[3:9, 4:12] = True
    save(tmp_path / "gt" / "a.png", truth)
    save(tmp_path / "gt" / "b.png", truth)
    save(tmp_path / "pred" / "a.png", truth.astype(np.uint8))
    save(tmp_path / "pred" / "b.png", np.zeros((20, 20), np.uint8))
    scores = score_folder(tmp_path / "pred", tmp_path / "gt", HALF)
    assert [i.J for i in scores.images] == [1.0, 0.0]
    assert scores.binary_maps and "0/1 masks" in scores.table()
    save(tmp_path / "pred" / "b.png", np.full((20, 20), 2, np.uint8))  # now 1 is the probability 1/255
    assert score_folder(tmp_path / "pred", tmp_path / "gt", HALF).images[0].J == 0


def test_a_map_of_another_size_is_resized_and_counted(save, tmp_path):
    truth = np.zeros((60, 90), bool)
    truth[20:40, 30:60] = True
    save(tmp_path / "gt" / "a.png", truth)
    small = Image.fromarray(truth.astype(np.uint8) * 255).resize((224, 224), Image.BILINEAR)
    save(tmp_path / "pred" / "a.png", np.asarray(small))
    scores = score_folder(tmp_path / "pred", tmp_path / "gt", "paper")
    assert scores.headline.J > 0.9 and scores.resized == 1
    assert "not of the size of the ground truth: 1 map" in scores.table() and "1 maps" not in scores.table()


def test_a_transposed_map_is_refused_by_name(save, tmp_path):
    save(tmp_path / "gt" / "a.png", np.ones((6, 9), bool))
    save(tmp_path / "pred" / "a.png", np.ones((9, 6), bool))
    with pytest.raises(DataError, match=r"pred/a\.png.*transpose"):
        score_folder(tmp_path / "pred", tmp_path / "gt")


def test_a_colour_picture_is_not_a_map(save, tmp_path):
    save(tmp_path / "gt" / "a.png", np.ones((6, 9), bool))
    save(tmp_path / "pred" / "a.png", np.random.default_rng(0).integers(0, 255, (6, 9, 3)).astype(np.uint8))
    with pytest.raises(DataError, match=r"pred/a\.png.*colour picture"):
        score_folder(tmp_path / "pred", tmp_path / "gt")


@pytest.mark.parametrize("side", ["pred", "gt"])
def test_an_undecodable_file_is_named(small_set, side):
    file = small_set / side / "cat" / "img_10.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"{side}/cat/img_10\.png: cannot be decoded"):
        score_folder(small_set / "pred", small_set / "gt")


def test_every_file_that_cannot_be_scored_is_named_at_once_and_none_is_left_out(small_set):
    first, second, third = sorted((small_set / "gt").rglob("*.png"))[:3]
    levels = np.zeros((30, 40), np.uint8)
    levels[5:20, 5:20], levels[20:, 20:] = 90, 140
    for path in (first, second):
        Image.fromarray(levels).save(path)  # greys that are neither side
    third.write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        score_folder(small_set / "pred", small_set / "gt")
    said = str(error.value)
    assert "3 of" in said and "\n" not in said and str(third) in said
    assert str(first) in said and second.name in said and said.count("neither 0/1") == 1  # one reason, said once


def test_scores_survive_their_json_file(small_set):
    scores = score_folder(small_set / "pred", small_set / "gt", "pooled")
    assert FolderScores.from_json(scores.write_json(small_set / "out" / "scores.json")) == scores


def test_the_json_states_everything_that_decides_the_numbers(small_set):
    path = score_folder(small_set / "pred", small_set / "gt").write_json(small_set / "scores.json")
    stored = json.loads(path.read_text())
    assert stored["protocol"] == {
        "name": "release", "rule": "mean+std:0.8", "resolution": 224, "empty": "zero", "headline": "images",
    }  # fmt: skip
    assert str(small_set) not in path.read_text()


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}', '{"format": "ssnm-scores", "version": 1}'])
def test_a_file_that_holds_no_scores_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        FolderScores.from_json(tmp_path / "x.json")
    with pytest.raises(MissingFileError, match=r"y\.json"):
        FolderScores.from_json(tmp_path / "y.json")


def test_tables_hold_the_classes_and_mark_the_headline(small_set):
    scores = score_folder(small_set / "pred", small_set / "gt")
    lines = scores.table().splitlines()
    assert lines[0] == scores.protocol.describe()
    assert [line.split()[0] for line in lines[3:5]] == ["cat", "cow"]
    assert [line for line in lines if "*" in line][0].startswith("average over images *")
    j = f"{100 * scores.headline.J:.1f}"
    assert f"| **average over images** | **3** | **{100 * scores.headline.P:.1f}** | **{j}** |" in scores.to_markdown()
    csv_lines = scores.write_csv(small_set / "scores.csv").read_text().splitlines()
    assert csv_lines[0] == "class,count,P,J,protocol" and len(csv_lines) == 1 + 2 + 3
    images = scores.write_images_csv(small_set / "images.csv").read_text().splitlines()
    assert images[0] == "class,name,P,J,threshold" and len(images) == 4


def test_nothing_to_score_and_wrong_arrays_are_errors():
    with pytest.raises(DataError, match="nothing to score"):
        score_arrays([])
    with pytest.raises(DataError, match="c/n: a ground truth"):
        score_arrays([("c", "n", np.zeros((2, 2)), np.zeros((2, 2)))])
    with pytest.raises(DataError, match="c/n: probabilities"):
        score_arrays([("c", "n", np.full((2, 2), 3.0), np.zeros((2, 2), bool))])
