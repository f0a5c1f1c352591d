"""Making groups for instance co-segmentation: a file of groups from COCO, the official layout from VOC."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.atomic import mask_png, write_atomically
from ..files.listing import images_by_stem
from ..files.masks import read_ids
from .coco_instances import CocoInstances, GroupRule, find_annotations, groups_by_rule
from .voc import VOC_CLASSES

Counts = dict[str, tuple[int, int]]  # group -> images, objects


def coco_groups(
    root: str | Path, out: str | Path, rule: GroupRule = GroupRule(), say: Callable[[str], None] = lambda line: None
) -> Counts:
    """Write the groups of a COCO folder as JSON; returns what they hold.

    say: told, in one line each, what does not stop the work but may not be meant.

    Raises:
        MissingFileError, DataError: no annotations, an object that cannot be drawn, or no category makes a group.
    """
    coco = CocoInstances(find_annotations(Path(root)))
    used = {a["category_id"] for i in coco.images for a in coco.annotations(i)}
    ids = {name: number for number, name in coco.categories.items() if number in used}
    groups = {
        name: {"category_id": ids[name], "images": images, "instances": len(objects), "annotation_ids": objects}
        for name, (images, objects) in groups_by_rule(coco, rule).items()
    }
    for line in coco.doubts({i for group in groups.values() for i in group["annotation_ids"]}):
        say(line)
    write_atomically(out, json.dumps({"rule": rule.describe(), "groups": groups}) + "\n")
    return {name: (len(group["images"]), group["instances"]) for name, group in groups.items()}


def voc_groups(root: str | Path, out: str | Path, rule: GroupRule = GroupRule()) -> Counts:
    """Write OUT/Image/<class>/NAME.jpg and OUT/Mask/<class>/NAME_InstID<k>.png from VOC's object masks.

    The rule is that of COCO; an object is an id of SegmentationObject, its class the one that most of its pixels have
    in SegmentationClass. VOC marks no crowds.

    Raises:
        MissingFileError, DataError: folders or files that are missing, or no class makes a group.
    """
    root, out = Path(root), Path(out)
    photographs, classes = (images_by_stem(root / part) for part in ("JPEGImages", "SegmentationClass"))
    members: dict[str, list[tuple[str, list[int]]]] = defaultdict(list)
    for stem, path in images_by_stem(root / "SegmentationObject").items():
        if stem not in photographs or stem not in classes:
            raise MissingFileError(f"{root}: {stem} is in SegmentationObject alone; its image and classes are needed")
        for category, objects in _objects(read_ids(path), read_ids(classes[stem], classes=True), rule).items():
            members[category].append((stem, objects))
    kept = {c: m[: rule.max_images or None] for c, m in sorted(members.items()) if len(m) >= rule.min_images}
    if not kept:
        raise DataError(f"{root}: no class makes a group by the rule: {rule.describe()}")
    for category, images in kept.items():
        (out / "Image" / category).mkdir(parents=True, exist_ok=True)
        for stem, objects in images:
            shutil.copyfile(photographs[stem], out / "Image" / category / photographs[stem].name)
            ids = read_ids(root / "SegmentationObject" / f"{stem}.png")
            for number in objects:
                place = out / "Mask" / category / f"{stem}_InstID{number}.png"
                write_atomically(place, mask_png(ids == number))
    return {c: (len(m), sum(len(objects) for _, objects in m)) for c, m in kept.items()}


def _objects(ids: np.ndarray, labels: np.ndarray, rule: GroupRule) -> dict[str, list[int]]:
    """Class -> ids of the objects with which an image takes part in its group; none where it does not."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for number in np.unique(ids[ids != 0]).tolist():
        share = float(np.count_nonzero(ids == number)) / ids.size
        label = int(np.bincount(labels[ids == number], minlength=256)[: len(VOC_CLASSES) + 1].argmax())
        if label and share >= rule.min_share:
            found[VOC_CLASSES[label - 1]][number] = share
    return {
        name: list(shares)
        for name, shares in found.items()
        if len(shares) <= rule.max_instances and max(shares.values()) >= rule.largest_share
    }
