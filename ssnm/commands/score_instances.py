"""mAP^r, CorLoc and COCO's AP of anyone's instance masks (ssnm score --task instances).

Results are DIR/<group>/instances.json (COCO results), as `ssnm test` writes them, scored against the objects of a test
set. Matching is the paper's: by falling score each mask takes the uncovered object of largest IoU, right if that is
greater than the threshold. The authors' program skips images without objects and so loses the scores of their false
alarms; here they count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.instance_sets import INSTANCE_SETS
from ..facts import published_instance_results
from ..files.places import find
from .test_instances import selected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ssnm score --task instances``."""
    parser.add_argument("--task", choices=["instances"], help="what is scored")
    parser.add_argument("--pred", required=True, type=find, metavar="DIR", help="DIR/<group>/instances.json")
    parser.add_argument("--gt", required=True, type=find, metavar="ROOT", help="the test set")
    parser.add_argument("--dataset", choices=INSTANCE_SETS, default="instance_folder", help="its layout (the first)")
    parser.add_argument("--groups", type=find, metavar="FILE", help="coco_instances: the groups")
    parser.add_argument("--classes", metavar="A,B", help="only these groups")
    parser.add_argument("--against", choices=list(published_instance_results()["datasets"]),
                        help="put the result under the paper's Tables 2 and 4")  # fmt: skip
    parser.add_argument("--name", default="this folder", help="name of the row in the comparison")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scores.json, groups.csv, scores.md")


def run(args: argparse.Namespace) -> int:
    """Score, print, write; returns the exit status.

    Raises:
        UserError: wrong options, folders or files, in one line.
    """
    from ..data.instance_sets import read_instance_set
    from ..instances.testing import score_folder
    from ..metrics.instances import published_table

    groups = selected(read_instance_set(args.dataset, args.gt, args.groups), args.classes)
    scores = score_folder(args.pred, groups)
    print(scores.table())
    if args.against:
        print("\n" + published_table(scores, args.against, args.name))
    if args.out is not None:
        scores.write(args.out)
        print(f"\nwritten to {args.out}")
    return 0
