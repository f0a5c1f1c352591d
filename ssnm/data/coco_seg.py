"""COCO-SEG, built from COCO's instance annotations and proven against the published counts.

The rule (Wang et al., AAAI 2019, as the SSNM paper uses it): category c keeps image i if i has at least one
non-crowd instance of c whose area is above `min_area`; categories with fewer than `min_images` such images
are dropped. The mask of a kept (image, category) pair is the union of *all* its annotations, crowd and small
ones included. On instances_train2017.json the defaults give 78 categories and 200,932 pairs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError, DataError
from ..facts import load_facts
from ..files.progress import Progress
from ..files.shapes import drawn_codes, empty_parts, import_mask_codec
from ..naming import counted
from .coco_file import Annotations, AreaDoubts, ImageRecord, read_annotations
from .coco_index import CocoSegIndex, offsets_of

AREA_SCALES = ("auto", "none")


class _Shape(NamedTuple):
    """One annotation that will be drawn; name: what an error calls it."""

    name: str
    segmentation: Any
    area: float
    crowd: bool


def build_index(
    annotations: str | Path,
    *,
    min_area: float = 4000.0,
    min_images: int = 100,
    area_scale: str = "auto",
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> CocoSegIndex:
    """Apply the COCO-SEG rule to a COCO instance annotation file.

    Args:
        annotations: a file in COCO's instance format.
        min_area: an instance counts if its area at the original resolution is above this, in pixels.
        min_images: a category stays if at least so many images qualify for it.
        area_scale: ``auto`` scales an area back to the original resolution where the image record carries
            ``orig_width`` and ``orig_height``; ``none`` takes areas as they are written.
        progress: called with (images done, images in all) while masks are drawn.
        say: told, in one line each, what does not stop the work but may not be meant.

    Raises:
        MissingFileError: no such file.
        ConfigError: an option out of range.
        DataError: the file is not COCO instance annotations, or no category passes the rule.
    """
    _check_options(min_area, min_images, area_scale)
    path = Path(annotations)
    coco = read_annotations(path, area_scale)
    kept = _apply_rule(coco, min_area, min_images)
    if not kept:
        raise DataError(f"{path}: no category has {counted(min_images, 'image')} with an instance of area > "
                        f"{min_area:g}; lower --min-images or --min-area")
    shapes = _shapes_of_pairs(coco, kept)
    # The parsed annotations are dropped here except for the shapes that will be drawn.
    categories, images = coco.categories, coco.images
    source = {"file_name": path.name, "sha256": coco.sha256}
    del coco
    rule = {"min_area": float(min_area), "min_images": int(min_images), "area_scale": area_scale}
    doubts = AreaDoubts()
    index = _assemble(categories, images, kept, shapes, rule, source, progress, doubts)
    for line in doubts.lines():
        say(line)
    return index


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
        head = f"{counted(self.matching_categories, 'category', 'categories')} as in the published list; what differs:"
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
            mismatches.append(f"{label}: not in the published list, got {counted(len(found[category]), 'image')}")
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


def _apply_rule(coco: Annotations, min_area: float, min_images: int) -> dict[int, set[int]]:
    """Category id -> ids of its qualifying images, for the categories that stay, by ascending id."""
    qualifying: dict[int, set[int]] = defaultdict(set)
    for instance in coco.instances:
        if not instance.get("iscrowd", 0):
            area = instance["area"] * coco.images[instance["image_id"]].area_factor
            if area > min_area:
                qualifying[instance["category_id"]].add(instance["image_id"])
    return {c: qualifying[c] for c in sorted(qualifying) if len(qualifying[c]) >= min_images}


def _shapes_of_pairs(coco: Annotations, kept: dict[int, set[int]]) -> dict[tuple[int, int], list[_Shape]]:
    """(image id, category id) -> the shapes of all its annotations, for the kept pairs."""
    shapes: dict[tuple[int, int], list[_Shape]] = defaultdict(list)
    for instance in coco.instances:
        pair = instance["image_id"], instance["category_id"]
        if pair[0] in kept.get(pair[1], ()):
            crowd = bool(instance.get("iscrowd", 0))
            shapes[pair].append(_Shape(coco.name_of(instance), instance.get("segmentation"), instance["area"], crowd))
    return shapes


def _assemble(
    categories: dict[int, str],
    images: dict[int, ImageRecord],
    kept: dict[int, set[int]],
    shapes: dict[tuple[int, int], list[_Shape]],
    rule: dict[str, Any],
    source: dict[str, Any],
    progress: Progress | None,
    doubts: AreaDoubts,
) -> CocoSegIndex:
    image_ids = sorted(set().union(*kept.values()))
    per_image, pair_categories, codes = [], [], []
    for done, image_id in enumerate(image_ids):
        present = [(position, c) for position, c in enumerate(kept) if image_id in kept[c]]
        for position, category in present:
            pair_categories.append(position)
            found = shapes.pop((image_id, category))
            codes.append(_draw(found, images[image_id], categories[category], doubts))
        per_image.append(len(present))
        if progress:
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


def _draw(shapes: list[_Shape], image: ImageRecord, category: str, doubts: AreaDoubts) -> bytes:
    """The union of one category's annotations in one image, as a compressed run-length code."""
    codec = import_mask_codec()
    size = (image.height, image.width)
    drawn: list[dict[str, Any]] = []
    for shape in shapes:
        codes = drawn_codes(shape.segmentation, size, shape.name, shape.area)
        if not shape.crowd:
            doubts.compare(shape.name, shape.area, float(codec.area(codec.merge(codes))) if codes else 0.0)
        doubts.empty_parts += empty_parts(shape.segmentation)
        drawn += codes
    union = codec.merge(drawn) if drawn else None
    if union is None or codec.area(union) == 0:
        raise DataError(f"{shapes[0].name}, category {category!r}: an area but not one drawn pixel; give annotations "
                        "with segmentations, not boxes")  # fmt: skip
    return union["counts"]
