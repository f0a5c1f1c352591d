"""What one foreign image does to a group: J that the others lose, whether the model notices, whether it still cuts.

See "A foreign image in the group" in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..naming import counted
from .ranking import auc
from .tables import percent

MASKED = 0.01  # a foreign image counts as masked above this share of its area


@dataclass(frozen=True)
class OutlierRecord:
    """One group, once clean and once with one image replaced by a foreign one.

    J_clean, J_foreign: mean J of the images that stay, in either; masked: share of the foreign image's area in its
    mask; present: the model's figures of the group with the foreign image, last the foreign image's, or None.
    """

    category: str
    J_clean: float
    J_foreign: float
    masked: float
    present: tuple[float, ...] | None


@dataclass(frozen=True)
class Outliers:
    """The summary over groups; lost and masked in [0, 1], present_auc NaN for a model without the figure."""

    records: tuple[OutlierRecord, ...]
    J_clean: float
    lost: float
    masked: float
    present_auc: float

    @classmethod
    def of(cls, records: Iterable[OutlierRecord]) -> Outliers:
        """Summarise records.

        Raises:
            DataError: no record.
        """
        records = tuple(records)
        if not records:
            raise DataError("outliers need groups of two categories or more; none could be drawn")
        figures = [p for r in records if r.present is not None for p in r.present]
        member = [i < len(r.present) - 1 for r in records if r.present is not None for i in range(len(r.present))]
        return cls(
            records=records,
            J_clean=float(np.mean([r.J_clean for r in records])),
            lost=float(np.mean([r.J_clean - r.J_foreign for r in records])),
            masked=float(np.mean([r.masked > MASKED for r in records])),
            present_auc=auc(np.array(figures), np.array(member)) if figures else float("nan"),
        )

    def describe(self) -> str:
        """One line for a terminal."""
        said = "" if np.isnan(self.present_auc) else f'; AUC of "present" {self.present_auc:.3f}'
        return (
            f"one foreign image in {counted(len(self.records), 'group')}: the others lose {percent(self.lost)} "
            f"points of J (clean {percent(self.J_clean)}){said}; {percent(self.masked)} % of the foreign images "
            f"have a mask above {MASKED:.0%} of the image"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None in the place of NaN."""
        values = asdict(self)
        return {**values, "present_auc": None if np.isnan(self.present_auc) else self.present_auc}
