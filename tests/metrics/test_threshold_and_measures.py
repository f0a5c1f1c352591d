"""Binarisation, P and J of one image: numbers that can be checked by eye, and slow literal versions."""

import numpy as np
import pytest

from ssnm.errors import ConfigError, DataError
from ssnm.metrics import PROTOCOLS, Protocol, ThresholdRule, binarize, jaccard, precision
from ssnm.metrics.curve import best_level
from ssnm.metrics.measures import confusion_at_level, level_histogram


def masks(*rows):
    return tuple(np.array([list(map(int, row)) for row in mask.split()], bool) for mask in rows)


def test_precision_counts_background_and_jaccard_does_not():
    pred, truth = masks("1100 0000", "1010 0000")
    assert precision(pred, truth) == 6 / 8  # two of eight pixels are wrong
    assert jaccard(pred, truth) == 1 / 3  # one of three pixels in the union


def test_perfect_inverted_and_empty_predictions():
    truth, inverse, empty = masks("1100 1100", "0011 0011", "0000 0000")
    assert (precision(truth, truth), jaccard(truth, truth)) == (1, 1)
    assert (precision(inverse, truth), jaccard(inverse, truth)) == (0, 0)
    assert (precision(empty, truth), jaccard(empty, truth)) == (0.5, 0)


@pytest.mark.parametrize(
    "policy, of_empty, of_full", [("zero", 0, 0), ("one_if_empty", 1, 0), ("skip", None, None)]
)
def test_empty_truth_scores_what_the_policy_says(policy, of_empty, of_full):
    empty, full = masks("00 00", "11 11")
    assert jaccard(empty, empty, policy) == of_empty
    assert jaccard(full, empty, policy) == of_full
    assert jaccard(full, full, policy) == 1  # the policy says nothing about images with an object


def test_jaccard_is_the_releases_formula_within_its_epsilon():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pred, truth = rng.random((2, 9, 7)) < rng.random()
        literal = np.sum(pred & truth) / (np.sum(pred | truth) + 1e-10)
        assert jaccard(pred, truth) == pytest.approx(literal, abs=1e-10)


def test_jaccard_and_precision_agree_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a development dependency")
    rng = np.random.default_rng(1)
    for _ in range(20):
        pred, truth = rng.random((2, 13, 11)) < 0.4
        assert jaccard(pred, truth) == pytest.approx(sklearn.jaccard_score(truth.ravel(), pred.ravel()))
        assert precision(pred, truth) == pytest.approx(sklearn.accuracy_score(truth.ravel(), pred.ravel()))


def test_mean_std_threshold_of_four_pixels():
    # mean 0.25, population std sqrt(3)/4 = 0.4330 (the sample std would be 0.5)
    prob = np.array([[1.0, 0.0], [0.0, 0.0]])
    mask, threshold = binarize(prob, "mean+std")
    assert threshold == pytest.approx(0.25 + np.sqrt(3) / 4)
    assert mask.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("rule, threshold", [("mean+std", 0.8), ("mean+std:0.5", 0.5), ("mean+std:none", 0.95)])
def test_the_cap_bounds_mean_plus_std(rule, threshold):
    prob = np.array([[0.95, 0.95], [0.55, 0.55]])  # mean 0.75, std 0.2
    assert binarize(prob, rule)[1] == pytest.approx(threshold)


