"""The choice of masks of one image, as its settings say."""

from dataclasses import replace

import numpy as np

from ssnm.instances.evidence import Evidence
from ssnm.instances.pipeline import PAPER_PIXELS, SelectSettings, choose
from ssnm.instances.select import select_instances

SIZE = (40, 60)
NO_AREA = SelectSettings(area=(0.0, 1.0))


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[rows, columns] = True
    return mask


OBJECT, CLUTTER = block(slice(5, 20), slice(5, 25)), block(slice(22, 38), slice(30, 58))
PROPOSALS = np.stack([OBJECT, CLUTTER])
EVIDENCE = Evidence(
    cosaliency=0.1 + 0.8 * OBJECT, responses=(0.4 * OBJECT + 0.5 * CLUTTER + 0.01)[None] / 100,
    peaks=np.array([[10.0, 10.0]]), peak_scores=np.array([0.9]),
)  # fmt: skip
PRIOR = OBJECT.astype(float)


def test_the_rule_of_the_paper_is_select_instances():
    found = choose(EVIDENCE, PROPOSALS, NO_AREA, PRIOR)
    masks, scores = select_instances(EVIDENCE.cosaliency, EVIDENCE.responses, PROPOSALS, area=(0.0, 1.0))
    assert np.array_equal(found.masks, masks) and np.array_equal(found.scores, scores)
    assert np.array_equal(found.masks[0], OBJECT)


def test_without_saliency_the_response_alone_chooses():
    found = choose(EVIDENCE, PROPOSALS, replace(NO_AREA, saliency=False), PRIOR)
    assert np.array_equal(found.masks[0], CLUTTER)


def test_normalised_scores_do_not_depend_on_the_scale_of_responses():
    settings = replace(NO_AREA, normalise=True)
    once = choose(EVIDENCE, PROPOSALS, settings, PRIOR)
    again = choose(replace(EVIDENCE, responses=7 * EVIDENCE.responses), PROPOSALS, settings, PRIOR)
    np.testing.assert_allclose(once.scores, again.scores)
    by_hand = select_instances(EVIDENCE.cosaliency, EVIDENCE.responses / EVIDENCE.responses.sum(), PROPOSALS,
                               gamma=1e-5 * PAPER_PIXELS / 2400, area=(0.0, 1.0))  # fmt: skip
    np.testing.assert_allclose(once.scores, by_hand[1])


def test_the_rule_explain_keeps_the_masks_that_score_more_than_the_least():
    part = block(slice(5, 20), slice(5, 12))
    settings = replace(NO_AREA, rule="explain", damping=0.0)
    every = choose(EVIDENCE, np.stack([OBJECT, part]), settings, PRIOR)
    assert len(every.scores) == 2 and every.scores[1] > settings.least
    some = choose(EVIDENCE, np.stack([OBJECT, part]), replace(settings, least=float(every.scores[1])), PRIOR)
    assert np.array_equal(some.masks, every.masks[:1]) and np.array_equal(some.scores, every.scores[:1])


def test_the_rule_explain_needs_no_peak():
    without = replace(EVIDENCE, responses=np.zeros((0, *SIZE)), peaks=np.zeros((0, 2)), peak_scores=np.zeros(0))
    found = choose(without, PROPOSALS, replace(NO_AREA, rule="explain"), PRIOR)
    assert np.array_equal(found.masks[0], OBJECT)
