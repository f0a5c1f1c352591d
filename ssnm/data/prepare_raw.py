"""Reading the four test sets as they are downloaded: which image and which mask make a pair of which class.

Each ``find_*`` lists a raw folder and returns a :class:`RawSet`; no file is decoded except MSRC's label images,
whose colours say which class an image belongs to. :mod:`ssnm.data.prepare` writes the pairs. No torch.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.images import open_image
from ..files.listing import image_suffixes, images_by_stem, is_image, list_folders, plain_stem, shorten
from ..files.masks import read_binary, read_ids
from ..naming import canonical_category, natural_key
from .testsets import expected_classes
from .voc import VOC_CLASSES, read_voc_coseg_list

# Colours of the MSRC label images, (R, G, B); a fact of the data set, void and background are all other colours.
MSRC_COLOURS = {
    "bird": (0, 64, 0),
    "car": (64, 0, 128),
    "cat": (0, 192, 128),
    "cow": (0, 0, 128),
    "dog": (128, 192, 128),
    "plane": (192, 0, 0),
    "sheep": (0, 128, 128),
}
_CHOICE_NOTE = (
    "msrc: which 10 images of each class the published results use is not known here; took the first 10 "
    "(docs/datasets.md says how), give --list CSV with columns class,file to take others"
)
INTERNET_FOLDERS = {"airplane": "Airplane100", "car": "Car100", "horse": "Horse100"}


@dataclass(frozen=True)
class RawPair:
    """One image to copy and how to make its mask. `read_mask()` -> (H, W) bool."""

    category: str
    stem: str
    image: Path
    truth: Path
    read_mask: Callable[[], np.ndarray]


@dataclass
class RawSet:
    """The pairs found in a raw folder, and what the user should know about them."""

    pairs: list[RawPair] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_internet(raw: Path) -> RawSet:
    """Internet (Object Discovery): ``Airplane100/0001.jpg`` with ``Airplane100/GroundTruth/0001.png``, and so on."""
    found = RawSet()
    folders = _folders_below(raw, depth=3)
    for category, name in INTERNET_FOLDERS.items():
        copies = [f for f in folders if f.name.lower() == name.lower()]
        if len(copies) > 1:
            raise DataError(f"{raw}: two folders are named {name}: {copies[0]} and {copies[1]}; give the folder of one "
                            "copy")  # fmt: skip
        if not copies:
            found.warnings.append(f"{raw}: no folder {name}; class {category} is left out")
        else:
            found.pairs += _paired(category, copies[0], copies[0] / "GroundTruth")
    return found


def find_icoseg(raw: Path, groups: Mapping[str, str] | None = None) -> RawSet:
    """iCoseg: the eight groups, as ``images/<group>/*`` with ``ground_truth/<group>/*``, ``<group>/images/*`` with
    ``<group>/ground_truth/*``, or ``<group>/*`` with ``<group>/ground_truth/*``.

    A raw folder is taken for a group when its name is the group's, letters and digits compared
    (``Brown Bear`` is ``brownbear``); `groups` maps group -> raw folder name for all others.
    """
    found = RawSet()
    groups = dict(groups or {})
    unknown = sorted(set(groups) - set(expected_classes("icoseg")))
    if unknown:
        raise DataError(f"iCoseg group {unknown[0]!r} is not one of {', '.join(expected_classes('icoseg'))}")
    split = (raw / "images").is_dir() and (raw / "ground_truth").is_dir()
    folders = {f.name: f for f in list_folders(raw / "images" if split else raw)}
    plain: dict[str, str] = {}
    for name in folders:
        other = plain.setdefault(_plain(name), name)
        if other != name and _plain(name) in expected_classes("icoseg") and _plain(name) not in groups:
            raise DataError(f"{raw}: {other} and {name} may both be group {_plain(name)}; name one with --group")
    for group in expected_classes("icoseg"):
        name = groups.get(group, plain.get(group))
        if name is None:
            found.warnings.append(f"{raw}: no folder for group {group}; name it with --group {group}=FOLDER")
        elif name not in folders:
            there = shorten(list(folders), 8)
            raise MissingFileError(f"{raw}: no folder {name!r} for group {group}; there are {there}")
        else:
            images = folders[name] / "images"
            images = images if images.is_dir() and not split else folders[name]
            truths = raw / "ground_truth" / name if split else folders[name] / "ground_truth"
            found.pairs += _paired(group, images, truths)
    return found


def find_pascal_voc(raw: Path) -> RawSet:
    """PASCAL-VOC co-segmentation from a VOC copy: the shipped list says which image is which of the 1037 pairs.

    The mask is the class's index in VOC's palette mask; other classes and void are background.
    """
    entries = read_voc_coseg_list()
    folders = [raw, *(f for f in _folders_below(raw, depth=3) if re.fullmatch(r"VOC20\d\d", f.name))]
    folders = [f for f in folders if (f / "JPEGImages").is_dir() and (f / "SegmentationClass").is_dir()]
    if not folders:
        raise MissingFileError(
            f"{raw}: no VOC copy found; wanted JPEGImages and SegmentationClass in it, in VOC2010/, VOC2012/ "
            "or VOCdevkit/VOC20xx/"
        )
    choices = [(images_by_stem(f / "JPEGImages"), images_by_stem(f / "SegmentationClass")) for f in folders]
    images, masks = max(choices, key=lambda c: sum(e.voc_name in c[0] and e.voc_name in c[1] for e in entries))
    found = RawSet()
    for entry in entries:
        if entry.voc_name in images and entry.voc_name in masks:
            index, truth = VOC_CLASSES.index(entry.category) + 1, masks[entry.voc_name]
            read = partial(_voc_mask, truth, index)
            found.pairs.append(RawPair(entry.category, entry.file, images[entry.voc_name], truth, read))
    missing = sorted({e.voc_name for e in entries if e.voc_name not in images or e.voc_name not in masks})
    if missing:
        names = shorten(missing)
        found.warnings.append(f"{raw}: image or mask of {len(missing)} VOC images of the list is missing: {names}")
    return found


def find_msrc(raw: Path, image_list: str | Path | None = None) -> RawSet:
    """MSRC: ``<i>_<j>_s.bmp`` with ``<i>_<j>_s_GT.bmp`` beside it, or in ``Images`` and ``GroundTruth``.

    Which 10 images a class has: those of `image_list` (CSV with columns class, file); else, where the label
    images lie in folders named after the classes, all of those; else :func:`_first_ten`.
    """
    labels = _msrc_labels(raw)
    if image_list is not None:
        chosen = _read_msrc_list(Path(image_list), labels)
        warnings = []
    else:
        classes = {canonical_category(c): c for c in MSRC_COLOURS}
        by_folder = {stem: classes.get(canonical_category(gt.parent.name)) for stem, gt in labels.items()}
        chosen = [(category, stem) for stem, category in by_folder.items() if category]
        warnings = []
        if not chosen:
            chosen = _first_ten(labels)
            warnings = [_CHOICE_NOTE]
    pairs = []
    for category, stem in sorted(chosen, key=lambda c: (c[0], natural_key(c[1]))):
        label = labels[stem]
        pairs.append(RawPair(category, stem, _msrc_image(label, stem), label, partial(_msrc_mask, label, category)))
    return RawSet(pairs, warnings)


def _msrc_labels(raw: Path) -> dict[str, Path]:
    """Stem of the image (``5_1_s``) -> its label image, anywhere under `raw`."""
    labels: dict[str, Path] = {}
    for path in sorted(raw.rglob("*_GT.*"), key=lambda p: natural_key(p.name)):
        if not is_image(path):
            continue
        stem = plain_stem(path)[: -len("_GT")]
        if stem in labels:
            raise DataError(f"{path}: {labels[stem]} has the same name; give a folder with one copy of MSRC (v1 or v2)")
        labels[stem] = path
    if not labels:
        raise MissingFileError(f"{raw}: no label images *_s_GT.bmp found; wanted the unpacked MSRC images (v1 or v2)")
    return labels


def _msrc_image(label: Path, stem: str) -> Path:
    for folder in (label.parent, label.parent.parent / "Images", label.parent.parent / "images"):
        for suffix in (label.suffix, *sorted(image_suffixes())):
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    raise MissingFileError(f"{label}: its image {stem}{label.suffix} is missing beside it and in Images/")


def _msrc_mask(path: Path, category: str) -> np.ndarray:
    return (np.array(open_image(path).convert("RGB")) == MSRC_COLOURS[category]).all(axis=-1)


def _first_ten(labels: Mapping[str, Path], count: int = 10) -> list[tuple[str, str]]:
    """The first images of each class: an image belongs to the class of the seven with most pixels; MSRC's themes
    (the number before the first ``_``) with most images of a class come first, then natural order. So `car` takes
    images of the cars theme before street scenes in which a car stands."""
    members: dict[str, list[str]] = defaultdict(list)
    for stem, path in labels.items():
        array = np.array(open_image(path).convert("RGB"))
        pixels = {c: int((array == colour).all(axis=-1).sum()) for c, colour in MSRC_COLOURS.items()}
        largest = max(pixels, key=lambda c: pixels[c])
        if pixels[largest]:
            members[largest].append(stem)
    if not members:
        raise DataError(f"{next(iter(labels.values())).parent}: no label image shows one of {', '.join(MSRC_COLOURS)}")
    chosen = []
    for category, stems in members.items():
        themes = Counter(stem.split("_")[0] for stem in stems)
        stems.sort(key=lambda s: (-themes[s.split("_")[0]], natural_key(s)))
        chosen += [(category, stem) for stem in stems[:count]]
    return chosen


def _read_msrc_list(path: Path, labels: Mapping[str, Path]) -> list[tuple[str, str]]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such list; a CSV file with the columns class,file was expected")
    classes = {canonical_category(c): c for c in MSRC_COLOURS}
    chosen = []
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        category = classes.get(canonical_category(row.get("class") or ""))
        stem = Path((row.get("file") or "").strip()).stem
        if category is None or stem not in labels:
            wrong = f"class {row.get('class')!r}" if category is None else f"file {row.get('file')!r}"
            known = ", ".join(MSRC_COLOURS)
            raise DataError(f"{path}: {wrong} is not known; wanted a class of {known} and a file such as 5_1_s")
        chosen.append((category, stem))
    if not chosen:
        raise DataError(f"{path}: no rows; a CSV file with the columns class,file was expected")
    return chosen


def _voc_mask(path: Path, index: int) -> np.ndarray:
    return read_ids(path, classes=True) == index


def _paired(category: str, images: Path, truths: Path) -> list[RawPair]:
    """Pair two folders by stem; every image needs its mask and the other way round."""
    pictures, masks = images_by_stem(images), images_by_stem(truths)
    for there, here, folder in ((pictures, masks, truths), (masks, pictures, images)):
        missing = [stem for stem in there if stem not in here]
        if missing:
            raise DataError(
                f"{folder}: no file for {shorten(missing)}; every image needs its mask and every mask its image"
            )
    return [RawPair(category, s, p, masks[s], partial(_read_mask, masks[s])) for s, p in pictures.items()]


def _read_mask(path: Path) -> np.ndarray:
    return read_binary(path).object


def _folders_below(raw: Path, depth: int) -> list[Path]:
    """All folders up to `depth` levels below `raw`, the nearer first."""
    level, found = [raw], []
    for _ in range(depth):
        level = [child for folder in level for child in list_folders(folder)]
        found += level
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
