"""Training sources read from folders: PASCAL VOC's layout, and the processed layout of the test sets.

Both implement :class:`ssnm.data.records.Source`. Masks are resized per category, bilinear with antialiasing, and
cut at one half; label maps (void) by nearest neighbour, so that no class number is ever invented.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, MissingFileError
from ..files.ids import VOID
from ..files.images import AMBIGUOUS, load_rgb
from ..files.listing import images_by_stem, shorten
from ..files.masks import read_binary, read_ids
from ..files.parallel import in_threads
from ..naming import canonical_category, counted
from .records import Item, Sample, TestImage
from .resizing import resize_image, resize_mask, resize_nearest
from .testsets import read_test_set
from .voc import VOC_CLASSES


class VocSource:
    """A segmentation set in PASCAL VOC's layout: ``JPEGImages/<id>.*`` and palette ``SegmentationClass/<id>.png``.

    A category counts for an image (stands in ``Item.categories``) when it covers at least `min_area_share` of
    the pixels: an object that is hardly to be seen cannot be what a group has in common. The default, 0.005,
    is 16 x 16 pixels at 224 x 224, one cell of a stride-16 map. The mask of a category that counts is all of its
    pixels, small instances included. A category that does not count is background wherever another category is
    the shared one, exactly like any other object that the group does not share; it is never a group's label,
    since a label must be among the categories of every image. Images without a counting category are left out.

    All masks are read once, in threads, when the source is made; nothing is written beside the data.

    Args:
        root: folder that holds ``JPEGImages`` and ``SegmentationClass``.
        image_list: a text file with one image name per line, or the name of one under
            ``ImageSets/Segmentation`` (``"train"``); None: every mask that there is.
        name: how the source is called in messages.
        min_area_share: see above, in [0, 1).
        class_names: name of palette index 1, 2, ...; VOC's twenty by default.

    Raises:
        MissingFileError: a folder, list, image or mask is missing.
        DataError: a mask is no index image or holds an index without a name; no image is left.
    """

    def __init__(
        self,
        root: str | Path,
        image_list: str | Path | None = None,
        name: str = "voc",
        min_area_share: float = 0.005,
        class_names: Sequence[str] = VOC_CLASSES,
    ):
        if not 0 <= min_area_share < 1:
            raise DataError(f"min_area_share must lie in [0, 1), got {min_area_share}; 0.005 is the default")
        self.name = name
        self._names = tuple(canonical_category(c) for c in class_names)
        ids, images, self._masks = _voc_files(Path(root), image_list)
        found = list(in_threads(lambda i: self._counting(i, min_area_share), ids))
        pairs = [(i, f) for i, f in zip(ids, found) if f]
        if not pairs:
            raise DataError(
                f"{root}: none of {counted(len(ids), 'mask')} shows a category on {min_area_share:g} or more of its "
                "area"
            )
        self.items = tuple(Item(i, images[i], tuple(self._names[k - 1] for k in indices)) for i, indices in pairs)
        self._indices = tuple(indices for _, indices in pairs)
        present = {k for indices in self._indices for k in indices}
        self.categories = tuple(dict.fromkeys(self._names[k - 1] for k in sorted(present)))

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Decode item `index` at `size` = (height, width); see :class:`ssnm.data.records.Sample`.

        Raises:
            MissingFileError, DataError: a file is missing, undecodable, or image and mask differ in size.
        """
        item = self.items[index]
        path = self._masks[item.name]
        labels = read_ids(path, classes=True)
        masks = [labels == k for k in self._indices[index]]
        return _sample(item, masks, labels == VOID, path, size)

    def _counting(self, name: str, min_area_share: float) -> tuple[int, ...]:
        """The palette indices that cover enough of the mask of image `name`, ascending."""
        labels = read_ids(self._masks[name], classes=True)
        counts = np.bincount(labels.ravel(), minlength=VOID + 1)
        counts[[0, VOID]] = 0
        unnamed = np.flatnonzero(counts[len(self._names) + 1 :])
        if unnamed.size:
            raise DataError(
                f"{self._masks[name]}: index {unnamed[0] + len(self._names) + 1} has no class name; "
                f"0..{len(self._names)} and {VOID} (void) were expected"
            )
        enough = counts >= max(1.0, min_area_share * labels.size)
        return tuple(int(k) for k in np.flatnonzero(enough))


