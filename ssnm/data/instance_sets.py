"""Test sets of instance co-segmentation: groups of images of one category, with a mask for each object.

instance_folder, the layout of the official DeepCO3 code:

    ROOT/Image/<class>/<name>.jpg               one class folder is one group; any suffix that Pillow reads
    ROOT/Mask/<class>/<name>_InstID*.png        one binary mask per object, of the image's size; optional as a whole

coco_instances: a COCO annotation file, a folder of images, and groups: a JSON file {"groups": {name: {"images": ids,
"annotation_ids": ids}}} as `ssnm datasets instances` writes it, or made by its rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DataError, MissingFileError, UserError
from ..files.listing import all_problems, list_folders, list_images, plain_stem, shorten
from ..files.masks import read_binary
from ..files.places import inside
from ..naming import counted
from .coco_instances import CocoInstances, GroupRule, find_annotations, find_images, groups_by_rule

INSTANCE_SETS = ("instance_folder", "coco_instances")
MASK_MARK = "_InstID"
GROUPS_FILE = "groups.json"


@dataclass(frozen=True)
class InstanceGroup:
    """A group. name: of its category; paths: of its images; truth: index -> (g, H, W) bool, None where there is none.

    saliency, proposals: folders of the group's own maps and masks in the official layout, where they are there.
    """

    name: str
    paths: tuple[Path, ...]
    truth: Callable[[int], np.ndarray] | None
    saliency: Path | None = None
    proposals: Path | None = None

    def __len__(self) -> int:
        return len(self.paths)


def half_of(groups: Sequence[InstanceGroup], which: Literal["odd", "even"]) -> list[InstanceGroup]:
    """Half of the groups, counted from 1: "even" to report, "odd" to choose settings on, from which every image that an
    even group also holds is left out, and groups that keep fewer than two images."""
    even = list(groups[1::2])
    if which == "even":
        return even
    reported = {path for group in even for path in group.paths}
    odd = []
    for group in groups[0::2]:
        kept = [i for i, path in enumerate(group.paths) if path not in reported]
        if len(kept) > 1:
            truth = None if group.truth is None else _part_of(group.truth, kept)
            odd.append(replace(group, paths=tuple(group.paths[i] for i in kept), truth=truth))
    return odd


def _part_of(truth: Callable[[int], np.ndarray], kept: Sequence[int]) -> Callable[[int], np.ndarray]:
    return lambda index: truth(kept[index])


def read_instance_set(name: str, root: str | Path, groups: str | Path | None = None) -> list[InstanceGroup]:
    """The groups of a test set, in order.

    Args:
        name: one of `INSTANCE_SETS`.
        root: its folder.
        groups: coco_instances: the file of groups; None: ROOT/groups.json, or the rule's.

    Raises:
        MissingFileError, DataError: folders or files that are not there or not what they should be.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; the root of {name} was expected")
    return read_folder_groups(root) if name == "instance_folder" else read_coco_groups(root, groups)


def read_folder_groups(root: Path) -> list[InstanceGroup]:
    """The official layout; see the top of this file. Masks are there for every image or for none."""
    images = _folder(root, "Image", "image", "images")
    if images is None:
        raise MissingFileError(f"{root}: no folder Image in it; ROOT/Image/<class>/<name>.jpg was expected")
    masks = _folder(root, "Mask", "mask", "masks")
    saliency = next((f for f in list_folders(root) if f.name.lower().startswith("salres")), None)
    proposals = next((f for f in list_folders(root) if f.name.lower().startswith("mcg")), None)
    groups = []
    for folder in list_folders(images):
        paths = tuple(list_images(folder))
        if not paths:
            continue
        truth = None if masks is None else _FolderTruth(paths, masks / folder.name)
        own = [place / folder.name if place and (place / folder.name).is_dir() else None
               for place in (saliency, proposals)]  # fmt: skip
        groups.append(InstanceGroup(folder.name, paths, truth, *own))
    if not groups:
        raise DataError(f"{images}: no class folder with images in it")
    return groups


def read_coco_groups(root: Path, groups: str | Path | None = None) -> list[InstanceGroup]:
    """Groups of a COCO annotation file."""
    coco, images = CocoInstances(find_annotations(root)), find_images(root)
    file = Path(groups) if groups is not None else root / GROUPS_FILE
    if groups is not None or file.is_file():
        wanted = read_groups(file)
    else:
        wanted = groups_by_rule(coco, GroupRule())
    found = []
    for name, (image_ids, annotation_ids) in wanted.items():
        paths = tuple(inside(images, coco.file_name(i)) for i in image_ids)
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise MissingFileError(f"{images}: {counted(len(missing), 'image')} of group {name} not there: "
                                   f"{shorten(missing)}")
        found.append(InstanceGroup(name, paths, _CocoTruth(coco, image_ids, frozenset(annotation_ids))))
    return found


def require_truths(groups: Sequence[InstanceGroup]) -> None:
    """Read every true mask, before the work that is to be scored with them.

    Raises:
        DataError: naming all images whose masks cannot be used.
    """
    problems = []
    for group in groups:
        for index in range(len(group)) if group.truth is not None else ():
            try:
                group.truth(index)
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise DataError(all_problems(problems, sum(map(len, groups)), "images' true masks"))


def read_groups(file: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Name -> ids of images and of annotations.

    Raises:
        MissingFileError, DataError: no such file, or not one of groups.
    """
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file of groups; ssnm datasets instances writes one")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        groups = {name: (list(g["images"]), list(g["annotation_ids"])) for name, g in document["groups"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: groups {{name: {{images, annotation_ids}}}} were expected "
                        f"({type(error).__name__}: {error})") from None  # fmt: skip
    if not groups:
        raise DataError(f"{file}: holds no group")
    for name, (images, objects) in groups.items():
        if not images or not all(isinstance(i, int) for i in (*images, *objects)):
            raise DataError(f"{file}: group {name} needs images and annotation_ids that are lists of whole numbers")
    return groups


@dataclass(frozen=True)
class _FolderTruth:
    paths: Sequence[Path]
    folder: Path

    def __call__(self, index: int) -> np.ndarray:
        stem = plain_stem(self.paths[index])
        files = [p for p in list_images(self.folder) if plain_stem(p).startswith(f"{stem}{MASK_MARK}")] \
            if self.folder.is_dir() else []  # fmt: skip
        if not files:
            raise MissingFileError(f"{self.folder}: no mask {stem}{MASK_MARK}*.png; every image needs one per object")
        masks = [read_binary(file).object for file in files]
        blank = [file.name for file, mask in zip(files, masks) if not mask.any()]
        if blank:
            raise DataError(f"{self.folder / blank[0]}: shows no object, but would count as one that is never found; "
                            "remove the file")  # fmt: skip
        if len({mask.shape for mask in masks}) > 1:
            raise DataError(f"{self.folder}: masks of {stem} differ in size; all have that of the image")
        return np.stack(masks)


@dataclass(frozen=True)
class _CocoTruth:
    coco: CocoInstances
    image_ids: Sequence[int]
    annotation_ids: frozenset[int]

    def __call__(self, index: int) -> np.ndarray:
        return self.coco.masks(self.image_ids[index], self.annotation_ids)


def _folder(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
