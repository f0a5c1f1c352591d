"""Truth scored against itself is exactly 100, under every preset of every task, in whatever encoding it is saved."""

import numpy as np
import pytest
from PIL import Image

from ssnm.data.coco_results import CocoEvaluation, coco_scores
from ssnm.files.ids import ids_png
from ssnm.metrics import PROTOCOLS, ThresholdRule, score_arrays, score_folder
from ssnm.metrics.instances import InstanceScores, score_group
from ssnm.metrics.maps import resize_map, resize_truth
from ssnm.metrics.video import score_videos

SIZES = ((375, 500), (61, 90), (224, 224), (30, 700))


def truths(size, seed=0):
    """Thin bars, blobs, single pixels and nearly full masks: what resizing is hardest on."""
    rng = np.random.default_rng(seed)
    height, width = size
    bars = np.zeros(size, bool)
    bars[:, :: max(2, width // 11)] = True
    blob = np.hypot(*(np.indices(size) - np.array([height / 2, width / 3])[:, None, None])) < min(size) / 4
    point = np.zeros(size, bool)
    point[height // 2, width // 2] = True
    return {"bars": bars, "blob": blob, "noise": rng.random(size) < 0.5, "point": point, "full": np.ones(size, bool),
            "nearly full": ~blob, "empty": np.zeros(size, bool)}  # fmt: skip


PRESETS = {**PROTOCOLS, "no cap": PROTOCOLS["release"].changed(rule=ThresholdRule(value=None)),
           "best": PROTOCOLS["release"].changed(rule=ThresholdRule.parse("best")),
           "fixed": PROTOCOLS["paper"].changed(rule=ThresholdRule.parse("0.5"))}  # fmt: skip
WRITTEN = {
    "0/255": lambda mask: Image.fromarray(mask.astype(np.uint8) * 255),
    "0/1": lambda mask: Image.fromarray(mask.astype(np.uint8)),
    "bilevel": Image.fromarray,
    "palette": lambda mask: Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB").quantize(2),
    "alpha": lambda mask: Image.fromarray(np.dstack([np.full((*mask.shape, 3), 9, np.uint8), mask * np.uint8(255)])),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", SIZES)
def test_a_truth_against_itself_is_100_on_every_image(preset, size):
    protocol = PRESETS[preset]
    given = [("all", name, mask, mask) for name, mask in truths(size).items()]
    for image, (_, name, mask, _) in zip(score_arrays(given, protocol).images, given):
        scored = size if protocol.resolution is None else (protocol.resolution,) * 2
        if resize_truth(mask, scored).any():
            assert (image.J, image.P) == (1.0, 1.0), name
        else:
            assert (image.J, image.P) == (0.0, 1.0), name  # the presets' rule for an empty truth


@pytest.mark.parametrize("encoding", WRITTEN)
@pytest.mark.parametrize("preset", PROTOCOLS)
def test_a_file_means_the_same_as_map_and_as_truth(tmp_path, encoding, preset):
    found = {name: mask for name, mask in truths((60, 91)).items() if name not in ("empty", "point", "full")}
    for side in ("pred", "gt"):
        (tmp_path / side / "cat").mkdir(parents=True)
        for name, mask in found.items():
            WRITTEN[encoding](mask).save(tmp_path / side / "cat" / f"{name}.png")
    scores = score_folder(tmp_path / "pred", tmp_path / "gt", preset)
    assert [(i.J, i.P) for i in scores.images] == [(1.0, 1.0)] * len(found)
    assert "masks, resized as the truth is" in scores.table()


def test_a_map_of_two_values_is_resized_as_the_truth_is():
    mask = truths((61, 90))["blob"]
    small = resize_map(mask * np.uint8(100), (20, 30))
    assert np.array_equal(small == 100, resize_truth(mask, (20, 30))) and set(np.unique(small)) == {0, 100}


def test_a_soft_map_is_still_blurred():
    values = np.array([[0, 255], [100, 0]], np.uint8)
    assert len(np.unique(resize_map(values, (5, 5)))) > 3


def test_ranges_that_are_mixed_are_said(tmp_path):
    mask = truths((30, 40))["blob"]
    for side, scale in (("pred", 1), ("gt", 255)):
        (tmp_path / side).mkdir()
        for name in "ab":
            Image.fromarray(mask * np.uint8(scale)).save(tmp_path / side / f"{name}.png")
    Image.fromarray(mask * np.uint8(255)).save(tmp_path / "pred" / "b.png")
    scores = score_folder(tmp_path / "pred", tmp_path / "gt")
    assert scores.headline.J == 1 and "1 map of 0 and 1, 1 of values up to 255: each was read" in scores.table()
    soft = np.linspace(0, 255, 1200).astype(np.uint8).reshape(30, 40)
    Image.fromarray(soft).save(tmp_path / "pred" / "b.png")
    assert "read as faint maps, not as masks" in score_folder(tmp_path / "pred", tmp_path / "gt").table()


@pytest.mark.parametrize("fill, words", [(0, "cat: no object in 2 of 3 truths"),
                                         (255, "cat: nothing but the object in 2 of 3 truths")])  # fmt: skip
def test_a_class_whose_truths_are_mostly_empty_or_full_is_said(tmp_path, fill, words):
    for side in ("pred", "gt"):
        (tmp_path / side / "cat").mkdir(parents=True)
        for name in "abc":
            array = np.full((20, 20), fill if side == "gt" and name != "a" else 0, np.uint8)
            array[2:9, 2:9] = 255
            if fill == 0 and name != "a":
                array[:] = 0
            Image.fromarray(array).save(tmp_path / side / "cat" / f"{name}.png")
    assert words in score_folder(tmp_path / "pred", tmp_path / "gt").table()


@pytest.mark.parametrize("protocol", ["davis", "osmn:davis", "osmn:youtube"])
def test_videos_against_themselves_are_100(tmp_path, protocol):
    masks = truths((40, 60))
    ids = [np.where(masks["blob"], 2, masks["bars"]).astype(np.uint8), masks["noise"] * np.uint8(2)]
    (tmp_path / "gt" / "seq").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "gt" / "seq" / f"{number:05d}.png").write_bytes(ids_png(ids[number % 2 and number > 0]))
    scores = score_videos(tmp_path / "gt", tmp_path / "gt", protocol)
    assert all(set(o.J) == {1.0} and set(o.F) == {1.0} for o in scores.objects)


@pytest.mark.parametrize("scored", ["alike", "differently"])
@pytest.mark.parametrize("size", [(61, 90), (224, 224), (30, 700)])
def test_objects_against_themselves_have_full_precision_at_every_threshold(size, scored):
    masks = [mask for name, mask in truths(size).items() if name != "empty"]
    group = [np.stack(masks), np.stack(masks[:2] * 2), masks[3][None], np.zeros((0, *size), bool)]  # twins; none
    rng = np.random.default_rng(1)
    scores = [np.ones(len(one)) if scored == "alike" else rng.random(len(one)) for one in group]
    found = score_group("all", group, scores, group)
    assert found.ap == (1.0, 1.0, 1.0) and found.corloc == 1.0
    coco = coco_scores(group, scores, group)
    assert {coco[name] for name in ("AP", "AP50", "AP75", "AR100")} == {1.0}
    alone = coco_scores(group[2:3], scores[2:3], group[2:3])
    assert {value for value in alone.values() if value == value} == {1.0}


def test_a_group_without_objects_counts_for_nothing():
    nothing = score_group("none", [np.zeros((0, 9, 9), bool)], [np.zeros(0)], [np.zeros((0, 9, 9), bool)])
    assert np.isnan([*nothing.ap, nothing.corloc]).all() and InstanceScores((nothing,)).mean(lambda g: g.ap) is None


def test_more_objects_than_coco_looks_at_are_said():
    evaluation = CocoEvaluation()
    dots = np.eye(121, dtype=bool).reshape(121, 11, 11)
    evaluation.add(dots, np.ones(121), dots)
    assert evaluation.result()["AP"] < 1 and "1 image with more objects" in evaluation.notes()[0]