class ProcessedSource:
    """A segmentation set in the processed layout: ``image/<class>/*`` and ``groundtruth/<class>/*``.

    A photograph that stands in several classes, as files of one name and the same bytes, is one item with the
    mask of each of them; every other (class, image) pair is one item with that one category. Masks follow the rule
    of :func:`ssnm.files.masks.read_binary`, which also says what is void. Files are
    listed when the source is made (images of one name and length are also compared) and decoded only by :meth:`load`.

    Args:
        root: folder that holds ``image`` and ``groundtruth``.
        name: how the source is called in messages.
        classes: the class folders to read; empty: all of them.

    Raises:
        MissingFileError: `root`, ``image`` or ``groundtruth`` is missing.
        DataError: an image without mask or a mask without image, two files of one stem, no class folders, or one of
            `classes` that is not there.
    """

    def __init__(self, root: str | Path, name: str = "processed", classes: Sequence[str] = ()):
        root = Path(root)
        for part in ("image", "groundtruth"):
            if not (root / part).is_dir():
                raise MissingFileError(
                    f"{root}: has no folder {part}/; wanted image/<class>/* and groundtruth/<class>/*"
                )
        images = read_test_set("folder", root).images
        if any(i.image.parent == root / "image" for i in images):
            raise DataError(f"{root / 'image'}: images lie in no class folder; wanted image/<class>/*")
        folders = {i.category for i in images}
        if unknown := [c for c in classes if c not in folders]:
            raise DataError(f"{root}: no class folder {unknown[0]}; there are {', '.join(sorted(folders))}")
        images = [i for i in images if not classes or i.category in classes]
        self.name = name
        photographs = _by_photograph(images)
        self.items = tuple(
            Item(f"{p[0].category}/{p[0].name}", p[0].image, tuple(canonical_category(i.category) for i in p))
            for p in photographs
        )
        self.categories = tuple(dict.fromkeys(canonical_category(i.category) for i in images))
        self._truths = tuple(tuple(i.truth for i in p) for p in photographs)

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Decode item `index` at `size` = (height, width); see :class:`ssnm.data.records.Sample`.

        Raises:
            MissingFileError, DataError: a file is missing, undecodable, or image and mask differ in size.
        """
        paths = self._truths[index]
        truths = [read_binary(path) for path in paths]
        masks = [truth.object for truth in truths]
        for path, mask in zip(paths, masks):
            if mask.shape != masks[0].shape:
                raise DataError(f"{path}: mask of another size than {paths[0]}, but both are of one image; width x "
                                "height must be equal")  # fmt: skip
        void = np.logical_or.reduce([truth.void for truth in truths])
        return _sample(self.items[index], masks, void, paths[0], size)


def _by_photograph(images: Sequence[TestImage]) -> list[list[TestImage]]:
    """The entries of each photograph, in order of first appearance: same file name and bytes, different categories.

    Only files that share name and length with another one are read.
    """
    keys = [(image.name, image.image.stat().st_size) for image in images]
    shared = Counter(keys)
    photographs: dict[tuple, list[TestImage]] = {}
    for image, key in zip(images, keys):
        category = canonical_category(image.category)
        content = hashlib.sha256(image.image.read_bytes()).digest() if shared[key] > 1 else image.category
        entries = photographs.setdefault((*key, content), [])
        if category in (canonical_category(i.category) for i in entries):  # folders of two names for one category
            entries = photographs[(*key, content, image.category)] = []
        entries.append(image)
    return list(photographs.values())


def _sample(item: Item, masks: list[np.ndarray], void: np.ndarray, path: Path, size: tuple[int, int]) -> Sample:
    """Image, masks (each (H0, W0) bool) and void, brought to `size`."""
    image = load_rgb(item.image, fits=void.shape)
    if image.ambiguous:
        warnings.warn(f"{item.image}: {AMBIGUOUS}", stacklevel=2)
    if image.size != void.shape:
        raise DataError(
            f"{path}: mask of {void.shape[1]}x{void.shape[0]} for an image of {image.size[1]}x{image.size[0]} "
            f"({item.image}); width x height must be equal"
        )
    resized = torch.stack([torch.as_tensor(resize_mask(m, size)) for m in masks])  # (K, H, W)
    # A pixel that some category claims after resizing is labelled; nearest and bilinear may disagree on borders.
    empty = _resize_void(void, size) & ~resized.any(dim=0)
    return Sample(image=resize_image(image.array, size), masks=resized, void=empty, grey=image.grey)


def _resize_void(void: np.ndarray, size: tuple[int, int]) -> Tensor:
    if not void.any():
        return torch.zeros(size, dtype=torch.bool)
    return torch.as_tensor(resize_nearest(void.astype(np.uint8), size)).bool()


def _voc_files(root: Path, image_list: str | Path | None) -> tuple[list[str], dict[str, Path], dict[str, Path]]:
    """Image names in the order of the list, name -> image file, and name -> mask file."""
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; a folder with JPEGImages and SegmentationClass was expected")
    images = images_by_stem(root / "JPEGImages")
    mask_folder = root / "SegmentationClass"
    masks = images_by_stem(mask_folder)
    ids = list(masks) if image_list is None else _read_list(root, image_list)
    for kind, files, folder in (("image", images, root / "JPEGImages"), ("mask", masks, mask_folder)):
        missing = [i for i in ids if i not in files]
        if missing:
            names = shorten(missing)
            raise MissingFileError(f"{folder}: missing {len(missing)} of {counted(len(ids), f'{kind} file')}: {names}")
    return ids, images, masks


def _read_list(root: Path, image_list: str | Path) -> list[str]:
    """The names in a list file: the first word of each line, without folder and suffix (the SBD lists have both)."""
    path = root / "ImageSets" / "Segmentation" / f"{image_list}.txt"
    if not path.is_file():  # the name first: a file of that name in the current folder is not meant
        named, path = path, Path(image_list)
        if not path.is_file():
            raise MissingFileError(f"{image_list}: neither a file nor the name of a list; {named} was looked for")
    names = [Path(line.split()[0]).stem for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path}: the list is empty; one image name per line was expected")
    return list(dict.fromkeys(names))
