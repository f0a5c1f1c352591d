"""Bad training images: what replaces them, and the account of them that a run keeps.

Loader workers replace (:class:`Replacements`) and say so in the batch (`GroupBatch.bad`); the main process reads
that as batches arrive (:class:`BadImageLog`). Nothing else passes between them, so the report comes in the order of
the steps, whatever the number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.records import BadImage
from ..errors import DataError, UserError
from .records import GroupBatch

if TYPE_CHECKING:
    from .pool import ImagePool
    from .sampler import GroupDraw, Slot

MAX_TRIES = 20


class UnusableImage(Exception):
    """Image number `item` of a pool cannot be used; empty: it can be read, but shows nothing of the category."""

    def __init__(self, item: int, image: str, problem: str, empty: bool = False) -> None:
        super().__init__(problem)
        self.item, self.bad, self.empty = item, BadImage(image, problem), empty


class Replacements:
    """The replacements in one group. bad: what was replaced; accepted: images with an empty mask that nothing can
    replace, since every image of their category is as empty."""

    def __init__(self, pool: "ImagePool") -> None:
        self.pool = pool
        self.bad: list[BadImage] = []
        self.accepted: set[int] = set()
        self._tried: set[int] = set()

    def replace(self, draw: "GroupDraw", error: UnusableImage) -> "GroupDraw":
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

    def _other_slot(self, slot: "Slot", category: str, group: set[int], error: UnusableImage) -> "Slot":
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


class BadImageLog:
    """What a run knows of its bad images: each is said once, all are counted, too many stop the run.

    Args:
        limit: how many different bad images a run may have.
        path: a JSON-lines file to keep them in, one row each; a resumed run reads it, so that it neither says them
            again nor starts its count anew. None (all processes but the first): kept in memory.
        say: prints a line.
        share: the bad images of one process's batch -> those of all processes' batches, so that all count the same.
    """

    def __init__(
        self, limit: int, path: Path | None = None, say: Callable[[str], None] = print,
        share: Callable[[tuple[BadImage, ...]], tuple[BadImage, ...]] = lambda found: found,
    ) -> None:
        self.limit, self.path, self.say, self.share = limit, path, say, share
        self.images: dict[str, str] = {}
        self.replaced = 0
        for line in path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line of a killed run
            self.images[row["image"]] = row["problem"]

    def watch(self, batches: Iterable[GroupBatch]) -> Iterator[GroupBatch]:
        """Hands on every batch after its bad images were accounted for.

        Raises:
            DataError: more bad images than the limit; or what a worker raised, as the one line that it is.
        """
        stream = iter(batches)
        while True:
            try:
                batch = next(stream)
            except StopIteration:
                return
            except UserError as error:
                raise _without_traceback(error) from None
            self.see(self.share(batch.bad))
            yield batch

    def see(self, found: Iterable[BadImage]) -> None:
        """Account for images that were replaced, for instance those of a validation group.

        Raises:
            DataError: they are more than the limit.
        """
        for bad in found:
            self.replaced += 1
            if bad.image in self.images:
                continue
            self.images[bad.image] = bad.problem
            self.say(f"bad image: {bad.problem}; another of its category takes its place")
            self._keep(bad)
            if len(self.images) > self.limit:
                raise DataError(f"{len(self.images)} bad images, data.max_bad_images allows {self.limit}; mend the "
                                f"data or raise the limit; the last: {bad.problem}")  # fmt: skip

    def summary(self) -> str | None:
        """One line for the end of a run; None where all was well."""
        if not self.images:
            return None
        where = f"; they are listed in {self.path}" if self.path is not None else ""
        return f"bad images: {len(self.images)}, replaced {self.replaced} times since this start{where}"

    def _keep(self, bad: BadImage) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self.path.is_file() and not (b"\n" + self.path.read_bytes()).endswith(b"\n")  # by a kill
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" * torn + json.dumps(asdict(bad)) + "\n")


def _without_traceback(error: UserError) -> UserError:
    """A DataLoader hands on a worker's error with the worker's traceback as its text; our line is the last one."""
    text = str(error).strip()
    if not text.startswith("Caught "):
        return error
    return type(error)(text.splitlines()[-1].partition(": ")[2])
