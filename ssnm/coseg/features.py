"""The maps of a large group's images between the two passes: what fits is kept, the rest is made again.

The backbone sees every image before the modulation of the group is known, the head after. MobileNetV2's maps of an
image of 288 pixels take 0.9 MB, the image itself 0.25 MB.
"""

from __future__ import annotations

from typing import Callable

from torch import Tensor


class Features:
    """CFMs by chunk.

    Args:
        make: images (n, 3, S, S) uint8 -> CFMs.
        budget: bytes of CFMs that are kept; of the chunks beyond it the images are kept, and `make` runs again.
    """

    def __init__(self, make: Callable[[Tensor], list[Tensor]], budget: int) -> None:
        self._make, self._left = make, budget
        self._kept: list[Tensor | list[Tensor] | None] = []

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, images: Tensor) -> list[Tensor]:
        """The CFMs of the next chunk."""
        cfms = self._make(images)
        size = sum(m.numel() * m.element_size() for m in cfms)
        fits = size <= self._left
        self._left -= size if fits else 0
        self._kept.append(cfms if fits else images)
        return cfms

    def take(self, index: int) -> list[Tensor]:
        """The CFMs of a chunk, once: they are forgotten."""
        kept, self._kept[index] = self._kept[index], None
        return self._make(kept) if isinstance(kept, Tensor) else kept
