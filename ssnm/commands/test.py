"""Segment a test set with a model, write the maps, score them.

ROOT holds image/<class>/* and, for scores, groundtruth/<class>/*. The dataset `folder` also takes ROOT/<group>/* or
ROOT/* as one group. The printed numbers are those that `ssnm score` gives on the written PNGs. Under torchrun the
groups are shared among the processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np

from ..coseg.partition import ORDERS
from ..data.check import require_usable
from ..data.testsets import TEST_SETS, read_test_set
from ..errors import ConfigError, DataError
from ..files.places import find
from ..metrics import FolderScores, ThresholdRule, compare_with_published, score_arrays, score_folder, spearman
from ..metrics.published import TABLES
from ..metrics.tables import percent, write_text
from ..naming import counted
from .score import add_protocol_arguments, protocol_from, write_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, exported model, or the word default")
    parser.add_argument("--dataset", required=True, choices=sorted(TEST_SETS),
                        help="which test set; --dataset davis2016 --help has the options and sets of videos, "
                             "--dataset coco_instances --help those of instances")  # fmt: skip
    parser.add_argument("--data", type=find, required=True, metavar="ROOT", help="its folder, here or in $SSNM_DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where maps and scores go")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")
    parser.add_argument("--grouping", choices=ORDERS, default="natural", help="how classes are cut into groups")
    parser.add_argument("--group-size", type=int, default=5, metavar="N", help="images in a group (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of shuffled grouping")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], metavar="S",
                        help="average the maps at these multiples of the model's image size")  # fmt: skip
    parser.add_argument("--repeats", type=int, metavar="K", help="shuffle with K seeds, report mean and spread")
    add_protocol_arguments(parser)
    parser.add_argument("--against", choices=["published"], help="put the result under the paper's table")
    parser.add_argument("--in-memory", action="store_true", help="also score the floats before they become PNGs")
    parser.add_argument("--report", action="store_true", help="also write report.html")
    parser.add_argument("--classes", metavar="A,B", help="only these classes")
    parser.add_argument("--no-overlays", action="store_true", help="do not write _overlays/")


def run(args: argparse.Namespace) -> int:
    from .. import from_pretrained
    from ..coseg.testing import TestJob, select_classes
    from ..engine.distributed import join, leave

    _check_options(args)
    protocol_from(args)  # wrong options are said before anything is predicted
    root = args.data
    test_set = read_test_set(args.dataset, root)
    if args.repeats is not None and not test_set.has_truth:
        raise DataError(f"{root}: --repeats compares scores, but there is no ground truth; add groundtruth/")
    if args.classes:
        test_set = select_classes(test_set, [c.strip() for c in args.classes.split(",")])
    notes = require_usable(test_set.images)
    processes, device = join(args.device)
    segmenter = from_pretrained(args.checkpoint, device, method="ssnm")
    segmenter.predictor.use_scales(args.scales)
    job = TestJob(
        segmenter=segmenter,
        test_set=test_set,
        root=root,
        group_size=args.group_size,
        overlays=None if args.no_overlays else _shown_rule(args),
        processes=processes,
    )
    if args.repeats is not None:
        _repeats(job, args)
    else:
        groups, predictor = job.write(args.out, args.grouping, args.seed)
        if processes.is_first:
            for note in notes:
                print(f"note: {note}")
            _report(job, args, groups, predictor)
    processes.wait()
    leave(processes)
    return 0


def _shown_rule(args: argparse.Namespace) -> ThresholdRule:
    """What cuts the masks of overlays: what cuts those that are scored; "best", which is known only after scoring,
    shows those of the default."""
    rule = protocol_from(args).rule
    return ThresholdRule() if rule.kind == "best" else rule


def _check_options(args: argparse.Namespace) -> None:
    """What would fail, or be passed over, only after the whole set was predicted."""
    if args.against and args.dataset not in TABLES:
        raise ConfigError(f"--against published: there is no table for {args.dataset}; there are {', '.join(TABLES)}")
    if args.repeats is None:
        return
    if args.repeats < 2:
        raise ConfigError(f"--repeats {args.repeats}: at least 2 are needed for a spread")
    given = {"--against": args.against, "--in-memory": args.in_memory, "--report": args.report,
             "--grouping": args.grouping != "natural"}  # fmt: skip
    for option in (name for name, value in given.items() if value):
        raise ConfigError(f"--repeats shuffles by several seeds and gives mean and spread alone; leave out {option}")


def _report(job, args: argparse.Namespace, groups, predictor) -> None:
    for warning in job.test_set.warnings:
        print(f"note: {warning}")
    if not job.test_set.has_truth:
        print(f"maps of {counted(len(job.test_set.images), 'image')} written to {args.out}; no ground truth, so no "
              "table")
        return
    scores = score_folder(args.out, job.root, protocol_from(args), classes=list(job.test_set.categories))
    print(scores.table())
    write_results(scores, args.out)
    if said := _quality(args.out, scores):
        print("\n" + said)
    if args.against:
        comparison = compare_with_published({"ours": scores}, args.dataset)
        print("\n" + comparison.table())
        comparison.write(args.out)
    if args.in_memory:
        from ..coseg.testing import in_memory_maps

        floats = score_arrays(in_memory_maps(predictor, groups), protocol_from(args))
        print(f"\nin memory, floats at {predictor.size}x{predictor.size}: {_headline(floats)}")
        floats.write_json(args.out / "scores_in_memory.json")
    if args.report:
        from .report import write_report

        print(f"\nreport: {write_report(args.out)}")
    print(f"\nmaps, tables and overlays: {args.out}")


def _quality(out: Path, scores: FolderScores) -> str:
    """How well the model's own figure orders its masks, in one line; nothing where it has none."""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    said = {(g["category"], i["name"]): i["quality"] for g in record["groups"] for i in g["images"] if "quality" in i}
    pairs = {}
    for image in scores.images:
        if (image.category, image.name) in said and image.J is not None:
            pairs.setdefault(image.category, []).append((said[image.category, image.name], image.J))
    if not pairs:
        return ""
    over_all = spearman(*np.array([pair for rows in pairs.values() for pair in rows]).T)
    within = float(np.nanmean([spearman(*np.array(rows).T) for rows in pairs.values() if len(rows) > 1] or [np.nan]))
    return (f"quality against J: Spearman {over_all:.3f} over {counted(sum(map(len, pairs.values())), 'image')}, "
            f"{within:.3f} the mean within classes")


