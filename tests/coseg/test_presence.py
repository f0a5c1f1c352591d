"""Is the shared object in the image? The figures, the rule, its fit, and what the predictor and users make of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import ssnm
from ssnm.coseg import predict
from ssnm.coseg.files import read_inference
from ssnm.coseg.predict import GroupPrediction, Predictor
from ssnm.coseg.presence import PresenceRule, agreement, best_cut, evidence, fit_rule, likeness, peaks, shares
from ssnm.coseg.second_order import second_order_matrix
from ssnm.coseg.segmentation import Segmentation
from ssnm.engine.checkpoint import ModelFile, export_model, load_model_file
from ssnm.errors import CheckpointError, ConfigError

SIZE = 32
RULE = PresenceRule(peak=1.0, agreement=2.0, appearance=3.0, bias=0.5, cut=0.4)


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(count)]


# The figures


def test_the_peak_is_the_mean_of_the_surest_hundredth():
    maps = np.zeros((2, 20, 20), np.float32)
    maps[0].flat[:4] = [0.9, 0.8, 0.7, 0.6]  # a hundredth of 400
    assert peaks(maps).tolist() == pytest.approx([0.75, 0.0])


def test_an_image_unlike_the_others_agrees_least_whatever_the_order():
    logits = torch.full((5, 6), -4.0)
    logits[[0, 1, 2, 4], 2] = 4.0
    logits[3, 5] = 4.0
    values = agreement(logits)
    assert int(values.argmin()) == 3 and bool((values[[0, 1, 2, 4]] > 2 * values[3]).all())
    order = torch.tensor([3, 1, 0, 4, 2])
    torch.testing.assert_close(agreement(logits[order]), values[order])
    assert 0 <= values.min() and values.max() <= 1


def test_equal_images_agree_fully_and_a_single_one_with_itself():
    row = torch.tensor([[2.0, -1.0, 0.5]])
    torch.testing.assert_close(agreement(row.expand(4, 3)), torch.ones(4))
    torch.testing.assert_close(agreement(row), torch.ones(1))


def test_shares_are_largest_for_the_image_that_agrees_most_and_never_zero():
    weights = shares(torch.tensor([0.5, 0.25, 0.0]))
    assert weights.shape == (1, 3) and weights[0].tolist() == pytest.approx([1.02, 0.27, 0.02])


def test_weighted_second_order_pooling_repeats_positions():
    features = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    twice = second_order_matrix(features[..., [0, 1, 1, 2]])
    torch.testing.assert_close(second_order_matrix(features, weights=torch.tensor([[1.0, 2.0, 1.0]])), twice)
    twice = second_order_matrix(features[..., [0, 1, 1, 2]], centred=True)
    torch.testing.assert_close(second_order_matrix(features, True, torch.tensor([[1.0, 2.0, 1.0]])), twice)


# The rule


def test_the_rule_is_monotonous_in_every_figure_and_one_for_a_group_of_one():
    sure, same, rising = np.array([0.1, 0.5, 0.9]), np.zeros(3), np.array([-0.9, -0.5, 0.0])
    for figures in (sure, same, same), (same + 0.5, rising, same), (same + 0.5, same, rising):
        assert (np.diff(RULE(figures[0], np.column_stack(figures[1:]))) > 0).all()
    none = np.zeros((1, 2))
    assert RULE(np.array([0.0]), none).tolist() == [1.0]
    assert RULE(sure[:1], none, group_size=3)[0] == RULE(sure, np.zeros((3, 2)))[0] < 1  # one of a group by itself
    assert np.isfinite(RULE(np.array([0.0, 1.0]), evidence(np.array([0.0, 1.0]), np.array([-1.0, 1.0])))).all()


def test_likeness_is_the_mean_cosine_with_the_others():
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    torch.testing.assert_close(likeness(features), torch.tensor([0.5, 0.5, 0.0]))
    np.testing.assert_allclose(likeness(features.numpy()), [0.5, 0.5, 0.0], atol=1e-6)
    assert likeness(features[:1]).tolist() == [1.0]


def test_evidence_is_relative_to_the_group_so_that_a_kind_that_nobody_knows_is_no_stranger():
    known = evidence(np.array([0.9, 0.9, 0.3]), np.array([0.8, 0.7, 0.4]))
    unknown = evidence(np.array([0.3, 0.3, 0.1]), np.array([0.5, 0.4, 0.1]))
    np.testing.assert_allclose(known, unknown, atol=1e-9)
    np.testing.assert_allclose(known, [[0, 0], [0, -0.1], [np.log(1 / 3), -0.4]], atol=1e-9)


def test_a_fitted_rule_finds_the_images_without_the_object():
    rng = np.random.default_rng(0)
    present = rng.random(400) < 0.9
    sure = np.clip(np.where(present, 0.9, 0.5) + 0.1 * rng.standard_normal(400), 0, 1)
    figures = -np.abs(np.where(present, 0.1, 0.5) + 0.1 * rng.standard_normal((2, 400))).T * [1, 0.01]  # of two scales
    rule = fit_rule(sure, figures, present, np.full(400, 0.7))
    said = rule(sure, figures)
    assert rule.peak > 0 and rule.agreement > 0 and rule.appearance > 20 * rule.agreement
    assert np.mean(said[present] >= rule.cut) > 0.95 and np.mean(said[~present] < rule.cut) > 0.95


def test_figures_that_vary_by_rounding_alone_get_no_weight_and_one_kind_of_image_is_refused():
    rng = np.random.default_rng(2)
    present = rng.random(200) < 0.5
    sure = np.clip(np.where(present, 0.8, 0.3) + 0.1 * rng.standard_normal(200), 0, 1)
    rounding = -3e-8 * rng.random((200, 2)) * (1 + present[:, None])  # of groups of two
    rule = fit_rule(sure, rounding, present, np.full(200, 0.7))
    assert max(abs(rule.agreement), abs(rule.appearance)) < 1
    with pytest.raises(ConfigError, match="with and without the object"):
        fit_rule(sure, rounding, np.full(200, True), np.full(200, 0.7))


def test_images_that_weigh_more_decide_the_fit_and_the_cut():
    rng = np.random.default_rng(1)
    present = rng.random(400) < 0.8
    figures = -np.where(present, 0.2, 0.6)[:, None] - 0.1 * rng.random((400, 2))
    contrary = np.arange(400) >= 200
    figures[contrary] = -0.9 - figures[contrary]  # in the second half it is the other way round
    sure, J = np.full(400, 0.7), np.full(400, 0.7)
    for heavy in (0, 1):
        weight = np.where(contrary == heavy, 1.0, 1e-3)
        rule = fit_rule(sure, figures, present, J, weight)
        right = (rule(sure, figures) >= rule.cut) == present
        assert right[contrary == heavy].mean() > 0.95 > 0.6 > right[contrary != heavy].mean()


def test_the_cut_weighs_what_a_lost_mask_was_worth_against_an_emptied_foreign_image():
    figures, present = np.array([0.1, 0.2, 0.3, 0.8, 0.9]), np.array([False, True, False, True, True])
    good, bad = np.array([0, 0.9, 0, 0.9, 0.9]), np.array([0, 0.1, 0, 0.9, 0.9])
    assert best_cut(figures, present, good) == pytest.approx(0.55)  # loses 0.9 for two foreign images: 1 more than 0.15
    assert best_cut(figures, present, bad) == pytest.approx(0.55)
    figures = np.array([0.3, 0.1, 0.2, 0.8, 0.9])  # now the first foreign image lies above two members
    assert best_cut(figures, np.array([False, True, True, True, True]), np.full(5, 0.9)) == 0.0
    assert best_cut(figures, np.array([False, True, True, True, True]), np.full(5, 0.1)) == pytest.approx(0.55)


# In predictor, result and file


def test_without_a_rule_nothing_is_said_and_nothing_changes(tiny_model):
    plain = Predictor(tiny_model(), SIZE).predict(pictures(4))
    assert plain.present is None and not plain.absent(0)
    np.testing.assert_array_equal(plain.map(0), plain.probability(0))


@pytest.mark.parametrize("chunk", [1, 2, 20])
def test_the_figure_comes_in_the_order_of_the_images_and_a_foreign_one_counts_less(tiny_model, chunk, monkeypatch):
    model, images = tiny_model(), pictures(5)
    straight = Predictor(model, SIZE, chunk=chunk, presence=RULE).predict(images)
    back = Predictor(model, SIZE, chunk=20, presence=RULE).predict(images[::-1])
    assert straight.present.shape == (5,) and 0 <= straight.present.min() and straight.present.max() <= 1
    np.testing.assert_allclose(back.present[::-1], straight.present, atol=1e-4)
    assert Predictor(model, SIZE, presence=RULE).predict(images[:1]).present.tolist() == [1.0]
    agreed = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    monkeypatch.setattr(predict, "agreement_of_codes", lambda semantic, codes, references: agreed)
    apart = Predictor(model, SIZE, chunk=chunk, presence=RULE).predict(images)
    assert np.abs(apart.semantic_vector - straight.semantic_vector).max() > 1e-5  # shares follow the agreement
    assert apart.present.argmin() == 4


@pytest.mark.parametrize("chunk", [2, 20])
def test_an_image_that_looks_unlike_the_others_counts_less(tiny_model, chunk):
    rule = PresenceRule(peak=0.0, agreement=0.0, appearance=50.0, bias=3.0)
    images = [pictures(1)[0]] * 4 + [np.full((40, 48, 3), 255, np.uint8)]
    prediction = Predictor(tiny_model(), SIZE, chunk=chunk, presence=rule).predict(images)
    np.testing.assert_allclose(prediction.present[:4], 1 / (1 + np.exp(-3)), atol=1e-4)
    assert prediction.present[4] < prediction.present[0] - 0.01
    assert prediction.evidence.shape == (5, 2) and (prediction.evidence <= 0).all()


def test_several_groups_in_one_call_are_judged_one_by_one(tiny_model):
    predictor = Predictor(tiny_model(), SIZE, presence=RULE)
    stack = torch.stack([predictor.read(p)[0] for p in pictures(6)]).unflatten(0, (2, 3))
    sizes = [[(SIZE, SIZE)] * 3] * 2
    for group, prediction in zip(stack, predictor.predict_groups(stack, sizes)):
        alone = predictor.predict_tensors(group, sizes[0])
        np.testing.assert_allclose(prediction.present, alone.present, atol=1e-5)


def test_a_model_without_semantic_modulator_has_no_figure(tiny_model):
    assert Predictor(tiny_model(semantic=None), SIZE, presence=RULE).predict(pictures(3)).present is None


def two_images() -> GroupPrediction:
    """Both maps are full; the second image is held to be without the object."""
    maps = np.full((2, 8, 8), 0.9, np.float32)
    return GroupPrediction(maps, ((8, 8), (8, 8)), None, None, None, np.array([0.9, 0.1]), cut=0.4)


def test_absent_images_have_empty_masks_and_keep_their_probabilities(tmp_path):
    images = [np.zeros((8, 8, 3), np.uint8)] * 2
    result = Segmentation(images, two_images(), (), 0.5)
    assert [bool(m.any()) for m in result.masks] == [True, False]
    assert float(result.probabilities[1].min()) > 0.8 and result.present.tolist() == [0.9, 0.1]
    result.save(tmp_path, ("masks", "probabilities"))
    saved = [np.asarray(Image.open(tmp_path / kind / "image_0002.png")) for kind in ("masks", "probabilities")]
    assert not saved[0].any() and saved[1].all()
    kept = Segmentation(images, two_images(), (), 0.5, absent="keep")
    assert all(m.any() for m in kept.masks)
    with pytest.raises(ConfigError, match="absent must be 'empty' or 'keep', got 'drop'"):
        Segmentation(images, two_images(), (), 0.5, absent="drop")


def with_rule(source: ModelFile, rule: PresenceRule) -> ModelFile:
    return replace(source, inference={**source.inference, "present": rule.to_dict()})


def test_a_model_file_carries_its_rule(checkpoint, tmp_path):
    source = load_model_file(checkpoint)
    path = tmp_path / "with_rule.safetensors"
    export_model(path, with_rule(source, RULE))
    result = ssnm.from_pretrained(path, "cpu").segment(pictures(3))
    assert result.present.shape == (3,) and result.prediction.cut == 0.4
    assert ssnm.from_pretrained(checkpoint, "cpu").segment(pictures(3)).present is None
    old = ModelFile("ssnm", source.config, {**source.inference, "present": {"peak": 1.0, "agreement": 2.0}}, {})
    with pytest.raises(CheckpointError, match="of an earlier version; run `ssnm calibrate`"):
        read_inference(old, "file")
    plain = RULE.to_dict()
    steered = [{**plain, "steered": wrong} for wrong in (None, {"peak": 1.0}, {**plain, "bias": float("nan")})]
    for wrong in ({"peak": 1.0}, {**plain, "cut": 2.0}, {**plain, "bias": float("nan")}, *steered):
        damaged = ModelFile("ssnm", source.config, {**source.inference, "present": wrong}, {})
        with pytest.raises(CheckpointError, match="what inference needs is missing or damaged"):
            read_inference(damaged, "file")


def test_the_segment_command_says_which_image_does_not_belong(checkpoint, tmp_path, capsys):
    source = load_model_file(checkpoint)
    path, rule = tmp_path / "m.safetensors", PresenceRule(0.0, 0.0, 0.0, -5.0, 0.5)  # nothing is ever there
    export_model(path, with_rule(source, rule))
    files = [tmp_path / f"{k}.png" for k in range(3)]
    for file, picture in zip(files, pictures(3)):
        Image.fromarray(picture).save(file)
    arguments = ["segment", *map(str, files), "--out", str(tmp_path / "out"), "--checkpoint", str(path)]
    assert ssnm.cli.main(arguments) == 0
    assert capsys.readouterr().out.count("not here") == 3
    listed = json.loads((tmp_path / "out" / "present.json").read_text())
    assert list(listed) == ["0.png", "1.png", "2.png"] and max(listed.values()) < 0.1
    assert ssnm.cli.main([*arguments, "--absent", "keep"]) == 0
