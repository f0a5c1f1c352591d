"""Our rows under the paper's Tables 1-4 (Zhang et al., AAAI 2020), all in percent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..facts import published_results
from ..naming import canonical_category
from .scores import FolderScores
from .tables import markdown_table, text_table, write_rows, write_text

TABLES = {
    "msrc": "Table 1, MSRC",
    "internet": "Table 2, Internet",
    "icoseg": "Table 3, iCoseg",
    "pascal_voc": "Table 4, PASCAL-VOC",
}
VALUES = {"msrc": "P and J", "internet": "P and J per class", "icoseg": "J, mean and per class",
          "pascal_voc": "P and J, then J per class"}


@dataclass(frozen=True)
class ComparisonRow:
    """One method; values in percent, one per column, None where there is none."""

    method: str
    values: tuple[float | None, ...]
    ours: bool = False


@dataclass(frozen=True)
class Comparison:
    """The paper's table of one data set with our rows at its end; values in percent as the paper prints them."""

    dataset: str
    columns: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{TABLES[self.dataset]} of Zhang et al. (AAAI 2020): {VALUES[self.dataset]}, percent"

    def table(self) -> str:
        """For a terminal; our rows come after a rule."""
        first_ours = sum(not row.ours for row in self.rows)
        body = text_table(["method", *self.columns], self._cells(), rules_before=(first_ours,))
        return "\n".join([self.title, body, *(f"note: {note}" for note in self.notes)])

    def to_markdown(self) -> str:
        """The same in Markdown, our rows in bold."""
        ours = [index for index, row in enumerate(self.rows) if row.ours]
        lines = [self.title, "", markdown_table(["method", *self.columns], self._cells(), ours)]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in percent."""
        return {**asdict(self), "title": self.title}

    def write(self, folder: str | Path, stem: str = "published") -> list[Path]:
        """Write ``<stem>.json``, ``.csv`` and ``.md`` into ``folder``."""
        folder = Path(folder)
        rows = [[row.method, *("" if v is None else v for v in row.values)] for row in self.rows]
        return [
            write_text(folder / f"{stem}.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"),
            write_rows(folder / f"{stem}.csv", ["method", *self.columns], rows),
            write_text(folder / f"{stem}.md", self.to_markdown()),
        ]

    def _cells(self) -> list[list[str]]:
        return [[row.method, *(_cell(value, row.ours) for value in row.values)] for row in self.rows]


def compare_with_published(scores: Mapping[str, FolderScores], dataset: str | None = None) -> Comparison:
    """Put our scores (name of the row -> scores) under the paper's table.

    dataset: ``msrc``, ``internet``, ``icoseg`` or ``pascal_voc``; None = the one whose classes ours are. Class
    names are compared by their canonical form, an image count in them is ignored (``Airplane100`` = ``airplane``).
    Means of a part of the classes are not shown, since they compare to nothing in the table.

    Raises:
        ConfigError: no table has these classes, or a class is not in the table asked for.
    """
    results = published_results()
    if not scores:
        raise ConfigError("no scores were given to compare with the published tables")
    ours = {name: {_plain(c): (p, j) for c, _, p, j in one.per_class()} for name, one in scores.items()}
    found = set().union(*ours.values())
    dataset = dataset or _dataset_of(found, results)
    if dataset not in TABLES:
        raise ConfigError(f"data set {dataset!r} has no published table; choose one of {', '.join(TABLES)}")
    facts = results[dataset]
    wanted = [_plain(c) for c in facts["classes"]]
    if unknown := sorted(found - set(wanted)):
        known = ', '.join(facts['classes'])
        raise ConfigError(f"class {unknown[0]!r} is not in {TABLES[dataset]}; its classes: {known}")
    rows = [ComparisonRow(r["method"], _published_values(dataset, r, len(wanted))) for r in facts["rows"]]
    notes = [facts["note"]] if "note" in facts else []
    for name, one in scores.items():
        values = _our_values(dataset, one, [ours[name].get(c, (None, None)) for c in wanted])
        rows.append(ComparisonRow(f"{name} [{one.protocol.name}]", values, ours=True))
        notes.append(f"{name}: {one.protocol.describe()}")
        if len(ours[name]) < len(wanted):
            notes.append(f"{name}: {len(ours[name])} of {len(wanted)} classes, so means are left out")
    return Comparison(dataset, _columns(dataset, facts["classes"]), tuple(rows), tuple(notes))


def _plain(name: str) -> str:
    return canonical_category(re.sub(r"100$", "", name))


def _dataset_of(found: set[str], results: Mapping[str, Any]) -> str:
    for dataset in TABLES:
        if {_plain(c) for c in results[dataset]["classes"]} == found:
            return dataset
    shown = ", ".join(sorted(found)[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
    raise ConfigError(
        f"no published table has exactly the classes {shown}; name the data set "
        f"(--dataset {'|'.join(TABLES)}) to compare a part of it"
    )


def _columns(dataset: str, classes: Sequence[str]) -> tuple[str, ...]:
    if dataset == "internet":
        return tuple(f"{name} {measure}" for name in classes for measure in "PJ")
    means = ("J",) if dataset == "icoseg" else ("P", "J")
    return means if dataset == "msrc" else (*means, *classes)


def _published_values(dataset: str, row: Mapping[str, Any], classes: int) -> tuple[float | None, ...]:
    if dataset == "internet":
        return tuple(value for pair in zip(row["P"], row["J"], strict=True) for value in pair)
    means = (row["J"],) if dataset == "icoseg" else (row["P"], row["J"])
    return means if dataset == "msrc" else (*means, *(row["per_class"] or [None] * classes))


def _our_values(
    dataset: str, scores: FolderScores, per_class: Sequence[tuple[float | None, float | None]]
) -> tuple[float | None, ...]:
    if dataset == "internet":
        return tuple(_in_percent(value) for pair in per_class for value in pair)
    complete = len(scores.classes) == len(per_class)
    mean = (scores.headline.P, scores.headline.J) if complete else (None, None)
    means = tuple(_in_percent(v) for v in (mean[1:] if dataset == "icoseg" else mean))
    return means if dataset == "msrc" else (*means, *(_in_percent(j) for _, j in per_class))


def _in_percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)


def _cell(value: float | None, ours: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if ours else str(value)  # published values keep the digits that were printed
