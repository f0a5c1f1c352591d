"""Choosing test size, slope and offset on held-out groups: what is chosen, and what the written model then does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import ssnm
from ssnm.cli import main
from ssnm.coseg import calibrate
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.files import Inference, for_export, model_from_file
from ssnm.coseg.predict import Predictor
from ssnm.engine.checkpoint import export_model, load_model_file


def test_the_written_model_has_the_logits_and_the_size_of_the_choice(checkpoint, tmp_path):
    source = load_model_file(checkpoint)
    source = replace(source, inference={**source.inference, "present": {}}, card={"presence": "of other maps"})
    choice = calibrate.Choice(48, 1.5, 2.0, 0.5, 0, 0)
    export_model(tmp_path / "model.safetensors", calibrate.with_choice(source, choice))
    before = ssnm.from_pretrained(checkpoint, "cpu").predictor
    after = ssnm.from_pretrained(tmp_path / "model.safetensors", "cpu").predictor
    assert before.size != 48 and after.size == 48 and (before.guidance, after.guidance) == (0, 1.5)
    card = load_model_file(tmp_path / "model.safetensors").card
    assert after.presence is None and "presence" not in card
    assert card["calibration"] == "size 48, guidance 1.5, 2 * (logit + 0.5): J 0.0 on held-out groups"
    images = torch.rand(1, 3, 3, 48, 48)
    with torch.inference_mode():
        plain, chosen = (p.model(images).mask_logits for p in (before, after))
    torch.testing.assert_close(chosen, 2 * (plain + 0.5))


def test_the_largest_j_of_the_release_rule_is_chosen(monkeypatch, capsys, checkpoint, tmp_path):
    def logits(model, config, size, guidance, groups, device):
        """An image whose upper half is the object: found at size 40 with guidance, its inverse at others."""
        truth = torch.zeros(2, 16, 16, dtype=torch.bool)
        truth[:, :8] = True
        found = torch.where(truth, 2.0, -2.0)
        return (found if (size, guidance) == (40, 2.0) else -found), truth

    monkeypatch.setattr(calibrate, "held_out_logits", logits)
    best, compared = calibrate.choose(None, None, [32, 40], [0.0, 2.0], 1, torch.device("cpu"))
    assert best[:2] == (40, 2.0) and best.J == pytest.approx(100) and min(c.J for c in compared) < 50
    assert len(compared) == 4 * len(calibrate.SLOPES) * len(calibrate.OFFSETS)
    more = ["--sizes", "32", "40", "--guidance", "0", "2"]
    assert main(["calibrate", str(checkpoint), "--out", str(tmp_path / "m.safetensors"), *more]) == 0
    assert capsys.readouterr().out.count("<- chosen") == 1
    chosen = ssnm.from_pretrained(tmp_path / "m.safetensors", "cpu").predictor
    assert (chosen.size, chosen.guidance) == (40, 2.0)


def test_scores_are_j_by_both_rules_on_the_moved_logits():
    truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    truth[0, :4] = True
    logits = torch.full((1, 8, 8), -0.4)
    logits[0, :2] = 3.0
    assert calibrate.scores(logits, truth, 1.0, 0.0)[1] == pytest.approx(50)  # half of the object
    assert calibrate.scores(logits, truth, 1.0, 0.5)[1] == pytest.approx(50)  # everything: 32 of 64 pixels
    logits[0, 2:4] = -0.2
    assert calibrate.scores(logits, truth, 1.0, 0.3)[1] == pytest.approx(100)


def test_held_out_groups_are_seen_at_their_size_and_scored_at_the_training_size(checkpoint):
    source = load_model_file(checkpoint)
    model, _ = model_from_file(source, "x")
    config = config_from_dict(source.config)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    logits, truth = calibrate.held_out_logits(model, config, 48, 0.0, 2, torch.device("cpu"))
    moved, _ = calibrate.held_out_logits(model, config, 48, 2.0, 2, torch.device("cpu"))
    assert (moved - logits).abs().max() > 1e-3
    side = config.data.size
    assert set(seen) == {(48, 48)} and logits.shape == truth.shape == (2 * config.data.group_size, side, side)
    assert np.isfinite(logits.numpy()).all() and truth.any()


@pytest.mark.parametrize("wrong", [["--out", "m.pt"], ["--out", "m.safetensors", "--groups", "0"]])
def test_a_wrong_name_or_number_is_refused_before_anything_is_computed(monkeypatch, checkpoint, wrong):
    monkeypatch.setattr(calibrate, "choose", lambda *_: pytest.fail("computed"))
    try:
        assert main(["calibrate", str(checkpoint), *wrong]) == 2
    except SystemExit as stopped:
        assert stopped.code == 2


def test_a_model_of_the_release_or_without_its_config_is_refused(checkpoint, tmp_path, capsys):
    source = load_model_file(checkpoint)
    export_model(tmp_path / "exported.safetensors", source)
    assert main(["calibrate", str(tmp_path / "exported.safetensors"), "--out", str(tmp_path / "m.safetensors")]) == 2
    assert "a training checkpoint of the paper's variant" in capsys.readouterr().err


def test_an_exported_model_is_calibrated_on_the_held_out_images_of_a_config(checkpoint, tiny_config, tmp_path, capsys):
    exported, out = tmp_path / "plain.safetensors", tmp_path / "chosen.safetensors"
    export_model(exported, for_export(load_model_file(checkpoint), "checkpoint"))
    options = ["--sizes", "32", "--groups", "2", "--presence-groups", "3", "--device", "cpu"]
    assert main(["calibrate", str(exported), "--out", str(out), *options]) == 2  # it has no config of data
    assert main(["calibrate", str(exported), "--config", str(tiny_config), "--out", str(out), *options]) == 0
    assert "present: sigmoid(" in capsys.readouterr().out
    result = ssnm.from_pretrained(out, "cpu").segment([np.zeros((40, 40, 3), np.uint8)] * 2)
    assert result.present.shape == (2,)


def test_the_rule_of_presence_is_fitted_to_clean_and_mixed_groups_and_to_further_sets(
    checkpoint, written_set, monkeypatch
):
    model, _ = model_from_file(load_model_file(checkpoint), "x")
    plain = load_model_file(checkpoint).config
    further = {**plain, "validation": {**plain["validation"], "sources": [
        {"type": "processed", "root": str(written_set), "name": "further"}]}}  # fmt: skip
    seen, fit_rule = [], calibrate.fit_rule
    monkeypatch.setattr(calibrate, "fit_rule", lambda *given: seen.append(given) or fit_rule(*given))
    predicted = Inference(("a",), 32, 0.0)
    fit = lambda c: calibrate.calibrate_rules(model, config_from_dict(c), predicted, 3, torch.device("cpu"))  # noqa: E731
    rules, guides = [fit(plain), fit(further)], []
    monkeypatch.setattr(calibrate, "Predictor", lambda *a, guidance, **k: guides.append(guidance) or Predictor(*a, **k))
    calibrate.calibrate_rules(model, config_from_dict(plain), Inference(("a",), 32, 0.0, guidance=1.5), 3, "cpu")
    assert guides == [1.5]
    assert rules[0][0] != rules[1][0] and rules[0][1] == rules[1][1]
    size = config_from_dict(plain).data.group_size
    _, _, present, J, weight = seen[2]
    held_out = np.arange(len(present)) < 2 * 3 * size
    assert (~present[held_out]).sum() == 3  # each group as it is and with one foreign image
    assert (J[~present] == 0).all() and (J[present] > 0).all()  # every mask is full: it meets any object
    assert weight[held_out].sum() == pytest.approx(1) and weight[~held_out].sum() == pytest.approx(0.1)
    steered = seen[3]  # the same groups, the first image of each given
    assert len(steered[2]) == len(present) * (size - 1) // size and (~steered[2]).sum() == (~present).sum()
    assert rules[1][0].steered == fit_rule(*steered) != rules[1][0]
    card = calibrate.with_rules(load_model_file(checkpoint), rules[1], 3, ["further"]).card
    fitted = "3 held-out groups, groups of further (twice its classes) as they are and with one foreign image"
    assert fitted in card["presence"] and "; with a reference sigmoid(" in card["presence"]
    assert "masks cut at 0.0: 3 held-out groups as they are" in card["quality"]


def test_groups_whose_first_truth_is_empty_give_no_rule_for_groups_with_a_reference(checkpoint, monkeypatch):
    model, _ = model_from_file(load_model_file(checkpoint), "x")
    config, draw = config_from_dict(load_model_file(checkpoint).config), calibrate.cases_of_pool

    def emptied(*given):
        cases = draw(*given)
        return [replace(case, truths=(np.zeros_like(case.truths[0]), *case.truths[1:])) for case in cases]

    monkeypatch.setattr(calibrate, "cases_of_pool", emptied)
    rule, _ = calibrate.calibrate_rules(model, config, Inference(("a",), 32, 0.0), 2, torch.device("cpu"))
    assert rule.steered is None and rule.of_group(True) is rule
