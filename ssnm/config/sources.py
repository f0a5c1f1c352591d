"""Where training images come from: one section per type of source.

`store` of a section: the folder of a store that `ssnm datasets cache` made of this very source, to be read instead of
its files; refused where it was made of another one. See docs/store.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class VocSourceConfig:
    """PASCAL VOC layout: root/JPEGImages, root/SegmentationClass (palette), a list of image names. class_names: of
    palette index 1, 2, ...; empty: VOC's twenty."""

    type: Literal["voc"] = "voc"
    root: str
    list: str | None = None
    class_names: tuple[str, ...] = ()
    name: str = "voc"
    store: str = ""


@dataclass(frozen=True, kw_only=True)
class ProcessedSourceConfig:
    """root/image/<class>/*, root/groundtruth/<class>/*. classes: only these folders; empty: all. partial: an image is
    annotated for the class of its folder alone, so that it is no example without another."""

    type: Literal["processed"] = "processed"
    root: str
    classes: tuple[str, ...] = ()
    partial: bool = False
    name: str = "processed"
    store: str = ""


@dataclass(frozen=True, kw_only=True)
class CocoSegSourceConfig:
    """An index made by `ssnm datasets coco-seg` and the folder of its images. partial: only the categories of the
    index are annotated in its images, so that they are no examples without another."""

    type: Literal["coco_seg"] = "coco_seg"
    index: str
    images: str
    partial: bool = False
    name: str = "coco"
    store: str = ""


@dataclass(frozen=True, kw_only=True)
class ProceduralSourceConfig:
    """Pictures made on the fly; kinds: how many (seen) kinds, of which none is in the unseen evaluation."""

    type: Literal["procedural"] = "procedural"
    num_images: int = 2000
    kinds: Literal["seen", "unseen", "all"] = "seen"
    seed: int = 0
    name: str = "procedural"
    store: str = ""


@dataclass(frozen=True, kw_only=True)
class StoreSourceConfig:
    """A store on its own, where the files that it was made of are not at hand. name: how `evaluate` calls it."""

    type: Literal["store"] = "store"
    root: str
    name: str = "store"


SOURCE_TYPES = {
    "voc": VocSourceConfig,
    "processed": ProcessedSourceConfig,
    "coco_seg": CocoSegSourceConfig,
    "procedural": ProceduralSourceConfig,
    "store": StoreSourceConfig,
}
SourceConfig = (
    VocSourceConfig | ProcessedSourceConfig | CocoSegSourceConfig | ProceduralSourceConfig | StoreSourceConfig
)
