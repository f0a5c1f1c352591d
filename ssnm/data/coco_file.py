"""Reading a file of COCO's instance annotations: data, not trusted. Every field that is used is looked at first."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.shapes import draw, is_number
from ..naming import canonical_category, counted

AREA_FACTOR = 2.0  # a drawn area further from the stated one is said
_COMPARED_AREA = 100.0  # pixels; below, the rounding of coordinates alone makes such factors


class ImageRecord(NamedTuple):
    """One image of a file; area_factor: annotated area -> area at the original resolution."""

    file_name: str
    height: int
    width: int
    area_factor: float


@dataclass(frozen=True)
class Annotations:
    """A file as read. categories: id -> canonical name; images: id -> record; instances: the annotations, each with
    the ids of an image and a category that are listed, and a finite area."""

    path: Path
    categories: dict[int, str]
    images: dict[int, ImageRecord]
    instances: list[dict[str, Any]]
    sha256: str

    def name_of(self, instance: dict[str, Any]) -> str:
        """What an error calls an annotation: file, its id, its image."""
        image = self.images[instance["image_id"]]
        return f"{self.path}: annotation {instance.get('id', '?')} of image {instance['image_id']} ({image.file_name})"

    def draw(self, instance: dict[str, Any]) -> np.ndarray:
        """An annotation as a mask (H, W) bool of the annotated size; all False for one without a segmentation.

        Raises:
            DataError: polygons or run lengths that cannot be drawn; see :mod:`ssnm.files.shapes`.
        """
        image = self.images[instance["image_id"]]
        size = image.height, image.width
        return draw(instance.get("segmentation"), size, self.name_of(instance), instance["area"])


class AreaDoubts:
    """Counts what can be drawn but may not be meant: another area than the stated one, points that enclose nothing."""

    def __init__(self) -> None:
        self.compared = self.differ = self.empty_parts = 0
        self.first = ""

    def compare(self, name: str, stated: float, drawn: float) -> None:
        """An annotation, not a crowd: its name, the area that it states and the one that it draws, in pixels."""
        if max(drawn, stated) < _COMPARED_AREA:
            return
        self.compared += 1
        if not drawn / AREA_FACTOR <= stated <= drawn * AREA_FACTOR:
            self.first = self.first or f"{name}: {drawn:g} pixels drawn, area {stated:g}"
            self.differ += 1

    def lines(self) -> list[str]:
        """What to tell, a line each."""
        found = []
        if self.differ:
            found.append(f"{self.differ} of {self.compared} annotations draw an area that differs from the one they "
                         f"state by a factor of {AREA_FACTOR:g} or more; were coordinates or areas scaled? the first: "
                         f"{self.first}")  # fmt: skip
        if self.empty_parts:
            found.append(f"{counted(self.empty_parts, 'part')} of segmentations of one or two points, which enclose "
                         "nothing")
        return found


class _Inconsistent(Exception):
    """The file contradicts itself; turned into a DataError that names the file."""


def read_annotations(path: str | Path, area_scale: str = "none") -> Annotations:
    """Read and check a file in COCO's instance format. Segmentations are checked when they are drawn.

    area_scale: ``auto`` scales areas to the original resolution where the image record carries ``orig_width`` and
        ``orig_height``; ``none`` takes them as they are written.

    Raises:
        MissingFileError: no such file.
        DataError: it is not COCO instance annotations; the message names the record.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such annotation file; give COCO's instances_train2017.json or a file "
                               "in its format") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a COCO instance annotation file") from None
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: COCO annotations (JSON) were expected ({error}); download the file again") from None
    del raw
    try:
        instances = _records(document, "annotations")
        images = _image_records(_records(document, "images"), area_scale)
        names = _category_names(_records(document, "categories"), instances)
        _check_instances(instances, images, names)
    except _Inconsistent as error:
        raise DataError(f"{path}: not in COCO's instance format ({error}); mend the file") from None
    return Annotations(path, names, images, instances, sha256)


