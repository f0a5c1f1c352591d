"""Groups of images and masks for training: a draw of the sampler -> tensors -> GroupBatch.

An image that cannot be used (undecodable, its mask missing, the drawn category's mask empty) is replaced by
another of the drawn category; what replaces it is a function of the slot's seed, so a resumed run makes the same
groups. B groups, N images in a group, L co-categories.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.augment import Augmentation, paste_object
from ..data.bad_images import UnusableImage
from ..data.records import BadImage, Item, Sample
from .pool import ImagePool
from .records import GroupBatch
from .replacements import Replacements
from .sampler import GroupDraw, Slot

NO_AUGMENTATION = Augmentation(flip=0.0)


@dataclass(frozen=True)
class Group:
    """One group before batching; shapes as in GroupBatch without B. bad: images that were replaced; reference: the
    place of the image that steers the others."""

    images: Tensor
    masks: Tensor
    labels: Tensor
    valid: Tensor
    grey: Tensor
    names: tuple[str, ...]
    bad: tuple[BadImage, ...] = ()
    known: Tensor | None = None
    image_labels: Tensor | None = None
    image_known: Tensor | None = None
    teacher: Tensor | None = None
    taught: Tensor | None = None
    contents: tuple[Contents, ...] = ()
    shared: tuple[str, ...] = ()
    reference: int | None = None


@dataclass(frozen=True)
class Contents:
    """What is known of one augmented image: masks (H, W) bool by category, void (H, W) bool, and its item."""

    masks: dict[str, Tensor]
    void: Tensor
    item: Item

    def knows(self, category: str) -> bool:
        """Whether somebody looked for `category` in the image."""
        return category in self.masks or category in self.item.categories or self.item.lacks(category)

    def mask_of(self, categories: Collection[str]) -> Tensor | None:
        """The union of the masks of `categories`, empty where it lacks them; None where nobody knows."""
        if not all(self.knows(c) for c in categories):
            return None
        return _union(self.masks, [c for c in categories if c in self.masks], self.void.shape)


class GroupDataset(Dataset[Group]):
    """Indexed by :class:`GroupDraw`, not by number.

    A group's label is multi-hot over all categories that every one of its images shows, the foreign ones apart; an
    image's mask is the OR of its masks of these categories, so that a foreign image's is empty. Void pixels that no
    shared category covers are marked invalid.
    """

    def __init__(self, pool: ImagePool, size: tuple[int, int], augmentation: Augmentation = NO_AUGMENTATION) -> None:
        self.pool, self.size, self.augmentation = pool, tuple(size), augmentation
        self._column = {name: k for k, name in enumerate(pool.labels)}

    def __getitem__(self, draw: GroupDraw) -> Group:
        """The group of a draw, with replacements where images are unusable.

        Raises:
            DataError: no image of the category can be used in the place of one.
        """
        replacements = Replacements(self.pool)
        while True:
            try:
                return replace(self.make(draw, replacements.accepted), bad=tuple(replacements.bad))
            except UnusableImage as error:
                draw = replacements.replace(draw, error)

    def make(self, draw: GroupDraw, accepted: Collection[int] = ()) -> Group:
        """The group of exactly the images of `draw`; an empty mask is let pass for the images `accepted`.

        Raises:
            UnusableImage: one of them cannot be used.
        """
        made = [self._make(slot, draw.category, accepted) for slot in draw.slots]
        members = [set(masks) for slot, (_, masks) in zip(draw.slots, made) if not slot.foreign]
        shared = sorted(set.intersection(*members) & set(self._column))
        masks = torch.stack([_union(own, [c for c in shared if c in own], self.size) for _, own in made])  # (N, H, W)
        void = torch.stack([sample.void for sample, _ in made])
        labels = torch.zeros(len(self._column))
        labels[[self._column[c] for c in shared]] = 1
        contents = tuple(
            Contents(own, sample.void, self.pool.item(slot.item)) for slot, (sample, own) in zip(draw.slots, made)
        )
        return Group(
            images=torch.stack([sample.image for sample, _ in made]),
            masks=masks,
            labels=labels,
            valid=~void | masks,
            grey=torch.tensor([sample.grey for sample, _ in made]),
            names=tuple(str(self.pool.item(slot.item).image or self.pool.item(slot.item).name) for slot in draw.slots),
            known=self._known(draw, labels),
            image_labels=torch.tensor([[float(c in own and own[c].any()) for c in self._column] for _, own in made]),
            image_known=torch.tensor([[c.knows(category) for category in self._column] for c in contents]),
            **self._teacher([sample for sample, _ in made]),
            contents=contents,
            shared=tuple(shared),
            reference=draw.reference if draw.reference is not None and masks[draw.reference].any() else None,
        )

    def _known(self, draw: GroupDraw, labels: Tensor) -> Tensor:
        """(L,) bool: the group shares the category, or some image of it is known to lack it."""
        items = [self.pool.item(slot.item) for slot in draw.slots if not slot.foreign]
        if all(item.annotated is None for item in items):
            return torch.ones(len(labels), dtype=torch.bool)
        return torch.tensor([bool(labels[k]) or any(i.lacks(c) for i in items) for c, k in self._column.items()])

    def _teacher(self, samples: list[Sample]) -> dict[str, Tensor]:
        """The teacher's maps (N, H, W) uint8 and which images have one (N,); nothing where no image has."""
        if all(s.teacher is None for s in samples):
            return {}
        blank = torch.zeros(self.size, dtype=torch.uint8)
        maps = torch.stack([blank if s.teacher is None else s.teacher for s in samples])
        return {"teacher": maps, "taught": torch.tensor([s.teacher is not None for s in samples])}

    def _make(self, slot: Slot, category: str, accepted: Collection[int]) -> tuple[Sample, dict[str, Tensor]]:
        """One augmented image and its non-empty masks by category (the drawn one always among them)."""
        sample = self.pool.load_usable(slot.item, self.size)
        categories = list(self.pool.item(slot.item).categories)
        pasted = None if slot.paste is None else slot.paste.category
        if slot.foreign:
            category = self.pool.item(slot.item).categories[0]  # what a crop keeps
        elif category in categories and category != pasted and slot.item not in accepted:
            self.pool.require_object(slot.item, sample, category)
        if slot.paste is not None:
            sample, categories = self._paste(sample, categories, slot, accepted)
        target = sample.masks[[k for k, c in enumerate(categories) if c == category]].any(0)
        sample = self.augmentation(sample, target, np.random.default_rng(slot.seed))
        kept = None if slot.foreign else category
        masks = {c: m for c, m in zip(categories, sample.masks) if c == kept or bool(m.any())}
        return sample, masks

    def _paste(
        self, sample: Sample, categories: list[str], slot: Slot, accepted: Collection[int]
    ) -> tuple[Sample, list[str]]:
        donor = self.pool.load_usable(slot.paste.item, self.size)
        mask = donor.masks[self.pool.item(slot.paste.item).categories.index(slot.paste.category)]
        placed = mask  # an object that vanished at training size: nothing to paste, an empty mask
        if slot.paste.item not in accepted:
            self.pool.require_object(slot.paste.item, donor, slot.paste.category)
        if mask.any():
            sample, placed = paste_object(sample, donor.image, mask, np.random.default_rng(slot.paste.seed))
        if slot.paste.category in categories:
            masks = sample.masks.clone()
            masks[categories.index(slot.paste.category)] |= placed
        else:
            masks, categories = torch.cat([sample.masks, placed[None]]), [*categories, slot.paste.category]
        return Sample(sample.image, masks, sample.void, sample.grey), categories


