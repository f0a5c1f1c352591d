"""The COCO-SEG index: a JSON file in COCO's own format that, with the images, is all that training on COCO needs.

Made by :mod:`ssnm.data.coco_seg`, read by :mod:`ssnm.data.coco`. It lists the images and categories that were kept and
one annotation per *pair*, an image and a category that it qualifies for, ordered by image id, then by category id. A
pair's segmentation is the union of all the category's annotations in the image, at annotated size, as COCO's
compressed run lengths; ``info`` holds the rule and the annotation file that it was applied to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.atomic import write_atomically
from ..files.shapes import import_mask_codec

_DESCRIPTION = "COCO-SEG"


@dataclass(frozen=True)
class CocoSegIndex:
    """Which images show which categories, and where; flat arrays, because loader workers share them with their
    parent, while 200,000 strings would be copied into each worker as their reference counts are touched.

    category_ids, category_names (C); image_ids, file_names (I); sizes (I, 2) annotated (height, width);
    pair_offsets (I + 1): the pairs of image i are ``pair_offsets[i]:pair_offsets[i + 1]``; pair_categories
    (pairs): positions in the category list; code_offsets (pairs + 1) into codes, the joined mask codes;
    rule: the options the index was built with; source: name and SHA-256 of the annotation file.
    """

    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    image_ids: np.ndarray
    file_names: tuple[str, ...]
    sizes: np.ndarray
    pair_offsets: np.ndarray
    pair_categories: np.ndarray
    code_offsets: np.ndarray
    codes: bytes
    rule: dict[str, Any]
    source: dict[str, Any]

    @property
    def num_images(self) -> int:
        return len(self.image_ids)

    @property
    def num_pairs(self) -> int:
        return len(self.pair_categories)

    def categories_of(self, image: int) -> tuple[str, ...]:
        """Names of the categories that image number `image` qualifies for, by ascending COCO id."""
        start, stop = self.pair_offsets[image : image + 2]
        return tuple(self.category_names[c] for c in self.pair_categories[start:stop])

    def codes_of(self, image: int) -> Iterator[dict[str, Any]]:
        """The masks of image number `image` as COCO's compressed run lengths, one per category, in order."""
        size = self.sizes[image].tolist()
        for pair in range(*self.pair_offsets[image : image + 2].tolist()):
            yield {"size": size, "counts": self.codes[self.code_offsets[pair] : self.code_offsets[pair + 1]]}

    def masks_of(self, image: int) -> Iterator[np.ndarray]:
        """The masks (H0, W0) bool of image number `image` at annotation size, one per category, in order."""
        mask_codec = import_mask_codec()
        return (mask_codec.decode(code).astype(bool) for code in self.codes_of(image))

    def images_of_categories(self) -> list[np.ndarray]:
        """For each category the ids of its images, ascending."""
        pair_images = np.repeat(self.image_ids, np.diff(self.pair_offsets))
        return [np.sort(pair_images[self.pair_categories == c]) for c in range(len(self.category_ids))]


def write_index(index: CocoSegIndex, path: str | Path) -> None:
    """Write the index as JSON. The file appears whole or not at all: an interrupted write leaves the old one.

    Raises:
        DataError: the file cannot be written.
    """
    images, annotations = [], []
    for i, (image_id, name) in enumerate(zip(index.image_ids.tolist(), index.file_names)):
        height, width = index.sizes[i].tolist()
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        first, stop = index.pair_offsets[i : i + 2]
        for position, code in zip(index.pair_categories[first:stop], index.codes_of(i)):
            segmentation = {**code, "counts": code["counts"].decode("ascii")}
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0,
                                "category_id": index.category_ids[position], "segmentation": segmentation})
    document = {
        "info": {"description": _DESCRIPTION, "rule": index.rule, "source": index.source},
        "categories": [{"id": i, "name": n} for i, n in zip(index.category_ids, index.category_names)],
        "images": images,
        "annotations": annotations,
    }
    write_atomically(path, json.dumps(document, separators=(",", ":")))


def read_index(path: str | Path) -> CocoSegIndex:
    """Read an index written by :func:`write_index`.

    Raises:
        MissingFileError: no such file.
        DataError: not JSON, not an index (or one of version 0.1), or a damaged one.
    """
    path, build = Path(path), f"ssnm datasets coco-seg ANNOTATIONS --out {path}"
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such index; make it with: {build}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give an index made with: {build}") from None
    except ValueError as error:
        raise DataError(f"{path}: a COCO-SEG index (JSON) was expected ({error}); build it again: {build}") from None
    info = document.get("info") if isinstance(document, dict) else None
    if not isinstance(info, dict) or info.get("description") != _DESCRIPTION:
        raise DataError(f"{path}: not a COCO-SEG index of this version; make one with: {build}")
    try:
        return _from_document(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: the index is damaged ({type(error).__name__}: {error}); build it again: {build}"
        ) from None


def _from_document(document: dict[str, Any]) -> CocoSegIndex:
    categories, images, annotations = document["categories"], document["images"], document["annotations"]
    column = {int(c["id"]): k for k, c in enumerate(categories)}
    row = {int(image["id"]): i for i, image in enumerate(images)}
    sizes = [[int(image["height"]), int(image["width"])] for image in images]
    pair_images = np.array([row[a["image_id"]] for a in annotations], dtype=np.int64)
    per_image = np.bincount(pair_images, minlength=len(images))
    if len(row) < len(images) or not per_image.all() or (np.diff(pair_images) < 0).any():
        raise ValueError("annotations are missing, or not in the order of the images")
    codes = [a["segmentation"]["counts"].encode("ascii") for a in annotations]
    if not all(codes) or any(a["segmentation"]["size"] != sizes[i] for a, i in zip(annotations, pair_images)):
        raise ValueError("a mask is empty or not of its image's size")
    return CocoSegIndex(
        category_ids=tuple(column),
        category_names=tuple(str(c["name"]) for c in categories),
        image_ids=np.array(list(row), dtype=np.int64),
        file_names=tuple(str(image["file_name"]) for image in images),
        sizes=np.array(sizes, dtype=np.int32).reshape(-1, 2),
        pair_offsets=offsets_of(per_image),
        pair_categories=np.array([column[a["category_id"]] for a in annotations], dtype=np.int32),
        code_offsets=offsets_of([len(code) for code in codes]),
        codes=b"".join(codes),
        rule=document["info"]["rule"],
        source=document["info"]["source"],
    )


def offsets_of(lengths: list[int] | np.ndarray) -> np.ndarray:
    """Where each of several joined runs begins, and where the last one ends: (len(lengths) + 1,) int64."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
