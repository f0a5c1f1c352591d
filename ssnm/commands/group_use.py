"""Does a model use the group? Images with objects of two kinds, each put into a group of either kind.

ROOT is a test set in the processed layout in which one image stands in several classes; for the PASCAL-VOC
co-segmentation set the package knows which files are the same image. Prints the share of images whose mask follows
the group and the AUC of the spatial masks, and writes group_use.json and a picture of the cases it gets wrong.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from ..files.atomic import image_bytes, write_atomically
from ..files.places import find
from ..metrics.tables import percent
from ..naming import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, exported model, or the word default")
    parser.add_argument("--data", type=find, required=True, metavar="ROOT", help="test set in the processed layout")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write group_use.json and wrong.png there")
    parser.add_argument("--classes", metavar="A,B", help="only these classes, at least two")
    parser.add_argument("--seed", type=int, default=0, help="draws the other images of the groups (default 0)")
    parser.add_argument("--group-size", type=int, default=5, metavar="N", help="images in a group (default 5)")
    parser.add_argument(
        "--alone", action="store_true", help="also J of the whole set with every image in a group of its own"
    )
    parser.add_argument(
        "--reference", action="store_true",
        help="also with the truth of one of the other images given; and J of the others without and with it",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    from .. import from_pretrained
    from ..coseg.group_use import measure_group_use, measure_spatial_auc, score_alone, two_kind_images
    from ..coseg.testing import checkpoint_facts, select_classes
    from ..data.testsets import read_test_set

    segmenter = from_pretrained(args.checkpoint, args.device, method="ssnm")
    test_set = read_test_set("folder", args.data)
    if args.classes:
        test_set = select_classes(test_set, [c.strip() for c in args.classes.split(",")])
    options = (args.seed, args.group_size, segmenter.threshold)
    record = {
        **checkpoint_facts(segmenter),
        "seed": args.seed,
        "group_size": args.group_size,
        "threshold": segmenter.threshold,
    }
    if args.reference:
        record |= _with_reference(segmenter, test_set, options)
        if not two_kind_images(test_set):
            return _written(args.out, record, [])
    result = measure_group_use(segmenter.predictor, test_set, *options)
    print(result.use.describe())
    area = measure_spatial_auc(segmenter.predictor, test_set, args.group_size)
    if not math.isnan(area):
        print(f"AUC of the spatial masks, first {counted(args.group_size, 'image')} of each class: {area:.3f}")
    record |= {"spatial_auc": None if math.isnan(area) else area, **result.use.to_dict()}
    if args.alone:
        alone = score_alone(segmenter.predictor, test_set)
        record["alone"] = {"P": alone.headline.P, "J": alone.headline.J}
        P, J = percent(alone.headline.P), percent(alone.headline.J)
        print(f"every image alone (N = 1): P {P}, J {J} (release protocol)")
    return _written(args.out, record, result.wrong)


def _with_reference(segmenter, test_set, options) -> dict:
    """J of the other images of each class's first group without and with a reference, and group use with one."""
    from ..coseg.group_use import measure_group_use, measure_reference, two_kind_images

    without, given = measure_reference(segmenter.predictor, test_set, *options[1:])
    print(f"J of the other images, mean over classes: {percent(without)} without a reference, {percent(given)} with "
          "the first image's truth")  # fmt: skip
    record = {"J_without_reference": without, "J_with_reference": given}
    if two_kind_images(test_set):
        use = measure_group_use(segmenter.predictor, test_set, *options, reference=True).use
        print(f"with a reference: {use.describe()}")
        record["with_reference"] = use.to_dict()
    return record


def _written(out: Path | None, record: dict, wrong: list) -> int:
    from ..visualize.panels import group_panel

    if out is not None:
        write_atomically(out / "group_use.json", json.dumps(record, indent=1) + "\n")
        if wrong:
            write_atomically(out / "wrong.png", image_bytes(group_panel(wrong)))
        print(f"written to {out}")
    return 0