def _repeats(job, args: argparse.Namespace) -> None:
    """Shuffled groupings by the seeds seed .. seed + K - 1, each with its own maps."""
    rows = []
    for seed in range(args.seed, args.seed + args.repeats):
        out = args.out / f"_seed_{seed}"
        job.write(out, "shuffled", seed)
        if job.processes.is_first:
            scores = score_folder(out, job.root, protocol_from(args), classes=list(job.test_set.categories))
            write_results(scores, out)
            print(f"seed {seed}: {_headline(scores)}")
            rows.append((scores.headline.P, scores.headline.J))
    if rows:
        _write_repeats(args, dict(zip("PJ", zip(*rows))))


def _write_repeats(args: argparse.Namespace, columns: dict[str, tuple[float, ...]]) -> None:
    """Print mean and spread of P and J and write them, with the value of every seed, as repeats.json."""
    seeds = list(range(args.seed, args.seed + args.repeats))
    record: dict = {"dataset": args.dataset, "protocol": protocol_from(args).name}
    record |= {"grouping": "shuffled", "seeds": seeds}
    for name, values in columns.items():
        mean, stdev = statistics.mean(values), statistics.stdev(values)
        record[name] = {"mean": mean, "stdev": stdev, "values": values}
        print(f"{name}: mean {percent(mean, 2)}, standard deviation {percent(stdev, 2)} over {len(values)} shuffled "
              "groupings")  # fmt: skip
    write_text(args.out / "repeats.json", json.dumps(record, indent=1) + "\n")


def _headline(scores: FolderScores) -> str:
    return f"P {percent(scores.headline.P, 2)}, J {percent(scores.headline.J, 2)} ({scores.protocol.name} protocol)"