def test_a_value_equal_to_the_threshold_is_background():
    mask, threshold = binarize(np.array([[0.5, np.nextafter(0.5, 1)]]), "fixed:0.5")
    assert threshold == 0.5
    assert mask.tolist() == [[False, True]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_map_is_empty_whatever_rounding_does_to_its_mean(dtype):
    for value in np.linspace(0, 0.8, 97):
        noisy = np.full((37, 53), value, dtype)
        noisy[::2] = np.nextafter(noisy[::2], dtype(1))
        mask, _ = binarize(noisy, "mean+std:none")
        assert not mask.any(), value


def test_a_constant_map_above_the_cap_is_full():
    assert binarize(np.full((3, 3), 0.9), "mean+std")[0].all()


def test_level_histogram_gives_the_counts_of_every_fixed_threshold():
    rng = np.random.default_rng(5)
    truth = rng.random((20, 30)) < 0.4
    floats = rng.random((20, 30))
    floats[0, :3] = 0, 1, 128 / 255
    for prob in (floats, rng.integers(0, 256, (20, 30)) / 255.0):
        histogram = level_histogram(prob, truth)
        for level in range(256):
            counts, pred = confusion_at_level(histogram, level), prob > level / 255
            assert counts.true_positive == np.sum(pred & truth)
            assert counts.false_positive == np.sum(pred & ~truth)
            assert counts.false_negative == np.sum(~pred & truth)
            assert counts.true_negative == np.sum(~pred & ~truth)


def test_the_level_of_an_8_bit_value_is_the_value():
    values = np.arange(256).reshape(16, 16)
    assert (level_histogram(values / 255.0, np.zeros((16, 16), bool))[0] == 1).all()


def test_best_needs_a_whole_set():
    with pytest.raises(ConfigError, match="whole set"):
        binarize(np.zeros((2, 2)), "best")


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array([[0.0, 1.2]]), r"\[0, 1\] are needed, got \[0, 1.2\]"),
        (np.array([[np.nan, 0.2]]), "got .nan"),
        (np.zeros((2, 2, 3)), r"shape \(H, W\)"),
        (np.zeros((2, 2), np.int64), "got int64"),
        (np.zeros((0, 2)), r"shape \(H, W\)"),
    ],
)
def test_what_is_no_probability_map_is_refused(array, message):
    with pytest.raises(DataError, match=message):
        binarize(array, "fixed:0.5")


def test_masks_of_other_size_or_type_are_refused():
    with pytest.raises(DataError, match="differ in size"):
        jaccard(np.ones((2, 2), bool), np.ones((2, 3), bool))
    with pytest.raises(DataError, match="boolean"):
        precision(np.ones((2, 2)), np.ones((2, 2), bool))
    with pytest.raises(ConfigError, match="empty-truth policy 'one'"):
        jaccard(np.ones((2, 2), bool), np.ones((2, 2), bool), "one")


@pytest.mark.parametrize(
    "text, rule",
    [
        ("mean+std", ThresholdRule("mean+std", 0.8)),
        ("mean+std:0.5", ThresholdRule("mean+std", 0.5)),
        ("mean+std:none", ThresholdRule("mean+std", None)),
        ("fixed:0.25", ThresholdRule("fixed", 0.25)),
        ("0.25", ThresholdRule("fixed", 0.25)),
        ("best", ThresholdRule("best", None)),
    ],
)
def test_a_threshold_rule_survives_its_text_form(text, rule):
    assert ThresholdRule.parse(text) == rule
    assert ThresholdRule.parse(str(rule)) == rule


@pytest.mark.parametrize("text", ["otsu", "fixed", "fixed:x", "2", "best:0.5", "mean+std:-1", "nan", "fixed:none", ""])
def test_a_threshold_that_makes_no_sense_is_refused(text):
    with pytest.raises(ConfigError):
        ThresholdRule.parse(text)


def test_the_presets_are_those_of_the_specification():
    described = {name: (str(p.rule), p.resolution, p.empty, p.headline) for name, p in PROTOCOLS.items()}
    assert described == {
        "release": ("mean+std:0.8", 224, "zero", "images"),
        "paper": ("mean+std:0.8", None, "zero", "images"),
        "ufo": ("mean+std:0.5", 224, "zero", "images"),
        "pooled": ("mean+std:0.8", 224, "zero", "pooled"),
    }


def test_a_changed_preset_no_longer_bears_its_plain_name():
    release = PROTOCOLS["release"]
    assert release.changed() == release
    assert release.changed(resolution=224) == release
    assert release.changed(resolution=None).changed(empty="skip").name == "release, changed"
    assert Protocol.from_dict(release.changed(rule=ThresholdRule.parse("best")).to_dict()).rule.kind == "best"


@pytest.mark.parametrize("field", [{"resolution": 0}, {"resolution": 2.5}, {"empty": "one"}, {"headline": "median"}])
def test_a_protocol_with_an_unknown_choice_is_refused(field):
    with pytest.raises(ConfigError):
        Protocol(**field)


def test_of_thresholds_that_do_equally_well_the_smallest_is_best():
    assert best_level([0.5, 0.7, 0.7, None]) == 1
    assert best_level([None, None]) == 0
