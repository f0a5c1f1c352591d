"""Validation on held-out training groups: J, P, group use, and a picture. Never sees a test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..data.records import BadImage
from ..errors import DataError
from ..files.atomic import image_bytes, write_atomically
from ..metrics import GroupUse, binarize, group_use_record, jaccard, precision, spatial_auc
from ..naming import counted
from ..visualize.panels import GroupPictures, group_panel
from .groups import Group, GroupDataset
from .outliers import OutlierCase, cases_of_pool, measure_outliers
from .pool import ImagePool
from .predict import GroupPrediction, Predictor
from .sampler import GroupDraw, GroupDrawer

RELEASE_RULE, HALF = "mean+std:0.8", "fixed:0.5"


@dataclass
class Validator:
    """Fixed held-out groups, drawn once by a seed: the same in every validation and in every resumed run.

    ordinary: groups of one category each, scored by J and P (release threshold, at training size, averaged over
    images) and by J at 0.5. contrasts: pairs of groups that share one two-category image (their first), for group
    use, cut by `rule` (end of docs/evaluation.md); empty where no two categories have enough held-out images. foreign:
    groups with one foreign image. further: (name, validator) of images of other sets. on_bad: told of the images that
    could not be used and were replaced.
    """

    pool: ImagePool
    size: int
    ordinary: list[GroupDraw]
    contrasts: list[tuple[GroupDraw, GroupDraw]]
    device: torch.device
    pictures: int = 4
    on_bad: Callable[[Iterable[BadImage]], None] = lambda found: None
    foreign: Sequence[OutlierCase] = ()
    further: Sequence[tuple[str, "Validator"]] = ()
    rule: float | str = 0.5

    @classmethod
    def make(
        cls, pool: ImagePool, size: int, group_size: int, groups: int, two_category: int, seed: int,
        device: torch.device, pictures: int = 4, on_bad: Callable[[Iterable[BadImage]], None] = lambda found: None,
        balance: str = "sqrt", foreign: int = 0,
    ) -> "Validator":  # fmt: skip
        """Draw the groups. Categories are drawn by `balance`, as in training.

        Raises:
            DataError: no held-out category has `group_size` images.
        """
        try:
            drawer = GroupDrawer(pool, group_size, balance)
        except DataError as error:
            held_out = f"validation on {counted(len(pool.ids), 'held-out image')}"
            raise DataError(f"{held_out}: {error}, or hold more of them out (data.holdout)") from None
        rng = np.random.default_rng(seed)
        ordinary = [drawer.draw(rng, 1)[0] for _ in range(groups)]
        contrasts = drawer.contrasts(rng, two_category)
        cases = cases_of_pool(pool, size, foreign, seed, group_size) if foreign else ()
        return cls(pool, size, ordinary, contrasts, device, pictures, on_bad, cases)

    def __call__(self, model: nn.Module, picture: Path | None = None) -> dict[str, float]:
        """Scores in percent: J, J@0.5, P, J_category (every category weighs the same), spatial_auc
        (AUC of S) where there are spatial masks; group_use, J_own, J_other where there are two-category images;
        J_lost and masked where there are groups with a foreign image; NAME/J of further sets; and `choice`, the figure
        that picks a checkpoint: the mean of J_category and of every NAME/J, plus a tenth of group_use, minus J_lost.
        """
        predictor = Predictor(model.eval(), self.size, self.device)
        groups, pairs = self._decoded
        scores, shown = self._ordinary(predictor, groups)
        scores |= self._group_use(predictor, pairs)
        if self.foreign:
            outliers = measure_outliers(predictor, self.foreign)
            scores |= {"J_lost": 100 * outliers.lost, "masked": 100 * outliers.masked}
        further = [(name, validator(model)["J"]) for name, validator in self.further]
        scores |= {f"{name}/J": J for name, J in further}
        if further or self.foreign:
            mean = float(np.mean([scores["J_category"], *(J for _, J in further)]))
            scores["choice"] = mean + scores.get("group_use", 0.0) / 10 - scores.get("J_lost", 0.0)
        if picture is not None and shown:
            write_atomically(picture, image_bytes(group_panel(shown)))
        return scores

    @cached_property
    def _decoded(self) -> tuple[list[Group], list[tuple[Group, Group]]]:
        """The groups, decoded once and kept for every validation of the run (about 0.2 MB for an image of 224x224), and
        of the contrasts those that can be scored."""
        dataset = GroupDataset(self.pool, (self.size, self.size))
        groups = [self._told(dataset[draw]) for draw in self.ordinary]
        pairs = [(self._told(dataset[first]), self._told(dataset[second])) for first, second in self.contrasts]
        # where an image was replaced it may be the shared one, or one that tells its category
        whole = [pair for pair in pairs if not any(g.bad for g in pair) and all(g.masks[0].any() for g in pair)]
        return groups, whole

    def _told(self, group: Group) -> Group:
        self.on_bad(group.bad)
        return replace(group, contents=())  # of no use here, and as large as the masks

    def _ordinary(self, predictor: Predictor, groups: list[Group]) -> tuple[dict[str, float], list[GroupPictures]]:
        rows, categories, spatial, shown = [], [], [], []
        for draw, group, prediction in zip(self.ordinary, groups, _predictions(predictor, groups)):
            truths = [t.numpy() for t in group.masks]
            rows += [self._scores(p, t) for p, t in zip(prediction.probabilities, truths)]
            categories += [draw.category] * len(truths)
            if prediction.spatial_masks is not None:
                spatial.append(spatial_auc(list(prediction.spatial_masks), truths))
            if len(shown) < self.pictures:
                shown.append(_pictures(draw.category, group, prediction))
        scores = {name: 100 * float(np.mean([r[i] for r in rows])) for i, name in enumerate(("J", "J@0.5", "P"))}
        by_category = [np.mean([r[0] for r, c in zip(rows, categories) if c == name]) for name in set(categories)]
        scores["J_category"] = 100 * float(np.mean(by_category))
        if spatial:
            scores["spatial_auc"] = 100 * float(np.nanmean(spatial))
        return scores, shown

    @staticmethod
    def _scores(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
        mask, _ = binarize(probability, RELEASE_RULE)
        half, _ = binarize(probability, HALF)
        return jaccard(mask, truth), jaccard(half, truth), precision(mask, truth)

    def _group_use(self, predictor: Predictor, pairs: list[tuple[Group, Group]]) -> dict[str, float]:
        predictions = _predictions(predictor, [group for pair in pairs for group in pair])
        records = []
        for pair in pairs:
            masks = [binarize(next(predictions).probabilities[0], self.rule)[0] for _ in pair]
            truths = [group.masks[0].numpy() for group in pair]
            records.append(group_use_record("", "", "", *masks, *truths))
        if not records:
            return {}
        use = GroupUse.of(records)
        return {"group_use": 100 * use.share, "J_own": 100 * use.mean_own, "J_other": 100 * use.mean_other}


def _predictions(predictor: Predictor, groups: list[Group]) -> Iterator[GroupPrediction]:
    """One prediction after the other; as many groups go through the network together as a chunk holds."""
    per_call = max(1, predictor.chunk // len(groups[0].images)) if groups else 1
    for begin in range(0, len(groups), per_call):
        part = groups[begin : begin + per_call]
        sizes = [[tuple(image.shape[-2:]) for image in group.images] for group in part]
        if len(part) == 1:  # perhaps larger than a chunk
            yield predictor.predict_tensors(part[0].images, sizes[0], part[0].grey)
        else:
            stack, grey = (torch.stack([getattr(group, name) for group in part]) for name in ("images", "grey"))
            yield from predictor.predict_groups(stack, sizes, grey)


def _pictures(category: str, group: Group, prediction: GroupPrediction) -> GroupPictures:
    return GroupPictures(
        images=[image.permute(1, 2, 0).numpy() for image in group.images],
        spatial_masks=None if prediction.spatial_masks is None else list(prediction.spatial_masks),
        probabilities=list(prediction.probabilities),
        truths=[mask.numpy() for mask in group.masks],
        title=category,
    )
