"""``ssnm datasets coco-seg ANNOTATIONS --out INDEX.json``: build the COCO-SEG index, or verify one."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ..data.coco_index import CocoSegIndex, read_index, write_index
from ..data.coco_seg import AREA_SCALES, build_index, verify
from ..errors import ConfigError
from ..files.places import find
from ..files.progress import progress_bar
from ..naming import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    parser.add_argument(
        "annotations",
        nargs="?",
        type=find,
        metavar="ANNOTATIONS",
        help="COCO's instances_train2017.json or a file in its format; "
        "left out with --verify, the index at --out is checked as it is",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="INDEX.json", help="the index file")
    parser.add_argument(
        "--min-area",
        type=float,
        default=4000.0,
        metavar="PIXELS",
        help="an instance counts if its area at original resolution is above this (default: 4000)",
    )
    parser.add_argument(
        "--min-images",
        type=int,
        default=100,
        metavar="COUNT",
        help="drop categories with fewer qualifying images (default: 100)",
    )
    parser.add_argument(
        "--area-scale",
        choices=AREA_SCALES,
        default="auto",
        help="auto: scale areas back where images carry orig_width and orig_height; "
        "none: take areas as written (default: auto)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare with the published counts and image lists; exit status 1 if they differ",
    )


def run(args: argparse.Namespace) -> int:
    """Build and write the index, print what it holds; returns the exit status.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    if args.annotations is None and not args.verify:
        raise ConfigError("ANNOTATIONS is missing; give COCO's annotation file, or --verify to check the file at --out")
    index = read_index(args.out) if args.annotations is None else _build(args)
    print(_summary(index, args.out))
    if not args.verify:
        return 0
    report = verify(index)
    print(report)
    return 0 if report.ok else 1


def _build(args: argparse.Namespace) -> CocoSegIndex:
    start = time.perf_counter()
    index = build_index(
        args.annotations,
        min_area=args.min_area,
        min_images=args.min_images,
        area_scale=args.area_scale,
        progress=progress_bar("drawing masks"),
        say=lambda line: print(f"warning: {line}", file=sys.stderr),
    )
    write_index(index, args.out)
    print(f"built in {time.perf_counter() - start:.1f} s")
    return index


def _summary(index: CocoSegIndex, path: Path) -> str:
    megabytes = path.stat().st_size / 1e6
    return (
        f"{path}: {counted(len(index.category_ids), 'category', 'categories')}, "
        f"{counted(index.num_pairs, '(category, image) pair')}, {counted(index.num_images, 'image')}, "
        f"{megabytes:.1f} MB"
    )
