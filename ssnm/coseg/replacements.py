"""What takes the place of a training image that cannot be used: another one of its category, by the group's seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data.bad_images import UnusableImage
from ..data.records import BadImage
from ..errors import DataError
from .pool import ImagePool
from .sampler import GroupDraw, Slot

MAX_TRIES = 20


class Replacements:
    """The replacements in one group. bad: what was replaced; accepted: images with an empty mask that nothing can
    replace, since every image of their category is as empty."""

    def __init__(self, pool: ImagePool) -> None:
        self.pool = pool
        self.bad: list[BadImage] = []
        self.accepted: set[int] = set()
        self._tried: set[int] = set()

    def replace(self, draw: GroupDraw, error: UnusableImage) -> GroupDraw:
        """`draw` with another image wherever the unusable one is: as a member of the group, one of the drawn
        category; as the donor of a pasted object, one of the object's category.

        Raises:
            DataError: none is left, or MAX_TRIES were as unusable.
        """
        self.bad.append(error.bad)
        self._tried.add(error.item)
        if len(self._tried) > MAX_TRIES:
            raise DataError(f"category '{draw.category}': none of {len(self._tried)} images can be used (is the disk "
                            f"there?); the first: {self.bad[0].problem}")  # fmt: skip
        slots = list(draw.slots)
        for k, slot in enumerate(slots):
            slots[k] = self._other_slot(slot, draw.category, {s.item for s in slots}, error)
        return replace(draw, slots=tuple(slots))

    def _other_slot(self, slot: Slot, category: str, group: set[int], error: UnusableImage) -> Slot:
        if slot.item == error.item:
            other = self._choose(category, slot.seed, group, error)
            return slot if other is None else replace(slot, item=other, paste=None)
        if slot.paste is not None and slot.paste.item == error.item:
            other = self._choose(slot.paste.category, slot.paste.seed, group, error)
            return slot if other is None else replace(slot, paste=replace(slot.paste, item=other))
        return slot

    def _choose(self, category: str, seed: int, group: set[int], error: UnusableImage) -> int | None:
        """An image of `category` not tried yet, if there is one outside the group; None: the empty one stays."""
        usable = [i for i in self.pool.members[category] if i not in self._tried]
        candidates = [i for i in usable if i not in group] or usable
        if candidates:
            return candidates[np.random.default_rng([seed, len(self._tried)]).integers(len(candidates))]
        if not error.empty:
            raise DataError(f"category '{category}': no image of it can be used; the last: {error.bad.problem}")
        self.accepted.add(error.item)
        return None
