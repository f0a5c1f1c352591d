"""Which images make the groups of each training step.

The draw of a step is a pure function of (seed, step): resuming at step k needs no state, and processes
that share a step cut the same list without talking to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from ..data.kinship import alike
from ..errors import ConfigError, DataError
from .mix import GroupMix
from .pool import ImagePool

BALANCES = {"uniform": 0.0, "sqrt": 0.5, "size": 1.0}


@dataclass(frozen=True)
class Paste:
    """An object of `category`, cut out of image `item`, to be pasted into another image."""

    item: int
    category: str
    seed: int


@dataclass(frozen=True)
class Slot:
    """One place of a group: the image, the seed of its augmentation, what is pasted into it, and whether it is a
    foreign image, one that does not hold what the others share."""

    item: int
    seed: int
    paste: Paste | None = None
    foreign: bool = False


@dataclass(frozen=True)
class GroupDraw:
    """One group to be made: the category that all its images but the foreign ones share, its images, and the place of
    the one that steers the others, or None."""

    category: str
    slots: tuple[Slot, ...]
    reference: int | None = None


class GroupDrawer:
    """Draws groups from a pool. All randomness comes from the generator that is handed in.

    What a draw looks up (the images of a category as an array, which image shows what) is laid out once: the draws
    run in the main process of every rank, while a device waits.

    Args:
        balance: categories are drawn with probability proportional to size**p: "uniform" p=0, "sqrt" p=1/2,
            "size" p=1.
        favoured: categories that are drawn `favour` times as often as that, in ordinary groups and in pasted pairs.

    Raises:
        DataError: no category has at least `group_size` images, or the pool has none of a favoured one.
    """

    def __init__(
        self, pool: ImagePool, group_size: int, balance: str = "uniform", mix: GroupMix = GroupMix(),
        favoured: Sequence[str] = (), favour: float = 1.0,
    ) -> None:  # fmt: skip
        self.pool, self.group_size, self.mix = pool, group_size, mix
        self.power = BALANCES[balance]
        if unknown := [c for c in favoured if c not in pool.members]:
            raise DataError(f"data.favoured: no image of '{unknown[0]}'; remove it, or add images of it")
        self.categories = [c for c, ids in pool.members.items() if len(ids) >= group_size]
        if not self.categories:
            largest = max(pool.members, key=lambda c: len(pool.members[c]))
            raise DataError(
                f"groups of {group_size} images were asked for, but the largest category, '{largest}', has "
                f"{len(pool.members[largest])}; lower data.group_size or add images"
            )
        self._column = {c: k for k, c in enumerate(self.categories)}
        self.pairs = [p for p in pool.pairs if set(p) <= set(self.categories)]
        p = self._weights([len(pool.members[c]) for c in self.categories])
        p = p * [favour if c in favoured else 1.0 for c in self.categories]
        self._p = p / p.sum()
        self._pair_p = self._weights([len(pool.pairs[p]) for p in self.pairs]) if self.pairs else None
        self._members = {c: np.asarray(pool.members[c]) for c in self.categories}
        self._shows = np.zeros((max(pool.ids) + 1, len(self.categories)), dtype=bool)  # image number x category
        for category, ids in self._members.items():
            self._shows[ids, self._column[category]] = True
        self._lacks = ~self._shows  # surely: an image that was not searched for a category neither shows nor lacks it
        for number in pool.ids:
            if (annotated := pool.item(number).annotated) is not None:
                self._lacks[number] &= [c in annotated for c in self.categories]

    def _weights(self, sizes: Sequence[int]) -> np.ndarray:
        weights = np.asarray(sizes, dtype=np.float64) ** self.power
        return weights / weights.sum()

    def draw(self, rng: np.random.Generator, groups: int, mix: GroupMix | None = None) -> list[GroupDraw]:
        """`groups` groups. Neighbours (0, 1), (2, 3), ... are a contrast pair or two ordinary groups, drawn once for
        both; an odd last group is ordinary. mix: its real, pasted and foreign in the place of the drawer's own."""
        mix = mix or self.mix
        draws: list[GroupDraw] = []
        while len(draws) < groups:
            kind, pair = rng.random(), len(draws) + 1 < groups
            if pair and self.pairs and kind < mix.real:
                draws += self._real_pair(rng)
            elif pair and len(self.categories) > 1 and mix.real <= kind < mix.real + mix.pasted:
                draws += self._pasted_pair(rng)
            else:
                draws.append(self._single(rng, draws, mix))
                if pair:
                    rng.random()  # a number per ordinary group: without a mix the draws are those of version 0.1
                    draws.append(self._single(rng, draws, mix))
        return [self._with_reference(rng, draw) for draw in draws] if self.mix.reference else draws

    def _with_reference(self, rng: np.random.Generator, draw: GroupDraw) -> GroupDraw:
        """With probability mix.reference the group with one of its images, no foreign one, as its reference."""
        place = rng.choice([k for k, slot in enumerate(draw.slots) if not slot.foreign])
        return replace(draw, reference=int(place)) if rng.random() < self.mix.reference else draw

    def _single(self, rng: np.random.Generator, draws: Sequence[GroupDraw], mix: GroupMix) -> GroupDraw:
        group = self._ordinary(rng, draws)
        return self.with_foreign(rng, group) if mix.foreign and rng.random() < mix.foreign else group

    def with_foreign(self, rng: np.random.Generator, draw: GroupDraw, count: int | None = None) -> GroupDraw:
        """The group with `count` of its images (None: one, or of five and more one or two) replaced by images that
        are known not to show its category; as it is where there are none."""
        count = int(rng.integers(1, 3 if self.group_size >= 5 else 2)) if count is None else count
        slots = list(draw.slots)
        for place in rng.choice(len(slots), min(count, len(slots) - 1), replace=False):
            item = self._foreigner(rng, draw.category, [slot.item for slot in slots])
            if item is not None:
                slots[place] = Slot(item, _seed(rng), foreign=True)
        return replace(draw, slots=tuple(slots))

    def _foreigner(self, rng: np.random.Generator, category: str, used: Sequence[int]) -> int | None:
        """An image without `category`, drawn by way of its own category."""
        for _ in range(10):
            other = self._other_category(rng, category)
            items = [] if other is None else self._members[other]
            items = [i for i in items if self._lacks[i, self._column[category]] and i not in used]
            if items:
                return int(rng.choice(items))
        return None

    def _other_category(self, rng: np.random.Generator, category: str) -> str | None:
        """Another category: with probability mix.alike one of the same kind where there is one."""
        p = np.where([c == category for c in self.categories], 0.0, self._p)
        kin = p * [alike(c, category) for c in self.categories]
        if self.mix.alike and rng.random() < self.mix.alike and kin.sum() > 0:
            p = kin
        return self.categories[rng.choice(len(p), p=p / p.sum())] if p.sum() > 0 else None

    def contrasts(self, rng: np.random.Generator, limit: int) -> list[tuple[GroupDraw, GroupDraw]]:
        """Up to `limit` two-category images, each as the first image of a group of either of its first two
        categories (by name) that have enough images; see "group use" in docs/evaluation.md."""
        candidates = []
        for item in sorted({i for pair in self.pairs for i in self.pool.pairs[pair]}):
            own = sorted(c for c in self.pool.item(item).categories if c in self._column)
            candidates.append((item, own[0], own[1]))
        chosen = [candidates[i] for i in sorted(rng.permutation(len(candidates))[:limit])]
        return [self._contrast(rng, *candidate) for candidate in chosen]

    def _contrast(self, rng: np.random.Generator, item: int, first: str, second: str) -> tuple[GroupDraw, GroupDraw]:
        shared = Slot(item, _seed(rng))
        draws = []
        for own, other in ((first, second), (second, first)):
            others = self._choose(rng, own, self.group_size - 1, other, [item])
            draws.append(GroupDraw(own, (shared, *(Slot(i, _seed(rng)) for i in others))))
        return draws[0], draws[1]

    def _ordinary(self, rng: np.random.Generator, draws: Sequence[GroupDraw]) -> GroupDraw:
        """A group of one category, another one than the batch already has where there are enough."""
        p = self._p.copy()
        p[[self._column[draw.category] for draw in draws]] = 0
        p = p / p.sum() if p.sum() > 0 else self._p
        category = self.categories[rng.choice(len(self.categories), p=p)]
        return GroupDraw(category, tuple(self._slots(rng, category, self.group_size)))

    def _real_pair(self, rng: np.random.Generator) -> list[GroupDraw]:
        """The same two-category images in a group of each of their categories."""
        first, second = self.pairs[rng.choice(len(self.pairs), p=self._pair_p)]
        both = self.pool.pairs[first, second]
        count = min(self.mix.shared, len(both), self.group_size)
        shared = [Slot(int(i), _seed(rng)) for i in rng.choice(both, count, replace=False)]
        return [self._complete(rng, own, other, shared) for own, other in ((first, second), (second, first))]

    def _pasted_pair(self, rng: np.random.Generator) -> list[GroupDraw]:
        """Images of one category with an object of another pasted in, in a group of each."""
        first, second = self._pair_to_paste(rng)
        count = min(self.mix.shared, self.group_size)
        bases = self._choose(rng, first, count, without=second)
        donors = self._choose(rng, second, count, without=first)
        shared = [Slot(b, _seed(rng), Paste(d, second, _seed(rng))) for b, d in zip(bases, donors)]
        return [self._complete(rng, own, other, shared) for own, other in ((first, second), (second, first))]

    def _pair_to_paste(self, rng: np.random.Generator) -> tuple[str, str]:
        """(category of the images, category of the pasted objects): one that some of these images surely lack."""
        for _ in range(10):
            first, second = (self.categories[i] for i in rng.choice(len(self.categories), 2, replace=False, p=self._p))
            if self.mix.alike:
                second = self._other_category(rng, first)
            if self._lacks[self._members[first], self._column[second]].any():
                break
        return first, second

    def _complete(self, rng: np.random.Generator, own: str, other: str, shared: list[Slot]) -> GroupDraw:
        """Fill the group of `own` with images that do not show `other`, where there are enough."""
        rest = self._slots(rng, own, self.group_size - len(shared), other, [slot.item for slot in shared])
        slots = [*shared, *rest]
        return GroupDraw(own, tuple(slots[i] for i in rng.permutation(len(slots))))

    def _slots(
        self, rng: np.random.Generator, category: str, count: int, without: str | None = None, used: Sequence[int] = ()
    ) -> list[Slot]:
        slots = []
        for item in self._choose(rng, category, count, without, used):
            pasted = rng.random() < self.mix.distractor
            paste = self._distractor(rng, item, {category, without} - {None}) if pasted else None
            slots.append(Slot(item, _seed(rng), paste))
        return slots

    def _distractor(self, rng: np.random.Generator, item: int, unwanted: set[str]) -> Paste | None:
        """An object of a category that image `item` does not show and that is not `unwanted`, if there is one."""
        present = self._shows[item].copy()
        present[[self._column[c] for c in unwanted]] = True
        others = np.flatnonzero(~present)
        if not len(others):
            return None
        kind = self.categories[others[rng.integers(len(others))]]
        return Paste(int(rng.choice(self._members[kind])), kind, _seed(rng))

    def _choose(
        self, rng: np.random.Generator, category: str, count: int, without: str | None = None, used: Sequence[int] = ()
    ) -> list[int]:
        """`count` images of `category`, not in `used`, preferably without the category `without`."""
        ids = everything = self._members[category]
        if len(used):
            ids = ids[~np.isin(ids, used)]
        if without is not None and len(ids):
            lacking, showing = (table[ids, self._column[without]] for table in (self._lacks, self._shows))
            if lacking.sum() >= count:
                ids = ids[lacking]
            elif (lacking | showing).any():
                ids = ids[lacking | showing]  # not one of which nobody knows
        if not len(ids):
            ids = everything
        return rng.choice(ids, count, replace=len(ids) < count).tolist()


