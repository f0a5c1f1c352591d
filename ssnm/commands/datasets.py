"""``ssnm datasets prepare | check | coco-seg | cache | instances``: build test sets from downloads, check what is on
disk, turn training sources into stores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import ConfigError, MissingFileError
from ..files.places import find
from ..files.progress import progress_bar
from ..naming import counted
from . import cache, coco_seg, instance_sets

COCO_SEG = "coco_seg"
COCO_SEG_INDEX = "coco_seg.json"
_ANNOTATIONS = "instances_train2017.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their arguments on `parser`."""
    from ..data.prepare import PREPARED_SETS
    from ..data.testsets import TEST_SETS

    names = "{prepare,check,coco-seg,cache,instances}"
    commands = parser.add_subparsers(dest="datasets_command", required=True, metavar=names)
    prepare = commands.add_parser("prepare", help="build a set's folder from what one downloads")
    prepare.add_argument("name", choices=(*PREPARED_SETS, COCO_SEG), metavar="NAME",
                         help=f"one of {', '.join(PREPARED_SETS)}, {COCO_SEG}")  # fmt: skip
    prepare.add_argument("--from", dest="raw", required=True, type=find, metavar="RAW", help="the unpacked download")
    prepare.add_argument("--to", dest="root", required=True, type=Path, metavar="ROOT",
                         help="the folder to build; running again finishes an interrupted run")  # fmt: skip
    prepare.add_argument("--list", dest="image_list", type=find, metavar="CSV",
                         help="msrc: the images to take, columns class,file (default: first 10 of each)")  # fmt: skip
    prepare.add_argument("--group", dest="groups", action="append", default=[], metavar="NAME=FOLDER",
                         help="icoseg: the raw folder of a group that is named otherwise; may be repeated")  # fmt: skip
    check = commands.add_parser(
        "check", help="count, decode and compare every file; exit status 1 if something is wrong"
    )
    check.add_argument("name", choices=(*TEST_SETS, COCO_SEG), metavar="NAME",
                       help=f"one of {', '.join(TEST_SETS)}, {COCO_SEG}")  # fmt: skip
    check.add_argument("--data", dest="root", required=True, type=find, metavar="ROOT",
                       help="the folder that holds image/ (and groundtruth/)")  # fmt: skip
    index = commands.add_parser("coco-seg", help="build or verify the index of the COCO-SEG training set")
    coco_seg.add_arguments(index)
    store = commands.add_parser("cache", help="decode the training images once into a memory-mapped store")
    cache.add_arguments(store)
    groups = commands.add_parser("instances", help="groups with a mask per object, from COCO or VOC annotations")
    instance_sets.add_arguments(groups)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit status (1: a check found something wrong).

    Raises:
        UserError: a folder or file is missing or is not what it should be.
    """
    if args.datasets_command == "coco-seg":
        return coco_seg.run(args)
    if args.datasets_command == "cache":
        return cache.run(args)
    if args.datasets_command == "instances":
        return instance_sets.run(args)
    if args.name == COCO_SEG:
        return _prepare_coco_seg(args) if args.datasets_command == "prepare" else _check_coco_seg(args)
    return _prepare(args) if args.datasets_command == "prepare" else _check(args)


def _prepare(args: argparse.Namespace) -> int:
    from ..data.prepare import prepare_test_set

    done = prepare_test_set(
        args.name, args.raw, args.root, args.image_list, _group_names(args.groups),
        progress=progress_bar("prepared"),
    )
    for category, count in done.counts.items():
        print(f"{category:<14} {count:>5}")
    print(f"{args.name}: {counted(done.written, 'pair')} written, {done.kept} there already, in {done.root}")
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"check them with: ssnm datasets check {args.name} --data {done.root}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from ..data.check import check_test_set

    report = check_test_set(args.name, args.root, progress=progress_bar("checked"))
    print(report.table())
    for note in (*report.notes, *report.doubts):
        print(f"note: {note}")
    for problem in report.problems:
        print(f"wrong: {problem}")
    well = "nothing is wrong, but read the notes above" if report.doubts else "all is well"
    print(f"{args.name}: " + (well if report.ok else f"{len(report.problems)} problems"))
    return 0 if report.ok else 1


def _prepare_coco_seg(args: argparse.Namespace) -> int:
    if args.image_list is not None or args.groups:
        raise ConfigError("--list and --group are for msrc and icoseg, not coco_seg; leave them out")
    raw = args.raw
    places = (raw / "annotations" / _ANNOTATIONS, raw / _ANNOTATIONS)
    annotations = next((p for p in places if p.is_file()), None)
    if annotations is None:
        raise MissingFileError(
            f"{args.raw}: no annotations/{_ANNOTATIONS} in it; unpack annotations_trainval2017.zip there"
        )
    args.root.mkdir(parents=True, exist_ok=True)
    return _run_coco_seg([str(annotations), "--out", str(args.root / COCO_SEG_INDEX), "--verify"])


def _check_coco_seg(args: argparse.Namespace) -> int:
    return _run_coco_seg(["--out", str(args.root / COCO_SEG_INDEX), "--verify"])


def _run_coco_seg(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ssnm datasets coco-seg")
    coco_seg.add_arguments(parser)
    return coco_seg.run(parser.parse_args(arguments))


def _group_names(entries: list[str]) -> dict[str, str]:
    """``["elephant=042_Elephants"]`` -> ``{"elephant": "042_Elephants"}``."""
    names = {}
    for entry in entries:
        group, equals, folder = entry.partition("=")
        if not (group and equals and folder):
            raise ConfigError(f"--group {entry}: NAME=FOLDER was expected, such as elephant=Elephants-safari")
        names[group] = folder
    return names