def _union(masks: dict[str, Tensor], categories: list[str], size: tuple[int, int]) -> Tensor:
    union = torch.zeros(size, dtype=torch.bool)
    for category in categories:
        union |= masks[category]
    return union


def collate_groups(groups: list[Group], exchange: bool = False, references: bool = False) -> GroupBatch:
    """Groups of one size -> GroupBatch with images uint8 and masks bool, as small as it can be on its way. exchange:
    also what each image shows of the object of the next group."""
    return GroupBatch(
        images=torch.stack([g.images for g in groups]),
        masks=torch.stack([g.masks for g in groups]),
        labels=torch.stack([g.labels for g in groups]),
        valid=torch.stack([g.valid for g in groups]),
        grey=torch.stack([g.grey for g in groups]),
        names=tuple(g.names for g in groups),
        bad=tuple(bad for g in groups for bad in g.bad),
        references=torch.tensor([-1 if g.reference is None else g.reference for g in groups]) if references else None,
        **{name: _stack([getattr(g, name) for g in groups]) for name in ("known", "image_labels", "image_known")},
        **_collate_teacher(groups),
        **(_exchanged(groups) if exchange else {}),
    )


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    return None if any(t is None for t in tensors) else torch.stack(tensors)


def _exchanged(groups: list[Group]) -> dict[str, Tensor]:
    """Masks of the next group's categories in every image (B, N, H, W), which pixels of it are known."""
    masks, known = [], []
    for group, other in zip(groups, [*groups[1:], groups[0]]):
        for content in group.contents:
            mask = content.mask_of(other.shared)
            masks.append(torch.zeros_like(content.void) if mask is None else mask)
            known.append(torch.zeros_like(content.void) if mask is None else ~content.void | mask)
    shape = (len(groups), len(groups[0].contents))
    return {
        "other_masks": torch.stack(masks).unflatten(0, shape),
        "other_valid": torch.stack(known).unflatten(0, shape),
    }


def _collate_teacher(groups: list[Group]) -> dict[str, Tensor]:
    if all(g.teacher is None for g in groups):
        return {}
    blank = torch.zeros_like(groups[0].masks, dtype=torch.uint8)
    maps = torch.stack([blank if g.teacher is None else g.teacher for g in groups])
    nobody = torch.zeros(len(blank), dtype=torch.bool)
    taught = torch.stack([nobody if g.taught is None else g.taught for g in groups])
    return {"teacher": maps, "taught": taught}
