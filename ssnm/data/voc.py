"""Facts of PASCAL VOC: its class numbers, and the list of the Faktor & Irani (2013) co-segmentation set."""

from __future__ import annotations

from typing import NamedTuple

from ..facts import load_facts

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
