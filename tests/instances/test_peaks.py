"""Regional maxima, plateaus included, in 2-D and 4-D."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssnm.errors import DataError
from ssnm.instances.peaks import find_peaks, regional_maxima

GOLDEN = np.load(Path(__file__).parent / "golden" / "peaks.npz")


def cells(mask: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(c) for c in mask.nonzero().tolist()]


def literal_maxima(array: np.ndarray) -> np.ndarray:
    """Flood fill: the plateau of each cell, and whether any cell around it is higher."""
    result = np.zeros(array.shape, bool)
    steps = np.array(np.meshgrid(*[[-1, 0, 1]] * array.ndim)).reshape(array.ndim, -1).T
    for start in np.ndindex(array.shape):
        plateau, queue, higher = {start}, [start], False
        while queue:
            here = queue.pop()
            for step in steps:
                there = tuple(np.add(here, step))
                if any(i < 0 or i >= n for i, n in zip(there, array.shape)):
                    continue
                higher |= array[there] > array[start]
                if array[there] == array[start] and there not in plateau:
                    plateau.add(there)
                    queue.append(there)
        result[start] = not higher
    return result


@pytest.mark.parametrize("maps, dims, kind", [("maps2d", 2, "2d"), ("tensors4d", 4, "4d")])
def test_peaks_are_those_of_the_authors_functions(maps, dims, kind):
    values = torch.tensor(GOLDEN[maps])
    peaks = find_peaks(values, dims)
    assert np.array_equal(regional_maxima(values, dims), GOLDEN[f"regional{kind}"])
    assert np.array_equal(peaks, GOLDEN[f"peaks{kind}"])
    means = (values * peaks).flatten(1).sum(1) / peaks.flatten(1).sum(1)
    np.testing.assert_allclose(means, GOLDEN[f"peak_mean{kind}"], atol=1e-12)
    if dims == 4:
        assert np.array_equal(peaks.flatten(1).sum(1), GOLDEN["peak_count4d"])


def test_the_example_of_the_matlab_manual_has_19_maxima():
    array = torch.full((1, 10, 10), 10.0)
    array[0, 1:4, 1:4], array[0, 5:8, 5:8] = 22, 33
    array[0, 1, 6], array[0, 2, 7], array[0, 3, 8] = 44, 45, 44
    maxima = regional_maxima(array)[0]
    assert maxima[1:4, 1:4].all() and maxima[5:8, 5:8].all() and maxima[2, 7]
    assert maxima.sum() == 19


def test_a_plateau_that_touches_a_higher_cell_is_dropped_as_a_whole():
    assert cells(regional_maxima(torch.tensor([[[0.5, 0.5, 0.6], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]]))[0]) == [(0, 2)]


def test_a_constant_map_is_all_peak():
    assert find_peaks(torch.ones(2, 3, 3)).all()
    assert find_peaks(torch.zeros(1, 2, 2, 2, 2), dims=4).all()


def test_a_maximum_below_the_median_is_no_peak():
    array = torch.tensor([[[8.0, 7, 7, 7], [7, 7, 7, 7], [7, 7, 1, 1], [7, 7, 1, 2]]])
    assert cells(regional_maxima(array)[0]) == [(0, 0), (3, 3)]
    assert cells(find_peaks(array)[0]) == [(0, 0)]


def test_the_median_of_an_even_count_is_the_mean_of_the_middle_two():
    maps = torch.tensor([[[1.0, 0, 0, 2, 0, 3]]])  # median (0 + 1) / 2: the lower middle alone would be 0
    assert cells(find_peaks(maps - 0.75)[0]) == [(0, 0), (0, 3), (0, 5)]
    assert cells(find_peaks(torch.tensor([[[0.0, 5, 5, 1, 2, 1, 5, 5]]]))[0]) == [(0, 1), (0, 2), (0, 6), (0, 7)]


@pytest.mark.parametrize("shape", [(5, 6), (3, 2, 4, 3)])
def test_random_plateaus_agree_with_a_flood_fill(shape):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 4, (3, *shape), generator=generator)
    expected = np.stack([literal_maxima(m.numpy()) for m in maps])
    assert np.array_equal(regional_maxima(maps, len(shape)), expected)


def test_peaks_do_not_depend_on_the_other_maps_of_the_batch():
    maps = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(find_peaks(maps), torch.cat([find_peaks(m[None]) for m in maps]))


def test_infinite_and_missing_values_are_answered():
    maps = torch.tensor([[[-torch.inf, -torch.inf, -torch.inf, torch.inf]]])
    assert cells(find_peaks(maps)[0]) == [(0, 3)]
    assert regional_maxima(torch.full((1, 2, 2), -torch.inf)).all()
    assert not find_peaks(torch.full((1, 2, 2), torch.nan)).any()
    assert find_peaks(torch.zeros(0, 4, 4)).shape == (0, 4, 4)


@pytest.mark.parametrize("shape, dims", [((4, 4), 2), ((1, 4, 4), 4), ((1, 4, 4), 3), ((1, 2, 2, 2, 2), 2)])
def test_a_wrong_number_of_axes_is_one_clear_line(shape, dims):
    with pytest.raises(DataError, match=r"dims=4.*got"):
        find_peaks(torch.zeros(shape), dims)
