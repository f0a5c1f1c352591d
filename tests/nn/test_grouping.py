"""Folding the group axis into the batch axis."""

import torch

from ssnm.nn.grouping import fold_groups, unfold_groups


def test_image_n_of_group_b_becomes_row_b_times_n_plus_n():
    groups = torch.arange(2 * 3 * 4).view(2, 3, 4)
    folded = fold_groups(groups)
    assert folded.shape == (6, 4)
    for b in range(2):
        for n in range(3):
            assert torch.equal(folded[b * 3 + n], groups[b, n])


def test_unfolding_undoes_folding():
    maps = torch.rand(2, 3, 4, 5, 6)
    assert torch.equal(unfold_groups(fold_groups(maps), 3), maps)


def test_a_group_of_one_is_a_group():
    assert unfold_groups(torch.zeros(4, 2), 1).shape == (4, 1, 2)
