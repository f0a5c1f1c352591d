"""Groups with one foreign image: which images are drawn, what the measure says of extreme networks, the command."""

import json

import numpy as np
import pytest

from ssnm.cli import main
from ssnm.coseg.outliers import cases_of_pool, cases_of_set, measure_outliers
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.predict import GroupPrediction
from ssnm.data.procedural import ProceduralSource, write_procedural
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.data.testsets import TestSet, read_test_set
from ssnm.errors import DataError

SIZE = 32


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("set") / "root"
    write_procedural(root, SEEN_KINDS[:3], 6, (32, 40), (2, 2), seed=4)
    return root


@pytest.fixture(scope="module")
def pool() -> ImagePool:
    return ImagePool([ProceduralSource(SEEN_KINDS[:4], num_images=60, objects_per_image=(2, 2), seed=1)])


class Answers:
    """A predictor that knows the truth of the case's own images, and says of the others what it is told to."""

    def __init__(self, cases, of_foreign, present=None):
        self.truths = {id(i): t for c in cases for i, t in zip(c.images, c.truths)}
        self.of_foreign, self.figure = of_foreign, present

    def predict(self, images):
        maps = [self.truths.get(id(i)) for i in images]
        shape = next(m.shape for m in maps if m is not None)
        foreign = [m is None for m in maps]
        maps = [np.full(shape, self.of_foreign) if m is None else m.astype(float) for m in maps]
        present = None if self.figure is None else np.where(foreign, 1 - self.figure, self.figure)
        sizes = tuple(m.shape for m in maps)
        return GroupPrediction(np.stack(maps).astype(np.float32), sizes, None, None, None, present, cut=0.5)


def test_cases_of_a_set_hold_one_class_and_an_image_that_stands_in_others_only(written):
    test_set = read_test_set("folder", written)
    classes = {c: {i.image for i in test_set.images if i.category == c} for c in test_set.categories}
    cases = cases_of_set(test_set, 6, seed=1, group_size=3)
    assert [c.category for c in cases] == [*test_set.categories, *test_set.categories]
    for case in cases:
        assert set(case.images) <= classes[case.category] and len(set(case.images)) == 3
        assert case.foreign.name not in {path.name for path in classes[case.category]}
    assert cases_of_set(test_set, 6, seed=1, group_size=3)[0].images == cases[0].images


def test_cases_of_held_out_images_come_from_every_category_alike(pool):
    cases = cases_of_pool(pool, SIZE, 40, seed=0, group_size=3)
    assert {c.category for c in cases} == set(pool.members)
    assert all(i.shape == (SIZE, SIZE, 3) and t.any() for c in cases for i, t in zip(c.images, c.truths))


@pytest.mark.parametrize("of_foreign, figure, masked, area", [(1.0, None, 1, None), (1.0, 0.9, 0, 1), (0.0, 0.4, 0, 0)])
def test_the_measure_of_networks_that_know_all_but_the_foreign_image(pool, of_foreign, figure, masked, area):
    """It is masked unless the model says that the object is not there, or its map is empty anyway."""
    cases = cases_of_pool(pool, SIZE, 8, seed=0, group_size=3)
    found = measure_outliers(Answers(cases, of_foreign, figure), cases)
    expected = 0.0 if figure is None or figure > 0.5 else found.lost  # members below the cut are emptied, too
    assert found.lost == pytest.approx(expected) and found.masked == masked
    if area is not None:
        assert found.present_auc == area


def test_a_set_of_one_class_or_without_truth_is_refused(written):
    test_set = read_test_set("folder", written)
    one = TestSet("one", tuple(i for i in test_set.images if i.category == test_set.categories[0]))
    with pytest.raises(DataError, match="outliers need two classes"):
        cases_of_set(one, 3)


def test_the_command_measures_a_set_or_the_held_out_images_of_a_config(checkpoint, tiny_config, written, tmp_path,
                                                                            capsys):  # fmt: skip
    options = ["--groups", "2", "--group-size", "3", "--device", "cpu"]
    assert main(["outliers", str(checkpoint), "--data", str(written), "--out", str(tmp_path), *options]) == 0
    assert json.loads((tmp_path / "outliers.json").read_text())["present_auc"] is None
    assert main(["outliers", str(checkpoint), "--config", str(tiny_config), *options]) == 0
    assert capsys.readouterr().out.count("one foreign image in 2 groups") == 2
