"""The typed records of training and test images, without groups. H W: size of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Sequence

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class Item:
    """One image of a training source and the canonical names of the categories it has masks for.

    annotated: the categories that somebody looked for in it, where that is not all of them (None): of another
    category nobody knows whether the image shows it, so it is no example of its absence.
    """

    name: str
    image: "Path | None"
    categories: tuple[str, ...]
    annotated: frozenset[str] | None = None

    def lacks(self, category: str) -> bool:
        """True where the image is known not to show `category`."""
        return category not in self.categories and (self.annotated is None or category in self.annotated)


@dataclass(frozen=True)
class Sample:
    """One decoded training image at training size.

    image (3, H, W) uint8 RGB; masks (K, H, W) bool, one per category of the item, in the item's order;
    void (H, W) bool: pixels without a label, left out of the loss; grey: the file had no colour; teacher (H, W)
    uint8 or None: another network's map of the image (ssnm.data.teacher).
    """

    image: "Tensor"
    masks: "Tensor"
    void: "Tensor"
    grey: bool
    teacher: "Tensor | None" = None


class Source(Protocol):
    """What a training set must offer. `categories`: canonical names; `items`: all its images."""

    name: str
    categories: tuple[str, ...]
    items: Sequence[Item]

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Decode item `index`; image and masks resized to `size` = (height, width)."""
        ...


@dataclass(frozen=True)
class BadImage:
    """A training image that could not be used. image: its file or name; problem: one line that says what is wrong."""

    image: str
    problem: str


@dataclass(frozen=True)
class TestImage:
    """One image of a test set: `category` is its folder, `truth` its ground-truth file or None."""

    __test__ = False  # the name looks like a test to pytest

    category: str
    name: str
    image: "Path"
    truth: "Path | None"

