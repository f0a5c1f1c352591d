"""Joint augmentation of image and masks with torchvision.transforms.v2; masks are never interpolated into grey.

Every random choice comes from the numpy generator that is handed in, so a sample depends on its seed alone.
Images (3, H, W) uint8, masks (K, H, W) bool, void (H, W) bool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from .records import Sample

BILINEAR, NEAREST = InterpolationMode.BILINEAR, InterpolationMode.NEAREST_EXACT
CROP_TRIALS = 8


@dataclass(frozen=True)
class Augmentation:
    """flip: probability of a horizontal flip. crop: smallest share of the side that a random crop keeps (1 = no
    crop). keep: share of the object that the crop must keep. colour: largest relative change of brightness,
    contrast and saturation. grey: probability of dropping the colour."""

    flip: float = 0.5
    crop: float = 1.0
    keep: float = 0.7
    colour: float = 0.0
    grey: float = 0.0

    def __call__(self, sample: Sample, target: Tensor, rng: np.random.Generator) -> Sample:
        """`target` (H, W) bool: the object that a crop has to keep. Sizes stay as they are."""
        image, masks, void, teacher = sample.image, sample.masks, sample.void, sample.teacher
        if self.crop < 1:
            box = self._crop_box(target, rng)
            image, masks, void = crop_and_resize(image, masks, void, box)
            teacher = None if teacher is None else _crop_map(teacher, box)
        if rng.random() < self.flip:
            image, masks, void = image.flip(-1), masks.flip(-1), void.flip(-1)
            teacher = None if teacher is None else teacher.flip(-1)
        if self.colour:
            image = self._colour(image, rng)
        if self.grey and rng.random() < self.grey:
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        return Sample(image, masks, void, sample.grey, teacher)

    def _crop_box(self, target: Tensor, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width) that keeps at least `keep` of the target; the whole image if none is found."""
        height, width = target.shape
        area = int(target.sum())
        for _ in range(CROP_TRIALS):
            h, w = (max(1, round(side * rng.uniform(self.crop, 1.0))) for side in (height, width))
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            if int(target[top : top + h, left : left + w].sum()) >= self.keep * area:
                return top, left, h, w
        return 0, 0, height, width

    def _colour(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        for adjust in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
            image = adjust(image, float(rng.uniform(1 - self.colour, 1 + self.colour)))
        return image


def crop_and_resize(
    image: Tensor, masks: Tensor, void: Tensor, box: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut `box` = (top, left, height, width) out of all three and resize it back to their size."""
    size = list(image.shape[-2:])
    image = F.resized_crop(image, *box, size=size, interpolation=BILINEAR, antialias=True)
    both = torch.cat([masks, void[None]]).to(torch.uint8)
    both = F.resized_crop(both, *box, size=size, interpolation=NEAREST).bool()
    return image, both[:-1], both[-1]


def _crop_map(teacher: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """A grey map (H, W) uint8 cut to `box` and resized back, bilinear."""
    size = list(teacher.shape[-2:])
    return F.resized_crop(teacher[None], *box, size=size, interpolation=BILINEAR, antialias=True)[0]


def paste_object(
    base: Sample, donor_image: Tensor, donor_mask: Tensor, rng: np.random.Generator, keep: float = 0.5
) -> tuple[Sample, Tensor]:
    """Copy-paste: put the donor's object into the base image (Ghiasi et al., CVPR 2021).

    The object is flipped, scaled to 15-60 % of the side and placed at random; of a few places the first that
    leaves at least `keep` of every object of the base visible is taken, else the one that leaves most.

    donor_image (3, H, W) uint8, donor_mask (H, W) bool, at least one pixel. Returns the new sample (its masks
    without the covered pixels) and the mask of the pasted object (H, W) bool.
    """
    height, width = base.image.shape[-2:]
    rows, columns = donor_mask.any(1).nonzero().flatten(), donor_mask.any(0).nonzero().flatten()
    box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    patch, shape = donor_image[:, box[0], box[1]], donor_mask[box]
    if rng.random() < 0.5:
        patch, shape = patch.flip(-1), shape.flip(-1)
    area = base.masks.flatten(1).sum(1).clamp(min=1)
    best, best_left = None, -1.0
    for _ in range(CROP_TRIALS):
        factor = rng.uniform(0.15, 0.6) * max(height, width) / max(shape.shape)
        h, w = (min(limit, max(4, round(side * factor))) for side, limit in zip(shape.shape, (height, width)))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        placed = torch.zeros_like(donor_mask)
        placed[top : top + h, left : left + w] = F.resize(
            shape[None].to(torch.uint8), [h, w], interpolation=NEAREST
        )[0].bool()
        visible = float(((base.masks & ~placed).flatten(1).sum(1) / area).min()) if len(area) else 1.0
        if placed.any() and visible > best_left:
            best, best_left = (placed, top, left, h, w), visible
        if best_left >= keep:
            break
    if best is None:  # a shape so thin that nearest sampling lost it
        return base, torch.zeros_like(donor_mask)
    placed, top, left, h, w = best
    image = base.image.clone()
    window = image[:, top : top + h, left : left + w]
    resized = F.resize(patch, [h, w], interpolation=BILINEAR, antialias=True)
    window.copy_(torch.where(placed[top : top + h, left : left + w], resized, window))
    return Sample(image, base.masks & ~placed, base.void & ~placed, base.grey), placed
