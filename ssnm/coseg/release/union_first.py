"""Training groups whose masks are made as the authors' release makes them: union first, then resizing.

Only for sources that draw their masks on request (:class:`ssnm.data.coco.CocoSegSource`).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from ..groups import Group, GroupDataset
from ..sampler import GroupDraw


class UnionFirstDataset(GroupDataset):
    """As :class:`GroupDataset` but for two points, in which it follows the release.

    The shared categories are those that the index lists for every image, even where one's mask vanishes at
    training size; an image's mask is the union of theirs at full size, resized and cut at > 0.5. Pasted objects
    are not supported. Images that cannot be read are replaced; empty masks are let pass.
    """

    def make(self, draw: GroupDraw, accepted: Collection[int] = ()) -> Group:
        items = [self.pool.item(slot.item) for slot in draw.slots]
        shared = set.intersection(*(set(item.categories) for item in items)) & set(self._column)
        samples = []
        for slot in draw.slots:
            sample = self.pool.load_usable(slot.item, self.size, shared)
            samples.append(self.augmentation(sample, sample.masks[0], np.random.default_rng(slot.seed)))
        masks = torch.cat([sample.masks for sample in samples])  # N times (1, H, W) -> (N, H, W)
        labels = torch.zeros(len(self._column))
        labels[[self._column[c] for c in shared]] = 1
        return Group(
            images=torch.stack([sample.image for sample in samples]),
            masks=masks,
            labels=labels,
            valid=~torch.stack([sample.void for sample in samples]) | masks,
            grey=torch.tensor([sample.grey for sample in samples]),
            names=tuple(str(item.image or item.name) for item in items),
        )
