"""Which images make the groups: a pure function of seed and step, in the shares that were asked for."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDraw, GroupDrawer, GroupMix, Paste, Slot, StepSampler
from ssnm.data.partial import PartiallyAnnotated
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


def sampler(pool: ImagePool, start: int = 0, stop: int = 5, seed: int = 7, groups: int = 8, **options) -> StepSampler:
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
    assert all(len(part) % 2 == 0 and shares_whole_pairs(part) for shard in shards for part in shard)
    assert len(sampler(pool, world=world, accumulate=accumulate)) == 5 * accumulate
    for step in range(5):
        parts = [shards[r][step * accumulate + part] for part in range(accumulate) for r in range(world)]
        assert [draw for part in parts for draw in part] == whole[step]


def shares_whole_pairs(draws: list[GroupDraw]) -> bool:
    """Images that two groups have in common are those of neighbours (0, 1), (2, 3), ..."""
    common = {(i, j) for i, a in enumerate(draws) for j, b in enumerate(draws) if i < j and set(a.slots) & set(b.slots)}
    return common <= {(i, i + 1) for i in range(0, len(draws), 2)}


@pytest.mark.parametrize("options", [dict(world=3), dict(accumulate=16), dict(world=4, accumulate=4)])
def test_groups_that_cannot_be_shared_equally_are_refused(pool, options):
    with pytest.raises(ConfigError, match="train.batch_groups=8 must be a multiple of"):
        sampler(pool, **options)


@pytest.mark.parametrize("options", [dict(world=8), dict(accumulate=8), dict(world=2, accumulate=4), dict(groups=3)])
def test_a_share_that_would_part_the_groups_of_a_pair_is_refused(pool, options):
    multiple = 2 * options.get("world", 1) * options.get("accumulate", 1)
    with pytest.raises(ConfigError, match=f"must be a multiple of 2 x processes x train.accumulate = {multiple}, got"):
        sampler(pool, **options)


def test_without_pairs_a_process_may_have_any_number_of_groups(pool):
    drawer = GroupDrawer(pool, 4, mix=GroupMix(distractor=0.3))
    assert [len(part) for part in StepSampler(drawer, 3, 0, 0, 2, rank=1, world=3)] == [1, 1]


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


@pytest.mark.parametrize("real, pasted", [(0.1, 0.0), (0.3, 0.2), (0.0, 0.5)])
@pytest.mark.parametrize("batch", [2, 10])
def test_the_shares_of_the_mix_are_shares_of_groups(pool, real, pasted, batch):
    drawer, rng = GroupDrawer(pool, 4, mix=GroupMix(real=real, pasted=pasted)), np.random.default_rng(0)
    counts, groups = Counter(), 2000
    for _ in range(groups // batch):
        draws = drawer.draw(rng, batch)
        assert shares_whole_pairs(draws)
        for first, second in zip(draws[::2], draws[1::2]):
            common = set(first.slots) & set(second.slots)
            counts["pasted" if any(slot.paste for slot in common) else "real" if common else "ordinary"] += 2
    deviation = 2 * (groups / 2 * 0.25) ** 0.5  # of a count of groups that come in pairs, at most
    assert counts["real"] == pytest.approx(groups * real, abs=3.5 * deviation)
    assert counts["pasted"] == pytest.approx(groups * pasted, abs=3.5 * deviation)


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
    with pytest.raises(ConfigError, match=r"data.mix.*must (not exceed 1|lie in)"):
        GroupMix(**mix)


def test_augmentation_seeds_differ_between_slots(pool):
    seeds = [slot.seed for draw in draws(pool, 50) for slot in draw.slots]
    assert len(set(seeds)) == len(seeds)


# The draws of the slow form


class LiteralDrawer(GroupDrawer):
    """The choice of images and categories as version 0.1 wrote it, list by list."""

    def _ordinary(self, rng, draws):
        taken = {d.category for d in draws}
        p = np.array([0.0 if c in taken else w for c, w in zip(self.categories, self._p)])
        p = p / p.sum() if p.sum() > 0 else self._p
        category = self.categories[rng.choice(len(self.categories), p=p)]
        return GroupDraw(category, tuple(self._slots(rng, category, self.group_size)))

    def _slots(self, rng, category, count, without=None, used=()):
        slots = []
        for item in self._choose(rng, category, count, without, used):
            paste = None
            if rng.random() < self.mix.distractor:
                present = {*self.pool.item(item).categories, category, without}
                others = [c for c in self.categories if c not in present]
                if others:
                    kind = others[rng.integers(len(others))]
                    donor = int(rng.choice(self.pool.members[kind]))
                    paste = Paste(donor, kind, int(rng.integers(2**63)))
            slots.append(Slot(item, int(rng.integers(2**63)), paste))
        return slots

    def _choose(self, rng, category, count, without=None, used=()):
        ids = [i for i in self.pool.members[category] if i not in used]
        clean = [i for i in ids if without not in self.pool.item(i).categories]
        ids = clean if len(clean) >= count else ids or self.pool.members[category]
        return [int(i) for i in rng.choice(ids, count, replace=len(ids) < count)]


@pytest.mark.parametrize("mix", [{}, dict(distractor=0.5), dict(real=0.4, pasted=0.4, distractor=0.4),
                                 dict(real=1.0, shared=9), dict(pasted=1.0, shared=3, distractor=1.0)])  # fmt: skip
@pytest.mark.parametrize("group_size, balance", [(1, "size"), (5, "sqrt"), (20, "uniform")])
def test_draws_from_arrays_are_those_of_lists(pool, mix, group_size, balance):
    few = ImagePool(pool.sources, ids=pool.ids[1::2])  # numbers with gaps, categories that run out of images
    drawers = [cls(few, group_size, balance, GroupMix(**mix)) for cls in (GroupDrawer, LiteralDrawer)]
    for step in range(8):
        fast, slow = (drawer.draw(np.random.default_rng([3, step]), 7) for drawer in drawers)
        assert fast == slow
    fast, slow = (drawer.contrasts(np.random.default_rng(1), 10) for drawer in drawers)
    assert fast == slow and len(fast) > 5


def test_without_a_mix_a_seed_gives_the_groups_of_version_0_1(pool):
    """One number, of no use, before each group: the kind of group that version 0.1 drew there."""
    literal = LiteralDrawer(pool, 4)
    rng, wanted = np.random.default_rng(5), []
    for _ in range(5):
        rng.random()
        wanted.append(literal._ordinary(rng, wanted))
    assert GroupDrawer(pool, 4).draw(np.random.default_rng(5), 5) == wanted
# Foreign images


def test_a_foreign_image_does_not_show_the_category_and_the_others_do(pool):
    batch = draws(pool, 100, foreign=1.0)
    for draw in batch:
        foreign = [slot for slot in draw.slots if slot.foreign]
        assert 1 <= len(foreign) <= 2 and len(draw.slots) == 4
        for slot in draw.slots:
            assert (draw.category in pool.item(slot.item).categories) != slot.foreign


def test_groups_with_foreign_images_come_as_often_as_asked(pool):
    batch = draws(pool, 600, foreign=0.3)
    assert sum(any(s.foreign for s in d.slots) for d in batch) / 600 == pytest.approx(0.3, abs=0.05)
    assert not any(s.foreign for d in draws(pool, 50) for s in d.slots)


def test_an_image_that_was_not_searched_for_a_category_is_never_drawn_as_one_without_it():
    """COCO_extra names a few categories only: its images may show the others."""
    persons = PartiallyAnnotated(Sized(person=6), every_image=True)
    whole = Sized(dog=6, cat=6)
    pool = ImagePool([persons, whole])
    partial = {n for n in pool.ids if pool.item(n).annotated is not None}
    assert len(partial) == 6 and not set(pool.lacking("dog")) & partial and len(pool.lacking("person")) == 12
    for draw in draws(pool, 300, group_size=3, foreign=1.0):
        assert not any(slot.foreign and slot.item in partial for slot in draw.slots)
    for draw in draws(pool, 200, group_size=3, pasted=1.0):  # it may hold the pasted category already
        assert not any(slot.paste and slot.item in partial for slot in draw.slots)


def test_with_every_draw_alike_foreign_images_are_of_the_same_kind():
    pool = ImagePool([Sized(dog=6, cat=6, car=6, bus=6)])
    for draw in draws(pool, 100, foreign=1.0, alike=1.0):
        others = {pool.item(s.item).categories[0] for s in draw.slots if s.foreign}
        assert others <= ({"dog", "cat"} if draw.category in ("dog", "cat") else {"car", "bus"})


def test_contrast_grows_from_none_over_the_ramp():
    mix = GroupMix(real=0.4, pasted=0.2, foreign=0.5, distractor=0.3, ramp=100)
    assert (mix.at(0).real, mix.at(0).pasted, mix.at(0).foreign) == (0, 0, 0) and mix.at(0).distractor == 0.3
    assert mix.at(50).real == pytest.approx(0.2) and mix.at(100) == mix.at(5000) == mix


def test_favoured_categories_are_drawn_so_many_times_as_often():
    pool = ImagePool([Sized(cat=10, dog=10)])
    drawer = GroupDrawer(pool, 2, favoured=("dog",), favour=3.0)
    counts = Counter(d.category for k in range(400) for d in drawer.draw(np.random.default_rng(k), 1))
    assert counts["dog"] / 400 == pytest.approx(0.75, abs=0.06)
    with pytest.raises(DataError, match="data.favoured: no image of 'cow'"):
        GroupDrawer(pool, 2, favoured=("cow",))


def test_a_contrast_pair_gets_no_distractor_of_either_of_its_categories(pool):
    pairs = draws(pool, 80, real=1.0, distractor=1.0)
    pasted = 0
    for first, second in zip(pairs[::2], pairs[1::2]):
        for slot in (*first.slots, *second.slots):
            if slot.paste is not None:
                pasted += 1
                assert slot.paste.category not in (first.category, second.category)
    assert pasted > 100


def test_pairs_are_drawn_by_the_power_of_their_number_of_images():
    class Paired(Sized):
        """36 images of a and b, 4 of c and d."""

        def __init__(self) -> None:
            self.items = [Item(f"{i}", None, ("a", "b") if i < 36 else ("c", "d")) for i in range(40)]
            self.categories = ("a", "b", "c", "d")

    pool = ImagePool([Paired()])
    share = {}
    for balance in ("uniform", "size"):
        drawn = draws(pool, 800, group_size=3, balance=balance, real=1.0)
        share[balance] = sum(d.category in "ab" for d in drawn) / len(drawn)
    assert share["uniform"] == pytest.approx(0.5, abs=0.08) and share["size"] == pytest.approx(0.9, abs=0.05)


def test_references_come_as_often_as_asked_are_never_foreign_and_change_no_other_draw(pool):
    batch = draws(pool, 400, foreign=0.5, reference=0.3)
    steered = [draw for draw in batch if draw.reference is not None]
    assert len(steered) / 400 == pytest.approx(0.3, abs=0.06)
    assert not any(draw.slots[draw.reference].foreign for draw in steered)
    assert len({draw.reference for draw in steered}) == 4
    assert all(draw.reference is None for draw in draws(pool, 50))
    plain, marked = (draws(pool, 1, foreign=0.5, reference=share) for share in (0, 1.0))
    assert plain == [replace(draw, reference=None) for draw in marked] and marked[0].reference is not None
