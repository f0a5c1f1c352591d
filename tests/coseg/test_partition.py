"""How the images of a class are cut into groups."""

import pytest

from ssnm.coseg.partition import ORDERS, Chunk, partition
from ssnm.errors import ConfigError

COUNTS = [1, 2, 4, 5, 6, 9, 10, 23]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", COUNTS)
def test_every_image_is_new_exactly_once(count, order):
    chunks = partition(count, 5, order, seed=1)
    assert sorted(i for c in chunks for i in c.members[: c.new]) == list(range(count))


@pytest.mark.parametrize("order", ["natural", "strided", "shuffled"])
@pytest.mark.parametrize("count", COUNTS)
def test_every_group_has_the_wanted_size(count, order):
    assert {len(c.members) for c in partition(count, 5, order)} == {5}


@pytest.mark.parametrize("order", ["natural", "strided", "shuffled"])
@pytest.mark.parametrize("count", [5, 6, 9, 23])
def test_no_group_holds_an_image_twice_where_there_are_enough(count, order):
    assert all(len(set(c.members)) == 5 for c in partition(count, 5, order))


def test_natural_groups_are_consecutive_and_the_last_is_filled_from_the_first_images():
    assert partition(7, 3) == [Chunk((0, 1, 2), 3), Chunk((3, 4, 5), 3), Chunk((6, 0, 1), 1)]


def test_strided_groups_take_every_kth_image():
    assert [c.members for c in partition(6, 3, "strided")] == [(0, 2, 4), (1, 3, 5)]


def test_strided_groups_part_neighbours():
    chunks = partition(30, 5, "strided")
    assert not any(abs(a - b) == 1 for c in chunks for a in c.members for b in c.members)


def test_whole_is_one_group_without_repetition():
    assert partition(23, 5, "whole") == [Chunk(tuple(range(23)), 23)]


def test_shuffled_groups_depend_on_the_seed_alone():
    assert partition(23, 5, "shuffled", seed=4) == partition(23, 5, "shuffled", seed=4)
    assert partition(23, 5, "shuffled", seed=4) != partition(23, 5, "shuffled", seed=5)


def test_a_class_smaller_than_a_group_is_repeated():
    assert partition(2, 5) == [Chunk((0, 1, 0, 1, 0), 2)]


def test_a_class_without_images_has_no_groups():
    assert all(partition(0, 5, order) == [] for order in ORDERS)


def test_groups_of_one_leave_every_image_alone():
    assert partition(3, 1) == [Chunk((0,), 1), Chunk((1,), 1), Chunk((2,), 1)]


@pytest.mark.parametrize(
    "size, order, words", [(5, "random", "natural, strided, shuffled, whole"), (0, "natural", "at least 1")]
)
def test_a_wrong_request_says_what_is_possible(size, order, words):
    with pytest.raises(ConfigError, match=words):
        partition(7, size, order)
