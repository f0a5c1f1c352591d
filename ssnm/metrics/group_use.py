"""Group use: does a model's mask change with the group that an image is put into, and to the right side?

An image with objects of two labelled kinds A and B is segmented once in a group of A and once in a group of B.
A model that segments the salient object and ignores the group gives the same mask twice and scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import fsum
from typing import Any

import numpy as np

from ..errors import DataError
from ..naming import counted
from .measures import jaccard
from .tables import percent

MARGIN = 0.02


@dataclass(frozen=True)
class GroupUseRecord:
    """One image in two groups.

    own: mean of J(mask in group A, truth A) and J(mask in group B, truth B); other: mean of J(mask in group A,
    truth B) and J(mask in group B, truth A); d = 2 * (own - other).
    """

    name: str
    category_a: str
    category_b: str
    own: float
    other: float

    @property
    def d(self) -> float:
        return 2 * (self.own - self.other)


def discrimination(
    mask_in_a: np.ndarray, mask_in_b: np.ndarray, truth_a: np.ndarray, truth_b: np.ndarray
) -> float:
    """d = J(mask in A, truth A) + J(mask in B, truth B) - J(mask in A, truth B) - J(mask in B, truth A).

    All four are (H, W) bool. d lies in [-2, 2]; 0 for a mask that does not change with the group, 2 for a
    perfect model of objects that do not overlap.

    Raises:
        DataError: shapes or types differ, or a truth is empty (then the image tells nothing).
    """
    return group_use_record("", "", "", mask_in_a, mask_in_b, truth_a, truth_b).d


def group_use_record(
    name: str,
    category_a: str,
    category_b: str,
    mask_in_a: np.ndarray,
    mask_in_b: np.ndarray,
    truth_a: np.ndarray,
    truth_b: np.ndarray,
) -> GroupUseRecord:
    """The record of one image; arguments and errors as in :func:`discrimination`."""
    for truth, category in ((truth_a, category_a or "A"), (truth_b, category_b or "B")):
        if not truth.any():
            raise DataError(f"{name or 'image'}: the ground truth of {category} is empty; leave the image out")
    own = jaccard(mask_in_a, truth_a) + jaccard(mask_in_b, truth_b)
    other = jaccard(mask_in_a, truth_b) + jaccard(mask_in_b, truth_a)
    return GroupUseRecord(name, category_a, category_b, own / 2, other / 2)


@dataclass(frozen=True)
class GroupUse:
    """The summary over images with objects of two kinds; all values in [0, 1].

    share: d > 0.02, "group use"; undecided: |d| <= 0.02; wrong: d < -0.02, the mask of the other kind;
    mean_own, mean_other: mean J against the truth of the image's own group and of the other group.
    """

    records: tuple[GroupUseRecord, ...]
    share: float
    undecided: float
    wrong: float
    mean_own: float
    mean_other: float

    @classmethod
    def of(cls, records: Iterable[GroupUseRecord]) -> GroupUse:
        """Summarise records.

        Raises:
            DataError: no record.
        """
        records = tuple(records)
        if not records:
            raise DataError("group use needs images with objects of two labelled kinds; none was given")
        count = len(records)
        return cls(
            records=records,
            share=sum(r.d > MARGIN for r in records) / count,
            undecided=sum(abs(r.d) <= MARGIN for r in records) / count,
            wrong=sum(r.d < -MARGIN for r in records) / count,
            mean_own=fsum(r.own for r in records) / count,
            mean_other=fsum(r.other for r in records) / count,
        )

    def describe(self) -> str:
        """One line for a terminal, in percent."""
        return (
            f"group use {percent(self.share)} % of {counted(len(self.records), 'image')} (d > {MARGIN}); "
            f"undecided {percent(self.undecided)} %, wrong {percent(self.wrong)} %; "
            f"mean J own {percent(self.mean_own)}, other {percent(self.mean_other)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; each record with its d."""
        return {**asdict(self), "records": [{**asdict(r), "d": r.d} for r in self.records], "margin": MARGIN}
