"""Masks as label files that other tools read: COCO JSON, YOLO segmentation text, CVAT XML, plain mask PNGs.

Formats as their makers document them: COCO's "object detection" (cocodataset.org, format-data), Ultralytics' YOLO
segmentation text (one line per object: class x1 y1 x2 y2 ..., in shares of the image), CVAT for images 1.1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Sequence
from xml.etree import ElementTree

import numpy as np

from ..errors import ConfigError, DataError
from ..files.atomic import mask_png, write_atomically, writing
from ..files.listing import shorten
from ..files.polygons import join, mask_to_polygons
from ..naming import counted, natural_key
from .coco_index import import_mask_codec

FORMATS = ("coco", "yolo", "cvat", "masks")
_INDEX = {"coco": "annotations.json", "yolo": "data.yaml", "cvat": "annotations.xml", "masks": "classes.txt"}
_PER_IMAGE = {"yolo": ("labels", ".txt"), "masks": ("masks", ".png")}


@dataclass(frozen=True)
class Label:
    """The label of one image. name: its file's name, with folders by `/`; size: (height, width) upright; mask: (H, W)
    bool, or None where the object is not in the image; category: its class; score: confidence in [0, 1]."""

    name: str
    size: tuple[int, int]
    mask: np.ndarray | None
    category: str
    score: float = 1.0


class LabelWriter:
    """Collects labels and writes the files of one format; masks are encoded as they come, so that thousands fit.

    Args:
        format: one of FORMATS.
        out: the folder to write.
        classes: class names in the order of their numbers (COCO's ids start at 1, YOLO's at 0).
        polygons: coco: polygons in place of run lengths.

    Raises:
        ConfigError: an unknown format, no class, or a class name that a format cannot hold.
    """

    def __init__(self, format: str, out: str | Path, classes: Sequence[str], polygons: bool = False) -> None:
        if format not in FORMATS:
            raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, got '{format}'")
        self.format, self.out, self.classes, self.polygons = format, Path(out), tuple(classes), polygons
        check_classes(self.classes)
        self._images: list[dict] = []
        self._annotations: list[dict] = []
        self._xml = ElementTree.Element("annotations")
        ElementTree.SubElement(self._xml, "version").text = "1.1"
        self._seen: dict[str, str] = {}

    def add(self, label: Label) -> None:
        """Take the label of one image; formats of one file per image write it now.

        Raises:
            DataError: two images whose files would be one; the file cannot be written.
        """
        mask = label.mask if label.mask is not None and label.mask.any() else None
        if self.format in _PER_IMAGE:
            self._require_own_file(label.name)
            if mask is None:  # one of an earlier run would say otherwise
                with writing(self._file_of(label.name)):
                    self._file_of(label.name).unlink(missing_ok=True)
        getattr(self, f"_add_{self.format}")(label, mask)

    def earlier(self) -> str:
        """What `out` holds of an earlier run beside the images added here, in one line: the one file that :meth:`close`
        replaces, or labels of other images; or ""."""
        if self.format not in _PER_IMAGE:
            file = self.out / _INDEX[self.format]
            return f"{file} of an earlier run is replaced" if file.is_file() else ""
        folder, suffix = _PER_IMAGE[self.format]
        place = self.out / folder
        found = {file.relative_to(place).with_suffix("").as_posix() for file in place.rglob(f"*{suffix}")}
        others = sorted(found - self._seen.keys(), key=natural_key)
        if not others:
            return ""
        return f"{self.out} also holds labels of {counted(len(others), 'image')} of an earlier run: {shorten(others)}"

    def close(self) -> list[Path]:
        """Write what is left; the files that a reader starts from."""
        if self.format == "coco":
            document = {
                "info": {"description": "made by ssnm label"},
                "images": self._images,
                "annotations": self._annotations,
                "categories": [{"id": i + 1, "name": name} for i, name in enumerate(self.classes)],
            }
            return [self._write(json.dumps(document))]
        if self.format == "cvat":
            ElementTree.indent(self._xml)
            return [self._write(ElementTree.tostring(self._xml, "unicode", xml_declaration=True))]
        if self.format == "yolo":
            names = "".join(f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(self.classes))
            return [self._write(f"path: .\ntrain: images\nval: images\nnames:\n{names}")]
        return [self._write("".join(f"{name}\n" for name in self.classes))]

    def _add_coco(self, label: Label, mask: np.ndarray | None) -> None:
        height, width = label.size
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": label.name, "width": width, "height": height})
        if mask is None:
            return
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
        if self.polygons:
            outline: object = [ring.ravel().tolist() for ring in mask_to_polygons(mask)]
        else:
            code = import_mask_codec().encode(np.asfortranarray(mask, dtype=np.uint8))
            outline = {"size": [height, width], "counts": code["counts"].decode("ascii")}
        self._annotations.append({
            "id": len(self._annotations) + 1, "image_id": number, "iscrowd": 0, "segmentation": outline,
            "category_id": self.classes.index(label.category) + 1, "area": int(mask.sum()),
            "bbox": [int(v) for v in box], "score": round(float(label.score), 4),
        })  # fmt: skip

    def _add_yolo(self, label: Label, mask: np.ndarray | None) -> None:
        if mask is None:
            return
        ring = join(mask_to_polygons(mask)) / np.array(label.size[::-1], dtype=np.float64)
        numbers = " ".join(f"{value:.6g}" for value in ring.ravel())
        write_atomically(self._file_of(label.name), f"{self.classes.index(label.category)} {numbers}\n")

    def _add_cvat(self, label: Label, mask: np.ndarray | None) -> None:
        height, width = label.size
        number = sum(element.tag == "image" for element in self._xml)
        image = ElementTree.SubElement(
            self._xml, "image", id=str(number), name=label.name, width=str(width), height=str(height)
        )
        for ring in () if mask is None else mask_to_polygons(mask):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
            ElementTree.SubElement(image, "polygon", label=label.category, source="auto", occluded="0", points=points,
                                   z_order="0")  # fmt: skip

    def _add_masks(self, label: Label, mask: np.ndarray | None) -> None:
        if mask is not None:
            write_atomically(self._file_of(label.name), mask_png(mask))

    def _file_of(self, name: str) -> Path:
        folder, suffix = _PER_IMAGE[self.format]
        return self.out / folder / PurePosixPath(name).with_suffix(suffix)

    def _require_own_file(self, name: str) -> None:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in self._seen:
            raise DataError(f"{name} and {self._seen[stem]} would have one label file; rename one of them")
        self._seen[stem] = name

    def _write(self, text: str) -> Path:
        write_atomically(self.out / _INDEX[self.format], text)
        return self.out / _INDEX[self.format]


def check_classes(classes: Sequence[str]) -> None:
    """Raises:
        ConfigError: no class, an empty or doubled name, or one with a line break or a slash."""
    if not classes:
        raise ConfigError("labels need at least one class name")
    for name in classes:
        if not name.strip() or any(c in name for c in "/\\\n\r") or classes.count(name) > 1:
            raise ConfigError(f"class names must differ, not be empty and hold no slash or line break, got {name!r}; "
                              "give another with --class or rename the folder")  # fmt: skip
