"""Which images make the groups: a pure function of seed and step, in the shares that were asked for."""

from collections import Counter

import numpy as np
import pytest

from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDrawer, GroupMix, StepSampler
from ssnm.data.procedural import ProceduralSource
from ssnm.data.records import Item
from ssnm.errors import ConfigError, DataError


class Sized:
    """A source with so many one-category images of each category; no image is ever loaded."""

    name = "sized"

    def __init__(self, **sizes: int) -> None:
        self.items = [Item(f"{c}{i}", None, (c,)) for c, size in sizes.items() for i in range(size)]
        self.categories = tuple(sizes)


@pytest.fixture(scope="module")
def pool() -> ImagePool:
    """Two or three objects of different kinds in every image."""
    return ImagePool([ProceduralSource(num_images=300)])


def draws(pool: ImagePool, groups: int, seed: int = 0, group_size: int = 4, balance: str = "uniform", **mix):
    drawer = GroupDrawer(pool, group_size, balance, GroupMix(**mix))
    return drawer.draw(np.random.default_rng(seed), groups)


def sampler(pool: ImagePool, start: int = 0, stop: int = 5, seed: int = 7, groups: int = 4, **options) -> StepSampler:
    drawer = GroupDrawer(pool, 4, mix=GroupMix(real=0.3, pasted=0.3, distractor=0.3))
    return StepSampler(drawer, groups, seed, start, stop, **options)


# Steps and shards


def test_a_step_is_a_function_of_seed_and_step_alone(pool):
    straight = list(sampler(pool, 0, 6))
    assert list(sampler(pool, 3, 6)) == straight[3:]  # resumed: no state needed
    assert sampler(pool, 100, 200).draws(4) == straight[4]
    assert list(sampler(pool, 0, 6, seed=8)) != straight
    assert straight[0] != straight[1]


def test_iterating_twice_gives_the_same_groups(pool):
    twice = sampler(pool)
    assert list(twice) == list(twice)


@pytest.mark.parametrize("world, accumulate", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4)])
def test_processes_and_micro_batches_partition_the_step(pool, world, accumulate):
    whole = list(sampler(pool))
    shards = [list(sampler(pool, rank=rank, world=world, accumulate=accumulate)) for rank in range(world)]
    assert {len(shard) for shard in shards} == {5 * accumulate}
    assert len(sampler(pool, world=world, accumulate=accumulate)) == 5 * accumulate
    for step in range(5):
        parts = [shards[r][step * accumulate + part] for part in range(accumulate) for r in range(world)]
        assert [draw for part in parts for draw in part] == whole[step]


@pytest.mark.parametrize("options", [dict(world=3), dict(accumulate=8), dict(world=2, accumulate=4)])
def test_groups_that_cannot_be_shared_equally_are_refused(pool, options):
    with pytest.raises(ConfigError, match="train.batch_groups=4 cannot be shared equally"):
        sampler(pool, **options)


# Ordinary groups


def test_an_image_appears_once_in_a_group_and_shows_its_category(pool):
    for draw in draws(pool, 200):
        items = [slot.item for slot in draw.slots]
        assert len(items) == len(set(items)) == 4
        assert all(draw.category in pool.item(i).categories for i in items)


def test_ordinary_groups_of_a_batch_have_different_categories(pool):
    for seed in range(50):
        categories = [d.category for d in draws(pool, len(pool.labels), seed=seed)]
        assert len(set(categories)) == len(pool.labels)


def test_more_groups_than_categories_are_possible():
    assert len(draws(ImagePool([Sized(cat=5, dog=5)]), 7)) == 7


@pytest.mark.parametrize("balance, share", [("uniform", 1 / 2), ("sqrt", 10 / 13), ("size", 100 / 109)])
def test_categories_are_drawn_by_the_power_of_their_size(balance, share):
    pool = ImagePool([Sized(large=100, small=9)])
    drawer = GroupDrawer(pool, 2, balance)
    counts = Counter(drawer.draw(np.random.default_rng(s), 1)[0].category for s in range(1500))
    assert counts["large"] / 1500 == pytest.approx(share, abs=0.045)  # 3.5 standard deviations


def test_all_images_of_a_category_are_drawn_equally_often():
    pool = ImagePool([Sized(cat=10)])
    counts = Counter(slot.item for draw in draws(pool, 500, group_size=2) for slot in draw.slots)
    assert len(counts) == 10 and max(counts.values()) < 140 and min(counts.values()) > 65  # 100 wanted


def test_categories_with_fewer_images_than_a_group_are_left_out():
    pool = ImagePool([Sized(cat=4, dog=3)])
    assert {d.category for d in draws(pool, 50, group_size=4)} == {"cat"}


