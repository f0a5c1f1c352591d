"""Validation on held-out training groups."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.coseg.groups import GroupDataset
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.predict import Predictor
from ssnm.coseg.records import ImageCodes, Modulation
from ssnm.coseg.validation import Validator
from ssnm.data.procedural import ProceduralSource
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.errors import DataError

SIZE, GROUP_SIZE = 32, 3


@pytest.fixture(scope="module")
def pool() -> ImagePool:
    """Two objects in every image: the images of a contrast group share its own category and no other."""
    return ImagePool([ProceduralSource(SEEN_KINDS[:4], num_images=60, objects_per_image=(2, 2), seed=1)])


def make(pool, seed=1, groups=2, two_category=2) -> Validator:
    return Validator.make(pool, SIZE, GROUP_SIZE, groups, two_category, seed, torch.device("cpu"), pictures=2)


class Oracle(torch.nn.Module):
    """A network that says of every pixel what it is told to: the masks of the groups, in the order they are asked."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def backbone(self, images):
        return [images]

    def encode(self, cfms):
        return ImageCodes()

    def modulate(self, codes, group_size):
        return Modulation()

    def segment(self, cfms, modulation, size):
        groups = len(cfms[0]) // GROUP_SIZE
        return 20.0 * (torch.cat([self.answers.pop(0) for _ in range(groups)]).float() - 0.5)


def truths(validator: Validator) -> list[torch.Tensor]:
    """The masks of all groups in the order of validation: ordinary groups, then the pairs of contrasts."""
    dataset = GroupDataset(validator.pool, (SIZE, SIZE))
    draws = [*validator.ordinary, *(draw for pair in validator.contrasts for draw in pair)]
    return [dataset[draw].masks for draw in draws]


def test_a_perfect_network_scores_100_everywhere(pool):
    validator = make(pool)
    scores = validator(Oracle(truths(validator)))
    assert scores["J"] == scores["J@0.5"] == scores["P"] == pytest.approx(100)
    assert scores["group_use"] == pytest.approx(100)
    assert scores["J_own"] == pytest.approx(100) and scores["J_other"] < 20


def test_a_network_that_ignores_the_group_has_no_group_use(pool):
    """Its masks of a two-category image are the same in both groups."""
    validator = make(pool)
    answers = truths(validator)
    for i in range(len(validator.ordinary), len(answers), 2):
        answers[i + 1] = answers[i]
    assert validator(Oracle(answers))["group_use"] == 0


def test_a_network_that_segments_the_other_object_fails_group_use(pool):
    validator = make(pool)
    answers = truths(validator)
    for i in range(len(validator.ordinary), len(answers), 2):
        answers[i], answers[i + 1] = answers[i + 1], answers[i]
    scores = validator(Oracle(answers))
    assert scores["group_use"] == 0 and scores["J_other"] == pytest.approx(100)


def test_the_groups_depend_on_the_seed_alone(pool):
    first, again, other = make(pool), make(pool), make(pool, seed=2)
    assert first.ordinary == again.ordinary and first.contrasts == again.contrasts
    assert first.ordinary != other.ordinary


def test_scores_are_the_same_every_time_and_a_picture_is_written(pool, tiny_model, tmp_path):
    validator = make(pool)
    model = tiny_model(num_categories=4)
    first = validator(model, tmp_path / "pictures" / "step.png")
    assert validator(model) == first
    assert set(first) == {"J", "J@0.5", "P", "J_category", "spatial_auc", "group_use", "J_own", "J_other"}
    assert all(0 <= v <= 100 for v in first.values())
    assert np.asarray(Image.open(tmp_path / "pictures" / "step.png")).std() > 0


def test_groups_are_decoded_once_and_predicted_several_at_a_time(pool, tiny_model, monkeypatch):
    """Whatever number of groups goes through the network at once, the scores are the same."""
    decoded, calls = [], []
    make_group, predict = GroupDataset.__getitem__, Predictor.predict_groups
    monkeypatch.setattr(GroupDataset, "__getitem__", lambda self, draw: decoded.append(draw) or make_group(self, draw))
    monkeypatch.setattr(Predictor, "predict_groups", lambda self, *group: calls.append(1) or predict(self, *group))
    monkeypatch.setattr("ssnm.coseg.validation.Predictor", partial(Predictor, chunk=20))
    validator, model = make(pool, groups=5, two_category=4), tiny_model(num_categories=4)
    together = validator(model)
    wanted = [*validator.ordinary, *(draw for pair in validator.contrasts for draw in pair)]
    assert validator(model) == together and decoded == wanted  # not once more
    assert len(calls) == 2 * (1 + 2)  # 5 groups of 3 images in one chunk of 20, 8 groups in two
    monkeypatch.setattr("ssnm.coseg.validation.Predictor", partial(Predictor, chunk=GROUP_SIZE))
    assert validator(model) == pytest.approx(together, abs=0.5)  # of the pixels at the threshold some may turn
    assert len(calls) == 6


def test_too_few_held_out_images_say_what_to_change(pool):
    with pytest.raises(DataError, match="60 held-out images.*data.group_size.*data.holdout"):
        Validator.make(pool, SIZE, 50, 2, 2, 1, torch.device("cpu"))


def test_without_two_category_images_there_is_no_group_use(pool, tiny_model):
    scores = make(pool, two_category=0)(tiny_model(num_categories=4))
    assert set(scores) == {"J", "J@0.5", "P", "J_category", "spatial_auc"}


def test_every_category_weighs_the_same_in_the_category_score(pool):
    validator = make(pool, groups=5, two_category=0)
    answers = truths(validator)
    wrong = validator.ordinary[0].category
    of_category = [d.category == wrong for d in validator.ordinary]
    answers = [torch.zeros_like(a) if bad else a for a, bad in zip(answers, of_category)]
    scores, kinds = validator(Oracle(answers)), {d.category for d in validator.ordinary}
    assert scores["J_category"] == pytest.approx(100 * (1 - 1 / len(kinds)))
    assert scores["J"] == pytest.approx(100 * (1 - sum(of_category) / 5))


def test_the_choice_weighs_categories_further_sets_group_use_and_foreign_images(pool, tiny_model):
    validator = Validator.make(pool, SIZE, 3, 2, 2, 1, torch.device("cpu"), foreign=3)
    unseen = ProceduralSource(SEEN_KINDS[4:7], num_images=20, objects_per_image=(2, 2), seed=3)
    other = make(ImagePool([unseen]), two_category=0)
    scores = replace(validator, further=[("unseen", other)])(tiny_model(num_categories=4))
    wanted = (scores["J_category"] + scores["unseen/J"]) / 2 + scores["group_use"] / 10 - scores["J_lost"]
    assert scores["choice"] == pytest.approx(wanted) and 0 <= scores["masked"] <= 100
