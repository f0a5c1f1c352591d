"""Does a model notice the image that does not belong to its group? Groups by seed, one foreign image each.

ROOT is a test set in the processed layout; in its place --config takes the held-out training images of a config. Prints
J that the other images lose, the AUC of the model's "present" figure, and how many foreign images get a mask.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..files.atomic import write_atomically
from ..files.places import find


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, exported model, or the word default")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=find, metavar="ROOT", help="test set in the processed layout")
    source.add_argument("--config", type=find, metavar="CONFIG", help="its held-out images, every category alike")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="as in train")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write outliers.json there")
    parser.add_argument("--groups", type=int, default=60, help="how many groups (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws the groups (default 0)")
    parser.add_argument("--group-size", type=int, default=5, metavar="N", help="images in a group (default 5)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    from .. import from_pretrained
    from ..coseg.outliers import measure_outliers

    segmenter = from_pretrained(args.checkpoint, args.device, method="ssnm")
    cases = _cases(args, segmenter.predictor.size)
    result = measure_outliers(segmenter.predictor, cases, segmenter.threshold)
    print(result.describe())
    if args.out is not None:
        facts = {"checkpoint": segmenter.path.name, "seed": args.seed, "group_size": args.group_size}
        write_atomically(args.out / "outliers.json", json.dumps({**facts, **result.to_dict()}, indent=1) + "\n")
        print(f"written to {args.out}")
    return 0


def _cases(args: argparse.Namespace, size: int) -> list:
    from ..coseg.build import build_pools
    from ..coseg.outliers import cases_of_pool, cases_of_set
    from ..data.testsets import read_test_set
    from ..errors import ConfigError
    from ..methods import load_config

    if args.groups < 1 or args.group_size < 2:
        raise ConfigError(f"--groups must be 1 or more and --group-size 2 or more, got {args.groups} and "
                          f"{args.group_size}")  # fmt: skip
    if args.data is not None:
        return cases_of_set(read_test_set("folder", args.data), args.groups, args.seed, args.group_size)
    config = load_config(args.config, args.overrides)
    return cases_of_pool(build_pools(config.data)[1], size, args.groups, args.seed, args.group_size)
