"""COCO-SEG, built from COCO's instance annotations and proven against the published counts.

The rule (Wang et al., AAAI 2019, as the SSNM paper uses it): category c keeps image i if i has at least one
non-crowd instance of c whose area is above `min_area`; categories with fewer than `min_images` such images
are dropped. The mask of a kept (image, category) pair is the union of *all* its annotations, crowd and small
ones included. On instances_train2017.json the defaults give 78 categories and 200,932 pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError, DataError, MissingFileError
from ..facts import load_facts
from ..naming import canonical_category
from .coco_index import CocoSegIndex, import_mask_codec, offsets_of

AREA_SCALES = ("auto", "none")
Progress = Callable[[int, int], None]


class _ImageRecord(NamedTuple):
    file_name: str
    height: int
    width: int
    area_factor: float  # annotated area -> area at the original resolution


@dataclass(frozen=True)
class _Annotations:
    categories: dict[int, str]
    images: dict[int, _ImageRecord]
    instances: list[dict[str, Any]]
    sha256: str


def build_index(
    annotations: str | Path,
    *,
    min_area: float = 4000.0,
    min_images: int = 100,
    area_scale: str = "auto",
    progress: Progress | None = None,
) -> CocoSegIndex:
    """Apply the COCO-SEG rule to a COCO instance annotation file.

    Args:
        annotations: a file in COCO's instance format.
        min_area: an instance counts if its area at the original resolution is above this, in pixels.
        min_images: a category stays if at least so many images qualify for it.
        area_scale: ``auto`` scales an area back to the original resolution where the image record carries
            ``orig_width`` and ``orig_height``; ``none`` takes areas as they are written.
        progress: called with (images done, images in all) while masks are drawn.

    Raises:
        MissingFileError: no such file.
        ConfigError: an option out of range.
        DataError: the file is not COCO instance annotations, or no category passes the rule.
    """
    _check_options(min_area, min_images, area_scale)
    path = Path(annotations)
    coco = _read_annotations(path, area_scale)
    kept = _apply_rule(coco, path, min_area, min_images)
    if not kept:
        raise DataError(f"{path}: no category has {min_images} images with an instance of area > {min_area:g}; "
                        "lower --min-images or --min-area")
    shapes = _shapes_of_pairs(coco, kept)
    # The parsed annotations are dropped here except for the shapes that will be drawn.
    categories, images = coco.categories, coco.images
    source = {"file_name": path.name, "sha256": coco.sha256}
    del coco
    rule = {"min_area": float(min_area), "min_images": int(min_images), "area_scale": area_scale}
    return _assemble(categories, images, kept, shapes, rule, source, progress)


def hash_of_image_ids(image_ids: Iterable[int]) -> str:
    """SHA-256 of the ids, ascending, as decimal text joined with commas: the published facts' hash."""
    return hashlib.sha256(",".join(str(int(i)) for i in sorted(image_ids)).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class VerifyReport:
    """How an index compares with the published COCO-SEG list. ``mismatches``: one line each, empty if equal."""

    matching_categories: int
    mismatches: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.mismatches

    def __str__(self) -> str:
        if self.ok:
            return f"verified: all {self.matching_categories} categories agree with the published counts and hashes"
        head = f"{self.matching_categories} categories agree with the published list; what differs:"
        return "\n  ".join((head, *self.mismatches))


def published_counts() -> dict[str, Any]:
    """The published facts about COCO-SEG: count and hash of image ids per COCO category id, and totals."""
    return load_facts("coco_seg_counts")


def verify(index: CocoSegIndex) -> VerifyReport:
    """Compare the images of every category, and the totals, with the published COCO-SEG list.

    Counts and hashes are computed from the index's own image lists, not read from it.
    """
    facts = published_counts()
    expected = {int(key): value for key, value in facts["categories"].items()}
    names = dict(zip(index.category_ids, index.category_names))
    found = dict(zip(index.category_ids, index.images_of_categories()))
    mismatches = []
    for category in sorted(expected.keys() | found.keys()):
        label = f"{names.get(category) or expected[category]['name']} (id {category})"
        if category not in found:
            mismatches.append(f"{label}: missing, {expected[category]['images']} images expected")
        elif category not in expected:
            mismatches.append(f"{label}: not in the published list, got {len(found[category])} images")
        elif len(found[category]) != expected[category]["images"]:
            mismatches.append(f"{label}: {expected[category]['images']} images expected, got {len(found[category])}")
        elif hash_of_image_ids(found[category]) != expected[category]["sha256"]:
            mismatches.append(f"{label}: the right number of images, but not the same ones (hash differs)")
    matching = len(expected.keys() | found.keys()) - len(mismatches)
    for what, want, got in (
        ("(category, image) pairs", facts["total_pairs"], index.num_pairs),
        ("distinct images", facts["distinct_images"], index.num_images),
    ):
        if want != got:
            mismatches.append(f"in all: {want} {what} expected, got {got}")
    return VerifyReport(matching, tuple(mismatches))


def _check_options(min_area: float, min_images: int, area_scale: str) -> None:
    if not min_area >= 0:
        raise ConfigError(f"min_area: a number >= 0 was expected, got {min_area}")
    if min_images < 1:
        raise ConfigError(f"min_images: an integer >= 1 was expected, got {min_images}")
    if area_scale not in AREA_SCALES:
        raise ConfigError(f"area_scale: one of {', '.join(AREA_SCALES)} was expected, got {area_scale!r}")


def _read_annotations(path: Path, area_scale: str) -> _Annotations:
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
    except ValueError as error:
        raise DataError(f"{path}: COCO annotations (JSON) were expected ({error}); download the file again") from None
    del raw
    try:
        return _Annotations(
            categories=_category_names(document["categories"]),
            images=_image_records(document["images"], area_scale),
            instances=document["annotations"],
            sha256=sha256,
        )
    except KeyError as error:
        raise DataError(f"{path}: no {error} where COCO's instance format has one; give an instance annotation "
                        "file such as instances_train2017.json") from None
    except (TypeError, AttributeError, _Inconsistent) as error:
        raise DataError(f"{path}: not in COCO's instance format ({error}); mend the file") from None


class _Inconsistent(Exception):
    """The annotation file contradicts itself; turned into a DataError that names the file."""


def _category_names(records: list[dict[str, Any]]) -> dict[int, str]:
    names = {int(record["id"]): canonical_category(record["name"]) for record in records}
    if len(names) < len(records):
        raise _Inconsistent("a category id occurs twice")
    twins = {name for name in names.values() if list(names.values()).count(name) > 1}
    if twins:
        raise _Inconsistent(f"two categories are both called {min(twins)!r}")
    return names


def _image_records(records: list[dict[str, Any]], area_scale: str) -> dict[int, _ImageRecord]:
    images = {}
    for record in records:
        height, width = int(record["height"]), int(record["width"])
        if height < 1 or width < 1:
            raise _Inconsistent(f"image {record['id']} has the size {width}x{height}")
        factor = 1.0
        if area_scale == "auto" and "orig_width" in record and "orig_height" in record:
            factor = record["orig_width"] * record["orig_height"] / (width * height)
        images[int(record["id"])] = _ImageRecord(str(record["file_name"]), height, width, factor)
    if len(images) < len(records):
        raise _Inconsistent("an image id occurs twice")
    return images


def _apply_rule(coco: _Annotations, path: Path, min_area: float, min_images: int) -> dict[int, set[int]]:
    """Category id -> ids of its qualifying images, for the categories that stay, by ascending id."""
    qualifying: dict[int, set[int]] = defaultdict(set)
    for instance in coco.instances:
        try:
            image, category = coco.images[instance["image_id"]], instance["category_id"]
            if not instance.get("iscrowd", 0) and instance["area"] * image.area_factor > min_area:
                qualifying[category].add(instance["image_id"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: an annotation lacks a field or names an image that is not listed "
                            f"({type(error).__name__}: {error}); give a complete COCO instance file") from None
    unknown = qualifying.keys() - coco.categories.keys()
    if unknown:
        raise DataError(f"{path}: annotations of category {min(unknown)}, which the file does not list; mend the file")
    return {c: qualifying[c] for c in sorted(qualifying) if len(qualifying[c]) >= min_images}


def _shapes_of_pairs(coco: _Annotations, kept: dict[int, set[int]]) -> dict[tuple[int, int], list[Any]]:
    """(image id, category id) -> the segmentations of all its annotations, for the kept pairs."""
    shapes: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for instance in coco.instances:
        image_id, category = instance["image_id"], instance["category_id"]
        if image_id in kept.get(category, ()):
            shapes[image_id, category].append(instance.get("segmentation"))
    return shapes


def _assemble(
    categories: dict[int, str],
    images: dict[int, _ImageRecord],
    kept: dict[int, set[int]],
    shapes: dict[tuple[int, int], list[Any]],
    rule: dict[str, Any],
    source: dict[str, Any],
    progress: Progress | None,
) -> CocoSegIndex:
    image_ids = sorted(set().union(*kept.values()))
    per_image, pair_categories, codes = [], [], []
    for done, image_id in enumerate(image_ids):
        present = [(position, c) for position, c in enumerate(kept) if image_id in kept[c]]
        for position, category in present:
            pair_categories.append(position)
            codes.append(_draw(shapes.pop((image_id, category)), images[image_id], image_id, categories[category]))
        per_image.append(len(present))
        if progress and (done + 1) % 1000 == 0:
            progress(done + 1, len(image_ids))
    return CocoSegIndex(
        category_ids=tuple(kept),
        category_names=tuple(categories[c] for c in kept),
        image_ids=np.array(image_ids, dtype=np.int64),
        file_names=tuple(images[i].file_name for i in image_ids),
        sizes=np.array([(images[i].height, images[i].width) for i in image_ids], dtype=np.int32),
        pair_offsets=offsets_of(per_image),
        pair_categories=np.array(pair_categories, dtype=np.int32),
        code_offsets=offsets_of([len(code) for code in codes]),
        codes=b"".join(codes),
        rule=rule,
        source=source,
    )


def _draw(segmentations: list[Any], image: _ImageRecord, image_id: int, category: str) -> bytes:
    """The union of one category's annotations in one image, as a compressed run-length code."""
    mask_codec = import_mask_codec()
    where = f"image {image_id} ({image.file_name}), category {category!r}"
    drawn: list[dict[str, Any]] = []
    for segmentation in segmentations:
        try:
            drawn += _run_lengths(segmentation, image, mask_codec)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{where}: a segmentation cannot be drawn ({error}); mend the annotation") from None
    union = mask_codec.merge(drawn) if drawn else None
    if union is None or mask_codec.area(union) == 0:
        raise DataError(f"{where}: an area but not one drawn pixel; give annotations with segmentations, not boxes")
    return union["counts"]


def _run_lengths(segmentation: Any, image: _ImageRecord, mask_codec) -> list[dict[str, Any]]:
    if not segmentation:
        return []
    if isinstance(segmentation, dict):  # a crowd region: run lengths, plain or compressed
        if list(segmentation["size"]) != [image.height, image.width]:
            raise ValueError(f"size {segmentation['size']}, [{image.height}, {image.width}] was expected")
        return [mask_codec.frPyObjects(segmentation, image.height, image.width)]
    # Fewer than three points enclose nothing, and pycocotools would read four numbers as a box.
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    return mask_codec.frPyObjects(polygons, image.height, image.width) if polygons else []
