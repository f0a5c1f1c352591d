"""The typed records that the parts of co-segmentation hand to each other.

B groups in a batch, N images in a group, H W size, h w size of the coarsest maps, D modulated channels, d channels of
the coarsest maps, L co-categories.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ..data.records import BadImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class GroupBatch:
    """B groups of N images.

    images (B, N, 3, H, W) float in [0,1]; masks (B, N, H, W) float, 0 or 1; labels (B, L) float multi-hot;
    valid (B, N, H, W) bool: False where the ground truth is void; grey (B, N) bool; names: file names;
    bad: images that were to be in it and were replaced.

    Not in every batch: image_labels (B, N, L) float multi-hot, what each image shows by itself, and image_known of the
    same shape, bool; known (B, L) bool: False where nobody knows whether the group shares the category; teacher
    (B, N, H, W) float in [0, 1], another network's maps, and taught (B, N) bool: which images have one; other_masks
    (B, N, H, W) float and other_valid (B, N, H, W) bool: what the images show of the object of the next group (in the
    last group, of the first); references (B,) long: the place of the image whose mask steers the group, -1 for none.

    On the way from a worker to the device images and teacher are uint8 and masks bool, a quarter of the bytes:
    :meth:`to` makes of them what the network takes.
    """

    images: "Tensor"
    masks: "Tensor"
    labels: "Tensor"
    valid: "Tensor"
    grey: "Tensor"
    names: tuple[tuple[str, ...], ...] = ()
    bad: tuple[BadImage, ...] = ()
    known: "Tensor | None" = None
    image_labels: "Tensor | None" = None
    image_known: "Tensor | None" = None
    teacher: "Tensor | None" = None
    taught: "Tensor | None" = None
    other_masks: "Tensor | None" = None
    other_valid: "Tensor | None" = None
    references: "Tensor | None" = None

    def to(self, device, non_blocking: bool = True) -> "GroupBatch":
        """The batch as the network takes it, on `device`: moved first, then turned to float."""
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        largest = {"images": 255, "masks": 1, "teacher": 255, "other_masks": 1}
        there = {name: getattr(moved, name) for name in largest if getattr(moved, name) is not None}
        return replace(moved, **{name: _as_float(tensor, largest[name]) for name, tensor in there.items()})

    def pin_memory(self) -> "GroupBatch":
        """The same batch in page-locked memory, from which a copy to a device does not hold up the host. Called by
        torch's DataLoader, which does not look into records by itself."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: "Callable[[Tensor], Tensor]") -> "GroupBatch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("names", "bad")}
        return replace(self, **{name: change(t) for name, t in tensors.items() if t is not None})

    @property
    def num_images(self) -> int:
        return self.images.shape[0] * self.images.shape[1]


def _as_float(tensor: "Tensor", largest: int) -> "Tensor":
    """0..largest -> [0, 1]; what is float already stays."""
    return tensor if tensor.is_floating_point() else tensor.float().div_(largest)


@dataclass(frozen=True)
class ImageCodes:
    """What the modulators need of each image; small, so that a group of thousands fits in memory.

    phi (B*N, D, h, w) fused maps or None; indicators (B*N, d) or None; appearance (B*N, d), the coarsest maps' mean, or
    None.
    """

    phi: "Tensor | None" = None
    indicators: "Tensor | None" = None
    appearance: "Tensor | None" = None


@dataclass(frozen=True)
class Modulation:
    """What the two modulators say about B groups (Eq. 2 to 4).

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
    """mask_logits (B, N, H, W) at input size; modulation: what the modulators said; exchanged_logits (B, K, H, W) or
    None: the first K images of each group under the gamma of the next group; image_logits (B, N, L) or None: what the
    semantic modulator says of every image as a group of one."""

    mask_logits: "Tensor"
    modulation: Modulation
    exchanged_logits: "Tensor | None" = None
    image_logits: "Tensor | None" = None
