"""The COCO-SEG index: one JSON file that, with the images, is all that training on COCO needs.

Written by :mod:`ssnm.data.coco_seg`, read by :mod:`ssnm.data.coco_source`. A *pair* is one image and one
category that it qualifies for; pairs are ordered by image id, then by category id. Each pair carries the
union of all the category's annotations in the image, drawn at annotation size and run-length encoded in
COCO's compressed form. In memory everything is a handful of flat arrays and one ``bytes`` object, so that
loader workers share it with their parent: a list of 200,000 Python strings would be copied into each worker
page by page as its reference counts are touched.

File layout (version 1), every list flat:
    categories   [{"id", "name"}], ascending id
    images       {"id", "file_name", "width", "height"}: one list each, ascending id
    pairs        {"per_image": number of categories of each image, "category": position in `categories`}
    masks        {"lengths": length of each pair's code, "codes": all codes joined into one ASCII string}
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

FORMAT = "ssnm-coco-seg"
VERSION = 1


@dataclass(frozen=True)
class CocoSegIndex:
    """Which images show which categories, and where.

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

    def masks_of(self, image: int) -> Iterator[np.ndarray]:
        """The masks (H0, W0) bool of image number `image` at annotation size, one per category, in order."""
        mask_codec = import_mask_codec()
        size = [int(side) for side in self.sizes[image]]
        for pair in range(*(int(p) for p in self.pair_offsets[image : image + 2])):
            code = self.codes[self.code_offsets[pair] : self.code_offsets[pair + 1]]
            yield mask_codec.decode({"size": size, "counts": code}).astype(bool)

    def images_of_categories(self) -> list[np.ndarray]:
        """For each category the ids of its images, ascending."""
        pair_images = np.repeat(self.image_ids, np.diff(self.pair_offsets))
        return [np.sort(pair_images[self.pair_categories == c]) for c in range(len(self.category_ids))]


def write_index(index: CocoSegIndex, path: str | Path) -> None:
    """Write the index as JSON. The file appears whole or not at all: an interrupted write leaves the old one.

    Raises:
        DataError: the file cannot be written.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "source": index.source,
        "rule": index.rule,
        "categories": [{"id": i, "name": n} for i, n in zip(index.category_ids, index.category_names)],
        "images": {
            "id": index.image_ids.tolist(),
            "file_name": list(index.file_names),
            "width": index.sizes[:, 1].tolist(),
            "height": index.sizes[:, 0].tolist(),
        },
        "pairs": {"per_image": np.diff(index.pair_offsets).tolist(), "category": index.pair_categories.tolist()},
        "masks": {"lengths": np.diff(index.code_offsets).tolist(), "codes": index.codes.decode("ascii")},
    }
    write_atomically(path, json.dumps(document, separators=(",", ":")).encode("utf-8"))


def read_index(path: str | Path) -> CocoSegIndex:
    """Read an index written by :func:`write_index`.

    Raises:
        MissingFileError: no such file.
        DataError: not JSON, not an index, an index of another version, or a damaged one.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such index; make it with: ssnm datasets coco-seg ANNOTATIONS "
                               f"--out {path}") from None
    except ValueError as error:
        raise DataError(f"{path}: a COCO-SEG index (JSON) was expected ({error}); build it again") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"{path}: not a COCO-SEG index; make one with: ssnm datasets coco-seg ANNOTATIONS --out INDEX")
    if document.get("version") != VERSION:
        raise DataError(f"{path}: index of version {document.get('version')}, version {VERSION} was expected; "
                        "build it again with this release")
    try:
        index = _from_document(document)
        problem = _inconsistency(index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise DataError(f"{path}: the index is damaged ({problem}); build it again")
    return index


def _from_document(document: dict[str, Any]) -> CocoSegIndex:
    categories, images, pairs, masks = (document[key] for key in ("categories", "images", "pairs", "masks"))
    return CocoSegIndex(
        category_ids=tuple(int(c["id"]) for c in categories),
        category_names=tuple(str(c["name"]) for c in categories),
        image_ids=np.array(images["id"], dtype=np.int64),
        file_names=tuple(images["file_name"]),
        sizes=np.array([images["height"], images["width"]], dtype=np.int32).T.reshape(-1, 2),
        pair_offsets=offsets_of(pairs["per_image"]),
        pair_categories=np.array(pairs["category"], dtype=np.int32),
        code_offsets=offsets_of(masks["lengths"]),
        codes=masks["codes"].encode("ascii"),
        rule=document["rule"],
        source=document["source"],
    )


def offsets_of(lengths: list[int] | np.ndarray) -> np.ndarray:
    """Where each of several joined runs begins, and where the last one ends: (len(lengths) + 1,) int64."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)


def _inconsistency(index: CocoSegIndex) -> str | None:
    images, pairs = len(index.image_ids), len(index.pair_categories)
    if not len(index.file_names) == len(index.sizes) == len(index.pair_offsets) - 1 == images:
        return "the lists of images differ in length"
    if not index.pair_offsets[-1] == len(index.code_offsets) - 1 == pairs:
        return "the lists of pairs differ in length"
    if index.code_offsets[-1] != len(index.codes):
        return f"mask codes of {index.code_offsets[-1]} bytes were expected, got {len(index.codes)}"
    if pairs and not 0 <= index.pair_categories.min() <= index.pair_categories.max() < len(index.category_ids):
        return "a category position is out of range"
    if (np.diff(index.pair_offsets) < 1).any() or (np.diff(index.code_offsets) < 1).any():
        return "an image without a category, or a category without a mask"
    return None
