"""Sources in which only some categories were looked for: what is not annotated there is unknown, not absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .records import Item, Sample, Source


class PartiallyAnnotated:
    """A source whose images are annotated for some categories only.

    every_image: True: each image was searched for all categories of the source (a COCO file that lists a few); False:
    each image for its own alone (folders of one class each).
    """

    def __init__(self, source: Source, every_image: bool) -> None:
        self.source, self.name, self.categories = source, source.name, source.categories
        self.items: Sequence[Item] = _Marked(source.items, frozenset(source.categories) if every_image else None)

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """As the source's own."""
        return self.source.load(index, size)


class _Marked(Sequence):
    """Items with `annotated` set, made on request."""

    def __init__(self, items: Sequence[Item], annotated: frozenset[str] | None) -> None:
        self._items, self._annotated = items, annotated

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position):
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        item = self._items[position]
        return replace(item, annotated=frozenset(item.categories) if self._annotated is None else self._annotated)
