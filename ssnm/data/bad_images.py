"""Bad training images: what a run that meets them tells, and when it stops.

Loader workers replace them and say so in the batch (its `bad`); the main process reads that as batches arrive
(:class:`BadImageLog`). Nothing else passes between them, so the report comes in the order of the steps, whatever the
number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import DataError, UserError
from ..files.atomic import writing
from ..naming import counted
from .records import BadImage


class Batch(Protocol):
    """A batch that says which images were to be in it and were replaced."""

    bad: tuple[BadImage, ...]


B = TypeVar("B", bound=Batch)


class UnusableImage(Exception):
    """Image number `item` of a pool cannot be used; empty: it can be read, but shows nothing of the category."""

    def __init__(self, item: int, image: str, problem: str, empty: bool = False) -> None:
        super().__init__(problem)
        self.item, self.bad, self.empty = item, BadImage(image, problem), empty


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

    def watch(self, batches: Iterable[B]) -> Iterator[B]:
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
                raise DataError(f"{counted(len(self.images), 'bad image')}, data.max_bad_images allows {self.limit}; "
                                f"mend the data or raise the limit; the last: {bad.problem}")  # fmt: skip

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
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" * torn + json.dumps(asdict(bad)) + "\n")


def _without_traceback(error: UserError) -> UserError:
    """A DataLoader hands on a worker's error with the worker's traceback as its text; our line is the last one."""
    text = str(error).strip()
    if not text.startswith("Caught "):
        return error
    return type(error)(text.splitlines()[-1].partition(": ")[2])
