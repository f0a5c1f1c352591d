"""Facts of PASCAL VOC: class numbers, the list of the Faktor & Irani (2013) set. And which files are one photograph."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..facts import load_facts
from .records import TestImage

# Palette index k+1 of a VOC mask is VOC_CLASSES[k]; 0 is background, 255 void.
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VocCosegEntry(NamedTuple):
    """One of the 1037 pairs: class folder, file stem in the set, and the name of the VOC image it is."""

    category: str
    file: str
    voc_name: str


def read_voc_coseg_list() -> tuple[VocCosegEntry, ...]:
    """The 1037 (class, file, VOC name) entries of the PASCAL-VOC co-segmentation set, in the set's order."""
    return tuple(VocCosegEntry(r["class"], r["file"], r["voc_name"]) for r in load_facts("voc_coseg_list"))


def photographs(images: Sequence[TestImage]) -> dict[tuple[str, str], str]:
    """(class, name) -> which photograph it is.

    Files are the same one when the list of the PASCAL-VOC co-segmentation set says so; in other sets, when they hold
    the same bytes: a name says nothing, many sets number every class from 0000 on.
    """
    voc_names = {(entry.category, entry.file): entry.voc_name for entry in read_voc_coseg_list()}
    known = all((i.category, i.name) in voc_names for i in images)
    return voc_names if known else _contents(images)


def _contents(images: Sequence[TestImage]) -> dict[tuple[str, str], str]:
    """(class, name) -> what the file holds; only files of one length with another are read."""
    lengths = [image.image.stat().st_size for image in images]
    shared = Counter(lengths)
    return {
        (i.category, i.name): hashlib.sha256(i.image.read_bytes()).hexdigest() if shared[n] > 1 else str(i.image)
        for i, n in zip(images, lengths)
    }
