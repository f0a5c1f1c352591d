"""Which side of the spatial mask is called the object."""

import pytest
import torch

from ssnm.coseg.orientation import ORIENTATIONS, orient

RULES = sorted(ORIENTATIONS)


def some_masks(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 4, 7, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rule", RULES)
def test_a_mask_and_its_negative_are_oriented_alike(rule):
    masks = some_masks()
    assert torch.equal(orient(masks, rule), orient(-masks, rule))


@pytest.mark.parametrize("rule", RULES)
def test_only_the_sign_of_whole_groups_changes(rule):
    masks = some_masks()
    oriented = orient(masks, rule)
    sign = oriented[:, 0, 0, 0] / masks[:, 0, 0, 0]
    assert set(sign.tolist()) == {1.0, -1.0}  # both happen among the six
    assert torch.equal(oriented, masks * sign[:, None, None, None])


@pytest.mark.parametrize("rule", RULES)
def test_scale_does_not_matter(rule):
    masks = some_masks()
    assert torch.equal(orient(masks * 2**-20, rule) * 2**20, orient(masks, rule))


@pytest.mark.parametrize("rule", RULES)
def test_permuting_the_images_permutes_the_oriented_masks(rule):
    masks, order = some_masks(), [2, 0, 3, 1]
    assert torch.equal(orient(masks[:, order], rule), orient(masks, rule)[:, order])


@pytest.mark.parametrize("rule", RULES)
def test_groups_are_oriented_one_by_one(rule):
    masks = some_masks()
    assert torch.equal(orient(masks, rule), torch.cat([orient(group[None], rule) for group in masks]))


@pytest.mark.parametrize("rule", RULES)
def test_a_tie_keeps_the_sign(rule):
    zero = torch.zeros(1, 2, 3, 3)
    assert torch.equal(orient(zero, rule), zero)
    even = torch.tensor([[1.0, -1.0, 1.0, -1.0]]).repeat(4, 1)[None, None]  # inner and outer means are all zero
    assert torch.equal(orient(even, rule), even)


def test_nonnegative_sum_makes_the_sum_nonnegative():
    assert (orient(some_masks(), "nonnegative_sum").sum((1, 2, 3)) >= 0).all()


def test_border_calls_the_middle_the_object_however_much_room_it_takes():
    middle = torch.full((1, 1, 3, 3), -1.0)
    middle[..., 1, 1] = 1
    assert torch.equal(orient(middle, "border"), middle)
    assert torch.equal(orient(-middle, "border"), middle)
    assert torch.equal(orient(middle, "nonnegative_sum"), -middle)  # the larger side wins there


def test_border_compares_means_so_that_the_number_of_positions_does_not_count():
    higher_outside = torch.full((1, 1, 5, 5), 0.5)
    higher_outside[..., 1:4, 1:4] = 0.2
    assert torch.equal(orient(higher_outside, "border"), -higher_outside)


def test_border_judges_the_group_as_a_whole():
    middle = torch.full((1, 1, 3, 3), -1.0)
    middle[..., 1, 1] = 1
    clear_and_faint = torch.cat([middle, -0.1 * middle], dim=1)
    assert torch.equal(orient(-clear_and_faint, "border"), clear_and_faint)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (7, 2)])
def test_maps_without_inner_positions_are_judged_by_their_sum(size):
    masks = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(1))
    assert torch.equal(orient(masks, "border"), orient(masks, "nonnegative_sum"))


def test_an_unknown_rule_is_named_together_with_the_known_ones():
    with pytest.raises(ValueError, match="'up' is not known; choose one of border, nonnegative_sum"):
        orient(some_masks(), "up")
