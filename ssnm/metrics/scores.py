"""The result of scoring: one record per image, per class, the three averages, and their files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingFileError
from ..naming import counted
from .protocol import AVERAGE_NAMES, Protocol
from .tables import markdown_table, percent, text_table, write_rows, write_text

FORMAT = "ssnm-scores"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ImageScore:
    """P and J in [0, 1] of one image and the threshold that cut its map; J is None where the image is left out."""

    category: str
    name: str
    P: float
    J: float | None
    threshold: float


@dataclass(frozen=True)
class ClassScore:
    """Means over the ``count`` images of a class, and the values of their pooled pixels.

    All in [0, 1]; None for a class whose images are all left out. ``left_out``: images with an empty truth under
    the policy ``skip``.
    """

    category: str
    count: int
    P: float | None
    J: float | None
    pooled_P: float | None
    pooled_J: float | None
    left_out: int = 0


@dataclass(frozen=True)
class Average:
    """P and J in [0, 1], averaged over ``count`` images or classes; None where nothing was left to average."""

    P: float | None
    J: float | None
    count: int


@dataclass(frozen=True)
class FolderScores:
    """All scores of a set of maps.

    averages: keys ``images``, ``classes``, ``pooled``; curve: mean J (the protocol's headline average) at the
    thresholds k/255, k = 0..255; resized: maps that did not have the size of their ground truth; binary_maps: no
    map held a value above 1, so all were read as 0/1 masks; extra: maps without ground truth that were ignored;
    remarks: what the values of maps and truths tell, one sentence each.
    """

    protocol: Protocol
    images: tuple[ImageScore, ...]
    classes: tuple[ClassScore, ...]
    averages: dict[str, Average]
    curve: tuple[float | None, ...] = field(repr=False)
    resized: int = 0
    binary_maps: bool = False
    extra: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def headline(self) -> Average:
        """The average that the protocol calls its result."""
        return self.averages[self.protocol.headline]

    def per_class(self) -> list[tuple[str, int, float | None, float | None]]:
        """(class, count, P, J) by the protocol's headline: image means, or pooled pixels."""
        if self.protocol.headline == "pooled":
            return [(c.category, c.count, c.pooled_P, c.pooled_J) for c in self.classes]
        return [(c.category, c.count, c.P, c.J) for c in self.classes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; scores in [0, 1]. No path or time is in it: the same maps give the same file."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "protocol": self.protocol.to_dict(),
            "description": self.protocol.describe(),
            "averages": {name: asdict(average) for name, average in self.averages.items()},
            "classes": [asdict(c) for c in self.classes],
            "images": [asdict(i) for i in self.images],
            "curve": list(self.curve),
            "resized": self.resized,
            "binary_maps": self.binary_maps,
            "extra": self.extra,
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FolderScores:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: not a record of scores, or one of another version.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT or values.get("version") != FORMAT_VERSION:
            raise DataError(f"not a file of scores ({FORMAT!r}, version {FORMAT_VERSION} is needed); score again")
        try:
            return cls(
                protocol=Protocol.from_dict(values["protocol"]),
                images=tuple(ImageScore(**i) for i in values["images"]),
                classes=tuple(ClassScore(**c) for c in values["classes"]),
                averages={name: Average(**a) for name, a in values["averages"].items()},
                curve=tuple(values["curve"]),
                resized=values["resized"],
                binary_maps=values["binary_maps"],
                extra=values["extra"],
                remarks=tuple(values.get("remarks", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"a damaged file of scores ({type(error).__name__}: {error}); score again") from None

    def write_json(self, path: str | Path) -> Path:
        """Write everything to ``path``; the same scores always give the same bytes."""
        return write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> FolderScores:
        """Read what :meth:`write_json` wrote.

        Raises:
            MissingFileError: no such file. DataError: not a file of scores.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingFileError(f"{path}: no such file of scores") from None
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error})") from None
        try:
            return cls.from_dict(values)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def write_csv(self, path: str | Path) -> Path:
        """Write the table of classes and averages: name, images, P, J (in percent) and the protocol."""
        protocol = self.protocol.describe()
        rows = [[name, count, percent(p), percent(j), protocol] for name, count, p, j in self.table_rows()]
        return write_rows(path, ["class", "count", "P", "J", "protocol"], rows)

    def write_images_csv(self, path: str | Path) -> Path:
        """Write one line per image: class, name, P and J (in percent; J empty where left out), threshold."""
        rows = [[i.category, i.name, percent(i.P, 4), percent(i.J, 4), f"{i.threshold:.6f}"] for i in self.images]
        return write_rows(path, ["class", "name", "P", "J", "threshold"], rows)

    def write_curve_csv(self, path: str | Path) -> Path:
        """Write the J-versus-threshold curve: threshold k/255 and mean J in percent."""
        rows = [[f"{level / 255:.6f}", percent(value, 4)] for level, value in enumerate(self.curve)]
        return write_rows(path, ["threshold", "J"], rows)

    def table_rows(self) -> list[tuple[str, int, float | None, float | None]]:
        """(name, count, P, J) of every class, then of the three averages, the headline marked by ``*``."""
        averages = [
            (AVERAGE_NAMES[key] + (" *" if key == self.protocol.headline else ""), a.count, a.P, a.J)
            for key, a in self.averages.items()
        ]
        return [*self.per_class(), *averages]

    def notes(self) -> list[str]:
        """What a reader of the numbers has to know beside the protocol, one sentence each."""
        notes = []
        if self.protocol.rule.kind == "best" and self.images:
            notes.append(f"best threshold {self.images[0].threshold:.4f}: found with the ground truth, an upper bound")
        if self.resized:
            notes.append(f"resized, since not of the size of the ground truth: {counted(self.resized, 'map')}")
        if self.binary_maps:
            notes.append("no map holds a value above 1: all were read as 0/1 masks")
        if left_out := sum(c.left_out for c in self.classes):
            notes.append(f"{counted(left_out, 'image')} with empty ground truth left out")
        if self.extra:
            notes.append(f"{counted(self.extra, 'map or folder', 'maps or folders')} without ground truth ignored")
        return [*notes, *self.remarks]

    def table(self) -> str:
        """The table for a terminal: protocol, classes, averages (P and J in percent), notes."""
        cells = [[name, str(count), percent(p), percent(j)] for name, count, p, j in self.table_rows()]
        body = text_table(["class", "count", "P", "J"], cells, rules_before=(len(self.classes),))
        return "\n".join([self.protocol.describe(), body, *(f"note: {n}" for n in self.notes())])

    def to_markdown(self) -> str:
        """The same table in Markdown, the headline in bold."""
        cells = [[name, str(count), percent(p), percent(j)] for name, count, p, j in self.table_rows()]
        bold = [index for index, row in enumerate(cells) if row[0].endswith(" *")]
        lines = [self.protocol.describe(), "", markdown_table(["class", "count", "P", "J"], cells, bold)]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes())]) + "\n"