def test_groups_larger_than_every_category_are_refused_and_the_largest_is_named():
    with pytest.raises(DataError, match="groups of 9 .* 'dog', has 6; lower data.group_size"):
        GroupDrawer(ImagePool([Sized(cat=5, dog=6)]), 9)


# Contrast pairs


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_a_real_pair_holds_the_same_two_category_images_in_a_group_of_each(pool, shared):
    batch = draws(pool, 100, real=1.0, shared=shared)
    for first, second in zip(batch[::2], batch[1::2]):
        assert first.category != second.category
        common = set(first.slots) & set(second.slots)
        both = pool.pairs[tuple(sorted((first.category, second.category)))]
        assert len(common) == min(shared, len(both))
        assert all({first.category, second.category} <= set(pool.item(s.item).categories) for s in common)
        for draw, other in ((first, second), (second, first)):
            rest = [s.item for s in draw.slots if s not in common]
            assert all(draw.category in pool.item(i).categories for i in rest)
            assert not any(other.category in pool.item(i).categories for i in rest)  # there are enough without


def test_shared_images_may_stand_anywhere_in_their_group(pool):
    places = Counter()
    for first, second in zip(*[iter(draws(pool, 200, real=1.0, shared=1))] * 2):
        places[first.slots.index(next(iter(set(first.slots) & set(second.slots))))] += 1
    assert set(places) == {0, 1, 2, 3}


def test_a_pasted_pair_shares_images_with_an_object_of_the_other_category(pool):
    batch = draws(pool, 100, pasted=1.0, shared=2)
    for first, second in zip(batch[::2], batch[1::2]):
        common = set(first.slots) & set(second.slots)
        assert len(common) == 2
        for slot in common:
            assert first.category in pool.item(slot.item).categories
            assert slot.paste.category == second.category
            assert second.category in pool.item(slot.paste.item).categories
            assert second.category not in pool.item(slot.item).categories


@pytest.mark.parametrize("mix", [dict(real=1.0), dict(pasted=1.0)])
@pytest.mark.parametrize("group_size", [1, 2, 3])
def test_pairs_share_no_more_images_than_a_group_has(pool, mix, group_size):
    for draw in draws(pool, 20, group_size=group_size, shared=5, **mix):
        assert len(draw.slots) == group_size


def test_the_shares_of_the_mix_are_kept(pool):
    batch = draws(pool, 4000, real=0.3, pasted=0.2)
    pasted = sum(any(s.paste for s in d.slots) for d in batch)
    pairs = sum(bool(set(a.slots) & set(b.slots)) for a, b in zip(batch, batch[1:]))
    # Of n draws a share 0.5 makes two groups and 0.5 one: 4000 groups are about 2667 draws.
    assert pasted / 2 == pytest.approx(2667 * 0.2, rel=0.15)
    assert pairs == pytest.approx(2667 * 0.5, rel=0.1)


def test_an_odd_last_group_is_no_half_pair(pool):
    batch = draws(pool, 3, real=1.0)
    assert len(batch) == 3 and not set(batch[2].slots) & {s for d in batch[:2] for s in d.slots}


def test_a_pool_without_two_category_images_draws_ordinary_groups():
    batch = draws(ImagePool([Sized(cat=8, dog=8)]), 10, real=1.0)
    assert all(slot.paste is None for draw in batch for slot in draw.slots)
    assert all(not set(a.slots) & set(b.slots) for a, b in zip(batch, batch[1:]))


# Distractors


def test_a_distractor_is_of_a_category_that_the_image_does_not_show(pool):
    batch = draws(pool, 200, distractor=1.0)
    for draw in batch:
        for slot in draw.slots:
            assert slot.paste.category not in {draw.category, *pool.item(slot.item).categories}
            assert slot.paste.category in pool.item(slot.paste.item).categories


def test_distractors_come_as_often_as_asked(pool):
    slots = [slot for draw in draws(pool, 500, distractor=0.3) for slot in draw.slots]
    assert sum(slot.paste is not None for slot in slots) / len(slots) == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("mix", [dict(real=0.7, pasted=0.7), dict(real=-0.1), dict(distractor=1.5)])
def test_impossible_shares_are_refused(mix):
    with pytest.raises(ConfigError, match="group mix: shares must lie in"):
        GroupMix(**mix)


def test_augmentation_seeds_differ_between_slots(pool):
    seeds = [slot.seed for draw in draws(pool, 50) for slot in draw.slots]
    assert len(set(seeds)) == len(seeds)
