"""``ssnm datasets instances``: groups of one category with a mask per object, from COCO or VOC annotations.

From COCO (a folder with instances_*.json): writes a JSON file of groups for --dataset coco_instances. From VOC (a
folder with JPEGImages, SegmentationClass and SegmentationObject): writes the official layout, Image/<class>/ and
Mask/<class>/, for --dataset instance_folder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from ..errors import ConfigError
from ..files.places import find
from ..naming import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..data.coco_instances import GroupRule

    parser.add_argument("--from", dest="root", required=True, type=find, metavar="ROOT", help="COCO or VOC folder")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE|DIR", help="COCO: .json file; VOC: folder")
    rule = GroupRule()
    for name, text in (("min-share", "an object counts from this share of the image on"),
                       ("largest-share", "the largest object of an image must have this share"),
                       ("max-instances", "more objects: not in the group"),
                       ("min-images", "fewer images: no group"),
                       ("max-images", "the first so many of a group (0: all)")):  # fmt: skip
        default = getattr(rule, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default {default})")


def run(args: argparse.Namespace) -> int:
    """Make the groups, write them, count them; returns the exit status.

    Raises:
        UserError: a folder or file that is missing or not what it should be.
    """
    from ..data.coco_instances import GroupRule
    from ..data.instance_groups import coco_groups, voc_groups

    rule = GroupRule(**{f.name: getattr(args, f.name) for f in fields(GroupRule)})
    root = args.root
    if (root / "SegmentationObject").is_dir():
        counts = voc_groups(root, args.out, rule)
        use = f"--dataset instance_folder --data {args.out}"
    else:
        if args.out.suffix != ".json":
            raise ConfigError(f"--out {args.out}: from COCO a .json file of groups is written; name one")
        counts = coco_groups(root, args.out, rule, lambda line: print(f"warning: {line}", file=sys.stderr))
        use = f"--dataset coco_instances --data {root} --groups {args.out}"
    for name, (images, objects) in counts.items():
        print(f"{name:<16} {counted(images, 'image'):>12} {counted(objects, 'object'):>14}")
    print(f"{counted(len(counts), 'group')} by the rule: {rule.describe()}")
    print(f"test on them with: {use}")
    return 0
