"""How good is this mask? The figure, its calibration, and where it ends up."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.coseg.quality import QualityRule, expected_J, figures, fit_quality
from ssnm.engine.checkpoint import export_model, load_model_file
from ssnm.errors import CheckpointError
from ssnm.metrics import jaccard
from ssnm.metrics.ranking import spearman

RULE = QualityRule(expected=1.0, agreement=0.5, bias=0.0)


def test_the_expected_j_is_the_mean_j_over_objects_drawn_by_the_map():
    """Every pixel drawn by its own probability, in the limit of many pixels."""
    rng = np.random.default_rng(0)
    soft = rng.random((1, 120, 120), dtype=np.float32) ** 0.5
    drawn = [jaccard(soft[0] > 0.5, rng.random((120, 120)) < soft[0]) for _ in range(20)]
    assert expected_J(soft)[0] == pytest.approx(np.mean(drawn), abs=0.01)


def test_no_images_have_no_quality():
    none = np.zeros((0, 8, 8), np.float32)
    assert expected_J(none).shape == (0,) and RULE(none, np.zeros(0)).shape == (0,)


def test_sure_maps_are_better_than_unsure_ones_and_an_empty_mask_is_worth_nothing():
    sure = np.zeros((8, 8), np.float32)
    sure[:4] = 1.0
    maps = np.stack([sure, 0.3 + 0.4 * sure, np.full((8, 8), 0.2, np.float32)])
    assert expected_J(maps)[0] == pytest.approx(1) and expected_J(maps)[2] == 0
    quality = RULE(maps, np.full(3, 0.8))
    assert 1 > quality[0] > quality[1] > quality[2] >= 0
    assert (np.diff(RULE(maps[[0, 0]], np.array([0.2, 0.9]))) > 0).all()


def test_a_fitted_rule_gives_back_the_rule_that_made_the_scores():
    rng = np.random.default_rng(1)
    maps, alike = rng.random((300, 6, 6)) ** rng.uniform(0.1, 3, (300, 1, 1)), rng.uniform(0.2, 1, 300)
    for rule in (RULE, replace(RULE, threshold="mean+std")):
        fitted = fit_quality(figures(maps, alike, rule.threshold), rule(maps, alike), rule.threshold, ridge=0)
        assert (fitted.expected, fitted.agreement, fitted.bias) == pytest.approx((1.0, 0.5, 0.0), abs=1e-4)
        assert QualityRule.from_dict(fitted.to_dict()) == fitted
    assert QualityRule.from_dict({"expected": 1, "agreement": 0.5, "bias": 0}) == RULE  # files that name no threshold


def test_masks_are_judged_as_the_rule_cuts_them():
    """A faint map, whose mask by mean + std is its one clear square, is empty at one half."""
    faint = np.full((1, 10, 10), 0.05)
    faint[0, :3, :3] = 0.4
    assert expected_J(faint)[0] == 0 and expected_J(faint, "mean+std")[0] == pytest.approx(3.6 / (9 + 91 * 0.05))
    both = [replace(RULE, threshold=t)(faint, np.ones(1))[0] for t in (0.5, "mean+std")]
    assert both[0] < 0.01 < 0.2 < both[1]


def test_spearman_is_pearson_s_correlation_of_the_ranks():
    first = np.array([3.0, 1.0, 2.0, 2.0, 9.0])
    ranks = np.array([4.0, 1.0, 2.5, 2.5, 5.0])
    second = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spearman(first, second) == pytest.approx(np.corrcoef(ranks, second)[0, 1])
    assert spearman(second, -(second**3)) == pytest.approx(-1) and np.isnan(spearman(first, np.ones(5)))


@pytest.fixture
def model(checkpoint, tmp_path):
    source = load_model_file(checkpoint)
    present = {"peak": 1.0, "agreement": 0.0, "appearance": 0.0, "bias": 0.0, "cut": 0.0}
    inference = {**source.inference, "quality": RULE.to_dict(), "present": present}
    export_model(tmp_path / "m.safetensors", replace(source, inference=inference))
    return tmp_path / "m.safetensors"


def test_a_result_says_how_good_its_masks_are(model, checkpoint, written_set, tmp_path):
    images = sorted((written_set / "image").rglob("*.jpg"))[:3]
    segmenter = ssnm.from_pretrained(model, "cpu")
    segmenter.predictor.chunk = 2
    result = segmenter.segment(images)
    prediction = result.prediction
    np.testing.assert_allclose(result.quality, RULE(prediction.probabilities, prediction.agreement))
    assert result.quality.shape == (3,) and 0 <= result.quality.min() <= result.quality.max() <= 1
    out = result.save(tmp_path / "out")
    stored = json.loads((out / "quality.json").read_text())
    assert stored == {name: round(float(q), 4) for name, q in zip(result.names, result.quality)}
    assert ssnm.from_pretrained(checkpoint, "cpu").segment(images).quality is None


def test_pages_without_truth_show_the_masks_to_check_first(model, written_set, tmp_path, capsys):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for file in sorted((written_set / "image").rglob("*.jpg"))[:4]:
        Image.open(file).save(photographs / file.name)
    out = tmp_path / "out"
    assert main(["segment", str(photographs), "--out", str(out), "--checkpoint", str(model), "--report"]) == 0
    assert "quality" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    stored = json.loads((out / "quality.json").read_text())
    index = json.loads(page.split('id="index">')[1].split("</script>")[0])
    assert [image["quality"] for image in index["images"]] == [[value] for value in _rounded(stored, index)]
    assert "check first: lowest quality" in page and not index["scored"]


def _rounded(stored: dict, index: dict) -> list:
    by_stem = {name.rpartition(".")[0]: value for name, value in stored.items()}
    return [pytest.approx(by_stem[image["name"]], abs=1e-4) for image in index["images"]]


def test_a_test_records_the_figure_and_says_how_well_it_orders_the_masks(model, written_set, tmp_path, capsys):
    words = ["--dataset", "folder", "--data", str(written_set), "--out", str(tmp_path / "run"), "--no-overlays"]
    assert main(["test", str(model), *words]) == 0
    assert "quality against J: Spearman" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert all(0 <= i["quality"] <= 1 for g in record["groups"] for i in g["images"])


def test_a_damaged_rule_is_an_error_that_names_the_file(checkpoint, tmp_path):
    source = load_model_file(checkpoint)
    rule = {"expected": 1.0, "agreement": 0.5, "bias": 0.0}
    damaged = ({"agreement": float("nan")}, {"bias": "much"}, {"threshold": "much"}, {"threshold": "best"})
    for wrong in ({"expected": 1.0}, *({**rule, **part} for part in damaged)):
        path = tmp_path / "wrong.safetensors"
        export_model(path, replace(source, inference={**source.inference, "quality": wrong}))
        with pytest.raises(CheckpointError, match="wrong.safetensors: what inference needs"):
            ssnm.from_pretrained(path, "cpu")
