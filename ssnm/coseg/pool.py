"""Several sources seen as one collection of images with canonical categories; held-out split by name."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Collection, Sequence

from ..data.bad_images import UnusableImage
from ..data.records import Item, Sample, Source
from ..errors import DataError, MissingFileError
from ..naming import counted, falls_into_share


@dataclass
class ImagePool:
    """Images of several sources, numbered through; the categories of all of them make one label list.

    Args:
        sources: records.Source objects; their category names are canonical already.
        labels: the label list; None takes the sorted union of the sources' categories.
        ids: the image numbers to use; None uses all (see :meth:`split`).

    Attributes:
        members: category -> image numbers that have a mask of it.
        pairs: (A, B), A < B -> image numbers that have masks of both: the images that tell whether a
            network uses its group.
    """

    sources: Sequence[Source]
    labels: tuple[str, ...] | None = None
    ids: Sequence[int] | None = None
    members: dict[str, list[int]] = field(init=False)
    pairs: dict[tuple[str, str], list[int]] = field(init=False)

    def __post_init__(self) -> None:
        if self.labels is None:
            self.labels = tuple(sorted({c for source in self.sources for c in source.categories}))
        self._where = [(s, i) for s, source in enumerate(self.sources) for i in range(len(source.items))]
        self.ids = list(range(len(self._where)) if self.ids is None else self.ids)
        members, pairs = defaultdict(list), defaultdict(list)
        known = set(self.labels)
        for number in self.ids:
            categories = sorted(c for c in self.item(number).categories if c in known)
            for i, first in enumerate(categories):
                members[first].append(number)
                for second in categories[i + 1 :]:
                    pairs[first, second].append(number)
        if not members:
            raise DataError(f"no image of {[s.name for s in self.sources]} has a category of the label list")
        self.members, self.pairs = dict(sorted(members.items())), dict(sorted(pairs.items()))

    def item(self, number: int) -> Item:
        source, index = self._where[number]
        return self.sources[source].items[index]

    def lacking(self, category: str) -> list[int]:
        """The images that are known not to show `category`: what may stand for its absence."""
        return [n for n in self.ids if self.item(n).lacks(category)]

    def source_name(self, number: int) -> str:
        return self.sources[self._where[number][0]].name

    def load(self, number: int, size: tuple[int, int]) -> Sample:
        source, index = self._where[number]
        return self.sources[source].load(index, size)

    def load_union(self, number: int, categories: Collection[str], size: tuple[int, int]) -> Sample:
        """See :meth:`ssnm.data.coco.CocoSegSource.load_union`; sources of other types do not have it."""
        source, index = self._where[number]
        return self.sources[source].load_union(index, categories, size)

    def load_usable(self, number: int, size: tuple[int, int], union_of: Collection[str] | None = None) -> Sample:
        """As :meth:`load`, or :meth:`load_union` where `union_of` names categories.

        Raises:
            UnusableImage: the image or its mask is missing or damaged.
        """
        try:
            return self.load(number, size) if union_of is None else self.load_union(number, union_of, size)
        except (DataError, MissingFileError) as error:
            raise UnusableImage(number, self._shown(number), str(error)) from None

    def require_object(self, number: int, sample: Sample, category: str) -> None:
        """Raises UnusableImage if the mask of `category` in `sample`, which is image `number`, is empty."""
        if not sample.masks[self.item(number).categories.index(category)].any():
            height, width = sample.void.shape
            problem = f"{self._shown(number)}: the mask of '{category}' is empty at {height}x{width}; mend or remove it"
            raise UnusableImage(number, self._shown(number), problem, empty=True)

    def _shown(self, number: int) -> str:
        item = self.item(number)
        return str(item.image or item.name)

    def split(self, holdout: float, seed: int = 0) -> tuple["ImagePool", "ImagePool"]:
        """(training pool, held-out pool): an image is held out by a hash of its name and `seed`, so the split
        depends neither on the order nor on the presence of other images. The name is that of the file, without the
        class folder: one photograph in two folders stays on one side. `holdout` in [0, 1) is the share."""

        def held(number: int) -> bool:
            stem = self.item(number).name.rpartition("/")[2]
            return falls_into_share(f"{seed}/{self.source_name(number)}/{stem}", holdout)

        out = [n for n in self.ids if held(n)]
        kept = sorted(set(self.ids) - set(out))
        if not out or not kept:
            raise DataError(
                f"holding out {holdout:.0%} of {counted(len(self.ids), 'image')} leaves {len(kept)} for training and "
                f"{len(out)} for validation (images are chosen by a hash of their name); both must be at least 1: "
                "change data.holdout or add images"
            )
        return tuple(ImagePool(self.sources, self.labels, ids) for ids in (kept, out))


class MemoryCache:
    """A source whose decoded samples stay in memory (one training size): no file is read twice.

    About 0.25 MB per 224x224 image and data-loader worker.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.name = source, source.name
        self.categories, self.items = source.categories, source.items
        self._samples: dict[tuple[int, tuple[int, int]], Sample] = {}

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        key = index, tuple(size)
        if key not in self._samples:
            self._samples[key] = self.source.load(index, size)
        return self._samples[key]
