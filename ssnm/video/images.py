"""Single images as training data of stage 1: every object of every image is a track of one frame.

COCO's instance annotations, PASCAL VOC's layout, and processed folders with or without instance masks.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..data.coco_file import Annotations, AreaDoubts, read_annotations
from ..errors import DataError, MissingFileError
from ..files.components import component_masks
from ..files.ids import VOID
from ..files.listing import images_by_stem, list_folders, shorten
from ..files.masks import read_binary, read_ids
from ..files.parallel import in_threads
from ..files.shapes import draw
from ..naming import counted
from .tracks import PackedMask, StillTrack, require_tracks

COMPARED = 200  # annotations whose drawn area is compared with the stated one: scaled files are wrong throughout


def coco_tracks(annotations: Sequence[Path], images: Path, min_area: float) -> list[StillTrack]:
    """The objects of COCO's instance annotations that are no crowd and cover more than `min_area` of their image.

    Raises:
        MissingFileError: a file of annotations, or the folder of images, or an image is missing.
        DataError: a file that holds no such annotations; no object is left.
    """
    tracks = [track for path in annotations for track in _coco_file(path, images, min_area)]
    where = ", ".join(map(str, annotations))
    require_tracks(tracks, where, f"annotations that are no crowd and cover more than {min_area:g} of their image")
    return tracks


def _coco_file(path: Path, images: Path, min_area: float) -> list[StillTrack]:
    coco = read_annotations(path)
    by_image = defaultdict(list)
    for annotation in coco.instances:
        record = coco.images[annotation["image_id"]]
        large = annotation["area"] > min_area * record.height * record.width
        if large and not annotation.get("iscrowd", 0):
            by_image[annotation["image_id"]].append(annotation)
    present = set(os.listdir(images)) if images.is_dir() else set()
    missing = [coco.images[i].file_name for i in by_image if coco.images[i].file_name not in present]
    if missing:
        raise MissingFileError(f"{images}: missing {len(missing)} of {counted(len(by_image), 'image')} of {path.name}: "
                               f"{shorten(missing)}")  # fmt: skip
    for line in _doubts(coco, [annotation for i in sorted(by_image) for annotation in by_image[i]]):
        warnings.warn(f"{path}: {line}", stacklevel=2)
    tracks = []
    for i in sorted(by_image):
        record = coco.images[i]
        for annotation in by_image[i]:
            read = partial(draw, annotation.get("segmentation"), (record.height, record.width),
                           coco.name_of(annotation), annotation["area"])  # fmt: skip
            stem = Path(record.file_name).stem
            tracks.append(StillTrack(f"{stem}/{annotation.get('id')}", stem, images / record.file_name, read))
    return tracks


def _doubts(coco: Annotations, instances: Sequence[dict]) -> list[str]:
    """What is odd about the areas of the first few annotations; those that cannot be drawn are named when they are."""
    doubts = AreaDoubts()
    for annotation in instances[:COMPARED]:
        try:
            doubts.compare(coco.name_of(annotation), annotation["area"], float(coco.draw(annotation).sum()))
        except DataError:
            continue
    return doubts.lines()


def voc_tracks(root: Path, image_list: str | None, min_area: float) -> list[StillTrack]:
    """The objects of a set in PASCAL VOC's layout.

    With a folder ``SegmentationObject`` its instances; otherwise the connected pieces of each class of
    ``SegmentationClass``. What covers no more than `min_area` of the image is left out. 255 is void.

    Raises:
        MissingFileError: a folder, list, image or mask is missing.
        DataError: no object is left.
    """
    instances = (root / "SegmentationObject").is_dir()
    folder = root / ("SegmentationObject" if instances else "SegmentationClass")
    images, masks = images_by_stem(root / "JPEGImages"), images_by_stem(folder)
    names = list(masks) if image_list is None else _listed(root, image_list)
    for kind, files, where in (("image", images, root / "JPEGImages"), ("mask", masks, folder)):
        missing = [name for name in names if name not in files]
        if missing:
            raise MissingFileError(f"{where}: missing {len(missing)} of {counted(len(names), f'{kind} file')}: "
                                   f"{shorten(missing)}")  # fmt: skip
    pieces = list(in_threads(lambda name: _pieces(read_ids(masks[name], classes=True), instances, min_area), names))
    tracks = [StillTrack(f"{name}/{number}", name, images[name], piece, partial(_void_of, masks[name]))
              for name, found in zip(names, pieces) for number, piece in enumerate(found)]  # fmt: skip
    require_tracks(tracks, str(root), f"objects that cover more than {min_area:g} of their image")
    return tracks


def _pieces(labels: np.ndarray, instances: bool, min_area: float) -> list[PackedMask]:
    """Each object of a label map: an index is one object (instances), or each of its connected pieces is one."""
    least = int(min_area * labels.size) + 1
    pieces = []
    for index in np.unique(labels):
        if index in (0, VOID):
            continue
        whole = labels == index
        pieces += [piece for piece in ([whole] if instances else component_masks(whole, least)) if piece.sum() >= least]
    return [PackedMask.of(piece) for piece in pieces]


def _void_of(path: Path) -> np.ndarray | None:
    void = read_ids(path, classes=True) == VOID
    return void if void.any() else None


def _listed(root: Path, image_list: str) -> list[str]:
    path = root / "ImageSets" / "Segmentation" / f"{image_list}.txt"
    if not path.is_file():
        raise MissingFileError(f"{path}: no such list of images; leave `list` out to take every mask that there is")
    return list(dict.fromkeys(Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()))


def processed_tracks(root: Path, min_area: float) -> list[StillTrack]:
    """The objects of processed folders: ``image/<class>/*`` with ``instances/<class>/*`` (k: instance k; 0: none), or
    where that folder is not there the connected pieces of ``groundtruth/<class>/*``.

    Raises:
        MissingFileError: a folder is missing, or an image has no mask.
        DataError: no object is left.
    """
    instances = (root / "instances").is_dir()
    truth = root / ("instances" if instances else "groundtruth")
    for folder in (root / "image", truth):
        if not folder.is_dir():
            raise MissingFileError(f"{folder}: no such folder; wanted image/<class>/* and instances/<class>/* or "
                                   "groundtruth/<class>/*")  # fmt: skip
    tracks = []
    for folder in list_folders(root / "image"):
        images, masks = images_by_stem(folder), images_by_stem(truth / folder.name)
        missing = [name for name in images if name not in masks]
        if missing:
            raise MissingFileError(f"{truth / folder.name}: {counted(len(missing), 'mask')} missing: "
                                   f"{shorten(missing)}")
        for name, file in images.items():
            path = masks[name]
            labels = read_ids(path, classes=True) if instances else read_binary(path).object.astype(np.uint8)
            tracks += [StillTrack(f"{folder.name}/{name}/{number}", f"{folder.name}/{name}", file, piece)
                       for number, piece in enumerate(_pieces(labels, instances, min_area))]  # fmt: skip
    require_tracks(tracks, str(root), f"objects that cover more than {min_area:g} of their image")
    return tracks
