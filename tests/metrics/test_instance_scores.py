"""Scores over groups: means, the gain over the components and its interval, chance, published tables."""

import json

import numpy as np
import pytest

from ssnm.errors import ConfigError
from ssnm.metrics.instances import (
    GroupScores,
    InstanceScores,
    bootstrap_interval,
    covers_several,
    published_table,
    score_group,
)


def strip(*spans: tuple[int, int], width: int = 30) -> np.ndarray:
    masks = np.zeros((len(spans), 4, width), dtype=bool)
    for mask, (start, stop) in zip(masks, spans):
        mask[:, start:stop] = True
    return masks


TRUTH = strip((0, 10), (10, 20))
BOTH = strip((0, 20))


def group(ap: float, base: float | None = None, name: str = "dog") -> GroupScores:
    baseline = None if base is None else (base,) * 3
    return GroupScores(name, 5, 9, 7, (ap, ap / 2, 0.0), 0.4, baseline)


def test_a_group_is_scored_beside_the_components_that_join_its_objects():
    scores = score_group("dog", [TRUTH], [np.array([0.9, 0.8])], [TRUTH], [(BOTH, np.array([1.0]))],
                         [np.eye(2)])  # fmt: skip
    assert scores.ap == (1.0, 1.0, 1.0) and scores.corloc == 1.0 and scores.ceiling == (1.0, 1.0)
    assert scores.baseline == (0.5, 0.0, 0.0)  # one component, IoU 1/2 with each of two objects
    assert scores.merged == ((1.0, 1.0, 1.0), (0.5, 0.0, 0.0), 1)
    assert (scores.images, scores.objects, scores.found) == (1, 2, 2)


def test_chance_draws_as_many_proposals_as_were_found_and_the_same_for_the_same_seed():
    overlaps = [np.random.default_rng(0).random((2, 50))]
    one, two = (score_group("dog", [TRUTH], [np.array([0.9, 0.8])], [TRUTH], None, overlaps, seed=3) for _ in range(2))
    assert one.random == two.random and one.random[0] >= one.random[1] >= one.random[2]


@pytest.mark.parametrize("end, several", [(20, True), (14, False), (16, True)])
def test_a_component_covers_several_objects_by_more_than_half_of_each(end, several):
    assert covers_several(TRUTH, strip((0, end))) is several


def test_the_mean_is_unweighted_and_groups_without_objects_do_not_count():
    empty = GroupScores("none", 3, 0, 2, (float("nan"),) * 3, float("nan"), (float("nan"),) * 3)
    scores = InstanceScores((group(0.2, 0.1), group(0.6, 0.1), empty))
    assert scores.mean(lambda g: g.ap)[0] == pytest.approx(0.4)
    gain, low, high = scores.gain(0)
    assert gain == pytest.approx(0.3) and low <= gain <= high


def test_the_bootstrap_interval_holds_the_mean_and_shrinks_to_it():
    assert bootstrap_interval([0.3] * 5) == pytest.approx((0.3, 0.3))
    low, high = bootstrap_interval([0.0, 1.0] * 10)
    assert 0.2 < low < 0.5 < high < 0.8


def test_tables_and_files_hold_what_was_measured(tmp_path):
    scores = InstanceScores((group(0.2, 0.1), group(0.6, 0.1, "cat")), ("prior x",), {n: 0.1 for n in
                            ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")})  # fmt: skip
    text = scores.table()
    for part in ("40.0", "+30.0 points", "note: prior x", "COCO (useCats = 0): AP 10.0"):
        assert part in text
    scores.write(tmp_path)
    document = json.loads((tmp_path / "scores.json").read_text())
    assert document["mean"]["ap"][0] == pytest.approx(0.4) and len(document["groups"]) == 2
    nothing = GroupScores("none", 3, 0, 2, (float("nan"),) * 3, float("nan"))
    assert InstanceScores((nothing,)).to_dict()["mean"]["ap"] == [None] * 3


def test_published_rows_come_with_the_words_that_make_them_comparable_or_not():
    text = published_table(InstanceScores((group(0.5),)), "coco_voc", "mine")
    assert "52.6" in text and "49.6" in text and "mine" in text and "not comparable" in text and "MCG" in text
    same = GroupScores("all", 522, 835, 900, (0.5, 0.2, 0.1), 0.4)
    empty = GroupScores("none", 0, 0, 0, (0.5, 0.2, 0.1), 0.4)
    assert ": comparable, if" in published_table(InstanceScores((same, *[empty] * 4)), "soc")
    with pytest.raises(ConfigError, match="coco_voc"):
        published_table(InstanceScores((group(0.5),)), "kitti")
