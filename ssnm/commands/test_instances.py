"""Instance co-segmentation of a test set (--dataset instance_folder | coco_instances): find, write, score.

CONFIG is a file such as configs/deepco3_small.yaml. instance_folder is the official layout, ROOT/Image/<class>/* and
ROOT/Mask/<class>/<name>_InstID*.png; coco_instances a COCO folder, with groups from --groups, ROOT/groups.json or the
rule of `ssnm datasets instances`; procedural_instances are drawn and need no --data. Beside our AP stand that of the
prior's connected components, that of a choice by chance, and the ceiling of the proposals.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..facts import published_instance_results
from ..files.atomic import require_writable
from ..files.places import find
from ..files.progress import terminal_bar
from ..naming import counted
from .instances import CosegPrior, add_method_arguments, trained_from

DATASETS = ("instance_folder", "coco_instances", "procedural_instances")
OWN = "own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=find, metavar="CONFIG", help="a YAML config of method deepco3")
    parser.add_argument("--set", dest="overrides", action="append", nargs="+", default=[],
                        metavar="KEY=VALUE", help="override a value of the config; may be repeated")  # fmt: skip
    parser.add_argument("--dataset", required=True, choices=DATASETS, help="which layout")
    parser.add_argument("--data", type=find, metavar="ROOT", help="its folder, here or in $SSNM_DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks and scores go")
    parser.add_argument("--groups", type=find, metavar="FILE", help="coco_instances: the groups")
    parser.add_argument("--half", choices=("odd", "even"), help="every second group: odd to choose on, even to report")
    parser.add_argument("--classes", metavar="A,B", help="only these groups")
    parser.add_argument("--against", choices=list(published_instance_results()["datasets"]),
                        help="put the result under the paper's Tables 2 and 4")  # fmt: skip
    parser.add_argument("--report", action="store_true", help="also write report.html")
    add_method_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Find, write, score, print; returns the exit status.

    Raises:
        UserError: wrong options, config, folders or files, in one line.
    """
    from ..data.instance_sets import half_of, read_instance_set
    from ..engine.runtime import pick_device
    from ..instances.config import Config
    from ..instances.testing import run_test
    from ..methods import load_config

    config = load_config(args.config, [o for group in args.overrides for o in group])
    if not isinstance(config, Config):
        raise ConfigError(f"{args.config}: --dataset {args.dataset} needs method deepco3, as deepco3_small.yaml has it")
    if args.groups is not None and args.dataset != "coco_instances":
        raise ConfigError("--groups is for --dataset coco_instances; the folders of instance_folder are its groups")
    root = _root(args)
    layout = "instance_folder" if args.dataset == "procedural_instances" else args.dataset
    groups = read_instance_set(layout, root, args.groups)
    groups = selected(half_of(groups, args.half) if args.half else groups, args.classes)
    require_writable(args.out)
    record = {"dataset": args.dataset, "root": str(root.absolute()), "config": str(args.config)}
    with terminal_bar(len(groups), "group") as bar:
        scores = run_test(groups, config, inputs_from(args), args.out, seed=args.seed,
                          device=str(pick_device(args.device)), record=record,
                          on_group=lambda name: (bar.set_description(name), bar.update()))  # fmt: skip
    if scores is None:
        print(f"no true masks, so no scores; results of {counted(len(groups), 'group')}: {args.out}")
        return 0
    print(scores.table())
    if args.against:
        from ..metrics.instances import published_table

        print("\n" + published_table(scores, args.against))
    if args.report:
        from .report_instances import write_report

        print(f"report: {write_report(args.out)}")
    print(f"\nresults and scores: {args.out}")
    return 0


def _root(args: argparse.Namespace) -> Path:
    """The folder of the data; procedural_instances are drawn into OUT/data."""
    if args.dataset == "procedural_instances":
        from ..data.procedural_instances import write_procedural_instances

        if args.data is not None:
            raise ConfigError("--data: procedural_instances are drawn, not read; leave it out")
        return write_procedural_instances(args.out / "data", seed=args.seed)
    if args.data is None:
        raise ConfigError(f"--data ROOT is needed: the folder of {args.dataset}")
    return args.data


def selected(groups: list, classes: str | None) -> list:
    """Those of the groups that were named, in the order of the set.

    Raises:
        ConfigError: a name that the set does not have.
    """
    if classes is None:
        return groups
    wanted = [name.strip() for name in classes.split(",") if name.strip()]
    known = [group.name for group in groups]
    strangers = [name for name in wanted if name not in known]
    if strangers or not wanted:
        raise ConfigError(f"--classes {', '.join(strangers) or classes!r}: not in this set; it has {', '.join(known)}")
    return [group for group in groups if group.name in wanted]


def inputs_from(args: argparse.Namespace):
    """What --prior and --proposals mean for each group: a folder may hold one folder per group, or all files."""
    from ..instances.prior import folder_prior
    from ..instances.proposal_files import StoredProposals
    from ..instances.testing import Inputs

    coseg = CosegPrior(args.device) if args.prior == "coseg" else None

    def prior(group) -> Any:
        if args.prior in ("border", "coseg"):
            return coseg or args.prior
        place = group.saliency if args.prior == OWN else of_group(find(args.prior), group.name)
        if place is None:
            raise ConfigError(f"--prior own: group {group.name} has no folder of maps (SalRes_*) in the data")
        return folder_prior(place, [path.name for path in group.paths])

    def proposals(group) -> Any:
        if args.proposals == "builtin":
            return args.proposals
        place = group.proposals if args.proposals == OWN else of_group(find(args.proposals), group.name)
        if place is None:
            raise ConfigError(f"--proposals own: group {group.name} has no folder of proposals (MCG*) in the data")
        return StoredProposals(place, [path.name for path in group.paths])

    return Inputs(prior, proposals, trained_from(args))


def of_group(place: Path, name: str) -> Path:
    """PLACE/<group> where that is a folder, PLACE otherwise."""
    return place / name if (place / name).is_dir() else place
