"""The typed records that the parts of the video method hand to each other. B samples, S side of a guide, H W size."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ..data.records import BadImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class VideoBatch:
    """B samples of one object in one frame.

    images (B, 3, H, W) float in [0, 1], RGB; spatial_guides (B, H, W) float, from the previous mask;
    visual_guides (B, 3, S, S) float in [0, 1], RGB, with visual_masks (B, S, S) float, 0 or 1; masks (B, H, W) float,
    0 or 1, the truth; valid (B, H, W) bool: False where there is no label; names: of the frames, one tuple per sample;
    bad: samples that were to be in it and were replaced.
    """

    images: "Tensor"
    spatial_guides: "Tensor"
    visual_guides: "Tensor"
    visual_masks: "Tensor"
    masks: "Tensor"
    valid: "Tensor"
    names: tuple[tuple[str, ...], ...] = ()
    bad: tuple[BadImage, ...] = ()

    def to(self, device, non_blocking: bool = True) -> "VideoBatch":
        """The same batch with every tensor on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "VideoBatch":
        """The same batch in page-locked memory; called by torch's DataLoader, which does not look into records."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: "Callable[[Tensor], Tensor]") -> "VideoBatch":
        names = [f.name for f in fields(self) if f.name not in ("names", "bad")]
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    @property
    def num_images(self) -> int:
        return self.images.shape[0]
