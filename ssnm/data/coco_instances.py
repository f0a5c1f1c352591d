"""Instances of a COCO annotation file, and groups of images made of them by a rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, MissingFileError
from .coco_file import AreaDoubts, read_annotations


@dataclass(frozen=True)
class GroupRule:
    """Which images make a group of a category.

    An image takes part with the annotations of the category that are no crowd and cover at least `min_share` of it,
    if they are 1 to `max_instances`, the largest covers at least `largest_share`, and no crowd of the category is in
    it. A category with fewer than `min_images` such images makes no group; of more than `max_images` the first by id
    are taken (0: all).
    """

    min_share: float = 0.01
    largest_share: float = 0.02
    max_instances: int = 10
    min_images: int = 8
    max_images: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.min_share <= self.largest_share < 1):
            raise ConfigError(f"shares of the image: 0 <= min_share <= largest_share < 1 is needed, got "
                              f"{self.min_share} and {self.largest_share}")  # fmt: skip
        if self.max_instances < 1 or self.min_images < 1 or self.max_images < 0:
            raise ConfigError("max_instances and min_images must be at least 1, max_images not negative")

    def describe(self) -> str:
        return (f"non-crowd annotations of the category with area >= {self.min_share:.1%} of the image; images with 1 "
                f"to {self.max_instances} of them, the largest >= {self.largest_share:.1%}, and no crowd annotation of "
                f"that category; categories with >= {self.min_images} such images"
                + (f", at most {self.max_images}" if self.max_images else ""))  # fmt: skip


class CocoInstances:
    """A COCO instance file as :func:`ssnm.data.coco_file.read_annotations` reads and checks it, by image.

    Raises:
        MissingFileError, DataError: no such file, not in COCO's format, or annotations whose ids are not their own.
    """

    def __init__(self, path: str | Path) -> None:
        self._coco = read_annotations(path)
        self.path, self.images, self.categories = self._coco.path, self._coco.images, self._coco.categories
        self._of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        seen: set[int] = set()
        for annotation in self._coco.instances:
            number = annotation.get("id")
            if isinstance(number, bool) or not isinstance(number, int) or number in seen:
                raise DataError(f"{self._coco.name_of(annotation)}: groups name annotations by id; a whole number that "
                                "no other one has is needed")  # fmt: skip
            seen.add(number)
            self._of_image[annotation["image_id"]].append(annotation)

    def file_name(self, image_id: int) -> str:
        if image_id not in self.images:
            raise DataError(f"{self.path}: has no image {image_id}, which a group names; do they belong together?")
        return self.images[image_id].file_name

    def annotations(self, image_id: int) -> list[dict[str, Any]]:
        return self._of_image.get(image_id, [])

    def size(self, image_id: int) -> tuple[int, int]:
        """(height, width)"""
        return self.images[image_id].height, self.images[image_id].width

    def masks(self, image_id: int, annotation_ids: frozenset[int]) -> np.ndarray:
        """Those annotations of an image, drawn: (g, H, W) bool at the annotated size."""
        drawn = [self.draw(a) for a in self.annotations(image_id) if a["id"] in annotation_ids]
        return np.stack(drawn) if drawn else np.zeros((0, *self.size(image_id)), dtype=bool)

    def draw(self, annotation: dict[str, Any]) -> np.ndarray:
        """One annotation as a mask (H, W) bool.

        Raises:
            DataError: run lengths or polygons that cannot be drawn, or of which nothing is in the image.
        """
        mask = self._coco.draw(annotation)
        if not mask.any():
            raise DataError(f"{self._coco.name_of(annotation)}: draws not one pixel; polygons of three or more points "
                            "or run lengths, inside the image, were expected")  # fmt: skip
        return mask

    def doubts(self, annotation_ids: Collection[int]) -> list[str]:
        """Draws these annotations, and tells of those whose area is far from the one that they state."""
        doubts = AreaDoubts()
        for annotation in self._coco.instances:
            if annotation["id"] in annotation_ids:
                doubts.compare(self._coco.name_of(annotation), annotation["area"], float(self.draw(annotation).sum()))
        return doubts.lines()


def groups_by_rule(coco: CocoInstances, rule: GroupRule) -> dict[str, tuple[list[int], list[int]]]:
    """Name of category -> ids of the images and annotations of its group, by ascending id of category and image.

    Raises:
        DataError: no category makes a group.
    """
    groups: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for image_id in sorted(coco.images):
        height, width = coco.size(image_id)
        by_category = defaultdict(list)
        for annotation in coco.annotations(image_id):
            by_category[annotation["category_id"]].append(annotation)
        for category, own in by_category.items():
            shares = {a["id"]: a["area"] / (height * width) for a in own if not a.get("iscrowd", 0)}
            counted = {number: share for number, share in shares.items() if share >= rule.min_share}
            crowd = len(shares) < len(own)
            if not crowd and 1 <= len(counted) <= rule.max_instances and max(counted.values()) >= rule.largest_share:
                groups[category][0].append(image_id)
                groups[category][1].extend(counted)
    found = {}
    for category in sorted(groups):
        images, annotations = groups[category]
        if len(images) >= rule.min_images:
            images = images[: rule.max_images or None]
            inside = {a["id"] for i in images for a in coco.annotations(i)}
            found[coco.categories[category]] = (images, sorted(inside.intersection(annotations)))
    if not found:
        raise DataError(f"{coco.path}: no category makes a group by the rule: {rule.describe()}")
    return found


def find_annotations(root: Path) -> Path:
    """The one instance file of a COCO folder.

    Raises:
        MissingFileError, DataError: none, or several.
    """
    places = sorted([*root.glob("instances_*.json"), *(root / "annotations").glob("instances_*.json")])
    if len(places) != 1:
        wanted = "instances_*.json, or annotations/instances_*.json"
        kind = MissingFileError if not places else DataError
        raise kind(f"{root}: one file {wanted} was expected, got {', '.join(p.name for p in places) or 'none'}")
    return places[0]


def find_images(root: Path) -> Path:
    """The folder of images of a COCO folder: images, train2017, val2017, or the root itself."""
    return next((root / name for name in ("images", "train2017", "val2017") if (root / name).is_dir()), root)