class StepSampler(Sampler[list[GroupDraw]]):
    """Yields the groups of one step after the other, from `start` to `stop`; a batch sampler for a DataLoader.

    Each step gives `accumulate` micro-batches to each of `world` processes; together they hold exactly the
    groups that one process would draw. The two groups of a pair stay in one micro-batch of one process.

    Raises:
        ConfigError: the groups cannot be shared equally, or not without parting pairs.
    """

    def __init__(
        self,
        drawer: GroupDrawer,
        groups: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
    ) -> None:
        if groups % (world * accumulate):
            raise ConfigError(
                f"train.batch_groups={groups} must be a multiple of processes x train.accumulate = "
                f"{world} x {accumulate}; change it"
            )
        mix, share = drawer.mix, groups // (world * accumulate)
        if (mix.real or mix.pasted) and share % 2:
            raise ConfigError(
                f"data.mix.real and data.mix.pasted draw groups in pairs: train.batch_groups must be a multiple of 2 x "
                f"processes x train.accumulate = {2 * world * accumulate}, got {groups}; change it, or set both to 0"
            )
        self.drawer, self.groups, self.seed = drawer, groups, seed
        self.start, self.stop = start, stop
        self.rank, self.world, self.accumulate = rank, world, accumulate

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[GroupDraw]]:
        share = self.groups // (self.world * self.accumulate)
        for step in range(self.start, self.stop):
            draws = self.draws(step)
            for part in range(self.accumulate):
                begin = (part * self.world + self.rank) * share
                yield draws[begin : begin + share]

    def draws(self, step: int) -> list[GroupDraw]:
        """All groups of one step, whatever the rank."""
        return self.drawer.draw(np.random.default_rng([self.seed, step]), self.groups, self.drawer.mix.at(step))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))
