"""A sequence whose entries are made when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Entry = TypeVar("Entry")


class LazyList(Sequence[Entry]):
    """`count` entries, each made by `make(index)` on access and not kept: the maps of a thousand 12-megapixel images
    need the memory of one."""

    def __init__(self, make: Callable[[int], Entry], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"image {index} of a group of {self._count}")
        return self._make(index % self._count)

    def __iter__(self) -> Iterator[Entry]:
        return (self._make(i) for i in range(self._count))
