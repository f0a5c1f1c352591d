"""Choosing masks by what they explain."""

import numpy as np

from ssnm.instances.explain import explain_instances

SIZE = (40, 60)


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[rows, columns] = True
    return mask


LEFT, RIGHT = block(slice(10, 30), slice(10, 25)), block(slice(10, 30), slice(25, 40))
FAR = block(slice(5, 15), slice(48, 58))
MAP = 0.05 + 0.9 * (LEFT | RIGHT | FAR)


def test_a_component_comes_before_its_parts_and_every_object_is_there():
    proposals = np.stack([LEFT, RIGHT, LEFT | RIGHT, FAR, ~(LEFT | RIGHT | FAR), np.ones(SIZE, bool)])
    masks, scores = explain_instances(MAP, MAP, proposals)
    assert (np.diff(scores) <= 0).all() and len(masks) == 4
    assert {m.tobytes() for m in masks[:2]} == {FAR.tobytes(), (LEFT | RIGHT).tobytes()}
    assert {m.tobytes() for m in masks[2:]} == {LEFT.tobytes(), RIGHT.tobytes()}
    assert scores[2] < 0.3 * scores[1]  # half of the component, and damped by half an overlap


def test_doubles_are_damped_by_their_overlap():
    nearly = LEFT | block(slice(9, 10), slice(10, 25))  # IoU 20 / 21 with LEFT
    proposals = np.stack([LEFT, nearly])
    undamped = explain_instances(MAP, MAP, proposals, damping=0.0)[1]
    damped = explain_instances(MAP, MAP, proposals, damping=1.0, least=0.0)[1]
    np.testing.assert_allclose(damped, undamped * (1, 1 / 21))


def test_what_the_group_does_not_share_ranks_below_what_it_does():
    cosaliency = 0.05 + 0.9 * FAR + 0.5 * LEFT
    masks, scores = explain_instances(cosaliency, MAP, np.stack([LEFT, FAR]))
    assert np.array_equal(masks[0], FAR) and scores[1] < 0.7 * scores[0]


def test_nothing_to_explain_or_nothing_to_choose_from_gives_no_mask():
    for saliency, proposals in ((np.zeros(SIZE), np.stack([LEFT])), (MAP, np.zeros((0, *SIZE), bool)),
                                (MAP, np.ones((1, *SIZE), bool))):  # fmt: skip
        masks, scores = explain_instances(saliency, MAP, proposals)
        assert masks.shape == (0, *SIZE) and scores.shape == (0,)


def test_at_most_so_many_masks():
    proposals = np.stack([LEFT, RIGHT, FAR])
    assert len(explain_instances(MAP, MAP, proposals, limit=2)[0]) == 2


def test_without_weight_the_co_saliency_has_no_say():
    noise = np.random.default_rng(0).random(SIZE)
    proposals = np.stack([LEFT, RIGHT, LEFT | RIGHT, FAR])
    prior = MAP - 0.2 * FAR - 0.1 * LEFT  # no two masks score the same: the order of equals is the processor's
    alone = explain_instances(noise, prior, proposals, cosaliency_weight=0.0)
    as_prior = explain_instances(prior, prior, proposals)
    assert np.array_equal(alone[0], as_prior[0])
    np.testing.assert_allclose(alone[1], as_prior[1], rtol=1e-5)