def _records(document: Any, key: str) -> list[dict[str, Any]]:
    """One of the three lists of a file."""
    if not isinstance(document, dict):
        raise _Inconsistent(f"a mapping with images, annotations and categories was expected, got a "
                            f"{type(document).__name__}")
    if key not in document:
        raise _Inconsistent(f"no {key!r} where COCO's instance format has them")
    found = document[key]
    if not isinstance(found, list):
        raise _Inconsistent(f"{key} must be a list, got {'null' if found is None else type(found).__name__}")
    wrong = next((n for n, record in enumerate(found) if not isinstance(record, dict)), None)
    if wrong is not None:
        raise _Inconsistent(f"{key} number {wrong} must be a mapping, got {str(found[wrong])[:40]}")
    return found


def _whole(record: dict[str, Any], key: str, what: str) -> int:
    """A field that holds a whole number."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        missing = f"has no {key}" if key not in record else f"has the {key} {json.dumps(value)[:40]}"
        raise _Inconsistent(f"{what} {missing}, a whole number was expected")
    return value


def _text(record: dict[str, Any], key: str, what: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _Inconsistent(f"{what} has no {key}")
    return value


def _category_names(records: list[dict[str, Any]], instances: list[dict[str, Any]]) -> dict[int, str]:
    """id -> canonical name of the categories; two of one name are told apart only where annotations use both."""
    names: dict[int, str] = {}
    for number, record in enumerate(records):
        category = _whole(record, "id", f"category number {number}")
        if category in names:
            raise _Inconsistent(f"the category id {category} occurs twice")
        names[category] = canonical_category(_text(record, "name", f"category {category}"))
    used: dict[str, int] = {}
    for category in {key for i in instances if isinstance(key := i.get("category_id"), int)} & names.keys():
        other = used.setdefault(names[category], category)
        if other != category:
            raise _Inconsistent(f"the categories {other} and {category} are both called {names[category]!r}")
    return names


def _image_records(records: list[dict[str, Any]], area_scale: str) -> dict[int, ImageRecord]:
    images = {}
    for number, record in enumerate(records):
        key = _whole(record, "id", f"image number {number}")
        if key in images:
            raise _Inconsistent(f"the image id {key} occurs twice")
        height, width = (_whole(record, side, f"image {key}") for side in ("height", "width"))
        if not (0 < height < 1 << 16 and 0 < width < 1 << 16):
            raise _Inconsistent(f"image {key} has the size {width}x{height}")
        factor = 1.0
        if area_scale == "auto" and "orig_width" in record and "orig_height" in record:
            sides = [_whole(record, side, f"image {key}") for side in ("orig_width", "orig_height")]
            factor = sides[0] * sides[1] / (width * height)
        images[key] = ImageRecord(_text(record, "file_name", f"image {key}"), height, width, factor)
    return images


def _check_instances(
    instances: list[dict[str, Any]], images: dict[int, ImageRecord], categories: dict[int, str]
) -> None:
    for number, instance in enumerate(instances):
        what = f"annotation {instance.get('id', f'number {number}')}"
        if _whole(instance, "image_id", what) not in images:
            raise _Inconsistent(f"{what} is of image {instance['image_id']}, which is not listed")
        if _whole(instance, "category_id", what) not in categories:
            raise _Inconsistent(f"{what} is of category {instance['category_id']}, which is not listed")
        if not is_number(instance.get("area")) or instance["area"] < 0:
            found = f"the area {json.dumps(instance['area'])[:40]}" if "area" in instance else "no area"
            raise _Inconsistent(f"{what} has {found}, a number from 0 on was expected")
        if instance.get("iscrowd", 0) not in (0, 1):
            raise _Inconsistent(f"{what} has iscrowd {instance['iscrowd']!r}, 0 or 1 was expected")
