"""The typed records that the layers hand to each other. Shapes use the letters of docs/architecture.md.

B groups, N images in a group, H W size, h w size of the coarsest maps, D channels, L co-categories.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol, Sequence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class Item:
    """One image of a training source and the canonical names of the categories it has masks for."""

    name: str
    image: "Path | None"
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One decoded training image at training size.

    image (3, H, W) uint8 RGB; masks (K, H, W) bool, one per category of the item, in the item's order;
    void (H, W) bool: pixels without a label, left out of the loss; grey: the file had no colour.
    """

    image: "Tensor"
    masks: "Tensor"
    void: "Tensor"
    grey: bool


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
class GroupBatch:
    """B groups of N images.

    images (B, N, 3, H, W) float in [0,1]; masks (B, N, H, W) float, 0 or 1; labels (B, L) float multi-hot;
    valid (B, N, H, W) bool: False where the ground truth is void; grey (B, N) bool; names: file names;
    bad: images that were to be in it and were replaced.
    """

    images: "Tensor"
    masks: "Tensor"
    labels: "Tensor"
    valid: "Tensor"
    grey: "Tensor"
    names: tuple[tuple[str, ...], ...] = ()
    bad: tuple[BadImage, ...] = ()

    def to(self, device, non_blocking: bool = True) -> "GroupBatch":
        """The same batch with every tensor on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "GroupBatch":
        """The same batch in page-locked memory, from which a copy to a device does not hold up the host. Called by
        torch's DataLoader, which does not look into records by itself."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: "Callable[[Tensor], Tensor]") -> "GroupBatch":
        names = [f.name for f in fields(self) if f.name not in ("names", "bad")]
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    @property
    def num_images(self) -> int:
        return self.images.shape[0] * self.images.shape[1]


@dataclass(frozen=True)
class Modulation:
    """What the two modulators say about B groups (Eq. 3 and 4).

    spatial_mask (B, N, h, w) oriented S; semantic_vector (B, D) gamma; category_logits (B, L);
    eigenvalue (B,) the largest eigenvalue of G; clustering_energy (B,) s^T G s with gradient to the
    descriptors and none through s. None where the modulator is switched off.
    """

    spatial_mask: "Tensor | None" = None
    semantic_vector: "Tensor | None" = None
    category_logits: "Tensor | None" = None
    eigenvalue: "Tensor | None" = None
    clustering_energy: "Tensor | None" = None


@dataclass(frozen=True)
class SSNMOutput:
    """mask_logits (B, N, H, W) at input size; modulation: what the modulators said."""

    mask_logits: "Tensor"
    modulation: Modulation


@dataclass(frozen=True)
class TestImage:
    """One image of a test set: `category` is its folder, `truth` its ground-truth file or None."""

    __test__ = False  # the name looks like a test to pytest

    category: str
    name: str
    image: "Path"
    truth: "Path | None"
