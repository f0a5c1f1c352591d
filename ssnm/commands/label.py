"""Label photographs: what each group has in common, as files that other tools read.

All images given form one group, of the class --class (default: object). A folder of folders is one group per folder,
whose name is its class. Images in which the model does not find the object get no label. Writes annotations.json
(coco), labels/*.txt and data.yaml (yolo), annotations.xml (cvat) or masks/*.png (masks) under the out folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.labels import FORMATS, Label, LabelWriter, check_classes
from ..errors import ConfigError, DataError
from ..files.atomic import require_writable
from ..files.listing import left_out, list_folders, list_images
from ..files.places import find
from ..naming import counted, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=find, metavar="IMAGES|DIR", help="images, or a folder")
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the label files")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where they go")
    parser.add_argument("--class", dest="name", metavar="NAME", help="class of the one group (default: object)")
    parser.add_argument("--polygons", action="store_true", help="coco: polygons instead of run lengths")
    parser.add_argument("--checkpoint", default="default", metavar="FILE", help="a model (default: the shipped one)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    from .. import from_pretrained

    if args.polygons and args.format != "coco":
        raise ConfigError(f"--polygons is for --format coco; {args.format} has polygons or masks anyway")
    groups = find_groups(args.images, args.name)
    for folder in (path for path in args.images if path.is_dir()):
        if note := left_out([folder, *([] if list_images(folder) else list_folders(folder))]):
            print(f"note: {folder}: {note}")
    check_classes(tuple(groups))
    require_writable(args.out)
    writer = LabelWriter(args.format, args.out, tuple(groups), args.polygons)
    segmenter = from_pretrained(args.checkpoint, args.device, method="ssnm")
    labelled = images = 0
    unusable: list[str] = []
    for category, files in groups.items():
        try:
            result = segmenter.segment(files, on_bad=unusable.append)
        except DataError as error:  # none of its images can be read; other groups go on
            print(f"{category}: {error}")
            continue
        usable, found = result.images, 0
        for index, name in enumerate(_names(usable, args.images)):
            mask = result.masks[index]
            score = 1.0 if result.present is None else float(result.present[index])
            writer.add(Label(name, mask.shape, mask, category, score))
            found += bool(mask.any())
        print(f"{category}: {found} of {counted(len(usable), 'image')} labelled")
        labelled, images = labelled + found, images + len(usable)
    for problem in unusable:
        print(f"left out: {printable(problem)}")
    if not images:
        raise DataError("no image could be used; the lines above say why")
    if earlier := writer.earlier():
        print(f"note: {earlier}")
    print(f"{args.format}: {', '.join(map(str, writer.close()))}")
    return 0


def find_groups(paths: list[Path], name: str | None) -> dict[str, list[Path]]:
    """Class -> the images of its group.

    Raises:
        ConfigError: --class for several groups. DataError: no image.
    """
    folders = list_folders(paths[0]) if len(paths) == 1 and paths[0].is_dir() else []
    if folders and not list_images(paths[0]):
        if name is not None:
            raise ConfigError(f"--class names one group, but {paths[0]} holds {len(folders)}; their folders name them")
        groups = {folder.name: list_images(folder) for folder in folders}
        return {category: files for category, files in groups.items() if files}
    files = [file for path in paths for file in (list_images(path) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"{', '.join(map(str, paths))}: no image there")
    return {name or "object": files}


def _names(files: list[Path], given: list[Path]) -> list[str]:
    """How label files call the images: below the folder that was given, else by their own name."""
    root = given[0] if len(given) == 1 and given[0].is_dir() else None
    return [str(f.relative_to(root).as_posix()) if root is not None else f.name for f in files]
