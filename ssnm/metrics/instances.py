"""Scores of instance co-segmentation over groups: mAP^r, CorLoc, the baseline and the ceiling beside them, tables.

The baseline is what the prior alone gives: its mask's connected components. A method that stays below it has lost
what it was given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..facts import published_instance_results
from ..naming import counted
from .mask_ap import (
    THRESHOLDS,
    average_precision_of,
    check_group,
    correct_localization,
    overlap_matrix,
    proposal_ceiling,
)
from .tables import percent, text_table, write_rows, write_text

DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class GroupScores:
    """One group; None: not measured.

    ap: at `THRESHOLDS`; corloc: share of images whose best mask's box is right; baseline: AP of the prior's components;
    random: AP of proposals drawn by chance, as many as were found; merged: AP and baseline on the images where one
    component covers two or more objects, and their number; ceiling: recall at 0.5 and mean best overlap of proposals.
    """

    name: str
    images: int
    objects: int
    found: int
    ap: tuple[float, ...]
    corloc: float
    baseline: tuple[float, ...] | None = None
    random: tuple[float, ...] | None = None
    merged: tuple[tuple[float, ...], tuple[float, ...], int] | None = None
    ceiling: tuple[float, float] | None = None


@dataclass(frozen=True)
class InstanceScores:
    """All groups of a test set. notes: what to know before comparing; coco: COCO's own numbers by name."""

    groups: tuple[GroupScores, ...]
    notes: tuple[str, ...] = ()
    coco: dict[str, float] | None = None

    def mean(self, of: Callable[[GroupScores], Sequence[float] | None]) -> tuple[float, ...] | None:
        """Unweighted mean over the groups that have it; mAP^r for the AP. Groups without any object do not count."""
        rows = [row for row in map(of, self.groups) if row is not None and np.isfinite(row).all()]
        return tuple(float(v) for v in np.mean(rows, axis=0)) if rows else None

    def gain(self, threshold: int = 1) -> tuple[float, float, float] | None:
        """Mean over the groups of AP minus baseline at `THRESHOLDS[threshold]`, and its 95 % bootstrap interval."""
        gains = [g.ap[threshold] - g.baseline[threshold] for g in self.groups if g.baseline and np.isfinite(g.ap[0])]
        return (float(np.mean(gains)), *bootstrap_interval(gains)) if gains else None

    def table(self) -> str:
        """For a terminal, percent."""
        header = ["group", "images", "objects", "found", *(f"AP{100 * t:g}" for t in THRESHOLDS), "CorLoc"]
        with_baseline = any(g.baseline for g in self.groups)
        with_ceiling = any(g.ceiling for g in self.groups)
        header += [f"comp{100 * t:g}" for t in THRESHOLDS[:2]] if with_baseline else []
        header += ["chance50", "ceiling", "overlap"] if with_ceiling else []
        rows = [self._row(g, with_baseline, with_ceiling) for g in self.groups]
        rows.append(self._row(self._average(), with_baseline, with_ceiling))
        lines = [text_table(header, rows, rules_before=(len(rows) - 1,))]
        if with_baseline or with_ceiling:
            lines.append("comp: the prior's connected components; chance: as many proposals drawn by chance; ceiling, "
                         "overlap: objects that some proposal finds at 0.5, mean best overlap")  # fmt: skip
        lines += self._sentences()
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, shares in [0, 1]; what cannot be measured is null."""
        average = self._average()
        document = {"thresholds": THRESHOLDS, "mean": asdict(average), "gain": [self.gain(0), self.gain(1)],
                    "coco": self.coco, "notes": self.notes, "groups": [asdict(g) for g in self.groups]}  # fmt: skip
        return _without_nan(document)

    def write(self, folder: str | Path) -> list[Path]:
        """Write scores.json, groups.csv and scores.md into `folder`."""
        folder = Path(folder)
        header = ["group", "images", "objects", "found", *(f"ap_{t:g}" for t in THRESHOLDS), "corloc"]
        rows = [[g.name, g.images, g.objects, g.found, *g.ap, g.corloc] for g in self.groups]
        return [
            write_text(folder / "scores.json", json.dumps(self.to_dict(), indent=1) + "\n"),
            write_rows(folder / "groups.csv", header, rows),
            write_text(folder / "scores.md", f"```\n{self.table()}\n```\n"),
        ]

    def _average(self) -> GroupScores:
        merged = [g.merged for g in self.groups if g.merged and g.merged[2] and np.isfinite(g.merged[0]).all()]
        pair = tuple(tuple(np.mean([m[side] for m in merged], axis=0).tolist()) for side in (0, 1)) if merged else None
        return GroupScores(
            f"mean of {len(self.groups)}",
            sum(g.images for g in self.groups),
            sum(g.objects for g in self.groups),
            sum(g.found for g in self.groups),
            self.mean(lambda g: g.ap) or (float("nan"),) * len(THRESHOLDS),
            (self.mean(lambda g: (g.corloc,)) or (float("nan"),))[0],
            self.mean(lambda g: g.baseline),
            self.mean(lambda g: g.random),
            (*pair, sum(m[2] for m in merged)) if pair else None,
            self.mean(lambda g: g.ceiling),
        )

    def _row(self, group: GroupScores, with_baseline: bool, with_ceiling: bool) -> list[str]:
        cells = [group.name, str(group.images), str(group.objects), str(group.found)]
        values = [*group.ap, group.corloc]
        values += [*(group.baseline or (float("nan"),) * 3)[:2]] if with_baseline else []
        none = float("nan")
        chance = group.random[1] if group.random else none
        values += [chance, *(group.ceiling or (none, none))] if with_ceiling else []
        return [*cells, *(percent(v if np.isfinite(v) else None) for v in values)]

    def _sentences(self) -> list[str]:
        said = []
        for index in (0, 1):
            gain = self.gain(index)
            if gain is not None:
                mean, low, high = (f"{100 * value:+.1f}" for value in gain)
                said.append(f"AP {THRESHOLDS[index]:g} minus that of the prior's components: {mean} points, 95 % "
                            f"interval over groups {low} to {high}")  # fmt: skip
        merged = self._average().merged
        if merged is not None:
            said.append(f"on the {counted(merged[2], 'image')} where one component covers several objects: AP 0.25 / "
                        f"0.5 {percent(merged[0][0])} / {percent(merged[0][1])}, components "
                        f"{percent(merged[1][0])} / {percent(merged[1][1])}")  # fmt: skip
        if self.coco is not None:
            chosen = {name: self.coco[name] for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")}
            said.append("COCO (useCats = 0): " + ", ".join(f"{n} {percent(v)}" for n, v in chosen.items()))
        return said


def score_group(
    name: str,
    predictions: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    components: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ceiling: Sequence[np.ndarray] | None = None,
    seed: int = 0,
) -> GroupScores:
    """Score one group.

    Args:
        predictions, scores, truths: as :func:`ssnm.metrics.mask_ap.average_precision` takes them.
        components: per image the masks (n, H, W) and scores (n,) of the baseline.
        ceiling: per image IoU (g, M) of objects with proposals; also for the choice by chance, drawn with `seed`.

    Raises:
        DataError: lists or arrays that do not belong together.
    """
    check_group(predictions, scores, truths)
    overlaps = [overlap_matrix(truth, masks) for truth, masks in zip(truths, predictions)]
    boxes = [_box(masks[int(np.argmax(s))]) if len(s) else None for masks, s in zip(predictions, scores)]
    baseline = merged = None
    if components is not None:
        base_overlaps = [overlap_matrix(truth, masks) for truth, (masks, _) in zip(truths, components)]
        base_scores = [s for _, s in components]
        baseline = _plain(average_precision_of(base_overlaps, base_scores))
        chosen = [i for i, (t, (m, _)) in enumerate(zip(truths, components)) if covers_several(t, m)]
        if chosen:
            parts = ((overlaps, scores), (base_overlaps, base_scores))
            both = [_plain(average_precision_of([o[i] for i in chosen], [s[i] for i in chosen])) for o, s in parts]
            merged = (*both, len(chosen))
    random = None
    if ceiling is not None:
        random = _plain(average_precision_of(*_by_chance(ceiling, scores, np.random.default_rng(seed))))
    return GroupScores(
        name, len(truths), sum(map(len, truths)), sum(map(len, predictions)),
        _plain(average_precision_of(overlaps, scores)),
        correct_localization(boxes, [[_box(mask) for mask in truth if mask.any()] for truth in truths]),
        baseline, random, merged, None if ceiling is None else proposal_ceiling(ceiling),
    )  # fmt: skip


def covers_several(truth: np.ndarray, components: np.ndarray) -> bool:
    """Whether one component (n, H, W) covers more than half of each of two or more objects (g, H, W)."""
    areas = np.count_nonzero(truth, axis=(1, 2))
    return any(sum(2 * np.count_nonzero(t & c) > a for t, a in zip(truth, areas)) >= 2 for c in components)


def bootstrap_interval(values: Sequence[float], share: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The interval in which the mean lies in `share` of the draws with replacement."""
    draw = np.random.default_rng(seed)
    means = draw.choice(np.asarray(values, dtype=np.float64), (DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def published_table(scores: InstanceScores, dataset: str, name: str = "ours") -> str:
    """The paper's Tables 2 and 4 for a data set with ours below, and the words that make them comparable or not.

    Raises:
        ConfigError: not one of the paper's data sets.
    """
    facts = published_instance_results()
    if dataset not in facts["datasets"]:
        raise ConfigError(f"no published numbers of {dataset!r}; there are {', '.join(facts['datasets'])}")
    about, corloc = facts["datasets"][dataset], {row["method"]: row[dataset] for row in facts["table4"]}
    rows = []
    for row in facts["table2"]:
        values = [*(row[dataset] or (None, None)), corloc[row["method"]]]
        cells = ["-" if value is None else str(value) for value in values]
        rows.append([row["method"], "yes" if row["trained"] else "no", *cells])
    mean = scores._average()
    rows.append([name, "", percent(mean.ap[0]), percent(mean.ap[1]), percent(mean.corloc)])
    table = text_table(["method", "trained", "mAP^r 0.25", "mAP^r 0.5", "CorLoc"], rows, rules_before=(len(rows) - 1,))
    ours = (len(scores.groups), mean.images, mean.objects)
    theirs = (about["classes"], about["images"], about["instances"])
    same = ours == theirs
    words = (
        f"the numbers of classes, images and objects are those of the paper's {about['name']}: comparable, if images "
        "and masks are the authors'"
        if same
        else f"ours: {', '.join(map(counted, ours, ('group', 'image', 'object')))}; {about['name']}: {theirs[0]} "
        f"classes, {theirs[1]} images, {theirs[2]} objects: other images, not comparable"
    )
    about_mcg = "the published rows use MCG, which learned from pixel-level truth, also where they say trained: no"
    return "\n".join([f"{about['name']}, Tables 2 and 4 of DeepCO3 (CVPR 2019), percent", table, f"note: {words}",
                      f"note: {about_mcg}"])  # fmt: skip


def _by_chance(
    overlaps: Sequence[np.ndarray], scores: Sequence[np.ndarray], draw: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Overlaps (g, k) and scores (k,) of proposals drawn by chance, as many in each image as were found, at least 1."""
    counts = [min(overlap.shape[1], max(1, len(one))) for overlap, one in zip(overlaps, scores)]
    chosen = [overlap[:, draw.permutation(overlap.shape[1])[:k]] for overlap, k in zip(overlaps, counts)]
    return chosen, [draw.random(k) for k in counts]


def _box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else None


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
